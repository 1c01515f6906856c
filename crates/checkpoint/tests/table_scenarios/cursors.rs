//! Group B: cursors and de-duplication.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use cuttlebone_checkpoint::{
    CheckpointId, Droppable, Effect, Error, FetchLimit, Item, Limits, Resume, Seqno, Start, Stop,
};
use cuttlebone_machine::Instant;

use crate::bench::{BASE, Bench, shown, wide};

#[test]
fn b01_finished_cursors_move_on_and_never_see_the_end() {
    let mut bench = Bench::new(wide());
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.set("key");
    bench.drain();
    let _ = bench.fetch(cursor);
    bench.close();
    assert_eq!((bench.remaining(cursor), bench.remaining(bench.persistence())), (1, 1));
    assert_eq!((shown(&bench.fetch(cursor)), bench.drain()), ("cs".into(), "cs".into()));
}

#[test]
fn b02_a_soft_limit_stops_after_a_whole_checkpoint() {
    let mut bench = Bench::new(wide());
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.set_all(&["a", "b", "c"]);
    bench.close();
    bench.set("d");
    let limit = FetchLimit { elements: 1, bytes: usize::MAX, stop: Stop::AfterCheckpoint };
    assert_eq!(shown(&bench.fetch_some(cursor, limit)), "cs a@1001 b@1002 c@1003 ce");
    assert_eq!(bench.log.cursor(cursor).unwrap().checkpoint, CheckpointId(2));
    let bytes = FetchLimit { elements: u64::MAX, bytes: 1, stop: Stop::AfterCheckpoint };
    assert_eq!(shown(&bench.fetch_some(cursor, bytes)), "cs d@1004", "the first checkpoint always fits");
}

#[test]
fn b03_a_hard_limit_stops_anywhere() {
    let mut bench = Bench::new(wide());
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.set_all(&["a", "b"]);
    bench.close();
    assert_eq!(shown(&bench.fetch_some(cursor, FetchLimit::exactly(1))), "cs");
    assert_eq!(bench.log.cursor(cursor).unwrap().checkpoint, CheckpointId(1));
}

#[test]
fn b04_a_hole_from_overwrites_needs_no_backfill() {
    let mut bench = Bench::new(wide());
    (0..11).for_each(|_| {
        bench.set("key0");
    });
    (1..10).for_each(|number| {
        bench.set(&format!("key{number}"));
    });
    let registered = bench.log.register("c", Droppable::Yes, Resume::After(Seqno(1005))).unwrap();
    assert_eq!((registered.next, registered.backfill), (Seqno(1011), false));
}

#[test]
fn b05_an_overwrite_behind_a_state_is_read_again_once() {
    let mut bench = Bench::new(wide());
    bench.set("key");
    bench.log.queue_state(b"s".as_slice().into());
    bench.drain();
    assert_eq!(bench.set("key"), Effect::PersistAgain);
    assert_eq!(bench.remaining(bench.persistence()), 1);
    assert_eq!(bench.drain(), "key@1002");
}

#[test]
fn b06_an_overwrite_after_a_state_that_was_read_is_read_once() {
    let mut bench = Bench::new(wide());
    bench.log.queue_state(b"s".as_slice().into());
    bench.drain();
    assert_eq!((bench.set("key"), bench.set("key")), (Effect::New, Effect::Existing));
    assert_eq!(bench.remaining(bench.persistence()), 1);
    assert_eq!(bench.drain(), "key@1002");
}

#[test]
fn b07_a_cursor_that_has_read_nothing_has_not_read_the_first_mutation() {
    let mut bench = Bench::new(wide());
    assert_eq!((bench.set("key"), bench.set("key")), (Effect::New, Effect::Existing));
    // Nor has one that has read the start only, which has the same seqno.
    let mut bench = Bench::new(wide());
    let flush = bench.take().unwrap();
    bench.commit(&flush);
    assert_eq!((bench.set("key"), bench.set("key")), (Effect::New, Effect::Existing));
}

/// Closed [k1 k2], open [k1 k2 k3]; c1 at the start, c2 in the closed one, c3 after k2 of the open one.
fn dedup(key: &str) -> [u64; 3] {
    let mut bench = Bench::new(wide());
    let [c1, c2, c3] = ["c1", "c2", "c3"].map(|name| bench.cursor(name, Resume::Oldest));
    bench.set_all(&["k1", "k2"]);
    bench.close();
    bench.set_all(&["k1", "k2", "k3"]);
    let _ = bench.fetch_some(c2, FetchLimit::exactly(2));
    let _ = bench.fetch_some(c3, FetchLimit::exactly(7));
    let before = [c1, c2, c3].map(|cursor| bench.remaining(cursor));
    assert_eq!(before, [8, 6, 1]);
    bench.set(key);
    let after = [c1, c2, c3].map(|cursor| bench.remaining(cursor));
    // A recount by fetching.
    assert_eq!(after, [c1, c2, c3].map(|cursor| bench.fetch(cursor).iter().count() as u64));
    after
}

