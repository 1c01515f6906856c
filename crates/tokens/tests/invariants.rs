//! The invariants of the design, by number. Those of one name (1 to 14) are also checked over its whole reachable space
//! by the model in `src/name/model.rs`; here each is shown through the public face.

mod support;

use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Waker};
use core::time::Duration;
use std::sync::Arc;
use std::task::Wake;

use cuttlebone_machine::{Entropy, Instant, SplitMix};
use cuttlebone_tokens::{
    AcquireError, AdmitError, Class, Config, Epoch, Fence, FenceGate, FileEpochs, NameState, OwnerId,
    RegisterError, Registry, Seq, Takeover, Token,
};
use futures::{FutureExt, StreamExt};
use support::*;

#[test]
fn invariant_01_at_most_one_incarnation_of_a_name_is_active() {
    let (registry, _) = registry(1);
    let all: Vec<_> =
        (0..5).map(|owner| now(registry.register("n", OwnerId(owner), Takeover::Preempt)).unwrap()).collect();
    assert_eq!(all.iter().filter(|registration| registration.is_current()).count(), 1);
}

#[test]
fn invariant_02_epochs_increase_also_across_unregistering_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = Epoch(0);
    for _ in 0..3 {
        let store = FileEpochs::open(directory.path()).unwrap();
        let registry = now(Registry::open(config(1), TestClock::default(), store)).unwrap();
        for owner in 0..3 {
            let epoch = register(&registry, "n", OwnerId(owner)).epoch();
            assert!(epoch > last);
            last = epoch;
        }
    }
}

#[test]
fn invariant_03_no_newer_token_is_granted_while_an_older_one_is_out_unless_its_gate_refuses_it() {
    let (registry, _) = registry(5);
    let gate = FenceGate::new("n");
    let first = register(&registry, "n", A);
    let old = now(first.acquire()).unwrap();
    let mut waits = registry.register("n", B, Takeover::Preempt);
    assert_pending(&mut waits);
    drop(waits);
    let second = now(registry.register("n", B, Takeover::Preempt).through(gate.clone())).unwrap();
    let new = now(second.acquire()).unwrap();
    assert_eq!(gate.admit(&old.fence()).unwrap_err(), AdmitError::Stale);
    assert!(gate.admit(&new.fence()).is_ok());
}

#[test]
fn invariant_04_the_count_is_the_number_of_live_grants_and_zero_when_free() {
    let (registry, _) = registry(100);
    let registration = register(&registry, "n", A);
    let mut random = SplitMix::new(4);
    let mut live: Vec<Token> = Vec::new();
    for _ in 0..1_000 {
        if random.below(2) == 0 && live.len() < 100 {
            live.push(now(registration.acquire()).unwrap());
        } else if !live.is_empty() {
            drop(live.swap_remove(usize::try_from(random.below(live.len() as u64)).unwrap()));
        }
        assert_eq!(registry.lookup("n", 0).unwrap().outstanding, live.len());
    }
    drop((live, registration));
    assert!(registry.lookup("n", 0).is_none());
}

#[test]
fn invariants_05_and_06_a_grant_ends_once_whatever_comes_first() {
    for order in 0..6 {
        let (registry, _) = registry(1);
        let registration = register(&registry, "n", A);
        let token = now(registration.acquire()).unwrap();
        let mut token = Some(token);
        for step in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][order] {
            match step {
                0 => drop(token.take()),
                1 => registry.owner_down(A),
                _ => drop(registry.fence("n") && registry.revoke_older("n", Epoch(9)) > 0),
            }
            assert!(registry.lookup("n", 0).is_none_or(|view| view.outstanding <= 1));
        }
        assert!(registry.lookup("n", 0).is_none(), "order {order}");
    }
}

