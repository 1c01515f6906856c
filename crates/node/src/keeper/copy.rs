//! A copy on disk.

use cuttlebone_monsync::{Effect, SyncKind};
use cuttlebone_store::{Error, Ingest, NewPoint, Pull, Writer};
use cuttlebone_wire::WallTime;

use super::{Desk, Job, Kept};
use crate::clock::wall_time;

/// Carries out jobs until nobody gives any more.
pub(super) fn work(desk: &mut Desk, writer: &mut Writer) {
    while let Some(job) = desk.inbox.blocking_recv() {
        match job {
            Job::Effect { op, effect: Effect::Begin { kind, start }, .. } => {
                let pull = match kind {
                    SyncKind::Full => Pull::Full { start: start.0 },
                    SyncKind::Recent { after } => Pull::Recent { from: after.0 },
                };
                match writer.begin(pull) {
                    Ok(ingest) => {
                        desk.answer(Kept::Applied { op, point: None });
                        take_in(desk, ingest);
                    }
                    Err(error) => desk.failed(error),
                }
            }
            // What was still on its way when a pull failed.
            Job::Effect { .. } => {}
            Job::GiveUp { ticket } => desk.answer(Kept::GivenUp { ticket }),
            Job::Maintain { keep } => {
                let result = writer.maintain(keep).map(|maintained| maintained.rebased).map_err(Into::into);
                desk.answer(Kept::Maintained(result));
            }
        }
    }
}

/// One pull, until it is committed, given up, or failed.
fn take_in(desk: &mut Desk, mut ingest: Ingest<'_>) {
    while let Some(job) = desk.inbox.blocking_recv() {
        let (op, effect, origin) = match job {
            Job::Effect { op, effect, origin } => (op, effect, origin),
            Job::GiveUp { ticket } => return desk.answer(Kept::GivenUp { ticket }),
            // Nobody asks for that in the middle of a pull; it ends like one that was given up.
            Job::Maintain { .. } => return desk.answer(Kept::Maintained(Err(BUSY.into()))),
        };
        let done = match effect {
            Effect::Begin { .. } => return desk.failed(BEGUN_TWICE),
            Effect::Chunk { raw, transaction } => ingest.append(&raw, &transaction),
            Effect::Replay { first, last } => ingest.replay(first.0..=last.0),
            Effect::Commit { last_committed } => {
                let time: WallTime = wall_time();
                let point = ingest.commit(NewPoint { last_committed: last_committed.0, time, origin });
                return desk.answer(match point {
                    Ok(point) => Kept::Applied { op, point: Some(Box::new(point)) },
                    Err(error) => Kept::Failed(error.into()),
                });
            }
        };
        match done {
            Ok(()) => desk.answer(Kept::Applied { op, point: None }),
            Err(error) => return desk.failed(error),
        }
    }
}

const BEGUN_TWICE: Error = Error::Misuse("a pull began before the last one ended");
const BUSY: Error = Error::Misuse("maintenance was asked for in the middle of a pull");
