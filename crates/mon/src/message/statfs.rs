use cuttlebone_wire::{Decode, DecodeError, Encode, Message, MessageType, Reader, Uuid, Writer};

use super::{Body, PaxosPrefix};

/// Asks how full the cluster is, or one of its pools.
///
/// Source: `ceph/ceph:src/messages/MStatfs.h`; answered by 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct StatFs {
    /// Dead weight.
    pub paxos: PaxosPrefix,
    /// The cluster it is meant for.
    pub fsid: Uuid,
    /// The pool, from version 2 on; without one, the cluster as a whole.
    pub pool: Option<i64>,
}

impl Body for StatFs {
    const KIND: MessageType = MessageType(13);
    const NAME: &'static str = "MStatfs";
    const VERSION: u16 = 2;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, version: u16, _message: &Message) -> Result<Self, DecodeError> {
        let (paxos, fsid) = (PaxosPrefix::decode(r)?, Uuid::decode(r)?);
        let pool = if version >= 2 && r.bool("has pool")? { Some(r.i64("pool")?) } else { None };
        Ok(Self { paxos, fsid, pool })
    }

    fn encode_front(&self, w: &mut Writer, version: u16) {
        self.paxos.encode(w);
        self.fsid.encode(w);
        if version >= 2 {
            w.bool(self.pool.is_some());
            if let Some(pool) = self.pool {
                w.i64(pool);
            }
        }
    }
}

/// How full the cluster is, or one pool.
///
/// Source: `ceph/ceph:src/messages/MStatfsReply.h`, `struct ceph_statfs`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct StatFsReply {
    /// The cluster.
    pub fsid: Uuid,
    /// The version of the monitors' statistics.
    pub version: u64,
    /// Room in all, in KiB.
    pub kib: u64,
    /// Of it used, in KiB.
    pub kib_used: u64,
    /// Of it left, in KiB.
    pub kib_available: u64,
    /// How many objects there are.
    pub objects: u64,
}

impl Body for StatFsReply {
    const KIND: MessageType = MessageType(14);
    const NAME: &'static str = "MStatfsReply";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        Ok(Self {
            fsid: Uuid::decode(r)?,
            version: r.u64("version")?,
            kib: r.u64("kb")?,
            kib_used: r.u64("kb used")?,
            kib_available: r.u64("kb avail")?,
            objects: r.u64("num objects")?,
        })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        self.fsid.encode(w);
        w.u64(self.version);
        w.u64(self.kib);
        w.u64(self.kib_used);
        w.u64(self.kib_available);
        w.u64(self.objects);
    }
}
