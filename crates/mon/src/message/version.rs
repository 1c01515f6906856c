use alloc::string::String;

use cuttlebone_wire::{DecodeError, Message, MessageType, Priority, Reader, Writer};

use super::Body;

/// Asks how new a map is. For a map that the monitor does not know there is no answer at all.
///
/// Source: `ceph/ceph:src/messages/MMonGetVersion.h`; seen in 16.2.15, corpus objects of 11.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct GetVersion {
    /// Comes back in the answer.
    pub handle: u64,
    /// The map: `monmap`, `osdmap`, `mdsmap` or `fsmap`.
    pub what: String,
}

/// Longest name of a map that we accept, in bytes.
const NAME_BYTES_MAX: usize = 4096;

impl Body for GetVersion {
    const KIND: MessageType = MessageType(19);
    const NAME: &'static str = "MMonGetVersion";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        Ok(Self { handle: r.u64("handle")?, what: r.text("what", NAME_BYTES_MAX)? })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        w.u64(self.handle);
        w.text(&self.what);
    }
}

/// How new a map is.
///
/// Source: `ceph/ceph:src/messages/MMonGetVersionReply.h`; seen in 16.2.15, corpus objects of 11.2.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct GetVersionReply {
    /// That of the question.
    pub handle: u64,
    /// The newest version.
    pub version: u64,
    /// The oldest version that is still kept; from version 2 on.
    pub oldest: u64,
}

impl Body for GetVersionReply {
    const KIND: MessageType = MessageType(20);
    const NAME: &'static str = "MMonGetVersionReply";
    const VERSION: u16 = 2;
    const COMPAT: u16 = 2;
    const PRIORITY: Priority = Priority::HIGH;

    fn decode_front(r: &mut Reader<'_>, version: u16, _message: &Message) -> Result<Self, DecodeError> {
        Ok(Self {
            handle: r.u64("handle")?,
            version: r.u64("version")?,
            oldest: if version >= 2 { r.u64("oldest version")? } else { 0 },
        })
    }

    fn encode_front(&self, w: &mut Writer, version: u16) {
        w.u64(self.handle);
        w.u64(self.version);
        if version >= 2 {
            w.u64(self.oldest);
        }
    }
}
