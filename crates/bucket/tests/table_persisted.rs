//! Waiting until something is durable: D5, and the waiters' half of H32.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

#[path = "table/world.rs"]
mod world;

use core::task::{Context, Poll, Waker};
use core::time::Duration;

use cuttlebone_bucket::engine::Fault;
use cuttlebone_bucket::{Bucket, BucketLimits, Error, Event, Goal, Mode, Persisted, VbucketState};
use cuttlebone_checkpoint::{CheckpointId, Item, Seqno};
use cuttlebone_machine::Instant;
use futures::executor::block_on;
use world::{V, World, limits, now};

fn wait(world: &World, seqno: u64) -> Persisted {
    world.bucket.persisted(V, Goal::Seqno(Seqno(seqno)), None).unwrap()
}

fn checkpoint(world: &World, id: CheckpointId) -> Persisted {
    world.bucket.persisted(V, Goal::Checkpoint(id), None).unwrap()
}

fn poll(future: &mut Persisted) -> Poll<Result<(), Error>> {
    core::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn is_pending(future: &mut Persisted) -> bool {
    poll(future).is_pending()
}

fn is_undone(mut future: Persisted) -> bool {
    matches!(poll(&mut future), Poll::Ready(Err(Error::Undone)))
}

fn is_persisted(mut future: Persisted) -> bool {
    matches!(poll(&mut future), Poll::Ready(Ok(())))
}

fn open(world: &World) -> CheckpointId {
    world.bucket.status(V).unwrap().log.open
}

#[test]
fn d05_a_mutation_is_waited_for_until_the_commit() {
    let world = World::new();
    world.set("a", "1");
    world.set("b", "2");
    let (mut one, mut two, mut later) = (wait(&world, 1), wait(&world, 2), wait(&world, 3));
    assert!(is_pending(&mut one) && is_pending(&mut two));
    world.disk.fail_after(0, Fault::Done);
    world.bucket.flush().unwrap_err();
    assert!(is_pending(&mut one), "what failed is not durable, though it may be there");
    world.bucket.flush().unwrap();
    assert!(is_persisted(one) && is_persisted(two) && is_pending(&mut later));
    assert!(is_persisted(wait(&world, 2)), "who comes later is told at once");
    world.set("c", "3");
    assert!(is_pending(&mut later));
    world.bucket.flush().unwrap();
    assert!(is_persisted(later));
    assert_eq!(world.bucket.status(V).unwrap().waiting, 0);
}

#[test]
fn d05_a_checkpoint_is_waited_for_until_it_is_closed_and_all_of_it_is_durable() {
    let world = World::new();
    world.bucket.flush_all().unwrap();
    let first = open(&world);
    (0..10).for_each(|number| world.set(&format!("k{number}"), "v"));
    world.bucket.flush_all().unwrap();
    let mut waiting = checkpoint(&world, first);
    assert!(is_pending(&mut waiting), "it is open");
    world.set("next", "v");
    assert_ne!(open(&world), first);
    world.bucket.flush_all().unwrap();
    assert!(is_persisted(waiting));
    let mut second = checkpoint(&world, open(&world));
    assert!(is_pending(&mut second));
    // It closes by age, and nothing of it is left to flush.
    world.bucket.tick(now(100));
    assert!(is_persisted(second));
}

#[test]
fn d05_two_writers_are_told_when_each_of_theirs_is_durable() {
    let world = World::new();
    std::thread::scope(|scope| {
        let writers: Vec<_> = ["a", "b"]
            .map(|name| {
                let bucket = world.bucket.clone();
                scope.spawn(move || {
                    for number in 0..100 {
                        let item = Item::set(format!("{name}{number}").as_bytes(), b"v").unwrap();
                        let seqno = bucket.set(V, now(0), item, Mode::Set).unwrap().seqno;
                        block_on(bucket.persisted(V, Goal::Seqno(seqno), None).unwrap()).unwrap();
                        assert!(bucket.status(V).unwrap().log.persisted >= seqno);
                    }
                })
            })
            .into_iter()
            .collect();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            world.bucket.flush().unwrap();
        }
    });
    let again = world.after_a_kill();
    assert_eq!(again.bucket.status(V).unwrap().items, 200);
}

#[test]
fn h32_a_wait_for_the_window_ends_when_it_is_completed_and_flushed() {
    let world = World::new();
    world.set("k", "before");
    world.bucket.start_update(now(0)).unwrap();
    let barrier = open(&world);
    world.set("k", "window");
    let (mut before, mut within, mut whole) = (wait(&world, 1), wait(&world, 2), checkpoint(&world, barrier));
    world.bucket.flush_all().unwrap();
    assert!(matches!(poll(&mut before), Poll::Ready(Ok(()))));
    assert!(is_pending(&mut within) && is_pending(&mut whole));
    world.bucket.complete_update(now(0)).unwrap();
    assert!(is_pending(&mut within), "completed is not flushed");
    world.bucket.flush_all().unwrap();
    assert!(is_persisted(within) && is_persisted(whole));
}

