use core::fmt;

use bytes::Bytes;
use cuttlebone_wire::Reader;

use crate::{Claim, Error, Refusal};

/// The number of an authentication method. Unknown numbers are kept.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_AUTH_*`; 1 and 2 seen in 16.2.15.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct MethodId(pub u32);

impl MethodId {
    /// None chosen yet.
    pub const UNKNOWN: Self = Self(0);
    /// Whoever says who they are is believed.
    pub const NONE: Self = Self(1);
    /// Shared keys and tickets.
    pub const CEPHX: Self = Self(2);
    /// Kerberos.
    pub const GSS: Self = Self(4);
}

impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UNKNOWN => f.write_str("unknown"),
            Self::NONE => f.write_str("none"),
            Self::CEPHX => f.write_str("cephx"),
            Self::GSS => f.write_str("gss"),
            Self(number) => write!(f, "method {number}"),
        }
    }
}

impl fmt::Debug for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What both sides share after authentication, and sign the handshake with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionKey {
    /// Nothing: AUTH_NONE proves nothing, and its signatures are zeros.
    None,
}

impl SessionKey {
    /// The signature over everything that one side has received.
    ///
    /// Source: `ceph/ceph:src/msg/async/ProtocolV2.cc`, `finish_auth`; zeros seen in 16.2.15 with AUTH_NONE.
    pub const fn signature(&self, _transcript: &[u8]) -> [u8; 32] {
        match self {
            Self::None => [0; 32],
        }
    }
}

/// One way to authenticate, as the side that asks.
pub trait ClientMethod: fmt::Debug + Send {
    /// Its number.
    fn id(&self) -> MethodId;

    /// Starts over and gives what follows `claim` in the first request. It may keep secrets of an earlier run, such
    /// as tickets.
    fn begin(&mut self, claim: &Claim) -> Bytes;

    /// Answers a further question of the server.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the question; the exchange is over.
    fn more(&mut self, question: &Bytes) -> Result<Bytes, Error>;

    /// Takes what the server ends with.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with it; the server is not to be trusted.
    fn done(&mut self, payload: &Bytes) -> Result<SessionKey, Error>;
}

/// One way to authenticate, as the side that is asked. One value serves one connection.
pub trait ServerMethod: fmt::Debug + Send {
    /// Its number.
    fn id(&self) -> MethodId;

    /// Takes the first request: the claim, and what follows it.
    ///
    /// # Errors
    ///
    /// [`Refusal`], which the peer is told.
    fn begin(&mut self, claim: &Claim, rest: &mut Reader<'_>) -> Result<AcceptStep, Refusal>;

    /// Takes the answer to a question.
    ///
    /// # Errors
    ///
    /// [`Refusal`], which the peer is told.
    fn more(&mut self, answer: &Bytes) -> Result<AcceptStep, Refusal>;
}

/// What a [`ServerMethod`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a server asks on or is satisfied")]
pub enum AcceptStep {
    /// Ask this.
    Ask(Bytes),
    /// The claim holds.
    Done {
        /// What to end with.
        payload: Bytes,
        /// What both sides now share.
        key: SessionKey,
    },
}
