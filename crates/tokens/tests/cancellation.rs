//! Every public future, dropped after k polls for every k until it ends: nothing may be left behind.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "support/futures_in.rs"]
mod futures_in;
mod support;

use core::time::Duration;
use std::sync::Arc;

use cuttlebone_machine::Instant;
use cuttlebone_tokens::{
    AdmitError, Class, Control, Epoch, EpochStore, EventKind, Fence, FenceGate, Heard, NameState, OwnerId,
    Registration, Registry, Reserving, Seq, Takeover,
};
use futures::FutureExt;
use support::*;

/// Every public future and stream of the crate, and the test here that drops it at every await point.
const FUTURES: &[(&str, &str)] = &[
    ("Acquire", "waiting_for_a_token_can_be_dropped_at_every_await_point"),
    ("Advance", "closing_a_gate_can_be_dropped_at_every_await_point"),
    ("Events", "listening_can_be_dropped_at_every_await_point"),
    ("Register", "registering_can_be_dropped_at_every_await_point"),
    ("Watchdog", "the_watchdog_can_be_dropped_at_every_await_point_and_another_goes_on"),
    ("Watching", "hearing_of_an_end_can_be_dropped_at_every_await_point"),
    ("fn call", "a_command_can_be_dropped_at_every_await_point"),
    ("fn open", "opening_can_be_dropped_at_every_await_point"),
];

#[test]
fn no_public_future_is_forgotten_here() {
    let tests = include_str!("cancellation.rs");
    let found = futures_in::futures_in(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut listed: Vec<_> = FUTURES.iter().map(|(future, _)| (*future).to_owned()).collect();
    listed.sort();
    assert_eq!(found, listed, "what is in the source, and what is listed here");
    for (_, test) in FUTURES {
        assert!(tests.contains(&format!("fn {test}()")), "{test} is gone");
    }
}

/// A store that answers only when polled again, so that waiting for it is an await point of its own.
#[derive(Clone)]
struct SlowEpochs(Arc<cuttlebone_tokens::MemoryEpochs>);

impl EpochStore for SlowEpochs {
    fn reserve(&self, count: u64) -> Reserving<'_> {
        Box::pin(async move {
            pending_once().await;
            let block = self.0.reserve(count).await;
            pending_once().await;
            block
        })
    }
}

async fn pending_once() {
    let mut polled = false;
    core::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if core::mem::replace(&mut polled, true) {
            core::task::Poll::Ready(())
        } else {
            core::task::Poll::Pending
        }
    })
    .await;
}

fn slow_registry() -> (Registry, TestClock) {
    let clock = TestClock::default();
    let config = cuttlebone_tokens::Config { epoch_block: 1, ..config(1) };
    let open = Registry::open(config, clock.clone(), SlowEpochs(Arc::default()));
    (futures::executor::block_on(open).unwrap(), clock)
}

/// Everything works as on the first day: register, take, wait, hand on, release, unregister.
fn assert_whole(registry: &Registry, what: &str) {
    let again =
        futures::executor::block_on(registry.register("n", OwnerId(1_000), Takeover::Preempt)).unwrap();
    let token = now(again.acquire()).unwrap();
    let mut waiter = again.acquire();
    assert_pending(&mut waiter);
    drop(token);
    drop(ready(&mut waiter).unwrap());
    let view = registry.lookup("n", 9).unwrap();
    assert_eq!(
        (view.state, view.outstanding, view.waiting, view.registrants),
        (NameState::Active, 0, 0, 0),
        "{what}"
    );
    now(again.unregister());
    assert!(registry.lookup("n", 0).is_none(), "{what}: the name is wedged");
}

/// Runs `scene` with every number of polls of the future it makes, and between two polls lets the world go on.
fn drop_after_every_poll<F: Future + Unpin, W>(
    what: &str,
    scene: impl Fn(&Registry) -> (F, W),
    goes_on: impl Fn(&mut W, &TestClock, usize),
) {
    let mut finished = false;
    for polls in 0..12 {
        for world_ends_first in [false, true] {
            let (registry, clock) = slow_registry();
            let (mut future, mut world) = scene(&registry);
            for k in 0..polls {
                if poll(&mut future).is_ready() {
                    finished = true;
                    break;
                }
                goes_on(&mut world, &clock, k);
            }
            if world_ends_first {
                drop(world);
                drop(future);
            } else {
                drop(future);
                drop(world);
            }
            assert_whole(&registry, &format!("{what}, dropped after {polls} polls"));
        }
    }
    assert!(finished, "{what}: the scene never comes to its end");
}

