use alloc::string::String;

use cuttlebone_wire::{Body, Decode, DecodeError, Encode, EntityAddrs, Message, MessageType, Reader, Writer};

use crate::limits::NAME_BYTES_MAX;

/// Takes over what another instance with the same `uuid` left behind.
///
/// Source: `ceph/ceph:src/messages/MClientReclaim.h`; not seen on a wire yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct ClientReclaim {
    /// What both instances said of themselves.
    pub uuid: String,
    /// Bit 0: the old instance is to be thrown out; bit 31: taking over is done.
    pub flags: u32,
}

impl Body for ClientReclaim {
    const KIND: MessageType = MessageType(27);
    const NAME: &'static str = "MClientReclaim";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        Ok(Self { uuid: r.text("uuid", NAME_BYTES_MAX)?, flags: r.u32("flags")? })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        w.text(&self.uuid);
        w.u32(self.flags);
    }
}

/// How that went.
///
/// Source: `ceph/ceph:src/messages/MClientReclaimReply.h`; not seen on a wire yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct ClientReclaimReply {
    /// 0, or a negative errno as Linux numbers it.
    pub result: i32,
    /// The object map that shuts the old instance out.
    pub epoch: u32,
    /// Where the old instance was.
    pub addrs: EntityAddrs,
}

impl Body for ClientReclaimReply {
    const KIND: MessageType = MessageType(28);
    const NAME: &'static str = "MClientReclaimReply";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        Ok(Self { result: r.i32("result")?, epoch: r.u32("epoch")?, addrs: EntityAddrs::decode(r)? })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        w.i32(self.result);
        w.u32(self.epoch);
        self.addrs.encode(w);
    }
}
