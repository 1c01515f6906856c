use core::time::Duration;

use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{Failure, Kind, Lease};

use crate::{Actual, SlotStatus};

/// "Until something says otherwise": an entry on a lease that is being kept.
pub(crate) const OPEN_END: Instant = Instant::from_nanos(u64::MAX);

/// One entry at one table: what is known, and what happens next.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// A mount succeeded that was sent at the first instant, and is good until the second.
    pub(crate) confirmed: Option<(Instant, Instant)>,
    /// On which lease the last mount that succeeded was.
    pub(crate) lease: Lease,
    /// Until when the table may have the entry, also when no answer said so.
    pub(crate) possible_until: Option<Instant>,
    /// What `possible_until` and `sent_kind` were before the mount in flight was sent: so it is again if that is refused.
    pub(crate) before: (Option<Instant>, Option<Kind>),
    /// As what the last mount that was sent asked for it.
    pub(crate) sent_kind: Option<Kind>,
    /// When something has to be done; while a call is in flight, what its end will find due.
    pub(crate) due: Option<Instant>,
    pub(crate) in_flight: bool,
    pub(crate) failures: u32,
    pub(crate) last_success: Option<Instant>,
    pub(crate) last_failure: Option<Failure>,
    /// A confirmation ended, and nothing succeeded since.
    pub(crate) lapsed: bool,
    /// Where the lane's timers and queues have this slot.
    pub(crate) timer: Option<Instant>,
    pub(crate) queued: Option<(Class, Instant)>,
    pub(crate) shown: Option<Actual>,
}

/// Which limit a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// The last attempt succeeded, or there was none.
    Healthy,
    /// The last attempt failed.
    Suspect,
}

/// What would bring a slot nearer to what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Mount,
    Unmount,
}

impl Slot {
    /// What to do now that it is due, if anything.
    pub(crate) fn action(&self, wanted: Option<Kind>) -> Option<Action> {
        match wanted {
            // Tables refuse two kinds on one name, so the old one goes first.
            Some(kind)
                if self.possible_until.is_some() && self.sent_kind.is_some_and(|sent| sent != kind) =>
            {
                Some(Action::Unmount)
            }
            Some(_) => Some(Action::Mount),
            None => self.possible_until.map(|_| Action::Unmount),
        }
    }

    pub(crate) fn class(&self) -> Class {
        if self.failures == 0 { Class::Healthy } else { Class::Suspect }
    }

    /// Earliest deadline first: when the entry lapses, or would if it were there.
    pub(crate) fn urgency(&self, slack: Duration) -> Instant {
        match (self.confirmed, self.due) {
            (Some((_, until)), _) if until != OPEN_END => until,
            (_, Some(due)) => due + slack,
            _ => OPEN_END,
        }
    }

    /// When a timer has to look at this slot again.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        let due = self.due.filter(|_| !self.in_flight && self.queued.is_none());
        let lapse = self.confirmed.map(|(_, until)| until).filter(|until| *until != OPEN_END);
        due.into_iter().chain(lapse).min()
    }

    pub(crate) fn actual(&self, wanted: bool) -> Actual {
        match (wanted, self.confirmed.is_some(), self.possible_until.is_some()) {
            (true, true, _) => Actual::Mounted,
            (true, false, true) if !self.lapsed => Actual::Mounting,
            (false, _, true) => Actual::Unmounting,
            _ => Actual::Unmounted,
        }
    }

    /// Whether this is how it shall be.
    pub(crate) fn is_settled(&self, wanted: Option<Kind>) -> bool {
        match wanted {
            Some(kind) => self.confirmed.is_some() && self.sent_kind == Some(kind),
            None => self.possible_until.is_none() && !self.in_flight,
        }
    }

    /// The entry is certainly not at the table.
    pub(crate) fn forget(&mut self) {
        self.confirmed = None;
        self.possible_until = None;
        self.sent_kind = None;
    }

    pub(crate) fn succeeded(&mut self, sent: Instant) {
        self.failures = 0;
        self.last_failure = None;
        self.last_success = Some(sent);
    }

    pub(crate) fn status(&self, wanted: bool) -> SlotStatus {
        SlotStatus {
            actual: self.actual(wanted),
            last_success: self.last_success,
            last_failure: self.last_failure.clone(),
            failures: self.failures,
        }
    }
}
