use cuttlebone_wire::{DecodeError, EntityAddr, EntityType, Features};

/// Why a connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The first bytes are not those of messenger v2.
    #[error("the peer does not speak messenger v2")]
    NotMessenger2,
    /// The peer knows only messenger v2.0, whose frames are not protected well enough.
    #[error("the peer speaks messenger v2.0 only, and v2.1 is required")]
    Revision,
    /// The peer insists on messenger features that we do not have.
    #[error("the peer requires unknown messenger features {0:#x}")]
    UnknownMessengerFeatures(u64),
    /// A checksum is wrong: bytes were damaged on the way.
    #[error("wrong checksum of {0}")]
    Checksum(Part),
    /// A preamble that no sender produces.
    #[error("malformed preamble: {0}")]
    Preamble(&'static str),
    /// A tag that messenger v2.1 does not have.
    #[error("unknown frame tag {0}")]
    UnknownTag(u8),
    /// A frame above our limit.
    #[error("a frame of {bytes} bytes is above the limit of {max}")]
    TooLarge {
        /// What the preamble announces.
        bytes: usize,
        /// What we accept at this point.
        max: usize,
    },
    /// A payload that does not follow its encoding.
    #[error("malformed frame payload")]
    Malformed(#[from] DecodeError),
    /// A frame that has no meaning at this point.
    #[error("{got} has no meaning while {stage}")]
    Unexpected {
        /// What we were doing.
        stage: &'static str,
        /// The name of the frame.
        got: &'static str,
    },
    /// The peer's signature does not match what we sent and received.
    #[error("the signature of the handshake is wrong")]
    Signature,
    /// Somebody else than we wanted to reach answered.
    #[error("expected a peer of type {expected}, found {found}")]
    PeerType {
        /// Whom we dialled.
        expected: EntityType,
        /// Who answered.
        found: EntityType,
    },
    /// The peer does not call the address its own that we dialled.
    #[error("the peer does not know itself as {0}")]
    NotItsAddress(EntityAddr),
    /// One side lacks features that the other insists on.
    #[error("features {0} are missing")]
    MissingFeatures(Features),
    /// A message is missing between two that arrived.
    #[error("message {got} arrived where {expected} was due")]
    Gap {
        /// The sequence number that was due.
        expected: u64,
        /// The one that came.
        got: u64,
    },
    /// The peer acknowledges what was never sent.
    #[error("message {acked} acknowledged, {sent} sent")]
    AckedUnsent {
        /// What the peer claims to have.
        acked: u64,
        /// What we sent.
        sent: u64,
    },
    /// The peer answered the opening with "try again" too often.
    #[error("the peer did not settle after {0} attempts to open the session")]
    Unsettled(u8),
}

impl Error {
    /// Whether the same peer may well accept a new connection: the bytes were damaged, not wrong.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Checksum(_))
    }
}

/// What a checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a frame has no other parts")]
pub enum Part {
    /// The preamble.
    Preamble,
    /// A segment, counted from 0.
    Segment(usize),
}

impl core::fmt::Display for Part {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Preamble => f.write_str("the preamble"),
            Self::Segment(index) => write!(f, "segment {index}"),
        }
    }
}
