//! The corner cases of the original design, by number; `docs/tokens.md` has the rules.

mod support;

use core::time::Duration;

use cuttlebone_machine::Instant;
use cuttlebone_tokens::{
    AcquireError, Capacity, Class, Config, Control, DrainPolicy, Epoch, EpochStoreError, EventKind,
    FenceGate, Heard, Limits, MemoryEpochs, NameState, OwnerId, RegisterError, Registry, Rules, Seq,
    Takeover,
};
use futures::{FutureExt, StreamExt};
use support::*;

#[test]
fn case_01_the_same_owner_registers_the_same_name_again_and_nothing_changes() {
    let (registry, _) = registry(2);
    let first = register(&registry, "n", A);
    let _token = now(first.acquire()).unwrap();
    let second = register(&registry, "n", A);
    assert_eq!(second.epoch(), first.epoch());
    assert_eq!(registry.lookup("n", 0).unwrap().outstanding, 1);
    drop(first);
    assert!(second.is_current(), "one of two handles is left");
    drop(second);
    assert_eq!(registry.lookup("n", 0).unwrap().state, NameState::Draining);
}

#[test]
fn case_02_an_owner_with_two_names_loses_both_when_it_dies() {
    let (registry, _) = registry(1);
    let first = register(&registry, "one", A);
    let second = register(&registry, "two", A);
    registry.owner_down(A);
    assert!(!first.is_current() && !second.is_current());
    assert!(registry.snapshot(0).is_empty());
}

#[test]
fn case_03_a_taken_name_is_denied_waited_for_or_preempted() {
    let (registry, _) = registry(1);
    let first = register(&registry, "n", A);
    let denied = now(registry.register("n", B, Takeover::Deny));
    assert_eq!(denied.unwrap_err(), RegisterError::NameTaken);
    let mut waits = registry.register("n", B, Takeover::Wait);
    assert_pending(&mut waits);
    let third = now(registry.register("n", C, Takeover::Preempt)).unwrap();
    assert!(third.epoch() > first.epoch() && !first.is_current());
    first.fenced().now_or_never().expect("the old owner hears of it at once");
    assert_pending(&mut waits);
    // The fenced owner's end must not unregister its successor.
    drop(first);
    assert!(third.is_current());
    drop(third);
    assert!(ready(&mut waits).unwrap().is_current());
}

#[test]
fn case_04_a_successor_that_overtakes_the_death_of_its_predecessor_waits_for_it() {
    let (registry, _) = registry(1);
    let first = register(&registry, "n", A);
    let mut next = registry.register("n", B, Takeover::Wait);
    assert_pending(&mut next);
    registry.owner_down(A);
    let next = ready(&mut next).unwrap();
    drop(first); // the death that comes late
    assert!(next.is_current());
}

#[test]
fn case_05_after_the_old_owner_is_gone_the_next_epoch_is_greater_by_one_and_never_used_again() {
    let (registry, _) = registry(1);
    let epochs: Vec<u64> = (0..4).map(|owner| register(&registry, "n", OwnerId(owner)).epoch().0).collect();
    assert_eq!(epochs, [1, 2, 3, 4]);
}

#[test]
fn case_06_with_tokens_outstanding_the_next_incarnation_drains_first() {
    let (registry, _) = registry(2);
    let first = register(&registry, "n", A);
    let (one, two) = (now(first.acquire()).unwrap(), now(first.acquire()).unwrap());
    drop(first);
    let mut next = registry.register("n", B, Takeover::Deny);
    assert_pending(&mut next);
    assert_eq!(next.draining_for(), Some(Epoch(2)), "the epoch is there before the drain ends");
    one.release();
    assert_pending(&mut next);
    two.release();
    let next = ready(&mut next).unwrap();
    assert_eq!((next.epoch(), registry.lookup("n", 0).unwrap().outstanding), (Epoch(2), 0));
}

#[test]
fn case_07_a_token_of_an_unregistered_name_is_a_typed_error_that_leaves_nothing() {
    let (registry, _) = registry(1);
    assert_eq!(registry.worker("n", Epoch(1)).unwrap_err(), AcquireError::NotRegistered);
    assert!(registry.snapshot(0).is_empty());
}