#[test]
fn invariant_07_a_cancelled_waiter_leaves_the_line_as_if_it_had_never_come() {
    let (registry, _) = registry(1);
    let registration = register(&registry, "n", A);
    let _held = now(registration.acquire()).unwrap();
    let before = registry.lookup("n", 0);
    let mut waiters: Vec<_> = (0..50).map(|_| registration.acquire()).collect();
    waiters.iter_mut().for_each(assert_pending);
    let mut random = SplitMix::new(7);
    while !waiters.is_empty() {
        drop(waiters.swap_remove(usize::try_from(random.below(waiters.len() as u64)).unwrap()));
        assert_eq!(registry.lookup("n", 0).unwrap().waiting, waiters.len());
    }
    assert_eq!(registry.lookup("n", 0), before);
}

#[test]
fn invariant_08_those_who_stay_are_served_in_the_order_they_came() {
    let (registry, _) = registry(1);
    let registration = register(&registry, "n", A);
    let mut held = now(registration.acquire()).unwrap();
    let mut waiters: Vec<_> = (0..100).map(|_| Some(registration.acquire())).collect();
    waiters.iter_mut().flatten().for_each(assert_pending);
    for gone in (0..100).step_by(3) {
        waiters[gone] = None;
    }
    for turn in 0..100 {
        let Some(mut waiter) = waiters[turn].take() else { continue };
        waiters.iter_mut().flatten().for_each(assert_pending);
        drop(held);
        held = ready(&mut waiter).unwrap();
    }
}

#[test]
fn invariant_09_an_owner_that_dies_without_tokens_is_unregistered_in_the_same_step() {
    let (registry, _) = registry(1);
    drop(register(&registry, "n", A));
    assert!(registry.snapshot(0).is_empty());
}

#[test]
fn invariant_10_holder_and_owner_dying_together_end_the_same_in_either_order() {
    for owner_first in [true, false] {
        let (registry, _) = registry(1);
        let registration = register(&registry, "n", A);
        let token = now(registration.acquire()).unwrap();
        if owner_first {
            drop(registration);
            drop(token);
        } else {
            drop(token);
            drop(registration);
        }
        assert!(registry.snapshot(0).is_empty());
    }
}

#[test]
fn invariant_11_nothing_late_of_an_older_epoch_changes_a_newer_one() {
    let (registry, clock) = registry(1);
    let first = register(&registry, "n", A);
    let old = now(first.acquire()).unwrap();
    let mut second = registry.register("n", B, Takeover::Preempt);
    assert_pending(&mut second);
    registry.revoke_older("n", Epoch(2));
    let second = ready(&mut second).unwrap();
    let before = registry.lookup("n", 9);
    first.resize(77);
    drop(first.unregister());
    drop(old);
    registry.owner_down(A);
    assert_pending(&mut registry.watchdog());
    assert_eq!(registry.lookup("n", 9), before);
    clock.advance(Duration::from_secs(9_999));
    assert_pending(&mut registry.watchdog());
    assert!(second.is_current());
}

#[test]
fn invariant_12_a_refusal_never_tells_the_newer_epoch() {
    let (registry, _) = registry(1);
    let first = register(&registry, "n", A);
    let worker = first.worker();
    let _second = now(registry.register("n", B, Takeover::Preempt)).unwrap();
    let told = now(worker.acquire()).unwrap_err();
    assert_eq!((format!("{told:?}"), told.to_string()), ("Fenced".into(), "fenced".into()));
    let told = now(registry.register("n", C, Takeover::Deny)).unwrap_err();
    assert_eq!(format!("{told:?}"), "NameTaken");
    let gate = FenceGate::resume("n", Epoch(7));
    let told = gate.admit(&Fence::new("n", Epoch(6), Seq(1))).unwrap_err();
    assert_eq!((format!("{told:?}"), told.to_string()), ("Stale".into(), "fenced".into()));
}

#[test]
fn invariant_13_a_hundred_names_that_drain_delay_no_other() {
    let (registry, _) = registry(1);
    let stuck: Vec<Token> =
        (0..100).map(|n| now(register(&registry, &format!("slow-{n}"), A).acquire()).unwrap()).collect();
    let mut next: Vec<_> =
        (0..100).map(|n| registry.register(&format!("slow-{n}"), B, Takeover::Wait)).collect();
    next.iter_mut().for_each(assert_pending);
    let quick = register(&registry, "quick", B);
    for _ in 0..100 {
        drop(now(quick.acquire()).unwrap());
    }
    drop(stuck);
    assert!(next.iter_mut().all(|next| ready(next).is_ok()));
}

