use core::fmt;

use bytes::Bytes;
use cuttlebone_wire::{
    Decode, DecodeError, DecodeErrorKind, Encode, EntityInst, Features, Priority, Reader, Transaction, Writer,
};

use crate::{Error, MESSAGE_TYPE, StoreKey, SyncKind, Version};

/// Version of the encoding, and the oldest version whose readers understand it.
///
/// Source: `ceph/ceph:src/messages/MMonSync.h`, `HEAD_VERSION` and `COMPAT_VERSION`; seen in 16.2.15.
pub(crate) const VERSION: u16 = 2;

/// What a message is. A monitor aborts on a number that it does not know, so there is no variant for one.
///
/// Source: `ceph/ceph:src/messages/MMonSync.h`, `OP_*`; all seen in 16.2.15. 7 is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "an eighth would have to be refused by every match")]
pub enum Op {
    /// Asks for a cookie to copy the whole store.
    GetCookieFull,
    /// Asks for a cookie to copy the versions after one.
    GetCookieRecent,
    /// Grants a cookie.
    Cookie,
    /// Asks for the next chunk.
    GetChunk,
    /// A chunk; more follow.
    Chunk,
    /// The last chunk; the cookie is gone with it.
    LastChunk,
    /// There is no such cookie, or none to be had.
    NoCookie,
}

impl Op {
    /// Every operation, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::GetCookieFull,
        Self::GetCookieRecent,
        Self::Cookie,
        Self::GetChunk,
        Self::Chunk,
        Self::LastChunk,
        Self::NoCookie,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        match self {
            Self::GetCookieFull => 1,
            Self::GetCookieRecent => 2,
            Self::Cookie => 3,
            Self::GetChunk => 4,
            Self::Chunk => 5,
            Self::LastChunk => 6,
            Self::NoCookie => 8,
        }
    }

    /// What the protocol calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GetCookieFull => "get_cookie_full",
            Self::GetCookieRecent => "get_cookie_recent",
            Self::Cookie => "cookie",
            Self::GetChunk => "get_chunk",
            Self::Chunk => "chunk",
            Self::LastChunk => "last_chunk",
            Self::NoCookie => "no_cookie",
        }
    }

    /// Whether a requester sends it, so that it belongs to a provider.
    pub const fn is_question(self) -> bool {
        matches!(self, Self::GetCookieFull | Self::GetCookieRecent | Self::GetChunk)
    }

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.number() == number)
    }
}

/// A provider's name for one copy in progress. It belongs to no connection. 0 is none.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct Cookie(pub u64);

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A message as it came, every field kept, meaningful or not.
///
/// It can be encoded again, for tools that check our reading, but there is no way to hand it to a messenger: what
/// may be sent is a [`Request`], or a [`Reply`] made from a request that was received.
///
/// Source: `ceph/ceph:src/messages/MMonSync.h`, `encode_payload`; seen in 16.2.15, corpus objects of 0.66.
#[derive(PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire has these fields and no version to add another")]
pub struct Message {
    /// What it is.
    pub op: Op,
    /// Whose copy it belongs to.
    pub cookie: Cookie,
    /// Highest version contained so far; in `get_cookie_recent` the highest that the requester has.
    pub last_committed: Version,
    /// Where a full copy stands. Releases disagree about what it means, and nobody reads it.
    pub last_key: StoreKey,
    /// An encoded transaction, in chunks only.
    pub chunk: Bytes,
    /// Blank in every message ever seen.
    pub reply_to: EntityInst,
}

/// Longest prefix or key that we accept, in bytes.
const KEY_BYTES_MAX: usize = 64 * 1024;

impl Message {
    /// Reads what a messenger handed up.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if it is of another type or dialect, or does not follow the encoding.
    pub fn from_message(message: &cuttlebone_wire::Message) -> Result<Self, Error> {
        crate::any::check_header(message, VERSION)?;
        Ok(Self::decode(&mut Reader::new(&message.front))?)
    }

    /// The question that the message asks; `None` if it is an answer.
    pub fn into_asked(self) -> Option<Asked> {
        match self.op {
            Op::GetCookieFull => Some(Asked::Cookie(CookieAsked { kind: SyncKind::Full })),
            Op::GetCookieRecent => {
                Some(Asked::Cookie(CookieAsked { kind: SyncKind::Recent { after: self.last_committed } }))
            }
            Op::GetChunk => Some(Asked::Chunk(ChunkAsked { cookie: self.cookie })),
            Op::Cookie | Op::Chunk | Op::LastChunk | Op::NoCookie => None,
        }
    }
}