#[test]
fn case_08_a_worker_of_the_old_incarnation_is_fenced_after_the_takeover() {
    let (registry, _) = registry(1);
    let first = register(&registry, "n", A);
    let worker = first.worker();
    let second = now(registry.register("n", B, Takeover::Preempt)).unwrap();
    assert_eq!(now(worker.acquire()).unwrap_err(), AcquireError::Fenced);
    assert_eq!(worker.try_acquire().unwrap_err(), AcquireError::Fenced);
    assert_eq!(registry.worker("n", first.epoch()).unwrap_err(), AcquireError::Fenced);
    drop(second);
    assert_eq!(now(worker.acquire()).unwrap_err(), AcquireError::Fenced, "also when the name is gone");
}

#[test]
fn case_09_a_second_token_of_the_same_caller_is_a_second_grant() {
    let (registry, _) = registry(3);
    let registration = register(&registry, "n", A);
    let worker = registration.worker();
    let (one, two) = (now(worker.acquire()).unwrap(), now(worker.acquire()).unwrap());
    assert!(two.seq() > one.seq());
    drop(registration);
    drop(one);
    assert_eq!(registry.lookup("n", 0).unwrap().outstanding, 1);
    drop(two);
    assert!(registry.lookup("n", 0).is_none(), "the name can be unregistered");
}

#[test]
fn case_10_one_caller_with_tokens_of_two_names_releases_the_right_ones() {
    let (registry, _) = registry(1);
    let (x, y) = (register(&registry, "x", A), register(&registry, "y", A));
    let (of_x, of_y) = (now(x.acquire()).unwrap(), now(y.acquire()).unwrap());
    drop(of_y);
    let outstanding = |name| registry.lookup(name, 0).unwrap().outstanding;
    assert_eq!((outstanding("x"), outstanding("y")), (1, 0));
    drop(of_x);
    assert_eq!(outstanding("x"), 0);
}

#[test]
fn case_11_a_second_release_changes_nothing() {
    // A guard can be released once only, by its type; the pure core takes any number of copies.
    use cuttlebone_tokens::name::{Acquired, Cx, Name, Registering};
    let numbers = Counting::default();
    let mut name = Name::<()>::new(Limits::default(), Rules::default(), Instant::ZERO);
    let cx = &mut Cx::new(&numbers, true);
    let Ok(Registering::Active(epoch)) = name.register(cx, A, Takeover::Deny, ()) else { panic!() };
    let Ok(Acquired::Granted(first)) = name.acquire(cx, epoch, Class::Light, 1, None) else { panic!() };
    assert!(name.release(cx, first));
    let Ok(Acquired::Granted(_second)) = name.acquire(cx, epoch, Class::Light, 1, None) else { panic!() };
    assert!(!name.release(cx, first), "the slot in memory is used again, the number is not");
    assert_eq!(name.view(Instant::ZERO, 0).outstanding, 1);
    let releases =
        cx.events.as_ref().unwrap().iter().filter(|e| matches!(e, EventKind::Released { .. })).count();
    assert_eq!(releases, 1);
}

#[test]
fn case_12_a_release_after_the_grant_was_revoked_changes_nothing() {
    let (registry, _) = registry(1);
    let first = register(&registry, "n", A);
    let old = now(first.acquire()).unwrap();
    let mut next = registry.register("n", B, Takeover::Preempt);
    assert_pending(&mut next);
    assert_eq!(registry.revoke_older("n", Epoch(2)), 1);
    let next = ready(&mut next).unwrap();
    let new = now(next.acquire()).unwrap();
    drop(old);
    assert_eq!(registry.lookup("n", 0).unwrap().outstanding, 1, "the new token is still out");
    drop(new);
    assert_eq!(registry.lookup("n", 0).unwrap().outstanding, 0);
}

#[test]
fn case_13_a_waiter_that_dies_in_line_leaves_nothing_behind() {
    let (registry, _) = registry(1);
    let registration = register(&registry, "n", A);
    let token = now(registration.acquire()).unwrap();
    let mut gone = registration.acquire();
    let mut stays = registration.acquire();
    assert_pending(&mut gone);
    assert_pending(&mut stays);
    assert_eq!(registry.lookup("n", 0).unwrap().waiting, 2);
    drop(gone);
    assert_eq!(registry.lookup("n", 0).unwrap().waiting, 1);
    drop(token);
    let _token = ready(&mut stays).unwrap();
    assert_eq!(registry.lookup("n", 0).unwrap().slots_held, 1);
}

#[test]
fn case_14_a_waiter_that_dies_between_grant_and_receipt_passes_the_token_on() {
    let (registry, _) = registry(1);
    let registration = register(&registry, "n", A);
    let token = now(registration.acquire()).unwrap();
    let (mut first, mut second) = (registration.acquire(), registration.acquire());
    assert_pending(&mut first);
    assert_pending(&mut second);
    drop(token); // granted to `first`, which never hears of it
    assert_eq!(registry.lookup("n", 0).unwrap().outstanding, 1);
    assert_pending(&mut second);
    drop(first);
    let _token = ready(&mut second).unwrap();
}

