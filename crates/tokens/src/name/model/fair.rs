//! Whether everybody who waits is served: a search for runs that are fair and leave somebody waiting for ever.
//!
//! Fair means that nobody shirks: a duty that is owed again and again is done again and again (strong fairness). Duties
//! are those of the environment: a holder picks up what it was granted, an operation ends, a holder ends, an owner ends,
//! the recovery window ends. Everybody may also do anything else for ever, such as asking for tokens all over again.

use alloc::vec::Vec;

use super::explore::Graph;
use super::spec::{Action, Holding, SpecPhase, State};

/// A set of duties, one bit each: three for every holder, two for every name, and one for the window.
pub(super) type Duties = u32;
/// A set of those who wait: a bit for every holder, and one for every owner of every name.
pub(super) type Waits = u32;

const OWNERS_MAX: usize = 8;
const HOLDERS_MAX: usize = 6;
const NAMES_MAX: usize = 2;
const WINDOW: Duties = 1 << 31;

fn pick_up(h: usize) -> Duties {
    1 << h
}
fn end_operation(h: usize) -> Duties {
    1 << (HOLDERS_MAX + h)
}
fn end_token(h: usize) -> Duties {
    1 << (2 * HOLDERS_MAX + h)
}
fn end_orphan(n: usize) -> Duties {
    1 << (3 * HOLDERS_MAX + 2 * n)
}
fn end_incarnation(n: usize) -> Duties {
    1 << (3 * HOLDERS_MAX + 2 * n + 1)
}

fn any_incarnation() -> Duties {
    (0..NAMES_MAX).map(end_incarnation).fold(0, |all, one| all | one)
}

pub(super) fn waits(state: &State) -> Waits {
    let mut waits = 0;
    for (h, holding) in state.holders.iter().enumerate() {
        waits |= Waits::from(matches!(holding, Holding::Waiting { .. })) << h;
    }
    for (n, spec) in state.names.iter().enumerate() {
        let next = match spec.phase {
            SpecPhase::Draining { next: Some((owner, _)), .. } => Some(owner),
            _ => None,
        };
        for owner in spec.line.iter().copied().chain(next) {
            waits |= 1 << (HOLDERS_MAX + n * OWNERS_MAX + usize::from(owner));
        }
    }
    waits
}

pub(super) fn owed(state: &State) -> Duties {
    let mut owed = if state.window { WINDOW } else { 0 };
    for (h, holding) in state.holders.iter().enumerate() {
        if let Holding::Token { picked_up, running, .. } = *holding {
            owed |= if !picked_up {
                pick_up(h)
            } else if running {
                end_operation(h)
            } else {
                end_token(h)
            };
        }
    }
    for (n, spec) in state.names.iter().enumerate() {
        if !spec.orphans.is_empty() {
            owed |= end_orphan(n);
        }
        if matches!(spec.phase, SpecPhase::Active { .. }) {
            owed |= end_incarnation(n);
        }
    }
    owed
}

/// The duties that are done by a step.
pub(super) fn done(before: &State, action: Action, after: &State) -> Duties {
    let mut done = match action {
        Action::PickUp(h) => pick_up(h),
        Action::EndOperation(h) => end_operation(h),
        Action::EndOrphan(n) => end_orphan(n),
        Action::WindowEnds => WINDOW,
        _ => 0,
    };
    for (h, (before, after)) in before.holders.iter().zip(&after.holders).enumerate() {
        if matches!(before, Holding::Token { .. }) && !matches!(after, Holding::Token { .. }) {
            done |= pick_up(h) | end_operation(h) | end_token(h);
        }
    }
    for (n, (before, after)) in before.names.iter().zip(&after.names).enumerate() {
        let epoch = |phase| match phase {
            SpecPhase::Active { epoch, .. } => Some(epoch),
            _ => None,
        };
        if epoch(before.phase).is_some() && epoch(before.phase) != epoch(after.phase) {
            done |= end_incarnation(n);
        }
    }
    done
}

/// Panics if there is a fair run in which somebody waits for ever. Standing still is a run, too.
///
/// For those who wait for a token an owner need not ever end; for those who wait for a name it has to.
pub(super) fn assert_nobody_waits_for_ever(graph: &Graph) {
    for who in 0..Waits::BITS {
        let waits = |waits: &Waits| waits & (1 << who) != 0;
        let waiting = (0..).zip(&graph.waits).filter(|(_, all)| waits(all)).map(|(state, _)| state).collect();
        let duties = if (who as usize) < HOLDERS_MAX { !any_incarnation() } else { !0 };
        if let Some(stuck) = fair_run(graph, waiting, duties) {
            panic!(
                "number {who} may wait for ever in {} states, for one in {:?}",
                stuck.len(),
                stuck.first()
            );
        }
    }
}

