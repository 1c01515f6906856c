use core::time::Duration;
use std::fmt;
use std::thread::{Builder, JoinHandle};

use cuttlebone_machine::Instant;

use crate::Error;
use crate::bucket::{Bucket, Now};
use crate::engine::Engine;
use crate::sync::{Arc, AtomicBool, Condvar, Mutex, MutexGuard, Ordering, PoisonError, lock};

/// How a [`Runner`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "built with `..RunnerConfig::default()`")]
pub struct RunnerConfig {
    /// How long changes gather before they are flushed, so that one wait for the disk serves many.
    pub gather: Duration,
    /// Time between two [`Bucket::tick`]s.
    pub tick: Duration,
    /// Pause after the disk has failed; it doubles with each failure in a row.
    pub retry: Duration,
    /// Longest such pause.
    pub retry_max: Duration,
    /// Threads that read values from the disk for [`Bucket::wait`].
    pub readers: usize,
}

impl Default for RunnerConfig {
    fn default() -> Self {
        Self {
            gather: Duration::from_millis(2),
            tick: Duration::from_secs(1),
            retry: Duration::from_millis(100),
            retry_max: Duration::from_secs(5),
            readers: 2,
        }
    }
}

/// What the flusher of a [`Runner`] is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlusherState {
    /// Flushing, or about to.
    Running,
    /// Everything is flushed that may be.
    Idle,
    /// Waiting after a failure. What was to be flushed is kept.
    Retrying {
        /// Failures in a row.
        failures: u32,
        /// What the disk says.
        error: String,
    },
    /// Stopped by the operator.
    Paused,
    /// It has ended.
    Stopped,
}

/// The figures of a [`Runner`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that only this crate makes")]
pub struct RunnerStatus {
    /// What the flusher is doing.
    pub flusher: FlusherState,
    /// Flushes that wrote something.
    pub flushes: u64,
    /// Mutations that they made durable.
    pub mutations: u64,
    /// Flushes that failed.
    pub failures: u64,
}

/// What stopping has left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that only this crate makes")]
pub struct Stopped {
    /// Mutations of a window of hot reload that was neither completed nor reverted: they are not on the disk, as if it had
    /// been reverted.
    pub of_window: u64,
}

/// Wakes the flusher when there is something to flush, and tells it to stop.
#[derive(Debug)]
pub(crate) struct Signal {
    /// Whether the flusher is about to sleep until it is poked. Looked at by every writer, so it is not behind the lock.
    idle: AtomicBool,
    wanted: Mutex<Wanted>,
    wake: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    running: bool,
    poked: bool,
    /// How long a failing disk is given until the end.
    stop: Option<Duration>,
}

impl Default for Signal {
    fn default() -> Self {
        let idle = AtomicBool::new(false);
        Self { idle, wanted: Mutex::new(Wanted::default()), wake: Condvar::new() }
    }
}

impl Signal {
    /// There is something to flush. Costs one look unless the flusher sleeps.
    pub(crate) fn poke(&self) {
        if self.idle.load(Ordering::Acquire) {
            self.tell(|wanted| wanted.poked = true);
        }
    }

    fn tell(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut lock(&self.wanted));
        self.idle.store(false, Ordering::Release);
        self.wake.notify_all();
    }

    /// Sleeps until `timeout` is over, it is told to stop, or it is poked if that counts.
    fn sleep(&self, timeout: Duration, until_poked: bool) -> Option<Duration> {
        let sleeps = |wanted: &mut Wanted| wanted.stop.is_none() && !(until_poked && wanted.poked);
        let slept = self.wake.wait_timeout_while(lock(&self.wanted), timeout, sleeps);
        let (mut wanted, _): (MutexGuard<'_, Wanted>, _) = slept.unwrap_or_else(PoisonError::into_inner);
        wanted.poked = false;
        wanted.stop
    }
}

