//! New values out of old ones, keys that run out of time, and stamps of held keys across hot reload.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

#[path = "table/world.rs"]
mod world;

use core::time::Duration;

use cuttlebone_bucket::{Count, Error, Mode, VbucketState};
use cuttlebone_checkpoint::{Item, Seqno};
use world::{V, World, now};

const HOLD: Duration = Duration::from_secs(20);

fn item(key: &str, value: &str) -> Item {
    Item::set(key.as_bytes(), value.as_bytes()).unwrap()
}

/// A world with one key, whose value is on the disk only.
fn evicted(value: &str) -> World {
    let world = World::new();
    world.bucket.set(V, now(0), item("k", value).with_flags(7).with_expiry(50), Mode::Set).unwrap();
    world.bucket.flush_all().unwrap();
    world.bucket.evict(V, now(0), b"k").unwrap();
    world
}

#[test]
fn values_grow_at_both_ends_also_when_they_are_on_the_disk_only() {
    let world = evicted("lo w");
    world.bucket.append(V, now(0), b"k", b"orld", None).unwrap();
    let stored = world.bucket.prepend(V, now(0), b"k", b"hel", None).unwrap();
    let found = world.bucket.get(V, now(0), b"k").unwrap();
    assert_eq!((found.item.value(), found.item.flags()), (&b"hello world"[..], 7));
    assert_eq!((found.item.expiry(), found.cas), (50, stored.cas));
    assert!(matches!(world.bucket.append(V, now(0), b"k", b"!", Some(1)), Err(Error::Exists)));
    world.bucket.append(V, now(0), b"k", b"!", Some(stored.cas)).unwrap();
    assert!(matches!(world.bucket.append(V, now(0), b"other", b"!", None), Err(Error::NotFound)));
    assert!(matches!(world.bucket.prepend(V, now(0), b"other", b"!", Some(1)), Err(Error::NotFound)));
    world.check();
}

#[test]
fn numbers_count_up_and_down() {
    let check = |value: &str, count, expected: Option<(u64, &str)>| {
        let world = evicted(value);
        match world.bucket.count(V, now(0), b"k", count, None, None) {
            Ok((_, number)) => assert_eq!(Some((number, &*world.get("k").unwrap())), expected, "{value}"),
            Err(error) => {
                assert!(matches!(error, Error::NotANumber), "{error}");
                assert_eq!((expected, &*world.get("k").unwrap()), (None, value));
            }
        }
    };
    check("9", Count::Up(1), Some((10, "10")));
    check("10", Count::Down(1), Some((9, "9")));
    check("3", Count::Down(5), Some((0, "0")));
    check("18446744073709551615", Count::Up(2), Some((1, "1")));
    check("18446744073709551616", Count::Up(1), None);
    for text in ["", "-1", " 1", "1 ", "x", "000000000000000000001"] {
        check(text, Count::Up(1), None);
    }
}

#[test]
fn a_count_of_an_absent_key_begins_where_it_is_told() {
    let world = World::new();
    let count = |initial: Option<&Item>| world.bucket.count(V, now(0), b"n", Count::Up(1), initial, None);
    assert!(matches!(count(None), Err(Error::NotFound)));
    assert!(matches!(count(Some(&item("another", "5"))), Err(Error::NotFound)));
    assert!(matches!(count(Some(&item("n", "five"))), Err(Error::NotANumber)));
    assert_eq!(count(Some(&item("n", "5"))).unwrap().1, 5);
    assert_eq!(count(Some(&item("n", "5"))).unwrap().1, 6);
}

#[test]
fn a_touch_changes_the_expiry_and_nothing_else() {
    let world = evicted("v");
    let touched = world.bucket.touch(V, now(0), b"k", 90).unwrap();
    assert_eq!((touched.item.value(), touched.item.flags(), touched.item.expiry()), (&b"v"[..], 7, 90));
    assert_eq!(world.bucket.get(V, now(80), b"k").unwrap().cas, touched.cas);
    assert!(matches!(world.bucket.get(V, now(91), b"k"), Err(Error::NotFound)));
    assert!(matches!(world.bucket.touch(V, now(91), b"k", 99), Err(Error::NotFound)));
}

#[test]
fn f01_f20_new_values_out_of_old_ones_need_an_active_vbucket() {
    let check = |state, parked: bool| {
        let world = evicted("1");
        world.bucket.set_state(V, now(0), state).unwrap();
        let errors = [
            world.bucket.append(V, now(0), b"k", b"x", None).unwrap_err(),
            world.bucket.prepend(V, now(0), b"k", b"x", None).unwrap_err(),
            world.bucket.count(V, now(0), b"k", Count::Up(1), None, None).unwrap_err(),
            world.bucket.touch(V, now(0), b"k", 1).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(matches!(error, Error::Parked), parked, "{error}");
            assert_eq!(matches!(error, Error::NotMyVbucket), !parked, "{error}");
        }
    };
    check(VbucketState::Dead, false);
    check(VbucketState::Replica, false);
    check(VbucketState::Pending, true);
}

