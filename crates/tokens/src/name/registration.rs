use alloc::vec::Vec;
use core::mem;

use super::{Cx, Drain, EventKind, Name, Phase, Successor};
use crate::{AcquireError, Capacity, DrainPolicy, Epoch, OwnerId, RegisterError, Takeover};

/// A place among those who want the name.
#[derive(Debug, PartialEq, Eq, Hash)]
#[cfg_attr(test, derive(Clone, Copy))]
pub struct Candidate(u32);

/// What asking for a registration led to.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "registered or not yet")]
pub enum Registering {
    /// The owner is the current one.
    Active(Epoch),
    /// It stands in line, or waits for older tokens to end.
    Waiting(Candidate),
}

#[derive(Clone, Debug)]
pub(super) struct Applicant<W> {
    owner: OwnerId,
    waker: Option<W>,
    state: Standing,
}

#[derive(Clone, Debug)]
enum Standing {
    InLine,
    /// Next, with this epoch, once the older tokens have ended.
    Next(Epoch),
    Done(Result<Epoch, RegisterError>),
}

impl<W> Name<W> {
    /// Asks for the name on behalf of `owner`. An owner that has it already shares its registration.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NameTaken`], [`AtCapacity`](RegisterError::AtCapacity), [`Closed`](RegisterError::Closed).
    pub fn register(
        &mut self,
        cx: &mut Cx<'_, W>,
        owner: OwnerId,
        takeover: Takeover,
        waker: W,
    ) -> Result<Registering, RegisterError> {
        if self.closed {
            return Err(RegisterError::Closed);
        }
        if let Phase::Active { owner: current, epoch, handles } = &mut self.phase
            && *current == owner
        {
            *handles += 1;
            return Ok(Registering::Active(*epoch));
        }
        let taken = match &self.phase {
            Phase::Free => false,
            Phase::Active { .. } => true,
            Phase::Draining(drain) => drain.successor.as_ref().is_some_and(|next| next.owner != owner),
        };
        if taken && takeover == Takeover::Deny {
            return Err(RegisterError::NameTaken);
        }
        if self.applicants.len() >= self.limits.registrants_max as usize {
            return Err(RegisterError::AtCapacity(Capacity::Registrants));
        }
        let key = self.applicants.insert(Applicant { owner, waker: None, state: Standing::InLine });
        if taken && takeover == Takeover::Wait {
            self.queue.push_back(key);
        } else {
            self.take_over(cx, owner, key, takeover);
        }
        if let Some(outcome) = self.take_outcome(key) {
            return outcome.map(Registering::Active);
        }
        if let Some(applicant) = self.applicants.get_mut(key) {
            applicant.waker = Some(waker);
        }
        Ok(Registering::Waiting(Candidate(key)))
    }

    /// Puts `key` next, whoever is there now.
    fn take_over(&mut self, cx: &mut Cx<'_, W>, owner: OwnerId, key: u32, takeover: Takeover) {
        match mem::replace(&mut self.phase, Phase::Free) {
            Phase::Free => self.begin_drain(cx, Epoch(0)),
            Phase::Active { epoch, .. } => self.begin_drain(cx, epoch),
            Phase::Draining(drain) => self.phase = Phase::Draining(drain),
        }
        let Phase::Draining(drain) = &mut self.phase else { return };
        let from = drain.from;
        if let Some(next) = &mut drain.successor
            && next.owner == owner
        {
            next.keys.push(key);
            let epoch = next.epoch;
            self.stand(key, Standing::Next(epoch));
        } else {
            let overtaken = drain.successor.take();
            for key in overtaken.into_iter().flat_map(|next| next.keys) {
                self.decide(cx, key, Err(RegisterError::Fenced));
            }
            self.put_next(cx, owner, &[key]);
        }
        if takeover == Takeover::Preempt {
            self.raise_fence(cx, from);
        }
        self.settle(cx);
        self.wake_watchers(cx);
    }

    fn put_next(&mut self, cx: &mut Cx<'_, W>, owner: OwnerId, keys: &[u32]) {
        let epoch = cx.source.epoch();
        for key in keys {
            self.stand(*key, Standing::Next(epoch));
        }
        let (failing, patience) =
            (self.rules.drain_policy == DrainPolicy::Fail, cx.source.now() + self.rules.drain_max);
        if let Phase::Draining(drain) = &mut self.phase {
            drain.successor = Some(Successor { owner, epoch, keys: keys.to_vec() });
            if failing {
                drain.patience = Some(patience.max(self.quiet_until + self.rules.drain_max));
            }
        }
    }

    fn stand(&mut self, key: u32, state: Standing) {
        if let Some(applicant) = self.applicants.get_mut(key) {
            applicant.state = state;
        }
    }

