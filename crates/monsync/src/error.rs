use core::time::Duration;

use cuttlebone_wire::DecodeError;

use crate::Version;
use crate::v2::Cookie;

/// Why a synchronisation ended without a complete copy, sorted by whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer's bytes do not follow the encoding.
    #[error("a message does not follow the encoding")]
    Malformed(#[from] DecodeError),
    /// The peer sent something that has no meaning in this state.
    #[error("unexpected {got} while {state}")]
    Unexpected {
        /// What we were doing.
        state: &'static str,
        /// What came.
        got: &'static str,
    },
    /// The peer answered for another copy than ours.
    #[error("an answer for cookie {got} where ours is {ours}")]
    WrongCookie {
        /// The one that was granted to us.
        ours: Cookie,
        /// The one in the answer.
        got: Cookie,
    },
    /// The peer sent a chunk that a true copy cannot contain.
    #[error("a chunk that no true copy can contain")]
    Chunk(#[from] ChunkError),

    /// The peer is not able to provide now, for instance because it is synchronising itself. Try another.
    #[error("the provider refuses to start a copy")]
    Refused,
    /// The peer has trimmed the versions that follow ours. Only a full copy helps.
    #[error("the provider does not hold the versions after {after} any more")]
    FellBehind {
        /// The last version that we have.
        after: Version,
    },
    /// The peer has forgotten the copy: it restarted, the copy lay idle too long, or was overtaken by trimming.
    #[error("the provider has forgotten the copy")]
    CookieLost,
    /// The leader or the provider gave the synchronisation up.
    #[error("the peer aborted the synchronisation")]
    Aborted,
    /// The parts that several providers sent cannot be made one copy: a later one lags behind, or has trimmed.
    #[error("the parts of several providers do not fit together")]
    Mixed(#[source] ChunkError),
    /// No other provider is left to go on with.
    #[error("no provider answered, the last of {tried} included")]
    NoProvider {
        /// How many were tried.
        tried: u32,
    },

    /// The connection was lost while answers were on their way, and they are gone with it.
    #[error("connection lost with {outstanding} answers outstanding")]
    ConnectionLost {
        /// How many.
        outstanding: usize,
    },
    /// Nothing arrived in time.
    #[error("no {waiting_for} within {after:?}")]
    TimedOut {
        /// How long we waited.
        after: Duration,
        /// What for.
        waiting_for: &'static str,
    },

    /// Our own store could not carry out an effect.
    #[error("the store failed")]
    Store,
    /// The caller broke a rule of this crate. Never caused by what a peer sends.
    #[error("misuse: {0}")]
    Misuse(&'static str),
}

impl Error {
    /// Whether another attempt, or another peer, may succeed where this one did not.
    ///
    /// A peer whose bytes make no sense is not asked again, but another one may be; that is the caller's choice.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Refused
            | Self::CookieLost
            | Self::Aborted
            | Self::Mixed(_)
            | Self::NoProvider { .. }
            | Self::ConnectionLost { .. }
            | Self::TimedOut { .. } => true,
            Self::Malformed(_)
            | Self::Unexpected { .. }
            | Self::WrongCookie { .. }
            | Self::Chunk(_)
            | Self::FellBehind { .. }
            | Self::Store
            | Self::Misuse(_) => false,
        }
    }
}

/// What is wrong with a chunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// Its transaction does not follow the encoding.
    #[error("the transaction does not follow the encoding")]
    Malformed(#[from] DecodeError),
    /// It is larger than we accept.
    #[error("{bytes} bytes are above the limit of {max}")]
    TooLarge {
        /// Bytes of it, or of the whole copy with it.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// It holds something else than puts.
    #[error("it holds an operation that is no put")]
    NotAPut,
    /// A prefix is empty or contains a NUL byte.
    #[error("it holds a key that no store can hold")]
    BadKey,
    /// A version is missing, or another one is in its place.
    #[error("version {expected} is missing")]
    Gap {
        /// The one that has to be there.
        expected: Version,
    },
    /// It claims fewer versions than an earlier chunk.
    #[error("last_committed went back from {from} to {to}")]
    Backwards {
        /// What earlier chunks reached.
        from: Version,
        /// What this one claims.
        to: Version,
    },
    /// It holds a version that its own `last_committed` rules out.
    #[error("version {version} lies beyond last_committed {last_committed}")]
    Beyond {
        /// The version.
        version: Version,
        /// The last one that may be there.
        last_committed: Version,
    },
    /// Keys do not ascend: a part was sent twice, or the scan started over.
    #[error("keys do not ascend")]
    OutOfOrder,
    /// It holds keys although only versions were asked for.
    #[error("it holds keys that were not asked for")]
    Uninvited,
    /// Chunks keep coming and hold nothing.
    #[error("{chunks} chunks in a row hold nothing")]
    Empty {
        /// How many.
        chunks: u32,
    },
    /// The checksum over a phase does not match what arrived.
    #[error("checksum {ours:#010x} where the provider has {theirs:#010x}")]
    Checksum {
        /// Over what arrived.
        ours: u32,
        /// What the provider says.
        theirs: u32,
    },
}
