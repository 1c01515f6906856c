//! What the answers of tables mean, and what their absence means.

use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{Before, Error, Failure, Kept, Lease, Mounted, Upkeep};

use super::{Core, Phase};
use crate::lane::{CallId, EntryId, What, back_off, share};
use crate::slot::{Action, OPEN_END};

impl Core {
    /// The answers of one call, or what is put in their place when there are none.
    pub(super) fn answered(&mut self, now: Instant, id: CallId, answers: Answers) {
        let found =
            self.lanes.iter_mut().enumerate().find_map(|(table, lane)| Some((table, lane.ended(id)?)));
        let Some((table, call)) = found else { return };
        self.reached(now, table, answers.verdict());
        let lost = answers.lost();
        let missing = || Failure::Unreachable { reason: "an answer is missing".into() };
        match (call.what, answers) {
            (What::Act(Action::Mount), Answers::Mounted(answers)) => {
                let mut answers = answers.into_iter();
                for entry in call.entries {
                    let answer = answers.next().unwrap_or_else(|| Err(missing()));
                    self.mounted(now, table, entry, call.sent, answer);
                }
            }
            (What::Act(Action::Unmount), Answers::Unmounted(answers)) => {
                let mut answers = answers.into_iter();
                for entry in call.entries {
                    let answer = answers.next().unwrap_or_else(|| Err(missing()));
                    self.unmounted(now, table, entry, answer);
                }
            }
            (What::Keep, Answers::Kept(answer)) => self.kept(now, table, call.sent, &answer),
            (What::Release, Answers::Released(answer)) => self.released(now, table, &answer),
            (what, answers) => {
                debug_assert!(matches!(answers, Answers::None(_)), "the answer to another question");
                let failure = if let Answers::None(failure) = answers { failure } else { missing() };
                self.unanswered(now, table, what, call.sent, call.entries, &failure);
            }
        }
        if let Some(lease) = lost {
            self.lost(now, table, lease);
        }
    }

    fn unanswered(
        &mut self,
        now: Instant,
        table: usize,
        what: What,
        sent: Instant,
        entries: Vec<EntryId>,
        failure: &Failure,
    ) {
        match what {
            What::Act(Action::Mount) => {
                for entry in entries {
                    self.mounted(now, table, entry, sent, Err(failure.clone()));
                }
            }
            What::Act(Action::Unmount) => {
                for entry in entries {
                    self.unmounted(now, table, entry, Err(failure.clone()));
                }
            }
            What::Keep => self.kept(now, table, sent, &Err(failure.clone())),
            What::Release => self.released(now, table, &Err(failure.clone())),
        }
    }

    fn mounted(
        &mut self,
        now: Instant,
        table: usize,
        id: EntryId,
        sent: Instant,
        answer: Result<Mounted, Failure>,
    ) {
        let outlived = answer.as_ref().is_ok_and(|mounted| !self.is_on_lease(now, table, mounted.lease));
        let parts = self.entries.get_mut(&id).and_then(|entry| entry.slots.get_mut(table));
        let (Some(slot), Some(lane)) = (parts, self.lanes.get_mut(table)) else { return };
        slot.in_flight = false;
        let mut forgot = false;
        match answer {
            // It went with its lease, which was gone before this answer came.
            Ok(_) if outlived => slot.due = Some(now),
            Ok(mounted) => {
                let held = slot.confirmed.map(|(since, _)| since);
                // Somebody else's replacing mount looks the same and costs one sweep.
                forgot = mounted.before == Before::Absent && held.is_some_and(|since| since >= lane.swept_at);
                slot.succeeded(sent);
                slot.lapsed = false;
                slot.lease = mounted.lease;
                let ttl = mounted.ttl.as_duration();
                if lane.upkeep == Upkeep::Lease {
                    slot.confirmed = Some((sent, OPEN_END));
                    lane.lease_until = lane.lease_until.max(Some(sent + ttl));
                    if self.phase == Phase::Running && lane.keep_due.is_none() {
                        lane.keep_due = Some(now + ttl / 3);
                    }
                } else {
                    slot.confirmed = Some((sent, sent + ttl));
                    let span = self.config.period.min(ttl.saturating_mul(3) / 4);
                    let next = sent + share(span, 600..=900, &mut self.dice);
                    slot.due = slot.due.or(Some(next));
                }
            }
            Err(failure) => {
                // A refusal changes nothing there; only a fence says that the entry is another incarnation's.
                if matches!(failure, Failure::Refused(Error::Fenced { .. })) {
                    slot.forget();
                } else if !failure.is_unknown() {
                    (slot.possible_until, slot.sent_kind) = slot.before;
                }
                self.failed(now, table, id, failure);
            }
        }
        self.settle_slot(id, table);
        if forgot {
            self.sweep(now, table);
        }
        self.release_predecessors(now, id, Some(table));
    }

