//! A bucket.

use cuttlebone_monsync::Effect;

use super::{Desk, Job, Kept};
use crate::gather::{Gather, Gathering};

/// Carries out jobs until nobody gives any more.
pub(super) fn work(desk: &mut Desk, gather: &Gather) {
    let mut gathering = None;
    while let Some(job) = desk.inbox.blocking_recv() {
        match job {
            Job::Effect { op, effect, origin } => {
                let done = match (effect, &mut gathering) {
                    (Effect::Begin { kind, .. }, _) => {
                        gather.begin(kind).map(|begun| gathering = Some(begun))
                    }
                    (Effect::Chunk { transaction, .. }, Some(pull)) => pull.chunk(&transaction),
                    (Effect::Replay { first, last }, Some(pull)) => pull.replay(first.0..=last.0),
                    (Effect::Commit { last_committed }, pull @ Some(_)) => {
                        pull.take().map_or(Ok(()), |pull: Gathering| pull.commit(last_committed.0, &origin))
                    }
                    // What was still on its way when a pull failed.
                    (Effect::Chunk { .. } | Effect::Replay { .. } | Effect::Commit { .. }, None) => continue,
                };
                match done {
                    Ok(()) => desk.answer(Kept::Applied { op, point: None }),
                    Err(error) => {
                        gathering = None;
                        desk.failed(error);
                    }
                }
            }
            Job::GiveUp { ticket } => {
                gathering = None;
                desk.answer(Kept::GivenUp { ticket });
            }
            // A bucket needs none.
            Job::Maintain { .. } => desk.answer(Kept::Maintained(Ok(None))),
        }
    }
}
