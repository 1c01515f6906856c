//! Operations, states, persistence, eviction, warm-up, streams: groups D, E and F as far as they concern a bucket.

#![expect(clippy::unwrap_used, clippy::similar_names, reason = "a failure in a test is a panic")]

#[path = "table/world.rs"]
mod world;

use core::time::Duration;

use cuttlebone_bucket::engine::{Fault, MemoryEngine};
use cuttlebone_bucket::{Bucket, BucketLimits, Error, Event, Mode, OpenError, Position, VbucketState};
use cuttlebone_checkpoint::{Item, Limits, Seqno};
use futures::StreamExt;
use futures::executor::block_on;
use world::{V, World, now};

fn item(key: &str, value: &str) -> Item {
    Item::set(key.as_bytes(), value.as_bytes()).unwrap()
}

#[test]
fn modes_and_stamps_decide_about_a_store() {
    let world = World::new();
    let set = |mode| world.bucket.set(V, now(0), item("k", "v"), mode);
    assert!(matches!(set(Mode::Replace), Err(Error::NotFound)));
    assert!(matches!(set(Mode::Cas(1)), Err(Error::NotFound)));
    let first = set(Mode::Add).unwrap();
    assert!(matches!(set(Mode::Add), Err(Error::Exists)));
    let second = set(Mode::Replace).unwrap();
    assert!(second.cas > first.cas && second.seqno > first.seqno);
    assert!(matches!(set(Mode::Cas(first.cas)), Err(Error::Exists)));
    let third = set(Mode::Cas(second.cas)).unwrap();
    assert!(matches!(world.bucket.delete(V, now(0), b"k", Some(second.cas)), Err(Error::Exists)));
    world.bucket.delete(V, now(0), b"k", Some(third.cas)).unwrap();
    assert!(matches!(world.bucket.delete(V, now(0), b"k", None), Err(Error::NotFound)));
    set(Mode::Add).unwrap();
    world.check();
}

#[test]
fn a_key_is_gone_after_its_time_and_the_first_to_look_deletes_it() {
    let world = World::new();
    world.bucket.set(V, now(0), item("k", "v").with_expiry(10), Mode::Set).unwrap();
    assert!(world.bucket.get(V, now(10), b"k").is_ok());
    assert_eq!(world.bucket.status(V).unwrap().items, 1);
    assert!(matches!(world.bucket.get(V, now(11), b"k"), Err(Error::NotFound)));
    assert_eq!(world.bucket.status(V).unwrap().items, 0);
    assert_eq!(world.bucket.status(V).unwrap().log.last_seqno, Seqno(2));
    world.bucket.set(V, now(11), item("k", "w"), Mode::Add).unwrap();
}

#[test]
fn a_held_key_is_changed_by_its_holder_only() {
    let world = World::new();
    world.set("k", "v");
    let hold = Duration::from_secs(20);
    let held = world.bucket.get_and_lock(V, now(0), b"k", hold).unwrap();
    assert!(matches!(world.bucket.get_and_lock(V, now(1), b"k", hold), Err(Error::Locked)));
    assert!(matches!(world.try_set("k", "w"), Err(Error::Locked)));
    assert!(matches!(world.bucket.delete(V, now(1), b"k", None), Err(Error::Locked)));
    assert!(matches!(world.bucket.unlock(V, now(1), b"k", held.cas + 1), Err(Error::Locked)));
    assert_eq!(world.bucket.get(V, now(1), b"k").unwrap().cas, u64::MAX);
    world.bucket.set(V, now(1), item("k", "mine"), Mode::Cas(held.cas)).unwrap();
    world.set("k", "free");
    let held = world.bucket.get_and_lock(V, now(0), b"k", hold).unwrap();
    world.bucket.unlock(V, now(0), b"k", held.cas).unwrap();
    world.set("k", "free again");
    // A lock ends by itself; an unreasonable time is the default of 15 s.
    world.bucket.get_and_lock(V, now(0), b"k", Duration::from_secs(31)).unwrap();
    assert!(matches!(world.bucket.set(V, now(14), item("k", "x"), Mode::Set), Err(Error::Locked)));
    world.bucket.set(V, now(15), item("k", "x"), Mode::Set).unwrap();
}

