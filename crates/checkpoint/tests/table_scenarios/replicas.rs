//! Replicas: the producer's ids, ranges and seqnos.

use cuttlebone_checkpoint::{
    CheckpointId, CheckpointKind, Durability, Error, FetchLimit, Item, Resume, Role, Seqno, SnapshotRange,
    Start,
};
use cuttlebone_machine::Instant;

use crate::bench::{Bench, ranges, shown, wide};

fn replica() -> Bench {
    Bench::with(wide(), Durability::Persisted, Role::Replica)
}

impl Bench {
    fn snapshot(&mut self, id: u64, start: u64, end: u64, kind: CheckpointKind) -> Result<(), Error> {
        let range = SnapshotRange { start: Seqno(start), end: Seqno(end) };
        let answer = self.log.begin_snapshot(Instant::ZERO, CheckpointId(id), range, kind);
        self.check();
        answer
    }

    fn receive(&mut self, key: &str, seqno: u64) -> Result<(), Error> {
        let item = Item::set(key.as_bytes(), b"v").unwrap().with_seqno(Seqno(seqno));
        let answer = self.log.queue_replica(Instant::ZERO, item).map(drop);
        self.check();
        answer
    }
}

#[test]
fn a13_a_disk_snapshot_has_no_key_index() {
    let mut bench = replica();
    bench.snapshot(2, 1001, 1002, CheckpointKind::Disk).unwrap();
    let before = bench.log.memory();
    bench.receive("a", 1001).unwrap();
    bench.receive("b", 1002).unwrap();
    // Two bodies and two places: no entry of an index, whose smallest table is larger than what is left.
    assert!(bench.log.memory() - before <= 2 * (16 + 2) + 64 * 32);
    assert_eq!(bench.drain(), "cs a@1001 b@1002");
}

#[test]
fn a17_memory_and_disk_are_never_in_one_batch() {
    let mut bench = replica();
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.snapshot(2, 1001, 1001, CheckpointKind::Memory).unwrap();
    bench.receive("a", 1001).unwrap();
    bench.snapshot(3, 1002, 1002, CheckpointKind::Disk).unwrap();
    bench.receive("b", 1002).unwrap();
    bench.snapshot(4, 1003, 1003, CheckpointKind::Disk).unwrap();
    bench.receive("c", 1003).unwrap();
    let expected = [
        ("cs a@1001 ce", CheckpointKind::Memory, true),
        ("cs b@1002 ce", CheckpointKind::Disk, true),
        ("cs c@1003", CheckpointKind::Disk, false),
    ];
    for (elements, kind, more) in expected {
        let batch = bench.fetch(cursor);
        assert_eq!((shown(&batch).as_str(), batch.kind(), batch.has_more()), (elements, kind, more));
    }
}

#[test]
fn a18_ranges_are_the_producers() {
    let mut bench = replica();
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.snapshot(2, 1001, 1003, CheckpointKind::Memory).unwrap();
    bench.receive("a", 1001).unwrap();
    bench.receive("c", 1003).unwrap();
    bench.snapshot(3, 1004, 1006, CheckpointKind::Memory).unwrap();
    for seqno in 1004..=1006 {
        bench.receive(&seqno.to_string(), seqno).unwrap();
    }
    let batch = bench.fetch(cursor);
    assert_eq!((batch.len(), batch.has_more()), (8, false));
    assert_eq!(ranges(&batch), [(1001, 1003), (1004, 1006)]);
}

#[test]
fn b03_a_hard_limit_stops_inside_a_disk_snapshot() {
    let mut bench = replica();
    bench.snapshot(2, 1001, 1002, CheckpointKind::Disk).unwrap();
    bench.receive("a", 1001).unwrap();
    bench.receive("b", 1002).unwrap();
    let flush = bench.log.take(FetchLimit::exactly(2)).unwrap().unwrap();
    assert_eq!(shown(flush.batch()), "cs a@1001");
    bench.commit(&flush);
    assert_eq!(bench.log.status().persisted, Seqno(1001));
}

