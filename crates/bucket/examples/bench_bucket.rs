//! Measures a bucket on a real disk: durable sets a second, and how long a get takes while a flush is going on; and
//! beside it what one would otherwise write: a map, a `tokio::sync::broadcast` channel and redb.
//!
//! `cargo run --release --example bench_bucket -- [--json] [--seconds N] [--dir FOLDER]`

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant as Clock;

use anyhow::{Context, Result};
use cuttlebone_bucket::engine::LogEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Error, Goal, Mode, Now, VbucketState};
use cuttlebone_checkpoint::{Item, Limits, Seqno};
use futures::executor::block_on;
use redb::{Database, Durability, TableDefinition};
use serde_json::{Value, json};
use tokio::sync::broadcast;

const KEYS: u64 = 1_000_000;
const VALUE: [u8; 100] = [b'v'; 100];
/// How far the writer may be ahead of the disk: both sides get the same.
const AHEAD: u64 = 100_000;
/// Sets between two looks at the clock.
const SLICE: u64 = 1000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| {
        arguments.iter().position(|argument| argument == flag).and_then(|at| arguments.get(at + 1)).cloned()
    };
    let seconds =
        after("--seconds").map_or(Ok(5), |seconds| seconds.parse()).context("--seconds takes a number")?;
    let parent = after("--dir").unwrap_or_else(|| ".".into());
    let folder = tempfile::tempdir_in(parent)?;
    let time = Duration::from_secs(seconds);
    let ours = bucket(&folder.path().join("bucket"), time)?;
    let by_hand = by_hand(&folder.path().join("by-hand.redb"), time)?;
    let targets = json!({ "durable_sets_per_s": 500_000, "get_us_p99": 50 });
    let ratio = ours["durable_sets_per_s"].as_f64().unwrap_or_default()
        / by_hand["durable_sets_per_s"].as_f64().unwrap_or(1.0);
    let result = json!({
        "schema": 1,
        "bench": "bucket",
        "targets": targets,
        "bucket": ours,
        "by_hand": by_hand,
        "times_by_hand": ratio,
    });
    if arguments.iter().any(|argument| argument == "--json") {
        println!("{result}");
    } else {
        println!("{result:#}");
    }
    Ok(())
}

