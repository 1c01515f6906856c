//! A monitor's store in a bucket: each key is an item of one vbucket, and so is how far the pulls are.
//!
//! One vbucket, because only there are mutations kept in order: whoever has the position has everything before it, on
//! every disk and every replica.

use core::ops::{Bound, RangeInclusive};
use core::time::Duration;
use std::collections::HashSet;

use bytes::Bytes;
use cuttlebone_bucket::{Error as BucketError, Mode, VbucketId, VbucketState};
use cuttlebone_checkpoint::{CheckpointId, Item};
use cuttlebone_driver::Clock;
use cuttlebone_monsync::SyncKind;
use cuttlebone_store::{Origin, ProviderFault};
use cuttlebone_wire::{Decode, Encode, Features, Op, OpKind, Reader, Transaction, Uuid, Writer};

use crate::clock::now;
use crate::keeper::Latest;
use crate::{Error, NodeBucket};

/// Where the position is kept: no prefix of a monitor's store is empty.
const POSITION: &[u8] = b"\0cuttlebone\0monsync";
/// The prefix under which a monitor keeps its versions, each a transaction.
///
/// Source: `ceph/ceph:src/mon/Paxos.cc`, `Paxos::get_name`; seen in 16.2.15.
const PAXOS: &[u8] = b"paxos";
const LAST_COMMITTED: &[u8] = b"last_committed";
/// How long to wait for room in memory, or for the end of a revert, before the same item is tried again.
const PAUSE: Duration = Duration::from_millis(10);
/// How often: ten minutes. A disk that is behind for so long is broken, and the pull fails.
const PAUSES_MAX: u32 = 60_000;

/// One vbucket that a source fills. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    bucket: NodeBucket,
    vbucket: VbucketId,
    clock: Clock,
}

/// A pull in progress.
#[derive(Debug)]
pub(crate) struct Gathering {
    gather: Gather,
    /// The last revert before this pull began. Another one since undid a part of it.
    reverted: Option<CheckpointId>,
    /// Of a full pull: the keys it has brought. All others go in the end.
    seen: Option<HashSet<Box<[u8]>>>,
}

/// `prefix`, a NUL byte, `key`: as the monitor's own store has it, and `list-crc` takes it apart again.
fn joined(prefix: &[u8], key: &[u8]) -> Vec<u8> {
    [prefix, b"\0", key].concat()
}

impl Gather {
    /// Makes the vbucket if there is none.
    pub(crate) fn new(bucket: NodeBucket, vbucket: VbucketId, clock: Clock) -> Result<Self, Error> {
        match bucket.create(vbucket, now(&clock), VbucketState::Active) {
            Ok(()) | Err(BucketError::Exists) => {}
            Err(error) => return Err(error.into()),
        }
        if bucket.status(vbucket)?.state != VbucketState::Active {
            return Err(Error::Config("a source cannot fill a vbucket that follows another node"));
        }
        Ok(Self { bucket, vbucket, clock })
    }

    /// How far the pulls are. A position that cannot be read counts as none: then everything is pulled.
    pub(crate) fn latest(&self) -> Option<Latest> {
        let found = self.bucket.peek(self.vbucket, POSITION).ok()?;
        let (fsid, last_committed) = decode_position(found.item.value())?;
        Some(Latest { last_committed, fsid, point: None })
    }

    pub(crate) fn begin(&self, kind: SyncKind) -> Result<Gathering, Error> {
        // In this order: a revert between the two is found out by the position, a later one by the number.
        let reverted = self.last_revert()?;
        let at = self.latest().map(|latest| latest.last_committed);
        if let SyncKind::Recent { after } = kind
            && at != Some(after.0)
        {
            return Err(Error::Reverted);
        }
        let seen = (kind == SyncKind::Full).then(HashSet::new);
        Ok(Gathering { gather: self.clone(), reverted, seen })
    }

    fn last_revert(&self) -> Result<Option<CheckpointId>, Error> {
        Ok(self.bucket.status(self.vbucket)?.reverted.map(|(barrier, _, _)| barrier))
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if self.value(key)?.as_deref() == Some(value) {
            return Ok(());
        }
        let item = Item::set(key, value).map_err(BucketError::from)?;
        self.patiently(|bucket| bucket.set(self.vbucket, now(&self.clock), item.clone(), Mode::Set).map(drop))
    }

