//! The threads that keep a bucket going: D7, failing disks, and values that are read in the background.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

use core::ops::Range;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::sync::{Arc, Condvar, Mutex};

use cuttlebone_bucket::engine::{
    Engine, EngineError, Fault, MemoryEngine, MemorySnapshot, RowAt, WriteBatch,
};
use cuttlebone_bucket::{
    Bucket, BucketLimits, Error, FlusherState, Goal, Mode, Now, RunnerConfig, Stopped, VbucketState,
};
use cuttlebone_checkpoint::{Item, Seqno};
use futures::executor::block_on;

const V: u16 = 0;
const PATIENCE: Duration = Duration::from_secs(20);

fn now() -> Now {
    Now::default()
}

fn config() -> RunnerConfig {
    RunnerConfig { gather: Duration::ZERO, retry: Duration::from_millis(1), ..RunnerConfig::default() }
}

fn open<E: Engine>(engine: E) -> Bucket<E> {
    let bucket = Bucket::open(engine, BucketLimits::default(), now(), 1).unwrap();
    if bucket.vbuckets().is_empty() {
        bucket.create(V, now(), VbucketState::Active).unwrap();
    }
    bucket
}

fn set<E: Engine>(bucket: &Bucket<E>, key: &str) -> Seqno {
    bucket.set(V, now(), Item::set(key.as_bytes(), b"v").unwrap(), Mode::Set).unwrap().seqno
}

fn wait<E: Engine>(bucket: &Bucket<E>, seqno: Seqno) {
    block_on(bucket.persisted(V, Goal::Seqno(seqno), None).unwrap()).unwrap();
}

fn items(disk: &MemoryEngine) -> usize {
    open(disk.detached()).status(V).unwrap().items
}

#[test]
fn changes_are_flushed_without_anybody_asking() {
    let disk = MemoryEngine::default();
    let bucket = open(disk.clone());
    let runner = bucket.run(config(), now).unwrap();
    for number in 0..100 {
        wait(&bucket, set(&bucket, &number.to_string()));
    }
    assert_eq!(items(&disk), 100);
    // The figures follow the commit, and whoever waits for that may be quicker.
    while runner.status().mutations < 100 {
        std::thread::yield_now();
    }
    let status = runner.status();
    assert_eq!((status.mutations, status.failures), (100, 0));
    assert_eq!(runner.stop(PATIENCE).unwrap(), Stopped { of_window: 0 });
}

#[test]
fn d07_stopping_flushes_to_the_end() {
    let disk = MemoryEngine::default();
    let bucket = open(disk.clone());
    let runner = bucket.run(config(), now).unwrap();
    for number in 0..12_000 {
        set(&bucket, &number.to_string());
    }
    runner.stop(PATIENCE).unwrap();
    assert_eq!(items(&disk), 12_000);
    // And another can go on.
    let runner = bucket.run(config(), now).unwrap();
    wait(&bucket, set(&bucket, "more"));
    runner.stop(PATIENCE).unwrap();
}

#[test]
fn d07_stopping_in_a_window_leaves_what_was_before_it() {
    let disk = MemoryEngine::default();
    let bucket = open(disk.clone());
    let runner = bucket.run(config(), now).unwrap();
    set(&bucket, "before");
    bucket.start_update(now()).unwrap();
    set(&bucket, "one");
    set(&bucket, "two");
    assert_eq!(runner.stop(PATIENCE).unwrap(), Stopped { of_window: 2 });
    assert_eq!(items(&disk), 1);
}

#[test]
fn a_full_disk_is_tried_again_until_it_has_room() {
    let disk = MemoryEngine::default();
    let bucket = open(disk.clone());
    let runner = bucket.run(config(), now).unwrap();
    disk.set_full(true);
    let seqno = set(&bucket, "k");
    let error = loop {
        match runner.status().flusher {
            FlusherState::Retrying { failures, error } if failures > 3 => break error,
            _ => std::thread::yield_now(),
        }
    };
    assert_eq!(error, "storage engine: injected: the disk is full");
    assert_eq!(bucket.get(V, now(), b"k").unwrap().item.seqno(), seqno, "memory serves on");
    disk.set_full(false);
    wait(&bucket, seqno);
    assert!(runner.status().failures > 3);
    assert_eq!(items(&disk), 1);
    runner.stop(PATIENCE).unwrap();
}

#[test]
fn stopping_gives_a_failing_disk_some_time_and_then_says_so() {
    let disk = MemoryEngine::default();
    let bucket = open(disk.clone());
    let runner = bucket.run(config(), now).unwrap();
    disk.set_full(true);
    set(&bucket, "k");
    assert!(matches!(runner.stop(Duration::from_millis(5)), Err(Error::Engine(_))));
    assert_eq!(items(&disk), 0);
    // Nothing was forgotten.
    disk.set_full(false);
    bucket.flush_all().unwrap();
    assert_eq!(items(&disk), 1);
}

