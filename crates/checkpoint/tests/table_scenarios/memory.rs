//! Group C: removal, expel, dropping, and the memory limit.

use cuttlebone_checkpoint::{
    CheckpointId, Droppable, Durability, Effect, Error, FetchLimit, Item, Limits, Resume, Role, Seqno, Start,
};
use cuttlebone_machine::Instant;

use crate::bench::{Bench, shown, wide};

#[test]
fn c01_a_checkpoint_goes_when_its_last_reader_leaves() {
    let mut bench = Bench::new(wide());
    bench.set_all(&["a", "b"]);
    bench.close();
    assert_eq!(bench.checkpoints(), 2);
    bench.drain();
    assert_eq!(bench.checkpoints(), 1);
}

#[test]
fn c02_closing_moves_finished_readers_and_frees_at_once() {
    let mut bench = Bench::new(wide());
    bench.set_all(&["a", "b"]);
    bench.drain();
    bench.close();
    assert_eq!((bench.checkpoints(), bench.remaining(bench.persistence())), (1, 1));
}

#[test]
fn c03_without_readers_a_closed_checkpoint_goes_at_once() {
    let mut bench = Bench::with(wide(), Durability::MemoryOnly, Role::Active);
    bench.set("a");
    bench.close();
    assert_eq!(bench.checkpoints(), 1);
}

#[test]
fn c04_only_the_oldest_goes() {
    let mut bench = Bench::with(wide(), Durability::MemoryOnly, Role::Active);
    let cursor = bench.cursor("c", Resume::Oldest);
    for key in ["a", "b", "c"] {
        bench.set(key);
        bench.close();
    }
    bench.set("d");
    assert_eq!(bench.checkpoints(), 4);
    let _late = bench.cursor("late", Resume::After(Seqno(1002)));
    assert_eq!(bench.checkpoints(), 4, "the second has no reader, but the first has");
    let _ = bench.fetch_some(cursor, FetchLimit::exactly(3));
    assert_eq!((bench.checkpoints(), bench.remaining(cursor)), (3, 8));
}

#[test]
fn c05_removing_the_only_reader_frees_all_closed_ones_together() {
    let mut bench = Bench::with(wide(), Durability::MemoryOnly, Role::Active);
    let cursor = bench.cursor("c", Resume::Oldest);
    for key in ["a", "b"] {
        bench.set(key);
        bench.close();
    }
    assert_eq!(bench.log.unregister(cursor).unwrap().checkpoints(), 2);
    assert_eq!(bench.checkpoints(), 1);
    assert_eq!(bench.log.unregister(cursor).unwrap_err(), Error::CursorGone);
}

/// k0, k1, k2, of which everybody has read `read` elements, the start included.
fn three_keys(read: u64) -> Bench {
    let mut bench = Bench::with(wide(), Durability::MemoryOnly, Role::Active);
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.set_all(&["k0", "k1", "k2"]);
    let _ = bench.fetch_some(cursor, FetchLimit::exactly(read));
    bench
}

#[test]
fn c06_what_all_have_read_is_expelled_and_needs_a_backfill_then() {
    let mut bench = three_keys(3);
    assert_eq!(bench.log.expel(), 2);
    bench.check();
    assert_eq!((bench.log.status().open_elements, bench.log.status().elements), (2, 2));
    for (after, next, backfill) in [(1001, 1003, true), (1002, 1003, false), (1003, 1004, false)] {
        let registered = bench.log.register("d", Droppable::Yes, Resume::After(Seqno(after))).unwrap();
        assert_eq!((registered.next, registered.backfill), (Seqno(next), backfill), "after {after}");
    }
}

#[test]
fn c07_an_expelled_key_is_new_again() {
    let mut bench = three_keys(3);
    bench.log.expel();
    assert_eq!((bench.set("k0"), bench.log.status().open_elements), (Effect::New, 3));
}

#[test]
fn c08_all_or_nothing_is_expelled_at_the_ends() {
    let mut bench = three_keys(4);
    assert_eq!((bench.log.expel(), bench.log.status().open_elements), (3, 1));
    let mut bench = three_keys(1);
    assert_eq!((bench.log.expel(), bench.log.status().open_elements), (0, 4));
}

#[test]
fn c09_a_seqno_is_never_split() {
    let mut bench = Bench::with(wide(), Durability::MemoryOnly, Role::Active);
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.set("k0");
    bench.log.queue_state(b"s".as_slice().into());
    bench.set("k1");
    // The state has the seqno of k1: who registers after k0 gets both or neither.
    let _ = bench.fetch_some(cursor, FetchLimit::exactly(3));
    assert_eq!(bench.log.expel(), 1);
    let other = bench.cursor("d", Resume::After(Seqno(1001)));
    assert_eq!(shown(&bench.fetch(other)), "st k1@1002");
}

#[test]
fn c10_without_readers_everything_is_expelled_and_the_checkpoint_stays_open() {
    for keys in [&["a"][..], &["a", "b"]] {
        let mut bench = Bench::with(wide(), Durability::MemoryOnly, Role::Active);
        bench.set_all(keys);
        assert_eq!(bench.log.expel(), keys.len() as u64);
        bench.check();
        assert_eq!((bench.checkpoints(), bench.log.status().mutations), (1, 0));
        assert_eq!(bench.set("a"), Effect::New);
    }
}

