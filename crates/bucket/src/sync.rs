//! Locks and counters: from `std`, or under `cfg(shuttle)` from the scheduler that explores their interleavings.

use core::fmt;

#[cfg(not(shuttle))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(shuttle)]
use shuttle::thread::yield_now;
pub(crate) use std::sync::{Arc, PoisonError};
#[cfg(not(shuttle))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(not(shuttle))]
use std::thread::yield_now;

use crate::vbucket::Vbucket;

/// Locks, also after a panic: that would be a defect of ours, and `recount` tells what it left.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often long work lets others go first before it goes on regardless.
const YIELDS_MAX: u32 = 16;

/// A vbucket behind its lock.
///
/// The lock is not fair: a thread that lets it go and takes it again at once comes before those who sleep for it. So
/// whoever works in slices calls [`give_way`](Self::give_way) in between.
pub(crate) struct Cell {
    vbucket: Mutex<Vbucket>,
    waiting: AtomicUsize,
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").finish_non_exhaustive()
    }
}

impl Cell {
    pub(crate) fn new(vbucket: Vbucket) -> Arc<Self> {
        Arc::new(Self { vbucket: Mutex::new(vbucket), waiting: AtomicUsize::new(0) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Vbucket> {
        if let Ok(guard) = self.vbucket.try_lock() {
            return guard;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let guard = lock(&self.vbucket);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    /// Lets those who wait for the lock go first.
    pub(crate) fn give_way(&self) {
        for _ in 0..YIELDS_MAX {
            if self.waiting.load(Ordering::Relaxed) == 0 {
                return;
            }
            yield_now();
        }
    }
}
