use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use core::fmt;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};

use cuttlebone_machine::{Instant, Machine};
use cuttlebone_mounttable::{Failure, Kind, Name, Namespace, Resolved, Server};
use futures::channel::oneshot;
use futures::future::{AbortHandle, Aborted, BoxFuture, Either, abortable, poll_fn, select};
use futures::stream::FuturesUnordered;
use futures::task::AtomicWaker;
use futures::{FutureExt, Stream, StreamExt, stream};

use crate::lane::CallId;
use crate::machine::{Core, Input, Output, Work};
use crate::{Config, ConfigError, Counters, EntryStatus, Refused, Report, Settled, Ticket};

/// Names that [`Publisher::published`] resolves at the same time.
const RESOLVES_MAX: usize = 32;

/// The time, as the caller's runtime has it.
pub trait Clock: Send + Sync + 'static {
    /// Now; never less than before.
    fn now(&self) -> Instant;

    /// Ends at `at` or later.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send;
}

/// A handle to a publisher; clones are the same one.
///
/// Calls that change what is published take a lock and return, without waiting for any table. The work is done by the
/// [`Driver`] that was made with it; while that is not polled, nothing happens.
pub struct Publisher<N, C>(Arc<Shared<N, C>>);

struct Shared<N, C> {
    tables: Vec<N>,
    clock: C,
    call_timeout: core::time::Duration,
    watchers_max: usize,
    state: Mutex<State>,
    driver: AtomicWaker,
}

struct State {
    core: Core,
    waiting: BTreeMap<Ticket, Vec<oneshot::Sender<Settled>>>,
    watchers: BTreeMap<u64, Watcher>,
    next_watcher: u64,
    /// For the driver, in order.
    orders: VecDeque<Output>,
    closed: Option<Report>,
    closing: Vec<Waker>,
}

/// Changes that a watcher has not taken yet: the latest of each entry, so that their number is bounded.
#[derive(Default)]
struct Watcher {
    pending: BTreeMap<(Name, Server), EntryStatus>,
    waker: Option<Waker>,
}

/// What one name resolves to at every table, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The name.
    pub name: Name,
    /// What each table says.
    pub tables: Vec<Result<Resolved, Failure>>,
}

/// A publisher and what does its work.
pub type Both<N, C> = (Publisher<N, C>, Driver<N, C>);

/// Makes a publisher to `tables`, and the driver that does its work; `seed` decides its jitter.
///
/// # Errors
///
/// Numbers that do not fit together, no table, or too many.
pub fn publisher<N: Namespace, C: Clock>(
    config: Config,
    tables: Vec<N>,
    clock: C,
    seed: u64,
) -> Result<Both<N, C>, ConfigError> {
    let (call_timeout, watchers_max) = (config.call_timeout, config.watchers_max);
    let ways: Vec<_> = tables.iter().map(|table| (table.upkeep(), table.batch_max())).collect();
    let state = State {
        core: Core::new(config, &ways, seed)?,
        waiting: BTreeMap::new(),
        watchers: BTreeMap::new(),
        next_watcher: 0,
        orders: VecDeque::new(),
        closed: None,
        closing: Vec::new(),
    };
    let state = Mutex::new(state);
    let shared =
        Arc::new(Shared { tables, clock, call_timeout, watchers_max, state, driver: AtomicWaker::new() });
    Ok((Publisher(Arc::clone(&shared)), Driver(shared)))
}

impl<N: Namespace, C: Clock> Shared<N, C> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug of the core; refusing all service afterwards would not mend it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the core something, and carries its outputs to where they belong.
    fn with<R>(&self, work: impl FnOnce(&mut State, Instant) -> R) -> R {
        let now = self.clock.now();
        let mut wake = Vec::new();
        let result = {
            let mut state = self.lock();
            let result = work(&mut state, now);
            while let Some(output) = state.core.poll_output() {
                state.take(output, &mut wake);
            }
            result
        };
        wake.into_iter().for_each(Waker::wake);
        self.driver.wake();
        result
    }
}

impl State {
    fn take(&mut self, output: Output, wake: &mut Vec<Waker>) {
        match output {
            Output::Call(..) | Output::Abandon(_) => self.orders.push_back(output),
            Output::Changed(status) => {
                for watcher in self.watchers.values_mut() {
                    watcher.pending.insert((status.name.clone(), status.server.clone()), status.clone());
                    wake.extend(watcher.waker.take());
                }
            }
            Output::Settled(ticket, settled) => {
                for waiting in self.waiting.remove(&ticket).into_iter().flatten() {
                    // Whoever asked may have stopped waiting.
                    let _ = waiting.send(settled);
                }
            }
            Output::Closed(report) => {
                self.closed = Some(report);
                wake.append(&mut self.closing);
                wake.extend(self.watchers.values_mut().filter_map(|watcher| watcher.waker.take()));
            }
        }
    }
}

