use core::future::poll_fn;
use core::task::Poll;
use std::collections::BTreeMap;

use cuttlebone_checkpoint::{CheckpointStatus, CursorStatus, Seqno, Status, UpdateState};
use cuttlebone_machine::{Entropy, Instant, SplitMix};

use crate::engine::{Engine, EngineError};
use crate::fetcher::{Fetches, Seat};
use crate::flusher::Writer;
use crate::history::{Branch, History};
use crate::runner::Signal;
use crate::sync::{Arc, AtomicBool, Cell, Mutex, MutexGuard, Ordering, PoisonError, RwLock, lock};
use crate::update::UpdateStats;
use crate::vbucket::{Vbucket, VbucketState};
use crate::{BucketLimits, Error, OpenError, warmup};

/// Keys out of time that are removed under one hold of a vbucket's lock.
const EXPIRE_SLICE: usize = 64;

/// The number of a vbucket.
pub type VbucketId = u16;

/// The time, on both clocks that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Now {
    /// Monotonic, for ages and locks.
    pub at: Instant,
    /// Seconds since 1970, for expiry.
    pub unix: u32,
}

/// The figures of a vbucket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that only this crate makes")]
pub struct VbucketStatus {
    /// Who serves it.
    pub state: VbucketState,
    /// Keys with a value.
    pub items: usize,
    /// Those of them whose value is on the disk only.
    pub evicted: usize,
    /// Bytes of values in memory.
    pub resident_bytes: usize,
    /// The log.
    pub log: Status,
    /// Whether hot reload is on.
    pub in_window: bool,
    /// Operations that wait.
    pub parked: usize,
    /// Those who wait for something to become durable.
    pub waiting: usize,
    /// Where its history has branched.
    pub history: History,
    /// The last window that was reverted: barrier, first and last seqno.
    pub reverted: Option<(cuttlebone_checkpoint::CheckpointId, Seqno, Seqno)>,
}

/// The log of a vbucket in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that only this crate makes")]
pub struct LogStatus {
    /// Where hot reload is.
    pub update: UpdateState,
    /// Checkpoints in memory, the oldest first; the open one is the last.
    pub checkpoints: Vec<CheckpointStatus>,
    /// Who reads, persistence included.
    pub cursors: Vec<CursorStatus>,
}

/// Partitions of keys and values, over a change log each and one disk.
///
/// Clones are the same bucket. Methods take `&self` and may be called from any thread; none is `async`, and none waits but
/// for a lock, or the disk where its documentation says so. [`wait`](Self::wait) is the asynchronous face.
#[derive(Debug)]
pub struct Bucket<E> {
    shared: Arc<Shared<E>>,
    /// Where the operation waits for values that are on the disk only. Without one it reads them itself.
    seat: Option<Arc<Seat>>,
}

impl<E> Clone for Bucket<E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), seat: None }
    }
}

/// Locks are taken in this order: `update`, `writer`, `vbuckets`, one vbucket after another by number, a
/// part of its table, `chance`. Those of
/// `signal` and `fetches` are taken with no other but each their own.
#[derive(Debug)]
struct Shared<E> {
    engine: E,
    limits: BucketLimits,
    /// Held by whoever starts, completes or reverts: one at a time.
    update: Mutex<()>,
    /// Held for moments only, so that who looks at the figures waits for no revert.
    update_stats: Mutex<UpdateStats>,
    writer: Mutex<Writer>,
    vbuckets: RwLock<BTreeMap<VbucketId, Arc<Cell>>>,
    chance: Mutex<SplitMix>,
    paused: AtomicBool,
    signal: Signal,
    fetches: Fetches,
}

impl<E: Engine> Bucket<E> {
    /// Opens what is on the disk: every vbucket with its state, its keys, and as many values as fit.
    ///
    /// `seed` comes from a random source: it makes the numbers of histories unique, and collisions of keys unlikely.
    ///
    /// # Errors
    ///
    /// If a limit is outside its range, the disk fails, or a row or document is damaged.
    pub fn open(engine: E, limits: BucketLimits, now: Now, seed: u64) -> Result<Self, OpenError> {
        limits.log.check()?;
        let mut chance = SplitMix::new(seed);
        let (vbuckets, writer) = warmup::load(&engine, limits, now, &mut || chance.next_u64())?;
        let vbuckets = vbuckets.into_iter().map(|vbucket| (vbucket.id, Cell::new(vbucket))).collect();
        let shared = Shared {
            engine,
            limits,
            update: Mutex::new(()),
            update_stats: Mutex::new(UpdateStats::default()),
            writer: Mutex::new(writer),
            vbuckets: RwLock::new(vbuckets),
            chance: Mutex::new(chance),
            paused: AtomicBool::new(false),
            signal: Signal::default(),
            fetches: Fetches::new(limits.fetches_max),
        };
        let bucket = Self { shared: Arc::new(shared), seat: None };
        // Checkpoint ids, stamps and branches of this process are above those of the last one only if it says so on the
        // disk before it uses them: it may be killed before its first flush.
        match bucket.flush() {
            Ok(_) => Ok(bucket),
            Err(Error::Engine(error)) => Err(error.into()),
            Err(Error::Corrupt { address }) => Err(OpenError::Row { address }),
            Err(other) => Err(EngineError::new(other).into()),
        }
    }