    fn decide(&mut self, cx: &mut Cx<'_, W>, key: u32, outcome: Result<Epoch, RegisterError>) {
        if let Some(applicant) = self.applicants.get_mut(key) {
            applicant.state = Standing::Done(outcome);
            cx.wake.add(applicant.waker.take());
        }
    }

    fn take_outcome(&mut self, key: u32) -> Option<Result<Epoch, RegisterError>> {
        if !matches!(self.applicants.get(key)?.state, Standing::Done(_)) {
            return None;
        }
        match self.applicants.remove(key)?.state {
            Standing::Done(outcome) => Some(outcome),
            Standing::InLine | Standing::Next(_) => None,
        }
    }

    /// What a candidate has come to. `Some` ends the candidate; otherwise `update` says whom to wake.
    pub fn poll_register(
        &mut self,
        candidate: &Candidate,
        update: impl FnOnce(&mut Option<W>),
    ) -> Option<Result<Epoch, RegisterError>> {
        if let Some(outcome) = self.take_outcome(candidate.0) {
            return Some(outcome);
        }
        update(&mut self.applicants.get_mut(candidate.0)?.waker);
        None
    }

    /// The epoch a candidate will have; known as soon as it only waits for older tokens to end.
    pub fn epoch_of(&self, candidate: &Candidate) -> Option<Epoch> {
        match self.applicants.get(candidate.0)?.state {
            Standing::Next(epoch) => Some(epoch),
            Standing::InLine | Standing::Done(_) => None,
        }
    }

    /// A candidate goes away, registered or not; only a burned epoch is left of it.
    pub fn cancel_register(&mut self, cx: &mut Cx<'_, W>, candidate: &Candidate) {
        let Some(applicant) = self.applicants.remove(candidate.0) else { return };
        match applicant.state {
            Standing::InLine => self.queue.retain(|key| *key != candidate.0),
            Standing::Next(_) => self.forget_next(cx, candidate.0),
            Standing::Done(Ok(epoch)) => self.leave(cx, epoch),
            Standing::Done(Err(_)) => {}
        }
    }

    fn forget_next(&mut self, cx: &mut Cx<'_, W>, key: u32) {
        let Phase::Draining(Drain { successor, .. }) = &mut self.phase else { return };
        let Some(next) = successor else { return };
        next.keys.retain(|other| *other != key);
        if next.keys.is_empty() {
            *successor = None;
            self.promote(cx);
            self.settle(cx);
            self.wake_watchers(cx);
        }
    }

    /// One registration of `epoch` is given back; the owner is down when it was the last. Anything late is ignored.
    pub fn leave(&mut self, cx: &mut Cx<'_, W>, epoch: Epoch) {
        if let Phase::Active { epoch: current, handles, .. } = &mut self.phase
            && *current == epoch
        {
            *handles -= 1;
            if *handles == 0 {
                self.end_active(cx);
            }
        }
    }

    /// The incarnation `epoch` ends, however many registrations stand for it. Anything late is ignored.
    pub fn unregister(&mut self, cx: &mut Cx<'_, W>, epoch: Epoch) {
        if self.current() == Some(epoch) {
            self.end_active(cx);
        }
    }

    /// `owner` is dead: it leaves the line, and its registration ends. Its tokens may finish.
    pub fn owner_down(&mut self, cx: &mut Cx<'_, W>, owner: OwnerId) {
        for key in self.take_from_line(owner) {
            self.decide(cx, key, Err(RegisterError::Fenced));
        }
        match &mut self.phase {
            Phase::Active { owner: current, .. } if *current == owner => self.end_active(cx),
            Phase::Draining(Drain { successor, .. }) => {
                if let Some(next) = successor.take_if(|next| next.owner == owner) {
                    for key in next.keys {
                        self.decide(cx, key, Err(RegisterError::Fenced));
                    }
                    self.promote(cx);
                    self.settle(cx);
                    self.wake_watchers(cx);
                }
            }
            Phase::Active { .. } | Phase::Free => {}
        }
    }

    /// Ends the current incarnation, or hurries the drain, and tells all holders to stop. `false` if there are none.
    pub fn fence(&mut self, cx: &mut Cx<'_, W>) -> bool {
        match &self.phase {
            Phase::Free => false,
            Phase::Active { epoch, .. } => {
                let epoch = *epoch;
                self.raise_fence(cx, epoch);
                self.end_active(cx);
                true
            }
            Phase::Draining(drain) => {
                let from = drain.from;
                self.raise_fence(cx, from);
                self.wake_watchers(cx);
                true
            }
        }
    }

    fn end_active(&mut self, cx: &mut Cx<'_, W>) {
        let Some(epoch) = self.current() else { return };
        self.begin_drain(cx, epoch);
        self.promote(cx);
        self.settle(cx);
        self.wake_watchers(cx);
    }