impl<N: Namespace, C: Clock> Publisher<N, C> {
    /// See [`Core::add_name`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn add_name(&self, name: &Name, kind: Kind) -> Result<Pending, Refused> {
        self.change(|core, now| core.add_name(now, name, kind))
    }

    /// See [`Core::add_server`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn add_server(&self, server: &Server) -> Result<Pending, Refused> {
        self.change(|core, now| core.add_server(now, server))
    }

    /// See [`Core::remove_name`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn remove_name(&self, name: &Name) -> Result<Pending, Refused> {
        self.change(|core, now| core.remove_name(now, name))
    }

    /// See [`Core::remove_server`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn remove_server(&self, server: &Server) -> Result<Pending, Refused> {
        self.change(|core, now| core.remove_server(now, server))
    }

    /// See [`Core::replace_server`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn replace_server(&self, old: &Server, new: &Server) -> Result<Pending, Refused> {
        self.change(|core, now| core.replace_server(now, old, new))
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Core, Instant) -> Result<Ticket, Refused>,
    ) -> Result<Pending, Refused> {
        let (send, receive) = oneshot::channel();
        let ticket = self.0.with(|state, now| {
            let ticket = change(&mut state.core, now)?;
            // Before the outputs are taken, one of which may be its end.
            state.waiting.entry(ticket).or_default().push(send);
            Ok(ticket)
        })?;
        // What had been asked for and done before has no end to come.
        let mut state = self.0.lock();
        if !state.core.is_open(ticket) {
            for waiting in state.waiting.remove(&ticket).into_iter().flatten() {
                let _ = waiting.send(Settled::Applied);
            }
        }
        Ok(Pending(receive))
    }

    /// Every entry that is wanted, or not yet withdrawn everywhere.
    pub fn status(&self) -> Vec<EntryStatus> {
        self.0.lock().core.status().collect()
    }

    /// What is done and held.
    pub fn counters(&self) -> Counters {
        self.0.lock().core.counters()
    }

    /// The present status of every entry, then every change; several changes of one entry that were not taken in
    /// time arrive as the last of them. Ends when the publisher has closed.
    ///
    /// # Errors
    ///
    /// [`Refused::Full`] when there are too many watchers.
    pub fn changes(&self) -> Result<Changes<N, C>, Refused> {
        let mut state = self.0.lock();
        let max = self.0.watchers_max;
        if state.watchers.len() >= max {
            return Err(Refused::Full { limit: "watchers", max });
        }
        let pending =
            state.core.status().map(|status| ((status.name.clone(), status.server.clone()), status));
        let watcher = Watcher { pending: pending.collect(), waker: None };
        let id = state.next_watcher;
        state.next_watcher += 1;
        state.watchers.insert(id, watcher);
        drop(state);
        Ok(Changes { shared: Arc::clone(&self.0), id })
    }

    /// What the published names resolve to now, asked of every table; empty after a stop.
    ///
    /// # Cancel safety
    ///
    /// Changes nothing, so it may be dropped at any point.
    pub async fn published(&self) -> Vec<Published> {
        let names: Vec<Name> = self.0.lock().core.names().cloned().collect();
        let ask = |name: Name| async move {
            let mut tables = Vec::new();
            for table in &self.0.tables {
                let late = self.0.clock.sleep_until(self.0.clock.now() + self.0.call_timeout);
                let answer = pin!(table.resolve(name.clone()));
                tables.push(match select(answer, pin!(late)).await {
                    Either::Left((answer, _)) => answer,
                    Either::Right(_) => Err(Failure::Unreachable { reason: "no answer in time".into() }),
                });
            }
            Published { name, tables }
        };
        stream::iter(names).map(ask).buffered(RESOLVES_MAX).collect().await
    }

    /// Withdraws everything by `deadline`, and asks for no mount from now on. A mount that the driver is about to send
    /// on another thread may still go out; it is withdrawn like those before it.
    pub fn stop(&self, deadline: Instant) {
        self.0.with(|state, now| state.core.stop(now, deadline));
    }

    /// Ends when a stop has come to its end, with what could not be withdrawn. Needs the driver to run.
    ///
    /// # Cancel safety
    ///
    /// Changes nothing, so it may be dropped at any point.
    pub async fn closed(&self) -> Report {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if let Some(report) = &state.closed {
                return Poll::Ready(report.clone());
            }
            state.closing.retain(|waker| !waker.will_wake(cx.waker()));
            state.closing.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl<N, C> Clone for Publisher<N, C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// One line for each entry, for people who look for what is wrong.
impl<N: Namespace, C: Clock> fmt::Debug for Publisher<N, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        writeln!(f, "publisher with {} tables, {:?}", self.0.tables.len(), state.core.counters())?;
        if state.closed.is_some() {
            return writeln!(f, "stopped");
        }
        state.core.status().try_for_each(|status| writeln!(f, "{status}"))
    }
}

