use core::ops::Bound;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::{Arc, Mutex, PoisonError};

use cuttlebone_bucket::engine::Engine;
use cuttlebone_bucket::{
    Bucket, Error, Event, Now, Position, ReplicationStream, UpdateStats, VbucketId, VbucketStatus,
};
use cuttlebone_tokens::{Epoch, FenceGate};
use futures::Stream;
use futures::stream::BoxStream;
use tokio::sync::Semaphore;

use crate::changes::STREAMS_MAX;

/// A bucket as the face uses it, whatever its disk is.
#[derive(Clone)]
pub(crate) struct Keeping {
    pub(crate) bucket: Arc<dyn AnyBucket>,
    pub(crate) gate: FenceGate,
    /// Places for streams of changes, each of which has a thread.
    pub(crate) places: Arc<Semaphore>,
    /// The incarnation that has begun the window of hot reload, if it was begun here.
    begun_by: Arc<Mutex<Option<Epoch>>>,
}

impl Keeping {
    pub(crate) fn new<E: Engine>(
        bucket: Bucket<E>,
        gate: FenceGate,
        now: impl Fn() -> Now + Send + Sync + 'static,
    ) -> Self
    where
        E::Snapshot: Unpin,
    {
        let bucket = Arc::new(Timed { bucket, now: Box::new(now) });
        Self { bucket, gate, places: Arc::new(Semaphore::new(STREAMS_MAX)), begun_by: Arc::default() }
    }

    pub(crate) fn begun_by(&self) -> Option<Epoch> {
        *self.begun_by.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_begun_by(&self, epoch: Option<Epoch>) {
        *self.begun_by.lock().unwrap_or_else(PoisonError::into_inner) = epoch;
    }
}

/// A key and its checksum.
pub(crate) type Sum = (u32, Box<[u8]>);

/// What the face asks of a bucket. May wait for the disk, so never on the runtime's own threads.
pub(crate) trait AnyBucket: Send + Sync {
    fn start_update(&self) -> Result<(), Error>;
    fn complete_update(&self) -> Result<(), Error>;
    fn revert_update(&self) -> Result<(), Error>;
    fn update_stats(&self) -> UpdateStats;
    fn status(&self, vbucket: VbucketId) -> Result<VbucketStatus, Error>;
    /// Every change after `position`; taking one says that those before it have arrived.
    fn changes(
        &self,
        vbucket: VbucketId,
        cursor: &str,
        position: Position,
    ) -> Result<BoxStream<'static, Result<Event, Error>>, Error>;
    /// Every key in order, each with its checksum.
    fn checksums(&self, vbucket: VbucketId) -> Result<Vec<Sum>, Error>;
}

struct Timed<E> {
    bucket: Bucket<E>,
    now: Box<dyn Fn() -> Now + Send + Sync>,
}

impl<E: Engine> AnyBucket for Timed<E>
where
    E::Snapshot: Unpin,
{
    fn start_update(&self) -> Result<(), Error> {
        self.bucket.start_update((self.now)())
    }

    fn complete_update(&self) -> Result<(), Error> {
        self.bucket.complete_update((self.now)())
    }

    fn revert_update(&self) -> Result<(), Error> {
        self.bucket.revert_update((self.now)(), &*self.now)
    }

    fn update_stats(&self) -> UpdateStats {
        self.bucket.update_stats()
    }

    fn status(&self, vbucket: VbucketId) -> Result<VbucketStatus, Error> {
        self.bucket.status(vbucket)
    }

    fn changes(
        &self,
        vbucket: VbucketId,
        cursor: &str,
        position: Position,
    ) -> Result<BoxStream<'static, Result<Event, Error>>, Error> {
        Ok(Box::pin(Taken(self.bucket.stream(vbucket, cursor, position)?)))
    }

    fn checksums(&self, vbucket: VbucketId) -> Result<Vec<Sum>, Error> {
        let keys = self.bucket.keys(vbucket, (Bound::Unbounded, Bound::Unbounded))?;
        let sums = keys.into_iter().map(|key| match self.bucket.peek(vbucket, &key) {
            Ok(found) => Ok(Some((checksum(&key, found.item.value()), key))),
            // Removed since the keys were listed.
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        });
        sums.filter_map(Result::transpose).collect()
    }
}

/// The checksum of a key and its value, without the NUL byte that ends the key's first part.
///
/// Source: `ceph/ceph:src/tools/kvstore_tool.cc`, `StoreTool::list`; as `cuttlebone-store` has it, seen in 16.2.15.
fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let parts = key.splitn(2, |byte| *byte == 0);
    parts.chain([value]).fold(0, cuttlebone_wire::crc32c)
}

/// A stream whose reader acknowledges an event by asking for the next.
struct Taken<E: Engine>(ReplicationStream<E>);

impl<E: Engine> Stream for Taken<E>
where
    E::Snapshot: Unpin,
{
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = &mut self.get_mut().0;
        stream.acknowledge(stream.events());
        Pin::new(stream).poll_next(cx)
    }
}
