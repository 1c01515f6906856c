//! Group H: hot reload, as far as the log is concerned. What a table and a disk add is in `cuttlebone-bucket`.

use cuttlebone_checkpoint::{
    CheckpointId, CheckpointKind, Durability, Error, FetchLimit, Item, Limits, Resume, Role, Seqno,
    SnapshotRange, UpdateState,
};
use cuttlebone_machine::Instant;

use crate::bench::{Bench, shown, wide};

impl Bench {
    fn start(&mut self) -> Result<CheckpointId, Error> {
        let answer = self.log.start_update(self.now);
        self.check();
        answer
    }

    fn complete(&mut self) -> Result<(), Error> {
        let answer = self.log.complete_update(self.now);
        self.check();
        answer
    }

    /// Reverts, and tells the keys that are to be undone.
    fn revert(&mut self) -> Result<Vec<String>, Error> {
        let window = self.log.begin_revert(self.now)?;
        self.check();
        let keys = window.newest_per_key().into_values();
        let keys =
            keys.map(|item| format!("{}@{}", String::from_utf8_lossy(item.key()), item.seqno())).collect();
        drop(self.log.finish_revert().unwrap());
        self.check();
        Ok(keys)
    }
}

#[test]
fn h01_a_second_start_is_refused() {
    let mut bench = Bench::new(wide());
    let barrier = bench.start().unwrap();
    assert_eq!(bench.start(), Err(Error::UpdateOn));
    assert_eq!(bench.log.update_state(), UpdateState::On { barrier, first: Seqno(1001) });
}

#[test]
fn h02_without_a_start_nothing_ends() {
    let mut bench = Bench::new(wide());
    bench.set("a");
    let before = bench.log.status();
    assert_eq!((bench.complete(), bench.revert()), (Err(Error::UpdateOff), Err(Error::UpdateOff)));
    assert_eq!(bench.log.finish_revert().unwrap_err(), Error::UpdateOff);
    assert_eq!(bench.log.status(), before);
}

#[test]
fn h03_persistence_stops_at_the_barrier_while_replication_goes_on() {
    let mut bench = Bench::new(wide());
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.set("before");
    bench.start().unwrap();
    bench.set_all(&["w1", "w2"]);
    assert_eq!(bench.drain(), "cs before@1001 ce");
    assert_eq!((bench.log.status().persisted, bench.log.status().unpersisted), (Seqno(1001), 2));
    assert_eq!(shown(&bench.fetch(cursor)), "cs before@1001 ce cs us w1@1002 w2@1003");
}

#[test]
fn h04_a_completion_lets_persistence_go_on() {
    let mut bench = Bench::new(wide());
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.set("before");
    bench.start().unwrap();
    bench.set("w");
    bench.drain();
    bench.complete().unwrap();
    bench.set("after");
    assert_eq!(bench.drain(), "cs us w@1002 uc ce cs after@1003");
    assert_eq!(bench.log.update_state(), UpdateState::Off);
    assert_eq!(shown(&bench.fetch(cursor)), "cs before@1001 ce cs us w@1002 uc ce cs after@1003");
}

#[test]
fn h05_a_revert_hands_out_exactly_the_window_and_persists_none_of_it() {
    let mut bench = Bench::new(wide());
    bench.set_all(&["a", "b"]);
    bench.start().unwrap();
    bench.set_all(&["a", "c", "a"]);
    bench.drain();
    let window = bench.log.begin_revert(bench.now).unwrap();
    assert_eq!(
        (window.first(), window.last(), window.barrier()),
        (Seqno(1003), Seqno(1005), CheckpointId(2))
    );
    // What comes after the mark is not of the window, and is persisted.
    bench.set("after");
    assert_eq!(window.newest_per_key().keys().copied().collect::<Vec<_>>(), [b"a", b"c"]);
    drop(bench.log.finish_revert().unwrap());
    assert_eq!(bench.drain(), "cs after@1006");
}

#[test]
fn h13_a_revert_waits_for_what_came_before_the_start() {
    let mut bench = Bench::new(wide());
    bench.set_all(&["a", "b"]);
    bench.start().unwrap();
    bench.set("w");
    let before = bench.log.status();
    assert_eq!(bench.revert(), Err(Error::NotDrained { mutations: 2 }));
    assert_eq!(bench.log.status(), before, "a refusal changes nothing");
    bench.drain();
    assert_eq!(bench.revert().unwrap(), ["w@1003"]);
}

#[test]
fn h14_an_uncommitted_batch_before_the_barrier_holds_a_revert_up() {
    let mut bench = Bench::new(wide());
    bench.set("a");
    bench.start().unwrap();
    let flush = bench.take().unwrap();
    assert_eq!(bench.revert(), Err(Error::NotDrained { mutations: 1 }));
    drop(bench.log.abort(&flush).unwrap());
    assert_eq!(bench.revert(), Err(Error::NotDrained { mutations: 1 }));
    bench.drain();
    assert_eq!(bench.revert().unwrap(), [""; 0]);
}