#[test]
fn f01_f10_dead_and_replica_serve_no_client() {
    for state in [VbucketState::Dead, VbucketState::Replica] {
        let world = World::new();
        world.set("k", "v");
        world.bucket.set_state(V, now(0), state).unwrap();
        assert!(matches!(world.bucket.get(V, now(0), b"k"), Err(Error::NotMyVbucket)));
        assert!(matches!(world.try_set("k", "w"), Err(Error::NotMyVbucket)));
        assert!(matches!(world.bucket.delete(V, now(0), b"k", None), Err(Error::NotMyVbucket)));
        let hold = Duration::ZERO;
        assert!(matches!(world.bucket.get_and_lock(V, now(0), b"k", hold), Err(Error::NotMyVbucket)));
        assert!(matches!(world.bucket.unlock(V, now(0), b"k", 1), Err(Error::NotMyVbucket)));
    }
    assert!(matches!(World::new().bucket.get(99, now(0), b"k"), Err(Error::NotMyVbucket)));
}

#[test]
fn f11_f20_pending_parks_until_the_state_changes() {
    for (state, served) in
        [(VbucketState::Active, true), (VbucketState::Replica, false), (VbucketState::Dead, false)]
    {
        let world = World::new();
        world.set("k", "v");
        world.bucket.set_state(V, now(0), VbucketState::Pending).unwrap();
        assert!(matches!(world.try_set("k", "w"), Err(Error::Parked)));
        let answers = std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..4)
                .map(|_| {
                    let bucket = world.bucket.clone();
                    scope.spawn(move || block_on(bucket.wait(V, |bucket| bucket.get(V, now(0), b"k"))))
                })
                .collect();
            while world.bucket.status(V).unwrap().parked < 4 {
                std::thread::yield_now();
            }
            world.bucket.set_state(V, now(0), state).unwrap();
            waiting.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(answers.iter().all(|answer| answer.is_ok() == served), "{answers:?}");
        assert_eq!(world.bucket.status(V).unwrap().parked, 0);
    }
}

#[test]
fn parked_operations_are_limited() {
    let limits = BucketLimits { parked_max: 1, ..world::limits() };
    let bucket = Bucket::open(MemoryEngine::default(), limits, now(0), 1).unwrap();
    bucket.create(V, now(0), VbucketState::Pending).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| block_on(bucket.wait(V, |bucket| bucket.get(V, now(0), b"k"))));
        while bucket.status(V).unwrap().parked < 1 {
            std::thread::yield_now();
        }
        let second = block_on(bucket.wait(V, |bucket| bucket.get(V, now(0), b"k")));
        assert!(matches!(second, Err(Error::TooManyParked { limit: 1 })));
        bucket.set_state(V, now(0), VbucketState::Active).unwrap();
        assert!(matches!(first.join().unwrap(), Err(Error::NotFound)));
    });
}

#[test]
fn d05_what_is_persisted_is_told_by_seqno() {
    let world = World::new();
    world.bucket.pause();
    world.set("a", "1");
    assert!(matches!(world.bucket.flush(), Err(Error::Paused)));
    assert_eq!(world.bucket.status(V).unwrap().log.persisted, Seqno(0));
    world.bucket.resume();
    world.bucket.flush_all().unwrap();
    assert_eq!(world.bucket.status(V).unwrap().log.persisted, Seqno(1));
}

#[test]
fn d06_clearing_is_durable_and_replicated() {
    let world = World::new();
    world.bucket.create(1, now(0), VbucketState::Active).unwrap();
    let mut replica = world.replica();
    world.set("a", "1");
    world.bucket.set(1, now(0), item("b", "1"), Mode::Set).unwrap();
    world.bucket.flush_all().unwrap();
    replica.follow(&world);
    world.bucket.clear(now(0)).unwrap();
    let restarted = world.after_a_kill();
    assert_eq!((world.get("a"), restarted.get("a")), (None, None));
    assert!(matches!(restarted.bucket.get(1, now(0), b"b"), Err(Error::NotFound)));
    replica.follow(&world);
    assert_eq!(replica.get("a"), None);
    world.set("c", "2");
    replica.follow(&world);
    assert_eq!(replica.get("c").as_deref(), Some("2"));
}

#[test]
fn d08_only_clean_values_are_given_up_and_they_come_back() {
    let world = World::new();
    world.set("k", "value");
    assert!(matches!(world.bucket.evict(V, now(0), b"k"), Err(Error::Dirty)));
    world.bucket.flush_all().unwrap();
    world.bucket.evict(V, now(0), b"k").unwrap();
    assert!(matches!(world.bucket.evict(V, now(0), b"k"), Err(Error::Exists)));
    assert!(matches!(world.bucket.evict(V, now(0), b"x"), Err(Error::NotFound)));
    assert_eq!(world.bucket.status(V).unwrap().evicted, 1);
    world.disk.fail_after(0, Fault::Nothing);
    assert!(matches!(world.bucket.get(V, now(0), b"k"), Err(Error::Engine(_))));
    assert_eq!(world.get("k").as_deref(), Some("value"));
    assert_eq!(world.bucket.status(V).unwrap().evicted, 0);
    world.check();
}