/// The end of what one call asked for; may be dropped, which changes nothing.
#[derive(Debug)]
#[must_use = "whoever does not want to wait says so by dropping it"]
pub struct Pending(oneshot::Receiver<Settled>);

impl Future for Pending {
    type Output = Settled;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Settled> {
        self.0.poll_unpin(cx).map(|settled| settled.unwrap_or(Settled::Stopped))
    }
}

/// A stream of status; see [`Publisher::changes`].
pub struct Changes<N: Namespace, C: Clock> {
    shared: Arc<Shared<N, C>>,
    id: u64,
}

impl<N: Namespace, C: Clock> Stream for Changes<N, C> {
    type Item = EntryStatus;

    /// # Cancel safety
    ///
    /// No entry's latest status is lost between two polls.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<EntryStatus>> {
        let mut state = self.shared.lock();
        let closed = state.closed.is_some();
        let Some(watcher) = state.watchers.get_mut(&self.id) else { return Poll::Ready(None) };
        if let Some((_, status)) = watcher.pending.pop_first() {
            return Poll::Ready(Some(status));
        }
        if closed {
            return Poll::Ready(None);
        }
        watcher.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<N: Namespace, C: Clock> Drop for Changes<N, C> {
    fn drop(&mut self) {
        self.shared.lock().watchers.remove(&self.id);
    }
}

impl<N: Namespace, C: Clock> fmt::Debug for Changes<N, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What does a publisher's work: give [`Driver::run`] to a task of its own.
pub struct Driver<N, C>(Arc<Shared<N, C>>);

type Calls<'a> = FuturesUnordered<BoxFuture<'a, Option<Input>>>;

impl<N: Namespace, C: Clock> Driver<N, C> {
    /// Runs until the publisher has closed.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: calls in flight are dropped with it, and what is mounted lapses by its time to live.
    pub async fn run(self) {
        let shared = &*self.0;
        let mut calls = Calls::new();
        let mut aborts: BTreeMap<CallId, AbortHandle> = BTreeMap::new();
        loop {
            let (orders, wake_at, closed) = {
                let mut state = shared.lock();
                (core::mem::take(&mut state.orders), state.core.poll_timeout(), state.closed.is_some())
            };
            for order in orders {
                match order {
                    Output::Call(id, table, work) => {
                        let Some(table) = shared.tables.get(table) else { continue };
                        let (call, abort) = abortable(ask(table, id, work));
                        aborts.insert(id, abort);
                        calls.push(call.map(|done: Result<Input, Aborted>| done.ok()).boxed());
                    }
                    Output::Abandon(id) => {
                        if let Some(abort) = aborts.remove(&id) {
                            abort.abort();
                        }
                    }
                    Output::Changed(_) | Output::Settled(..) | Output::Closed(_) => {}
                }
            }
            if closed {
                return;
            }
            let mut sleep = pin!(async {
                match wake_at {
                    Some(at) => shared.clock.sleep_until(at).await,
                    None => core::future::pending().await,
                }
            });
            let event = poll_fn(|cx| {
                shared.driver.register(cx.waker());
                let state = shared.lock();
                if !state.orders.is_empty() || state.core.poll_timeout() != wake_at || state.closed.is_some()
                {
                    return Poll::Ready(Event::Orders);
                }
                drop(state);
                while let Poll::Ready(Some(done)) = calls.poll_next_unpin(cx) {
                    if let Some(input) = done {
                        return Poll::Ready(Event::Answer(input));
                    }
                }
                sleep.as_mut().poll(cx).map(|()| Event::Time)
            })
            .await;
            match event {
                Event::Orders => {}
                Event::Answer(input) => {
                    aborts.remove(&input.id());
                    shared.with(|state, now| state.core.handle(now, input));
                }
                Event::Time => shared.with(|state, now| state.core.handle_timeout(now)),
            }
        }
    }
}

impl<N, C> fmt::Debug for Driver<N, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

enum Event {
    Orders,
    Answer(Input),
    Time,
}

async fn ask<N: Namespace>(table: &N, id: CallId, work: Work) -> Input {
    match work {
        Work::Mount(batch) => Input::Mounted(id, table.mount(batch).await),
        Work::Unmount(batch) => Input::Unmounted(id, table.unmount(batch).await),
        Work::Keep => Input::Kept(id, table.keep().await),
        Work::Release => Input::Released(id, table.release().await),
    }
}