#[test]
fn h15_a_window_may_span_many_checkpoints() {
    for revert in [true, false] {
        let mut bench = Bench::new(Limits { items_max: 10, ..wide() });
        bench.set("before");
        bench.start().unwrap();
        (0..1000).for_each(|number| {
            bench.set(&format!("{:03}", number % 500));
        });
        bench.drain();
        let before = bench.log.status();
        assert!(before.checkpoints > 90, "{before:?}");
        if revert {
            assert_eq!(bench.revert().unwrap().len(), 500);
            assert_eq!((bench.drain(), bench.checkpoints()), ("cs".into(), 1));
        } else {
            bench.complete().unwrap();
            let flush = bench.take().unwrap();
            assert_eq!(flush.batch().mutations(), 1000);
            bench.commit(&flush);
        }
        assert!(bench.log.status().open > before.open);
    }
}

#[test]
fn h19_an_empty_window_is_reverted_and_completed_without_ado() {
    let mut bench = Bench::new(wide());
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.start().unwrap();
    // Nothing has to be flushed, so no flush is demanded.
    assert_eq!(bench.revert().unwrap(), [""; 0]);
    bench.start().unwrap();
    bench.complete().unwrap();
    assert_eq!(shown(&bench.fetch(cursor)), "cs ce cs us ur ce cs ce cs us uc ce cs");
    bench.drain();
    assert_eq!((bench.checkpoints(), bench.log.status().unpersisted), (1, 0));
}

#[test]
fn h20_a_slow_reader_gets_the_window_and_then_its_revert() {
    let mut bench = Bench::new(wide());
    let slow = bench.cursor("slow", Resume::Oldest);
    bench.set("before");
    bench.start().unwrap();
    bench.set("w");
    bench.drain();
    bench.revert().unwrap();
    bench.set("after");
    assert_eq!(shown(&bench.fetch(slow)), "cs before@1001 ce cs us w@1002 ur ce cs after@1003");
}

#[test]
fn h25_what_remains_is_right_for_every_cursor_before_during_and_after() {
    let mut bench = Bench::new(Limits { items_max: 10, ..wide() });
    let early = bench.cursor("early", Resume::Oldest);
    bench.set("before");
    bench.start().unwrap();
    (0..25).for_each(|number| {
        bench.set(&number.to_string());
    });
    let inside = bench.cursor("inside", Resume::After(Seqno(1010)));
    bench.drain();
    bench.complete().unwrap();
    // One registered after the completion that still has the window to walk: the ancestor ended at -2 here.
    let late = bench.cursor("late", Resume::After(Seqno(1001)));
    for cursor in [early, inside, late] {
        let left = bench.remaining(cursor);
        assert_eq!(bench.fetch(cursor).len(), left);
        assert_eq!(bench.remaining(cursor), 0);
    }
    bench.drain();
    assert_eq!(bench.remaining(bench.persistence()), 0);
}

#[test]
fn h28_a_window_ends_although_memory_is_full() {
    for revert in [true, false] {
        let limits = Limits { memory_max: 1 << 17, checkpoint_bytes_max: 1 << 14, ..wide() };
        let mut bench = Bench::new(limits);
        bench.start().unwrap();
        let full = (0..).find_map(|number: u32| {
            bench.log.queue(Instant::ZERO, Item::set(&number.to_be_bytes(), &[0; 100]).unwrap()).err()
        });
        assert!(matches!(full, Some(Error::Full { .. })));
        let ended = if revert { bench.revert().map(drop) } else { bench.complete() };
        assert_eq!(ended, Ok(()));
        bench.drain();
        bench.set("room again");
    }
}

#[test]
fn h33_nothing_of_the_window_is_removed_or_expelled_while_it_is_open() {
    let mut bench = Bench::new(Limits { items_max: 10, ..wide() });
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.start().unwrap();
    (0..35).for_each(|number| {
        bench.set(&number.to_string());
    });
    bench.drain();
    let _ = bench.fetch(cursor);
    bench.log.expel();
    assert_eq!(bench.log.relieve(Instant::ZERO, 0).expelled, 0);
    bench.check();
    assert_eq!(bench.revert().unwrap().len(), 35);
}

/// A replica that has the producer's checkpoint `id` open with nothing in it.
fn replica(id: u64) -> Bench {
    let mut bench = Bench::with(wide(), Durability::Persisted, Role::Replica);
    let range = SnapshotRange { start: Seqno(1001), end: Seqno(1100) };
    bench.log.begin_snapshot(Instant::ZERO, CheckpointId(id), range, CheckpointKind::Memory).unwrap();
    bench
}