fn registered(registry: &Registry) -> Registration {
    futures::executor::block_on(registry.register("n", A, Takeover::Deny)).unwrap()
}

#[test]
fn registering_can_be_dropped_at_every_await_point() {
    for takeover in [Takeover::Deny, Takeover::Wait, Takeover::Preempt] {
        drop_after_every_poll(
            "a free name",
            |registry| (registry.register("n", B, takeover), ()),
            |(), _, _| (),
        );
    }
}

#[test]
fn waiting_for_a_name_and_its_drain_can_be_dropped_at_every_await_point() {
    for takeover in [Takeover::Wait, Takeover::Preempt] {
        let scene = |registry: &Registry| {
            let owner = registered(registry);
            let token = now(owner.acquire()).unwrap();
            (registry.register("n", B, takeover), (Some(owner), Some(token)))
        };
        drop_after_every_poll("a name in use", scene, |(owner, token), _, k| match k {
            3 => *owner = None,
            5 => *token = None,
            _ => {}
        });
    }
}

#[test]
fn taking_over_through_a_gate_can_be_dropped_at_every_await_point() {
    let scene = |registry: &Registry| {
        let gate = FenceGate::new("n");
        let owner = registered(registry);
        let fence = now(owner.acquire()).unwrap().forget_until_fenced();
        let running = gate.admit(&fence).unwrap();
        let next = registry.register("n", B, Takeover::Preempt).through(gate.clone());
        // Whoever is dropped half-way leaves the forgotten token out; the next takeover ends it the same way.
        (next, (Some(running), owner, End(registry.clone())))
    };
    drop_after_every_poll("through a gate", scene, |(running, _, _), _, k| {
        if k == 5 {
            *running = None;
        }
    });
}

/// At the end of a scene, ends what was forgotten on purpose.
struct End(Registry);

impl Drop for End {
    fn drop(&mut self) {
        self.0.fence("n");
        self.0.revoke_older("n", Epoch(u64::MAX));
    }
}

#[test]
fn waiting_with_a_deadline_can_be_dropped_at_every_await_point() {
    let soon = Instant::ZERO + Duration::from_secs(1);
    let scene = |registry: &Registry| {
        let owner = registered(registry);
        (registry.register("n", B, Takeover::Wait).by(soon), owner)
    };
    drop_after_every_poll("register by", scene, |_, clock, k| {
        if k == 6 {
            clock.advance(Duration::from_secs(1));
        }
    });
    let scene = |registry: &Registry| {
        let owner = registered(registry);
        let token = now(owner.acquire()).unwrap();
        (owner.acquire().by(soon), (token, owner))
    };
    drop_after_every_poll("acquire by", scene, |_, clock, k| {
        if k == 3 {
            clock.advance(Duration::from_secs(1));
        }
    });
}

#[test]
fn waiting_for_a_token_can_be_dropped_at_every_await_point() {
    let scene = |registry: &Registry| {
        let owner = registered(registry);
        let token = now(owner.acquire()).unwrap();
        let mut behind = owner.acquire();
        let future = owner.acquire();
        assert_pending(&mut behind);
        (future, (Some(token), behind, owner))
    };
    drop_after_every_poll("acquire", scene, |(token, behind, _), _, k| {
        if k == 2 {
            *token = None; // granted to the one that stands before, which then gives it up
            let _ = poll(behind).map(drop);
        }
    });
}

#[test]
fn a_command_can_be_dropped_at_every_await_point() {
    let scene = |registry: &Registry| {
        let owner = registered(registry);
        let token = now(owner.acquire()).unwrap();
        let control = Control::new(owner.worker());
        let call = async move {
            control
                .call(Class::Light, async |fence| {
                    pending_once().await;
                    fence
                })
                .await
        };
        (call.boxed(), (Some(token), owner))
    };
    drop_after_every_poll("a command", scene, |(token, _), _, k| {
        if k == 1 {
            *token = None;
        }
    });
}