#[test]
fn c11_an_emptied_checkpoint_is_entered_at_its_start() {
    let mut bench = three_keys(4);
    bench.log.expel();
    for (after, backfill) in [(1001, true), (1003, false)] {
        let registered = bench.log.register("d", Droppable::Yes, Resume::After(Seqno(after))).unwrap();
        assert_eq!((registered.backfill, registered.next), (backfill, Seqno(1004)));
    }
    let oldest = bench.cursor("e", Resume::Oldest);
    assert_eq!(shown(&bench.fetch(oldest)), "cs");
}

#[test]
fn c12_only_droppable_readers_behind_persistence_are_dropped() {
    let mut bench = Bench::new(wide());
    let slow = bench.cursor("slow", Resume::Oldest);
    let kept = bench.log.register("kept", Droppable::No, Resume::Oldest).unwrap().cursor;
    bench.set("a");
    bench.close();
    bench.set("b");
    assert!(bench.log.droppable().is_empty(), "persistence is as far behind");
    let flush = bench.take().unwrap();
    assert!(bench.log.droppable().is_empty(), "the guard of the flush is as far behind");
    bench.commit(&flush);
    assert_eq!(bench.log.droppable(), [slow]);
    let relief = bench.log.relieve(Instant::ZERO, 0);
    assert_eq!(relief.dropped.iter().map(|name| &**name).collect::<Vec<_>>(), ["slow"]);
    bench.check();
    assert_eq!(bench.log.fetch(slow, FetchLimit::ALL).unwrap_err(), Error::CursorGone);
    assert_eq!(shown(&bench.fetch(kept)), "cs a@1001 ce cs b@1002");
}

#[test]
fn c13_a_reset_does_not_disturb_a_batch_that_is_being_read() {
    let mut bench = Bench::new(wide());
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.set_all(&["a", "b"]);
    let batch = bench.fetch(cursor);
    bench.log.expel();
    bench.set("a");
    let _ = bench.log.reset(Instant::ZERO, Start { checkpoint: CheckpointId(1), ..Start::default() });
    bench.check();
    assert_eq!(shown(&batch), "cs a@1001 b@1002");
}

#[test]
fn c15_memory_is_what_a_recount_says_and_goes_down_again() {
    let mut bench = Bench::new(wide());
    let empty = bench.log.memory();
    let large = vec![0; 100_000];
    bench.log.queue(Instant::ZERO, Item::set(b"a", &large).unwrap()).unwrap();
    assert!(bench.log.memory() > empty + 100_000);
    bench.set("a");
    assert!(bench.log.memory() < empty + 10_000, "an overwrite frees what it replaces at once");
    bench.log.queue(Instant::ZERO, Item::set(b"b", &large).unwrap()).unwrap();
    bench.drain();
    bench.log.expel();
    bench.check();
    assert!(bench.log.memory() < empty + 10_000);
}

fn small() -> Limits {
    Limits { memory_max: 1 << 20, checkpoint_bytes_max: 1 << 17, ..wide() }
}

#[test]
fn a_reader_that_never_reads_is_dropped_and_writers_go_on() {
    let mut bench = Bench::new(small());
    let lazy = bench.cursor("lazy", Resume::Oldest);
    let eager = bench.cursor("eager", Resume::Oldest);
    let (mut most, mut delivered) = (0, 0);
    for number in 0..20_000 {
        let item = Item::set(format!("key{number}").as_bytes(), &[0; 200]).unwrap();
        bench.log.queue(Instant::ZERO, item).unwrap();
        if number % 100 == 0 {
            delivered += bench.log.fetch(eager, FetchLimit::ALL).unwrap().mutations();
            if let Some(flush) = bench.log.take(FetchLimit::ALL).unwrap() {
                drop(bench.log.commit(&flush).unwrap());
            }
        }
        most = most.max(bench.log.memory());
    }
    bench.check();
    delivered += bench.log.fetch(eager, FetchLimit::ALL).unwrap().mutations();
    assert_eq!(delivered, 20_000);
    assert!(most <= 1 << 20, "{most} bytes");
    assert_eq!(bench.log.fetch(lazy, FetchLimit::ALL).unwrap_err(), Error::CursorGone);
}

#[test]
fn writers_are_refused_only_at_the_hard_limit_and_only_until_persistence_catches_up() {
    let mut bench = Bench::new(small());
    let write = |bench: &mut Bench, number: u64| {
        let item = Item::set(format!("key{number}").as_bytes(), &[0; 200]).unwrap();
        bench.log.queue(Instant::ZERO, item)
    };
    let refused = (0..).find_map(|number| write(&mut bench, number).err()).unwrap();
    assert!(
        matches!(refused, Error::Full { bytes, limit } if bytes > limit && limit == 1 << 20),
        "{refused:?}"
    );
    assert!(refused.is_retryable());
    assert!(bench.log.memory() > (1 << 20) * 9 / 10, "nobody is refused early");
    bench.check();
    // Hot reload can be ended although memory is full.
    bench.log.start_update(Instant::ZERO).unwrap();
    bench.log.complete_update(Instant::ZERO).unwrap();
    bench.drain();
    assert!(write(&mut bench, 0).is_ok());
    bench.check();
}