/// Threads that keep a bucket going: one flushes and does what is due, others read values from the disk.
///
/// Start it with [`Bucket::run`], end it with [`stop`](Self::stop). Dropped without that, it ends without a last flush.
pub struct Runner {
    shared: Arc<Shared>,
    bucket: Arc<dyn Stop>,
    flusher: Option<JoinHandle<Result<(), Error>>>,
    readers: Vec<JoinHandle<()>>,
}

struct Shared {
    status: Mutex<RunnerStatus>,
    abandoned: AtomicBool,
}

/// The bucket, whatever its disk is.
trait Stop: Send + Sync {
    fn stop(&self, patience: Duration);
    fn of_window(&self) -> u64;
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl<E: Engine> Bucket<E> {
    /// Starts the threads that keep the bucket going. `clock` tells the time.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if it has a runner already, [`Error::Thread`].
    pub fn run(
        &self,
        config: RunnerConfig,
        clock: impl Fn() -> Now + Send + 'static,
    ) -> Result<Runner, Error> {
        {
            let mut wanted = lock(&self.signal().wanted);
            if wanted.running {
                return Err(Error::Misuse("the bucket has a runner already"));
            }
            *wanted = Wanted { running: true, ..Wanted::default() };
        }
        let status = RunnerStatus { flusher: FlusherState::Running, flushes: 0, mutations: 0, failures: 0 };
        let shared = Arc::new(Shared { status: Mutex::new(status), abandoned: AtomicBool::new(false) });
        let mut runner = Runner {
            shared: Arc::clone(&shared),
            bucket: Arc::new(self.clone()),
            flusher: None,
            readers: Vec::new(),
        };
        let flusher = Flusher { bucket: self.clone(), config, clock, shared, ticked: Instant::ZERO };
        self.start_threads(&mut runner, config.readers, move || flusher.run()).inspect_err(|_| {
            *lock(&self.signal().wanted) = Wanted::default();
        })?;
        Ok(runner)
    }

    fn start_threads(
        &self,
        runner: &mut Runner,
        readers: usize,
        flush: impl FnOnce() -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        for _ in 0..readers {
            let bucket = self.clone();
            let reader = Builder::new().name("bucket-reader".into());
            // Counted here, so that it is there for whoever asks next.
            self.fetches().enter();
            let reader = reader.spawn(move || bucket.read_in_background());
            runner.readers.push(reader.inspect_err(|_| self.fetches().leave()).map_err(Error::Thread)?);
        }
        let thread = Builder::new().name("bucket-flusher".into());
        runner.flusher = Some(thread.spawn(flush).map_err(Error::Thread)?);
        Ok(())
    }
}

impl<E: Engine> Stop for Bucket<E> {
    fn stop(&self, patience: Duration) {
        self.fetches().stop();
        self.signal().tell(|wanted| wanted.stop = Some(patience));
    }

    fn of_window(&self) -> u64 {
        self.all().iter().map(|vbucket| vbucket.lock()).map(|vbucket| vbucket.log.status().unpersisted).sum()
    }
}

impl Runner {
    /// The figures.
    pub fn status(&self) -> RunnerStatus {
        lock(&self.shared.status).clone()
    }

    /// Flushes to the end, and ends the threads. A failing disk is tried again for `patience`. Blocks until then.
    ///
    /// Stop the writers first: what comes later may or may not be flushed.
    ///
    /// # Errors
    ///
    /// [`Error::Paused`] or [`Error::Engine`] if not everything could be flushed. The threads have ended then, too.
    pub fn stop(mut self, patience: Duration) -> Result<Stopped, Error> {
        self.bucket.stop(patience);
        let broken = || Error::Misuse("a thread of the bucket panicked");
        let outcome = self.flusher.take().map_or(Ok(()), |flusher| flusher.join().map_err(|_| broken())?);
        for reader in self.readers.drain(..) {
            reader.join().map_err(|_| broken())?;
        }
        outcome?;
        Ok(Stopped { of_window: self.bucket.of_window() })
    }
}

/// Does not block: the threads end by themselves, without a last flush.
impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Release);
        self.bucket.stop(Duration::ZERO);
    }
}

