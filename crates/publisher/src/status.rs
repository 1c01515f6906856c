use core::fmt;

use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{Failure, Kind, Name, Server};

/// What the user wants of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum Desired {
    /// It shall be there, as this kind.
    Mounted(Kind),
    /// It shall be gone.
    Unmounted,
}

/// What is so at one table, as far as can be known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a status page shows all of them")]
pub enum Actual {
    /// It is not there, or its time to live has passed without a success.
    Unmounted,
    /// A mount was sent, and none has succeeded yet.
    Mounting,
    /// A mount succeeded within the time to live.
    Mounted,
    /// It may be there, and shall not.
    Unmounting,
}

/// One entry and how it is at every table, in the order in which the tables were given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryStatus {
    /// The name.
    pub name: Name,
    /// The server.
    pub server: Server,
    /// What is wanted.
    pub desired: Desired,
    /// What is so; empty for an entry that is forgotten, since it is gone everywhere.
    pub tables: Vec<SlotStatus>,
}

impl EntryStatus {
    /// Whether it is mounted at every table.
    pub fn is_mounted(&self) -> bool {
        !self.tables.is_empty() && self.tables.iter().all(|slot| slot.actual == Actual::Mounted)
    }
}

/// One entry at one table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotStatus {
    /// What is so.
    pub actual: Actual,
    /// When the last success was sent.
    pub last_success: Option<Instant>,
    /// The last failure since then.
    pub last_failure: Option<Failure>,
    /// Failures since the last success.
    pub failures: u32,
}

impl fmt::Display for EntryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}:", self.name, self.server, self.desired)?;
        for slot in &self.tables {
            write!(f, " {:?}", slot.actual)?;
            if let Some(failure) = &slot.last_failure {
                write!(f, " ({} failures, last: {failure})", slot.failures)?;
            }
        }
        Ok(())
    }
}

/// What a publisher has done and holds, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Entries that shall be mounted.
    pub desired: usize,
    /// Pairs of an entry and a table where it is mounted.
    pub mounted: usize,
    /// Pairs of an entry and a table whose last attempt failed.
    pub failing: usize,
    /// Calls that were sent, in all.
    pub calls: u64,
    /// Calls that failed, in all.
    pub failed_calls: u64,
    /// Calls in flight.
    pub in_flight: usize,
}

/// Stands for the changes that one call asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// How the changes that one call asked for ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "every one of them needs an answer of its own")]
pub enum Settled {
    /// Every table was brought to what was asked for, at least for a moment.
    Applied,
    /// A later call asked for something else before that.
    Superseded,
    /// The publisher stopped before that.
    Stopped,
}

/// What a stop left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Entries that may still be mounted, with the table, by its place in the list of tables; they lapse when their
    /// time to live ends.
    pub left: Vec<(Name, Server, usize)>,
}

/// Why a call was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// A limit of the configuration.
    #[error("the limit of {max} {limit} is reached")]
    Full {
        /// Of what.
        limit: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// The root of a table is no name to publish.
    #[error("the root of a mount table cannot be published")]
    Root,
    /// The publisher has been stopped.
    #[error("the publisher has been stopped")]
    Stopped,
}
