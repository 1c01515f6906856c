//! The code under test, driven through what the model does, and compared with it after every step.

use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;

use cuttlebone_machine::Instant;

use super::World;
use super::spec::{Action, Holding, Small, SpecPhase, State, WINDOW_END};
use crate::name::{Acquired, Candidate, Cx, Grant, Name, NameState, Registering, Source, Waiter};
use crate::{AcquireError, Class, Epoch, Fence, FenceGate, OwnerId, RegisterError, Seq, Takeover};

/// The code under test, and the keys its callers would hold.
#[derive(Clone, Debug)]
pub(super) struct Shipped {
    names: Vec<(Name<()>, Counters)>,
    candidates: Vec<Vec<Option<Candidate>>>,
    waiters: Vec<Option<Waiter>>,
    grants: Vec<Option<Grant>>,
    /// A grant of each name that has ended.
    stale: Vec<Option<Grant>>,
}

/// The last epoch and sequence number given out.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    epoch: u64,
    seq: u64,
}

#[derive(Default)]
struct Counting {
    now: Instant,
    epoch: Cell<u64>,
    seq: Cell<u64>,
}

impl Source for Counting {
    fn now(&self) -> Instant {
        self.now
    }
    fn epoch(&self) -> Epoch {
        self.epoch.set(self.epoch.get() + 1);
        Epoch(self.epoch.get())
    }
    fn seq(&self) -> Seq {
        self.seq.set(self.seq.get() + 1);
        Seq(self.seq.get())
    }
}

/// Somebody who never registers anything.
const STRANGER: OwnerId = OwnerId(99);

impl Shipped {
    pub(super) fn new(world: World) -> Self {
        Self {
            names: vec![(world.fresh(Instant::ZERO), Counters::default()); world.names],
            candidates: vec![vec![None; usize::from(world.owners)]; world.names],
            waiters: vec![None; world.holders],
            grants: vec![None; world.holders],
            stale: vec![None; world.names],
        }
    }