#[test]
fn a_lost_answer_at_the_end_is_asked_for_again() {
    let disk = MemoryEngine::default();
    let bucket = open(disk.clone());
    bucket.flush_all().unwrap();
    disk.fail_after(0, Fault::Done);
    let runner = bucket.run(config(), now).unwrap();
    set(&bucket, "k");
    runner.stop(PATIENCE).unwrap();
    assert_eq!(items(&disk), 1);
}

#[test]
fn an_operator_pauses_and_resumes() {
    let disk = MemoryEngine::default();
    let bucket = open(disk.clone());
    let runner = bucket.run(config(), now).unwrap();
    bucket.pause();
    let seqno = set(&bucket, "k");
    while runner.status().flusher != FlusherState::Paused {
        set(&bucket, "poke");
        std::thread::yield_now();
    }
    bucket.resume();
    wait(&bucket, seqno);
    runner.stop(PATIENCE).unwrap();
    bucket.pause();
    let runner = bucket.run(config(), now).unwrap();
    assert!(matches!(runner.stop(PATIENCE), Err(Error::Paused)));
}

#[test]
fn one_runner_at_a_time_and_a_dropped_one_ends_by_itself() {
    let bucket = open(MemoryEngine::default());
    let runner = bucket.run(config(), now).unwrap();
    assert!(matches!(bucket.run(config(), now), Err(Error::Misuse(_))));
    drop(runner);
    loop {
        match bucket.run(config(), now) {
            Ok(runner) => {
                runner.stop(PATIENCE).unwrap();
                return;
            }
            Err(_) => std::thread::yield_now(),
        }
    }
}

/// A disk whose reads wait until they are let through.
#[derive(Clone, Debug, Default)]
struct Gated {
    disk: MemoryEngine,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

#[derive(Debug, Default)]
struct Gate {
    open: bool,
    waiting: usize,
    reads: usize,
}

impl Gated {
    fn let_through(&self) {
        self.gate.0.lock().unwrap().open = true;
        self.gate.1.notify_all();
    }

    fn wait_for_a_read(&self) {
        let gate = self.gate.0.lock().unwrap();
        drop(self.gate.1.wait_while(gate, |gate| gate.waiting == 0).unwrap());
    }
}

impl Engine for Gated {
    type Snapshot = MemorySnapshot;

    fn apply(&self, batch: &WriteBatch) -> Result<u64, EngineError> {
        self.disk.apply(batch)
    }

    fn row(&self, at: RowAt) -> Result<Option<Vec<u8>>, EngineError> {
        let mut gate = self.gate.0.lock().unwrap();
        gate.waiting += 1;
        gate.reads += 1;
        self.gate.1.notify_all();
        let mut gate = self.gate.1.wait_while(gate, |gate| !gate.open).unwrap();
        gate.waiting -= 1;
        drop(gate);
        self.disk.row(at)
    }

    fn snapshot(&self) -> Result<MemorySnapshot, EngineError> {
        self.disk.snapshot()
    }

    fn documents(&self) -> Result<Vec<(u16, Vec<u8>)>, EngineError> {
        self.disk.documents()
    }

    fn span(&self) -> Range<u64> {
        self.disk.span()
    }
}

/// A bucket with one key whose value is on the disk only.
fn evicted() -> (Bucket<Gated>, Gated) {
    let disk = Gated::default();
    let bucket = open(disk.clone());
    set(&bucket, "cold");
    bucket.flush_all().unwrap();
    bucket.evict(V, now(), b"cold").unwrap();
    (bucket, disk)
}

#[test]
fn nobody_waits_for_a_value_that_somebody_else_reads() {
    let (bucket, disk) = evicted();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| bucket.get(V, now(), b"cold").unwrap());
        disk.wait_for_a_read();
        // The vbucket is free meanwhile, also for a flush.
        set(&bucket, "warm");
        bucket.get(V, now(), b"warm").unwrap();
        bucket.flush_all().unwrap();
        disk.let_through();
        assert_eq!(reader.join().unwrap().item.value(), b"v");
    });
}

