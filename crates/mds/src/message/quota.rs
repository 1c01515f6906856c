use cuttlebone_wire::{Body, Decode, DecodeError, Encode, Message, MessageType, Reader, WallTime, Writer};

use crate::{Ino, Quota};

/// Tells a client how much of a quota is used: keeping to it is the client's business.
///
/// Source: `ceph/ceph:src/messages/MClientQuota.h`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct ClientQuota {
    /// The directory.
    pub ino: Ino,
    /// The newest change below.
    pub rctime: WallTime,
    /// Bytes of all files below.
    pub rbytes: u64,
    /// Files below.
    pub rfiles: u64,
    /// Directories below, itself counted.
    pub rsubdirs: u64,
    /// The limits.
    pub quota: Quota,
}

impl Body for ClientQuota {
    const KIND: MessageType = MessageType(0x314);
    const NAME: &'static str = "MClientQuota";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        Ok(Self {
            ino: Ino(r.u64("ino")?),
            rctime: WallTime::decode(r)?,
            rbytes: r.u64("rbytes")?,
            rfiles: r.u64("rfiles")?,
            rsubdirs: r.u64("rsubdirs")?,
            quota: Quota::decode(r)?,
        })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        w.u64(self.ino.0);
        self.rctime.encode(w);
        w.u64(self.rbytes);
        w.u64(self.rfiles);
        w.u64(self.rsubdirs);
        self.quota.encode(w);
    }
}
