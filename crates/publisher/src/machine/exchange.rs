//! What a [`Core`](super::Core) is told, and what it asks for.

use cuttlebone_mounttable::{Failure, Kept, Mount, Mounted, Withdrawal};

use crate::lane::CallId;
use crate::{EntryStatus, Report, Settled, Ticket};

/// What the world tells a [`Core`](super::Core).
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to know all of them")]
pub enum Input {
    /// The answers to [`Work::Mount`], one for each entry.
    Mounted(CallId, Vec<Result<Mounted, Failure>>),
    /// The answers to [`Work::Unmount`], one for each entry.
    Unmounted(CallId, Vec<Result<(), Failure>>),
    /// The answer to [`Work::Keep`].
    Kept(CallId, Result<Kept, Failure>),
    /// The answer to [`Work::Release`].
    Released(CallId, Result<(), Failure>),
}

impl Input {
    /// The call that this answers.
    pub const fn id(&self) -> CallId {
        match self {
            Self::Mounted(id, _) | Self::Unmounted(id, _) | Self::Kept(id, _) | Self::Released(id, _) => *id,
        }
    }
}

/// What a [`Core`](super::Core) asks of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to carry out every one of them")]
pub enum Output {
    /// Ask a table, by its place in the list of tables.
    Call(CallId, usize, Work),
    /// Its time is up; an answer would be ignored.
    Abandon(CallId),
    /// An entry changed; a forgotten one comes without tables.
    Changed(EntryStatus),
    /// What one call asked for has ended.
    Settled(Ticket, Settled),
    /// Stopped, and everything is withdrawn or given up. Nothing follows.
    Closed(Report),
}

/// What to ask a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to carry out every one of them")]
pub enum Work {
    /// See [`Namespace::mount`](cuttlebone_mounttable::Namespace::mount).
    Mount(Vec<Mount>),
    /// See [`Namespace::unmount`](cuttlebone_mounttable::Namespace::unmount).
    Unmount(Vec<Withdrawal>),
    /// See [`Namespace::keep`](cuttlebone_mounttable::Namespace::keep).
    Keep,
    /// See [`Namespace::release`](cuttlebone_mounttable::Namespace::release).
    Release,
}
