use core::time::Duration;

/// Why a link was lost, or closed for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The messenger cannot go on with this peer.
    #[error("messenger")]
    Messenger(#[from] cuttlebone_msgr::Error),
    /// We could not authenticate.
    #[error("authentication")]
    Auth(#[from] cuttlebone_auth::Error),
    /// The peer chose a connection mode that we did not offer.
    #[error("the peer chose connection mode {0}, which was not offered")]
    Mode(u32),
    /// The connection was closed, or could not be opened.
    #[error("disconnected while {during}")]
    Disconnected {
        /// What was going on.
        during: &'static str,
    },
    /// Nothing came in time.
    #[error("nothing in {} s while {during}", .after.as_secs())]
    TimedOut {
        /// How long we waited.
        after: Duration,
        /// What for.
        during: &'static str,
    },
    /// The peer asked us to come back later.
    #[error("the peer is busy with another connection of ours")]
    Busy,
    /// The peer opened another session in place of this one.
    #[error("the peer started anew")]
    Replaced,
    /// The caller broke a rule of this crate. Never caused by what a peer sends.
    #[error("{0}")]
    Misuse(&'static str),
}

impl Error {
    /// Whether another connection to the same peer may help.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Disconnected { .. } | Self::TimedOut { .. } | Self::Busy => true,
            Self::Messenger(error) => error.is_retryable(),
            Self::Auth(_) | Self::Mode(_) | Self::Replaced | Self::Misuse(_) => false,
        }
    }
}
