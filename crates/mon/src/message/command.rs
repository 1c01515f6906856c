use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use cuttlebone_wire::{Decode, DecodeError, Encode, Message, MessageType, Priority, Reader, Uuid, Writer};

use super::Body;

/// What messages to services on top of Paxos start with. Only the version ever mattered; the rest is dead, and kept so
/// that a message that is written again is the same.
///
/// Source: `ceph/ceph:src/messages/PaxosServiceMessage.h`; seen in 16.2.15 as 0, -1, 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "three fields for ever")]
pub struct PaxosPrefix {
    /// The version of the service's map that the sender knows; usually 0.
    pub version: u64,
    /// Once the monitor of the session.
    pub session_mon: i16,
    /// Once the tid there.
    pub session_mon_tid: u64,
}

impl Default for PaxosPrefix {
    fn default() -> Self {
        Self { version: 0, session_mon: -1, session_mon_tid: 0 }
    }
}

impl Decode for PaxosPrefix {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: r.u64("paxos version")?,
            session_mon: r.i16("session mon")?,
            session_mon_tid: r.u64("session mon tid")?,
        })
    }
}

impl Encode for PaxosPrefix {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.version);
        w.i16(self.session_mon);
        w.u64(self.session_mon_tid);
    }
}

/// A command for the monitors: what `ceph` sends.
///
/// Source: `ceph/ceph:src/messages/MMonCommand.h`; seen in 16.2.15, corpus objects of 11.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct Command {
    /// Dead weight.
    pub paxos: PaxosPrefix,
    /// The cluster it is meant for.
    pub fsid: Uuid,
    /// JSON documents, normally one.
    pub command: Vec<Bytes>,
    /// What the command reads: a map, a key, a value.
    pub input: Bytes,
}

/// Most strings that we accept in a command.
const STRINGS_MAX: usize = 1024;
/// Longest string that we accept, in bytes.
const STRING_BYTES_MAX: usize = 16 * 1024 * 1024;

fn decode_strings(r: &mut Reader<'_>) -> Result<Vec<Bytes>, DecodeError> {
    r.list("cmd", STRINGS_MAX, 4, |r| r.blob("cmd", STRING_BYTES_MAX))
}

impl Body for Command {
    const KIND: MessageType = MessageType(50);
    const NAME: &'static str = "MMonCommand";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, _version: u16, message: &Message) -> Result<Self, DecodeError> {
        Ok(Self {
            paxos: PaxosPrefix::decode(r)?,
            fsid: Uuid::decode(r)?,
            command: decode_strings(r)?,
            input: message.data.clone(),
        })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        self.paxos.encode(w);
        self.fsid.encode(w);
        w.list(&self.command, |w, string| w.blob(string));
    }

    fn data(&self) -> Bytes {
        self.input.clone()
    }
}

/// How a command went; its tid is that of the command.
///
/// Source: `ceph/ceph:src/messages/MMonCommandAck.h`; seen in 16.2.15, corpus objects of 11.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct CommandAck {
    /// Dead weight.
    pub paxos: PaxosPrefix,
    /// 0, or a negative errno as Linux numbers it.
    pub result: i32,
    /// What to tell the user; not necessarily UTF-8.
    pub status: Bytes,
    /// The command.
    pub command: Vec<Bytes>,
    /// What the command writes.
    pub output: Bytes,
}

impl CommandAck {
    /// What to tell the user.
    pub fn status_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.status)
    }
}

impl Body for CommandAck {
    const KIND: MessageType = MessageType(51);
    const NAME: &'static str = "MMonCommandAck";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: Priority = Priority::HIGH;

    fn decode_front(r: &mut Reader<'_>, _version: u16, message: &Message) -> Result<Self, DecodeError> {
        Ok(Self {
            paxos: PaxosPrefix::decode(r)?,
            result: r.i32("r")?,
            status: r.blob("rs", STRING_BYTES_MAX)?,
            command: decode_strings(r)?,
            output: message.data.clone(),
        })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        self.paxos.encode(w);
        w.i32(self.result);
        w.blob(&self.status);
        w.list(&self.command, |w, string| w.blob(string));
    }

    fn data(&self) -> Bytes {
        self.output.clone()
    }
}

#[cfg(feature = "serde")]
mod json {
    use super::{Command, CommandAck, String, Vec};
    use bytes::Bytes;
    use serde::ser::{Serialize, SerializeStruct, Serializer};

    fn texts(strings: &[Bytes]) -> Vec<String> {
        strings.iter().map(|string| String::from_utf8_lossy(string).into_owned()).collect()
    }

    impl Serialize for Command {
        /// The input is shown by its length: it may be a key.
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut object = serializer.serialize_struct("Command", 4)?;
            object.serialize_field("paxos", &self.paxos)?;
            object.serialize_field("fsid", &self.fsid)?;
            object.serialize_field("cmd", &texts(&self.command))?;
            object.serialize_field("input_bytes", &self.input.len())?;
            object.end()
        }
    }

    impl Serialize for CommandAck {
        /// The output is shown by its length: it may be a key.
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut object = serializer.serialize_struct("CommandAck", 5)?;
            object.serialize_field("paxos", &self.paxos)?;
            object.serialize_field("r", &self.result)?;
            object.serialize_field("rs", &self.status_text())?;
            object.serialize_field("cmd", &texts(&self.command))?;
            object.serialize_field("output_bytes", &self.output.len())?;
            object.end()
        }
    }
}
