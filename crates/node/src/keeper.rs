use std::path::PathBuf;

use cuttlebone_monsync::{Effect, OpId};
use cuttlebone_store::{Keep, Limits, Origin, Point, Writer};
use cuttlebone_wire::Uuid;
use tokio::sync::mpsc;

use crate::Error;
use crate::gather::Gather;

mod bucket;
mod copy;

/// Effects and answers that may lie between the protocol and the disk.
///
/// The requester's own window bounds the chunks among them; this is above what any window allows.
const QUEUE_MAX: usize = 256;

/// A thread of its own for the one writer of what a source brings, since writing waits: for the disk where a copy is
/// kept, for room in memory where a bucket is.
///
/// Effects go in, answers come out in the same order. A copy is open and locked as long as this lives, and a little longer
/// if it is dropped without [`close`](Self::close).
#[derive(Debug)]
pub(crate) struct Keeper {
    jobs: mpsc::Sender<Job>,
    answers: mpsc::Receiver<Kept>,
    place: Place,
    /// Numbers the calls of [`give_up`](Self::give_up), so that an answer to a cancelled one is told apart.
    tickets: u64,
}

/// Where it is kept, as far as the asynchronous side has to know.
#[derive(Debug)]
enum Place {
    /// In a copy on disk, with its latest point.
    Copy(Option<Point>),
    /// In a bucket, which says itself how far it is: a revert may have taken it back.
    Bucket(Gather),
}

/// How far a source is.
#[derive(Clone, Debug)]
pub(crate) struct Latest {
    pub(crate) last_committed: u64,
    pub(crate) fsid: Uuid,
    /// Of a copy.
    pub(crate) point: Option<Point>,
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
    /// Maintenance is done, and may have made a point.
    Maintained(Result<Option<Point>, Error>),
}

impl Keeper {
    /// Opens the copy in `dir`, or starts one.
    pub(crate) fn in_copy(dir: impl Into<PathBuf>, limits: Limits) -> Result<Self, Error> {
        let mut writer = Writer::open(dir.into(), limits)?;
        let place = Place::Copy(writer.latest().cloned());
        Self::start(place, "cuttlebone-store", move |mut desk| {
            copy::work(&mut desk, &mut writer);
            // The lock first: whoever waits in `close` may open the copy again at once.
            drop(writer);
        })
    }

    /// Keeps it in a bucket.
    pub(crate) fn in_bucket(gather: Gather) -> Result<Self, Error> {
        Self::start(Place::Bucket(gather.clone()), "cuttlebone-gather", move |mut desk| {
            bucket::work(&mut desk, &gather);
        })
    }

    fn start(place: Place, name: &str, work: impl FnOnce(Desk) + Send + 'static) -> Result<Self, Error> {
        let (jobs, inbox) = mpsc::channel(QUEUE_MAX);
        let (outbox, answers) = mpsc::channel(QUEUE_MAX);
        let desk = Desk { inbox, outbox };
        std::thread::Builder::new().name(name.into()).spawn(move || work(desk)).map_err(Error::Thread)?;
        Ok(Self { jobs, answers, place, tickets: 0 })
    }

    /// How far it is; `None` if there is nothing yet.
    pub(crate) fn latest(&self) -> Option<Latest> {
        match &self.place {
            Place::Copy(point) => {
                let Point { last_committed, origin, .. } = point.as_ref()?;
                Some(Latest { last_committed: *last_committed, fsid: origin.fsid, point: point.clone() })
            }
            Place::Bucket(gather) => gather.latest(),
        }
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
                Kept::Failed(error @ Error::Store(cuttlebone_store::Error::Misuse(_))) => return Err(error),
                _ => {}
            }
        }
    }

    /// Starts a new generation if history has outgrown its limits, and lets go of what `keep` does not ask for.
    pub(crate) async fn maintain(&mut self, keep: Keep) -> Result<(), Error> {
        let _ = self.jobs.send(Job::Maintain { keep }).await;
        loop {
            match self.recv().await {
                Kept::Maintained(Ok(Some(point))) => {
                    self.place = Place::Copy(Some(point));
                    return Ok(());
                }
                Kept::Maintained(result) => return result.map(drop),
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
            return Kept::Failed(GONE.into());
        };
        if let Kept::Applied { point: Some(point), .. } = &kept {
            self.place = Place::Copy(Some((**point).clone()));
        }
        kept
    }
}

const GONE: cuttlebone_store::Error = cuttlebone_store::Error::Misuse("the thread of the copy is gone");

/// The thread's side.
#[derive(Debug)]
struct Desk {
    inbox: mpsc::Receiver<Job>,
    outbox: mpsc::Sender<Kept>,
}

impl Desk {
    fn answer(&self, kept: Kept) {
        // Nobody listens any more: then the next job does not come either.
        let _ = self.outbox.blocking_send(kept);
    }

    fn failed(&self, error: impl Into<Error>) {
        self.answer(Kept::Failed(error.into()));
    }
}
