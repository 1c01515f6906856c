use super::line::{Line, Links};
use super::{Cx, EventKind, Name, Phase};
use crate::{AcquireError, Capacity, Class, Epoch, Seq};
use cuttlebone_machine::Instant;

/// One token that is out. Copies of it are harmless: it ends once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    key: u32,
    /// Numbers start over when a registry does, and a re-claimed token brings its old one; with the epoch it is unique.
    epoch: Epoch,
    seq: Seq,
}

impl Grant {
    /// The incarnation it was granted to.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Its sequence number.
    pub const fn seq(&self) -> Seq {
        self.seq
    }
}

/// A place among the waiters.
#[derive(Debug, PartialEq, Eq, Hash)]
#[cfg_attr(test, derive(Clone, Copy))]
pub struct Waiter(u32);

/// What asking for a token led to.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "granted or not yet")]
pub enum Acquired {
    /// It is out.
    Granted(Grant),
    /// It waits its turn.
    Waiting(Waiter),
}

#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) seq: Seq,
    pub(super) epoch: Epoch,
    pub(super) since: Instant,
    pub(super) slots: u32,
    pub(super) class: Class,
}

#[derive(Clone, Debug)]
pub(super) struct Request<W> {
    ticket: u64,
    class: Class,
    slots: u32,
    pub(super) links: Links,
    waker: Option<W>,
    /// `None` while it stands in line.
    outcome: Option<Result<Grant, AcquireError>>,
}

/// Slots in use: always the sum over the tokens that are out, never a number of its own meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) all: u64,
    heavy: u64,
    very_heavy: u64,
}

impl Use {
    const fn add(&mut self, class: Class, slots: u32) {
        self.all += slots as u64;
        match class {
            Class::Light => {}
            Class::Heavy => self.heavy += slots as u64,
            Class::VeryHeavy => {
                self.heavy += slots as u64;
                self.very_heavy += 1;
            }
        }
    }

    const fn remove(&mut self, class: Class, slots: u32) {
        self.all -= slots as u64;
        match class {
            Class::Light => {}
            Class::Heavy => self.heavy -= slots as u64,
            Class::VeryHeavy => {
                self.heavy -= slots as u64;
                self.very_heavy -= 1;
            }
        }
    }
}

impl<W> Name<W> {
    /// Asks for a token of `slots` slots on behalf of `epoch`. With a waker it waits; without one it does not.
    ///
    /// # Errors
    ///
    /// [`AcquireError::NotRegistered`], [`Fenced`](AcquireError::Fenced), [`TooMany`](AcquireError::TooMany),
    /// [`AtCapacity`](AcquireError::AtCapacity), [`Closed`](AcquireError::Closed); without a waker also
    /// [`WouldBlock`](AcquireError::WouldBlock).
    pub fn acquire(
        &mut self,
        cx: &mut Cx<'_, W>,
        epoch: Epoch,
        class: Class,
        slots: u32,
        waker: Option<W>,
    ) -> Result<Acquired, AcquireError> {
        self.admits(epoch)?;
        let most = self.most(class);
        if slots == 0 || slots > most {
            return Err(AcquireError::TooMany { asked: slots, most });
        }
        if self.is_free_for(class, slots) {
            if self.held.len() < self.limits.grants_max as usize {
                return Ok(Acquired::Granted(self.grant(cx, epoch, class, slots)));
            }
            return Err(AcquireError::AtCapacity(Capacity::Grants));
        }
        let waker = waker.ok_or(AcquireError::WouldBlock)?;
        if self.requests.len() >= self.limits.waiters_max as usize {
            return Err(AcquireError::AtCapacity(Capacity::Waiters));
        }
        self.tickets += 1;
        let (ticket, links, waker) = (self.tickets, Links::default(), Some(waker));
        let key = self.requests.insert(Request { ticket, class, slots, links, waker, outcome: None });
        self.lines[class.index()].push(&mut self.requests, key);
        Ok(Acquired::Waiting(Waiter(key)))
    }

    const fn admits(&self, epoch: Epoch) -> Result<(), AcquireError> {
        match self.phase {
            _ if self.closed => Err(AcquireError::Closed),
            Phase::Active { epoch: current, .. } if current.0 == epoch.0 => Ok(()),
            Phase::Free => Err(AcquireError::NotRegistered),
            Phase::Active { .. } | Phase::Draining(_) => Err(AcquireError::Fenced),
        }
    }

