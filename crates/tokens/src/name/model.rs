//! The whole reachable space of a small world: a naive model, and the shipped code driven through the same actions.
//!
//! A state is what the model says; the shipped names ride along and are compared after every action. Histories that lead
//! to the same model state are followed once, so the shipped code is seen in every state and on every action, but not
//! after every history; the fuzz target `tokens_name` adds those.
//!
//! # What two names share
//!
//! A name is a value of its own, and no call gets more than one of them, so what happens to one cannot change another:
//! the type system says so, and no state has to be explored to see it. What is left in common is in the world around
//! them: holders (who hold or wait at one name at a time), owners (whose death concerns all their names), the registry's
//! restart and its recovery window, and the numbers it gives out, which are only ever compared within one name. The
//! worlds with two names have all of these.

use alloc::vec::Vec;
use std::println;

use super::*;

mod actions;
mod explore;
mod fair;
mod promises;
mod shipped;
mod spec;
mod symmetry;

use shipped::Shipped;
use spec::{Action, Small, State};

/// How large the world is.
#[derive(Clone, Copy, Debug)]
struct World {
    names: usize,
    owners: Small,
    holders: usize,
    tokens: usize,
    /// Epochs each name may use up; with one there is no takeover.
    epochs: Small,
    restarts: Small,
}

impl World {
    fn limits(self) -> Limits {
        Limits { tokens: u32::try_from(self.tokens).expect("a small world"), ..Limits::default() }
    }

    fn fresh(self, quiet_until: Instant) -> Name<()> {
        Name::new(self.limits(), Rules::default(), quiet_until)
    }
}

/// The model and the code in the same state.
#[derive(Clone, Debug)]
struct Pair {
    model: State,
    shipped: Shipped,
}

impl Pair {
    fn new(world: World) -> Self {
        Self { model: State::new(world), shipped: Shipped::new(world) }
    }

    fn after(&self, world: World, action: Action) -> Self {
        let mut after = self.clone();
        after.model.apply(world, action);
        after.shipped.apply(world, after.model.now(), action, &self.model, &after.model);
        after
    }
}

/// Each promise in each state, and that nobody waits for ever.
fn check(world: World, at_least: usize) {
    let graph = explore::explore(world, symmetry::exact, true);
    println!("{world:?}: {} states, {} transitions", graph.states(), graph.transitions);
    fair::assert_nobody_waits_for_ever(&graph);
    assert!(graph.states() >= at_least, "the space has shrunk: {}", graph.states());
}

/// Each promise in each state, where states count as one that differ in who is called what. Who waits is not told apart
/// then, so that nobody waits for ever is left to [`check`].
fn check_renamed(world: World, at_least: usize) {
    let graph = explore::explore(world, symmetry::canonical, false);
    println!("{world:?}: {} states up to renaming, {} transitions", graph.states(), graph.transitions);
    assert!(graph.states() >= at_least, "the space has shrunk: {}", graph.states());
}

/// Another world, if the variable has one: `names,owners,holders,tokens,epochs,restarts`.
fn world_from(variable: &str) -> Option<World> {
    let text = std::env::var(variable).ok()?;
    let n: Vec<Small> = text.split(',').map(|n| n.parse().expect("a small number")).collect();
    let (names, holders, tokens) = (n[0].into(), n[2].into(), n[3].into());
    Some(World { names, owners: n[1], holders, tokens, epochs: n[4], restarts: n[5] })
}

#[test]
fn one_name_with_takeovers_and_a_restart_keeps_every_promise_and_serves_everybody() {
    check(World { names: 1, owners: 3, holders: 3, tokens: 2, epochs: 3, restarts: 1 }, 200_139);
}

#[test]
fn two_names_with_shared_owners_and_holders_serve_everybody() {
    if let Some(world) = world_from("CUTTLEBONE_FAIR_WORLD") {
        return check(world, 0);
    }
    check(World { names: 2, owners: 2, holders: 2, tokens: 1, epochs: 1, restarts: 1 }, 28_414);
}

#[test]
fn two_names_with_three_owners_and_three_holders_keep_every_promise() {
    if let Some(world) = world_from("CUTTLEBONE_WORLD") {
        return check_renamed(world, 0);
    }
    check_renamed(World { names: 2, owners: 3, holders: 3, tokens: 1, epochs: 2, restarts: 1 }, 607_623);
}
