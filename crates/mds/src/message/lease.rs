use core::time::Duration;

use bytes::Bytes;
use cuttlebone_wire::{
    Body, Decode, DecodeError, DecodeErrorKind, Encode, Message, MessageType, Reader, Writer,
};

use crate::limits::NAME_BYTES_MAX;
use crate::{Ino, SnapId};

/// Takes back, gives back or prolongs the lease of a name; both sides send it.
///
/// A server aborts on an action that it does not expect from a client, which is why clients build theirs with
/// [`revoke_ack`](Self::revoke_ack), [`renew`](Self::renew) and [`release`](Self::release).
///
/// Source: `ceph/ceph:src/messages/MClientLease.h`; seen in 16.2.15.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClientLease {
    /// What it is.
    pub action: LeaseAction,
    /// 1: there is only one kind of lease.
    pub mask: u16,
    /// The directory.
    pub ino: Ino,
    /// The first snapshot for which the name holds.
    pub first: SnapId,
    /// The last one.
    pub last: SnapId,
    /// Counts the leases of this name.
    pub seq: u32,
    /// How long, from when the renewal was sent.
    pub duration: Duration,
    /// The name.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub dname: Bytes,
}

/// What a message about a lease is.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_MDS_LEASE_*`; all seen in 16.2.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum LeaseAction {
    /// The server takes it back, and waits for the answer.
    Revoke,
    /// The client gives it back.
    Release,
    /// The client wants it for longer, or has it.
    Renew,
    /// The client has dropped it.
    RevokeAck,
}

/// In the order of their numbers, which begin at 1.
const ACTIONS: [LeaseAction; 4] =
    [LeaseAction::Revoke, LeaseAction::Release, LeaseAction::Renew, LeaseAction::RevokeAck];

/// The only kind of lease.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_LOCK_DN`; seen in 16.2.15.
const MASK_DENTRY: u16 = 1;

impl ClientLease {
    /// The answer to a lease that is taken back, also for names that the client does not know. `seq` is the newest
    /// that it has seen, if that is newer than the message's.
    ///
    /// Source: `torvalds/linux:fs/ceph/mds_client.c`, `handle_lease`.
    #[must_use]
    pub fn revoke_ack(&self, seq: Option<u32>) -> Self {
        let seq = seq.filter(|seq| seq.wrapping_sub(self.seq).cast_signed() > 0).unwrap_or(self.seq);
        Self { action: LeaseAction::RevokeAck, seq, ..self.clone() }
    }

    /// Asks for more time.
    pub fn renew(dir: Ino, dname: Bytes, seq: u32) -> Self {
        Self::new(LeaseAction::Renew, dir, dname, seq)
    }

    /// Gives a lease back.
    pub fn release(dir: Ino, dname: Bytes, seq: u32) -> Self {
        Self::new(LeaseAction::Release, dir, dname, seq)
    }

    /// A message about the live version of a name.
    pub fn new(action: LeaseAction, dir: Ino, dname: Bytes, seq: u32) -> Self {
        let duration = Duration::ZERO;
        Self {
            action,
            mask: MASK_DENTRY,
            ino: dir,
            first: SnapId::HEAD,
            last: SnapId::HEAD,
            seq,
            duration,
            dname,
        }
    }
}

impl Decode for LeaseAction {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let value = r.u8("lease action")?;
        let known = value.checked_sub(1).and_then(|index| ACTIONS.get(usize::from(index)));
        let unknown = || r.error("lease action", DecodeErrorKind::Unknown { value: value.into() });
        known.copied().ok_or_else(unknown)
    }
}

impl Encode for LeaseAction {
    fn encode(&self, w: &mut Writer) {
        w.u8(match self {
            Self::Revoke => 1,
            Self::Release => 2,
            Self::Renew => 3,
            Self::RevokeAck => 4,
        });
    }
}

impl Body for ClientLease {
    const KIND: MessageType = MessageType(0x311);
    const NAME: &'static str = "MClientLease";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        Ok(Self {
            action: LeaseAction::decode(r)?,
            mask: r.u16("mask")?,
            ino: Ino(r.u64("ino")?),
            first: SnapId(r.u64("first")?),
            last: SnapId(r.u64("last")?),
            seq: r.u32("seq")?,
            duration: Duration::from_millis(r.u32("duration_ms")?.into()),
            dname: r.blob("dname", NAME_BYTES_MAX)?,
        })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        self.action.encode(w);
        w.u16(self.mask);
        w.u64(self.ino.0);
        w.u64(self.first.0);
        w.u64(self.last.0);
        w.u32(self.seq);
        w.u32(u32::try_from(self.duration.as_millis()).unwrap_or(u32::MAX));
        w.blob(&self.dname);
    }
}
