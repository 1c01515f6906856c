use alloc::vec::Vec;

use cuttlebone_wire::{Body, DecodeError, Message, MessageType, Reader, Writer};

use crate::limits::LIST_MAX;
use crate::{CapId, Ino};

/// Gives capabilities back that nothing uses and nothing is to be written back of. There is no answer.
///
/// Source: `ceph/ceph:src/messages/MClientCapRelease.h`; version 2 seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct ClientCapRelease {
    /// Which.
    pub caps: Vec<CapRelease>,
    /// The object map that others have to have before they use the objects; from version 2 on.
    pub osd_epoch_barrier: u32,
}

/// One capability that is given back.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `struct ceph_mds_cap_item`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "24 bytes for ever")]
pub struct CapRelease {
    /// The inode.
    pub ino: Ino,
    /// Which capability of it.
    pub cap_id: CapId,
    /// How often it has moved.
    pub mseq: u32,
    /// The seq of the last reply that carried it: with another one the server keeps the capability.
    pub issue_seq: u32,
}

impl Body for ClientCapRelease {
    const KIND: MessageType = MessageType(0x313);
    const NAME: &'static str = "MClientCapRelease";
    const VERSION: u16 = 2;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, version: u16, _message: &Message) -> Result<Self, DecodeError> {
        let caps = r.list("caps", LIST_MAX, 24, |r| {
            Ok(CapRelease {
                ino: Ino(r.u64("ino")?),
                cap_id: CapId(r.u64("cap_id")?),
                mseq: r.u32("migrate_seq")?,
                issue_seq: r.u32("issue_seq")?,
            })
        })?;
        let osd_epoch_barrier = if version >= 2 { r.u32("osd_epoch_barrier")? } else { 0 };
        Ok(Self { caps, osd_epoch_barrier })
    }

    fn encode_front(&self, w: &mut Writer, version: u16) {
        w.list(&self.caps, |w, cap| {
            w.u64(cap.ino.0);
            w.u64(cap.cap_id.0);
            w.u32(cap.mseq);
            w.u32(cap.issue_seq);
        });
        if version >= 2 {
            w.u32(self.osd_epoch_barrier);
        }
    }
}
