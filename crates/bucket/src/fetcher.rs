//! Reading values from the disk on behalf of those who must not block.

use core::fmt;
use core::task::{Context, Poll, Waker};
use std::collections::{BTreeMap, VecDeque};

use crate::Error;
use crate::bucket::{Bucket, VbucketId};
use crate::engine::Engine;
use crate::sync::{Arc, Condvar, Mutex, PoisonError, lock};

type Key = (VbucketId, Box<[u8]>);

/// Keys whose values are to be read, oldest first; each once, whoever wants it. Those who want one are limited, not the keys,
/// since there are as many keys at most; one who gives up keeps its place until the key is read.
pub(crate) struct Fetches {
    queue: Mutex<Queue>,
    wake: Condvar,
    limit: usize,
}

impl fmt::Debug for Fetches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetches").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Queue {
    order: VecDeque<Key>,
    wanted_by: BTreeMap<Key, Vec<Arc<Seat>>>,
    seats: usize,
    readers: usize,
    stopping: bool,
}

/// Where one asynchronous operation waits for a value.
#[derive(Debug, Default)]
pub(crate) struct Seat(Mutex<Sitting>);

#[derive(Debug, Default)]
enum Sitting {
    #[default]
    Nobody,
    Waiting(Option<Waker>),
    Served(Result<(), Error>),
}

impl Seat {
    /// Ready when nothing is awaited here; with an error if the disk had one.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut sitting = lock(&self.0);
        match core::mem::take(&mut *sitting) {
            Sitting::Nobody => Poll::Ready(Ok(())),
            Sitting::Served(outcome) => Poll::Ready(outcome),
            Sitting::Waiting(_) => {
                *sitting = Sitting::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }

    fn serve(&self, outcome: Result<(), Error>) {
        let before = core::mem::replace(&mut *lock(&self.0), Sitting::Served(outcome));
        if let Sitting::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl Fetches {
    pub(crate) fn new(limit: usize) -> Self {
        Self { queue: Mutex::new(Queue::default()), wake: Condvar::new(), limit }
    }

    /// Asks for a value; false if nobody reads in the background.
    pub(crate) fn ask(&self, vbucket: VbucketId, key: &[u8], seat: &Arc<Seat>) -> Result<bool, Error> {
        let mut queue = lock(&self.queue);
        if queue.readers == 0 || queue.stopping {
            return Ok(false);
        }
        let key = (vbucket, Box::from(key));
        if queue.seats >= self.limit {
            return Err(Error::TooManyParked { limit: self.limit });
        }
        queue.seats += 1;
        let is_new = !queue.wanted_by.contains_key(&key);
        *lock(&seat.0) = Sitting::Waiting(None);
        if is_new {
            queue.order.push_back(key.clone());
            self.wake.notify_one();
        }
        queue.wanted_by.entry(key).or_default().push(Arc::clone(seat));
        Ok(true)
    }

    pub(crate) fn enter(&self) {
        let mut queue = lock(&self.queue);
        queue.readers += 1;
        queue.stopping = false;
    }

    /// A reader could not be started after all.
    pub(crate) fn leave(&self) {
        lock(&self.queue).readers -= 1;
    }

    /// What was asked for is still read; nothing more is taken.
    pub(crate) fn stop(&self) {
        lock(&self.queue).stopping = true;
        self.wake.notify_all();
    }

    /// The next key to read, with all who want it when it is read; `None` at the end.
    fn next(&self) -> Option<Key> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(key) = queue.order.pop_front() {
                return Some(key);
            }
            if queue.stopping {
                queue.readers -= 1;
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The value of `key` is there, or the disk failed. One of those who want it is told why; the others ask again.
    fn serve(&self, key: &Key, outcome: Result<(), Error>) {
        let seats = {
            let mut queue = lock(&self.queue);
            let seats = queue.wanted_by.remove(key).unwrap_or_default();
            queue.seats -= seats.len();
            seats
        };
        let mut outcomes = core::iter::once(outcome).chain(core::iter::repeat_with(|| Ok(())));
        for seat in seats {
            seat.serve(outcomes.next().unwrap_or(Ok(())));
        }
    }
}

impl<E: Engine> Bucket<E> {
    /// Reads what is asked for until it is told to stop.
    pub(crate) fn read_in_background(&self) {
        let fetches = self.fetches();
        while let Some(key) = fetches.next() {
            let outcome = match self.peek(key.0, &key.1) {
                Err(error @ (Error::Engine(_) | Error::Corrupt { .. })) => Err(error),
                // Whatever else it is, the operation finds it out for itself.
                _ => Ok(()),
            };
            fetches.serve(&key, outcome);
        }
    }
}
