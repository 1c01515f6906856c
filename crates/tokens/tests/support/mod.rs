//! A clock that a test moves, and ways to poll a future once.
#![allow(dead_code, reason = "every test file uses its part of it")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::sync::{Arc, Mutex};

use cuttlebone_machine::Instant;
use cuttlebone_tokens::{Clock, Config, Limits, OwnerId, Registration, Registry, Sleep, Takeover};

/// Time stands still until a test moves it.
#[derive(Clone, Default)]
pub(crate) struct TestClock(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now: Instant,
    sleepers: Vec<Waker>,
}

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        let woken = {
            let mut state = self.0.lock().unwrap();
            state.now = state.now + by;
            core::mem::take(&mut state.sleepers)
        };
        woken.into_iter().for_each(Waker::wake);
    }

    /// Any time, also an earlier one.
    pub(crate) fn set(&self, now: Instant) {
        self.0.lock().unwrap().now = now;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        self.0.lock().unwrap().now
    }

    fn until(&self, at: Instant) -> Sleep {
        let clock = self.clone();
        Box::pin(core::future::poll_fn(move |cx| {
            let mut state = clock.0.lock().unwrap();
            if state.now >= at {
                return Poll::Ready(());
            }
            state.sleepers.push(cx.waker().clone());
            Poll::Pending
        }))
    }
}

pub(crate) const A: OwnerId = OwnerId(1);
pub(crate) const B: OwnerId = OwnerId(2);
pub(crate) const C: OwnerId = OwnerId(3);

pub(crate) fn config(tokens: u32) -> Config {
    Config { limits: Limits { tokens, ..Limits::default() }, ..Config::default() }
}

pub(crate) fn registry(tokens: u32) -> (Registry, TestClock) {
    let clock = TestClock::default();
    (Registry::new(config(tokens), clock.clone()), clock)
}

/// Polls once, with a waker that does nothing.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls once; it must be ready.
#[track_caller]
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("not ready"),
    }
}

#[track_caller]
pub(crate) fn register(registry: &Registry, name: &str, owner: OwnerId) -> Registration {
    now(registry.register(name, owner, Takeover::Deny)).expect("registers")
}

#[track_caller]
pub(crate) fn assert_pending<F: Future + Unpin>(future: &mut F) {
    assert!(poll(future).is_pending(), "should still wait");
}

#[track_caller]
pub(crate) fn ready<F: Future + Unpin>(future: &mut F) -> F::Output {
    match poll(future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("not ready"),
    }
}