#[test]
fn d09_everything_persisted_is_there_after_a_restart_and_seqnos_go_on() {
    let world = World::new();
    (0..40).for_each(|number| world.set(&number.to_string(), "v"));
    world.delete("7");
    world.bucket.flush_all().unwrap();
    world.set("lost", "v");
    let restarted = world.after_a_kill();
    let status = restarted.bucket.status(V).unwrap();
    assert_eq!((status.items, status.log.last_seqno, status.state), (39, Seqno(41), VbucketState::Active));
    assert_eq!((restarted.get("lost"), restarted.get("7")), (None, None));
    assert_eq!(restarted.bucket.set(V, now(0), item("x", "y"), Mode::Set).unwrap().seqno, Seqno(42));
    // A new branch: what others saw beyond the disk never happened.
    assert_eq!(status.history.newest().from, Seqno(41));
    assert_ne!(status.history.newest().id, world.bucket.status(V).unwrap().history.newest().id);
}

#[test]
fn values_beyond_the_limit_stay_on_the_disk() {
    let limits = BucketLimits { resident_bytes_max: 10_000, ..world::limits() };
    let disk = MemoryEngine::default();
    let bucket = Bucket::open(disk.clone(), limits, now(0), 1).unwrap();
    bucket.create(V, now(0), VbucketState::Active).unwrap();
    let write = |number: u32| bucket.set(V, now(0), item(&number.to_string(), &"x".repeat(200)), Mode::Set);
    let full = (0..200).find(|number| matches!(write(*number), Err(Error::Temporary))).unwrap();
    assert!((35..45).contains(&full), "{full}");
    for number in full..200 {
        while write(number).is_err() {
            bucket.flush_all().unwrap();
        }
    }
    bucket.flush_all().unwrap();
    let status = bucket.status(V).unwrap();
    assert!(status.resident_bytes <= 10_000 && status.evicted > 100, "{status:?}");
    assert!((0..200_u32).all(|number| bucket.get(V, now(0), number.to_string().as_bytes()).is_ok()));
    bucket.recount().unwrap();
    let again = Bucket::open(disk, limits, now(0), 2).unwrap();
    assert!(again.status(V).unwrap().resident_bytes <= 7_000);
    assert!((0..200_u32).all(|number| again.get(V, now(0), number.to_string().as_bytes()).is_ok()));
}

#[test]
fn void_rows_are_cleaned_and_nothing_live_is_lost() {
    let limits = BucketLimits { log: Limits::default(), ..BucketLimits::default() };
    let disk = MemoryEngine::default();
    let bucket = Bucket::open(disk.clone(), limits, now(0), 1).unwrap();
    bucket.create(V, now(0), VbucketState::Active).unwrap();
    bucket.set(V, now(0), item("cold", "first row"), Mode::Set).unwrap();
    let padding = "x".repeat(600);
    for round in 0..120 {
        for key in 0..500 {
            let value = format!("{round} {padding}");
            bucket.set(V, now(0), item(&key.to_string(), &value), Mode::Set).unwrap();
        }
        // Each of these answers is lost once: neither refs nor rows may suffer.
        if round % 7 == 0 {
            disk.fail_after(round % 2, Fault::Done);
        }
        while bucket.flush().is_err() {}
        // A fault that met nobody must not hit what follows.
        disk.fail_after(u64::MAX / 2, Fault::Nothing);
        if round == 60 {
            bucket.evict(V, now(0), b"cold").unwrap();
        }
    }
    // 60,000 were written, 501 are live, and 8 MiB are not worth cleaning.
    assert!(disk.len() < 20_000, "{} rows", disk.len());
    assert_eq!(bucket.get(V, now(0), b"cold").unwrap().item.value(), b"first row");
    let again = Bucket::open(disk, limits, now(0), 2).unwrap();
    assert_eq!(again.get(V, now(0), b"cold").unwrap().item.value(), b"first row");
    assert!(again.get(V, now(0), b"499").unwrap().item.value().starts_with(b"119 "));
}

