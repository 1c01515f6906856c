//! A million holders of one name, a hundred thousand names, ten thousand waiters: what an entry costs in memory.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::fs;

use cuttlebone_tokens::{Config, Limits, OwnerId, Registry, Takeover};
use support::{TestClock, assert_pending, now, ready, register};

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

fn registry(tokens: u32) -> Registry {
    let limits = Limits { tokens, grants_max: tokens, ..Limits::default() };
    Registry::new(Config { limits, ..Config::default() }, TestClock::default())
}

/// What `count` entries cost each; prints it, and fails above `at_most`.
fn assert_bytes_each(what: &str, count: u64, before: u64, at_most: u64) {
    let each = resident().saturating_sub(before) / count;
    println!("{count} {what}: {each} bytes each");
    assert!((1..=at_most).contains(&each), "{what}: {each} bytes each");
}

/// One test, since memory is of the whole process; the small first and the large blocks next, which go back to the system.
#[test]
fn entries_cost_little_and_nothing_is_left_of_them() {
    a_herd_of_waiters_is_served_in_order();
    a_million_holders();
    many_names();
}

fn a_herd_of_waiters_is_served_in_order() {
    let registry = registry(1);
    let owner = register(&registry, "n", OwnerId(1));
    let mut held = now(owner.acquire()).unwrap();
    let before = resident();
    let mut waiters: Vec<_> = (0..10_000).map(|_| owner.acquire()).collect();
    waiters.iter_mut().for_each(assert_pending);
    assert_bytes_each("waiters of one name", 10_000, before, 512);
    for waiter in &mut waiters {
        let seq = held.seq();
        drop(held);
        held = ready(waiter).unwrap();
        assert!(held.seq() > seq);
    }
}

fn many_names() {
    let registry = registry(1);
    let names: Vec<String> = (0..100_000).map(|n| format!("cell/agent-{n:06}")).collect();
    let before = resident();
    let registrations: Vec<_> =
        names.iter().zip(0..).map(|(name, n)| register(&registry, name, OwnerId(n))).collect();
    assert_bytes_each("names", 100_000, before, 2_048);
    let refused = now(registry.register("one more", OwnerId(0), Takeover::Deny));
    assert!(refused.is_err(), "names_max holds");
    drop(registrations);
    assert!(registry.snapshot(0).is_empty());
}

fn a_million_holders() {
    let registry = registry(1_000_000);
    let owner = register(&registry, "n", OwnerId(1));
    let before = resident();
    let tokens: Vec<_> = (0..1_000_000).map(|_| now(owner.acquire()).unwrap()).collect();
    // 40 of these bytes are the guard that the holder has.
    assert_bytes_each("holders of one name", 1_000_000, before, 160);
    assert!(tokens.windows(2).all(|pair| pair[0].seq() < pair[1].seq()));
    drop(tokens);
    assert_eq!(registry.lookup("n", 9).unwrap().outstanding, 0);
    drop(owner);
    assert!(registry.lookup("n", 0).is_none());
}