#[test]
fn h32_a_revert_fails_those_who_wait_for_the_window_and_nobody_else() {
    let world = World::new();
    world.set("k", "before");
    world.bucket.start_update(now(0)).unwrap();
    let barrier = open(&world);
    // Over several checkpoints.
    (0..25).for_each(|number| world.set(&format!("k{number}"), "window"));
    let last = open(&world);
    let within = [wait(&world, 2), wait(&world, 26)];
    let whole = [checkpoint(&world, barrier), checkpoint(&world, last)];
    let (before, mut after) = (wait(&world, 1), wait(&world, 27));
    let framed = checkpoint(&world, CheckpointId(barrier.0 - 1));
    world.revert();
    assert!(within.into_iter().chain(whole).all(is_undone));
    assert!(is_persisted(before) && is_persisted(framed));
    assert!(is_pending(&mut after));
    world.set("k", "after");
    world.bucket.flush_all().unwrap();
    assert!(is_persisted(after));
    // Who asks later is told the same, though the log counts them as persisted.
    assert!(is_undone(wait(&world, 2)) && is_undone(wait(&world, 26)));
    assert!(is_undone(checkpoint(&world, last)));
    assert!(is_persisted(wait(&world, 1)) && is_persisted(wait(&world, 27)));
}

#[test]
fn h32_a_revert_that_is_refused_fails_nobody() {
    let world = World::new();
    world.set("k", "before");
    world.bucket.start_update(now(0)).unwrap();
    world.set("k", "window");
    let mut within = wait(&world, 2);
    world.disk.fail_after(0, Fault::Nothing);
    world.bucket.revert_update(now(0), || now(0)).unwrap_err();
    assert!(is_pending(&mut within));
    world.revert();
    assert!(is_undone(within));
}

#[test]
fn h32_a_replica_fails_those_who_wait_for_the_window_too() {
    let world = World::new();
    world.set("k", "before");
    let mut replica = world.replica();
    replica.follow(&world);
    world.bucket.start_update(now(0)).unwrap();
    world.set("k", "window");
    replica.follow(&world);
    let (before, within) = (wait(&replica, 1), wait(&replica, 2));
    world.revert();
    replica.follow(&world);
    assert!(is_persisted(before) && is_undone(within));
}

#[test]
fn waiting_ends_at_the_deadline() {
    let world = World::new();
    world.set("k", "v");
    let deadline = Some(Instant::ZERO + Duration::from_secs(5));
    let mut future = world.bucket.persisted(V, Goal::Seqno(Seqno(1)), deadline).unwrap();
    world.bucket.tick(now(4));
    assert!(is_pending(&mut future));
    world.bucket.tick(now(5));
    assert!(matches!(poll(&mut future), Poll::Ready(Err(Error::TimedOut))));
}

#[test]
fn places_to_wait_are_limited_and_a_dropped_future_gives_its_place_back() {
    let limits = BucketLimits { waiters_max: 2, ..limits() };
    let bucket = Bucket::open(cuttlebone_bucket::engine::MemoryEngine::default(), limits, now(0), 1).unwrap();
    bucket.create(V, now(0), VbucketState::Active).unwrap();
    let wait = || bucket.persisted(V, Goal::Seqno(Seqno(1)), None);
    let (one, two) = (wait().unwrap(), wait().unwrap());
    assert!(matches!(wait(), Err(Error::TooManyParked { limit: 2 })));
    drop(one);
    let three = wait().unwrap();
    assert!(wait().is_err());
    bucket.set(V, now(0), Item::set(b"k", b"v").unwrap(), Mode::Set).unwrap();
    bucket.flush().unwrap();
    assert!(is_persisted(two) && is_persisted(three));
    assert!(is_persisted(wait().unwrap()));
}

#[test]
fn what_is_cleared_or_gone_is_not_waited_for() {
    let world = World::new();
    world.set("k", "v");
    world.bucket.flush_all().unwrap();
    world.set("k", "w");
    let cleared = wait(&world, 2);
    world.bucket.clear(now(0)).unwrap();
    assert!(is_undone(cleared) && is_undone(wait(&world, 2)));
    assert!(is_persisted(wait(&world, 1)), "it was durable before");
    let mut dead = wait(&world, 99);
    world.bucket.set_state(V, now(0), VbucketState::Dead).unwrap();
    assert!(matches!(poll(&mut dead), Poll::Ready(Err(Error::NotMyVbucket))));
    assert!(world.bucket.persisted(V, Goal::Seqno(Seqno(1)), None).is_err());
    world.bucket.set_state(V, now(0), VbucketState::Active).unwrap();
    let mut gone = wait(&world, 99);
    world.bucket.remove(V, now(0)).unwrap();
    assert!(matches!(poll(&mut gone), Poll::Ready(Err(Error::NotMyVbucket))));
    assert!(world.bucket.persisted(V, Goal::Seqno(Seqno(1)), None).is_err());
}

#[test]
fn a_replica_that_starts_anew_fails_those_who_wait() {
    let world = World::new();
    let replica = world.replica();
    let waiting = wait(&replica, 5);
    replica.bucket.apply(V, now(0), Event::Rollback).unwrap();
    assert!(is_undone(waiting));
}
