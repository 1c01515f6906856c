//! Group A: queueing, closing, accounting.

use std::time::Duration;

use cuttlebone_checkpoint::{CheckpointKind, Effect, FetchLimit, Item, Limits, Marker, Op, Resume, Seqno};
use cuttlebone_machine::Instant;

use crate::bench::{Bench, ranges, shown, wide};

#[test]
fn a01_a_fresh_log_has_one_checkpoint_with_its_start() {
    let mut bench = Bench::new(wide());
    let cursor = bench.cursor("c", Resume::Oldest);
    assert_eq!((bench.checkpoints(), bench.log.status().open_elements, bench.remaining(cursor)), (1, 1, 1));
    let batch = bench.fetch(cursor);
    assert_eq!((shown(&batch), ranges(&batch)), ("cs".into(), vec![(1000, 1000)]));
}

#[test]
fn a02_a_key_in_the_open_checkpoint_is_replaced() {
    let mut bench = Bench::new(wide());
    let effects = ["key1", "key1", "key2"].map(|key| (bench.set(key), bench.log.status().open_elements));
    assert_eq!(effects, [(Effect::New, 2), (Effect::Existing, 2), (Effect::New, 3)]);
    let cursor = bench.cursor("c", Resume::Oldest);
    let batch = bench.fetch(cursor);
    assert_eq!((shown(&batch), ranges(&batch)), ("cs key1@1002 key2@1003".into(), vec![(1001, 1003)]));
}

#[test]
fn a03_a_deletion_is_a_mutation() {
    let mut bench = Bench::new(wide());
    bench.log.queue(Instant::ZERO, Item::delete(b"key").unwrap()).unwrap();
    let flush = bench.take().unwrap();
    let ops: Vec<_> = flush.batch().items().map(|item| (item.op(), item.seqno())).collect();
    assert_eq!(ops, [(Op::Delete, Seqno(1001))]);
}

#[test]
fn a04_keys_of_a_closed_checkpoint_are_new_again() {
    let mut bench = Bench::new(wide());
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.set_all(&["k1", "k2"]);
    bench.close();
    assert_eq!((bench.log.status().open.0, bench.log.status().open_elements), (2, 1));
    assert_eq!((bench.set("k1"), bench.set("k2")), (Effect::New, Effect::New));
    assert_eq!(bench.remaining(cursor), 7);
    let batch = bench.fetch(cursor);
    assert_eq!(shown(&batch), "cs k1@1001 k2@1002 ce cs k1@1003 k2@1004");
    assert_eq!(ranges(&batch), [(1001, 1002), (1003, 1004)]);
}

#[test]
fn a05_remaining_counts_stay_right_item_by_item() {
    let mut bench = Bench::new(wide());
    let cursor = bench.cursor("c", Resume::Oldest);
    bench.drain();
    bench.set_all(&["k1", "k2"]);
    let mut seen = vec![bench.remaining(cursor)];
    bench.set("k1");
    seen.push(bench.remaining(cursor));
    bench.close();
    bench.drain();
    seen.push(bench.remaining(cursor));
    for _ in 0..2 {
        let _ = bench.fetch_some(cursor, FetchLimit::exactly(1));
        seen.push(bench.remaining(cursor));
    }
    bench.set_all(&["k3", "k4"]);
    seen.push(bench.remaining(cursor));
    assert_eq!(seen, [3, 3, 5, 4, 3, 5]);
    assert_eq!(bench.checkpoints(), 2);
    // Reading the end is leaving the checkpoint.
    assert_eq!(shown(&bench.fetch_some(cursor, FetchLimit::exactly(2))), "k1@1003 ce");
    assert_eq!((bench.checkpoints(), bench.remaining(cursor)), (1, 3));
    assert_eq!(shown(&bench.fetch(cursor)), "cs k3@1004 k4@1005");
    assert_eq!(bench.remaining(cursor), 0);
}

