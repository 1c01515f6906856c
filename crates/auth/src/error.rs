use alloc::vec::Vec;

use cuttlebone_wire::DecodeError;

use crate::MethodId;

/// Why we could not authenticate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A payload that does not follow its encoding.
    #[error("malformed authentication payload")]
    Malformed(#[from] DecodeError),
    /// The peer sent something that has no meaning at this point.
    #[error("the peer sent {0}")]
    Unexpected(&'static str),
    /// The server allows none of our methods.
    #[error("the peer allows only {allowed:?}, and we can offer {offered:?}")]
    NoCommonMethod {
        /// What it allows.
        allowed: Vec<MethodId>,
        /// What we have.
        offered: Vec<MethodId>,
    },
    /// The server takes the method and not us.
    #[error("the peer refused us by method {method} with errno {errno}")]
    Refused {
        /// The method.
        method: MethodId,
        /// Why, as a positive Linux errno.
        errno: i32,
    },
    /// The server asked more than any method needs.
    #[error("the peer was not satisfied after {0} rounds")]
    TooManyRounds(u8),
}

/// What a server tells whom it refuses: a negative Linux errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused with errno {}", -.0)]
#[expect(clippy::exhaustive_structs, reason = "the number on the wire")]
pub struct Refusal(pub i32);

impl Refusal {
    /// The credentials do not hold (EACCES).
    pub const DENIED: Self = Self(-13);
    /// The method or mode is not offered here (EOPNOTSUPP).
    pub const UNSUPPORTED: Self = Self(-95);
}