#[test]
fn case_15_a_caller_that_gives_up_but_lives_holds_nothing() {
    let (registry, clock) = registry(1);
    let registration = register(&registry, "n", A);
    let token = now(registration.acquire()).unwrap();
    let mut late = registration.acquire().by(Instant::ZERO + Duration::from_secs(1));
    assert_pending(&mut late);
    clock.advance(Duration::from_secs(1));
    assert_eq!(ready(&mut late).unwrap_err(), AcquireError::TimedOut);
    drop(token);
    assert_eq!(registry.lookup("n", 0).unwrap().outstanding, 0);
}

#[test]
fn case_16_when_the_owner_dies_first_the_last_release_unregisters_in_the_same_step() {
    let (registry, _) = registry(2);
    let registration = register(&registry, "n", A);
    let (one, two) = (now(registration.acquire()).unwrap(), now(registration.acquire()).unwrap());
    drop(registration);
    assert!(!one.is_current());
    assert!(one.fenced().now_or_never().is_none(), "it may finish");
    drop(one);
    assert_eq!(registry.lookup("n", 0).unwrap().state, NameState::Draining);
    drop(two);
    assert!(registry.lookup("n", 0).is_none());
}

#[test]
fn case_17_a_drain_that_does_not_end_is_reported_and_escalated() {
    for policy in [DrainPolicy::KeepWaiting, DrainPolicy::Fence, DrainPolicy::Fail] {
        let clock = TestClock::default();
        let rules = Rules { drain_policy: policy, ..Rules::default() };
        let registry = Registry::new(Config { rules, ..config(1) }, clock.clone());
        let mut events = registry.events();
        let registration = register(&registry, "n", A);
        let stuck = now(registration.acquire()).unwrap();
        drop(registration);
        let mut next = registry.register("n", B, Takeover::Wait);
        assert_pending(&mut next);
        clock.advance(rules.watchdog_period);
        assert_pending(&mut next);
        let heard = core::iter::from_fn(|| events.next().now_or_never().flatten());
        let reports: Vec<_> = heard
            .filter_map(|heard| match heard {
                Heard::Event { kind: EventKind::WatchdogLate(report), .. } => Some(report),
                _ => None,
            })
            .collect();
        assert_eq!(reports.len(), 1);
        assert_eq!((reports[0].outstanding, reports[0].holders[0].seq), (1, stuck.seq()));
        clock.advance(rules.drain_max);
        match policy {
            DrainPolicy::KeepWaiting => assert_pending(&mut next),
            DrainPolicy::Fence => {
                assert!(ready(&mut next).unwrap().is_current());
                stuck.fenced().now_or_never().expect("the holder is told");
            }
            DrainPolicy::Fail => {
                let Err(RegisterError::DrainTimeout(report)) = ready(&mut next) else { panic!("no report") };
                assert_eq!(report.holders[0].age, rules.watchdog_period + rules.drain_max);
                assert_eq!(registry.lookup("n", 0).unwrap().outstanding, 1);
            }
        }
    }
}

#[test]
fn case_18_a_timer_that_fires_after_the_name_was_registered_anew_changes_nothing() {
    let (registry, clock) = registry(1);
    let mut watchdog = registry.watchdog();
    let registration = register(&registry, "n", A);
    let token = now(registration.acquire()).unwrap();
    drop(registration);
    assert_pending(&mut watchdog);
    drop(token);
    let again = register(&registry, "n", B);
    let _token = now(again.acquire()).unwrap();
    let before = registry.lookup("n", 0);
    clock.advance(Duration::from_secs(3_600));
    assert_pending(&mut watchdog);
    assert_eq!(registry.lookup("n", 0), before);
}

#[test]
fn case_19_the_late_death_of_an_old_owner_does_not_touch_the_new_one() {
    let (registry, _) = registry(1);
    let _first = register(&registry, "n", A);
    let second = now(registry.register("n", B, Takeover::Preempt)).unwrap();
    registry.owner_down(A);
    assert!(second.is_current());
}