    fn call<R>(&mut self, n: usize, now: Instant, f: impl FnOnce(&mut Name<()>, &mut Cx<'_, ()>) -> R) -> R {
        let (name, counters) = &mut self.names[n];
        let counting = Counting { now, epoch: Cell::new(counters.epoch), seq: Cell::new(counters.seq) };
        let result = f(name, &mut Cx::new(&counting, true));
        *counters = Counters { epoch: counting.epoch.get(), seq: counting.seq.get() };
        result
    }

    /// Drives the code through `action`, whose effect on the model is `before` to `after`.
    pub(super) fn apply(
        &mut self,
        world: World,
        now: Instant,
        action: Action,
        before: &State,
        after: &State,
    ) {
        match action {
            Action::Register(n, owner, takeover) => {
                let id = OwnerId(owner.into());
                match self.call(n, now, |name, cx| name.register(cx, id, takeover, ())) {
                    Ok(Registering::Waiting(candidate)) => {
                        self.candidates[n][usize::from(owner)] = Some(candidate);
                    }
                    outcome => drop(outcome.expect("the model registers")),
                }
            }
            Action::GiveUpRegistering(n, owner) => {
                let candidate = self.candidates[n][usize::from(owner)].take().expect("a candidate");
                self.call(n, now, |name, cx| name.cancel_register(cx, &candidate));
            }
            Action::Leave(n) => {
                let SpecPhase::Active { epoch, .. } = before.names[n].phase else { unreachable!() };
                self.call(n, now, |name, cx| name.leave(cx, Epoch(epoch.into())));
            }
            Action::OwnerDies(owner) => {
                for n in 0..self.names.len() {
                    self.call(n, now, |name, cx| name.owner_down(cx, OwnerId(owner.into())));
                }
            }
            Action::Fence(n) => {
                self.call(n, now, Name::fence);
            }
            Action::Acquire(h, n) => {
                let SpecPhase::Active { epoch, .. } = before.names[n].phase else { unreachable!() };
                let epoch = Epoch(epoch.into());
                match self.call(n, now, |name, cx| name.acquire(cx, epoch, Class::Light, 1, Some(()))) {
                    Ok(Acquired::Granted(grant)) => self.grants[h] = Some(grant),
                    Ok(Acquired::Waiting(waiter)) => self.waiters[h] = Some(waiter),
                    Err(error) => panic!("{error}"),
                }
            }
            Action::PickUp(h) => {
                let Holding::Token { name: n, .. } = before.holders[h] else { unreachable!() };
                let waiter = self.waiters[h].take().expect("a waiter");
                let outcome = self.call(n, now, |name, _| name.poll_acquire(&waiter, |_| ()));
                self.grants[h] = Some(outcome.expect("granted").expect("granted"));
            }
            Action::Release(h) | Action::HolderDies(h) => self.end(h, now, before),
            Action::Reclaim(h) => {
                let Holding::Token { name: n, epoch, .. } = before.holders[h] else { unreachable!() };
                let seq = self.grants[h].expect("a grant").seq();
                let again = |name: &mut Name<()>, cx: &mut Cx<'_, ()>| {
                    name.reclaim(cx, Epoch(epoch.into()), seq, Class::Light, 1)
                };
                self.grants[h] = Some(self.call(n, now, again).expect("reclaimed"));
            }
            Action::AdvanceGate(n) => {
                if let SpecPhase::Draining { next: Some((_, epoch)), .. } = before.names[n].phase
                    && !before.names[n].running(&before.holders, n).iter().any(|running| *running < epoch)
                {
                    self.call(n, now, |name, cx| name.revoke_older(cx, Epoch(epoch.into())));
                }
            }
            Action::Restart => {
                for n in 0..self.names.len() {
                    self.names[n].0 = world.fresh(WINDOW_END);
                    self.candidates[n].fill(None);
                    self.stale[n] = None;
                }
                self.waiters.fill(None);
            }
            Action::WindowEnds => {
                for h in 0..self.grants.len() {
                    if after.holders[h] == Holding::Nothing && before.holders[h] != Holding::Nothing {
                        self.end(h, now, before);
                    }
                }
                for n in 0..self.names.len() {
                    self.call(n, now, Name::handle_timeout);
                }
            }
            Action::StartOperation(_) | Action::EndOperation(_) | Action::EndOrphan(_) => {}
        }
        self.deliver(now, before, after);
    }

    fn end(&mut self, h: usize, now: Instant, before: &State) {
        let (Holding::Waiting { name: n } | Holding::Token { name: n, .. }) = before.holders[h] else {
            return;
        };
        if let Some(waiter) = self.waiters[h].take() {
            self.call(n, now, |name, cx| name.cancel_acquire(cx, &waiter));
        }
        if let Some(grant) = self.grants[h].take() {
            self.call(n, now, |name, cx| name.release(cx, grant));
            self.stale[n] = Some(grant);
        }
    }

    /// Whoever was decided about is told: registrants at once, waiters if they were refused.
    fn deliver(&mut self, now: Instant, before: &State, after: &State) {
        for n in 0..self.names.len() {
            for owner in 0..self.candidates[n].len() {
                let Some(candidate) = self.candidates[n][owner] else { continue };
                let outcome = self.call(n, now, |name, _| name.poll_register(&candidate, |_| ()));
                match outcome {
                    None => continue,
                    Some(Ok(epoch)) => assert!(
                        matches!(after.names[n].phase, SpecPhase::Active { epoch: e, .. } if u64::from(e) == epoch.0)
                    ),
                    Some(Err(error)) => assert_eq!(error, RegisterError::Fenced),
                }
                self.candidates[n][owner] = None;
            }
        }
        for h in 0..self.waiters.len() {
            if let Holding::Waiting { name: n } = before.holders[h]
                && after.holders[h] == Holding::Nothing
                && let Some(waiter) = self.waiters[h].take()
            {
                let outcome = self.call(n, now, |name, _| name.poll_acquire(&waiter, |_| ()));
                assert_eq!(outcome, Some(Err(AcquireError::Fenced)));
            }
        }
    }

