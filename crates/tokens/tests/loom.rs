//! All interleavings of the shipped locks: `cargo xtask test loom`.
#![cfg(loom)]

use core::future::pending;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use cuttlebone_machine::Instant;
use cuttlebone_tokens::{
    Clock, Config, Epoch, EventKind, Fence, FenceGate, Heard, NameState, OwnerId, Registration, Registry,
    Seq, Sleep, Takeover,
};
use futures::{FutureExt, StreamExt};
use loom::future::block_on;
use loom::thread;

struct NoTime;

impl Clock for NoTime {
    fn now(&self) -> Instant {
        Instant::ZERO
    }
    fn until(&self, _: Instant) -> Sleep {
        Box::pin(pending())
    }
}

/// Runs a scene in every interleaving with up to three preemptions; `at_least` keeps it from becoming a single one.
fn model(at_least: usize, scene: impl Fn() + Send + Sync + 'static) {
    let runs = Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    let count = Arc::clone(&runs);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        scene();
    });
    let runs = runs.load(Ordering::Relaxed);
    println!("{runs} interleavings");
    assert!(runs >= at_least, "only {runs} interleavings");
}

fn registry() -> Registry {
    Registry::new(Config::default(), NoTime)
}

#[test]
fn one_slot_is_handed_from_thread_to_thread_and_no_wakeup_is_lost() {
    model(2, || {
        let registry = registry();
        let registration =
            registry.register("n", OwnerId(1), Takeover::Deny).now_or_never().unwrap().unwrap();
        let worker = registration.worker();
        let other = thread::spawn(move || drop(block_on(worker.acquire()).unwrap()));
        drop(block_on(registration.acquire()).unwrap());
        other.join().unwrap();
        assert_eq!(registry.lookup("n", 0).unwrap().outstanding, 0);
    });
}

#[test]
fn a_grant_that_meets_a_cancellation_is_passed_on() {
    model(2, || {
        let registry = registry();
        let registration =
            registry.register("n", OwnerId(1), Takeover::Deny).now_or_never().unwrap().unwrap();
        let held = registration.acquire().now_or_never().unwrap().unwrap();
        let mut gives_up = registration.acquire();
        assert!((&mut gives_up).now_or_never().is_none());
        let release = thread::spawn(move || drop(held));
        drop(gives_up);
        release.join().unwrap();
        assert!(registration.worker().try_acquire().is_ok());
    });
}

#[test]
fn the_last_release_meets_the_end_of_the_owner() {
    model(2, || {
        let registry = registry();
        let registration =
            registry.register("n", OwnerId(1), Takeover::Deny).now_or_never().unwrap().unwrap();
        let token = registration.acquire().now_or_never().unwrap().unwrap();
        let release = thread::spawn(move || drop(token));
        drop(registration);
        release.join().unwrap();
        assert!(registry.lookup("n", 0).is_none());
    });
}

#[test]
fn a_registration_meets_the_end_of_the_one_before() {
    model(2, || {
        let registry = registry();
        let first = registry.register("n", OwnerId(1), Takeover::Deny).now_or_never().unwrap().unwrap();
        let end = thread::spawn(move || drop(first));
        let second = block_on(registry.register("n", OwnerId(2), Takeover::Wait)).unwrap();
        end.join().unwrap();
        assert!(second.is_current());
        assert_eq!(registry.lookup("n", 0).unwrap().state, NameState::Active);
    });
}

#[test]
fn a_preemption_meets_the_last_release() {
    model(20, || {
        let registry = registry();
        let first = registry.register("n", OwnerId(1), Takeover::Deny).now_or_never().unwrap().unwrap();
        let token = first.acquire().now_or_never().unwrap().unwrap();
        let release = thread::spawn(move || drop(token));
        let second = block_on(registry.register("n", OwnerId(2), Takeover::Preempt)).unwrap();
        assert!(second.is_current() && !first.is_current());
        release.join().unwrap();
    });
}

#[test]
fn two_who_want_a_free_name_do_not_both_have_it() {
    model(20, || {
        let registry = registry();
        // Epochs are there already: the lock around a refill is not one that loom knows.
        drop(registry.register("m", OwnerId(3), Takeover::Deny).now_or_never().unwrap());
        let other = registry.clone();
        let rival = thread::spawn(move || {
            block_on(other.register("n", OwnerId(1), Takeover::Deny)).is_ok_and(|got| got.is_current())
        });
        let here = block_on(registry.register("n", OwnerId(2), Takeover::Deny));
        let has_it = here.as_ref().is_ok_and(Registration::is_current);
        let rival_has_it = rival.join().unwrap();
        assert!(has_it || rival_has_it, "somebody has to get it");
        assert_eq!(registry.lookup("n", 0).is_some(), here.is_ok(), "a name that nobody has is forgotten");
    });
}

#[test]
fn a_gate_that_is_closed_meets_the_end_of_what_runs() {
    model(4, || {
        let gate = FenceGate::new("n");
        let old = gate.admit(&Fence::new("n", Epoch(1), Seq(1))).unwrap();
        let end = thread::spawn(move || drop(old));
        block_on(gate.advance(Epoch(2)));
        assert_eq!(gate.running(), 0);
        end.join().unwrap();
    });
}

#[test]
fn a_gate_never_runs_two_epochs_at_once() {
    model(4, || {
        let gate = FenceGate::new("n");
        let rival = gate.clone();
        let older = thread::spawn(move || {
            let admission = rival.admit(&Fence::new("n", Epoch(1), Seq(1)));
            let seen = rival.running();
            drop(admission);
            seen
        });
        let newer = gate.admit(&Fence::new("n", Epoch(2), Seq(2)));
        assert!(gate.running() <= 1);
        drop(newer);
        assert!(older.join().unwrap() <= 1);
        assert_eq!(gate.highest(), Epoch(2));
    });
}

#[test]
fn a_listener_hears_what_happens_while_it_goes_to_sleep() {
    model(20, || {
        let registry = registry();
        let mut events = registry.events();
        let other = registry.clone();
        let happens = thread::spawn(move || {
            drop(other.register("n", OwnerId(1), Takeover::Deny).now_or_never().unwrap().unwrap());
        });
        let heard = block_on(events.next()).unwrap();
        assert!(matches!(heard, Heard::Event { kind: EventKind::Registered { .. }, .. }), "{heard:?}");
        happens.join().unwrap();
    });
}