#[test]
fn case_20_an_owner_that_is_also_the_holder_dies_and_the_name_is_free_at_once() {
    let (registry, _) = registry(1);
    let mut events = registry.events();
    let registration = register(&registry, "n", A);
    let token = now(registration.acquire()).unwrap();
    let task = (token, registration); // a tuple drops its fields in order: the token goes first
    drop(task);
    assert!(registry.lookup("n", 0).is_none());
    let heard: Vec<_> = core::iter::from_fn(|| events.next().now_or_never().flatten()).collect();
    let drained = |heard: &Heard| matches!(heard, Heard::Event { kind: EventKind::Draining { .. }, .. });
    assert!(!heard.iter().any(drained), "no drain, so no timer, was started: {heard:?}");
}

#[test]
fn case_21_release_and_death_of_the_same_caller_end_its_grant_once() {
    let (registry, _) = registry(1);
    let mut events = registry.events();
    let registration = register(&registry, "n", A);
    let token = now(registration.acquire()).unwrap();
    registry.owner_down(A);
    registry.owner_down(A);
    token.release();
    registry.owner_down(A);
    let heard = core::iter::from_fn(|| events.next().now_or_never().flatten());
    let ends = |heard: &Heard| matches!(heard, Heard::Event { kind: EventKind::Released { .. }, .. });
    assert_eq!(heard.filter(ends).count(), 1);
}

#[test]
fn case_22_another_component_cannot_slip_into_a_name_unnoticed() {
    let (registry, _) = registry(1);
    let _janitor = register(&registry, "janitor/bucket-1", A);
    assert_eq!(
        now(registry.register("janitor/bucket-1", B, Takeover::Deny)).unwrap_err(),
        RegisterError::NameTaken
    );
    for bad in ["", "line\nbreak", &"x".repeat(256)] {
        let refused = now(registry.register(bad, B, Takeover::Deny));
        assert!(matches!(refused, Err(RegisterError::BadName(_))), "{bad:?}");
    }
}

#[test]
fn case_23_after_a_restart_old_tokens_are_reclaimed_and_drained_before_anything_new() {
    let clock = TestClock::default();
    let recovering = Config { recovery: Duration::from_secs(15), ..config(1) };
    let used = MemoryEpochs::starting_at(Epoch(100));
    let registry = now(Registry::open(recovering, clock.clone(), used)).unwrap();
    let mut next = registry.register("n", B, Takeover::Deny);
    assert_pending(&mut next);
    let old = registry.reclaim("n", Epoch(7), Seq(3), Class::Light, 1).unwrap();
    let twice = registry.reclaim("n", Epoch(7), Seq(3), Class::Light, 1);
    assert_eq!(twice.unwrap_err(), AcquireError::NothingToReclaim);
    let never_given = registry.reclaim("n", Epoch(100), Seq(3), Class::Light, 1);
    assert_eq!(never_given.unwrap_err(), AcquireError::NothingToReclaim);
    clock.advance(Duration::from_secs(15));
    assert_pending(&mut next);
    let late = registry.reclaim("n", Epoch(7), Seq(4), Class::Light, 1);
    assert_eq!(late.unwrap_err(), AcquireError::NothingToReclaim);
    drop(old);
    assert!(ready(&mut next).unwrap().epoch() >= Epoch(100));
}

#[test]
fn case_24_registries_that_share_a_store_register_in_the_order_of_their_epochs() {
    use std::sync::Arc;
    #[derive(Clone)]
    struct Shared(Arc<MemoryEpochs>);
    impl cuttlebone_tokens::EpochStore for Shared {
        fn reserve(&self, count: u64) -> cuttlebone_tokens::Reserving<'_> {
            self.0.reserve(count)
        }
    }
    let store = Shared(Arc::default());
    let one_at_a_time = Config { epoch_block: 1, ..config(1) };
    let [left, right] = [(); 2]
        .map(|()| now(Registry::open(one_at_a_time.clone(), TestClock::default(), store.clone())).unwrap());
    let mut epochs = Vec::new();
    for round in 0..10 {
        let side = if round % 2 == 0 { &left } else { &right };
        epochs.push(register(side, "n", OwnerId(round)).epoch());
    }
    assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
}

#[test]
fn case_25_a_holder_that_cannot_be_reached_keeps_its_token_until_it_is_fenced() {
    // The registry is told nothing when a connection is lost, so nothing changes; what ends the doubt is a gate.
    let (registry, _) = registry(1);
    let gate = FenceGate::new("n");
    let first = register(&registry, "n", A);
    let lost = now(first.acquire()).unwrap().forget_until_fenced();
    let running = gate.admit(&lost).unwrap();
    drop(first);
    let mut next = registry.register("n", B, Takeover::Wait).through(gate.clone());
    assert_pending(&mut next);
    drop(running); // the resource has ended the operation of the peer that was lost
    let next = ready(&mut next).unwrap();
    assert!(gate.admit(&lost).is_err(), "and admits nothing of it any more");
    assert!(gate.admit(&now(next.acquire()).unwrap().fence()).is_ok());
}