#[test]
fn an_asynchronous_operation_never_reads_the_disk_itself() {
    let (bucket, disk) = evicted();
    let runner = bucket.run(RunnerConfig { readers: 1, ..config() }, now).unwrap();
    let waker = Waker::noop();
    let mut cx = Context::from_waker(waker);
    let mut get = Box::pin(bucket.wait(V, |bucket| bucket.get(V, now(), b"cold")));
    let mut append = Box::pin(bucket.wait(V, |bucket| bucket.append(V, now(), b"cold", b"!", None)));
    let cancelled = {
        let mut cancelled = Box::pin(bucket.wait(V, |bucket| bucket.get(V, now(), b"cold")));
        cancelled.as_mut().poll(&mut cx).is_pending()
    };
    assert!(
        get.as_mut().poll(&mut cx).is_pending() && append.as_mut().poll(&mut cx).is_pending() && cancelled
    );
    disk.wait_for_a_read();
    assert!(get.as_mut().poll(&mut cx).is_pending());
    disk.let_through();
    assert_eq!(block_on(get).unwrap().item.value(), b"v");
    block_on(append).unwrap();
    assert_eq!(disk.gate.0.lock().unwrap().reads, 1, "one read served them all");
    assert_eq!(bucket.get(V, now(), b"cold").unwrap().item.value(), b"v!");
    runner.stop(PATIENCE).unwrap();
}

#[test]
fn without_a_runner_an_asynchronous_operation_reads_the_disk() {
    let (bucket, disk) = evicted();
    disk.let_through();
    assert_eq!(block_on(bucket.wait(V, |bucket| bucket.get(V, now(), b"cold"))).unwrap().item.value(), b"v");
}

#[test]
fn what_the_disk_says_reaches_one_and_the_others_ask_again() {
    let (bucket, disk) = evicted();
    let runner = bucket.run(RunnerConfig { readers: 1, ..config() }, now).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut gets: Vec<_> =
        (0..3).map(|_| Box::pin(bucket.wait(V, |bucket| bucket.get(V, now(), b"cold")))).collect();
    assert!(gets.iter_mut().all(|get| get.as_mut().poll(&mut cx).is_pending()));
    disk.wait_for_a_read();
    disk.disk.fail_after(0, Fault::Nothing);
    disk.let_through();
    let outcomes: Vec<_> = gets.into_iter().map(block_on).collect();
    let failed = outcomes.iter().filter(|outcome| matches!(outcome, Err(Error::Engine(_)))).count();
    assert_eq!((failed, outcomes.len()), (1, 3), "{outcomes:?}");
    runner.stop(PATIENCE).unwrap();
}

#[test]
fn reads_in_the_background_are_limited() {
    let disk = Gated::default();
    let limits = BucketLimits { fetches_max: 1, ..BucketLimits::default() };
    let bucket = Bucket::open(disk.clone(), limits, now(), 1).unwrap();
    bucket.create(V, now(), VbucketState::Active).unwrap();
    for key in ["a", "b"] {
        set(&bucket, key);
        bucket.flush_all().unwrap();
        bucket.evict(V, now(), key.as_bytes()).unwrap();
    }
    let runner = bucket.run(config(), now).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut first = Box::pin(bucket.wait(V, |bucket| bucket.get(V, now(), b"a")));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let mut second = Box::pin(bucket.wait(V, |bucket| bucket.get(V, now(), b"b")));
    let refused = second.as_mut().poll(&mut cx);
    assert!(matches!(refused, Poll::Ready(Err(Error::TooManyParked { limit: 1 }))), "{refused:?}");
    disk.let_through();
    block_on(first).unwrap();
    // What was asked for before the end is served.
    let mut last = Box::pin(bucket.wait(V, |bucket| bucket.get(V, now(), b"b")));
    let at_once = last.as_mut().poll(&mut cx);
    runner.stop(PATIENCE).unwrap();
    match at_once {
        Poll::Ready(found) => found.unwrap(),
        Poll::Pending => block_on(last).unwrap(),
    };
}

#[test]
fn those_who_wait_for_one_value_are_limited_also_when_they_have_given_up() {
    let disk = Gated::default();
    let limits = BucketLimits { fetches_max: 3, ..BucketLimits::default() };
    let bucket = Bucket::open(disk.clone(), limits, now(), 1).unwrap();
    bucket.create(V, now(), VbucketState::Active).unwrap();
    set(&bucket, "cold");
    bucket.flush_all().unwrap();
    bucket.evict(V, now(), b"cold").unwrap();
    let runner = bucket.run(config(), now).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut ask = || Box::pin(bucket.wait(V, |bucket| bucket.get(V, now(), b"cold"))).as_mut().poll(&mut cx);
    let asked: Vec<_> = (0..4).map(|_| ask()).collect();
    assert!(asked.iter().take(3).all(Poll::is_pending), "{asked:?}");
    assert!(matches!(asked.last(), Some(Poll::Ready(Err(Error::TooManyParked { limit: 3 })))), "{asked:?}");
    disk.let_through();
    while ask().is_pending() {
        std::thread::yield_now();
    }
    assert_eq!(bucket.get(V, now(), b"cold").unwrap().item.value(), b"v");
    runner.stop(PATIENCE).unwrap();
}
