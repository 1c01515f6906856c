//! The naive model: what ought to happen, as plainly as it can be said.

use alloc::vec::Vec;

use cuttlebone_machine::Instant;

use super::World;
use crate::Takeover;

pub(super) type Small = u8;

/// A world at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) names: Vec<Spec>,
    pub(super) holders: Vec<Holding>,
    pub(super) restarts: Small,
    /// After a restart, until all leases have ended.
    pub(super) window: bool,
}

/// What the model knows of a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spec {
    pub(super) last: Small,
    pub(super) phase: SpecPhase,
    pub(super) line: Vec<Small>,
    pub(super) fenced: Small,
    pub(super) waiting: Vec<usize>,
    pub(super) gate: Small,
    /// Operations whose holder is gone.
    pub(super) orphans: Vec<Small>,
    /// The newest epoch of which an operation ran.
    pub(super) newest: Small,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SpecPhase {
    Free,
    Active { owner: Small, epoch: Small, handles: Small },
    Draining { from: Small, next: Option<(Small, Small)> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Holding {
    Nothing,
    Waiting { name: usize },
    Token { name: usize, epoch: Small, picked_up: bool, running: bool, standing: Standing },
}

/// What the registry thinks of a token that its holder has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    Counted,
    /// The registry restarted and does not know of it.
    Unknown,
    /// The gate refuses its epoch, so it was ended.
    Revoked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Register(usize, Small, Takeover),
    GiveUpRegistering(usize, Small),
    Leave(usize),
    OwnerDies(Small),
    Fence(usize),
    Acquire(usize, usize),
    PickUp(usize),
    Release(usize),
    HolderDies(usize),
    StartOperation(usize),
    EndOperation(usize),
    EndOrphan(usize),
    AdvanceGate(usize),
    Restart,
    Reclaim(usize),
    WindowEnds,
}

/// Before and after the end of the recovery window.
const EARLY: Instant = Instant::ZERO;
pub(super) const WINDOW_END: Instant = Instant::from_nanos(1_000);

impl Spec {
    /// A name that nobody ever had.
    const fn new() -> Self {
        Self {
            last: 0,
            phase: SpecPhase::Free,
            line: Vec::new(),
            fenced: 0,
            waiting: Vec::new(),
            gate: 0,
            orphans: Vec::new(),
            newest: 0,
        }
    }

    /// The epochs of the operations that run.
    pub(super) fn running(&self, holders: &[Holding], of: usize) -> Vec<Small> {
        let held = holders.iter().filter_map(move |holding| match *holding {
            Holding::Token { name, epoch, running: true, .. } if name == of => Some(epoch),
            _ => None,
        });
        held.chain(self.orphans.iter().copied()).collect()
    }
}

impl State {
    pub(super) fn new(world: World) -> Self {
        Self {
            names: alloc::vec![Spec::new(); world.names],
            holders: alloc::vec![Holding::Nothing; world.holders],
            restarts: 0,
            window: false,
        }
    }

    pub(super) fn counted(&self, of: usize) -> usize {
        let counts = |holding: &&Holding| matches!(holding, Holding::Token { name, standing: Standing::Counted, .. } if *name == of);
        self.holders.iter().filter(counts).count()
    }

    fn settle(&mut self, n: usize) {
        if let SpecPhase::Draining { next, .. } = self.names[n].phase
            && !self.window
            && self.counted(n) == 0
        {
            self.names[n].phase = match next {
                Some((owner, epoch)) => SpecPhase::Active { owner, epoch, handles: 1 },
                None => SpecPhase::Free,
            };
        }
    }

    fn drain(&mut self, n: usize, from: Small, next: Option<(Small, Small)>) {
        for holder in core::mem::take(&mut self.names[n].waiting) {
            self.holders[holder] = Holding::Nothing;
        }
        self.names[n].phase = SpecPhase::Draining { from, next };
        self.settle(n);
    }

    fn next_in_line(&mut self, n: usize) -> Option<(Small, Small)> {
        let spec = &mut self.names[n];
        if spec.line.is_empty() {
            return None;
        }
        spec.last += 1;
        Some((spec.line.remove(0), spec.last))
    }

    fn end_active(&mut self, n: usize) {
        if let SpecPhase::Active { epoch, .. } = self.names[n].phase {
            let next = self.next_in_line(n);
            self.drain(n, epoch, next);
        }
    }

    fn forget_applicant(&mut self, n: usize, owner: Small) {
        self.names[n].line.retain(|other| *other != owner);
        if let SpecPhase::Draining { from, next: Some((next, _)) } = self.names[n].phase
            && next == owner
        {
            let next = self.next_in_line(n);
            self.drain(n, from, next);
        }
    }

    fn register(&mut self, n: usize, owner: Small, takeover: Takeover) {
        let spec = &mut self.names[n];
        match &mut spec.phase {
            SpecPhase::Active { owner: current, handles, .. } if *current == owner => *handles += 1,
            SpecPhase::Active { .. } | SpecPhase::Draining { next: Some(_), .. }
                if takeover == Takeover::Wait =>
            {
                spec.line.push(owner);
            }
            phase => {
                let from = match *phase {
                    SpecPhase::Free => 0,
                    SpecPhase::Active { epoch, .. } => epoch,
                    SpecPhase::Draining { from, .. } => from,
                };
                if takeover == Takeover::Preempt {
                    spec.fenced = spec.fenced.max(from);
                }
                spec.last += 1;
                let next = Some((owner, spec.last));
                self.drain(n, from, next);
            }
        }
    }

    fn pump(&mut self, n: usize, tokens: usize) {
        while let SpecPhase::Active { epoch, .. } = self.names[n].phase
            && self.counted(n) < tokens
            && !self.names[n].waiting.is_empty()
        {
            let holder = self.names[n].waiting.remove(0);
            self.holders[holder] = Holding::Token {
                name: n,
                epoch,
                picked_up: false,
                running: false,
                standing: Standing::Counted,
            };
        }
    }

    /// The holder's token is gone; an operation of it may still run.
    fn end_token(&mut self, h: usize, tokens: usize) {
        if let Holding::Token { name, epoch, running, .. } = self.holders[h] {
            self.holders[h] = Holding::Nothing;
            if running {
                self.names[name].orphans.push(epoch);
            }
            self.settle(name);
            self.pump(name, tokens);
        }
    }

    pub(super) fn apply(&mut self, world: World, action: Action) {
        match action {
            Action::Register(n, owner, takeover) => self.register(n, owner, takeover),
            Action::GiveUpRegistering(n, owner) => self.forget_applicant(n, owner),
            Action::Leave(n) => match &mut self.names[n].phase {
                SpecPhase::Active { handles, .. } if *handles > 1 => *handles -= 1,
                _ => self.end_active(n),
            },
            Action::OwnerDies(owner) => {
                for n in 0..self.names.len() {
                    self.names[n].line.retain(|other| *other != owner);
                    self.forget_applicant(n, owner);
                    if matches!(self.names[n].phase, SpecPhase::Active { owner: current, .. } if current == owner)
                    {
                        self.end_active(n);
                    }
                }
            }
            Action::Fence(n) => {
                if let SpecPhase::Active { epoch: from, .. } | SpecPhase::Draining { from, .. } =
                    self.names[n].phase
                {
                    self.names[n].fenced = self.names[n].fenced.max(from);
                }
                self.end_active(n);
            }
            Action::Acquire(h, n) => {
                self.names[n].waiting.push(h);
                self.holders[h] = Holding::Waiting { name: n };
                self.pump(n, world.tokens);
                if let Holding::Token { picked_up, .. } = &mut self.holders[h] {
                    *picked_up = true;
                }
            }
            Action::PickUp(h) => {
                if let Holding::Token { picked_up, .. } = &mut self.holders[h] {
                    *picked_up = true;
                }
            }
            Action::Release(h) | Action::HolderDies(h) => {
                if let Holding::Waiting { name } = self.holders[h] {
                    self.names[name].waiting.retain(|other| *other != h);
                    self.holders[h] = Holding::Nothing;
                }
                self.end_token(h, world.tokens);
            }
            Action::StartOperation(h) => {
                if let Holding::Token { name, epoch, running, .. } = &mut self.holders[h] {
                    *running = true;
                    let spec = &mut self.names[*name];
                    spec.gate = spec.gate.max(*epoch);
                    spec.newest = spec.newest.max(*epoch);
                }
            }
            Action::EndOperation(h) => {
                if let Holding::Token { running, .. } = &mut self.holders[h] {
                    *running = false;
                }
            }
            Action::EndOrphan(n) => {
                self.names[n].orphans.pop();
            }
            Action::AdvanceGate(n) => self.advance_gate(n),
            Action::Restart => self.restart(),
            Action::Reclaim(h) => {
                if let Holding::Token { name, epoch, standing, .. } = &mut self.holders[h] {
                    *standing = Standing::Counted;
                    let phase = &mut self.names[*name].phase;
                    match phase {
                        SpecPhase::Draining { from, .. } => *from = (*from).max(*epoch),
                        _ => *phase = SpecPhase::Draining { from: *epoch, next: None },
                    }
                }
            }
            Action::WindowEnds => {
                self.window = false;
                for h in 0..self.holders.len() {
                    if matches!(
                        self.holders[h],
                        Holding::Token { standing: Standing::Unknown | Standing::Revoked, .. }
                    ) {
                        self.end_token(h, world.tokens); // its lease has ended, and it knows
                    }
                }
                (0..self.names.len()).for_each(|n| self.settle(n));
            }
        }
    }

    fn advance_gate(&mut self, n: usize) {
        let SpecPhase::Draining { next: Some((_, epoch)), .. } = self.names[n].phase else { return };
        self.names[n].gate = self.names[n].gate.max(epoch);
        if self.names[n].running(&self.holders, n).iter().any(|running| *running < epoch) {
            return;
        }
        for holding in &mut self.holders {
            if let Holding::Token { name, epoch: of, standing, .. } = holding
                && *name == n
                && *of < epoch
            {
                *standing = Standing::Revoked;
            }
        }
        self.settle(n);
    }

    fn restart(&mut self) {
        self.restarts += 1;
        self.window = true;
        for spec in &mut self.names {
            (spec.phase, spec.fenced) = (SpecPhase::Free, 0);
            spec.line.clear();
            spec.waiting.clear();
        }
        for holding in &mut self.holders {
            match holding {
                Holding::Token { picked_up: true, standing, .. } => *standing = Standing::Unknown,
                _ => *holding = Holding::Nothing,
            }
        }
    }
}

impl State {
    pub(super) fn gate_admits(&self, n: usize, epoch: Small) -> bool {
        let spec = &self.names[n];
        epoch >= spec.gate && !spec.running(&self.holders, n).iter().any(|running| *running < epoch)
    }

    pub(super) fn now(&self) -> Instant {
        if self.window { EARLY } else { WINDOW_END }
    }
}
