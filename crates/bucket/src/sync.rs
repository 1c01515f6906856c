//! Locks and counters: from `std`, or under `cfg(shuttle)` from the scheduler that explores their interleavings.

use core::fmt;
use core::ops::{Deref, DerefMut};

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

use cuttlebone_checkpoint::Item;

use crate::table::Parts;
use crate::vbucket::Vbucket;

/// Locks, also after a panic: that would be a defect of ours, and `recount` tells what it left.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often long work lets others go first before it goes on regardless.
const YIELDS_MAX: u32 = 16;

/// A vbucket behind its lock, and its values, which most readers take without that.
///
/// The lock is not fair: a thread that lets it go and takes it again at once comes before those who sleep for it. So
/// whoever works in slices calls [`give_way`](Self::give_way) in between.
pub(crate) struct Cell {
    vbucket: Mutex<Vbucket>,
    waiting: AtomicUsize,
    parts: Arc<Parts>,
    /// Whether clients are served. Follows the vbucket whenever its lock is let go, so before anything is answered.
    open: AtomicBool,
}

/// A vbucket that is locked.
pub(crate) struct Held<'a> {
    vbucket: MutexGuard<'a, Vbucket>,
    open: &'a AtomicBool,
}

impl Deref for Held<'_> {
    type Target = Vbucket;
    fn deref(&self) -> &Vbucket {
        &self.vbucket
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Vbucket {
        &mut self.vbucket
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let open = self.vbucket.admit().is_ok();
        if self.open.load(Ordering::Relaxed) != open {
            self.open.store(open, Ordering::Release);
        }
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").finish_non_exhaustive()
    }
}

impl Cell {
    pub(crate) fn new(vbucket: Vbucket) -> Arc<Self> {
        let (parts, open) = (vbucket.table.parts(), AtomicBool::new(vbucket.admit().is_ok()));
        Arc::new(Self { vbucket: Mutex::new(vbucket), waiting: AtomicUsize::new(0), parts, open })
    }

    /// The value of a key and its stamp, if nothing needs a closer look.
    ///
    /// A reader that finds the vbucket open may read when it is closed already: then its operation was there first.
    pub(crate) fn value(&self, key: &[u8], unix: u32) -> Option<(Item, u64)> {
        if self.open.load(Ordering::Acquire) { self.parts.value(key, unix) } else { None }
    }

    pub(crate) fn lock(&self) -> Held<'_> {
        let vbucket = if let Ok(guard) = self.vbucket.try_lock() {
            guard
        } else {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let guard = lock(&self.vbucket);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            guard
        };
        Held { vbucket, open: &self.open }
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
