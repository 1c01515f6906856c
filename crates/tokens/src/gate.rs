use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use crate::fence::tag;
use crate::slab::Slab;
use crate::sync::{Mutex, lock};
use crate::{Epoch, Fence};

/// How many operations a gate lets run at once unless told otherwise.
pub const ADMISSIONS_MAX: usize = 1_000_000;

/// The resource's half of the guarantee: it refuses what comes from an older incarnation.
///
/// The resource asks [`admit`](Self::admit) before each operation and keeps the [`Admission`] until the operation has
/// ended, also when whoever asked for it has disconnected. Then no operation of an older epoch starts after one of a
/// newer epoch, and none is still running when the first newer one starts. Copies share one state.
///
/// A gate believes the fence it is shown. It keeps late friends out, not enemies.
///
/// Source: `couchbase/kv_engine:daemon/session_cas.h`, `SessionCas`: busy until drained, then compare and set.
#[derive(Clone)]
pub struct FenceGate(Arc<Inner>);

struct Inner {
    tag: u64,
    admissions_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    highest: Epoch,
    /// Operations running, by epoch; no entry is 0.
    running: BTreeMap<Epoch, usize>,
    waiting: Slab<Option<Waker>>,
}

/// Why a gate refused an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// It comes from an incarnation that was superseded, and will never be admitted. Says nothing about the newer one.
    #[error("fenced")]
    Stale,
    /// Older operations are still running. Wait for [`FenceGate::advance`], or ask again.
    #[error("older operations are still running")]
    Draining,
    /// The fence was made for another name.
    #[error("the fence is of another name")]
    OtherName,
    /// As many operations are running as the gate allows.
    #[error("too many operations are running")]
    Busy,
}

impl FenceGate {
    /// A gate for the operations of `name` that has seen nothing yet.
    pub fn new(name: &str) -> Self {
        Self::resume(name, Epoch(0))
    }

    /// A gate that continues where an earlier one stopped: the resource stores [`highest`](Self::highest) with its data.
    pub fn resume(name: &str, highest: Epoch) -> Self {
        Self::limited(name, highest, ADMISSIONS_MAX)
    }

    /// As [`resume`](Self::resume), with at most `admissions_max` operations running at once.
    pub fn limited(name: &str, highest: Epoch, admissions_max: usize) -> Self {
        let state = State { highest, ..State::default() };
        Self(Arc::new(Inner { tag: tag(name), admissions_max, state: Mutex::new(state) }))
    }

    /// Lets one operation in until the admission is dropped. A newer epoch closes the gate to all older ones at once,
    /// also when this operation itself still has to wait for them.
    ///
    /// # Errors
    ///
    /// See [`AdmitError`].
    pub fn admit(&self, fence: &Fence) -> Result<Admission, AdmitError> {
        if !fence.is_tagged(self.0.tag) {
            return Err(AdmitError::OtherName);
        }
        let epoch = fence.epoch();
        let mut state = lock(&self.0.state);
        if epoch < state.highest {
            return Err(AdmitError::Stale);
        }
        state.highest = epoch;
        if state.runs_older_than(epoch) {
            return Err(AdmitError::Draining);
        }
        if state.running.get(&epoch).is_some_and(|running| *running >= self.0.admissions_max) {
            return Err(AdmitError::Busy);
        }
        *state.running.entry(epoch).or_default() += 1;
        Ok(Admission { gate: self.clone(), epoch })
    }

    /// Closes the gate to everything older than `epoch`, now, and returns a future that ends when the last older
    /// operation has. Repeating it, or coming with a smaller epoch, opens nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the gate closed to what is older.
    pub fn advance(&self, epoch: Epoch) -> Advance {
        let mut state = lock(&self.0.state);
        state.highest = state.highest.max(epoch);
        drop(state);
        Advance { gate: self.clone(), epoch, key: None }
    }

    /// The newest epoch the gate has heard of.
    pub fn highest(&self) -> Epoch {
        lock(&self.0.state).highest
    }

    /// How many operations are running.
    pub fn running(&self) -> usize {
        lock(&self.0.state).running.values().sum()
    }
}

impl State {
    fn runs_older_than(&self, epoch: Epoch) -> bool {
        self.running.first_key_value().is_some_and(|(oldest, _)| *oldest < epoch)
    }
}

impl fmt::Debug for FenceGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.0.state);
        let (highest, running) = (state.highest, &state.running);
        f.debug_struct("FenceGate")
            .field("highest", &highest)
            .field("running", running)
            .finish_non_exhaustive()
    }
}

/// One operation is running. Dropping it says that the operation has ended.
#[derive(Debug)]
#[must_use = "the operation counts as ended when this is dropped"]
pub struct Admission {
    gate: FenceGate,
    epoch: Epoch,
}

impl Admission {
    /// The incarnation the operation belongs to.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = lock(&self.gate.0.state);
        if let Some(running) = state.running.get_mut(&self.epoch) {
            *running -= 1;
            if *running == 0 {
                state.running.remove(&self.epoch);
                let wakers: Vec<Waker> =
                    state.waiting.iter_mut().filter_map(|(_, waker)| waker.take()).collect();
                drop(state);
                wakers.into_iter().for_each(Waker::wake);
            }
        }
    }
}

/// Ends when no operation older than an epoch is running; see [`FenceGate::advance`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Advance {
    gate: FenceGate,
    epoch: Epoch,
    key: Option<u32>,
}

impl Future for Advance {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let gate = self.gate.clone();
        let mut state = lock(&gate.0.state);
        if !state.runs_older_than(self.epoch) {
            return Poll::Ready(());
        }
        let mut replaced = None;
        match self.key.and_then(|key| state.waiting.get_mut(key)) {
            Some(waker) => replaced = waker.replace(cx.waker().clone()),
            None => self.key = Some(state.waiting.insert(Some(cx.waker().clone()))),
        }
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Advance {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            lock(&self.gate.0.state).waiting.remove(key);
        }
    }
}
