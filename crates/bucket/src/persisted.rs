//! Waiting until something is durable.

use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::BTreeMap;

use cuttlebone_checkpoint::{CheckpointId, Seqno};
use cuttlebone_machine::Instant;

use crate::Error;
use crate::bucket::{Bucket, VbucketId};
use crate::engine::Engine;
use crate::sync::{Arc, Cell};
use crate::vbucket::{Vbucket, VbucketState};

/// Windows that were reverted and are remembered, so that who asks later learns it too. Older ones count as persisted.
const UNDONE_MAX: usize = 1024;

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are the two units of the log")]
pub enum Goal {
    /// This mutation, and everything before it.
    Seqno(Seqno),
    /// The whole of this checkpoint, and everything before it.
    Checkpoint(CheckpointId),
}

/// Mutations that were taken back before they were durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undone {
    pub(crate) seqnos: (Seqno, Seqno),
    pub(crate) checkpoints: (CheckpointId, CheckpointId),
}

impl Undone {
    fn has(&self, goal: Goal) -> bool {
        match goal {
            Goal::Seqno(seqno) => self.seqnos.0 <= seqno && seqno <= self.seqnos.1,
            Goal::Checkpoint(id) => self.checkpoints.0 <= id && id <= self.checkpoints.1,
        }
    }
}

/// How waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Persisted,
    Undone,
    TimedOut,
    Gone,
}

impl Outcome {
    const fn answer(self) -> Result<(), Error> {
        match self {
            Self::Persisted => Ok(()),
            Self::Undone => Err(Error::Undone),
            Self::TimedOut => Err(Error::TimedOut),
            Self::Gone => Err(Error::NotMyVbucket),
        }
    }
}

#[derive(Debug)]
struct Waiter {
    goal: Goal,
    deadline: Option<Instant>,
    waker: Option<Waker>,
    outcome: Option<Outcome>,
}

/// Everybody who waits for something of one vbucket to become durable.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: BTreeMap<u64, Waiter>,
    made: u64,
    undone: Vec<Undone>,
}

impl Waiters {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn settle(&mut self, outcome: Outcome, is_due: impl Fn(&Waiter) -> bool) {
        for waiter in self.waiting.values_mut().filter(|waiter| waiter.outcome.is_none() && is_due(waiter)) {
            waiter.outcome = Some(outcome);
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
    }

    /// What was waited for in `undone` never becomes durable, whoever asks.
    pub(crate) fn undo(&mut self, undone: Undone) {
        self.settle(Outcome::Undone, |waiter| undone.has(waiter.goal));
        if self.undone.len() == UNDONE_MAX {
            self.undone.remove(0);
        }
        self.undone.push(undone);
    }

    /// The history begins anew: what was before says nothing any more.
    pub(crate) fn forget(&mut self) {
        self.settle(Outcome::Undone, |_| true);
        self.undone.clear();
    }

    pub(crate) fn close(&mut self) {
        self.settle(Outcome::Gone, |_| true);
    }

    pub(crate) fn time_out(&mut self, now: Instant) {
        self.settle(Outcome::TimedOut, |waiter| waiter.deadline.is_some_and(|deadline| deadline <= now));
    }
}

impl Vbucket {
    fn has_persisted(&self, goal: Goal) -> bool {
        let status = self.log.status();
        match goal {
            Goal::Seqno(seqno) => seqno <= status.persisted,
            Goal::Checkpoint(id) => id <= status.persisted_checkpoint,
        }
    }

    /// Something has become durable.
    pub(crate) fn tell_persisted(&mut self) {
        if self.waiters.len() == 0 {
            return;
        }
        let mut waiters = core::mem::take(&mut self.waiters);
        waiters.settle(Outcome::Persisted, |waiter| self.has_persisted(waiter.goal));
        self.waiters = waiters;
    }
}

impl<E: Engine> Bucket<E> {
    /// Waits until `goal` is durable; also of mutations that are still to come. `deadline` is looked at by
    /// [`tick`](Self::tick), so about once a second.
    ///
    /// # Errors
    ///
    /// [`Error::NotMyVbucket`] if there is no such vbucket, or it is dead; [`Error::TooManyParked`]. The future ends with
    /// [`Error::Undone`] if hot reload took the goal back, or the vbucket was cleared before; with [`Error::TimedOut`] at
    /// the deadline; with [`Error::NotMyVbucket`] when the vbucket dies.
    pub fn persisted(
        &self,
        id: VbucketId,
        goal: Goal,
        deadline: Option<Instant>,
    ) -> Result<Persisted, Error> {
        let cell = self.one(id)?;
        let number = {
            let mut vbucket = cell.lock();
            if vbucket.state == VbucketState::Dead {
                return Err(Error::NotMyVbucket);
            }
            let limit = vbucket.limits.waiters_max;
            if vbucket.waiters.len() >= limit {
                return Err(Error::TooManyParked { limit });
            }
            let outcome = if vbucket.waiters.undone.iter().any(|undone| undone.has(goal)) {
                Some(Outcome::Undone)
            } else {
                vbucket.has_persisted(goal).then_some(Outcome::Persisted)
            };
            let waiters = &mut vbucket.waiters;
            waiters.made += 1;
            waiters.waiting.insert(waiters.made, Waiter { goal, deadline, waker: None, outcome });
            waiters.made
        };
        Ok(Persisted { cell, number })
    }
}

/// A future that is ready when what it was made for is durable, or never will be: see [`Bucket::persisted`].
///
/// # Cancel safety
///
/// Dropped, it gives its place to another. Nothing else depends on it.
#[derive(Debug)]
#[must_use = "it does nothing unless it is awaited"]
pub struct Persisted {
    cell: Arc<Cell>,
    number: u64,
}

impl Future for Persisted {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut vbucket = self.cell.lock();
        let Some(waiter) = vbucket.waiters.waiting.get_mut(&self.number) else {
            return Poll::Ready(Err(Error::Misuse("polled after it was ready")));
        };
        let Some(outcome) = waiter.outcome else {
            waiter.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        vbucket.waiters.waiting.remove(&self.number);
        Poll::Ready(outcome.answer())
    }
}

impl Drop for Persisted {
    fn drop(&mut self) {
        self.cell.lock().waiters.waiting.remove(&self.number);
    }
}