#[test]
fn b08_only_cursors_that_had_read_the_old_version_have_more_to_read() {
    assert_eq!(dedup("k1"), [8, 6, 2]);
    assert_eq!(dedup("k2"), [8, 6, 2], "c3 had just read it");
    assert_eq!(dedup("k3"), [8, 6, 1], "nobody had read it");
}

#[test]
fn b09_an_overwrite_of_what_all_have_read_is_one_more_for_all() {
    for expel in [true, false] {
        let mut bench = Bench::new(wide());
        let cursors = ["c1", "c2"].map(|name| bench.cursor(name, Resume::Oldest));
        bench.set("k1");
        bench.drain();
        cursors.iter().for_each(|cursor| drop(bench.fetch(*cursor)));
        if expel {
            assert_eq!(bench.log.expel(), 1);
        }
        bench.set("k1");
        assert_eq!(cursors.map(|cursor| bench.remaining(cursor)), [1, 1]);
        assert_eq!(bench.remaining(bench.persistence()), 1);
    }
}

#[test]
fn b10_a_position_at_the_end_of_a_closed_checkpoint_goes_to_the_next() {
    let mut bench = Bench::new(wide());
    bench.set_all(&["a", "b"]);
    bench.close();
    for (after, checkpoint, next) in [(1000, 1, 1001), (1001, 1, 1002), (1002, 2, 1003)] {
        let registered = bench.log.register("c", Droppable::Yes, Resume::After(Seqno(after))).unwrap();
        assert_eq!((registered.next, registered.backfill), (Seqno(next), false));
        assert_eq!(bench.log.cursor(registered.cursor).unwrap().checkpoint, CheckpointId(checkpoint));
    }
}

#[test]
fn b11_a_name_registered_again_replaces_the_older_cursor() {
    let mut bench = Bench::new(wide());
    let old = bench.cursor("c", Resume::Oldest);
    bench.set("a");
    bench.close();
    bench.set("b");
    bench.drain();
    // The old one held the closed checkpoint: entering it again must not free it in between.
    let again = bench.log.register("c", Droppable::Yes, Resume::After(Seqno(BASE))).unwrap();
    assert_eq!((again.next, again.backfill, bench.checkpoints()), (Seqno(1001), false, 2));
    assert_eq!(bench.log.fetch(old, FetchLimit::ALL).unwrap_err(), Error::CursorGone);
    assert_eq!(bench.log.status().cursors, 2);
    let later = bench.log.register("c", Droppable::Yes, Resume::After(Seqno(1001))).unwrap();
    assert_eq!((later.next, later.freed.checkpoints(), bench.checkpoints()), (Seqno(1002), 1, 1));
    bench.check();
}

#[test]
fn b12_checkpoints_with_meta_items_only_do_not_mislead() {
    let mut bench = Bench::new(wide());
    let _pin = bench.cursor("pin", Resume::Oldest);
    bench.set("a");
    for _ in 0..3 {
        bench.log.start_update(Instant::ZERO).unwrap();
        bench.log.complete_update(Instant::ZERO).unwrap();
    }
    bench.set("b");
    let registered = bench.log.register("c", Droppable::Yes, Resume::After(Seqno(1001))).unwrap();
    assert_eq!((registered.next, registered.backfill), (Seqno(1002), false));
    let batch = bench.fetch(registered.cursor);
    assert_eq!(shown(&batch), "cs us uc ce cs ce cs us uc ce cs ce cs us uc ce cs b@1002");
}

#[test]
fn b13_the_guard_of_a_flush_moves_without_persistence() {
    let mut bench = Bench::new(wide());
    bench.set("a");
    let flush = bench.take().unwrap();
    let cursors: Vec<_> = bench.log.cursors().map(|cursor| (cursor.remaining, cursor.checkpoint.0)).collect();
    assert_eq!(cursors, [(0, 1), (2, 1)], "persistence and its guard");
    bench.commit(&flush);
    assert_eq!(bench.log.status().cursors, 1);
}

#[test]
fn b14_a_reset_puts_all_cursors_at_the_new_beginning() {
    let mut bench = Bench::new(wide());
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.set_all(&["a", "b"]);
    bench.close();
    let flush = bench.take().unwrap();
    let start = Start { checkpoint: CheckpointId(9), seqno: Seqno(5), ..Start::default() };
    assert_eq!(bench.log.reset(Instant::ZERO, start).checkpoints(), 2);
    bench.check();
    assert_eq!(bench.log.commit(&flush).unwrap_err(), Error::FlushVoid);
    assert_eq!((bench.remaining(cursor), bench.log.status().cursors), (1, 2));
    bench.set("c");
    assert_eq!((shown(&bench.fetch(cursor)), bench.drain()), ("cs c@6".into(), "cs c@6".into()));
}

