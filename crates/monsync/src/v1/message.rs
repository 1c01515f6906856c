use core::fmt;

use bytes::Bytes;
use cuttlebone_wire::{
    Decode, DecodeError, DecodeErrorKind, Encode, EntityInst, Features, Priority, Reader, Writer,
};

use crate::{Error, MESSAGE_TYPE, StoreKey, Version};

/// Version of the encoding.
///
/// Source: `ceph/ceph:src/messages/MMonSync.h` of 0.61, `HEAD_VERSION`.
pub(crate) const VERSION: u16 = 1;

/// What a message is. Unknown numbers are refused.
///
/// Source: `ceph/ceph:src/messages/MMonSync.h` of 0.61, `OP_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the dialect is history and gets no eleventh")]
pub enum Op {
    /// A requester asks for permission, and for a provider.
    Start,
    /// The leader grants both, or asks to try again later.
    StartReply,
    /// The requester is still at it.
    Heartbeat,
    /// The leader still knows it.
    HeartbeatReply,
    /// The requester has everything.
    Finish,
    /// The requester asks a provider for its first chunk.
    StartChunks,
    /// A chunk.
    Chunk,
    /// The requester has a chunk, and wants the next one.
    ChunkReply,
    /// The leader has taken note of the end.
    FinishReply,
    /// Gives up.
    Abort,
}

/// Who a message is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the dialect has three roles")]
pub enum Role {
    /// Holds off trimming and picks providers.
    Leader,
    /// Sends chunks.
    Provider,
    /// Copies.
    Requester,
}

impl Op {
    /// Every operation, in the order of their numbers, which are 1 to 10.
    pub const ALL: [Self; 10] = [
        Self::Start,
        Self::StartReply,
        Self::Heartbeat,
        Self::HeartbeatReply,
        Self::Finish,
        Self::StartChunks,
        Self::Chunk,
        Self::ChunkReply,
        Self::FinishReply,
        Self::Abort,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        match self {
            Self::Start => 1,
            Self::StartReply => 2,
            Self::Heartbeat => 3,
            Self::HeartbeatReply => 4,
            Self::Finish => 5,
            Self::StartChunks => 6,
            Self::Chunk => 7,
            Self::ChunkReply => 8,
            Self::FinishReply => 9,
            Self::Abort => 10,
        }
    }

    /// What the protocol calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::StartReply => "start_reply",
            Self::Heartbeat => "heartbeat",
            Self::HeartbeatReply => "heartbeat_reply",
            Self::Finish => "finish",
            Self::StartChunks => "start_chunks",
            Self::Chunk => "chunk",
            Self::ChunkReply => "chunk_reply",
            Self::FinishReply => "finish_reply",
            Self::Abort => "abort",
        }
    }

    /// Who it is meant for; `None` for an abort, which every role may get.
    pub const fn role(self) -> Option<Role> {
        match self {
            Self::Start | Self::Heartbeat | Self::Finish => Some(Role::Leader),
            Self::StartChunks | Self::ChunkReply => Some(Role::Provider),
            Self::StartReply | Self::HeartbeatReply | Self::Chunk | Self::FinishReply => {
                Some(Role::Requester)
            }
            Self::Abort => None,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.number() == number)
    }
}

/// Which of a message's fields mean something. Unknown bits are kept.
///
/// Source: `ceph/ceph:src/messages/MMonSync.h` of 0.61, `FLAG_*`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct Flags(pub u8);

impl Flags {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The last chunk, or the answer to it.
    pub const LAST: Self = Self(0x01);
    /// Try again later.
    pub const RETRY: Self = Self(0x02);
    /// `crc` is set. Without it that field holds garbage in 0.61.
    pub const CRC: Self = Self(0x04);
    /// `reply_to` is set.
    pub const REPLY_TO: Self = Self(0x08);

    /// Whether all bits of `other` are here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x}", self.0)
    }
}