#[test]
fn a06_the_item_limit_closes() {
    let mut bench = Bench::new(Limits { items_max: 5000, ..wide() });
    for number in 0..5001 {
        bench.log.queue(Instant::ZERO, Item::set(format!("{number}").as_bytes(), b"").unwrap()).unwrap();
    }
    bench.check();
    assert_eq!((bench.log.status().open.0, bench.log.status().open_elements), (2, 2));
}

#[test]
fn a07_many_rounds_over_the_same_keys_settle() {
    let mut bench = Bench::new(Limits { items_max: 5000, ..wide() });
    for number in 0..4500 * 5 {
        bench
            .log
            .queue(Instant::ZERO, Item::set(format!("{}", number % 4500).as_bytes(), b"").unwrap())
            .unwrap();
    }
    bench.drain();
    assert_eq!(bench.log.status().elements, 4501);
}

#[test]
fn a08_age_closes_without_a_write() {
    let mut bench = Bench::new(Limits { age_max: Duration::from_secs(600), ..wide() });
    bench.set("key");
    bench.log.tick(Instant::ZERO + Duration::from_secs(599));
    assert_eq!(bench.log.status().open.0, 1);
    bench.log.tick(Instant::ZERO + Duration::from_secs(600));
    assert_eq!(bench.log.status().open.0, 2);
    // An empty one does not age.
    bench.log.tick(Instant::ZERO + Duration::from_secs(6000));
    assert_eq!(bench.log.status().open.0, 2);
}

#[test]
fn a09_a_checkpoint_is_closed_on_request_if_it_holds_something() {
    let mut bench = Bench::new(Limits { items_max: 500, ..wide() });
    (0..600).for_each(|number| {
        bench.log.queue(Instant::ZERO, Item::set(format!("{number}").as_bytes(), b"").unwrap()).unwrap();
    });
    assert_eq!(bench.log.status().last_closed.0, 1);
    bench.close();
    assert_eq!((bench.log.status().last_closed.0, bench.log.status().open.0), (2, 3));
    bench.close();
    assert_eq!(bench.log.status().open.0, 3, "an empty one stays open");
}

#[test]
fn a10_limits_outside_their_range_are_refused() {
    assert!(
        Limits { items_max: 1000, age_max: Duration::from_secs(100), ..Limits::default() }.check().is_ok()
    );
    let wrong = [
        Limits { items_max: 5, ..Limits::default() },
        Limits { age_max: Duration::ZERO, ..Limits::default() },
        Limits { cursors_max: 1, ..Limits::default() },
        Limits { memory_max: 1000, ..Limits::default() },
        Limits { checkpoint_bytes_max: Limits::default().memory_max, ..Limits::default() },
        Limits { checkpoint_bytes_max: 10, ..Limits::default() },
    ];
    for limits in wrong {
        assert!(limits.check().is_err(), "{limits:?}");
    }
}