    /// Whether the code shows what the model says.
    pub(super) fn shows(&self, now: Instant, n: usize, state: &State) -> bool {
        let (spec, name) = (&state.names[n], &self.names[n].0);
        let view = name.view(now, usize::MAX);
        let epoch = |epoch: Small| Some(Epoch(epoch.into()));
        let owner = |owner: Small| Some(OwnerId(owner.into()));
        let phase = match spec.phase {
            SpecPhase::Free => (NameState::Free, None, None, None),
            SpecPhase::Active { owner: o, epoch: e, .. } => (NameState::Active, epoch(e), owner(o), None),
            SpecPhase::Draining { from, next } => {
                let (o, e) = next.map_or((None, None), |(o, e)| (owner(o), epoch(e)));
                (NameState::Draining, epoch(from), o, e)
            }
        };
        let slots: u64 = view.holders.iter().map(|holder| u64::from(holder.slots)).sum();
        phase == (view.state, view.epoch, view.owner, view.successor)
            && view.outstanding == state.counted(n)
            && view.outstanding == view.holders.len()
            && view.slots_held == slots
            && view.waiting == spec.waiting.len()
            && view.registrants == spec.line.len()
            && name.fenced.0 == u64::from(spec.fenced)
    }

    /// Events that come late, twice or too early change nothing.
    pub(super) fn ignores_late_events(&self, now: Instant, n: usize) -> bool {
        let mut copy = self.clone();
        let before = copy.names[n].0.view(now, usize::MAX);
        let current = before.epoch.filter(|_| before.state == NameState::Active);
        let last = copy.names[n].1.epoch;
        for epoch in (0..=last).map(Epoch).filter(|epoch| Some(*epoch) != current) {
            copy.call(n, now, |name, cx| name.leave(cx, epoch));
            copy.call(n, now, |name, cx| name.unregister(cx, epoch));
            let refused = copy.call(n, now, |name, cx| name.acquire(cx, epoch, Class::Light, 1, None));
            assert!(matches!(refused, Err(AcquireError::Fenced | AcquireError::NotRegistered)));
        }
        if let Some(grant) = copy.stale[n] {
            assert!(!copy.call(n, now, |name, cx| name.release(cx, grant)));
        }
        copy.call(n, now, Name::handle_timeout);
        copy.call(n, now, |name, cx| name.owner_down(cx, STRANGER));
        if before.owner.is_some() {
            let denied = copy.call(n, now, |name, cx| name.register(cx, STRANGER, Takeover::Deny, ()));
            assert_eq!(denied, Err(RegisterError::NameTaken));
        }
        before == copy.names[n].0.view(now, usize::MAX)
    }
}

/// A real gate in the model's state answers every holder as the model's gate does.
pub(super) fn gate_agrees(state: &State, n: usize) -> bool {
    let spec = &state.names[n];
    let running = spec.running(&state.holders, n);
    let gate = FenceGate::resume("n", Epoch(running.first().copied().unwrap_or(spec.gate).into()));
    let fence = |epoch: Small| Fence::new("n", Epoch(epoch.into()), Seq(1));
    let admissions: Vec<_> =
        running.iter().map(|epoch| gate.admit(&fence(*epoch)).expect("it runs")).collect();
    drop(gate.advance(Epoch(spec.gate.into())));
    let agrees = state.holders.iter().all(|holding| match *holding {
        Holding::Token { name, epoch, .. } if name == n => {
            let highest = gate.highest();
            let admitted = gate.admit(&fence(epoch)).is_ok();
            admitted == state.gate_admits(n, epoch)
                && (admitted || gate.highest() == highest.max(Epoch(epoch.into())))
        }
        _ => true,
    });
    drop(admissions);
    agrees
}
