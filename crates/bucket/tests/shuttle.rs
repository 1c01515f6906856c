//! Interleavings of the shipped locks, chosen by a scheduler: `cargo xtask test shuttle`.
//!
//! `CUTTLEBONE_SEEDS=<n>` tries that many of each scene. A deadlock is found as one.
#![cfg(shuttle)]
#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

#[path = "table/follow.rs"]
mod follow;

use std::collections::BTreeMap;

use cuttlebone_bucket::engine::{Fault, MemoryEngine};
use cuttlebone_bucket::{Bucket, BucketLimits, Error, Goal, Mode, Now, VbucketState};
use cuttlebone_checkpoint::{Item, Limits, Seqno};
use follow::follow;
use shuttle::future::block_on;
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread;

const V: u16 = 0;

fn now() -> Now {
    Now::default()
}

/// Tries the scene under two schedulers: at random, and with few preemptions at the worst places.
fn explore(scene: impl Fn() + Send + Sync + Clone + 'static) {
    let seeds = std::env::var("CUTTLEBONE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1000);
    shuttle::check_random(scene.clone(), seeds);
    shuttle::check_pct(scene, seeds, 3);
}

fn open(state: VbucketState, seed: u64) -> (Bucket<MemoryEngine>, MemoryEngine) {
    let disk = MemoryEngine::default();
    let limits = BucketLimits {
        log: Limits { items_max: 10, ..Limits::default() },
        flush_rows: 8,
        ..BucketLimits::default()
    };
    let bucket = Bucket::open(disk.clone(), limits, now(), seed).unwrap();
    bucket.create(V, now(), state).unwrap();
    (bucket, disk)
}

fn write(bucket: &Bucket<MemoryEngine>, key: &str, value: u8) -> Seqno {
    let item = Item::set(key.as_bytes(), &[value]).unwrap();
    let set = |bucket: &Bucket<_>| bucket.set(V, now(), item.clone(), Mode::Set);
    block_on(bucket.wait(V, set)).unwrap().seqno
}

fn contents(bucket: &Bucket<MemoryEngine>) -> BTreeMap<String, Vec<u8>> {
    let keys = ["a0", "a1", "b0", "b1"];
    let value = |key: &str| bucket.peek(V, key.as_bytes()).ok().map(|found| found.item.value().to_vec());
    keys.into_iter().filter_map(|key| value(key).map(|value| (key.into(), value))).collect()
}

#[test]
fn writers_cursors_flusher_waiters_and_hot_reload_agree() {
    explore(|| {
        let (bucket, disk) = open(VbucketState::Active, 1);
        let replicas = [open(VbucketState::Replica, 2).0, open(VbucketState::Replica, 3).0];
        let (written, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let writers = ["a", "b"].map(|writer| {
            let bucket = bucket.clone();
            thread::spawn(move || {
                for number in 0..6 {
                    let seqno = write(&bucket, &format!("{writer}{}", number % 2), number);
                    if number == 3 {
                        // Durable, or taken back: never forgotten.
                        let waited = block_on(bucket.persisted(V, Goal::Seqno(seqno), None).unwrap());
                        assert!(matches!(waited, Ok(()) | Err(Error::Undone)), "{waited:?}");
                    }
                }
            })
        });
        let flusher = {
            let (bucket, written) = (bucket.clone(), Arc::clone(&written));
            thread::spawn(move || {
                while !written.load(Ordering::SeqCst) {
                    bucket.flush().unwrap();
                    thread::yield_now();
                }
            })
        };
        let reload = {
            let bucket = bucket.clone();
            thread::spawn(move || {
                bucket.start_update(now()).unwrap();
                thread::yield_now();
                bucket.revert_update(now(), now).unwrap();
                bucket.start_update(now()).unwrap();
                thread::yield_now();
                bucket.complete_update(now()).unwrap();
            })
        };
        let followers = ["one", "two"].iter().zip(&replicas).map(|(name, replica)| {
            let (bucket, replica, done) = (bucket.clone(), replica.clone(), Arc::clone(&done));
            let is_done = move || done.load(Ordering::SeqCst);
            thread::spawn(move || follow(&bucket, &replica, V, name, is_done, thread::yield_now))
        });
        let followers: Vec<_> = followers.collect();
        for writer in writers {
            writer.join().unwrap();
        }
        reload.join().unwrap();
        written.store(true, Ordering::SeqCst);
        flusher.join().unwrap();
        bucket.flush_all().unwrap();
        done.store(true, Ordering::SeqCst);
        for follower in followers {
            follower.join().unwrap();
        }
        bucket.recount().unwrap();
        let expected = contents(&bucket);
        for replica in &replicas {
            replica.recount().unwrap();
            assert_eq!(contents(replica), expected);
        }
        let again = Bucket::open(disk, BucketLimits::default(), now(), 9).unwrap();
        assert_eq!(contents(&again), expected);
    });
}

#[test]
fn a_wait_for_the_disk_is_never_forgotten_whatever_fails() {
    explore(|| {
        let (bucket, disk) = open(VbucketState::Active, 1);
        let seqno = write(&bucket, "a0", 1);
        disk.fail_after(0, Fault::Done);
        let flusher = {
            let bucket = bucket.clone();
            thread::spawn(move || while bucket.flush().is_err() {})
        };
        let cancelled = bucket.persisted(V, Goal::Seqno(seqno), None).unwrap();
        let dropper = thread::spawn(move || drop(cancelled));
        block_on(bucket.persisted(V, Goal::Seqno(seqno), None).unwrap()).unwrap();
        flusher.join().unwrap();
        dropper.join().unwrap();
        assert_eq!(bucket.status(V).unwrap().waiting, 0);
    });
}

#[test]
fn removing_clearing_and_changing_states_deadlock_with_nothing() {
    explore(|| {
        let (bucket, _disk) = open(VbucketState::Active, 1);
        bucket.create(V + 1, now(), VbucketState::Active).unwrap();
        write(&bucket, "a0", 1);
        let stream = bucket.stream(V, "one", bucket.position(V).unwrap()).unwrap();
        let scenes: Vec<Box<dyn FnOnce(&Bucket<MemoryEngine>) + Send>> = vec![
            Box::new(|bucket| drop(bucket.clear(now()))),
            Box::new(|bucket| drop(bucket.remove(V + 1, now()))),
            Box::new(|bucket| drop(bucket.set_state(V, now(), VbucketState::Replica))),
            Box::new(|bucket| drop(bucket.create(V + 2, now(), VbucketState::Active))),
            Box::new(|bucket| drop(bucket.flush())),
            Box::new(|bucket| {
                let _ = bucket.start_update(now());
                let _ = bucket.revert_update(now(), now);
            }),
            Box::new(|bucket| bucket.tick(now())),
            Box::new(move |_| drop(stream)),
        ];
        let threads: Vec<_> = scenes
            .into_iter()
            .map(|scene| {
                let bucket = bucket.clone();
                thread::spawn(move || scene(&bucket))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        bucket.recount().unwrap();
    });
}