#[test]
fn case_26_epochs_end_with_an_error_and_not_with_a_lower_one() {
    let store = MemoryEpochs::starting_at(Epoch(u64::MAX - 3));
    let one_at_a_time = Config { epoch_block: 1, ..config(1) };
    let registry = now(Registry::open(one_at_a_time, TestClock::default(), store)).unwrap();
    let first = register(&registry, "n", A).epoch();
    let second = register(&registry, "n", A).epoch();
    assert!(second > first);
    let refused = now(registry.register("n", A, Takeover::Deny)).unwrap_err();
    assert_eq!(refused, RegisterError::Epochs(EpochStoreError::Exhausted));
}

#[test]
fn case_27_names_holders_waiters_and_registrants_are_bounded() {
    let limits = Limits { tokens: 9, grants_max: 2, waiters_max: 1, registrants_max: 1 };
    let registry = Registry::new(Config { limits, names_max: 1, ..Config::default() }, TestClock::default());
    let registration = register(&registry, "n", A);
    let other = now(registry.register("m", A, Takeover::Deny));
    assert_eq!(other.unwrap_err(), RegisterError::AtCapacity(Capacity::Names));
    let _held = (now(registration.acquire()).unwrap(), now(registration.acquire()).unwrap());
    assert_eq!(now(registration.acquire()).unwrap_err(), AcquireError::AtCapacity(Capacity::Grants));
    registration.resize(2);
    let mut waiter = registration.acquire();
    assert_pending(&mut waiter);
    assert_eq!(now(registration.acquire()).unwrap_err(), AcquireError::AtCapacity(Capacity::Waiters));
    let mut waits = registry.register("n", B, Takeover::Wait);
    assert_pending(&mut waits);
    let crowd = now(registry.register("n", C, Takeover::Wait));
    assert_eq!(crowd.unwrap_err(), RegisterError::AtCapacity(Capacity::Registrants));
}

#[test]
fn case_28_a_name_that_drains_delays_no_other_name() {
    let (registry, _) = registry(1);
    let slow = register(&registry, "slow", A);
    let _stuck = now(slow.acquire()).unwrap();
    drop(slow);
    let mut next = registry.register("slow", B, Takeover::Wait);
    assert_pending(&mut next);
    let quick = register(&registry, "quick", B);
    let _token = now(quick.acquire()).unwrap();
    registry.owner_down(B);
    assert_eq!(registry.lookup("quick", 0).unwrap().state, NameState::Draining);
}

/// What a command wrapper has to survive: the prototype's callers did not release on an exception.
#[test]
fn a_command_that_panics_gives_its_token_back() {
    let (registry, _) = registry(1);
    let registration = register(&registry, "n", A);
    let control = Control::new(registration.worker());
    let call = control.call(Class::Light, async |_fence| panic!("the command fails"));
    let panicked: Result<Result<(), _>, _> = now(core::panic::AssertUnwindSafe(call).catch_unwind());
    assert!(panicked.is_err());
    let fence = now(control.call(Class::Light, async |fence| fence)).unwrap();
    assert!(fence.is_of("n"));
}

#[derive(Default)]
struct Counting(core::cell::Cell<u64>);

impl cuttlebone_tokens::name::Source for Counting {
    fn now(&self) -> Instant {
        Instant::ZERO
    }
    fn epoch(&self) -> Epoch {
        Epoch(self.0.replace(self.0.get() + 1) + 1)
    }
    fn seq(&self) -> Seq {
        Seq(self.0.replace(self.0.get() + 1) + 1)
    }
}

#[test]
fn after_a_seal_whoever_is_in_goes_on_and_nobody_else_comes_in() {
    let (registry, _) = registry(1);
    let registration = register(&registry, "n", A);
    let token = now(registration.acquire()).unwrap();
    let mut line = registration.acquire();
    assert_pending(&mut line);
    registry.seal();
    assert_eq!(now(registry.register("n", B, Takeover::Wait)).unwrap_err(), RegisterError::Closed);
    assert_eq!(now(registry.register("other", B, Takeover::Preempt)).unwrap_err(), RegisterError::Closed);
    drop(token);
    let token = ready(&mut line).unwrap();
    assert!(token.fenced().now_or_never().is_none());
    drop(token);
    drop(now(registration.acquire()).unwrap());
}