    /// What a waiter has come to. `Some` ends the waiter; otherwise `update` says whom to wake.
    pub fn poll_acquire(
        &mut self,
        waiter: &Waiter,
        update: impl FnOnce(&mut Option<W>),
    ) -> Option<Result<Grant, AcquireError>> {
        let request = self.requests.get_mut(waiter.0)?;
        if request.outcome.is_none() {
            update(&mut request.waker);
            return None;
        }
        self.requests.remove(waiter.0)?.outcome
    }

    /// A waiter goes away, granted or not; afterwards it is as if it had never come.
    pub fn cancel_acquire(&mut self, cx: &mut Cx<'_, W>, waiter: &Waiter) {
        let Some(request) = self.requests.get(waiter.0) else { return };
        let (class, outcome) = (request.class, request.outcome.clone());
        if outcome.is_none() {
            self.lines[class.index()].leave(&mut self.requests, waiter.0);
        }
        self.requests.remove(waiter.0);
        match outcome {
            Some(Ok(grant)) => {
                self.release(cx, grant);
            }
            Some(Err(_)) => {}
            // It may have been the large request that held the others back.
            None => self.pump(cx),
        }
    }

    /// Ends a token. `false` if it had ended before, which changes nothing.
    pub fn release(&mut self, cx: &mut Cx<'_, W>, grant: Grant) -> bool {
        if self.held.get(grant.key).is_none_or(|held| (held.epoch, held.seq) != (grant.epoch, grant.seq)) {
            return false;
        }
        self.end(cx, grant.key);
        self.after_release(cx);
        true
    }

    /// Ends every token older than `below`, because the resource refuses them from now on.
    ///
    /// Call it only after [`FenceGate::advance`](crate::FenceGate::advance) to `below` has returned. Returns how many.
    pub fn revoke_older(&mut self, cx: &mut Cx<'_, W>, below: Epoch) -> usize {
        let old: alloc::vec::Vec<u32> =
            self.held.iter().filter(|(_, held)| held.epoch < below).map(|(key, _)| key).collect();
        for key in &old {
            self.end(cx, *key);
        }
        if !old.is_empty() {
            self.after_release(cx);
        }
        old.len()
    }

    fn end(&mut self, cx: &mut Cx<'_, W>, key: u32) {
        let Some(Held { seq, epoch, slots, class, .. }) = self.held.remove(key) else { return };
        self.in_use.remove(class, slots);
        cx.tell(|| EventKind::Released { seq, epoch });
    }

    fn after_release(&mut self, cx: &mut Cx<'_, W>) {
        match self.phase {
            Phase::Active { .. } => self.pump(cx),
            Phase::Draining(_) => self.settle(cx),
            Phase::Free => {}
        }
    }

    /// Counts a token from before a restart, so that the drain waits for it.
    ///
    /// # Errors
    ///
    /// [`AcquireError::NothingToReclaim`] outside the recovery window, or if it is already counted.
    pub fn reclaim(
        &mut self,
        cx: &mut Cx<'_, W>,
        epoch: Epoch,
        seq: Seq,
        class: Class,
        slots: u32,
    ) -> Result<Grant, AcquireError> {
        if self.closed {
            return Err(AcquireError::Closed);
        }
        if cx.source.now() >= self.quiet_until || self.reclaimed.contains(&(epoch, seq)) {
            return Err(AcquireError::NothingToReclaim);
        }
        if self.held.len() >= self.limits.grants_max as usize {
            return Err(AcquireError::AtCapacity(Capacity::Grants));
        }
        self.reclaimed.insert((epoch, seq));
        self.recover(cx, epoch);
        Ok(self.hold(cx.source.now_coarse(), epoch, seq, class, slots))
    }

    /// Changes how many slots there are. A smaller number takes nothing back; waiters it can never serve fail.
    pub fn resize(&mut self, cx: &mut Cx<'_, W>, tokens: u32) {
        self.limits.tokens = tokens;
        for class in Class::ALL {
            let most = self.most(class);
            let mut next = self.lines[class.index()].head;
            while let Some(key) = next {
                next = Line::after(&self.requests, key);
                if let Some(asked) = self.requests.get(key).map(|request| request.slots)
                    && asked > most
                {
                    self.answer(cx, class, key, Err(AcquireError::TooMany { asked, most }));
                }
            }
        }
        if matches!(self.phase, Phase::Active { .. }) {
            self.pump(cx);
        }
    }

