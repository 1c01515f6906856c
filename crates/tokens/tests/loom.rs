//! All interleavings of the shipped locks: `RUSTFLAGS="--cfg loom" cargo test -p cuttlebone-tokens --test loom --release`.
#![cfg(loom)]

use core::future::pending;

use cuttlebone_machine::Instant;
use cuttlebone_tokens::{Clock, Config, NameState, OwnerId, Registry, Sleep, Takeover};
use futures::FutureExt;
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

fn model(scene: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(scene);
}

fn registry() -> Registry {
    Registry::new(Config::default(), NoTime)
}

#[test]
fn one_slot_is_handed_from_thread_to_thread_and_no_wakeup_is_lost() {
    model(|| {
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
    model(|| {
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
    model(|| {
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
    model(|| {
        let registry = registry();
        let first = registry.register("n", OwnerId(1), Takeover::Deny).now_or_never().unwrap().unwrap();
        let end = thread::spawn(move || drop(first));
        let second = block_on(registry.register("n", OwnerId(2), Takeover::Wait)).unwrap();
        end.join().unwrap();
        assert!(second.is_current());
        assert_eq!(registry.lookup("n", 0).unwrap().state, NameState::Active);
    });
}
