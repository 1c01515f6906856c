use alloc::boxed::Box;

use cuttlebone_msgr::{FrameDecoder, Policy, ServerIdent, Start};
use cuttlebone_wire::{EntityAddrs, EntityName, EntityType, Features, Message};

use crate::Error;

/// What the user of a link is told. [`Closed`](Self::Closed) is the last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a user has to think about every one of them")]
pub enum Event {
    /// The session is open; messages flow in both directions.
    Ready(Box<Ready>),
    /// A message arrived. On a lossless link each arrives once, and in order.
    Message(Message),
    /// The connection is lost and the session is not: the link opens another connection by itself, or waits for the
    /// peer to do so. [`Ready`](Self::Ready) or [`Closed`](Self::Closed) follows.
    Lost(Error),
    /// The peer has lost the session: what was sent before may or may not have reached it, what was not yet sent is
    /// dropped, and no answer will come. [`Ready`](Self::Ready) with a fresh session follows.
    Reset,
    /// The end: asked for by the user, or for this reason.
    Closed(Result<(), Error>),
}

/// With whom a session is open, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ready {
    /// What the peer is.
    pub peer_type: EntityType,
    /// Whom the peer authenticated as, if it was the peer who had to.
    pub peer_name: Option<EntityName>,
    /// The peer's addresses.
    pub peer_addrs: EntityAddrs,
    /// The peer's number: rank, id, global id, or -1.
    pub peer_gid: i64,
    /// The features that both have: messages are encoded for these.
    pub features: Features,
    /// Our own number as authentication left it, if we dialled; else the peer's.
    pub global_id: u64,
    /// What happens when the connection is lost.
    pub policy: Policy,
    /// Whether the session is new to the peer.
    pub start: Start,
}

/// What the user of a link asks for.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "commands come from us")]
pub enum Command {
    /// Send a message. It is queued until the session is open.
    Send(Message),
    /// Go on over a connection that was accepted for this session: what an
    /// [`Acceptor`](crate::Acceptor) gives, and nobody else makes.
    Adopt(Box<Adoption>),
    /// End: the peer has opened another session in place of this one, as an [`Acceptor`](crate::Acceptor) found.
    Supersede,
}

impl From<Message> for Command {
    fn from(message: Message) -> Self {
        Self::Send(message)
    }
}

/// A connection that was accepted for a session, ready to be taken over by it.
#[derive(Debug)]
pub struct Adoption {
    pub(crate) decoder: FrameDecoder,
    pub(crate) granted: Granted,
    pub(crate) ready: Box<Ready>,
}

/// How the server side answers an opening.
#[derive(Debug)]
pub(crate) enum Granted {
    New(ServerIdent),
    Resumed { msg_seq: u64 },
}
