//! Every state that can be reached, breadth first, and how they hang together.

use alloc::vec::Vec;
use core::mem;
use std::collections::HashMap;

use super::fair::{self, Duties, Waits};
use super::promises::PROMISES;
use super::spec::{Action, State};
use super::{Pair, World};

/// The reachable states as numbers, and what leads from each to which.
#[derive(Default)]
pub(super) struct Graph {
    /// Who waits in each state.
    pub(super) waits: Vec<Waits>,
    /// What somebody owes to do in each state.
    pub(super) owed: Vec<Duties>,
    /// To which state, and which duties are done by going there.
    pub(super) edges: Vec<Vec<(u32, Duties)>>,
    /// All transitions, also those to states that were known.
    pub(super) transitions: usize,
}

impl Graph {
    pub(super) fn states(&self) -> usize {
        self.owed.len()
    }
}

/// Walks through the whole space, checks every promise in every state, and panics with the way to the first broken one.
///
/// States of one `identity` are one; only the first that is found is followed.
pub(super) fn explore(world: World, identity: fn(&State) -> u64, keep_edges: bool) -> Graph {
    let mut graph = Graph::default();
    let mut known = HashMap::<u64, u32>::new();
    // For the way to a broken promise: from where, by which action.
    let mut from: Vec<Option<(u32, Action)>> = Vec::new();
    let mut found = |pair: &Pair, came: Option<(u32, Action)>, graph: &mut Graph| {
        let next = u32::try_from(graph.states()).expect("a graph that fits memory");
        let number = *known.entry(identity(&pair.model)).or_insert(next);
        if number == next {
            from.push(came);
            if let Some((broken, _)) = PROMISES.iter().find(|(_, promise)| !promise(world, pair)) {
                panic!("{broken}: not after {:#?}\n{pair:#?}", way(&from, number));
            }
            graph.waits.push(fair::waits(&pair.model));
            graph.owed.push(fair::owed(&pair.model));
            graph.edges.push(Vec::new());
        }
        (number, number == next)
    };
    let first = Pair::new(world);
    found(&first, None, &mut graph);
    let mut frontier = alloc::vec![(0, first)];
    while !frontier.is_empty() {
        for (number, pair) in mem::take(&mut frontier) {
            for action in world.actions(&pair.model) {
                let next = pair.after(world, action);
                let done = fair::done(&pair.model, action, &next.model);
                let (target, is_new) = found(&next, Some((number, action)), &mut graph);
                graph.transitions += 1;
                if keep_edges {
                    graph.edges[number as usize].push((target, done));
                }
                if is_new {
                    frontier.push((target, next));
                }
            }
        }
    }
    graph
}

fn way(from: &[Option<(u32, Action)>], mut to: u32) -> Vec<Action> {
    let mut way = Vec::new();
    while let Some((before, action)) = from[to as usize] {
        way.push(action);
        to = before;
    }
    way.reverse();
    way
}
