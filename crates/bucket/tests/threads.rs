//! Real threads: writers, a flusher, two replicas, hot reload. `CUTTLEBONE_SOAK=<seconds>` runs for that long.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]
#![expect(clippy::disallowed_methods, reason = "a soak ends by the clock")]

#[path = "table/follow.rs"]
mod follow;

use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::BTreeMap;
use std::time::Instant;

use cuttlebone_bucket::engine::MemoryEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Mode, Now, VbucketState};
use cuttlebone_checkpoint::{Item, Limits};
use follow::follow;
use futures::executor::block_on;

const V: u16 = 0;
const WRITERS: u64 = 3;
const WRITES: u64 = 4_000;
const KEYS: u64 = 50;
const ROUNDS: u64 = 20;

fn open(state: VbucketState, seed: u64) -> (Bucket<MemoryEngine>, MemoryEngine) {
    let disk = MemoryEngine::default();
    let limits =
        BucketLimits { log: Limits { items_max: 100, ..Limits::default() }, ..BucketLimits::default() };
    let bucket = Bucket::open(disk.clone(), limits, Now::default(), seed).unwrap();
    bucket.create(V, Now::default(), state).unwrap();
    (bucket, disk)
}

fn contents(bucket: &Bucket<MemoryEngine>) -> BTreeMap<String, Vec<u8>> {
    let keys = (0..WRITERS).flat_map(|writer| (0..KEYS).map(move |key| format!("{writer}:{key}")));
    keys.filter_map(|key| bucket.peek(V, key.as_bytes()).ok().map(|found| (key, found.item.value().to_vec())))
        .collect()
}

/// Each writer owns its keys and counts up, so that the value of a key tells which write it is.
fn write(bucket: &Bucket<MemoryEngine>, writer: u64) {
    let now = Now::default();
    for number in 1..=WRITES {
        let item =
            Item::set(format!("{writer}:{}", number % KEYS).as_bytes(), &number.to_be_bytes()).unwrap();
        let set = |bucket: &Bucket<_>| bucket.set(V, now, item.clone(), Mode::Set);
        block_on(bucket.wait(V, set)).unwrap();
    }
}

/// Raises a flag when it goes, also in a panic.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn h18_memory_disk_and_replicas_agree_whatever_happens_at_once() {
    let soak: Option<u64> = std::env::var("CUTTLEBONE_SOAK").ok().and_then(|seconds| seconds.parse().ok());
    let start = Instant::now();
    let goes_on = |round| match soak {
        None => round < ROUNDS,
        Some(seconds) => start.elapsed().as_secs() < seconds,
    };
    let mut kept = 0;
    for round in (0_u64..).take_while(|round| goes_on(*round)) {
        let now = Now::default();
        let (bucket, disk) = open(VbucketState::Active, round);
        let (first, _) = open(VbucketState::Replica, 1000 + round);
        let (second, second_disk) = open(VbucketState::Replica, 2000 + round);
        let (written, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let is_done = || done.load(Ordering::Acquire);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn({
                        let bucket = &bucket;
                        move || write(bucket, writer)
                    })
                })
                .collect();
            let flusher = scope.spawn(|| {
                while !written.load(Ordering::Acquire) {
                    bucket.flush().unwrap();
                    second.flush().unwrap();
                }
            });
            let reloads = scope.spawn(|| {
                for cycle in 0_u64.. {
                    bucket.start_update(now).unwrap();
                    std::thread::yield_now();
                    if cycle.is_multiple_of(3) {
                        bucket.complete_update(now).unwrap();
                    } else {
                        bucket.revert_update(now, || now).unwrap();
                    }
                    if written.load(Ordering::Acquire) {
                        return;
                    }
                }
            });
            scope.spawn(|| follow(&bucket, &first, V, "first", is_done, std::thread::yield_now));
            scope.spawn(|| follow(&bucket, &second, V, "second", is_done, std::thread::yield_now));
            for writer in writers {
                writer.join().unwrap();
            }
            written.store(true, Ordering::Release);
            // Whatever fails below, the followers have to end.
            let _done = Raised(&done);
            flusher.join().unwrap();
            reloads.join().unwrap();
            bucket.flush_all().unwrap();
        });
        second.flush_all().unwrap();
        for one in [&bucket, &first, &second] {
            one.recount().unwrap();
        }
        let expected = contents(&bucket);
        assert_eq!(
            (contents(&first) == expected, contents(&second) == expected),
            (true, true),
            "round {round}"
        );
        let reopen = |disk| Bucket::open(disk, BucketLimits::default(), now, 9).unwrap();
        assert_eq!(contents(&reopen(disk)), expected, "what is on the disk, round {round}");
        assert_eq!(contents(&reopen(second_disk)), expected, "what is on the replica's disk, round {round}");
        kept += expected.len();
    }
    // A round whose writes all fall into one window that is reverted leaves nothing; not every round does.
    assert!(kept > 0, "no round has kept anything");
}
