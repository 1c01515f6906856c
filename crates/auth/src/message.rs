use alloc::string::String;

use bytes::Bytes;
use cuttlebone_wire::{DecodeError, Encode, Features, Message, MessageType, Priority, Reader, Writer};

use crate::MethodId;

/// Longest payload, in bytes; CephX replies with every ticket stay under two thousand.
const PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// Longest error text, in bytes.
const TEXT_BYTES_MAX: usize = 4096;

/// A step of authentication as a message of its own: all of it on messenger v1, renewals on v2.
///
/// Source: `ceph/ceph:src/messages/MAuth.h`; seen in 16.2.15 and in objects of 11.2.0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the fields of the message")]
pub struct MAuth {
    /// The version of the sender's map, in the prefix that all such requests have.
    ///
    /// Source: `ceph/ceph:src/messages/PaxosServiceMessage.h`; seen in 16.2.15.
    pub version: u64,
    /// A dead field of that prefix: -1.
    pub deprecated_mon: i16,
    /// A dead field of that prefix: 0.
    pub deprecated_mon_tid: u64,
    /// The method; unknown in the first message, whose payload is a [`Hello`](crate::Hello).
    pub protocol: MethodId,
    /// The method's own bytes.
    pub payload: Bytes,
    /// The monitor map that the sender has; `None` where old senders left it out.
    pub monmap_epoch: Option<u32>,
}

impl MAuth {
    /// Its message type.
    pub const KIND: MessageType = MessageType(17);
    /// Version and compatible version of its encoding.
    pub const VERSION: u16 = 1;

    /// A step with these.
    pub const fn new(protocol: MethodId, payload: Bytes, monmap_epoch: u32) -> Self {
        Self {
            version: 0,
            deprecated_mon: -1,
            deprecated_mon_tid: 0,
            protocol,
            payload,
            monmap_epoch: Some(monmap_epoch),
        }
    }

    /// Reads the front of a message. Bytes behind the known fields are passed over.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`] that names the field.
    pub fn decode(front: &Bytes) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(front);
        Ok(Self {
            version: r.u64("version")?,
            deprecated_mon: r.i16("deprecated mon")?,
            deprecated_mon_tid: r.u64("deprecated mon tid")?,
            protocol: MethodId(r.u32("protocol")?),
            payload: r.blob("payload", PAYLOAD_BYTES_MAX)?,
            monmap_epoch: if r.is_empty() { None } else { Some(r.u32("monmap epoch")?) },
        })
    }

    /// The message that carries it.
    pub fn to_message(&self) -> Message {
        message(Self::KIND, Priority::DEFAULT, self.to_bytes(Features::PACIFIC))
    }
}

impl Encode for MAuth {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.version);
        w.i16(self.deprecated_mon);
        w.u64(self.deprecated_mon_tid);
        w.u32(self.protocol.0);
        w.blob(&self.payload);
        if let Some(epoch) = self.monmap_epoch {
            w.u32(epoch);
        }
    }
}

/// The answer to an [`MAuth`].
///
/// Source: `ceph/ceph:src/messages/MAuthReply.h`; seen in 16.2.15 and in objects of 11.2.0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the fields of the message")]
pub struct MAuthReply {
    /// The method that the acceptor chose.
    pub protocol: MethodId,
    /// 0, or a negative Linux errno.
    pub result: i32,
    /// The global id that was given away or confirmed.
    pub global_id: u64,
    /// The method's own bytes.
    pub payload: Bytes,
    /// What went wrong, for people.
    pub text: String,
}

impl MAuthReply {
    /// Its message type.
    pub const KIND: MessageType = MessageType(18);
    /// Version and compatible version of its encoding.
    pub const VERSION: u16 = 1;

    /// Reads the front of a message. Bytes behind the known fields are passed over.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`] that names the field.
    pub fn decode(front: &Bytes) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(front);
        Ok(Self {
            protocol: MethodId(r.u32("protocol")?),
            result: r.i32("result")?,
            global_id: r.u64("global id")?,
            payload: r.blob("payload", PAYLOAD_BYTES_MAX)?,
            text: r.text("text", TEXT_BYTES_MAX)?,
        })
    }

    /// The message that carries it.
    pub fn to_message(&self) -> Message {
        message(Self::KIND, Priority::HIGH, self.to_bytes(Features::PACIFIC))
    }
}

impl Encode for MAuthReply {
    fn encode(&self, w: &mut Writer) {
        w.u32(self.protocol.0);
        w.i32(self.result);
        w.u64(self.global_id);
        w.blob(&self.payload);
        w.text(&self.text);
    }
}

fn message(kind: MessageType, priority: Priority, front: Bytes) -> Message {
    Message { kind, version: 1, compat_version: 1, priority, front, ..Message::default() }
}
