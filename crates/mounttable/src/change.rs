use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::tree::Acl;
use crate::{Epoch, Kind, Name, Server};

/// Counts the changes of a table; changes of one step share one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number with a meaning")]
pub struct Revision(pub u64);

/// One server that came or went. A refresh is no change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The step that it was part of.
    pub revision: Revision,
    /// The name.
    pub name: Name,
    /// The server.
    pub server: Server,
    /// What happened to it.
    pub event: Event,
}

impl Change {
    /// A change as a table reports it.
    pub const fn new(revision: Revision, name: Name, server: Server, event: Event) -> Self {
        Self { revision, name, server, event }
    }
}

/// What happened to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever keeps a copy has to know all of them")]
pub enum Event {
    /// It was mounted, or mounted again by another incarnation.
    Mounted {
        /// As what.
        kind: Kind,
        /// By which incarnation.
        epoch: Epoch,
    },
    /// Somebody took it away.
    Unmounted,
    /// Nobody refreshed it in time.
    Expired,
}

/// The revision that a watcher asked for is no longer, or not yet, known.
///
/// It has to list again and go on from the revision of that list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes are known from revision {} to {}", oldest.0, newest.0)]
#[non_exhaustive]
pub struct Lagged {
    /// The oldest revision from which one can go on.
    pub oldest: Revision,
    /// The newest.
    pub newest: Revision,
}

impl Lagged {
    /// What a table reports.
    pub const fn new(oldest: Revision, newest: Revision) -> Self {
        Self { oldest, newest }
    }
}

/// The most recent changes.
#[derive(Debug)]
pub(crate) struct Ring {
    changes: VecDeque<Kept>,
    max: usize,
    newest: Revision,
    /// What came after this revision is complete.
    complete_after: Revision,
}

/// A change, and the permissions that its name had then: whoever was not to see the name is not to hear of its end,
/// when there is nothing left to ask.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) change: Change,
    pub(crate) acl: Option<Arc<Acl>>,
}

impl Ring {
    pub(crate) fn new(max: usize) -> Self {
        Self { changes: VecDeque::new(), max, newest: Revision(0), complete_after: Revision(0) }
    }

    pub(crate) fn newest(&self) -> Revision {
        self.newest
    }

    /// Opens a step: the changes pushed until the next one share its revision.
    pub(crate) fn step(&mut self) -> Revision {
        self.newest.0 += 1;
        self.newest
    }

    pub(crate) fn push(&mut self, name: Name, server: Server, event: Event, acl: Option<Arc<Acl>>) {
        if self.changes.len() >= self.max
            && let Some(old) = self.changes.pop_front()
        {
            // The rest of its step goes with it in effect: nobody may start in the middle.
            self.complete_after = old.change.revision;
        }
        self.changes.push_back(Kept { change: Change { revision: self.newest, name, server, event }, acl });
    }

    /// All changes of the steps after `after`, up to `max` and then to the end of the step.
    pub(crate) fn since(&self, after: Revision, max: usize) -> Result<Vec<Kept>, Lagged> {
        if after < self.complete_after || after > self.newest {
            return Err(Lagged::new(self.complete_after, self.newest));
        }
        let start = self.changes.partition_point(|kept| kept.change.revision <= after);
        let mut out: Vec<Kept> = Vec::new();
        for kept in self.changes.range(start..) {
            if out.len() >= max && out.last().is_some_and(|last| last.change.revision != kept.change.revision)
            {
                break;
            }
            out.push(kept.clone());
        }
        Ok(out)
    }
}