#[test]
fn e09_the_open_id_follows_the_producer() {
    let mut bench = replica();
    for id in 1..=9 {
        let seqno = 1000 + id;
        bench.snapshot(id, seqno, seqno, CheckpointKind::Memory).unwrap();
        assert_eq!(bench.log.status().open.0, id);
        bench.receive("key", seqno).unwrap();
        bench.log.end_snapshot(Instant::ZERO, CheckpointId(id)).unwrap();
    }
    assert_eq!(
        bench.log.end_snapshot(Instant::ZERO, CheckpointId(1)),
        Err(Error::Contradiction(CheckpointId(1)))
    );
}

#[test]
fn an_empty_checkpoint_takes_the_producers_id_and_is_read_from_its_start_again() {
    let mut bench = replica();
    let cursor = bench.cursor("c", Resume::Oldest);
    assert_eq!(shown(&bench.fetch(cursor)), "cs");
    bench.log.queue_state(b"replica".as_slice().into());
    bench.snapshot(57, 1001, 1005, CheckpointKind::Memory).unwrap();
    assert_eq!((bench.checkpoints(), bench.log.status().open), (1, CheckpointId(57)));
    assert_eq!(shown(&bench.fetch(cursor)), "cs st");
}

#[test]
fn a_producer_that_went_back_is_refused_and_nothing_is_lost() {
    let mut bench = replica();
    bench.snapshot(5, 1001, 1002, CheckpointKind::Memory).unwrap();
    bench.receive("a", 1001).unwrap();
    let refused = bench.snapshot(3, 1002, 1003, CheckpointKind::Memory);
    assert_eq!(refused, Err(Error::Behind { got: CheckpointId(3), open: CheckpointId(5) }));
    assert_eq!(bench.drain(), "cs a@1001");
    assert!(bench.take().is_none(), "nothing comes twice");
}

#[test]
fn a_snapshot_grows_but_neither_shrinks_nor_changes_its_kind() {
    let mut bench = replica();
    bench.snapshot(2, 1001, 1002, CheckpointKind::Memory).unwrap();
    bench.receive("a", 1002).unwrap();
    bench.snapshot(2, 1003, 1004, CheckpointKind::Memory).unwrap();
    bench.receive("a", 1004).unwrap();
    let contradiction = Err(Error::Contradiction(CheckpointId(2)));
    assert_eq!(bench.snapshot(2, 1003, 1003, CheckpointKind::Memory), contradiction);
    assert_eq!(bench.snapshot(2, 1003, 1009, CheckpointKind::Disk), contradiction);
    assert_eq!(bench.snapshot(2, 1009, 1005, CheckpointKind::Memory), contradiction);
}

#[test]
fn mutations_outside_the_snapshot_are_refused() {
    let mut bench = replica();
    assert!(bench.receive("a", 1001).is_err(), "nothing was announced");
    bench.snapshot(2, 1005, 1010, CheckpointKind::Memory).unwrap();
    for (seqno, good) in [(1004, false), (1011, false), (1005, true), (1005, false), (1010, true)] {
        assert_eq!(bench.receive("a", seqno).is_ok(), good, "{seqno}");
    }
    assert!(matches!(bench.log.queue(bench.now, Item::delete(b"a").unwrap()), Err(Error::Misuse(_))));
    assert!(matches!(bench.log.close_checkpoint(bench.now), Err(Error::Misuse(_))));
}

#[test]
fn nobody_reads_while_the_log_itself_is_backfilled() {
    let start = Start { checkpoint: CheckpointId(0), seqno: Seqno(0), role: Role::Replica };
    let mut bench = replica();
    let cursor = bench.cursor("c", Resume::Oldest);
    let _ = bench.log.reset(Instant::ZERO, start);
    assert!(bench.fetch(cursor).is_empty());
    bench.snapshot(7, 1, 9, CheckpointKind::Disk).unwrap();
    bench.receive("a", 9).unwrap();
    assert_eq!(shown(&bench.fetch(cursor)), "cs a@9");
}

#[test]
fn a_replica_that_becomes_active_goes_on_where_it_is() {
    let mut bench = replica();
    bench.snapshot(4, 1001, 1005, CheckpointKind::Disk).unwrap();
    bench.receive("a", 1003).unwrap();
    bench.log.set_role(Instant::ZERO, Role::Active);
    bench.check();
    bench.set("a");
    assert_eq!((bench.log.status().open.0, bench.log.last_seqno()), (5, Seqno(1004)));
    assert!(bench.snapshot(9, 1, 2, CheckpointKind::Memory).is_err(), "it decides itself now");
}
