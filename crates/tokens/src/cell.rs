use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use cuttlebone_machine::Instant;

use crate::Sleep;
use crate::name::{Cx, Name};
use crate::registry::{Shared, wake_all};
use crate::sync::atomic::Ordering;
use crate::sync::{Mutex, MutexGuard, lock};

/// One name behind its own lock.
pub(crate) struct Cell {
    pub(crate) name: Arc<str>,
    pub(crate) shared: Arc<Shared>,
    state: Mutex<State>,
}

struct State {
    name: Name<Waker>,
    /// Where it stands in the watchdog's list.
    due: Option<Instant>,
    /// Out of the map; a new cell may have taken its place.
    retired: bool,
}

impl Cell {
    pub(crate) fn new(shared: &Arc<Shared>, name: Arc<str>, quiet_until: Instant) -> Self {
        let core = Name::new(shared.config.limits, shared.config.rules, quiet_until);
        let state = State { name: core, due: None, retired: false };
        Self { name, shared: Arc::clone(shared), state: Mutex::new(state) }
    }

    /// Runs `call` under the lock, then wakes whom it says, then forgets the name if nothing is left of it.
    pub(crate) fn with<R>(
        self: &Arc<Self>,
        call: impl FnOnce(&mut Name<Waker>, &mut Cx<'_, Waker>) -> R,
    ) -> R {
        self.run(lock(&self.state), call)
    }

    /// As [`with`](Self::with), unless the name was forgotten meanwhile: then the caller looks it up again.
    pub(crate) fn enter<R>(
        self: &Arc<Self>,
        call: impl FnOnce(&mut Name<Waker>, &mut Cx<'_, Waker>) -> R,
    ) -> Option<R> {
        let state = lock(&self.state);
        (!state.retired).then(|| self.run(state, call))
    }

    fn run<R>(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        call: impl FnOnce(&mut Name<Waker>, &mut Cx<'_, Waker>) -> R,
    ) -> R {
        let fenced = state.name.fenced();
        let mut cx = Cx::new(&*self.shared, self.shared.bus.is_heard());
        let result = call(&mut state.name, &mut cx);
        if state.name.fenced() > fenced {
            self.shared.fenced.fetch_add(1, Ordering::Relaxed);
        }
        let Cx { wake, events, .. } = cx;
        let listeners = match events {
            Some(events) if !events.is_empty() => self.shared.bus.publish(&self.name, events),
            _ => Vec::new(),
        };
        let due = state.name.poll_timeout();
        let mut watchdog = None;
        if due != state.due {
            watchdog = self.shared.due.change(&self.name, state.due, due);
            state.due = due;
        }
        let idle = !state.retired && state.name.is_idle();
        drop(state);
        wake_all(wake);
        wake_all(listeners);
        wake_all(watchdog);
        if idle {
            self.shared.forget(self);
        }
        result
    }

    /// Makes the cell unusable for newcomers if nothing is left of its name; `true` for the one call that does.
    pub(crate) fn retire(&self) -> bool {
        let mut state = lock(&self.state);
        let retire = !state.retired && state.name.is_idle();
        state.retired |= retire;
        retire
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Which names want to be told the time, and when: those that drain.
#[derive(Default)]
pub(crate) struct Due(Mutex<DueState>);

#[derive(Default)]
struct DueState {
    names: BTreeSet<(Instant, Arc<str>)>,
    watchdog: Option<Waker>,
    closed: bool,
}

impl Due {
    /// The watchdog to wake, once no lock is held.
    fn change(&self, name: &Arc<str>, from: Option<Instant>, to: Option<Instant>) -> Option<Waker> {
        let mut due = lock(&self.0);
        if let Some(from) = from {
            due.names.remove(&(from, Arc::clone(name)));
        }
        due.names.insert((to?, Arc::clone(name)));
        due.watchdog.take()
    }

    pub(crate) fn close(&self) {
        let mut due = lock(&self.0);
        due.closed = true;
        let waker = due.watchdog.take();
        drop(due);
        wake_all(waker);
    }
}

/// Tells draining names the time; see [`Registry::watchdog`](crate::Registry::watchdog).
#[must_use = "futures do nothing unless polled"]
pub struct Watchdog {
    shared: Arc<Shared>,
    sleep: Option<(Instant, Sleep)>,
}

impl Watchdog {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, sleep: None }
    }

    /// The next name and its time, once there is one; `None` when the registry is closed.
    fn poll_next(&self, waker: &Waker) -> Poll<Option<(Instant, Arc<str>)>> {
        let mut due = lock(&self.shared.due.0);
        let replaced = due.watchdog.replace(waker.clone());
        let next = match due.names.first().cloned() {
            _ if due.closed => Poll::Ready(None),
            Some(next) => Poll::Ready(Some(next)),
            None => Poll::Pending,
        };
        drop(due);
        drop(replaced);
        next
    }

    fn tell(&self, at: Instant, name: Arc<str>) {
        if let Some(cell) = self.shared.find(&name) {
            cell.with(Name::handle_timeout);
        }
        // A name that was forgotten and made anew does not know of this entry.
        lock(&self.shared.due.0).names.remove(&(at, name));
    }
}

impl Future for Watchdog {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some((at, name)) = core::task::ready!(self.poll_next(cx.waker())) else {
                return Poll::Ready(());
            };
            if at <= self.shared.clock.now() {
                self.tell(at, name);
                continue;
            }
            if self.sleep.as_ref().is_none_or(|(until, _)| *until != at) {
                self.sleep = Some((at, self.shared.clock.until(at)));
            }
            if let Some((_, sleep)) = &mut self.sleep {
                core::task::ready!(sleep.as_mut().poll(cx));
            }
            self.sleep = None;
        }
    }
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").finish_non_exhaustive()
    }
}
