use core::net::SocketAddr;
use core::time::Duration;

use cuttlebone_wire::{DecodeError, EntityAddr, Uuid};

/// Why a node's work ended, sorted by whose fault it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The link to a peer was lost, or could not be made.
    #[error("link")]
    Link(#[from] cuttlebone_link::Error),
    /// The link was closed in good order while something was still expected of it.
    #[error("the peer closed the link")]
    LinkClosed,
    /// An answer did not come in time.
    #[error("no {what} within {} s", .after.as_secs_f32())]
    NoAnswer {
        /// What was asked for.
        what: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// The peer's bytes do not follow the encoding.
    #[error("the peer sent something that cannot be read")]
    Malformed(#[from] DecodeError),
    /// The synchronisation ended without a complete copy.
    #[error("synchronisation")]
    Sync(#[from] cuttlebone_monsync::Error),
    /// The copy on disk could not be read or written.
    #[error("store")]
    Store(#[from] cuttlebone_store::Error),
    /// The bucket refused.
    #[error("bucket")]
    Bucket(#[from] cuttlebone_bucket::Error),
    /// The file system could not be asked.
    #[error("file system")]
    FileSystem(#[from] cuttlebone_fs::Error),
    /// The bucket holds the tree of another directory or file system.
    #[error(
        "the vbucket holds the tree of another directory or file system; give another vbucket or directory"
    )]
    OtherTree,
    /// A tree has more inodes than it may.
    #[error("the tree has more than {inodes_max} inodes; raise the limit, or give a smaller root")]
    TreeTooLarge {
        /// How many it may have.
        inodes_max: usize,
    },
    /// The bucket holds something of ours that is not what was written.
    #[error("the bucket's {0} is damaged")]
    Damaged(&'static str),
    /// What a pull had brought was undone in the middle of it by a revert of hot reload: the next one starts from there.
    #[error("a revert of hot reload undid a part of the pull")]
    Reverted,
    /// The link to another node broke its rules.
    #[error("replication")]
    Replica(#[from] cuttlebone_replica::Error),
    /// The HTTP listener did not start.
    #[error("http")]
    Http(#[from] cuttlebone_http::ServeError),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// A part of the node failed, and the node stops.
    #[error("{part}")]
    Part {
        /// What it is called.
        part: String,
        /// How.
        source: Box<Self>,
    },
    /// A part's own error, for parts from elsewhere.
    #[error(transparent)]
    Other(Box<dyn core::error::Error + Send + Sync>),
    /// A step of the stop did not end within its deadline.
    #[error("{step} did not end within {} s", .within.as_secs_f32())]
    StoppedLate {
        /// Which step.
        step: &'static str,
        /// Its deadline.
        within: Duration,
    },
    /// The copy belongs to another cluster than the monitor.
    #[error("the copy is of cluster {copy}, and the monitor is of {monitor}; give another directory")]
    OtherCluster {
        /// The copy's.
        copy: Uuid,
        /// The monitor's.
        monitor: Uuid,
    },
    /// The copy has no monitor map in it, so nobody could synchronise from it.
    #[error("the copy holds no usable monitor map")]
    NoMonMap,
    /// An address names no place that can be dialled.
    #[error("{0} cannot be dialled: messenger v2 addresses are needed, as in v2:10.0.0.1:3300/0")]
    NotDiallable(EntityAddr),
    /// An address could not be bound.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system answered.
        source: std::io::Error,
    },
    /// Every monitor that was given has been tried.
    #[error("none of {tried} attempts with {monitors} monitors succeeded; the last one ended with this")]
    Exhausted {
        /// How many attempts there were.
        tried: u32,
        /// How many monitors there are to try.
        monitors: usize,
        /// How the last attempt ended.
        source: Box<Self>,
    },
    /// The monitor refused a command.
    #[error("the monitor refused: {}{status}", errno_text(*.errno))]
    Command {
        /// A negative errno as Linux numbers it.
        errno: i32,
        /// What it says.
        status: String,
    },
    /// The node is put together in a way that cannot work.
    #[error("{0}")]
    Config(&'static str),
}

impl Error {
    /// Whether another attempt, or another monitor, may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            // What one monitor says, refuses or cannot have meant, another one may do right.
            Self::LinkClosed
            | Self::NoAnswer { .. }
            | Self::Link(_)
            | Self::Malformed(_)
            | Self::Sync(_)
            | Self::Reverted
            | Self::Replica(_)
            | Self::FileSystem(_)
            | Self::TreeTooLarge { .. }
            | Self::Store(cuttlebone_store::Error::Provider(_)) => true,
            Self::Bucket(error) => error.is_retryable(),
            Self::Part { source, .. } => source.is_retryable(),
            Self::Store(_)
            | Self::Damaged(_)
            | Self::Http(_)
            | Self::Thread(_)
            | Self::Other(_)
            | Self::StoppedLate { .. }
            | Self::OtherCluster { .. }
            | Self::OtherTree
            | Self::NoMonMap
            | Self::NotDiallable(_)
            | Self::Listen { .. }
            | Self::Exhausted { .. }
            | Self::Command { .. }
            | Self::Config(_) => false,
        }
    }
}

/// What the system calls an errno, ready to be followed by what the monitor says.
fn errno_text(errno: i32) -> String {
    format!("{}: ", std::io::Error::from_raw_os_error(errno.saturating_neg()))
}

/// An error and everything behind it, on one line.
pub(crate) fn chain(error: &dyn core::error::Error) -> String {
    let causes = core::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