impl fmt::Debug for Message {
    /// Shows the size of the chunk only: a store holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { op, cookie, last_committed, last_key, chunk, .. } = self;
        let (name, bytes) = (op.name(), chunk.len());
        write!(
            f,
            "{name} cookie {cookie} last_committed {last_committed} last_key {last_key:?}, {bytes} bytes"
        )
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
            cookie: Cookie(r.u64("cookie")?),
            last_committed: Version(r.u64("last_committed")?),
            last_key: StoreKey {
                prefix: r.blob("last_key prefix", KEY_BYTES_MAX)?,
                key: r.blob("last_key key", KEY_BYTES_MAX)?,
            },
            // The frame is bounded by the messenger, and the blob by the frame.
            chunk: r.blob("chunk", usize::MAX)?,
            reply_to: EntityInst::decode(r)?,
        })
    }
}

impl Encode for Message {
    fn encode(&self, w: &mut Writer) {
        let head = Head { op: self.op, cookie: self.cookie, last_committed: self.last_committed };
        head.encode_around(w, &self.last_key, &self.reply_to, |w| w.blob(&self.chunk));
    }
}

/// The fields in front of the variable ones.
struct Head {
    op: Op,
    cookie: Cookie,
    last_committed: Version,
}

impl Head {
    fn encode_around(
        &self,
        w: &mut Writer,
        last_key: &StoreKey,
        reply_to: &EntityInst,
        chunk: impl FnOnce(&mut Writer),
    ) {
        w.u32(self.op.number());
        w.u64(self.cookie.0);
        w.u64(self.last_committed.0);
        w.blob(&last_key.prefix);
        w.blob(&last_key.key);
        chunk(w);
        reply_to.encode(w);
    }

    /// The message with these fields, everything else blank.
    fn into_message(
        self,
        features: Features,
        capacity: usize,
        last_key: &StoreKey,
        chunk: impl FnOnce(&mut Writer),
    ) -> cuttlebone_wire::Message {
        let mut w = Writer::with_capacity(features, capacity);
        self.encode_around(&mut w, last_key, &EntityInst::default(), chunk);
        cuttlebone_wire::Message {
            kind: MESSAGE_TYPE,
            version: VERSION,
            compat_version: VERSION,
            priority: Priority::HIGH,
            front: w.into_bytes(),
            ..Default::default()
        }
    }
}

/// Bytes of a message without variable parts and with the longest blank address.
const BLANK_BYTES: usize = 177;

/// What a requester may send. None of these can hurt a monitor, whatever its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has three questions")]
pub enum Request {
    /// Begin a copy.
    GetCookie(SyncKind),
    /// Send the next chunk.
    GetChunk(Cookie),
}

impl Request {
    /// The message for a peer with these features.
    pub fn to_message(self, features: Features) -> cuttlebone_wire::Message {
        let head = match self {
            Self::GetCookie(SyncKind::Full) => {
                Head { op: Op::GetCookieFull, cookie: Cookie(0), last_committed: Version(0) }
            }
            Self::GetCookie(SyncKind::Recent { after }) => {
                Head { op: Op::GetCookieRecent, cookie: Cookie(0), last_committed: after }
            }
            Self::GetChunk(cookie) => Head { op: Op::GetChunk, cookie, last_committed: Version(0) },
        };
        head.into_message(features, BLANK_BYTES, &StoreKey::default(), |w| w.blob(&[]))
    }
}

/// A question that was received and has not been answered. Each can be answered once.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has two kinds of question")]
pub enum Asked {
    /// For a cookie.
    Cookie(CookieAsked),
    /// For a chunk.
    Chunk(ChunkAsked),
}

/// A received question for a cookie.
#[derive(Debug, PartialEq, Eq)]
pub struct CookieAsked {
    kind: SyncKind,
}

impl CookieAsked {
    /// What the peer wants to copy.
    pub const fn kind(&self) -> SyncKind {
        self.kind
    }

    /// The answer that begins a copy. `last_committed` is our own; a recent copy starts at the peer's instead.
    pub fn grant(self, cookie: Cookie, last_committed: Version) -> Reply {
        let last_committed = match self.kind {
            SyncKind::Full => last_committed,
            SyncKind::Recent { after } => after,
        };
        Reply(Body::Cookie { cookie, last_committed })
    }

    /// The answer that there is nothing to be had here, now.
    pub fn refuse(self) -> Reply {
        Reply(Body::NoCookie { cookie: Cookie(0) })
    }
}

/// A received question for a chunk.
#[derive(Debug, PartialEq, Eq)]
pub struct ChunkAsked {
    cookie: Cookie,
}

/// Whether more chunks follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "yes and no, by name")]
pub enum Position {
    /// More follow.
    Middle,
    /// It is the last one.
    Last,
}