fn receive(bench: &mut Bench, key: &str, seqno: u64) {
    let item = Item::set(key.as_bytes(), b"v").unwrap().with_seqno(Seqno(seqno));
    bench.log.queue_replica(Instant::ZERO, item).unwrap();
    bench.check();
}

#[test]
fn h21_a_start_that_is_sent_again_changes_nothing() {
    let mut bench = replica(57);
    for _ in 0..2 {
        bench.log.replica_start_update(Instant::ZERO, CheckpointId(57)).unwrap();
        bench.check();
    }
    assert_eq!(bench.log.status().open_elements, 2, "the start of the checkpoint and one mark");
    assert_eq!(
        bench.log.status().open,
        CheckpointId(57),
        "the barrier is the producer's checkpoint, not a new one"
    );
}

#[test]
fn a_replica_reverts_the_checkpoint_that_its_producer_names() {
    let mut bench = replica(57);
    receive(&mut bench, "before", 1001);
    // The start names the next checkpoint, whose own start has not arrived yet.
    bench.log.replica_start_update(Instant::ZERO, CheckpointId(58)).unwrap();
    assert_eq!(bench.log.status().open, CheckpointId(58));
    let range = SnapshotRange { start: Seqno(1002), end: Seqno(1100) };
    bench.log.begin_snapshot(Instant::ZERO, CheckpointId(58), range, CheckpointKind::Memory).unwrap();
    receive(&mut bench, "w", 1002);
    assert_eq!(bench.drain(), "cs before@1001 ce");
    let window = bench.log.replica_begin_revert(CheckpointId(58)).unwrap();
    assert_eq!(window.items().map(Item::seqno).collect::<Vec<_>>(), [Seqno(1002)]);
    drop(bench.log.finish_revert().unwrap());
    bench.check();
    receive(&mut bench, "after", 1003);
    assert_eq!(bench.drain(), "after@1003");
}

#[test]
fn a_replica_completes_when_its_producer_does() {
    let mut bench = replica(5);
    bench.log.replica_start_update(Instant::ZERO, CheckpointId(5)).unwrap();
    receive(&mut bench, "w", 1001);
    assert_eq!(bench.drain(), "");
    bench.log.replica_complete_update(CheckpointId(5)).unwrap();
    assert_eq!(bench.drain(), "cs us w@1001 uc");
}

#[test]
fn h24_marks_about_another_window_demand_a_resynchronisation() {
    let mut bench = replica(5);
    let unknown = |id| Error::UnknownWindow { got: CheckpointId(id) };
    assert_eq!(bench.log.replica_complete_update(CheckpointId(5)), Err(unknown(5)));
    assert_eq!(bench.log.replica_begin_revert(CheckpointId(5)).unwrap_err(), unknown(5));
    bench.log.replica_start_update(Instant::ZERO, CheckpointId(5)).unwrap();
    let before = bench.log.status();
    assert_eq!(bench.log.replica_complete_update(CheckpointId(4)), Err(unknown(4)));
    assert_eq!(bench.log.replica_begin_revert(CheckpointId(6)).unwrap_err(), unknown(6));
    assert_eq!(bench.log.replica_start_update(Instant::ZERO, CheckpointId(6)), Err(Error::UpdateOn));
    assert!(matches!(bench.log.start_update(Instant::ZERO), Err(Error::Misuse(_))));
    assert_eq!(bench.log.status(), before);
}

#[test]
fn a_start_that_names_a_checkpoint_with_mutations_is_a_contradiction() {
    let mut bench = replica(5);
    receive(&mut bench, "a", 1001);
    let answer = bench.log.replica_start_update(Instant::ZERO, CheckpointId(5));
    assert_eq!(answer, Err(Error::Contradiction(CheckpointId(5))));
    let answer = bench.log.replica_start_update(Instant::ZERO, CheckpointId(4));
    assert_eq!(answer, Err(Error::Behind { got: CheckpointId(4), open: CheckpointId(5) }));
}

#[test]
fn while_reverting_every_other_change_of_hot_reload_is_refused() {
    let mut bench = Bench::new(wide());
    bench.start().unwrap();
    let _window = bench.log.begin_revert(bench.now).unwrap();
    assert_eq!(bench.log.update_state(), UpdateState::Reverting { barrier: CheckpointId(2) });
    assert_eq!((bench.start(), bench.complete()), (Err(Error::Reverting), Err(Error::Reverting)));
    assert_eq!(bench.log.begin_revert(bench.now).unwrap_err(), Error::Reverting);
    let _ = bench.log.take(FetchLimit::ALL).unwrap();
}