#[test]
fn invariant_14_if_all_holders_end_every_registrant_gets_its_turn() {
    let (registry, _) = registry(1);
    let first = register(&registry, "n", OwnerId(100));
    let mut current = Some((now(first.acquire()).unwrap(), first));
    let mut line: Vec<_> =
        (0..20).map(|owner| registry.register("n", OwnerId(owner), Takeover::Wait)).collect();
    line.iter_mut().for_each(assert_pending);
    for mut next in line {
        drop(current.take());
        let registration = ready(&mut next).unwrap();
        current = Some((now(registration.acquire()).unwrap(), registration));
    }
}

#[test]
fn invariant_15_after_a_preemption_through_a_gate_nothing_old_runs_or_starts() {
    let (registry, _) = registry(1);
    let gate = FenceGate::new("n");
    let first = register(&registry, "n", A);
    let old = now(first.acquire()).unwrap();
    let running = gate.admit(&old.fence()).unwrap();
    let mut second = registry.register("n", B, Takeover::Preempt).through(gate.clone());
    assert_pending(&mut second);
    assert_eq!(gate.admit(&old.fence()).unwrap_err(), AdmitError::Stale, "closed before it is drained");
    drop(running);
    let _second = ready(&mut second).unwrap();
    assert_eq!(gate.running(), 0);
}

#[test]
fn invariant_16_the_limit_holds_while_it_moves_and_freed_slots_go_to_the_oldest() {
    let (registry, _) = registry(4);
    let registration = register(&registry, "n", A);
    let mut held: Vec<_> = (0..4).map(|_| now(registration.acquire()).unwrap()).collect();
    let mut waiters: Vec<_> = (0..3).map(|_| registration.acquire()).collect();
    waiters.iter_mut().for_each(assert_pending);
    registration.resize(2);
    held.truncate(2);
    waiters.iter_mut().for_each(assert_pending);
    registration.resize(4);
    let _granted = (ready(&mut waiters[0]).unwrap(), ready(&mut waiters[1]).unwrap());
    assert_pending(&mut waiters[2]);
    assert_eq!(registry.lookup("n", 0).unwrap().slots_held, 4);
    let mut large = registration.worker().acquire_as(Class::Light, 4);
    assert_pending(&mut large);
    registration.resize(3);
    let refused = ready(&mut large).unwrap_err();
    assert_eq!(refused, AcquireError::TooMany { asked: 4, most: 3 });
}

#[test]
fn invariant_17_advancing_a_gate_waits_for_older_operations_and_is_idempotent_and_monotone() {
    let gate = FenceGate::new("n");
    let fence = |epoch| Fence::new("n", Epoch(epoch), Seq(1));
    let (one, two) = (gate.admit(&fence(1)).unwrap(), gate.admit(&fence(1)).unwrap());
    let (mut first, mut again) = (gate.advance(Epoch(2)), gate.advance(Epoch(2)));
    assert_pending(&mut first);
    assert_pending(&mut again);
    assert_eq!(gate.admit(&fence(2)).unwrap_err(), AdmitError::Draining);
    drop(one);
    assert_pending(&mut first);
    drop(two); // its peer has disconnected, which ends the admission
    ready(&mut first);
    ready(&mut again);
    now(gate.advance(Epoch(1)));
    assert_eq!(gate.highest(), Epoch(2));
    assert_eq!(gate.admit(&Fence::new("m", Epoch(3), Seq(1))).unwrap_err(), AdmitError::OtherName);
    let narrow = FenceGate::limited("n", Epoch(0), 1);
    let _one = narrow.admit(&fence(1)).unwrap();
    assert_eq!(narrow.admit(&fence(1)).unwrap_err(), AdmitError::Busy);
}

