use std::path::PathBuf;

use cuttlebone_monsync::{Effect, OpId, SyncKind};
use cuttlebone_store::{Error, Ingest, Keep, Limits, Maintained, NewPoint, Origin, Point, Pull, Writer};
use cuttlebone_wire::WallTime;
use tokio::sync::mpsc;

use crate::clock::wall_time;

/// Effects and answers that may lie between the protocol and the disk.
///
/// The requester's own window bounds the chunks among them; this is above what any window allows.
const QUEUE_MAX: usize = 256;

/// A thread of its own for the one writer of a copy, since writing waits for the disk.
///
/// Effects go in, answers come out in the same order. The copy is open and locked as long as this lives, and a little
/// longer if it is dropped without [`close`](Self::close).
#[derive(Debug)]
pub(crate) struct Keeper {
    jobs: mpsc::Sender<Job>,
    answers: mpsc::Receiver<Kept>,
    latest: Option<Point>,
    /// Numbers the calls of [`give_up`](Self::give_up), so that an answer to a cancelled one is told apart.
    tickets: u64,
}

/// What the thread is told.
#[derive(Debug)]
enum Job {
    Effect { op: OpId, effect: Effect, origin: Origin },
    GiveUp { ticket: u64 },
    Maintain { keep: Keep },
}

/// What the thread answers.
#[derive(Debug)]
pub(crate) enum Kept {
    /// The effect is carried out; after a commit, with the point that it made.
    Applied { op: OpId, point: Option<Box<Point>> },
    /// It could not be. Nothing of this pull will be kept.
    Failed(Error),
    /// No pull is in progress, and all earlier answers have been given.
    GivenUp { ticket: u64 },
    /// Maintenance is done.
    Maintained(Result<Maintained, Error>),
}

impl Keeper {
    /// Opens the copy in `dir`, or starts one.
    pub(crate) fn open(dir: impl Into<PathBuf>, limits: Limits) -> Result<Self, Error> {
        let mut writer = Writer::open(dir.into(), limits)?;
        let latest = writer.latest().cloned();
        let (jobs, inbox) = mpsc::channel(QUEUE_MAX);
        let (outbox, answers) = mpsc::channel(QUEUE_MAX);
        let mut desk = Desk { inbox, outbox };
        let work = move || {
            desk.work(&mut writer);
            // The lock first: whoever waits in `close` may open the copy again at once.
            drop(writer);
            drop(desk);
        };
        let thread = std::thread::Builder::new().name("cuttlebone-store".into()).spawn(work);
        thread.map_err(|source| Error::Io {
            action: "start a thread for",
            file: "the copy".into(),
            source,
        })?;
        Ok(Self { jobs, answers, latest, tickets: 0 })
    }

    /// The latest point.
    pub(crate) fn latest(&self) -> Option<&Point> {
        self.latest.as_ref()
    }

    /// Hands one effect over; waits while the queue is full.
    pub(crate) async fn apply(&self, op: OpId, effect: Effect, origin: &Origin) {
        // The thread ends only after us, or by a panic, which `recv` reports.
        let _ = self.jobs.send(Job::Effect { op, effect, origin: origin.clone() }).await;
    }

    /// Drops the pull that is in progress, if there is one, and every answer that belongs to it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call does the same.
    pub(crate) async fn give_up(&mut self) -> Result<(), Error> {
        self.tickets += 1;
        let ticket = self.tickets;
        let _ = self.jobs.send(Job::GiveUp { ticket }).await;
        loop {
            match self.recv().await {
                Kept::GivenUp { ticket: answered } if answered == ticket => return Ok(()),
                Kept::Failed(error @ Error::Misuse(_)) => return Err(error),
                _ => {}
            }
        }
    }

