//! Hot reload end to end: group H of the acceptance scenarios. What concerns the log alone is in `cuttlebone-checkpoint`.

#![expect(clippy::unwrap_used, clippy::needless_for_each, reason = "a failure in a test is a panic")]

#[path = "table/world.rs"]
mod world;

use core::cell::Cell;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use cuttlebone_bucket::engine::Fault;
use cuttlebone_bucket::{Bucket, Error, Mode, VbucketState};
use cuttlebone_checkpoint::Item;
use world::{V, World, now};

/// A world with one active vbucket, `keys` persisted with value, flags 1 and no expiry, and a window open.
fn in_window(keys: &[&str]) -> World {
    let world = World::new();
    keys.iter().for_each(|key| world.set_flags(key, &format!("old {key}"), 1));
    world.bucket.flush_all().unwrap();
    world.bucket.start_update(now(0)).unwrap();
    world
}

fn adds_updates_deletes(world: &World) -> (u64, u64, u64) {
    let stats = world.bucket.update_stats();
    (stats.reverted_adds, stats.reverted_updates, stats.reverted_deletes)
}

#[test]
fn h01_h02_start_complete_and_revert_need_the_right_state() {
    let world = World::new();
    assert!(matches!(world.bucket.complete_update(now(0)), Err(Error::UpdateOff)));
    assert!(matches!(world.bucket.revert_update(now(0), || now(0)), Err(Error::UpdateOff)));
    world.bucket.start_update(now(0)).unwrap();
    assert!(matches!(world.bucket.start_update(now(0)), Err(Error::UpdateOn)));
    assert!(world.bucket.status(V).unwrap().in_window);
}

#[test]
fn h03_h04_nothing_of_the_window_is_persisted_until_it_is_completed() {
    let world = in_window(&["a"]);
    let mut replica = world.replica();
    world.set("b", "new");
    world.bucket.flush_all().unwrap();
    assert_eq!((world.bucket.status(V).unwrap().log.unpersisted, world.after_a_kill().get("b")), (1, None));
    replica.follow(&world);
    assert_eq!(replica.get("b").as_deref(), Some("new"));
    replica.bucket.flush_all().unwrap();
    assert_eq!(replica.after_a_kill().get("b"), None, "a replica holds it back too");
    world.bucket.complete_update(now(0)).unwrap();
    world.bucket.flush_all().unwrap();
    replica.follow(&world);
    replica.bucket.flush_all().unwrap();
    assert_eq!(world.bucket.status(V).unwrap().log.unpersisted, 0);
    assert_eq!(world.after_a_kill().get("b").as_deref(), Some("new"));
    assert_eq!(replica.after_a_kill().get("b").as_deref(), Some("new"));
    assert!(!replica.bucket.status(V).unwrap().in_window);
}

#[test]
fn h05_a_new_key_vanishes_completely() {
    let world = in_window(&["a"]);
    world.set("new", "x");
    world.revert();
    assert_eq!((world.get("new"), world.bucket.status(V).unwrap().items), (None, 1));
    assert_eq!(adds_updates_deletes(&world), (1, 0, 0));
    world.bucket.set(V, now(0), Item::set(b"new", b"again").unwrap(), Mode::Add).unwrap();
    world.check();
}

#[test]
fn h06_a_changed_key_comes_back_with_value_flags_expiry_and_cas() {
    for (value, evicted) in [("resident", false), ("evicted", true), ("ab", true), ("", true)] {
        let world = World::new();
        let item = Item::set(b"k", value.as_bytes()).unwrap().with_flags(77).with_expiry(9_000);
        let cas = world.bucket.set(V, now(0), item, Mode::Set).unwrap().cas;
        world.bucket.flush_all().unwrap();
        if evicted {
            world.bucket.evict(V, now(0), b"k").unwrap();
        }
        world.bucket.start_update(now(0)).unwrap();
        world.set_flags("k", "window", 5);
        world.set_flags("k", "window again", 6);
        world.revert();
        let found = world.bucket.get(V, now(0), b"k").unwrap();
        assert_eq!((found.item.value(), found.cas), (value.as_bytes(), cas));
        assert_eq!((found.item.flags(), found.item.expiry()), (77, 9_000));
        assert_eq!(adds_updates_deletes(&world), (0, 1, 0));
    }
}

