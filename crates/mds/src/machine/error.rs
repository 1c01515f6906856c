use alloc::string::String;

use cuttlebone_wire::DecodeError;

use crate::Rank;

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server did it and this came of it, or refused to.
    #[error("{0}")]
    Refused(Errno),
    /// The session was lost after the server had, or may have, done it, and before it was committed. Whether it lasts
    /// is not known.
    #[error("the session with {rank} was lost before this was committed")]
    Uncommitted {
        /// The rank whose session it was.
        rank: Rank,
    },
    /// The server does not want a session with us.
    #[error("{rank} refused the session: {reason}")]
    Rejected {
        /// The rank.
        rank: Rank,
        /// In the server's words.
        reason: String,
    },
    /// Our address is on the list of those that may not come back. Only a new instance, with another global id and
    /// nonce, can go on.
    #[error("this client was evicted and its address blocklisted")]
    Blocklisted,
    /// The server understands no answers of the form that we read: it is older than release 13.
    #[error("{rank} is too old for this client")]
    TooOld {
        /// The rank.
        rank: Rank,
    },
    /// Ranks sent the request round in a circle.
    #[error("the request was forwarded {0} times")]
    TooManyForwards(u32),
    /// The file system is read-only for this session.
    #[error("the metadata server is read-only")]
    ReadOnly,
    /// The bytes of the answer do not follow the encoding.
    #[error("malformed answer")]
    Malformed(#[source] DecodeError),
    /// The answer has no meaning for what was asked.
    #[error("the answer makes no sense: {0}")]
    Unexpected(&'static str),
    /// The client is closing or closed.
    #[error("the client is closed")]
    Closed,
}

impl Error {
    /// What a POSIX call would report.
    pub const fn errno(&self) -> Errno {
        match self {
            Self::Refused(errno) => *errno,
            Self::Rejected { .. } | Self::TooOld { .. } => Errno::EACCES,
            Self::Blocklisted | Self::Closed => Errno::ESHUTDOWN,
            Self::TooManyForwards(_) => Errno::EMULTIHOP,
            Self::ReadOnly => Errno::EROFS,
            Self::Uncommitted { .. } | Self::Malformed(_) | Self::Unexpected(_) => Errno::EIO,
        }
    }

    /// Whether the same call may succeed if it is simply made again.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Uncommitted { .. })
    }
}

/// An error number of Linux, which is what metadata servers answer whatever they run on.
///
/// Source: `torvalds/linux:include/uapi/asm-generic/errno{-base,}.h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Self = Self($number);)*

            /// The symbol, such as `ENOENT`, if we know it.
            pub const fn symbol(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            const fn text(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, "operation not permitted";
    ENOENT = 2, "no such file or directory";
    EIO = 5, "input/output error";
    EAGAIN = 11, "try again";
    EACCES = 13, "permission denied";
    EEXIST = 17, "file exists";
    EXDEV = 18, "cross-device link";
    ENOTDIR = 20, "not a directory";
    EISDIR = 21, "is a directory";
    EINVAL = 22, "invalid argument";
    EMFILE = 24, "too many open files";
    ENOSPC = 28, "no space left";
    EROFS = 30, "read-only file system";
    EMLINK = 31, "too many links";
    ERANGE = 34, "result too large";
    ENAMETOOLONG = 36, "name too long";
    ENOLCK = 37, "no locks available";
    ENOTEMPTY = 39, "directory not empty";
    ELOOP = 40, "too many symbolic links";
    ENODATA = 61, "no data available";
    EMULTIHOP = 72, "multihop attempted";
    EOPNOTSUPP = 95, "operation not supported";
    ESHUTDOWN = 108, "shut down";
    ETIMEDOUT = 110, "timed out";
    ESTALE = 116, "stale file handle";
    EDQUOT = 122, "quota exceeded";
}

impl core::fmt::Debug for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.symbol() {
            Some(symbol) => f.write_str(symbol),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.text() {
            Some(text) => f.write_str(text),
            None => write!(f, "error {}", self.0),
        }
    }
}

/// Why a call was not taken on. Nothing of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// As many as the limits allow are unfinished. Try again after the next answer.
    #[error("too many requests are unfinished")]
    Busy,
    /// The client is closing or closed.
    #[error("the client is closed")]
    Closed,
    /// The caller asks for what this crate does not do. Never caused by what a peer sends.
    #[error("{0}")]
    Misuse(&'static str),
}