    fn erase(&self, key: &[u8]) -> Result<(), Error> {
        self.patiently(|bucket| match bucket.delete(self.vbucket, now(&self.clock), key, None) {
            Ok(_) | Err(BucketError::NotFound) => Ok(()),
            Err(error) => Err(error),
        })
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.bucket.peek(self.vbucket, key) {
            Ok(found) => Ok(Some(found.item.value().to_vec())),
            Err(BucketError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits while memory is full and while a revert is going on. This is a thread of its own.
    fn patiently(
        &self,
        mut operation: impl FnMut(&NodeBucket) -> Result<(), BucketError>,
    ) -> Result<(), Error> {
        for _ in 0..PAUSES_MAX {
            match operation(&self.bucket) {
                Err(BucketError::Temporary | BucketError::Parked) => std::thread::park_timeout(PAUSE),
                decided => return Ok(decided?),
            }
        }
        Err(BucketError::Temporary.into())
    }
}

impl Gathering {
    /// What one chunk brought.
    pub(crate) fn chunk(&mut self, transaction: &Transaction) -> Result<(), Error> {
        transaction.ops.iter().try_for_each(|op| self.apply(op))
    }

    /// Applies versions that chunks have brought, in order.
    pub(crate) fn replay(&mut self, versions: RangeInclusive<u64>) -> Result<(), Error> {
        let last = *versions.end();
        for version in versions {
            let key = joined(PAXOS, version.to_string().as_bytes());
            let value = self.gather.value(&key)?.ok_or(ProviderFault::MissingVersion(version))?;
            let value = Bytes::from(value);
            let transaction = Transaction::decode(&mut Reader::new(&value))
                .map_err(|error| ProviderFault::Malformed { version, error })?;
            self.chunk(&transaction)?;
        }
        self.put(joined(PAXOS, LAST_COMMITTED), &last.to_le_bytes())
    }

    /// Everything has come: what a full pull has not brought goes, and the position says how far it is.
    pub(crate) fn commit(mut self, last_committed: u64, origin: &Origin) -> Result<(), Error> {
        let Gather { bucket, vbucket, clock } = &self.gather;
        if let Some(mut seen) = self.seen.take() {
            seen.insert(POSITION.into());
            for key in bucket.keys(*vbucket, (Bound::Unbounded, Bound::Unbounded))? {
                if !seen.contains(&key) {
                    self.gather.erase(&key)?;
                }
            }
        }
        // Written as it was, for its stamp: a revert of a window that began before this gives it another one, and a revert
        // of one that begins after it undoes nothing of the pull. What was reverted before this, the number tells.
        let old = self.gather.value(POSITION)?.unwrap_or_default();
        let write = |value: &[u8], mode| -> Result<u64, Error> {
            let item = Item::set(POSITION, value).map_err(BucketError::from)?;
            let mut stamp = 0;
            self.gather.patiently(|bucket| {
                stamp = bucket.set(*vbucket, now(clock), item.clone(), mode)?.cas;
                Ok(())
            })?;
            Ok(stamp)
        };
        let stamp = write(&old, Mode::Set)?;
        if self.gather.last_revert()? != self.reverted {
            return Err(Error::Reverted);
        }
        match write(&encode_position(origin.fsid, last_committed), Mode::Cas(stamp)) {
            Err(Error::Bucket(BucketError::Exists | BucketError::NotFound)) => Err(Error::Reverted),
            written => written.map(drop),
        }
    }

    fn apply(&mut self, op: &Op) -> Result<(), Error> {
        match op.kind {
            OpKind::Put => self.put(joined(&op.prefix, &op.key), &op.value),
            OpKind::Erase => self.erase(&joined(&op.prefix, &op.key)),
            OpKind::EraseRange => {
                let (first, end) = (joined(&op.prefix, &op.key), joined(&op.prefix, &op.end_key));
                let range = (Bound::Included(&first[..]), Bound::Excluded(&end[..]));
                let keys = self.gather.bucket.keys(self.gather.vbucket, range)?;
                keys.iter().try_for_each(|key| self.erase(key))
            }
            // Changes no key.
            OpKind::Compact => Ok(()),
        }
    }

    fn put(&mut self, key: Vec<u8>, value: &[u8]) -> Result<(), Error> {
        // What begins so is the node's own.
        if key.first() == Some(&0) {
            return Err(ProviderFault::NulInPrefix.into());
        }
        self.gather.put(&key, value)?;
        if let Some(seen) = &mut self.seen {
            seen.insert(key.into());
        }
        Ok(())
    }

    fn erase(&mut self, key: &[u8]) -> Result<(), Error> {
        if let Some(seen) = &mut self.seen {
            seen.remove(key);
        }
        self.gather.erase(key)
    }
}

impl From<ProviderFault> for Error {
    fn from(fault: ProviderFault) -> Self {
        Self::Store(fault.into())
    }
}

const POSITION_VERSION: u8 = 1;

fn encode_position(fsid: Uuid, last_committed: u64) -> Vec<u8> {
    let mut w = Writer::new(Features::default());
    w.versioned(POSITION_VERSION, POSITION_VERSION, |w| {
        fsid.encode(w);
        w.u64(last_committed);
    });
    let crc = crc32c::crc32c(w.as_slice());
    w.u32(crc);
    w.into_bytes().to_vec()
}

fn decode_position(bytes: &[u8]) -> Option<(Uuid, u64)> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let body = Bytes::copy_from_slice(body);
    let read = |r: &mut Reader<'_>, _| Ok((Uuid::decode(r)?, r.u64("last committed")?));
    Reader::new(&body).versioned("position", POSITION_VERSION, read).ok()
}
