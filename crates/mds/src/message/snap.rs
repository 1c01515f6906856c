use alloc::vec::Vec;

use cuttlebone_wire::{
    Body, Decode, DecodeError, DecodeErrorKind, Encode, Features, Message, MessageType, Reader, Writer,
};

use crate::limits::LIST_MAX;
use crate::{Ino, SnapRealm};

/// Tells a client of a change among the realms.
///
/// Source: `ceph/ceph:src/messages/MClientSnap.h`; UPDATE and SPLIT seen in 16.2.15.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClientSnap {
    /// What changed.
    pub op: SnapOp,
    /// The realm that was split off.
    pub split: Ino,
    /// Inodes that belong to it now; to be passed over for other changes.
    pub split_inos: Vec<Ino>,
    /// Realms that are inside of it now.
    pub split_realms: Vec<Ino>,
    /// The chain of realms.
    pub realms: Vec<SnapRealm>,
}

/// What changed among the realms.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_SNAP_OP_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum SnapOp {
    /// A realm.
    Update,
    /// There is a snapshot more.
    Create,
    /// There is one less.
    Destroy,
    /// There is a realm more.
    Split,
}

/// In the order of their numbers.
const OPS: [SnapOp; 4] = [SnapOp::Update, SnapOp::Create, SnapOp::Destroy, SnapOp::Split];

impl ClientSnap {
    /// A change of these realms.
    pub const fn new(op: SnapOp, realms: Vec<SnapRealm>) -> Self {
        Self { op, split: Ino::NONE, split_inos: Vec::new(), split_realms: Vec::new(), realms }
    }
}

impl Decode for SnapOp {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let value = r.u32("snap op")?;
        let known = usize::try_from(value).ok().and_then(|index| OPS.get(index));
        known.copied().ok_or_else(|| r.error("snap op", DecodeErrorKind::Unknown { value: value.into() }))
    }
}

impl Encode for SnapOp {
    fn encode(&self, w: &mut Writer) {
        w.u32(match self {
            Self::Update => 0,
            Self::Create => 1,
            Self::Destroy => 2,
            Self::Split => 3,
        });
    }
}

impl Body for ClientSnap {
    const KIND: MessageType = MessageType(0x312);
    const NAME: &'static str = "MClientSnap";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        let op = SnapOp::decode(r)?;
        let split = Ino(r.u64("split")?);
        let inos = r.count("num_split_inos", LIST_MAX, 8)?;
        let realms = r.count("num_split_realms", LIST_MAX, 8)?;
        let trace_bytes = r.len("trace_len", usize::MAX)?;
        let list = |r: &mut Reader<'_>, field, count: usize| {
            r.within(count.saturating_mul(8), field, |r| (0..count).map(|_| r.u64(field).map(Ino)).collect())
        };
        let split_inos = list(r, "split_inos", inos)?;
        let split_realms = list(r, "split_realms", realms)?;
        let realms = r.within(trace_bytes, "snap trace", SnapRealm::decode_chain)?;
        Ok(Self { op, split, split_inos, split_realms, realms })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        let mut trace = Writer::new(Features::all_known());
        SnapRealm::encode_chain(&self.realms, &mut trace);
        self.op.encode(w);
        w.u64(self.split.0);
        w.count(self.split_inos.len());
        w.count(self.split_realms.len());
        w.count(trace.len());
        for ino in self.split_inos.iter().chain(&self.split_realms) {
            w.u64(ino.0);
        }
        w.raw(trace.as_slice());
    }
}