    fn begin_drain(&mut self, cx: &mut Cx<'_, W>, from: Epoch) {
        let since = cx.source.now();
        self.phase = Phase::Draining(Drain {
            from,
            since,
            report_at: since + self.rules.watchdog_period,
            patience: Some(since.max(self.quiet_until) + self.rules.drain_max),
            successor: None,
        });
        self.fail_waiters(cx, &AcquireError::Fenced);
        let outstanding = self.held.len();
        if outstanding > 0 {
            cx.tell(|| EventKind::Draining { epoch: from, outstanding });
        }
    }

    /// A token from before a restart is counted.
    pub(super) fn recover(&mut self, cx: &mut Cx<'_, W>, epoch: Epoch) {
        if self.phase == Phase::Free {
            self.begin_drain(cx, epoch);
        }
        if let Phase::Draining(drain) = &mut self.phase {
            drain.from = drain.from.max(epoch);
        }
    }

    /// The next in line becomes the successor, with all it has in line.
    fn promote(&mut self, cx: &mut Cx<'_, W>) {
        let Some(owner) = self.queue.front().and_then(|key| self.applicants.get(*key)).map(|next| next.owner)
        else {
            return;
        };
        let keys = self.take_from_line(owner);
        self.put_next(cx, owner, &keys);
        for key in keys {
            let waker = self.applicants.get_mut(key).and_then(|applicant| applicant.waker.take());
            cx.wake.add(waker); // so that it learns its epoch and can advance a gate
        }
    }

    fn take_from_line(&mut self, owner: OwnerId) -> Vec<u32> {
        let is_owners =
            |key: &u32| self.applicants.get(*key).is_some_and(|applicant| applicant.owner == owner);
        let (taken, rest): (Vec<u32>, Vec<u32>) = self.queue.iter().copied().partition(is_owners);
        self.queue = rest.into();
        taken
    }

    /// Ends the drain if nothing keeps it: no older token, no recovery window.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_, W>) {
        let Phase::Draining(drain) = &mut self.phase else { return };
        if !self.held.is_empty() || cx.source.now() < self.quiet_until {
            return;
        }
        let successor = drain.successor.take();
        self.reclaimed.clear();
        self.phase = Phase::Free;
        match successor {
            Some(Successor { owner, epoch, keys }) => {
                let handles = u32::try_from(keys.len()).unwrap_or(u32::MAX);
                self.phase = Phase::Active { owner, epoch, handles };
                cx.tell(|| EventKind::Registered { owner, epoch });
                for key in keys {
                    self.decide(cx, key, Ok(epoch));
                }
            }
            None => cx.tell(|| EventKind::Unregistered),
        }
        self.wake_watchers(cx);
    }

    /// Tells the time. Early, late or repeated calls change nothing that is not due.
    pub fn handle_timeout(&mut self, cx: &mut Cx<'_, W>) {
        self.settle(cx);
        let (now, period, policy) = (cx.source.now(), self.rules.watchdog_period, self.rules.drain_policy);
        let Phase::Draining(drain) = &mut self.phase else { return };
        let (since, from) = (drain.since, drain.from);
        let late = drain.report_at <= now;
        if late {
            drain.report_at = now + period;
        }
        let out_of_patience = drain.patience.take_if(|patience| *patience <= now).is_some();
        if late {
            cx.tell(|| EventKind::WatchdogLate(self.report(now, since)));
        }
        if !out_of_patience {
            return;
        }
        match policy {
            DrainPolicy::KeepWaiting => {}
            DrainPolicy::Fence => {
                self.raise_fence(cx, from);
                self.revoke_older(cx, Epoch(u64::MAX));
                self.wake_watchers(cx);
            }
            DrainPolicy::Fail => self.fail_successor(cx, since),
        }
    }

    fn fail_successor(&mut self, cx: &mut Cx<'_, W>, since: cuttlebone_machine::Instant) {
        let report = self.report(cx.source.now(), since);
        let Phase::Draining(Drain { successor, .. }) = &mut self.phase else { return };
        for key in successor.take().into_iter().flat_map(|next| next.keys) {
            self.decide(cx, key, Err(RegisterError::DrainTimeout(report.clone())));
        }
        self.promote(cx);
    }

    /// Nobody gets anything any more: all who wait are told, all who hold may still let go.
    pub fn close(&mut self, cx: &mut Cx<'_, W>) {
        self.closed = true;
        self.fail_waiters(cx, &AcquireError::Closed);
        let waiting: Vec<u32> = self.queue.drain(..).collect();
        let mut next = Vec::new();
        if let Phase::Draining(Drain { successor, .. }) = &mut self.phase {
            next = successor.take().map(|next| next.keys).unwrap_or_default();
        }
        for key in waiting.into_iter().chain(next) {
            self.decide(cx, key, Err(RegisterError::Closed));
        }
        self.wake_watchers(cx);
    }
}