    /// What the class may take when nothing else is held.
    const fn most(&self, class: Class) -> u32 {
        match (class, self.limits.tokens) {
            (Class::Heavy | Class::VeryHeavy, tokens @ 2..) => tokens - 1,
            (_, tokens) => tokens,
        }
    }

    fn class_allows(&self, class: Class, slots: u32) -> bool {
        class == Class::Light || self.in_use.heavy + u64::from(slots) <= u64::from(self.most(class))
    }

    const fn may_run_beside(&self, class: Class) -> bool {
        !matches!(class, Class::VeryHeavy) || self.in_use.very_heavy == 0
    }

    fn fits(&self, slots: u32) -> bool {
        self.in_use.all + u64::from(slots) <= u64::from(self.limits.tokens)
    }

    /// Whether a newcomer may go before everybody who waits: it fits, and the others only wait for their class.
    fn is_free_for(&self, class: Class, slots: u32) -> bool {
        if self.waiting() == 0 {
            return self.fits(slots) && self.class_allows(class, slots) && self.may_run_beside(class);
        }
        let first = self.first(Some((class, slots)));
        matches!(first, First::Newcomer) && self.fits(slots)
    }

    /// Who goes next: the oldest, past those whose class holds them back.
    ///
    /// Work that waits for the share of the heavy classes also holds back younger work of them, or a request for many
    /// slots would starve; a second very heavy one waits for the first alone and holds back nobody else.
    fn first(&self, newcomer: Option<(Class, u32)>) -> First {
        let mut heads = Class::ALL.map(|class| {
            let key = self.lines[class.index()].head;
            let request = key.and_then(|key| self.requests.get(key).map(|request| (key, request)));
            request.map(|(key, request)| (request.ticket, class, request.slots, First::Waiter(class, key)))
        });
        heads.sort_unstable_by_key(|head| head.as_ref().map_or(u64::MAX, |head| head.0));
        let newcomer = newcomer.map(|(class, slots)| (u64::MAX, class, slots, First::Newcomer));
        let mut heavy_waits = false;
        let mut passed = [false; 3];
        for (_, class, slots, who) in heads.into_iter().flatten().chain(newcomer) {
            let alone = self.may_run_beside(class);
            if passed[class.index()] || (class != Class::Light && heavy_waits) {
                continue;
            }
            if alone && self.class_allows(class, slots) {
                return who;
            }
            passed[class.index()] = true;
            heavy_waits |= alone;
        }
        First::Nobody
    }

    /// Grants to those whose turn it is.
    pub(super) fn pump(&mut self, cx: &mut Cx<'_, W>) {
        let Phase::Active { epoch, .. } = self.phase else { return };
        // With every slot in use nobody's turn can have come; that is what a release to a long line ends with.
        while self.in_use.all < u64::from(self.limits.tokens)
            && self.waiting() > 0
            && self.held.len() < self.limits.grants_max as usize
            && let First::Waiter(class, key) = self.first(None)
            && let Some(slots) = self.requests.get(key).map(|request| request.slots)
            && self.fits(slots)
        {
            let grant = self.grant(cx, epoch, class, slots);
            self.answer(cx, class, key, Ok(grant));
        }
    }

    pub(super) fn fail_waiters(&mut self, cx: &mut Cx<'_, W>, error: &AcquireError) {
        for class in Class::ALL {
            while let Some(key) = self.lines[class.index()].head {
                self.answer(cx, class, key, Err(error.clone()));
            }
        }
    }

    fn answer(&mut self, cx: &mut Cx<'_, W>, class: Class, key: u32, outcome: Result<Grant, AcquireError>) {
        self.lines[class.index()].leave(&mut self.requests, key);
        if let Some(request) = self.requests.get_mut(key) {
            request.outcome = Some(outcome);
            cx.wake.add(request.waker.take());
        }
    }

    fn grant(&mut self, cx: &mut Cx<'_, W>, epoch: Epoch, class: Class, slots: u32) -> Grant {
        let seq = cx.source.seq();
        cx.tell(|| EventKind::Granted { seq, epoch });
        self.hold(cx.source.now_coarse(), epoch, seq, class, slots)
    }

    fn hold(&mut self, since: Instant, epoch: Epoch, seq: Seq, class: Class, slots: u32) -> Grant {
        self.in_use.add(class, slots);
        let key = self.held.insert(Held { seq, epoch, since, slots, class });
        Grant { key, epoch, seq }
    }
}

enum First {
    Nobody,
    Newcomer,
    Waiter(Class, u32),
}