#[test]
fn h07_a_deleted_key_comes_back() {
    let world = in_window(&["a"]);
    world.delete("a");
    assert_eq!(world.get("a"), None);
    world.revert();
    assert_eq!(world.get("a").as_deref(), Some("old a"));
    assert_eq!(adds_updates_deletes(&world), (0, 0, 1));
}

#[test]
fn h08_only_what_was_there_at_the_start_counts() {
    let world = in_window(&["b", "c"]);
    world.set("a", "1");
    world.delete("a");
    world.delete("b");
    world.set("b", "2");
    world.set("c", "3");
    world.delete("c");
    world.set("c", "4");
    world.set("d", "5");
    world.set("d", "6");
    world.revert();
    let values = ["a", "b", "c", "d"].map(|key| world.get(key));
    assert_eq!(values, [None, Some("old b".into()), Some("old c".into()), None]);
    assert_eq!(adds_updates_deletes(&world), (2, 2, 0));
}

#[test]
fn h09_a_time_to_live_of_the_window_does_not_outlive_it() {
    let world = in_window(&["a"]);
    let item = Item::set(b"a", b"short").unwrap().with_expiry(100);
    world.bucket.set(V, now(50), item, Mode::Set).unwrap();
    // Not touched after its time: nothing may delete it on the way back.
    world.bucket.revert_update(now(200), || now(200)).unwrap();
    assert_eq!(world.bucket.get(V, now(200), b"a").unwrap().item.value(), b"old a");
    world.bucket.flush_all().unwrap();
    assert_eq!(world.after_a_kill().get("a").as_deref(), Some("old a"));
}

#[test]
fn h10_a_lock_of_the_window_is_gone() {
    let world = in_window(&["a"]);
    world.set("a", "window");
    let held = world.bucket.get_and_lock(V, now(0), b"a", Duration::from_secs(30)).unwrap();
    assert!(matches!(world.try_set("a", "other"), Err(Error::Locked)));
    world.revert();
    assert_eq!(world.get("a").as_deref(), Some("old a"));
    assert!(matches!(world.bucket.unlock(V, now(0), b"a", held.cas), Err(Error::NotFound)));
    world.set("a", "free");
}

#[test]
fn h11_a_stamp_of_the_window_matches_nothing_afterwards() {
    let world = in_window(&["a"]);
    world.set("a", "window");
    let stamp = world.bucket.get(V, now(0), b"a").unwrap().cas;
    world.revert();
    let answer = world.bucket.set(V, now(0), Item::set(b"a", b"x").unwrap(), Mode::Cas(stamp));
    assert!(matches!(answer, Err(Error::Exists)));
    // Nor does one that is given later repeat it.
    world.set("a", "later");
    assert!(world.bucket.get(V, now(0), b"a").unwrap().cas > stamp);
}

#[test]
fn h12_h14_a_key_whose_first_commit_failed_survives_the_revert() {
    for fault in [Fault::Nothing, Fault::Done] {
        let world = World::new();
        world.bucket.flush_all().unwrap();
        world.set("a", "before");
        world.disk.fail_after(0, fault);
        assert!(matches!(world.bucket.flush(), Err(Error::Engine(_))));
        world.bucket.start_update(now(0)).unwrap();
        world.set("a", "window");
        world.disk.fail_after(0, fault);
        assert!(matches!(world.bucket.revert_update(now(0), || now(0)), Err(Error::Engine(_))));
        assert_eq!(
            (world.get("a").as_deref(), world.bucket.status(V).unwrap().in_window),
            (Some("window"), true)
        );
        world.revert();
        assert_eq!(world.get("a").as_deref(), Some("before"));
        assert_eq!(world.after_a_kill().get("a").as_deref(), Some("before"));
        assert_eq!(world.bucket.update_stats().revert_failed, 1);
    }
}

