//! A bucket on a disk in memory, and replicas of it.

#![allow(dead_code, reason = "each suite uses a part")]

use core::time::Duration;

use cuttlebone_bucket::engine::MemoryEngine;
use cuttlebone_bucket::{
    Bucket, BucketLimits, Error, Event, Mode, Now, Position, ReplicationStream, Stored, VbucketState,
};
use cuttlebone_checkpoint::{Item, Limits, Seqno};
use cuttlebone_machine::Instant;

/// The vbucket of most tests.
pub(crate) const V: u16 = 0;

/// Seconds since 1970, and as many since the start.
pub(crate) fn now(unix: u32) -> Now {
    Now { at: Instant::ZERO + Duration::from_secs(unix.into()), unix }
}

/// Where a replica is that has everything of a branch up to a change, and nothing after it.
pub(crate) fn position(branch: u64, seqno: u64) -> Position {
    let seqno = Seqno(seqno);
    Position { branch, seqno, snapshot_start: seqno, snapshot_end: seqno, ..Position::default() }
}

pub(crate) struct World {
    pub(crate) bucket: Bucket<MemoryEngine>,
    pub(crate) disk: MemoryEngine,
    stream: Option<ReplicationStream<MemoryEngine>>,
    seed: u64,
}

pub(crate) fn limits() -> BucketLimits {
    BucketLimits {
        log: Limits { items_max: 10, ..Limits::default() },
        flush_rows: 25,
        ..BucketLimits::default()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self::open(MemoryEngine::default(), 1);
        world.bucket.create(V, now(0), VbucketState::Active).unwrap();
        world
    }

    pub(crate) fn open(disk: MemoryEngine, seed: u64) -> Self {
        let bucket = Bucket::open(disk.clone(), limits(), now(0), seed).unwrap();
        Self { bucket, disk, stream: None, seed }
    }

    /// What another process would find on the disk now. This one goes on, so it is given a disk of its own.
    pub(crate) fn after_a_kill(&self) -> Self {
        Self::open(self.disk.detached(), self.seed + 1)
    }

    pub(crate) fn try_set(&self, key: &str, value: &str) -> Result<Stored, Error> {
        self.bucket.set(V, now(0), Item::set(key.as_bytes(), value.as_bytes()).unwrap(), Mode::Set)
    }

    pub(crate) fn set(&self, key: &str, value: &str) {
        self.try_set(key, value).unwrap();
    }

    pub(crate) fn set_flags(&self, key: &str, value: &str, flags: u32) {
        let item = Item::set(key.as_bytes(), value.as_bytes()).unwrap().with_flags(flags);
        self.bucket.set(V, now(0), item, Mode::Set).unwrap();
    }

    pub(crate) fn delete(&self, key: &str) {
        self.bucket.delete(V, now(0), key.as_bytes(), None).unwrap();
    }

    pub(crate) fn revert(&self) {
        self.bucket.revert_update(now(0), || now(0)).unwrap();
        self.check();
    }

    pub(crate) fn check(&self) {
        self.bucket.recount().unwrap();
    }

    /// The value, also of a replica: for that one through a bucket that took over, so that nothing here changes.
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        match self.bucket.peek(V, key.as_bytes()) {
            Ok(found) => Some(String::from_utf8(found.item.value().to_vec()).unwrap()),
            Err(Error::NotFound) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// An empty replica that is connected.
    pub(crate) fn replica(&self) -> Self {
        let mut replica = Self::open(MemoryEngine::default(), self.seed + 100);
        replica.bucket.create(V, now(0), VbucketState::Replica).unwrap();
        replica.reconnect(self);
        replica
    }

    pub(crate) fn disconnect(&mut self) {
        self.stream = None;
    }

    pub(crate) fn reconnect(&mut self, producer: &Self) {
        self.stream = None;
        let position = self.bucket.position(V).unwrap();
        self.stream = Some(producer.bucket.stream(V, "replica", position).unwrap());
    }

    /// Applies everything that the producer has now; reconnects when the stream is over.
    pub(crate) fn follow(&mut self, producer: &Self) {
        loop {
            let stream = self.stream.as_mut().unwrap();
            match stream.try_next() {
                Ok(Some(event)) => {
                    self.take_in(&event);
                    let stream = self.stream.as_mut().unwrap();
                    stream.acknowledge(stream.events());
                }
                Ok(None) => break,
                Err(Error::StreamOver) => self.reconnect(producer),
                Err(error) => panic!("{error}"),
            }
        }
        self.check();
        producer.check();
    }

    fn take_in(&self, event: &Event) {
        loop {
            match self.bucket.apply(V, now(0), event.clone()) {
                Ok(()) => return,
                // What came before the window has to be on the disk first.
                Err(Error::NotDrained) => drop(self.bucket.flush().unwrap()),
                Err(error) => panic!("{event:?}: {error:?}"),
            }
        }
    }
}