#[test]
fn a_held_key_takes_new_values_from_its_holder_only() {
    let world = evicted("1");
    let held = world.bucket.get_and_lock(V, now(0), b"k", HOLD).unwrap();
    assert!(matches!(world.bucket.append(V, now(0), b"k", b"x", None), Err(Error::Locked)));
    assert!(matches!(world.bucket.touch(V, now(0), b"k", 9), Err(Error::Locked)));
    world.bucket.count(V, now(0), b"k", Count::Up(1), None, Some(held.cas)).unwrap();
    assert_eq!(world.get("k").as_deref(), Some("2"));
}

#[test]
fn keys_out_of_time_are_removed_though_nobody_looks() {
    let world = World::new();
    for number in 0..200 {
        world.bucket.set(V, now(0), item(&format!("k{number}"), "v").with_expiry(10), Mode::Set).unwrap();
    }
    world.bucket.set(V, now(0), item("later", "v").with_expiry(11), Mode::Set).unwrap();
    world.set("never", "v");
    world.bucket.touch(V, now(0), b"k7", 0).unwrap();
    let last = world.bucket.status(V).unwrap().log.last_seqno;
    world.bucket.tick(now(10));
    assert_eq!(world.bucket.status(V).unwrap().log.last_seqno, last, "10 is not over");
    world.bucket.tick(now(11));
    assert_eq!(world.bucket.status(V).unwrap().items, 3);
    assert_eq!(world.bucket.status(V).unwrap().log.last_seqno, Seqno(last.0 + 199));
    world.check();
    let replica = {
        let mut replica = world.replica();
        replica.follow(&world);
        replica
    };
    replica.bucket.tick(now(99));
    assert_eq!(replica.bucket.status(V).unwrap().items, 3, "a replica waits for its producer");
}

#[test]
fn h09_what_ran_out_of_time_in_a_window_comes_back_and_runs_out_again() {
    let world = World::new();
    world.bucket.set(V, now(0), item("k", "v").with_expiry(10), Mode::Set).unwrap();
    world.bucket.start_update(now(0)).unwrap();
    world.bucket.tick(now(20));
    assert_eq!(world.bucket.status(V).unwrap().items, 0);
    world.revert();
    assert_eq!(world.bucket.status(V).unwrap().items, 1);
    world.bucket.tick(now(20));
    assert_eq!(world.bucket.status(V).unwrap().items, 0);
    world.check();
}

#[test]
fn h10_a_key_that_was_only_held_in_the_window_is_free_and_counts_as_nothing() {
    let world = World::new();
    world.set("k", "v");
    let before = world.bucket.get(V, now(0), b"k").unwrap();
    world.bucket.start_update(now(0)).unwrap();
    let held = world.bucket.get_and_lock(V, now(0), b"k", HOLD).unwrap();
    world.revert();
    assert_eq!(world.bucket.get(V, now(0), b"k").unwrap(), before);
    let stale = world.bucket.set(V, now(0), item("k", "w"), Mode::Cas(held.cas));
    assert!(matches!(stale, Err(Error::Exists)));
    world.bucket.set(V, now(0), item("k", "w"), Mode::Cas(before.cas)).unwrap();
    assert_eq!(world.bucket.update_stats().reverted_updates, 0);
}

#[test]
fn h11_a_key_held_before_the_window_and_stored_in_it_comes_back_with_the_stamp_on_the_disk() {
    let world = World::new();
    world.set("k", "v");
    let persisted = world.bucket.get(V, now(0), b"k").unwrap().cas;
    let held = world.bucket.get_and_lock(V, now(0), b"k", HOLD).unwrap();
    world.bucket.start_update(now(0)).unwrap();
    world.bucket.set(V, now(0), item("k", "w"), Mode::Cas(held.cas)).unwrap();
    world.revert();
    assert_eq!(world.bucket.get(V, now(0), b"k").unwrap().cas, persisted);
    assert_eq!(world.after_a_kill().bucket.get(V, now(0), b"k").unwrap().cas, persisted);
}

#[test]
fn the_holders_stamp_stays_the_keys_when_the_time_is_over() {
    let world = World::new();
    world.set("k", "v");
    let before = world.bucket.get(V, now(0), b"k").unwrap().cas;
    let held = world.bucket.get_and_lock(V, now(0), b"k", HOLD).unwrap();
    assert_eq!(world.bucket.get(V, now(30), b"k").unwrap().cas, held.cas);
    assert!(matches!(world.bucket.set(V, now(30), item("k", "w"), Mode::Cas(before)), Err(Error::Exists)));
    world.bucket.set(V, now(30), item("k", "w"), Mode::Cas(held.cas)).unwrap();
}

#[test]
fn what_a_revert_brings_back_has_its_stamp_before_anybody_has_looked() {
    let world = World::new();
    let stamps = ["changed", "deleted", "evicted"].map(|key| {
        world.set(key, "v");
        world.bucket.get(V, now(0), key.as_bytes()).unwrap().cas
    });
    world.bucket.flush_all().unwrap();
    world.bucket.evict(V, now(0), b"evicted").unwrap();
    world.bucket.start_update(now(0)).unwrap();
    world.set("changed", "in the window");
    world.delete("deleted");
    world.revert();
    for (key, cas) in ["changed", "deleted", "evicted"].into_iter().zip(stamps) {
        let other = world.bucket.set(V, now(0), item(key, "w"), Mode::Cas(cas + 1));
        assert!(matches!(other, Err(Error::Exists)), "{key}: {other:?}");
        world.bucket.set(V, now(0), item(key, "w"), Mode::Cas(cas)).unwrap();
    }
}
