//! One vbucket that a source fills, patiently, and without being fooled by a revert of hot reload.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;

use cuttlebone_bucket::{Error as BucketError, Mode, VbucketId, VbucketState};
use cuttlebone_checkpoint::{CheckpointId, Item};
use cuttlebone_driver::Clock;

use crate::clock::now;
use crate::{Error, NodeBucket};

/// How long to wait for room in memory, or for the end of a revert, before the same item is tried again.
const PAUSE: Duration = Duration::from_millis(10);
/// How often: ten minutes. A disk that is behind for so long is broken, and the source fails.
const PAUSES_MAX: u32 = 60_000;

/// One vbucket that a source fills. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Filling {
    pub(crate) bucket: NodeBucket,
    pub(crate) vbucket: VbucketId,
    clock: Clock,
    given_up: Arc<AtomicBool>,
}

impl Filling {
    /// Makes the vbucket if there is none.
    pub(crate) fn new(bucket: NodeBucket, vbucket: VbucketId, clock: Clock) -> Result<Self, Error> {
        match bucket.create(vbucket, now(&clock), VbucketState::Active) {
            Ok(()) | Err(BucketError::Exists) => {}
            Err(error) => return Err(error.into()),
        }
        if bucket.status(vbucket)?.state != VbucketState::Active {
            return Err(Error::Config("a source cannot fill a vbucket that follows another node"));
        }
        Ok(Self { bucket, vbucket, clock, given_up: Arc::default() })
    }

    /// From now on nothing is waited for any more: whoever waits for room fails instead.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// The last revert of hot reload.
    pub(crate) fn last_revert(&self) -> Result<Option<CheckpointId>, Error> {
        Ok(self.bucket.status(self.vbucket)?.reverted.map(|(barrier, _, _)| barrier))
    }

    pub(crate) fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.bucket.peek(self.vbucket, key) {
            Ok(found) => Ok(Some(found.item.value().to_vec())),
            Err(BucketError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores a value, unless it is there already.
    pub(crate) fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if self.value(key)?.as_deref() == Some(value) {
            return Ok(());
        }
        self.set(key, value, Mode::Set).map(drop)
    }

    pub(crate) fn erase(&self, key: &[u8]) -> Result<(), Error> {
        self.patiently(|bucket| match bucket.delete(self.vbucket, now(&self.clock), key, None) {
            Ok(_) | Err(BucketError::NotFound) => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// Stores what says that something is complete, unless a revert since `reverted` may have undone a part of it.
    ///
    /// The key is written as it was first, for its stamp: a revert of a window that began before that gives it another
    /// one, and a revert of one that begins after it undoes nothing of what came before. What was reverted before that,
    /// the number tells.
    pub(crate) fn conclude(
        &self,
        key: &[u8],
        value: &[u8],
        reverted: Option<CheckpointId>,
    ) -> Result<(), Error> {
        let old = self.value(key)?.unwrap_or_default();
        let stamp = self.set(key, &old, Mode::Set)?;
        if self.last_revert()? != reverted {
            return Err(Error::Reverted);
        }
        match self.set(key, value, Mode::Cas(stamp)) {
            Err(Error::Bucket(BucketError::Exists | BucketError::NotFound)) => Err(Error::Reverted),
            written => written.map(drop),
        }
    }

    fn set(&self, key: &[u8], value: &[u8], mode: Mode) -> Result<u64, Error> {
        let item = Item::set(key, value).map_err(BucketError::from)?;
        let mut stamp = 0;
        self.patiently(|bucket| {
            stamp = bucket.set(self.vbucket, now(&self.clock), item.clone(), mode)?.cas;
            Ok(())
        })?;
        Ok(stamp)
    }

    /// Waits while memory is full and while a revert is going on. This is a thread that may.
    fn patiently(
        &self,
        mut operation: impl FnMut(&NodeBucket) -> Result<(), BucketError>,
    ) -> Result<(), Error> {
        for _ in 0..PAUSES_MAX {
            match operation(&self.bucket) {
                Err(BucketError::Temporary | BucketError::Parked)
                    if !self.given_up.load(Ordering::Relaxed) =>
                {
                    std::thread::park_timeout(PAUSE);
                }
                decided => return Ok(decided?),
            }
        }
        Err(BucketError::Temporary.into())
    }
}
