//! Clients wait for no flush: the disk takes as long as it likes, and everybody is answered meanwhile.
//!
//! A commit of these tests goes on only when the answers are there, so who waits for it waits for ever.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

use core::ops::Range;
use core::time::Duration;
use std::sync::{Arc, Barrier, Mutex};

use cuttlebone_bucket::engine::{Engine, EngineError, MemoryEngine, MemorySnapshot, RowAt, WriteBatch};
use cuttlebone_bucket::{Bucket, BucketLimits, Count, Error, Goal, Mode, Now, Position, VbucketState};
use cuttlebone_checkpoint::{Item, Seqno};

const V: u16 = 0;

fn now() -> Now {
    Now::default()
}

/// A disk of which one commit waits at a barrier: once when it has come, and once until it may go.
#[derive(Clone, Debug, Default)]
struct Slow {
    disk: MemoryEngine,
    stop: Arc<Mutex<Option<Arc<Barrier>>>>,
}

impl Slow {
    fn stop_at_the_next_commit(&self) -> Arc<Barrier> {
        let barrier = Arc::new(Barrier::new(2));
        *self.stop.lock().unwrap() = Some(Arc::clone(&barrier));
        barrier
    }
}

impl Engine for Slow {
    type Snapshot = MemorySnapshot;

    fn apply(&self, batch: &WriteBatch) -> Result<u64, EngineError> {
        let stop = self.stop.lock().unwrap().take();
        if let Some(barrier) = stop {
            barrier.wait();
            barrier.wait();
        }
        self.disk.apply(batch)
    }

    fn row(&self, at: RowAt) -> Result<Option<Vec<u8>>, EngineError> {
        self.disk.row(at)
    }

    fn snapshot(&self) -> Result<MemorySnapshot, EngineError> {
        self.disk.snapshot()
    }

    fn documents(&self) -> Result<Vec<(u16, Vec<u8>)>, EngineError> {
        self.disk.documents()
    }

    fn span(&self) -> Range<u64> {
        self.disk.span()
    }
}

fn item(key: &str, value: &[u8]) -> Item {
    Item::set(key.as_bytes(), value).unwrap()
}

/// Does `meanwhile` between the beginning and the end of a commit that has the key "flushing" in it.
fn during_a_commit(meanwhile: impl FnOnce(&Bucket<Slow>)) {
    let disk = Slow::default();
    let bucket = Bucket::open(disk.clone(), BucketLimits::default(), now(), 1).unwrap();
    bucket.create(V, now(), VbucketState::Active).unwrap();
    for key in ["clean", "cold"] {
        bucket.set(V, now(), item(key, b"1"), Mode::Set).unwrap();
    }
    bucket.flush_all().unwrap();
    bucket.evict(V, now(), b"cold").unwrap();
    bucket.set(V, now(), item("flushing", b"1"), Mode::Set).unwrap();
    let commit = disk.stop_at_the_next_commit();
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| bucket.flush().unwrap().mutations);
        commit.wait();
        meanwhile(&bucket);
        commit.wait();
        assert_eq!(flusher.join().unwrap(), 1);
    });
    bucket.flush_all().unwrap();
    bucket.recount().unwrap();
}

#[test]
fn a_get_is_answered_while_the_disk_writes() {
    during_a_commit(|bucket| {
        for key in ["clean", "flushing", "cold"] {
            assert_eq!(bucket.get(V, now(), key.as_bytes()).unwrap().item.value(), b"1", "{key}");
            assert_eq!(bucket.peek(V, key.as_bytes()).unwrap().item.value(), b"1", "{key}");
        }
        assert!(matches!(bucket.get(V, now(), b"none"), Err(Error::NotFound)));
        assert!(matches!(bucket.evict(V, now(), b"flushing"), Err(Error::Dirty)));
    });
}

#[test]
fn every_other_operation_is_answered_while_the_disk_writes() {
    during_a_commit(|bucket| {
        for key in ["clean", "flushing", "cold", "none"] {
            bucket.set(V, now(), item(key, b"2"), Mode::Set).unwrap();
            bucket.count(V, now(), key.as_bytes(), Count::Up(1), None, None).unwrap();
            bucket.append(V, now(), key.as_bytes(), b"!", None).unwrap();
            bucket.touch(V, now(), key.as_bytes(), 0).unwrap();
            let held = bucket.get_and_lock(V, now(), key.as_bytes(), Duration::from_secs(1)).unwrap();
            bucket.unlock(V, now(), key.as_bytes(), held.cas).unwrap();
            bucket.delete(V, now(), key.as_bytes(), None).unwrap();
        }
        assert!(bucket.status(V).unwrap().log.unpersisted > 0);
        drop(bucket.persisted(V, Goal::Seqno(Seqno(1)), None).unwrap());
        bucket.tick(now());
        bucket.start_update(now()).unwrap();
        bucket.complete_update(now()).unwrap();
        bucket.create(V + 1, now(), VbucketState::Active).unwrap();
    });
}

#[test]
fn a_stream_that_has_begun_goes_on_while_the_disk_writes() {
    let disk = Slow::default();
    let bucket = Bucket::open(disk.clone(), BucketLimits::default(), now(), 1).unwrap();
    bucket.create(V, now(), VbucketState::Active).unwrap();
    let mut stream = bucket.stream(V, "one", Position::default()).unwrap();
    while stream.try_next().unwrap().is_some() {}
    bucket.set(V, now(), item("flushing", b"1"), Mode::Set).unwrap();
    let commit = disk.stop_at_the_next_commit();
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| bucket.flush().unwrap());
        commit.wait();
        bucket.set(V, now(), item("after", b"1"), Mode::Set).unwrap();
        let mut items = 0;
        while let Some(event) = stream.try_next().unwrap() {
            items += u32::from(matches!(event, cuttlebone_bucket::Event::Item(_)));
        }
        assert_eq!(items, 2);
        commit.wait();
        flusher.join().unwrap();
    });
}
