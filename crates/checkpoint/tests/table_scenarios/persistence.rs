//! Group D: persistence, as far as the log is concerned.

use cuttlebone_checkpoint::{Durability, Effect, Error, FetchLimit, Role, Seqno};

use crate::bench::{Bench, ranges, shown, wide};

#[test]
fn d01_nothing_is_taken_while_a_flush_is_open() {
    let mut bench = Bench::new(wide());
    bench.set("a");
    let flush = bench.take().unwrap();
    assert!(matches!(bench.log.take(FetchLimit::ALL), Err(Error::Misuse(_))));
    bench.commit(&flush);
    assert!(bench.take().is_none());
}

#[test]
fn d02_a_commit_ends_the_flush() {
    let mut bench = Bench::new(wide());
    bench.set_all(&["a", "b"]);
    let flush = bench.take().unwrap();
    assert_eq!((bench.log.status().persisted, bench.log.status().unpersisted), (Seqno(1000), 2));
    bench.commit(&flush);
    assert_eq!((bench.log.status().persisted, bench.log.status().unpersisted), (Seqno(1002), 0));
    assert!(bench.take().is_none());
    assert_eq!(bench.log.commit(&flush).unwrap_err(), Error::FlushVoid);
}

#[test]
fn d03_a_failure_brings_the_same_again() {
    let mut bench = Bench::new(wide());
    bench.set_all(&["a", "b"]);
    bench.close();
    bench.set("c");
    let first = bench.take().unwrap();
    drop(bench.log.abort(&first).unwrap());
    bench.check();
    assert_eq!(bench.log.status().persisted, Seqno(1000));
    let second = bench.take().unwrap();
    assert_eq!(shown(first.batch()), shown(second.batch()));
    assert_eq!(ranges(first.batch()), ranges(second.batch()));
    bench.commit(&second);
}

#[test]
fn d04_a_failure_brings_what_was_not_overwritten_meanwhile() {
    let mut bench = Bench::new(wide());
    bench.set("a");
    bench.drain();
    bench.set("b");
    let flush = bench.take().unwrap();
    assert_eq!(shown(flush.batch()), "b@1002");
    assert_eq!(bench.set("a"), Effect::PersistAgain);
    drop(bench.log.abort(&flush).unwrap());
    bench.check();
    assert_eq!(bench.log.status().unpersisted, 2);
    assert_eq!(bench.drain(), "b@1002 a@1003");
    assert_eq!(bench.log.status().unpersisted, 0);
}

#[test]
fn a_partial_flush_persists_up_to_what_it_took() {
    let mut bench = Bench::new(wide());
    bench.set_all(&["a", "b", "c"]);
    let flush = bench.log.take(FetchLimit::exactly(3)).unwrap().unwrap();
    assert!(flush.batch().has_more());
    bench.commit(&flush);
    assert_eq!((bench.log.status().persisted, bench.log.status().unpersisted), (Seqno(1002), 1));
}

#[test]
fn a_log_in_memory_only_has_no_persistence() {
    let mut bench = Bench::with(wide(), Durability::MemoryOnly, Role::Active);
    assert!(matches!(bench.log.take(FetchLimit::ALL), Err(Error::Misuse(_))));
    assert!(matches!(bench.log.start_update(bench.now), Err(Error::Misuse(_))));
    assert_eq!(bench.log.status().unpersisted, 0);
}
