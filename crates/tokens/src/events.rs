use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use futures_core::Stream;

use crate::EventKind;
use crate::registry::{Shared, wake_all};
use crate::slab::Slab;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};

/// How many events are kept for listeners that are slow.
pub const EVENTS_MAX: usize = 1_024;

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an event, or the admission that some are lost")]
pub enum Heard {
    /// Something happened.
    Event {
        /// To which name.
        name: Arc<str>,
        /// What.
        kind: EventKind,
    },
    /// The listener was too slow, and this many events are gone. Take a snapshot.
    Missed(u64),
}

/// The last events, for whoever listens; costs one read of a counter when nobody does.
#[derive(Default)]
pub(crate) struct Bus {
    listeners: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: VecDeque<(Arc<str>, EventKind)>,
    /// The number of the first one kept.
    first: u64,
    wakers: Slab<Option<Waker>>,
    closed: bool,
}

impl Bus {
    pub(crate) fn is_heard(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) > 0
    }

    /// Called with the name locked, so that the events of one name are in order. Returns whom to wake after that.
    pub(crate) fn publish(&self, name: &Arc<str>, events: Vec<EventKind>) -> Vec<Waker> {
        let mut state = lock(&self.state);
        for event in events {
            if state.kept.len() == EVENTS_MAX {
                state.kept.pop_front();
                state.first += 1;
            }
            state.kept.push_back((Arc::clone(name), event));
        }
        state.sleepers()
    }

    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let sleepers = state.sleepers();
        drop(state);
        wake_all(sleepers);
    }
}

impl State {
    fn sleepers(&mut self) -> Vec<Waker> {
        self.wakers.iter_mut().filter_map(|(_, waker)| waker.take()).collect()
    }

    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }
}

/// Events from the moment it was made; ends when the registry is closed.
///
/// # Cancel safety
///
/// An event is taken when it is returned, so a dropped `next()` loses none.
pub struct Events {
    shared: Arc<Shared>,
    next: u64,
    key: u32,
}

impl Events {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        shared.bus.listeners.fetch_add(1, Ordering::Relaxed);
        let (next, key) = {
            let mut state = lock(&shared.bus.state);
            (state.end(), state.wakers.insert(None))
        };
        Self { shared, next, key }
    }
}

impl Stream for Events {
    type Item = Heard;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
        let shared = Arc::clone(&self.shared);
        let mut state = lock(&shared.bus.state);
        if self.next < state.first {
            let missed = state.first - self.next;
            self.next = state.first;
            return Poll::Ready(Some(Heard::Missed(missed)));
        }
        let place = usize::try_from(self.next - state.first).unwrap_or(usize::MAX);
        if let Some((name, kind)) = state.kept.get(place).cloned() {
            self.next += 1;
            return Poll::Ready(Some(Heard::Event { name, kind }));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        let replaced = state.wakers.get_mut(self.key).and_then(|waker| waker.replace(cx.waker().clone()));
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.bus.state);
        state.wakers.remove(self.key);
        if self.shared.bus.listeners.fetch_sub(1, Ordering::Relaxed) == 1 {
            state.first = state.end();
            state.kept = VecDeque::new();
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("next", &self.next).finish_non_exhaustive()
    }
}