#[test]
fn b15_writers_readers_and_a_remover_end_at_the_same_item() {
    let limits = Limits { items_max: 500, ..wide() };
    let bench = Mutex::new(Bench::new(limits));
    let cursors: Vec<_> =
        ["r1", "r2", "r3"].iter().map(|name| bench.lock().unwrap().cursor(name, Resume::Oldest)).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (bench, done) = (&bench, &done);
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                scope.spawn(move || {
                    for number in 0..5000 {
                        let item = Item::set(format!("{writer}:{}", number % 700).as_bytes(), b"v").unwrap();
                        bench.lock().unwrap().log.queue(Instant::ZERO, item).unwrap();
                    }
                })
            })
            .collect();
        for cursor in cursors {
            scope.spawn(move || {
                let (mut last, mut ended) = (Seqno(0), false);
                while !ended {
                    let batch = bench.lock().unwrap().log.fetch(cursor, FetchLimit::default()).unwrap();
                    for item in batch.items() {
                        assert!(last < item.seqno(), "{last} is followed by {}", item.seqno());
                        assert!(!ended, "something follows the last item");
                        last = item.seqno();
                        ended = item.key() == b"end";
                    }
                }
            });
        }
        scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                let mut bench = bench.lock().unwrap();
                bench.log.expel();
                bench.log.tick(Instant::ZERO);
            }
        });
        let persistence = scope.spawn(move || {
            loop {
                let Some(flush) = bench.lock().unwrap().log.take(FetchLimit::default()).unwrap() else {
                    continue;
                };
                let ended = flush.batch().items().any(|item| item.key() == b"end");
                drop(bench.lock().unwrap().log.commit(&flush).unwrap());
                if ended {
                    return;
                }
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        bench.lock().unwrap().log.queue(Instant::ZERO, Item::set(b"end", b"").unwrap()).unwrap();
        persistence.join().unwrap();
        done.store(true, Ordering::Release);
    });
    bench.lock().unwrap().check();
}

#[test]
fn b16_a_checkpoint_that_is_gone_demands_a_backfill() {
    let mut bench = Bench::new(wide());
    for key in ["a", "b", "c"] {
        bench.set(key);
        bench.close();
    }
    bench.drain();
    let gone = bench.log.register("c", Droppable::Yes, Resume::AfterCheckpoint(CheckpointId(1))).unwrap();
    assert!(gone.backfill);
    assert_eq!(bench.log.cursor(gone.cursor).unwrap().checkpoint, CheckpointId(4));
    let here = bench.log.register("d", Droppable::Yes, Resume::AfterCheckpoint(CheckpointId(3))).unwrap();
    assert!(!here.backfill);
    assert_eq!(shown(&bench.fetch(here.cursor)), "cs");
    // Nothing is found beyond the open one either.
    assert!(
        bench.log.register("e", Droppable::Yes, Resume::AfterCheckpoint(CheckpointId(99))).unwrap().backfill
    );
}

#[test]
fn a_position_ahead_of_everything_is_another_history() {
    let mut bench = Bench::new(wide());
    let refused = bench.log.register("c", Droppable::Yes, Resume::After(Seqno(1001)));
    assert_eq!(refused.unwrap_err(), Error::Ahead { got: Seqno(1001), last: Seqno(1000) });
}

#[test]
fn names_and_numbers_of_cursors_are_limited() {
    let mut bench = Bench::new(Limits { cursors_max: 4, ..wide() });
    assert!(matches!(bench.log.register("", Droppable::Yes, Resume::Now), Err(Error::Misuse(_))));
    assert!(matches!(
        bench.log.register(&"x".repeat(201), Droppable::Yes, Resume::Now),
        Err(Error::Misuse(_))
    ));
    bench.cursor("a", Resume::Now);
    bench.cursor("b", Resume::Now);
    // The fourth place is for the guard of a flush.
    let refused = bench.log.register("c", Droppable::Yes, Resume::Now);
    assert_eq!(refused.unwrap_err(), Error::TooManyCursors { limit: 4 });
    bench.cursor("b", Resume::Oldest);
    bench.set("x");
    let flush = bench.take().unwrap();
    bench.commit(&flush);
}

#[test]
fn a_waiting_reader_is_woken_by_a_mutation_and_by_its_end() {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Poll, Wake, Waker};
    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    let mut bench = Bench::new(wide());
    let cursor = bench.cursor("c", Resume::Now);
    for expected in 1..=2 {
        assert!(bench.log.poll_fetch(&mut cx, cursor, FetchLimit::ALL).is_pending());
        assert!(bench.log.poll_fetch(&mut cx, cursor, FetchLimit::ALL).is_pending());
        bench.check();
        bench.set("key");
        bench.set("other");
        assert_eq!(count.0.load(Ordering::Relaxed), expected, "once for each wait");
        let Poll::Ready(Ok(batch)) = bench.log.poll_fetch(&mut cx, cursor, FetchLimit::ALL) else {
            panic!("pending")
        };
        assert_eq!(batch.mutations(), 2);
    }
    assert!(bench.log.poll_fetch(&mut cx, cursor, FetchLimit::ALL).is_pending());
    drop(bench.log.unregister(cursor).unwrap());
    assert_eq!(count.0.load(Ordering::Relaxed), 3);
    assert!(matches!(
        bench.log.poll_fetch(&mut cx, cursor, FetchLimit::ALL),
        Poll::Ready(Err(Error::CursorGone))
    ));
    bench.check();
}
