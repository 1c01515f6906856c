//! States that differ only in who is called what count as one.
//!
//! Owners are alike, holders are alike, names are alike: the code compares owners for equality only, never sees a
//! holder's number, and gives every name the same limits. So a renaming of any of them maps every run to a run, and a
//! promise that names none of them holds in a state exactly if it holds in the renamed one.

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use std::collections::hash_map::DefaultHasher;

use super::spec::{Holding, Small, Spec, SpecPhase, State};

/// A number that is the same for states that differ by a renaming, and for others with a chance of 2^-64.
pub(super) fn canonical(state: &State) -> u64 {
    let order: Vec<usize> = (0..state.names.len()).collect();
    let forwards = in_order(state, &order);
    if order.len() < 2 {
        return forwards;
    }
    assert_eq!(order.len(), 2, "two orders are all there are");
    forwards.min(in_order(state, &[1, 0]))
}

/// As [`canonical`], without any renaming.
pub(super) fn exact(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

fn in_order(state: &State, order: &[usize]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut owners = Renamed::default();
    (state.restarts, state.window).hash(&mut hasher);
    for n in order {
        let Spec { last, phase, line, fenced, waiting, gate, orphans, newest } = &state.names[*n];
        (last, fenced, waiting.len(), gate, orphans, newest).hash(&mut hasher);
        owners.phase(*phase).hash(&mut hasher);
        line.iter().map(|owner| owners.name(*owner)).collect::<Vec<_>>().hash(&mut hasher);
    }
    // A holder is what it holds; a waiter is its place in line.
    let mut holders: Vec<_> =
        state.holders.iter().enumerate().map(|(h, held)| place(state, order, h, *held)).collect();
    holders.sort_unstable();
    holders.hash(&mut hasher);
    hasher.finish()
}

fn place(state: &State, order: &[usize], h: usize, holding: Holding) -> (usize, u64) {
    let name = |n: usize| order.iter().position(|other| *other == n).map_or(0, |at| at + 1);
    match holding {
        Holding::Nothing => (0, 0),
        Holding::Waiting { name: n } => {
            let ahead = state.names[n].waiting.iter().position(|other| *other == h);
            (name(n), ahead.map_or(0, |ahead| ahead as u64 + 1))
        }
        Holding::Token { name: n, epoch, picked_up, running, standing } => {
            let bits = 0x100 | (u64::from(picked_up) << 4) | (u64::from(running) << 3) | standing as u64;
            (name(n), (u64::from(epoch) << 16) | bits)
        }
    }
}

/// Owners by the order in which they are met.
#[derive(Default)]
struct Renamed(Vec<Small>);

impl Renamed {
    fn name(&mut self, owner: Small) -> usize {
        self.0.iter().position(|other| *other == owner).unwrap_or_else(|| {
            self.0.push(owner);
            self.0.len() - 1
        })
    }

    fn phase(&mut self, phase: SpecPhase) -> (u8, usize, u8, u8) {
        match phase {
            SpecPhase::Free => (0, 0, 0, 0),
            SpecPhase::Active { owner, epoch, handles } => (1, self.name(owner), epoch, handles),
            SpecPhase::Draining { from, next: None } => (2, 0, from, 0),
            SpecPhase::Draining { from, next: Some((owner, epoch)) } => (3, self.name(owner), from, epoch),
        }
    }
}