/// Scattered over the whole range, as the keys of clients are.
fn key(number: u64) -> [u8; 32] {
    let mut key = [b'k'; 32];
    key[24..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

/// A key that was written, at random.
fn any_key(chance: &mut u64, written: u64) -> [u8; 32] {
    *chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    key((*chance >> 33) % KEYS.min(written.max(1)))
}

/// Nanoseconds that each get took while the rest was going on.
fn gets(done: &AtomicBool, written: &AtomicU64, mut get: impl FnMut(&[u8])) -> Vec<u64> {
    let (mut took, mut chance) = (Vec::new(), 1);
    while !done.load(Ordering::Acquire) {
        let key = any_key(&mut chance, written.load(Ordering::Relaxed));
        let begin = Clock::now();
        get(&key);
        took.push(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
        // A reader that takes all of a core would measure the writer's patience.
        std::thread::sleep(Duration::from_micros(100));
    }
    took
}

fn report(sets: u64, elapsed: Duration, cpu: Duration, mut gets: Vec<u64>) -> Value {
    gets.sort_unstable();
    let percentile =
        |part: usize| gets.get(gets.len() * part / 1000).copied().unwrap_or_default() as f64 / 1000.0;
    json!({
        "durable_sets_per_s": sets as f64 / elapsed.as_secs_f64(),
        "process_cpu_us_per_set": cpu.as_secs_f64() * 1e6 / sets as f64,
        "gets": gets.len(),
        "get_us_p50": percentile(500),
        "get_us_p99": percentile(990),
        "get_us_p999": percentile(999),
    })
}

fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Distinct and old keys in turn, as many as the disk takes. The time is over when the last one is durable.
fn bucket(folder: &Path, time: Duration) -> Result<Value> {
    let log = Limits { memory_max: 64 << 20, checkpoint_bytes_max: 8 << 20, ..Limits::default() };
    let limits = BucketLimits { log, flush_rows: 20_000, ..BucketLimits::default() };
    let now = Now::default();
    let bucket = Bucket::open(LogEngine::open(folder)?, limits, now, 7)?;
    bucket.create(0, now, VbucketState::Active)?;
    let (done, sets) = (AtomicBool::new(false), AtomicU64::new(0));
    let (start, cpu) = (Clock::now(), process_cpu());
    let gets = std::thread::scope(|scope| -> Result<Vec<u64>> {
        let flusher = scope.spawn(|| -> Result<(), Error> {
            while !done.load(Ordering::Acquire) {
                bucket.flush()?;
            }
            bucket.flush_all()
        });
        let reader = scope.spawn(|| gets(&done, &sets, |key| drop(bucket.get(0, now, key))));
        let mut number = 0;
        while start.elapsed() < time {
            for _ in 0..SLICE {
                let item = Item::set(&key(number % KEYS), &VALUE)?;
                bucket.set(0, now, item, Mode::Set)?;
                number += 1;
            }
            sets.store(number, Ordering::Relaxed);
            // A seqno for each set: the writer sleeps until the disk is near enough.
            block_on(bucket.persisted(0, Goal::Seqno(Seqno(number.saturating_sub(AHEAD))), None)?)?;
        }
        done.store(true, Ordering::Release);
        let gets = reader.join().expect("the reader does not panic");
        flusher.join().expect("the flusher does not panic")?;
        Ok(gets)
    })?;
    Ok(report(sets.into_inner(), start.elapsed(), process_cpu().saturating_sub(cpu), gets))
}

/// A map under a lock, a channel for whoever wants to know of changes, and a thread that takes what is there from it and
/// writes it to redb by key, durably.
fn by_hand(file: &Path, time: Duration) -> Result<Value> {
    const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
    type Map = HashMap<[u8; 32], [u8; 100]>;
    let database = Database::create(file)?;
    let map: Mutex<Map> = Mutex::default();
    let (sender, mut receiver) = broadcast::channel::<([u8; 32], [u8; 100])>(1 << 18);
    let (done, sets, rows) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (start, cpu) = (Clock::now(), process_cpu());
    let gets = std::thread::scope(|scope| -> Result<Vec<u64>> {
        let flusher = scope.spawn(|| -> Result<()> {
            loop {
                let finishing = done.load(Ordering::Acquire);
                let mut transaction = database.begin_write()?;
                transaction.set_durability(Durability::Immediate)?;
                transaction.set_quick_repair(true);
                let mut batch = 0;
                {
                    let mut table = transaction.open_table(TABLE)?;
                    while batch < 20_000
                        && let Ok((key, value)) = receiver.try_recv()
                    {
                        table.insert(&key[..], &value[..])?;
                        batch += 1;
                    }
                }
                transaction.commit()?;
                rows.fetch_add(batch, Ordering::Release);
                if batch == 0 && finishing {
                    return Ok(());
                }
            }
        });
        let reader = scope.spawn(|| {
            gets(&done, &sets, |key| {
                let _ = map.lock().expect("no thread panics").get(key).copied();
            })
        });
        let mut number = 0;
        while start.elapsed() < time {
            for _ in 0..SLICE {
                let key = key(number % KEYS);
                map.lock().expect("no thread panics").insert(key, VALUE);
                let _ = sender.send((key, VALUE));
                number += 1;
            }
            sets.store(number, Ordering::Relaxed);
            while number - rows.load(Ordering::Acquire) > AHEAD {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        done.store(true, Ordering::Release);
        let gets = reader.join().expect("the reader does not panic");
        flusher.join().expect("the flusher does not panic")?;
        Ok(gets)
    })?;
    Ok(report(sets.into_inner(), start.elapsed(), process_cpu().saturating_sub(cpu), gets))
}
