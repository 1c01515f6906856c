use alloc::boxed::Box;
use alloc::string::String;

use cuttlebone_wire::{DecodeError, EntityAddrs, Features, Message};

use super::{Answer, Error};

use super::Name;
use crate::{CapBits, Ino, MdsMap, Rank};

/// The number of a request, never used twice by one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number")]
pub struct Tid(pub u64);

/// The number of somebody who waits for commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number")]
pub struct SyncId(pub u64);

/// The number of a link, never used twice by one client: what an older link to the same rank still says is nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number")]
pub struct LinkId(pub u64);

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to be able to tell all of it")]
pub enum Input {
    /// A map of the metadata servers has arrived. One that is not newer than the last is passed over, which happens.
    Map(Box<MdsMap>),
    /// News from a link. From one that was dropped it is passed over.
    Link(LinkId, LinkNews),
}

/// What a lossless link tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to be able to tell all of it")]
pub enum LinkNews {
    /// It is open, for the first time, again after a cut, or again after a reset. The features are those that both have.
    Ready(Features),
    /// A message has arrived.
    Message(Message),
    /// The server has lost the messenger's session: what was under way in either direction is gone. `Ready` follows.
    Reset,
    /// It has ended, and will not try again.
    Closed,
}

/// What a client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to carry out every one of them")]
pub enum Output {
    /// Open a lossless link to a metadata server, with the client's one global id and nonce, and keep trying.
    Dial {
        /// What it will be called.
        link: LinkId,
        /// Whose it is.
        rank: Rank,
        /// Where the rank is.
        addrs: EntityAddrs,
    },
    /// Close a link and forget what waits on it. Nothing about it is heard any more.
    Drop(LinkId),
    /// Send a message. A link that is cut keeps it until it is resumed.
    Send(LinkId, Message),
    /// Tell the user.
    Event(Event),
}

/// What a client tells its user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The result of a request. If it is [`Durability::Applied`], [`Committed`](Self::Committed) or
    /// [`Uncommitted`](Self::Uncommitted) follows; otherwise this is the last of it.
    Answer {
        /// Which request.
        tid: Tid,
        /// What came of it. An answer without a target or entry tells that it was done, and nothing more.
        result: Result<Box<Answer>, Error>,
        /// Whether it would survive the server.
        durability: Durability,
    },
    /// A request that was applied is committed.
    Committed(Tid),
    /// A request that was applied may or may not last.
    Uncommitted(Tid, Error),
    /// Everything waited for is committed, or something of it may not last.
    Synced(SyncId, Result<(), Error>),
    /// News of the session with a rank.
    Session(Rank, SessionNews),
    /// Others have changed something that is watched, or are about to.
    Changed {
        /// What is watched.
        ino: Ino,
        /// How we noticed.
        change: Change,
    },
    /// The session with which a file was opened is lost, and with it what it was open for: its server lets go of an
    /// inode without names, and of locks.
    FileLost(Ino),
    /// A server sent what does not follow the encoding, or has no meaning. It was passed over.
    Nonsense(Rank, Nonsense),
    /// The client is closed. Nothing follows.
    Closed {
        /// Whether each server agreed; otherwise it keeps our session until its own time-out.
        clean: bool,
    },
}

/// Whether the result of a request would survive the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third answer")]
pub enum Durability {
    /// The server has done it and will write it to its journal within seconds. We hold what is needed to have it done
    /// again by its successor.
    Applied,
    /// It is in the journal, or there is nothing to write.
    Committed,
}

/// What happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionNews {
    /// It is open.
    Opened,
    /// The server refuses it, for this reason.
    Rejected(String),
    /// The server has lost touch with us and suspended our capabilities. They are renewed by themselves.
    Stale,
    /// They are renewed.
    Renewed,
    /// The rank is restarting or moving to another daemon. Everything waits for it.
    Down,
    /// The rank knows us again, with so many capabilities.
    Reconnected {
        /// Capabilities that we listed.
        caps: usize,
    },
    /// The session is lost, with its capabilities and what was not committed.
    Lost(LossCause),
    /// The server takes no changes any more.
    ReadOnly,
    /// The server asked us to hold at most so many capabilities.
    Recalled {
        /// How many.
        caps_max: usize,
    },
    /// Our address is on the list of those that may not come back.
    Blocklisted,
    /// It is closed, as we asked.
    Closed,
}

/// Why a session was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossCause {
    /// The server closed it: we were evicted, or it had been killed by an administrator.
    Closed,
    /// We came too late after a restart.
    ReconnectDenied,
    /// The messenger's session was lost, and messages with it.
    Reset,
    /// The link gave up.
    LinkClosed,
    /// The rank was stopped.
    RankStopped,
}

/// How a change was noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// These capabilities were taken back, since somebody changes what they cover. For a directory that is
    /// [`CapBits::FILE_SHARED`] when entries come and go.
    Revoked(CapBits),
    /// The server told new attributes.
    Attributes,
    /// The lease on this name in the directory was taken back.
    Name(Name),
    /// The server lost touch with us, or was replaced: anything may have changed.
    Unknown,
}

/// What made no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Nonsense {
    /// Bytes that do not follow the encoding.
    #[error("malformed message")]
    Malformed(#[source] DecodeError),
    /// A message that no metadata server sends to a client.
    #[error("unexpected message: {0}")]
    Unexpected(&'static str),
}
