//! Measures a bucket on a real disk: durable sets a second, and how long a get takes while a flush is going on; and
//! beside it a map, a broadcast channel and the same storage engine by hand.
//!
//! `cargo run --release --example bench_bucket -- [--json] [--seconds N] [--dir FOLDER]`

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::path::Path;
use std::time::Instant as Clock;

use anyhow::{Context, Result};
use cuttlebone_bucket::engine::{Engine, RedbEngine, WriteBatch};
use cuttlebone_bucket::{Bucket, BucketLimits, Error, Mode, Now, VbucketState};
use cuttlebone_checkpoint::{Item, Limits};
use serde_json::{Value, json};

const KEYS: u64 = 1_000_000;
const VALUE: [u8; 100] = [b'v'; 100];

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
    let by_hand = by_hand(&folder.path().join("by-hand"), time)?;
    let result = json!({ "schema": 1, "bench": "bucket", "bucket": ours, "by_hand": by_hand });
    if arguments.iter().any(|argument| argument == "--json") {
        println!("{result}");
    } else {
        println!("{result:#}");
    }
    Ok(())
}

fn key(number: u64) -> [u8; 32] {
    let mut key = [b'k'; 32];
    key[24..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Distinct and old keys in turn, as many as the disk takes: the writer waits when the log is full.
fn bucket(folder: &Path, time: Duration) -> Result<Value> {
    let log = Limits { memory_max: 64 << 20, checkpoint_bytes_max: 8 << 20, ..Limits::default() };
    let limits = BucketLimits { log, flush_rows: 20_000, ..BucketLimits::default() };
    let now = Now::default();
    let bucket = Bucket::open(RedbEngine::open(folder)?, limits, now, 7)?;
    bucket.create(0, now, VbucketState::Active)?;
    let (done, sets, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let start = Clock::now();
    let (flushed, mut gets) = std::thread::scope(|scope| -> Result<(u64, Vec<u64>)> {
        let flusher = scope.spawn(|| -> Result<u64, Error> {
            let mut flushed = 0;
            while !done.load(Ordering::Acquire) {
                flushed += bucket.flush()?.mutations;
            }
            loop {
                let last = bucket.flush()?;
                flushed += last.mutations;
                if !last.more {
                    return Ok(flushed);
                }
            }
        });
        let reader = scope.spawn(|| {
            let (mut took, mut chance) = (Vec::new(), 1_u64);
            while !done.load(Ordering::Acquire) {
                chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let number = (chance >> 33) % KEYS.min(sets.load(Ordering::Relaxed).max(1));
                let begin = Clock::now();
                let found = bucket.get(0, now, &key(number));
                took.push(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
                drop(found);
                // A reader that takes all of a core would measure the writer's patience.
                std::thread::sleep(Duration::from_micros(100));
            }
            took
        });
        let mut number = 0;
        while start.elapsed() < time {
            for _ in 0..1000 {
                let item = Item::set(&key(number % KEYS), &VALUE)?;
                while let Err(error) = bucket.set(0, now, item.clone(), Mode::Set) {
                    anyhow::ensure!(matches!(error, Error::Temporary), "{error}");
                    refused.fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                }
                number += 1;
            }
            sets.store(number, Ordering::Relaxed);
        }
        done.store(true, Ordering::Release);
        let gets = reader.join().expect("the reader does not panic");
        Ok((flusher.join().expect("the flusher does not panic")?, gets))
    })?;
    let elapsed = start.elapsed().as_secs_f64();
    gets.sort_unstable();
    let percentile =
        |part: usize| gets.get(gets.len() * part / 1000).copied().unwrap_or_default() as f64 / 1000.0;
    Ok(json!({
        "durable_sets_per_s": sets.load(Ordering::Relaxed) as f64 / elapsed,
        "rows_flushed": flushed,
        "refused_for_a_moment": refused.load(Ordering::Relaxed),
        "gets": gets.len(),
        "get_us_p50": percentile(500),
        "get_us_p99": percentile(990),
        "get_us_p999": percentile(999),
    }))
}

/// A map under a lock, and every thousand writes one durable batch of the engine by key, as one would write it first.
fn by_hand(folder: &Path, time: Duration) -> Result<Value> {
    use std::collections::HashMap;
    let engine = RedbEngine::open(folder)?;
    let mut map: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let (start, mut number) = (Clock::now(), 0);
    while start.elapsed() < time {
        let mut batch = WriteBatch::default();
        for _ in 0..1000 {
            let key = key(number % KEYS);
            map.insert(key.to_vec(), VALUE.to_vec());
            // The rows of a table by key lie all over it.
            let place = (number % KEYS).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1;
            batch.append.push((place, [&key[..], &VALUE].concat()));
            number += 1;
        }
        batch.append.sort_unstable();
        engine.apply(&batch)?;
    }
    Ok(json!({ "durable_sets_per_s": number as f64 / start.elapsed().as_secs_f64() }))
}
