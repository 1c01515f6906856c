//! What may happen next.

use alloc::vec::Vec;

use super::World;
use super::spec::{Action, Holding, Small, Spec, SpecPhase, Standing, State};
use crate::Takeover;

impl World {
    /// Everything that may happen in `state`.
    pub(super) fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        for n in 0..self.names {
            self.name_actions(state, n, &mut actions);
        }
        let involved = |spec: &Spec, owner: Small| {
            spec.line.contains(&owner)
                || matches!(spec.phase, SpecPhase::Active { owner: o, .. } if o == owner)
                || matches!(spec.phase, SpecPhase::Draining { next: Some((o, _)), .. } if o == owner)
        };
        actions.extend(
            (0..self.owners)
                .filter(|owner| state.names.iter().any(|spec| involved(spec, *owner)))
                .map(Action::OwnerDies),
        );
        for h in 0..self.holders {
            self.holder_actions(state, h, &mut actions);
        }
        if state.window {
            actions.push(Action::WindowEnds);
        } else if state.restarts < self.restarts {
            actions.push(Action::Restart);
        }
        actions
    }

    fn name_actions(&self, state: &State, n: usize, actions: &mut Vec<Action>) {
        let spec = &state.names[n];
        let epochs_left = spec.last + Small::try_from(spec.line.len()).expect("a small world") < self.epochs;
        for owner in 0..self.owners {
            let waits = spec.line.contains(&owner)
                || matches!(spec.phase, SpecPhase::Draining { next: Some((o, _)), .. } if o == owner);
            match spec.phase {
                _ if waits => actions.push(Action::GiveUpRegistering(n, owner)),
                SpecPhase::Active { owner: current, handles, .. } if current == owner => {
                    // Two handles are enough to tell one from many.
                    actions.extend((handles == 1).then_some(Action::Register(n, owner, Takeover::Deny)));
                }
                SpecPhase::Free if epochs_left => actions.push(Action::Register(n, owner, Takeover::Deny)),
                SpecPhase::Draining { next: None, .. } if epochs_left => {
                    actions.push(Action::Register(n, owner, Takeover::Deny));
                    actions.push(Action::Register(n, owner, Takeover::Preempt));
                }
                _ if epochs_left => {
                    actions.push(Action::Register(n, owner, Takeover::Wait));
                    actions.push(Action::Register(n, owner, Takeover::Preempt));
                }
                _ => {}
            }
        }
        match spec.phase {
            SpecPhase::Active { .. } => actions.extend([Action::Leave(n), Action::Fence(n)]),
            SpecPhase::Draining { next: Some(_), .. } => actions.push(Action::AdvanceGate(n)),
            _ => {}
        }
        if !spec.orphans.is_empty() {
            actions.push(Action::EndOrphan(n));
        }
    }

    fn holder_actions(&self, state: &State, h: usize, actions: &mut Vec<Action>) {
        match state.holders[h] {
            Holding::Nothing => {
                // Holders are alike, so only the first idle one acts.
                if state.holders[..h].contains(&Holding::Nothing) {
                    return;
                }
                let active = |n: &usize| matches!(state.names[*n].phase, SpecPhase::Active { .. });
                actions.extend((0..self.names).filter(active).map(|n| Action::Acquire(h, n)));
            }
            Holding::Waiting { .. } => actions.push(Action::HolderDies(h)),
            Holding::Token { picked_up: false, .. } => {
                actions.extend([Action::PickUp(h), Action::HolderDies(h)]);
            }
            Holding::Token { name, epoch, running, standing, .. } => {
                if running {
                    actions.push(Action::EndOperation(h));
                    // One operation without its holder at a time, or the space has no end.
                    if state.names[name].orphans.is_empty() {
                        actions.push(Action::HolderDies(h));
                    }
                } else {
                    actions.push(Action::Release(h));
                    if state.gate_admits(name, epoch) {
                        actions.push(Action::StartOperation(h));
                    }
                }
                if state.window && standing == Standing::Unknown {
                    actions.push(Action::Reclaim(h));
                }
            }
        }
    }
}