/// A message of the first dialect, every field kept, meaningful or not.
///
/// Source: `ceph/ceph:src/messages/MMonSync.h` of 0.61, `encode_payload`; corpus objects of 0.61.4.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire has these fields and no version to add another")]
pub struct Message {
    /// What it is.
    pub op: Op,
    /// Which fields mean something.
    pub flags: Flags,
    /// On the last chunk, the version that the copy has. Our providers set it on every chunk, which others ignore.
    pub version: Version,
    /// An encoded transaction, in chunks only.
    pub chunk: Bytes,
    /// In chunks, the last key contained; in `start_chunks`, the last key received.
    pub last_key: StoreKey,
    /// With [`Flags::CRC`], the checksum of the phase that this chunk ends.
    pub crc: u32,
    /// With [`Flags::REPLY_TO`], who asked (towards the leader) or whom to ask (from it).
    pub reply_to: EntityInst,
}

/// Longest prefix or key that we accept, in bytes.
const KEY_BYTES_MAX: usize = 64 * 1024;

impl Message {
    /// A message without flags.
    pub fn new(op: Op) -> Self {
        Self {
            op,
            flags: Flags::NONE,
            version: Version(0),
            chunk: Bytes::new(),
            last_key: StoreKey::default(),
            crc: 0,
            reply_to: EntityInst::default(),
        }
    }

    /// The same with another entity in it.
    #[must_use]
    pub fn with_reply_to(self, inst: EntityInst) -> Self {
        Self { flags: self.flags.with(Flags::REPLY_TO), reply_to: inst, ..self }
    }

    /// The same with these flags too.
    #[must_use]
    pub fn with_flags(self, flags: Flags) -> Self {
        Self { flags: self.flags.with(flags), ..self }
    }

    /// The entity in it, if it means something.
    pub fn reply_to(&self) -> Option<&EntityInst> {
        self.flags.contains(Flags::REPLY_TO).then_some(&self.reply_to)
    }

    /// Reads what a messenger handed up.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if it is of another type or dialect, or does not follow the encoding.
    pub fn from_message(message: &cuttlebone_wire::Message) -> Result<Self, Error> {
        crate::any::check_header(message, VERSION)?;
        Ok(Self::decode(&mut Reader::new(&message.front))?)
    }

    /// The message for a peer with these features.
    pub fn to_message(&self, features: Features) -> cuttlebone_wire::Message {
        cuttlebone_wire::Message {
            kind: MESSAGE_TYPE,
            version: VERSION,
            compat_version: VERSION,
            priority: Priority::HIGH,
            front: self.to_bytes(features),
            ..Default::default()
        }
    }
}

impl fmt::Debug for Message {
    /// Shows the size of the chunk only: a store holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { op, flags, version, chunk, last_key, .. } = self;
        write!(f, "{} flags {flags:?} version {version} last_key {last_key:?}", op.name())?;
        if let Some(inst) = self.reply_to() {
            write!(f, " reply_to {} {}", inst.name, inst.addr)?;
        }
        write!(f, ", {} bytes", chunk.len())
    }
}

impl Decode for Message {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = r.u32("op")?;
        let Some(op) = Op::from_number(number) else {
            return Err(r.error("op", DecodeErrorKind::Unknown { value: number.into() }));
        };
        Ok(Self {
            op,
            flags: Flags(r.u8("flags")?),
            version: Version(r.u64("version")?),
            // The frame is bounded by the messenger, and the blob by the frame.
            chunk: r.blob("chunk", usize::MAX)?,
            last_key: StoreKey {
                prefix: r.blob("last_key prefix", KEY_BYTES_MAX)?,
                key: r.blob("last_key key", KEY_BYTES_MAX)?,
            },
            crc: r.u32("crc")?,
            reply_to: EntityInst::decode(r)?,
        })
    }
}

impl Encode for Message {
    fn encode(&self, w: &mut Writer) {
        w.u32(self.op.number());
        w.u8(self.flags.0);
        w.u64(self.version.0);
        w.blob(&self.chunk);
        w.blob(&self.last_key.prefix);
        w.blob(&self.last_key.key);
        w.u32(self.crc);
        self.reply_to.encode(w);
    }
}
