//! What a provider is told, and what it wants done.

use core::fmt;

use crate::v2::message::Reply;
use crate::{Answer, Ask};

/// A connection, as the caller names it. Names are not used again while a provider lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number that the caller chooses")]
pub struct PeerId(pub u64);

/// What a provider is told.
#[derive(Clone)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to know all it can say")]
pub enum ProviderInput {
    /// A peer sent this.
    Message {
        /// Who.
        from: PeerId,
        /// What.
        message: cuttlebone_wire::Message,
    },
    /// A peer's connection is gone for good. Its cookies live on, since they belong to no connection.
    Gone(PeerId),
    /// The store answers.
    Store(Answer),
    /// Our own store is being replaced: drop every cookie and refuse new ones.
    Suspend,
    /// Our own store is complete again.
    Resume,
}

/// What a provider wants done.
#[derive(PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to carry out every one of them")]
pub enum ProviderOutput {
    /// Send this answer.
    Send {
        /// To whom.
        to: PeerId,
        /// The answer.
        reply: Reply,
    },
    /// Ask the store.
    Store(Ask),
    /// A peer sent something that was dropped.
    Dropped {
        /// Who.
        from: PeerId,
        /// Why.
        why: Dropped,
    },
}

/// Why a message was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dropped {
    /// It cannot be read.
    Malformed(crate::Error),
    /// It is an answer, and providers ask nothing.
    NotAQuestion,
    /// Too many questions wait for the same cookie.
    TooManyWaiting,
}

impl fmt::Debug for ProviderInput {
    /// Shows the size of a message only: a store holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { from, message } => write!(f, "Message({from:?}, {} bytes)", message.front.len()),
            Self::Gone(peer) => write!(f, "Gone({peer:?})"),
            Self::Store(answer) => write!(f, "Store({answer:?})"),
            Self::Suspend => f.write_str("Suspend"),
            Self::Resume => f.write_str("Resume"),
        }
    }
}

impl fmt::Debug for ProviderOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { to, reply } => write!(f, "Send({to:?}, {reply:?})"),
            Self::Store(ask) => write!(f, "{ask:?}"),
            Self::Dropped { from, why } => write!(f, "Dropped({from:?}, {why:?})"),
        }
    }
}