#[test]
fn a_damaged_row_is_found_at_the_start_and_not_served() {
    use cuttlebone_bucket::engine::{Engine, WriteBatch};
    let world = World::new();
    world.set("k", "v");
    world.bucket.flush_all().unwrap();
    world.disk.rot();
    world.bucket.evict(V, now(0), b"k").unwrap();
    assert!(matches!(world.bucket.get(V, now(0), b"k"), Err(Error::Corrupt { .. })));
    let opened = Bucket::open(world.disk.detached(), world::limits(), now(0), 2);
    assert!(matches!(opened, Err(OpenError::Row { .. })));
    let documents = vec![(V, vec![1, 2, 3])];
    world.disk.apply(&WriteBatch { documents, ..WriteBatch::default() }).unwrap();
    let opened = Bucket::open(world.disk.detached(), world::limits(), now(0), 2);
    assert!(matches!(opened, Err(OpenError::Document { vbucket: V })));
}

#[test]
fn e01_a_backfill_brings_evicted_values_from_the_disk() {
    let world = World::new();
    (0..30).for_each(|number| world.set(&number.to_string(), &format!("value {number}")));
    world.bucket.flush_all().unwrap();
    (0..30).for_each(|number| world.bucket.evict(V, now(0), number.to_string().as_bytes()).unwrap());
    let restarted = world.after_a_kill();
    let mut replica = restarted.replica();
    replica.follow(&restarted);
    (0..30).for_each(|number| assert_eq!(replica.get(&number.to_string()), Some(format!("value {number}"))));
}

#[test]
fn e02_deletions_reach_a_replica_also_from_the_disk() {
    let world = World::new();
    (0..5).for_each(|number| world.set(&number.to_string(), "v"));
    let mut replica = world.replica();
    replica.follow(&world);
    replica.disconnect();
    (0..3).for_each(|number| world.delete(&number.to_string()));
    world.bucket.flush_all().unwrap();
    (10..40).for_each(|number| world.set(&number.to_string(), "v"));
    world.bucket.flush_all().unwrap();
    replica.reconnect(&world);
    replica.follow(&world);
    assert_eq!(replica.bucket.status(V).unwrap().items, 2 + 30);
}

#[test]
fn a_replica_that_missed_deletions_which_are_forgotten_starts_anew() {
    let limits = BucketLimits { tombstones_max: 1, ..world::limits() };
    let bucket = Bucket::open(MemoryEngine::default(), limits, now(0), 1).unwrap();
    bucket.create(V, now(0), VbucketState::Active).unwrap();
    for key in ["a", "b", "c"] {
        bucket.set(V, now(0), item(key, "v"), Mode::Set).unwrap();
    }
    let branch = bucket.status(V).unwrap().history.newest().id;
    for key in ["a", "b"] {
        bucket.delete(V, now(0), key.as_bytes(), None).unwrap();
    }
    bucket.flush_all().unwrap();
    let mut stream = bucket.stream(V, "late", world::position(branch, 3)).unwrap();
    assert_eq!(stream.try_next().unwrap(), Some(Event::Rollback));
    let mut stream = bucket.stream(V, "in time", world::position(branch, 4)).unwrap();
    assert!(matches!(stream.try_next().unwrap(), Some(Event::History(_))));
}

#[test]
fn e05_a_takeover_moves_everything_and_then_the_state() {
    let world = World::new();
    let mut replica = world.replica();
    (0..100).for_each(|number| world.set(&number.to_string(), "v"));
    world.bucket.set_state(V, now(0), VbucketState::Dead).unwrap();
    assert!(matches!(world.try_set("late", "v"), Err(Error::NotMyVbucket)));
    replica.follow(&world);
    replica.bucket.set_state(V, now(0), VbucketState::Active).unwrap();
    assert_eq!(replica.bucket.status(V).unwrap().items, 100);
    replica.set("more", "v");
    assert_eq!(replica.bucket.status(V).unwrap().log.last_seqno, Seqno(101));
    assert_eq!(replica.bucket.status(V).unwrap().history.newest().from, Seqno(100));
}