    fn unmounted(&mut self, now: Instant, table: usize, id: EntryId, answer: Result<(), Failure>) {
        let Some(slot) = self.entries.get_mut(&id).and_then(|entry| entry.slots.get_mut(table)) else {
            return;
        };
        slot.in_flight = false;
        match answer {
            Ok(()) | Err(Failure::Refused(Error::Fenced { .. })) => {
                slot.forget();
                slot.succeeded(now);
                slot.due = Some(now);
            }
            Err(failure) => self.failed(now, table, id, failure),
        }
        self.settle_slot(id, table);
    }

    fn failed(&mut self, now: Instant, table: usize, id: EntryId, failure: Failure) {
        let Some(slot) = self.entries.get_mut(&id).and_then(|entry| entry.slots.get_mut(table)) else {
            return;
        };
        slot.failures = slot.failures.saturating_add(1);
        slot.last_failure = Some(failure);
        let wait = back_off(slot.failures, &self.config, &mut self.dice);
        // What was changed during the call is tried at once.
        slot.due = slot.due.or(Some(now + wait));
    }

    fn settle_slot(&mut self, id: EntryId, table: usize) {
        let parts = self.entries.get_mut(&id).and_then(|entry| entry.slots.get_mut(table));
        if let (Some(slot), Some(lane)) = (parts, self.lanes.get_mut(table)) {
            lane.retime(id, slot);
        }
        self.after_change(id);
    }

    /// Whether the table can be reached, as the last call has it.
    fn reached(&mut self, now: Instant, table: usize, verdict: Verdict) {
        let Some(lane) = self.lanes.get_mut(table) else { return };
        if verdict != Verdict::Done {
            self.failed_calls += 1;
        }
        if verdict == Verdict::Unreached {
            lane.unreached = lane.unreached.saturating_add(1);
            if lane.unreached >= self.config.down_after {
                let failures = lane.unreached - self.config.down_after + 1;
                lane.probe_due = Some(now + back_off(failures, &self.config, &mut self.dice));
            }
            return;
        }
        lane.unreached = 0;
        if lane.probe_due.take().is_some() {
            // It is back, and may have lost what it had: everything is confirmed again.
            lane.keep_due = lane.keep_due.map(|_| now);
            self.sweep(now, table);
        }
    }

    /// Everything at a table is mounted again, or unmounted if it was to be.
    fn sweep(&mut self, now: Instant, table: usize) {
        let Some(lane) = self.lanes.get_mut(table) else { return };
        lane.swept_at = now;
        let lease = lane.upkeep == Upkeep::Lease;
        for id in self.entries.keys().copied().collect::<Vec<_>>() {
            let slot = self.entries.get(&id).and_then(|entry| entry.slots.get(table));
            // What is on a lease is looked after by keeping it.
            let kept = lease && slot.is_some_and(|slot| slot.confirmed.is_some() && slot.failures == 0);
            if !kept && slot.is_some_and(|slot| !slot.in_flight) {
                self.make_due(now, id, table);
            }
        }
    }

    fn kept(&mut self, now: Instant, table: usize, sent: Instant, answer: &Result<Kept, Failure>) {
        let stopping = self.phase != Phase::Running;
        let Some(lane) = self.lanes.get_mut(table) else { return };
        match answer {
            Ok(Kept::For { left, lease }) => {
                lane.keep_failures = 0;
                let lapsed = lane.lease_until.is_none();
                lane.lease_until = Some(sent + *left);
                lane.keep_due = Some(sent + *left / 3);
                if self.is_on_lease(now, table, *lease) && lapsed {
                    self.restore_all(sent, table);
                }
            }
            Ok(Kept::Lost { lease }) => {
                lane.keep_failures = 0;
                // If a later one has begun meanwhile, it is the one to keep; otherwise the next mount begins one.
                lane.keep_due = (*lease < lane.lease).then_some(now);
                self.lost(now, table, *lease);
            }
            Err(_) => {
                lane.keep_failures = lane.keep_failures.saturating_add(1);
                lane.keep_due = Some(now + back_off(lane.keep_failures, &self.config, &mut self.dice));
            }
        }
        if stopping && let Some(lane) = self.lanes.get_mut(table) {
            lane.keep_due = Some(now);
        }
    }