    /// Adds a vbucket. If hot reload is on for the active ones, an active one inherits it.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] if there is one with this number.
    pub fn create(&self, id: VbucketId, now: Now, state: VbucketState) -> Result<(), Error> {
        let _update = lock(&self.shared.update);
        let inherits =
            state == VbucketState::Active && self.all().iter().any(|other| other.lock().is_in_window());
        let mut all = self.shared.vbuckets.write().unwrap_or_else(PoisonError::into_inner);
        if all.contains_key(&id) {
            return Err(Error::Exists);
        }
        let vbucket = Vbucket::new(now, id, state, &mut || self.chance(), self.shared.limits);
        let mut vbucket = vbucket.map_err(|_| Error::Misuse("limits were checked at the start"))?;
        if inherits {
            vbucket.log.start_update(now.at)?;
        }
        all.insert(id, Cell::new(vbucket));
        self.signal().poke();
        Ok(())
    }

    /// Removes a vbucket. Its rows are void once the next flush is done.
    ///
    /// # Errors
    ///
    /// [`Error::NotMyVbucket`] if there is none.
    pub fn remove(&self, id: VbucketId, now: Now) -> Result<(), Error> {
        let mut writer = lock(&self.shared.writer);
        let mut all = self.shared.vbuckets.write().unwrap_or_else(PoisonError::into_inner);
        let gone = all.remove(&id).ok_or(Error::NotMyVbucket)?;
        writer.removed.push(id);
        drop((all, writer));
        let mut gone = gone.lock();
        gone.state = VbucketState::Dead;
        // Streams and parked operations learn it at once.
        let (generation, branch) = self.fresh_branch(Seqno(0));
        gone.waiters.close();
        gone.reset(now, generation, branch, false);
        gone.unpark();
        Ok(())
    }

    /// Changes who serves a vbucket.
    ///
    /// A window of hot reload is reverted when the vbucket becomes a replica or dead, and kept otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::NotDrained`] if the window cannot be reverted yet; [`Error::NotMyVbucket`] if there is no such vbucket.
    pub fn set_state(&self, id: VbucketId, now: Now, state: VbucketState) -> Result<(), Error> {
        let leaves = matches!(state, VbucketState::Replica | VbucketState::Dead);
        if leaves && self.with(id, |vbucket| Ok(vbucket.is_in_window()))? {
            self.revert_one(id, now)?;
        }
        let branch = self.chance().max(1);
        self.with(id, |vbucket| {
            if vbucket.state != state {
                let was = core::mem::replace(&mut vbucket.state, state);
                if was == VbucketState::Replica {
                    vbucket.promote(branch);
                }
                vbucket.log.set_role(now.at, state.role());
                vbucket.log.queue_state([state.number()].as_slice().into());
                vbucket.unsaved = true;
            }
            if state == VbucketState::Dead {
                vbucket.waiters.close();
            }
            vbucket.unpark();
            Ok(())
        })?;
        self.signal().poke();
        Ok(())
    }

    /// Removes every key of every active vbucket, durably.
    ///
    /// # Errors
    ///
    /// [`Error::InWindow`] while hot reload is on, since a revert could not bring them back. As [`flush`](Self::flush).
    pub fn clear(&self, now: Now) -> Result<(), Error> {
        {
            let _update = lock(&self.shared.update);
            let all = self.all();
            let mut guards: Vec<_> = all.iter().map(|vbucket| vbucket.lock()).collect();
            guards.retain(|vbucket| vbucket.state == VbucketState::Active);
            if guards.iter().any(|vbucket| vbucket.is_in_window() || vbucket.is_reverting()) {
                return Err(Error::InWindow);
            }
            for vbucket in &mut guards {
                let (generation, branch) = self.fresh_branch(Seqno(0));
                vbucket.reset(now, generation, branch, true);
            }
        }
        self.flush().map(drop)
    }

    /// Does what is due: closes old checkpoints, removes keys that are out of time, ends waiting at its deadline. Call it
    /// about once a second.
    pub fn tick(&self, now: Now) {
        for vbucket in self.all() {
            {
                let mut vbucket = vbucket.lock();
                vbucket.log.tick(now.at);
                vbucket.tell_persisted();
                vbucket.waiters.time_out(now.at);
            }
            while vbucket.lock().expire_due(now, EXPIRE_SLICE) {
                vbucket.give_way();
            }
        }
    }

