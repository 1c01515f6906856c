//! A monitor's store in a bucket: each key is an item of one vbucket, and so is how far the pulls are.
//!
//! One vbucket, because only there are mutations kept in order: whoever has the position has everything before it, on
//! every disk and every replica.

use core::ops::{Bound, RangeInclusive};
use std::collections::HashSet;

use bytes::Bytes;
use cuttlebone_bucket::VbucketId;
use cuttlebone_checkpoint::CheckpointId;
use cuttlebone_driver::Clock;
use cuttlebone_monsync::SyncKind;
use cuttlebone_store::{Origin, ProviderFault};
use cuttlebone_wire::{Decode, Encode, Features, Op, OpKind, Reader, Transaction, Uuid, Writer};

use crate::filling::Filling;
use crate::keeper::Latest;
use crate::{Error, NodeBucket};

/// Where the position is kept: no prefix of a monitor's store is empty.
const POSITION: &[u8] = b"\0cuttlebone\0monsync";
/// The prefix under which a monitor keeps its versions, each a transaction.
///
/// Source: `ceph/ceph:src/mon/Paxos.cc`, `Paxos::get_name`; seen in 16.2.15.
const PAXOS: &[u8] = b"paxos";
const LAST_COMMITTED: &[u8] = b"last_committed";
/// A vbucket with a monitor's store. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Gather(Filling);

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
        Ok(Self(Filling::new(bucket, vbucket, clock)?))
    }

    /// How far the pulls are. A position that cannot be read counts as none: then everything is pulled.
    pub(crate) fn latest(&self) -> Option<Latest> {
        let (fsid, last_committed) = decode_position(&self.0.value(POSITION).ok()??)?;
        Some(Latest { last_committed, fsid, point: None })
    }

    pub(crate) fn begin(&self, kind: SyncKind) -> Result<Gathering, Error> {
        // In this order: a revert between the two is found out by the position, a later one by the number.
        let reverted = self.0.last_revert()?;
        let at = self.latest().map(|latest| latest.last_committed);
        if let SyncKind::Recent { after } = kind
            && at != Some(after.0)
        {
            return Err(Error::Reverted);
        }
        let seen = (kind == SyncKind::Full).then(HashSet::new);
        Ok(Gathering { gather: self.clone(), reverted, seen })
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
            let value = self.gather.0.value(&key)?.ok_or(ProviderFault::MissingVersion(version))?;
            let value = Bytes::from(value);
            let transaction = Transaction::decode(&mut Reader::new(&value))
                .map_err(|error| ProviderFault::Malformed { version, error })?;
            self.chunk(&transaction)?;
        }
        self.put(joined(PAXOS, LAST_COMMITTED), &last.to_le_bytes())
    }

    /// Everything has come: what a full pull has not brought goes, and the position says how far it is.
    pub(crate) fn commit(mut self, last_committed: u64, origin: &Origin) -> Result<(), Error> {
        let filling = &self.gather.0;
        if let Some(mut seen) = self.seen.take() {
            seen.insert(POSITION.into());
            for key in filling.bucket.keys(filling.vbucket, (Bound::Unbounded, Bound::Unbounded))? {
                if !seen.contains(&key) {
                    filling.erase(&key)?;
                }
            }
        }
        filling.conclude(POSITION, &encode_position(origin.fsid, last_committed), self.reverted)
    }

    fn apply(&mut self, op: &Op) -> Result<(), Error> {
        match op.kind {
            OpKind::Put => self.put(joined(&op.prefix, &op.key), &op.value),
            OpKind::Erase => self.erase(&joined(&op.prefix, &op.key)),
            OpKind::EraseRange => {
                let (first, end) = (joined(&op.prefix, &op.key), joined(&op.prefix, &op.end_key));
                let range = (Bound::Included(&first[..]), Bound::Excluded(&end[..]));
                let filling = &self.gather.0;
                let keys = filling.bucket.keys(filling.vbucket, range)?;
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
        self.gather.0.put(&key, value)?;
        if let Some(seen) = &mut self.seen {
            seen.insert(key.into());
        }
        Ok(())
    }

    fn erase(&mut self, key: &[u8]) -> Result<(), Error> {
        if let Some(seen) = &mut self.seen {
            seen.remove(key);
        }
        self.gather.0.erase(key)
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
