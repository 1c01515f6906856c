use cuttlebone_bucket::VbucketId;

/// Why a link between two nodes has to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer's bytes are not a frame.
    #[error("the peer sent a frame that cannot be read")]
    Malformed(#[from] Malformed),
    /// The peer sent a frame that has no meaning here.
    #[error("the peer sent {got}, which has no meaning here")]
    Unexpected {
        /// What it was.
        got: &'static str,
    },
    /// The peer sent more than its window allows, or serves more than can be followed.
    #[error("the peer has {what} beyond the limit of {limit}")]
    TooMuch {
        /// Of what: events or bytes that wait to be applied, or vbuckets.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// What the peer sends for a vbucket does not fit, however often it starts anew.
    #[error("the peer's streams of vbucket {vbucket} broke {times} times in a row")]
    Broken {
        /// Which vbucket.
        vbucket: VbucketId,
        /// How often.
        times: u32,
        /// How the last one broke.
        source: cuttlebone_bucket::Error,
    },
}

/// Bytes that are not a frame of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The message is of another type, or does not begin with the magic.
    #[error("no frame of this protocol")]
    Foreign,
    /// Written by a version that we do not know.
    #[error("version {0} of this protocol is not known here")]
    Version(u8),
    /// The checksum is another one.
    #[error("the checksum does not match")]
    Checksum,
    /// The record behind the checksum makes no sense.
    #[error("a record that makes no sense")]
    Record,
}
