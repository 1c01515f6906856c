//! What has to be true of every state.

use super::spec::{Holding, SpecPhase, Standing, State};
use super::{Pair, World};

/// A sentence, and whether it is true.
type Promise = (&'static str, fn(World, &Pair) -> bool);

pub(super) const PROMISES: &[Promise] = &[
    ("the code shows what the model says", |_, pair| {
        each_name(&pair.model, |n| pair.shipped.shows(pair.model.now(), n, &pair.model))
    }),
    ("tokens that count are of one epoch, the current one if there is one", |_, pair| {
        each_name(&pair.model, |n| counted_tokens_fit(&pair.model, n))
    }),
    ("never more tokens than the limit", |world, Pair { model, .. }| {
        // A token that a gate had ended may be re-claimed after a restart and is drained like any other.
        model.restarts > 0 || each_name(model, |n| model.counted(n) <= world.tokens)
    }),
    ("never more operations of living holders than the limit", |world, Pair { model, .. }| {
        each_name(model, |n| {
            let orphans = model.names[n].orphans.len();
            model.names[n].running(&model.holders, n).len() - orphans <= world.tokens
        })
    }),
    ("who waits waits for a reason", |world, Pair { model, .. }| {
        each_name(model, |n| {
            let active = matches!(model.names[n].phase, SpecPhase::Active { .. });
            model.names[n].waiting.is_empty() || (active && model.counted(n) == world.tokens)
        })
    }),
    ("what runs is of the newest epoch that ever ran", |_, Pair { model, .. }| {
        each_name(model, |n| {
            let spec = &model.names[n];
            spec.running(&model.holders, n).iter().all(|epoch| *epoch == spec.newest)
        })
    }),
    ("late events change nothing", |_, pair| {
        each_name(&pair.model, |n| pair.shipped.ignores_late_events(pair.model.now(), n))
    }),
    ("the gate answers as its model does", |_, Pair { model, .. }| {
        each_name(model, |n| super::shipped::gate_agrees(model, n))
    }),
];

fn each_name(model: &State, mut promise: impl FnMut(usize) -> bool) -> bool {
    (0..model.names.len()).all(&mut promise)
}

fn counted_tokens_fit(model: &State, n: usize) -> bool {
    let mut epochs = model.holders.iter().filter_map(|holding| match *holding {
        Holding::Token { name, epoch, standing: Standing::Counted, .. } if name == n => Some(epoch),
        _ => None,
    });
    match model.names[n].phase {
        SpecPhase::Active { epoch, .. } => epochs.all(|other| other == epoch),
        SpecPhase::Draining { from, .. } => epochs.all(|other| other <= from),
        SpecPhase::Free => epochs.next().is_none(),
    }
}