#[test]
fn a11_persistence_gets_each_element_once_and_nothing_after_a_reset() {
    let mut bench = Bench::new(wide());
    bench.set_all(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    bench.close();
    let flush = bench.take().unwrap();
    assert_eq!(flush.batch().len(), 13);
    assert!(shown(flush.batch()).ends_with("9@1010 ce cs"));
    bench.commit(&flush);
    assert!(bench.take().is_none());
}

#[test]
fn a12_every_cursor_counts_its_own_rest() {
    let mut bench = Bench::new(Limits { items_max: 10, ..wide() });
    for number in 0..5 {
        bench.set(&number.to_string());
        bench.close();
    }
    let second = bench.cursor("second", Resume::After(Seqno(1002)));
    // Three checkpoints of start, mutation and end, and the start of the open one; the first start is before it.
    assert_eq!(bench.remaining(second), 10);
    let limit =
        FetchLimit { elements: 1, bytes: usize::MAX, stop: cuttlebone_checkpoint::Stop::AfterCheckpoint };
    let batch = bench.fetch_some(second, limit);
    assert_eq!((batch.len(), bench.remaining(second), batch.has_more()), (3, 7, true));
    let all: Vec<_> = bench.log.cursors().map(|cursor| cursor.remaining).collect();
    bench.set("more");
    let more: Vec<_> = bench.log.cursors().map(|cursor| cursor.remaining - 1).collect();
    assert_eq!(all, more);
}

#[test]
fn a14_order_and_cas_agree_when_both_are_given_under_one_lock() {
    let bench = std::sync::Mutex::new((Bench::new(wide()), 0_u64));
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let bench = &bench;
            scope.spawn(move || {
                for number in 0..1000 {
                    let item = Item::set(format!("{writer}:{number}").as_bytes(), b"").unwrap();
                    let mut guard = bench.lock().unwrap();
                    guard.1 += 1;
                    let item = item.with_cas(guard.1);
                    guard.0.log.queue(Instant::ZERO, item).unwrap();
                }
            });
        }
    });
    let (mut bench, _) = bench.into_inner().unwrap();
    let flush = bench.take().unwrap();
    assert_eq!(flush.batch().len(), 8001);
    let order: Vec<_> = flush.batch().items().map(|item| (item.seqno(), item.cas())).collect();
    assert!(order.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
}

#[test]
fn a15_seqnos_of_meta_items_never_decrease() {
    for before in [true, false] {
        let mut bench = Bench::new(wide());
        let cursor = bench.cursor("c", Resume::Oldest);
        bench.set_all(&["a", "b"]);
        if before {
            bench.log.queue_state(b"replica".as_slice().into());
        }
        bench.close();
        if !before {
            bench.log.queue_state(b"replica".as_slice().into());
        }
        bench.set("c");
        bench.check();
        let expected =
            if before { "cs a@1001 b@1002 st ce cs c@1003" } else { "cs a@1001 b@1002 ce cs st c@1003" };
        assert_eq!(shown(&bench.fetch(cursor)), expected);
    }
}

#[test]
fn a16_the_byte_limit_closes_but_takes_one_mutation_of_any_size() {
    let limits = Limits { checkpoint_bytes_max: 64 * 1024, ..wide() };
    let mut bench = Bench::new(limits);
    let large = vec![0; 200 * 1024];
    for number in 0..3 {
        bench.log.queue(Instant::ZERO, Item::set(format!("{number}").as_bytes(), &large).unwrap()).unwrap();
        assert_eq!((bench.log.status().open.0, bench.log.status().open_elements), (1 + number, 2));
    }
    bench.check();
}

#[test]
fn a_state_is_never_replaced() {
    let mut bench = Bench::new(wide());
    bench.log.queue_state(b"one".as_slice().into());
    bench.log.queue_state(b"two".as_slice().into());
    let flush = bench.take().unwrap();
    let states: Vec<_> = flush
        .batch()
        .iter()
        .filter_map(|element| match element {
            cuttlebone_checkpoint::Element::Marker(_, Marker::State(document)) => Some(document.to_vec()),
            _ => None,
        })
        .collect();
    assert_eq!(states, [b"one", b"two"]);
    assert_eq!(flush.batch().kind(), CheckpointKind::Memory);
}

#[test]
fn an_overwrite_keeps_the_age_of_what_was_not_persisted() {
    let mut bench = Bench::new(wide());
    bench.set("key");
    bench.now = Instant::ZERO + Duration::from_secs(7);
    bench.set("key");
    let flush = bench.take().unwrap();
    assert_eq!(flush.batch().items().next().unwrap().queued_at(), Instant::ZERO);
    bench.commit(&flush);
    bench.set("key");
    let flush = bench.take().unwrap();
    assert_eq!(
        flush.batch().items().next().unwrap().queued_at(),
        bench.now,
        "it has been persisted meanwhile"
    );
}