    /// Starts a new generation if history has outgrown its limits, and lets go of what `keep` does not ask for.
    pub(crate) async fn maintain(&mut self, keep: Keep) -> Result<Maintained, Error> {
        let _ = self.jobs.send(Job::Maintain { keep }).await;
        loop {
            match self.recv().await {
                Kept::Maintained(result) => {
                    if let Ok(Maintained { rebased: Some(point), .. }) = &result {
                        self.latest = Some(point.clone());
                    }
                    return result;
                }
                Kept::Failed(error) => return Err(error),
                // Answers of a pull that was given up.
                Kept::Applied { .. } | Kept::GivenUp { .. } => {}
            }
        }
    }

    /// Gives up what is in progress, and returns once the copy is closed and unlocked.
    pub(crate) async fn close(self) {
        let Self { jobs, mut answers, .. } = self;
        drop(jobs);
        while answers.recv().await.is_some() {}
    }

    /// The next answer. Cancel safe: an answer that was not taken stays.
    pub(crate) async fn recv(&mut self) -> Kept {
        let Some(kept) = self.answers.recv().await else {
            return Kept::Failed(Error::Misuse("the thread of the copy is gone"));
        };
        if let Kept::Applied { point: Some(point), .. } = &kept {
            self.latest = Some((**point).clone());
        }
        kept
    }
}

/// The thread's side.
struct Desk {
    inbox: mpsc::Receiver<Job>,
    outbox: mpsc::Sender<Kept>,
}

impl Desk {
    fn work(&mut self, writer: &mut Writer) {
        while let Some(job) = self.inbox.blocking_recv() {
            match job {
                Job::Effect { op, effect: Effect::Begin { kind, start }, .. } => {
                    let pull = match kind {
                        SyncKind::Full => Pull::Full { start: start.0 },
                        SyncKind::Recent { after } => Pull::Recent { from: after.0 },
                    };
                    match writer.begin(pull) {
                        Ok(ingest) => {
                            self.answer(Kept::Applied { op, point: None });
                            self.take_in(ingest);
                        }
                        Err(error) => self.answer(Kept::Failed(error)),
                    }
                }
                // What was still on its way when a pull failed.
                Job::Effect { .. } => {}
                Job::GiveUp { ticket } => self.answer(Kept::GivenUp { ticket }),
                Job::Maintain { keep } => {
                    let result = writer.maintain(keep);
                    self.answer(Kept::Maintained(result));
                }
            }
        }
    }

    /// One pull, until it is committed, given up, or failed.
    fn take_in(&mut self, mut ingest: Ingest<'_>) {
        while let Some(job) = self.inbox.blocking_recv() {
            let (op, effect, origin) = match job {
                Job::Effect { op, effect, origin } => (op, effect, origin),
                Job::GiveUp { ticket } => return self.answer(Kept::GivenUp { ticket }),
                // Nobody asks for that in the middle of a pull; it ends like one that was given up.
                Job::Maintain { .. } => return self.answer(Kept::Maintained(Err(BUSY))),
            };
            let done = match effect {
                Effect::Begin { .. } => return self.answer(Kept::Failed(BEGUN_TWICE)),
                Effect::Chunk { raw, transaction } => ingest.append(&raw, &transaction),
                Effect::Replay { first, last } => ingest.replay(first.0..=last.0),
                Effect::Commit { last_committed } => {
                    let time: WallTime = wall_time();
                    let point = ingest.commit(NewPoint { last_committed: last_committed.0, time, origin });
                    return self.answer(match point {
                        Ok(point) => Kept::Applied { op, point: Some(Box::new(point)) },
                        Err(error) => Kept::Failed(error),
                    });
                }
            };
            match done {
                Ok(()) => self.answer(Kept::Applied { op, point: None }),
                Err(error) => return self.answer(Kept::Failed(error)),
            }
        }
    }

    fn answer(&self, kept: Kept) {
        // Nobody listens any more: then the next job does not come either.
        let _ = self.outbox.blocking_send(kept);
    }
}

const BEGUN_TWICE: Error = Error::Misuse("a pull began before the last one ended");
const BUSY: Error = Error::Misuse("maintenance was asked for in the middle of a pull");