/// States among `within` between which a run can go round for ever that is fair as far as `duties` go.
///
/// A run stays in one strongly connected component in the end. It is fair if every duty owed somewhere in the component
/// is done on some edge inside it. If one is not, a fair run has to stay out of the states that owe it; so those are
/// taken away, and what is left is searched again.
///
/// Source: Emerson and Lei, "Modalities for model checking: branching time logic strikes back", 1987.
fn fair_run(graph: &Graph, mut within: Vec<u32>, duties: Duties) -> Option<Vec<u32>> {
    while !within.is_empty() {
        let mut rest = Vec::new();
        let (components, of) = components(graph, &within);
        for (number, component) in (0..).zip(components) {
            let edges = component.iter().flat_map(|state| &graph.edges[*state as usize]);
            let inside = edges.filter(|(to, _)| of[*to as usize] == number);
            let done = inside.fold(0, |done, (_, duties)| done | duties);
            let owed = component.iter().fold(0, |owed, state| owed | graph.owed[*state as usize]);
            let shirked = owed & duties & !done;
            if shirked == 0 {
                return Some(component);
            }
            rest.extend(component.into_iter().filter(|state| graph.owed[*state as usize] & shirked == 0));
        }
        within = rest;
    }
    None
}

/// The strongly connected components of the graph restricted to `within`, single states included; and the number of the
/// component of each state.
///
/// By the algorithm of Tarjan ("Depth-first search and linear graph algorithms", 1972), without recursion.
fn components(graph: &Graph, within: &[u32]) -> (Vec<Vec<u32>>, Vec<u32>) {
    const OUTSIDE: u32 = u32::MAX;
    const UNSEEN: u32 = u32::MAX - 1;
    let mut index = alloc::vec![OUTSIDE; graph.states()];
    for state in within {
        index[*state as usize] = UNSEEN;
    }
    let mut low = alloc::vec![0; graph.states()];
    let mut of = alloc::vec![OUTSIDE; graph.states()];
    let (mut stack, mut found, mut next) = (Vec::new(), Vec::new(), 0);
    for root in within {
        if index[*root as usize] != UNSEEN {
            continue;
        }
        let mut path = alloc::vec![(*root, 0)];
        while let Some((state, at)) = path.last_mut() {
            let (state, s) = (*state, *state as usize);
            if *at == 0 {
                (index[s], low[s]) = (next, next);
                next += 1;
                stack.push(state);
            }
            if let Some((to, _)) = graph.edges[s].get(*at) {
                *at += 1;
                match index[*to as usize] {
                    OUTSIDE => {}
                    UNSEEN => path.push((*to, 0)),
                    seen if of[*to as usize] == OUTSIDE => low[s] = low[s].min(seen),
                    _ => {}
                }
                continue;
            }
            path.pop();
            if let Some((parent, _)) = path.last() {
                low[*parent as usize] = low[*parent as usize].min(low[s]);
            }
            if low[s] == index[s] {
                let start = stack.iter().rposition(|other| *other == state).expect("it is on the stack");
                let component: Vec<u32> = stack.split_off(start);
                let number = u32::try_from(found.len()).expect("no more than states");
                for member in &component {
                    of[*member as usize] = number;
                }
                found.push(component);
            }
        }
    }
    (found, of)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A graph in which state 0 leads to 1 and back, and somebody waits in both.
    fn circle(owed: [Duties; 2], done: [Duties; 2]) -> Graph {
        let edges = alloc::vec![alloc::vec![(1, done[0])], alloc::vec![(0, done[1])]];
        Graph { waits: alloc::vec![1, 1], owed: owed.into(), edges, transitions: 2 }
    }

    #[test]
    fn a_circle_is_fair_if_what_it_owes_is_done_in_it() {
        let runs = |owed, done| fair_run(&circle(owed, done), alloc::vec![0, 1], !0).is_some();
        assert!(runs([0, 0], [0, 0]), "nobody owes anything");
        assert!(runs([1, 0], [1, 0]), "owed and done");
        assert!(runs([0, 2], [0, 0]), "a run may stand still in 0, where nothing is owed");
        assert!(!runs([1, 2], [0, 0]), "each state owes something that is never done");
        assert!(!runs([1, 1], [0, 2]), "another duty is done");
        assert!(runs([1, 3], [1, 2]), "each is done somewhere");
    }

    #[test]
    fn a_way_out_is_no_circle() {
        let mut graph = circle([1, 1], [0, 0]);
        graph.edges[1] = alloc::vec![(2, 1)];
        graph.edges.push(Vec::new());
        graph.owed.push(0);
        graph.waits.push(0);
        assert!(fair_run(&graph, alloc::vec![0, 1], !0).is_none());
        assert_nobody_waits_for_ever(&graph);
    }

    #[test]
    #[should_panic(expected = "number 0 may wait for ever")]
    fn a_state_in_which_nobody_owes_anything_keeps_its_waiter_for_ever() {
        assert_nobody_waits_for_ever(&circle([1, 0], [0, 0]));
    }
}