    /// Stops persistence: flushes are refused until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::Release);
    }

    /// Lets persistence go on.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::Release);
        self.signal().poke();
    }

    /// Runs `operation` until it is not parked: while the vbucket is pending or being reverted, it waits. So it does while a
    /// [`Runner`](crate::Runner) reads a value from the disk that `operation` needs; without one, `operation` reads it here.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyParked`], and whatever `operation` says.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, it has done nothing.
    pub async fn wait<T>(
        &self,
        id: VbucketId,
        mut operation: impl FnMut(&Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let seat = Arc::new(Seat::default());
        let seated = Self { shared: Arc::clone(&self.shared), seat: Some(Arc::clone(&seat)) };
        poll_fn(|cx| {
            loop {
                match seat.poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) => {}
                }
                match operation(&seated) {
                    Err(Error::Fetching) => continue,
                    Err(Error::Parked) => {}
                    done => return Poll::Ready(done),
                }
                // The gate may have opened since: then nobody would wake us.
                let parked = self.with(id, |vbucket| match vbucket.admit() {
                    Err(Error::Parked) => vbucket.park(cx.waker()).map(|()| true),
                    _ => Ok(false),
                });
                match parked {
                    Ok(true) => return Poll::Pending,
                    Ok(false) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        })
        .await
    }

    /// The numbers of all vbuckets.
    pub fn vbuckets(&self) -> Vec<VbucketId> {
        self.shared.vbuckets.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// The figures of a vbucket.
    ///
    /// # Errors
    ///
    /// [`Error::NotMyVbucket`] if there is none.
    pub fn status(&self, id: VbucketId) -> Result<VbucketStatus, Error> {
        self.with(id, |vbucket| {
            let sums = vbucket.table.sums();
            Ok(VbucketStatus {
                state: vbucket.state,
                items: sums.live,
                evicted: sums.evicted,
                resident_bytes: sums.resident_bytes,
                log: vbucket.log.status(),
                in_window: vbucket.is_in_window(),
                parked: vbucket.parked.len(),
                waiting: vbucket.waiters.len(),
                history: vbucket.history.clone(),
                reverted: vbucket.reverted,
            })
        })
    }

    /// What lies in the log of a vbucket, and who has read how far.
    ///
    /// # Errors
    ///
    /// [`Error::NotMyVbucket`] if there is none.
    pub fn log_status(&self, id: VbucketId) -> Result<LogStatus, Error> {
        self.with(id, |vbucket| {
            Ok(LogStatus {
                update: vbucket.log.update_state(),
                checkpoints: vbucket.log.checkpoints().collect(),
                cursors: vbucket.log.cursors().collect(),
            })
        })
    }

    /// The figures of hot reload, since the bucket was opened.
    pub fn update_stats(&self) -> UpdateStats {
        lock(&self.shared.update_stats).clone()
    }

    /// Checks every invariant from scratch.
    ///
    /// # Errors
    ///
    /// Says which does not hold, which would be a defect of this crate.
    pub fn recount(&self) -> Result<(), String> {
        for vbucket in self.all() {
            let vbucket = vbucket.lock();
            vbucket.log.recount()?;
            vbucket.table.recount()?;
            if !vbucket.is_in_window() && !vbucket.is_reverting() && !vbucket.window.is_empty() {
                return Err(format!("vbucket {} remembers a window that is closed", vbucket.id));
            }
        }
        Ok(())
    }

    pub(crate) fn engine(&self) -> &E {
        &self.shared.engine
    }

    pub(crate) fn signal(&self) -> &Signal {
        &self.shared.signal
    }

    pub(crate) fn fetches(&self) -> &Fetches {
        &self.shared.fetches
    }

    pub(crate) fn seat(&self) -> Option<&Arc<Seat>> {
        self.seat.as_ref()
    }

    pub(crate) fn limits(&self) -> BucketLimits {
        self.shared.limits
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.shared.paused.load(Ordering::Acquire)
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        lock(&self.shared.writer)
    }

    pub(crate) fn updating(&self) -> MutexGuard<'_, ()> {
        lock(&self.shared.update)
    }

    pub(crate) fn count_update(&self, count: impl FnOnce(&mut UpdateStats)) {
        count(&mut lock(&self.shared.update_stats));
    }

    pub(crate) fn chance(&self) -> u64 {
        lock(&self.shared.chance).next_u64()
    }

    /// A generation and a branch that nobody has had.
    pub(crate) fn fresh_branch(&self, from: Seqno) -> (u32, Branch) {
        let generation = u32::try_from(self.chance() >> 32).unwrap_or_default();
        (generation, Branch { id: self.chance().max(1), from })
    }

    /// All vbuckets, by number.
    pub(crate) fn all(&self) -> Vec<Arc<Cell>> {
        self.shared.vbuckets.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect()
    }

    pub(crate) fn one(&self, id: VbucketId) -> Result<Arc<Cell>, Error> {
        let all = self.shared.vbuckets.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&id).map(Arc::clone).ok_or(Error::NotMyVbucket)
    }

    /// Runs `body` under the lock of one vbucket.
    pub(crate) fn with<T>(
        &self,
        id: VbucketId,
        body: impl FnOnce(&mut Vbucket) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let vbucket = self.one(id)?;
        let mut vbucket = vbucket.lock();
        body(&mut vbucket)
    }
}