impl ChunkAsked {
    /// Whose next chunk the peer wants.
    pub const fn cookie(&self) -> Cookie {
        self.cookie
    }

    /// The answer with a chunk. `last_committed` is the highest version contained so far.
    pub fn chunk(self, position: Position, last_committed: Version, transaction: Transaction) -> Reply {
        Reply(Body::Chunk { cookie: self.cookie, position, last_committed, transaction })
    }

    /// The answer that there is no such cookie. The peer starts over.
    pub fn no_cookie(self) -> Reply {
        Reply(Body::NoCookie { cookie: self.cookie })
    }
}

/// What a provider may send: the answer to one received question.
///
/// A monitor that gets `no_cookie` out of the blue leaves its quorum, so no reply can be made from nothing:
///
/// ```compile_fail,E0423
/// let unsolicited = cuttlebone_monsync::v2::Reply(unreachable!());
/// ```
///
/// nor from a question that nobody asked,
///
/// ```compile_fail,E0451
/// use cuttlebone_monsync::v2::{ChunkAsked, Cookie};
/// let unsolicited = ChunkAsked { cookie: Cookie(1) }.no_cookie();
/// ```
///
/// nor twice from one question,
///
/// ```compile_fail,E0382
/// fn twice(asked: cuttlebone_monsync::v2::ChunkAsked) {
///     let first = asked.no_cookie();
///     let second = asked.no_cookie();
/// }
/// ```
///
/// nor sent twice,
///
/// ```compile_fail,E0382
/// use cuttlebone_wire::Features;
/// fn twice(reply: cuttlebone_monsync::v2::Reply) {
///     let first = reply.into_message(Features::PACIFIC);
///     let second = reply.into_message(Features::PACIFIC);
/// }
/// ```
///
/// and a message that was received cannot be handed back to a messenger:
///
/// ```compile_fail,E0599
/// use cuttlebone_wire::Features;
/// fn echo(message: cuttlebone_monsync::v2::Message) {
///     let echoed = message.into_message(Features::PACIFIC);
/// }
/// ```
#[derive(PartialEq, Eq)]
pub struct Reply(Body);

#[derive(PartialEq, Eq)]
enum Body {
    Cookie { cookie: Cookie, last_committed: Version },
    Chunk { cookie: Cookie, position: Position, last_committed: Version, transaction: Transaction },
    NoCookie { cookie: Cookie },
}

impl Reply {
    /// What it is.
    pub const fn op(&self) -> Op {
        match &self.0 {
            Body::Cookie { .. } => Op::Cookie,
            Body::Chunk { position: Position::Middle, .. } => Op::Chunk,
            Body::Chunk { position: Position::Last, .. } => Op::LastChunk,
            Body::NoCookie { .. } => Op::NoCookie,
        }
    }

    /// The message for a peer with these features.
    pub fn into_message(self, features: Features) -> cuttlebone_wire::Message {
        let op = self.op();
        match self.0 {
            Body::Cookie { cookie, last_committed } => {
                let head = Head { op, cookie, last_committed };
                head.into_message(features, BLANK_BYTES, &StoreKey::default(), |w| w.blob(&[]))
            }
            Body::NoCookie { cookie } => {
                let head = Head { op, cookie, last_committed: Version(0) };
                head.into_message(features, BLANK_BYTES, &StoreKey::default(), |w| w.blob(&[]))
            }
            Body::Chunk { cookie, last_committed, transaction, .. } => {
                let last = transaction.ops.last();
                let last_key = last.map(|op| StoreKey { prefix: op.prefix.clone(), key: op.key.clone() });
                let last_key = last_key.unwrap_or_default();
                let encoded = usize::try_from(transaction.counters().0).unwrap_or(0);
                let capacity = encoded
                    .saturating_add(BLANK_BYTES)
                    .saturating_add(last_key.prefix.len())
                    .saturating_add(last_key.key.len());
                let head = Head { op, cookie, last_committed };
                head.into_message(features, capacity, &last_key, |w| w.sized(|w| transaction.encode(w)))
            }
        }
    }
}

impl fmt::Debug for Reply {
    /// Shows the size of the chunk only: a store holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.op().name();
        match &self.0 {
            Body::Cookie { cookie, last_committed } => {
                write!(f, "{name} {cookie} last_committed {last_committed}")
            }
            Body::NoCookie { cookie } => write!(f, "{name} {cookie}"),
            Body::Chunk { cookie, last_committed, transaction, .. } => {
                let keys = transaction.ops.len();
                write!(f, "{name} {cookie} last_committed {last_committed}, {keys} keys")
            }
        }
    }
}