struct Flusher<E, C> {
    bucket: Bucket<E>,
    config: RunnerConfig,
    clock: C,
    shared: Arc<Shared>,
    ticked: Instant,
}

impl<E: Engine, C: Fn() -> Now> Flusher<E, C> {
    fn run(mut self) -> Result<(), Error> {
        let mut failures = 0;
        let patience = loop {
            self.tick();
            // Whoever writes from here on wakes us: what is written before is found by this flush.
            self.bucket.signal().idle.store(true, Ordering::SeqCst);
            let (pause, until_poked) = match self.flush() {
                Ok(more) => {
                    failures = 0;
                    if more { (Duration::ZERO, false) } else { (self.config.tick, true) }
                }
                Err(Error::Paused) => {
                    self.enter(FlusherState::Paused);
                    (self.config.tick, true)
                }
                Err(error) => {
                    failures += 1;
                    self.failed(failures, &error);
                    (self.pause(failures), false)
                }
            };
            let stop = self.bucket.signal().sleep(pause, until_poked);
            // More comes soon after the first: let it gather.
            let stop = stop.or_else(|| {
                let gather = if until_poked { self.config.gather } else { Duration::ZERO };
                self.bucket.signal().sleep(gather, false)
            });
            if let Some(patience) = stop {
                break patience;
            }
        };
        let outcome = self.finish(patience);
        self.enter(FlusherState::Stopped);
        *lock(&self.bucket.signal().wanted) = Wanted::default();
        outcome
    }

    /// Flushes once; true if there is more.
    fn flush(&self) -> Result<bool, Error> {
        let flushed = self.bucket.flush()?;
        let mut status = lock(&self.shared.status);
        status.flusher = if flushed.more { FlusherState::Running } else { FlusherState::Idle };
        status.flushes += u64::from(flushed.mutations > 0);
        status.mutations += flushed.mutations;
        Ok(flushed.more)
    }

    /// The last flushes.
    fn finish(&self, patience: Duration) -> Result<(), Error> {
        if self.shared.abandoned.load(Ordering::Acquire) {
            return Ok(());
        }
        let (mut failures, mut waited) = (0, Duration::ZERO);
        loop {
            match self.flush() {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    failures += 1;
                    self.failed(failures, &error);
                    let pause = self.pause(failures).min(patience.saturating_sub(waited));
                    if pause.is_zero() || !matches!(error, Error::Engine(_)) {
                        return Err(error);
                    }
                    waited += pause;
                    self.rest(pause);
                }
            }
        }
    }

    /// Sleeps although it is told to stop, unless it is abandoned.
    fn rest(&self, pause: Duration) {
        let signal = self.bucket.signal();
        let sleeps = |_: &mut Wanted| !self.shared.abandoned.load(Ordering::Acquire);
        drop(signal.wake.wait_timeout_while(lock(&signal.wanted), pause, sleeps));
    }

    fn pause(&self, failures: u32) -> Duration {
        let doubled = self.config.retry.saturating_mul(1 << (failures - 1).min(16));
        doubled.min(self.config.retry_max)
    }

    fn tick(&mut self) {
        let now = (self.clock)();
        if now.at.since(self.ticked) >= self.config.tick {
            self.ticked = now.at;
            self.bucket.tick(now);
        }
    }

    fn failed(&self, failures: u32, error: &Error) {
        let source =
            core::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
        let mut status = lock(&self.shared.status);
        status.failures += 1;
        status.flusher = FlusherState::Retrying { failures, error: format!("{error}{source}") };
    }

    fn enter(&self, state: FlusherState) {
        lock(&self.shared.status).flusher = state;
    }
}