#[test]
fn e06_a_stream_pauses_until_what_it_sent_is_acknowledged() {
    let limits = BucketLimits { unacknowledged_max: 5, ..world::limits() };
    let bucket = Bucket::open(MemoryEngine::default(), limits, now(0), 1).unwrap();
    bucket.create(V, now(0), VbucketState::Active).unwrap();
    (0..20)
        .for_each(|number| assert!(bucket.set(V, now(0), item(&number.to_string(), "v"), Mode::Set).is_ok()));
    let mut stream = bucket.stream(V, "c", Position::default()).unwrap();
    let mut received = 0;
    let mut rounds = 0;
    while received < 20 {
        while let Some(event) = stream.try_next().unwrap() {
            received += u32::from(matches!(event, Event::Item(_)));
        }
        rounds += 1;
        stream.acknowledge(stream.events());
    }
    assert!(rounds >= 4, "{rounds}");
}

#[test]
fn a_stream_is_woken_by_a_write() {
    let world = World::new();
    let bucket = world.bucket.clone();
    let reader = std::thread::spawn(move || {
        let mut stream = bucket.stream(V, "c", Position::default()).unwrap();
        block_on(async {
            loop {
                if let Event::Item(item) = stream.next().await.unwrap().unwrap() {
                    return item.key().to_vec();
                }
            }
        })
    });
    while world.bucket.status(V).unwrap().log.cursors < 2 {
        std::thread::yield_now();
    }
    world.set("k", "v");
    assert_eq!(reader.join().unwrap(), b"k");
    assert_eq!(world.bucket.status(V).unwrap().log.cursors, 1, "a dropped stream leaves no cursor");
}

#[test]
fn a_slow_stream_is_given_up_and_goes_on_from_the_disk() {
    let log = Limits { memory_max: 1 << 20, checkpoint_bytes_max: 1 << 17, ..Limits::default() };
    let limits = BucketLimits { log, ..BucketLimits::default() };
    let producer = Bucket::open(MemoryEngine::default(), limits, now(0), 1).unwrap();
    producer.create(V, now(0), VbucketState::Active).unwrap();
    let replica = Bucket::open(MemoryEngine::default(), limits, now(0), 2).unwrap();
    replica.create(V, now(0), VbucketState::Replica).unwrap();
    let mut stream = producer.stream(V, "slow", Position::default()).unwrap();
    for number in 0..10_000 {
        producer.set(V, now(0), item(&number.to_string(), &"x".repeat(200)), Mode::Set).unwrap();
        if number % 500 == 0 {
            producer.flush_all().unwrap();
        }
    }
    producer.flush_all().unwrap();
    let mut given_up = 0;
    loop {
        match stream.try_next() {
            Ok(Some(event)) => replica.apply(V, now(0), event).unwrap(),
            Ok(None) => break,
            Err(Error::StreamOver) => {
                given_up += 1;
                stream = producer.stream(V, "slow", replica.position(V).unwrap()).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
        stream.acknowledge(stream.events());
        if stream.events() % 500 == 0 {
            replica.flush_all().unwrap();
        }
    }
    assert_eq!((given_up, replica.status(V).unwrap().items), (1, 10_000));
    replica.recount().unwrap();
}

#[test]
fn a_promoted_replica_with_half_a_snapshot_branches_where_it_began() {
    let world = World::new();
    (0..5).for_each(|number| world.set(&number.to_string(), "v"));
    let mut stream = world.bucket.stream(V, "c", Position::default()).unwrap();
    let other = World::open(MemoryEngine::default(), 50);
    other.bucket.create(V, now(0), VbucketState::Replica).unwrap();
    while other.bucket.status(V).unwrap().items < 3 {
        other.bucket.apply(V, now(0), stream.try_next().unwrap().unwrap()).unwrap();
    }
    other.bucket.set_state(V, now(0), VbucketState::Active).unwrap();
    assert_eq!(other.bucket.status(V).unwrap().history.newest().from, Seqno(0));
}

#[test]
fn keys_come_in_order_and_without_those_that_are_gone() {
    use core::ops::Bound::{Excluded, Included, Unbounded};
    let world = World::new();
    for key in ["b", "a", "d", "c", "ca"] {
        world.set(key, "x");
    }
    world.delete("d");
    let keys = |range| -> Vec<String> {
        let keys = world.bucket.keys(V, range).unwrap();
        keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    };
    assert_eq!(keys((Unbounded, Unbounded)), ["a", "b", "c", "ca"]);
    assert_eq!(keys((Included(b"b"), Excluded(b"ca"))), ["b", "c"]);
    assert_eq!(keys((Excluded(b"b"), Included(b"ca"))), ["c", "ca"]);
    assert!(matches!(world.bucket.keys(V + 1, (Unbounded, Unbounded)), Err(Error::NotMyVbucket)));
}