#[test]
fn h13_a_revert_with_persistence_stopped_is_refused_and_changes_nothing() {
    let world = World::new();
    world.set("a", "dirty");
    world.bucket.pause();
    world.bucket.start_update(now(0)).unwrap();
    world.set("a", "window");
    assert!(matches!(world.bucket.revert_update(now(0), || now(0)), Err(Error::Paused)));
    assert_eq!(world.get("a").as_deref(), Some("window"));
    world.bucket.resume();
    world.revert();
    assert_eq!(world.get("a").as_deref(), Some("dirty"));
    assert_eq!(world.after_a_kill().get("a").as_deref(), Some("dirty"));
}

#[test]
fn h15_a_window_over_many_checkpoints_is_kept_or_undone_as_a_whole() {
    for revert in [true, false] {
        let world = World::new();
        (0..50).for_each(|number| world.set(&format!("k{number}"), "old"));
        world.bucket.flush_all().unwrap();
        world.bucket.start_update(now(0)).unwrap();
        (0..1000).for_each(|number| world.set(&format!("k{}", number % 100), "new"));
        world.bucket.flush_all().unwrap();
        if revert {
            world.revert();
        } else {
            world.bucket.complete_update(now(0)).unwrap();
        }
        world.bucket.flush_all().unwrap();
        world.check();
        let restarted = world.after_a_kill();
        for number in 0..100 {
            let expected = match (revert, number < 50) {
                (true, true) => Some("old"),
                (true, false) => None,
                (false, _) => Some("new"),
            };
            assert_eq!(world.get(&format!("k{number}")).as_deref(), expected);
            assert_eq!(restarted.get(&format!("k{number}")).as_deref(), expected);
        }
    }
}

/// Polls a future once with a waker that does nothing.
fn poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
    core::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn h16_an_operation_while_reverting_waits_and_its_value_survives() {
    let world = in_window(&["a"]);
    let mut replica = world.replica();
    (0..3000).for_each(|number| world.set(&format!("w{number}"), "window"));
    let write = |bucket: &Bucket<_>| bucket.set(V, now(0), Item::set(b"a", b"after").unwrap(), Mode::Set);
    let mut write = Box::pin(world.bucket.wait(V, write));
    let mut read = Box::pin(world.bucket.wait(V, |bucket| bucket.get(V, now(0), b"a")));
    let mut seen = 0;
    world
        .bucket
        .revert_update(now(0), || {
            let reverting = matches!(world.bucket.get(V, now(0), b"a"), Err(Error::Parked));
            if reverting {
                seen += 1;
                assert!(poll(&mut write).is_pending());
                assert!(poll(&mut read).is_pending());
            }
            now(0)
        })
        .unwrap();
    assert!(seen >= 3, "the gate was closed for several slices");
    assert_eq!(world.bucket.status(V).unwrap().parked, 0);
    // Order is that of the callers: here the reader comes first.
    let Poll::Ready(Ok(found)) = poll(&mut read) else { panic!("parked for ever") };
    assert_eq!(found.item.value(), b"old a");
    assert!(matches!(poll(&mut write), Poll::Ready(Ok(_))));
    assert_eq!(world.get("a").as_deref(), Some("after"));
    world.bucket.flush_all().unwrap();
    assert_eq!(world.after_a_kill().get("a").as_deref(), Some("after"));
    replica.follow(&world);
    assert_eq!(replica.get("a").as_deref(), Some("after"));
}

#[test]
fn h17_an_operation_that_is_dropped_while_it_waits_has_done_nothing() {
    let world = in_window(&["a"]);
    world.set("a", "window");
    let write = |bucket: &Bucket<_>| bucket.set(V, now(0), Item::set(b"a", b"ghost").unwrap(), Mode::Set);
    let mut ghost = Some(Box::pin(world.bucket.wait(V, write)));
    world
        .bucket
        .revert_update(now(0), || {
            if let Some(mut ghost) = ghost.take_if(|_| world.bucket.status(V).unwrap().log.persisted.0 > 1) {
                assert!(poll(&mut ghost).is_pending());
            }
            now(0)
        })
        .unwrap();
    assert!(ghost.is_none());
    assert_eq!(world.get("a").as_deref(), Some("old a"));
    assert_eq!(world.bucket.status(V).unwrap().parked, 0);
}

