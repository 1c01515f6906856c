use bytes::{BufMut, Bytes, BytesMut};
use cuttlebone_bucket::{Event, Position, VbucketId};
use cuttlebone_wire::{Message, MessageType};

use crate::Malformed;
use crate::record::{self, Stored};

/// The type of the messages that carry frames. Far above every number that Ceph gives.
///
/// Source: `ceph/ceph:src/msg/Message.h`, `MSG_*`: the highest in 16.2.15 is below 0x1000.
pub const KIND: MessageType = MessageType(0xcb01);

/// What every frame begins with; the version of the format and the checksum of all that follows come next.
const MAGIC: &[u8; 4] = b"CBRF";
/// The version that is written, and the only one that is read.
const VERSION: u8 = 1;
/// Magic, version, CRC-32C.
const HEAD_BYTES: usize = 4 + 1 + 4;

/// What two nodes say to each other about a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "both sides have to think about every one of them")]
pub enum Frame {
    /// Producer, first of all: these can be followed here.
    Hello {
        /// The vbuckets that are served.
        vbuckets: Vec<VbucketId>,
    },
    /// Consumer: send everything after `position`, under this stream's number. Ends an older stream of the vbucket.
    Follow {
        /// Which vbucket.
        vbucket: VbucketId,
        /// The consumer's number for the stream; frames of older ones are void.
        stream: u64,
        /// Where the consumer stands.
        position: Position,
    },
    /// Producer: what happened next.
    Events {
        /// Which vbucket.
        vbucket: VbucketId,
        /// Which stream.
        stream: u64,
        /// In order.
        events: Vec<Event>,
    },
    /// Producer: everything there was has been sent and applied. Once for each stream.
    Current {
        /// Which vbucket.
        vbucket: VbucketId,
        /// Which stream.
        stream: u64,
    },
    /// Consumer: so many events of the stream are applied, counted from its beginning.
    Applied {
        /// Which vbucket.
        vbucket: VbucketId,
        /// Which stream.
        stream: u64,
        /// How many.
        events: u64,
    },
    /// Producer: the stream has ended, or did not begin. The consumer may ask for another one.
    Over {
        /// Which vbucket.
        vbucket: VbucketId,
        /// Which stream.
        stream: u64,
        /// For people.
        why: String,
    },
}

impl Frame {
    /// What it is called in errors.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Follow { .. } => "follow",
            Self::Events { .. } => "events",
            Self::Current { .. } => "current",
            Self::Applied { .. } => "applied",
            Self::Over { .. } => "over",
        }
    }

    /// The message that carries it: the record in front, keys and values in data.
    pub fn to_message(&self) -> Message {
        let mut bodies = BytesMut::new();
        let record = record::encode(&Stored::new(self, &mut bodies));
        let mut front = BytesMut::with_capacity(HEAD_BYTES + record.len());
        front.put_slice(MAGIC);
        front.put_u8(VERSION);
        front.put_u32_le(checksum(&record, &bodies));
        front.put_slice(&record);
        let (front, data) = (front.freeze(), bodies.freeze());
        Message { kind: KIND, version: 1, compat_version: 1, front, data, ..Message::default() }
    }

    /// The frame that a message carries.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: nothing of it is to be trusted.
    pub fn from_message(message: &Message) -> Result<Self, Malformed> {
        let Some((head, record)) = message.front.split_first_chunk::<HEAD_BYTES>() else {
            return Err(Malformed::Foreign);
        };
        let [m0, m1, m2, m3, version, c0, c1, c2, c3] = *head;
        if message.kind != KIND || [m0, m1, m2, m3] != *MAGIC {
            return Err(Malformed::Foreign);
        }
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        if u32::from_le_bytes([c0, c1, c2, c3]) != checksum(record, &message.data) {
            return Err(Malformed::Checksum);
        }
        let stored: Stored = record::decode(record).ok_or(Malformed::Record)?;
        let mut bodies: Bytes = message.data.clone();
        let frame = stored.restore(&mut bodies).ok_or(Malformed::Record)?;
        if bodies.is_empty() { Ok(frame) } else { Err(Malformed::Record) }
    }
}

fn checksum(record: &[u8], bodies: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(record), bodies)
}