    /// Whether what is on this lease is alive as far as is known. A later one than before says that everything on the
    /// one before is gone; the answer that told so may have been given up.
    fn is_on_lease(&mut self, now: Instant, table: usize, lease: Lease) -> bool {
        let Some(lane) = self.lanes.get_mut(table) else { return false };
        if lease <= lane.lease {
            return lease == lane.lease && !lane.lease_gone;
        }
        let untold = lane.lease > Lease::NONE && !lane.lease_gone;
        (lane.lease, lane.lease_gone) = (lease, false);
        if untold {
            self.lapse_all(now, table, true);
        }
        true
    }

    /// A lease is gone: everything is mounted again, unless that is old news.
    fn lost(&mut self, now: Instant, table: usize, lease: Lease) {
        let Some(lane) = self.lanes.get_mut(table) else { return };
        if lease < lane.lease || lease == lane.lease && lane.lease_gone {
            return;
        }
        (lane.lease, lane.lease_gone) = (lease, true);
        lane.lease_until = None;
        // The next mount begins a lease, and with it the keeping.
        lane.keep_due = None;
        self.lapse_all(now, table, true);
    }

    /// The lease outlived our own deadline for it: what was mounted on it is mounted still.
    fn restore_all(&mut self, sent: Instant, table: usize) {
        for id in self.entries.keys().copied().collect::<Vec<_>>() {
            let parts = self.entries.get_mut(&id).and_then(|entry| entry.slots.get_mut(table));
            let (Some(slot), Some(lane)) = (parts, self.lanes.get(table)) else { continue };
            if slot.lapsed && slot.lease == lane.lease && slot.possible_until.is_some() && slot.failures == 0
            {
                slot.confirmed = Some((sent, OPEN_END));
                slot.lapsed = false;
                self.settle_slot(id, table);
            }
        }
    }

    fn released(&mut self, now: Instant, table: usize, answer: &Result<(), Failure>) {
        if answer.is_err() {
            let Some(lane) = self.lanes.get_mut(table) else { return };
            lane.keep_failures = lane.keep_failures.saturating_add(1);
            lane.keep_due = Some(now + back_off(lane.keep_failures, &self.config, &mut self.dice));
            return;
        }
        for id in self.entries.keys().copied().collect::<Vec<_>>() {
            let slot = self.entries.get_mut(&id).and_then(|entry| entry.slots.get_mut(table));
            if let Some(slot) = slot.filter(|slot| !slot.in_flight) {
                slot.forget();
                self.settle_slot(id, table);
            }
        }
        // An unmount that was in flight meanwhile may have failed; releasing again covers it.
        if let Some(lane) = self.lanes.get_mut(table) {
            lane.keep_due = Some(now + self.config.retry_max);
        }
    }
}

/// What came back from a call.
pub(super) enum Answers {
    Mounted(Vec<Result<Mounted, Failure>>),
    Unmounted(Vec<Result<(), Failure>>),
    Kept(Result<Kept, Failure>),
    Released(Result<(), Failure>),
    None(Failure),
}

/// What a call says about the table it went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    Refused,
    Unreached,
}

impl Answers {
    fn verdict(&self) -> Verdict {
        fn all<T>(answers: &[Result<T, Failure>]) -> Verdict {
            let mut failures = answers.iter().filter_map(|answer| answer.as_ref().err());
            match failures.clone().count() {
                0 if !answers.is_empty() => Verdict::Done,
                // One entry that was reached is enough to know that the table is there.
                count if count == answers.len() && failures.all(Failure::is_unknown) => Verdict::Unreached,
                _ => Verdict::Refused,
            }
        }
        fn one<T>(answer: &Result<T, Failure>) -> Verdict {
            match answer {
                Ok(_) => Verdict::Done,
                Err(failure) if failure.is_unknown() => Verdict::Unreached,
                Err(_) => Verdict::Refused,
            }
        }
        match self {
            Self::Mounted(answers) => all(answers),
            Self::Unmounted(answers) => all(answers),
            Self::Kept(answer) => one(answer),
            Self::Released(answer) => one(answer),
            Self::None(_) => Verdict::Unreached,
        }
    }

    /// The lease that a mount found to be gone.
    fn lost(&self) -> Option<Lease> {
        let Self::Mounted(answers) = self else { return None };
        answers.iter().find_map(|answer| match answer {
            Err(Failure::LeaseLost { lease }) => Some(*lease),
            _ => None,
        })
    }
}
