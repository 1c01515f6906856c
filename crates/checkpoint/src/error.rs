use crate::{CheckpointId, Seqno};

/// Why a log refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log is at its memory limit, and nothing more can be given up. Try again when persistence has caught up.
    #[error("the log holds {bytes} bytes, the limit is {limit}")]
    Full {
        /// Memory in use.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Hot reload cannot be reverted before everything from before its start is persisted. Flush and try again.
    #[error("{mutations} mutations from before the start of hot reload are not persisted yet")]
    NotDrained {
        /// How many are missing, those in an unfinished flush included.
        mutations: u64,
    },
    /// A revert is going on; try again when it is finished.
    #[error("hot reload is being reverted")]
    Reverting,
    /// Hot reload is on already.
    #[error("hot reload is on already")]
    UpdateOn,
    /// Hot reload is off.
    #[error("hot reload is off")]
    UpdateOff,

    /// The producer is at a checkpoint before ours: its history is another one, or ours went further.
    #[error("the producer is at checkpoint {got}, we are at {open}: roll back or start anew")]
    Behind {
        /// The producer's checkpoint.
        got: CheckpointId,
        /// Our open checkpoint.
        open: CheckpointId,
    },
    /// The producer sent a mutation outside the range that it announced, or out of order.
    #[error("mutation {got} does not fit: {after} was the last, the snapshot ends at {end}")]
    OutsideSnapshot {
        /// Its seqno.
        got: Seqno,
        /// The last one that we have.
        after: Seqno,
        /// Where the snapshot ends.
        end: Seqno,
    },
    /// The producer changed the kind of a checkpoint, made its range shorter, or gave it a number that nobody counts to.
    #[error("the snapshot of checkpoint {0} contradicts itself")]
    Contradiction(CheckpointId),
    /// The producer completes or reverts a window that we have not seen begin; its stream has to start anew.
    #[error("hot reload with barrier {got} is unknown here, a resynchronisation is needed")]
    UnknownWindow {
        /// The barrier that it named.
        got: CheckpointId,
    },

    /// The cursor was dropped to free memory, replaced under the same name, or removed: go on with a backfill.
    #[error("the cursor is gone")]
    CursorGone,
    /// The flush began before the log was reset, or is finished already.
    #[error("the flush is void")]
    FlushVoid,
    /// The position is ahead of everything that the log ever had.
    #[error("position {got} is ahead of the last mutation {last}")]
    Ahead {
        /// The position.
        got: Seqno,
        /// The last seqno of the log.
        last: Seqno,
    },
    /// The log has as many cursors as it may.
    #[error("the log has {limit} cursors, which is its limit")]
    TooManyCursors {
        /// The limit.
        limit: usize,
    },

    /// The caller broke a rule of this crate. Never caused by what a peer or client sends.
    #[error("misuse: {0}")]
    Misuse(&'static str),
}

impl Error {
    /// Whether the same call can succeed later without a change of plan.
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Full { .. } | Self::NotDrained { .. } | Self::Reverting | Self::TooManyCursors { .. }
        )
    }
}