#[test]
fn hearing_of_an_end_can_be_dropped_at_every_await_point() {
    for forced in [false, true] {
        let scene = |registry: &Registry| {
            let owner = registered(registry);
            let token = now(owner.acquire()).unwrap();
            let future = if forced { token.fenced() } else { owner.fenced() };
            (future, (Some(owner), token, registry.clone()))
        };
        drop_after_every_poll("fenced", scene, |(owner, _, registry), _, k| match k {
            2 if forced => drop(registry.fence("n")),
            2 => *owner = None,
            _ => {}
        });
    }
    let scene = |registry: &Registry| {
        let owner = registered(registry);
        let token = now(owner.acquire()).unwrap();
        (owner.unregister(), Some(token))
    };
    drop_after_every_poll("unregister", scene, |token, _, k| {
        if k == 2 {
            *token = None;
        }
    });
}

#[test]
fn the_watchdog_can_be_dropped_at_every_await_point_and_another_goes_on() {
    let (registry, clock) = slow_registry();
    let mut events = registry.events();
    let owner = registered(&registry);
    let token = now(owner.acquire()).unwrap();
    drop(owner);
    for _ in 0..5 {
        let mut watchdog = registry.watchdog();
        assert_pending(&mut watchdog);
        clock.advance(Duration::from_secs(10));
        drop(watchdog);
        assert_pending(&mut registry.watchdog());
    }
    let heard = core::iter::from_fn(|| futures::StreamExt::next(&mut events).now_or_never().flatten());
    let late = |heard: &Heard| format!("{heard:?}").contains("WatchdogLate");
    assert_eq!(heard.filter(late).count(), 5);
    drop(token);
    assert_whole(&registry, "the watchdog");
}

#[test]
fn closing_a_gate_can_be_dropped_at_every_await_point() {
    let fence = |epoch: u64| Fence::new("n", Epoch(epoch), Seq(epoch));
    let mut finished = false;
    for polls in 0..5 {
        let gate = FenceGate::new("n");
        let mut running = Some(gate.admit(&fence(1)).unwrap());
        let mut advance = gate.advance(Epoch(2));
        for k in 0..polls {
            if poll(&mut advance).is_ready() {
                finished = true;
                break;
            }
            running = running.filter(|_| k < 2);
        }
        drop(advance);
        assert_eq!(gate.admit(&fence(1)).unwrap_err(), AdmitError::Stale, "it stays closed");
        let mut again = gate.advance(Epoch(2));
        assert_eq!(poll(&mut again).is_ready(), running.is_none());
        drop(running);
        ready(&mut again);
        drop(gate.admit(&fence(2)).unwrap());
        assert_eq!(gate.running(), 0);
    }
    assert!(finished);
}

#[test]
fn listening_can_be_dropped_at_every_await_point() {
    let mut finished = false;
    for polls in 0..5 {
        let (registry, _) = slow_registry();
        let mut events = registry.events();
        let mut owner = None;
        let mut taken = None;
        for k in 0..polls {
            // Each `next` is a future of its own, dropped after one poll.
            taken = taken.or(futures::StreamExt::next(&mut events).now_or_never());
            if k == 1 {
                owner = Some(registered(&registry));
            }
        }
        finished |= taken.is_some();
        let owner = owner.unwrap_or_else(|| registered(&registry));
        let first = taken.flatten().or_else(|| ready(&mut futures::StreamExt::next(&mut events)));
        let wanted = EventKind::Registered { owner: A, epoch: owner.epoch() };
        assert_eq!(first, Some(Heard::Event { name: "n".into(), kind: wanted }), "after {polls} polls");
        drop(owner);
        assert_whole(&registry, "events");
    }
    assert!(finished);
}

#[test]
fn opening_can_be_dropped_at_every_await_point() {
    let mut finished = false;
    for polls in 0..6 {
        let store = SlowEpochs(Arc::default());
        let mut opening = Registry::open(config(1), TestClock::default(), store.clone()).boxed();
        let mut first = None;
        for _ in 0..polls {
            if let core::task::Poll::Ready(opened) = poll(&mut opening) {
                first = Some(registered(&opened.unwrap()).epoch());
                finished = true;
                break;
            }
        }
        drop(opening);
        let again = Registry::open(config(1), TestClock::default(), store);
        let again = futures::executor::block_on(again).unwrap();
        assert!(Some(registered(&again).epoch()) > first, "an epoch was given out twice");
        assert_whole(&again, "open");
    }
    assert!(finished);
}
