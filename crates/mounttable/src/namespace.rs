use alloc::string::String;
use alloc::vec::Vec;

use crate::{Epoch, Error, Lease, Mount, Mounted, Name, Resolved, Server};

/// Where servers are mounted: one mount table, as whoever keeps entries in it sees it.
///
/// Implementations do their own connecting and no retrying: an attempt ends with a [`Failure`], and the publisher
/// decides when there is another. All futures may be dropped at any point, after which the outcome is unknown; an
/// entry may then be mounted or not.
pub trait Namespace: Send + Sync + 'static {
    /// What keeps entries alive.
    fn upkeep(&self) -> Upkeep;

    /// How many entries one call may carry, at least 1.
    fn batch_max(&self) -> usize;

    /// Mounts or refreshes entries; one answer for each, in their order.
    fn mount(&self, batch: Vec<Mount>) -> impl Future<Output = Vec<Result<Mounted, Failure>>> + Send;

    /// Takes entries away; one answer for each, in their order. An entry that is not there is no failure.
    fn unmount(&self, batch: Vec<Withdrawal>) -> impl Future<Output = Vec<Result<(), Failure>>> + Send;

    /// Keeps everything that was mounted through this value alive; only with [`Upkeep::Lease`].
    fn keep(&self) -> impl Future<Output = Result<Kept, Failure>> + Send;

    /// Takes everything away that was mounted through this value, at once; only with [`Upkeep::Lease`].
    fn release(&self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Where a name leads.
    fn resolve(&self, name: Name) -> impl Future<Output = Result<Resolved, Failure>> + Send;
}

/// What keeps the entries of a table alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a publisher has to know all of them")]
pub enum Upkeep {
    /// Mounting each of them again before its time to live ends.
    Refresh,
    /// One lease for all of them.
    Lease,
}

/// The answer to [`Namespace::keep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a publisher has to know all of them")]
pub enum Kept {
    /// Everything on this lease lives for so much longer, counted from when the request was sent.
    For {
        /// How much longer.
        left: core::time::Duration,
        /// Which lease; what was mounted on an earlier one is gone.
        lease: Lease,
    },
    /// The lease is gone, and everything on it; mounting again begins another one.
    Lost {
        /// Which one; the last one that was begun, if there is none at all.
        lease: Lease,
    },
}

/// One entry to be taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Withdrawal {
    /// From which name.
    pub name: Name,
    /// Which server.
    pub server: Server,
    /// On behalf of which incarnation; a later one's entry stays.
    pub epoch: Epoch,
}

impl Withdrawal {
    /// An entry to be taken away.
    pub const fn new(name: Name, server: Server, epoch: Epoch) -> Self {
        Self { name, server, epoch }
    }
}

/// Why an attempt did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The table could not be asked, or its answer did not arrive. Whether it did what was asked is unknown.
    #[error("the mount table cannot be reached: {reason}")]
    Unreachable {
        /// What the transport says.
        reason: String,
    },
    /// The lease that everything was mounted on is gone, and so is everything; the next mount begins a new one.
    #[error("the lease is gone")]
    LeaseLost {
        /// Which one.
        lease: Lease,
    },
    /// The table said no. Nothing has changed there.
    #[error("the mount table refused")]
    Refused(#[from] Error),
    /// The table said no, in words of its own. Nothing has changed there.
    #[error("the mount table refused: {reason}")]
    Foreign {
        /// Its words.
        reason: String,
    },
    /// The table does not know who asks, or does not let him. Nothing has changed there.
    #[error("not permitted by the mount table: {reason}")]
    Forbidden {
        /// Its words.
        reason: String,
    },
    /// Mount tables lead on and on to each other, perhaps in a circle.
    #[error("the name leads through more than {max} mount tables")]
    TooDeep {
        /// How many are entered.
        max: usize,
    },
}

impl Failure {
    /// Whether the request may have taken effect all the same.
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
