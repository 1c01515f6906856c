use cuttlebone_checkpoint::{ItemError, LimitError};

use crate::engine::EngineError;

/// Why an operation was refused. Nothing has changed then, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such key.
    #[error("there is no such key")]
    NotFound,
    /// The key exists, or its stamp is another one.
    #[error("the key exists, or its compare-and-swap stamp is another one")]
    Exists,
    /// Somebody holds the key.
    #[error("the key is locked")]
    Locked,
    /// The vbucket does not serve clients here.
    #[error("the vbucket is not active here")]
    NotMyVbucket,
    /// The operation waits: the vbucket is pending or being reverted. Use the asynchronous face, or try again.
    #[error("the operation is parked")]
    Parked,
    /// The value is being read from the disk, for [`Bucket::wait`](crate::Bucket::wait), which tries again then.
    #[error("the value is being read from the disk")]
    Fetching,
    /// Too many operations wait already.
    #[error("{limit} operations are parked already")]
    TooManyParked {
        /// The limit.
        limit: usize,
    },
    /// Memory is full, and the disk is behind. Try again.
    #[error("memory is full for now")]
    Temporary,
    /// The key has no value on disk that could be given up, since it was not persisted yet.
    #[error("the key is dirty")]
    Dirty,
    /// The value is not a number that could be counted up or down.
    #[error("the value is not a decimal number")]
    NotANumber,
    /// Key or value have no place in an item.
    #[error("item")]
    Item(#[from] ItemError),

    /// Hot reload is on already.
    #[error("hot reload is on already")]
    UpdateOn,
    /// Hot reload is off, or being reverted by another.
    #[error("hot reload is off")]
    UpdateOff,
    /// What came before the start of hot reload could not be persisted: it stays on.
    #[error("what came before the start of hot reload is not persisted")]
    NotDrained,
    /// The operation makes no sense in a window of hot reload.
    #[error("not while hot reload is on")]
    InWindow,

    /// The producer's stream does not fit what is here: start a new one.
    #[error("replication")]
    Replication(#[source] cuttlebone_checkpoint::Error),
    /// The stream's cursor is gone, or its history was left: ask for a new one.
    #[error("the stream is over")]
    StreamOver,

    /// What was waited for was taken back before it was durable: hot reload was reverted, or the vbucket cleared.
    #[error("taken back before it was durable")]
    Undone,
    /// What was waited for was not durable in time. It may become so later.
    #[error("not durable in time")]
    TimedOut,

    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// Persistence is stopped by the operator.
    #[error("persistence is stopped")]
    Paused,
    /// The disk failed. What was to be flushed is kept and flushed again.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A row on the disk is not what was written.
    #[error("the row at {address} is damaged")]
    Corrupt {
        /// Where it lies.
        address: u64,
    },
    /// The caller broke a rule of this crate.
    #[error("misuse: {0}")]
    Misuse(&'static str),
}

impl Error {
    /// Whether the same call can succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Temporary
                | Self::Parked
                | Self::Fetching
                | Self::TooManyParked { .. }
                | Self::Locked
                | Self::NotDrained
                | Self::TimedOut
                | Self::Engine(_)
                | Self::Paused
        )
    }
}

/// What the log says to a writer. Only memory can be short; the rest would be a defect of this crate.
impl From<cuttlebone_checkpoint::Error> for Error {
    fn from(error: cuttlebone_checkpoint::Error) -> Self {
        match error {
            cuttlebone_checkpoint::Error::Full { .. } => Self::Temporary,
            cuttlebone_checkpoint::Error::NotDrained { .. } => Self::NotDrained,
            cuttlebone_checkpoint::Error::UpdateOn => Self::UpdateOn,
            cuttlebone_checkpoint::Error::UpdateOff | cuttlebone_checkpoint::Error::Reverting => {
                Self::UpdateOff
            }
            cuttlebone_checkpoint::Error::CursorGone => Self::StreamOver,
            other => Self::Replication(other),
        }
    }
}

/// Why a bucket did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A limit is outside its range.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The disk failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A row on the disk is not what was written.
    #[error("the row at {address} is damaged")]
    Row {
        /// Where it lies.
        address: u64,
    },
    /// The document of a vbucket is not what was written.
    #[error("the document of vbucket {vbucket} is damaged")]
    Document {
        /// Which one.
        vbucket: u16,
    },
}