#[test]
fn h19_an_empty_window_is_reverted() {
    let world = in_window(&["a"]);
    world.revert();
    assert_eq!(adds_updates_deletes(&world), (0, 0, 0));
    assert_eq!(world.get("a").as_deref(), Some("old a"));
}

#[test]
fn h20_a_slow_replica_gets_window_and_revert_and_ends_equal() {
    let world = World::new();
    let mut replica = world.replica();
    world.set("a", "1");
    world.bucket.flush_all().unwrap();
    world.bucket.start_update(now(0)).unwrap();
    world.set("a", "2");
    world.set("b", "2");
    world.revert();
    world.set("c", "3");
    replica.follow(&world);
    assert_eq!(["a", "b", "c"].map(|key| replica.get(key)), ["a", "b", "c"].map(|key| world.get(key)));
    assert_eq!(replica.get("a").as_deref(), Some("1"));
}

#[test]
fn h21_a_replica_that_reconnects_in_the_window_goes_on() {
    let world = in_window(&["a"]);
    let mut replica = world.replica();
    world.set("a", "w1");
    replica.follow(&world);
    for round in 0..3 {
        replica.reconnect(&world);
        world.set("a", &format!("w{round}"));
        replica.follow(&world);
    }
    assert_eq!(replica.get("a").as_deref(), Some("w2"));
    world.revert();
    replica.follow(&world);
    assert_eq!(replica.get("a").as_deref(), Some("old a"));
}

#[test]
fn h22_a_replica_that_joins_in_the_window_gets_what_was_before_and_then_the_window() {
    let world = in_window(&["a", "b"]);
    world.set("a", "window");
    world.delete("b");
    // Nothing from before the window is in memory, so it comes from the disk.
    let mut replica = world.replica();
    replica.follow(&world);
    assert_eq!((replica.get("a").as_deref(), replica.get("b")), (Some("window"), None));
    assert!(replica.bucket.status(V).unwrap().in_window);
    world.revert();
    replica.follow(&world);
    assert_eq!((replica.get("a").as_deref(), replica.get("b").as_deref()), (Some("old a"), Some("old b")));
}

#[test]
fn h23_a_replica_that_restarts_in_the_window_ends_equal() {
    for revert in [true, false] {
        let world = in_window(&["a"]);
        let mut replica = world.replica();
        replica.follow(&world);
        replica.bucket.flush_all().unwrap();
        world.set("a", "window");
        world.set("b", "window");
        replica.follow(&world);
        let mut replica = replica.after_a_kill();
        assert_eq!(replica.get("a").as_deref(), Some("old a"), "the window was not persisted");
        replica.reconnect(&world);
        replica.follow(&world);
        assert_eq!(replica.get("a").as_deref(), Some("window"));
        if revert {
            world.revert();
        } else {
            world.bucket.complete_update(now(0)).unwrap();
        }
        replica.follow(&world);
        assert_eq!(["a", "b"].map(|key| replica.get(key)), ["a", "b"].map(|key| world.get(key)));
        replica.check();
    }
}

#[test]
fn a_replica_that_missed_the_revert_goes_back() {
    let world = in_window(&["a"]);
    let mut replica = world.replica();
    world.set("a", "window");
    world.set("b", "window");
    replica.follow(&world);
    replica.disconnect();
    world.revert();
    world.set("c", "after");
    replica.reconnect(&world);
    replica.follow(&world);
    let keys = ["a", "b", "c"];
    assert_eq!(keys.map(|key| replica.get(key)), keys.map(|key| world.get(key)));
    assert_eq!(replica.get("a").as_deref(), Some("old a"));
}

#[test]
fn h26_clearing_is_refused_in_a_window() {
    let world = in_window(&["a"]);
    assert!(matches!(world.bucket.clear(now(0)), Err(Error::InWindow)));
    world.revert();
    world.bucket.clear(now(0)).unwrap();
    assert_eq!((world.get("a"), world.after_a_kill().get("a")), (None, None));
}