#[test]
fn invariant_18_registering_twice_with_an_end_between_gives_two_epochs() {
    let (registry, _) = registry(1);
    let mut events = registry.events();
    let first = register(&registry, "n", A);
    let epoch = first.epoch();
    now(first.unregister());
    assert!(register(&registry, "n", A).epoch() > epoch);
    let heard: Vec<_> = core::iter::from_fn(|| events.next().now_or_never().flatten()).collect();
    assert_eq!(heard.len(), 4, "registered, unregistered, twice: {heard:?}");
}

#[test]
fn invariant_19_a_snapshot_fits_itself_while_everything_moves() {
    let (registry, _) = registry(2);
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        for owner in 0..2 {
            let (registry, stop) = (registry.clone(), Arc::clone(&stop));
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(Ok(mine)) =
                        registry.register("n", OwnerId(owner), Takeover::Preempt).now_or_never()
                    else {
                        continue;
                    };
                    let _token = mine.acquire().now_or_never();
                }
            });
        }
        for _ in 0..2_000 {
            for (_, view) in registry.snapshot(99) {
                assert_eq!(view.outstanding, view.holders.len());
                assert_eq!(view.slots_held, view.holders.iter().map(|holder| u64::from(holder.slots)).sum());
                assert!(view.slots_held <= u64::from(view.slots_max));
                let newest = view.holders.iter().map(|holder| holder.epoch).max();
                match view.state {
                    NameState::Free => assert_eq!(view.outstanding, 0),
                    NameState::Active => assert!(newest.is_none_or(|epoch| Some(epoch) == view.epoch)),
                    NameState::Draining => assert!(
                        newest <= view.epoch
                            && view.successor > view.epoch.filter(|_| view.successor.is_some())
                            || view.successor.is_none()
                    ),
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn invariant_20_a_dropped_registry_fails_all_who_wait_and_leaves_guards_harmless() {
    let (registry, _) = registry(1);
    let mut events = registry.events();
    let mut watchdog = registry.watchdog();
    let registration = register(&registry, "n", A);
    let token = now(registration.acquire()).unwrap();
    let mut waiter = registration.acquire();
    let mut registrant = registry.register("n", B, Takeover::Wait);
    assert_pending(&mut waiter);
    assert_pending(&mut registrant);
    assert_pending(&mut watchdog);
    drop(registry);
    assert_eq!(ready(&mut waiter).unwrap_err(), AcquireError::Closed);
    assert_eq!(ready(&mut registrant).unwrap_err(), RegisterError::Closed);
    ready(&mut watchdog);
    assert_eq!(now(registration.acquire()).unwrap_err(), AcquireError::Closed);
    token.fenced().now_or_never().expect("who watches is told, too");
    drop((token, registration));
    while let Some(_before_the_end) = now(events.next()) {}
}

#[test]
fn invariant_21_a_clock_that_jumps_changes_no_promise() {
    let (registry, clock) = registry(1);
    let mut random = SplitMix::new(21);
    let mut held: Option<Token> = None;
    for owner in 0..500 {
        clock.set(Instant::from_nanos(random.next_u64()));
        let mut next = registry.register("n", OwnerId(owner), Takeover::Preempt);
        if let Some(old) = held.take() {
            assert_pending(&mut next);
            clock.set(Instant::from_nanos(random.next_u64()));
            assert!(next.draining_for() > Some(old.epoch()));
            drop(old);
        }
        let registration = ready(&mut next).unwrap();
        held = Some(now(registration.acquire()).unwrap());
        assert_pending(&mut registry.watchdog());
    }
}

#[test]
fn invariant_22_after_a_restart_nothing_old_is_granted_and_only_re_claims_before_the_window_ends() {
    let directory = tempfile::tempdir().unwrap();
    let clock = TestClock::default();
    let recovering = Config { recovery: Duration::from_secs(15), ..config(1) };
    let open = || {
        let store = FileEpochs::open(directory.path()).unwrap();
        now(Registry::open(recovering.clone(), clock.clone(), store)).unwrap()
    };
    let before = open();
    let registration = register(&before, "n", A);
    let token = now(registration.acquire()).unwrap();
    let (epoch, seq) = (token.epoch(), token.seq());
    let _crash = token.forget_until_fenced(); // a crash gives nothing back
    drop((registration, before));

    let after = open();
    let mut next = after.register("n", B, Takeover::Preempt);
    assert_pending(&mut next);
    let reclaimed = after.reclaim("n", epoch, seq, Class::Light, 1).unwrap();
    assert_eq!(
        after.worker("n", epoch).unwrap_err(),
        AcquireError::Fenced,
        "the old incarnation does not go on"
    );
    clock.advance(Duration::from_secs(15));
    assert_pending(&mut next);
    drop(reclaimed);
    assert!(ready(&mut next).unwrap().epoch() > epoch);
}

#[test]
fn invariant_23_a_name_that_is_unregistered_leaves_nothing() {
    let (registry, _) = registry(1);
    for n in 0..10_000 {
        drop(register(&registry, &format!("name-{n}"), OwnerId(n)));
    }
    assert!(registry.snapshot(0).is_empty());
    let debug = format!("{registry:?}");
    assert!(debug.contains("names: 0"), "{debug}");
}

#[test]
fn heavy_work_leaves_a_slot_to_light_work_and_the_heaviest_runs_alone_in_its_class() {
    let (registry, _) = registry(3);
    let registration = register(&registry, "n", A);
    let worker = registration.worker();
    let heaviest = worker.try_acquire_as(Class::VeryHeavy, 1).unwrap();
    assert_eq!(worker.try_acquire_as(Class::VeryHeavy, 1).unwrap_err(), AcquireError::WouldBlock);
    let heavy = worker.try_acquire_as(Class::Heavy, 1).unwrap();
    let mut third = worker.acquire_as(Class::Heavy, 1);
    assert_pending(&mut third);
    let light = worker.try_acquire().unwrap();
    drop(light);
    drop(heavy);
    let _third = ready(&mut third).unwrap();
    let refused = worker.try_acquire_as(Class::Heavy, 3).unwrap_err();
    assert_eq!(refused, AcquireError::TooMany { asked: 3, most: 2 });
    drop(heaviest);
    // A request for two heavy slots is not overtaken by later heavy ones, but light ones pass.
    let mut two = worker.acquire_as(Class::VeryHeavy, 2);
    let mut one = worker.acquire_as(Class::Heavy, 1);
    assert_pending(&mut two);
    assert_pending(&mut one);
    drop(worker.try_acquire().unwrap());
}

#[test]
fn a_slow_listener_is_told_how_much_it_missed() {
    let (registry, _) = registry(1);
    let mut events = registry.events();
    let registration = register(&registry, "n", A);
    for _ in 0..cuttlebone_tokens::EVENTS_MAX {
        drop(now(registration.acquire()).unwrap());
    }
    let missed = cuttlebone_tokens::EVENTS_MAX as u64 + 1;
    assert_eq!(now(events.next()), Some(cuttlebone_tokens::Heard::Missed(missed)));
}

/// A task whose last reference is the waker that the registry holds: replacing the waker drops the task and its token.
#[test]
fn a_waker_whose_drop_releases_a_token_of_the_same_name_does_not_deadlock() {
    struct Task(#[expect(dead_code, reason = "held for its drop")] Option<Token>);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let (registry, _) = registry(2);
    let registration = register(&registry, "n", A);
    let (one, _two) = (now(registration.acquire()).unwrap(), now(registration.acquire()).unwrap());
    let mut waiter = registration.acquire();
    let waker = Waker::from(Arc::new(Task(Some(one))));
    assert!(waiter.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    let _ = poll(&mut waiter);
    let _token = ready(&mut waiter).unwrap();
}

#[test]
fn a_large_request_that_gives_up_lets_the_small_ones_behind_it_go() {
    let (registry, _) = registry(2);
    let registration = register(&registry, "n", A);
    let _held = now(registration.acquire()).unwrap();
    let mut large = registration.worker().acquire_as(Class::Light, 2);
    let mut small = registration.acquire();
    assert_pending(&mut large);
    assert_pending(&mut small);
    drop(large);
    let _token = ready(&mut small).unwrap();
}