#[test]
fn h27_leaving_reverts_the_window_and_waiting_keeps_it() {
    let world = in_window(&["a"]);
    world.set("a", "window");
    world.bucket.set_state(V, now(0), VbucketState::Pending).unwrap();
    assert!(world.bucket.status(V).unwrap().in_window);
    world.bucket.set_state(V, now(0), VbucketState::Replica).unwrap();
    assert!(!world.bucket.status(V).unwrap().in_window);
    world.bucket.set_state(V, now(0), VbucketState::Active).unwrap();
    assert_eq!(world.get("a").as_deref(), Some("old a"));
    world.bucket.start_update(now(0)).unwrap();
    world.bucket.remove(V, now(0)).unwrap();
    assert!(matches!(world.bucket.complete_update(now(0)), Err(Error::UpdateOff)));
    world.bucket.flush_all().unwrap();
    assert_eq!(world.after_a_kill().bucket.vbuckets(), [0_u16; 0]);
}

#[test]
fn h29_a_kill_leaves_what_was_before_the_window() {
    let world = in_window(&["a"]);
    world.set("a", "window");
    world.bucket.flush_all().unwrap();
    let killed = world.after_a_kill();
    assert_eq!(
        (killed.get("a").as_deref(), killed.bucket.status(V).unwrap().in_window),
        (Some("old a"), false)
    );
    // In the middle of a revert too.
    world
        .bucket
        .revert_update(now(0), || {
            assert_eq!(world.after_a_kill().get("a").as_deref(), Some("old a"));
            now(0)
        })
        .unwrap();
}

#[test]
fn h30_a_vbucket_made_in_the_window_inherits_it() {
    let world = in_window(&["a"]);
    world.bucket.create(7, now(0), VbucketState::Active).unwrap();
    assert!(world.bucket.status(7).unwrap().in_window);
    world.bucket.set(7, now(0), Item::set(b"x", b"y").unwrap(), Mode::Set).unwrap();
    world.bucket.complete_update(now(0)).unwrap();
    world.bucket.flush_all().unwrap();
    assert_eq!(world.after_a_kill().bucket.get(7, now(0), b"x").unwrap().item.value(), b"y");
}

#[test]
fn h31_replicas_of_the_node_are_not_touched() {
    let world = World::new();
    world.bucket.create(9, now(0), VbucketState::Replica).unwrap();
    world.bucket.start_update(now(0)).unwrap();
    assert!(!world.bucket.status(9).unwrap().in_window);
    world.bucket.complete_update(now(0)).unwrap();
}

#[test]
fn h32_what_waits_for_persistence_reaches_nothing_only_when_the_window_ends() {
    for revert in [true, false] {
        let world = in_window(&["a"]);
        world.set("b", "window");
        world.bucket.flush_all().unwrap();
        assert_eq!(world.bucket.status(V).unwrap().log.unpersisted, 1);
        if revert {
            world.revert();
        } else {
            world.bucket.complete_update(now(0)).unwrap();
            world.bucket.flush_all().unwrap();
        }
        assert_eq!(world.bucket.status(V).unwrap().log.unpersisted, 0);
    }
}

#[test]
fn h34_each_reverted_vbucket_is_timed_once() {
    let world = in_window(&["a"]);
    world.bucket.create(1, now(0), VbucketState::Active).unwrap();
    world.revert();
    assert_eq!(world.bucket.update_stats().revert_micros.iter().sum::<u64>(), 2);
}

#[test]
fn the_record_of_a_revert_is_persisted() {
    let world = in_window(&["a"]);
    world.set("a", "w");
    world.revert();
    let reverted = world.bucket.status(V).unwrap().reverted;
    assert!(matches!(reverted, Some((_, first, last)) if first == last));
    world.bucket.flush_all().unwrap();
    assert_eq!(world.after_a_kill().bucket.status(V).unwrap().reverted, reverted);
}

#[test]
fn the_figures_can_be_read_while_keys_are_restored() {
    let world = in_window(&["a", "b"]);
    world.set("a", "w");
    world.set("b", "w");
    let restored = Cell::new(0);
    let look = || {
        restored.set(restored.get().max(world.bucket.update_stats().reverted_updates));
        now(0)
    };
    world.bucket.revert_update(now(0), look).unwrap();
    assert_eq!(restored.get(), 2);
}
