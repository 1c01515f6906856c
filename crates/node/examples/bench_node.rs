//! Measures the start of a node with a million items, and how fast another node gets them over a link; and beside it what
//! one would otherwise do: redb read into a map, and the same bytes over plain TCP into a file.
//!
//! `cargo run --release --example bench_node -- [--json] [--items N] [--dir FOLDER]`

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant as Clock;

use anyhow::{Context, Result};
use cuttlebone_bucket::engine::LogEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Goal, Mode, Now, RunnerConfig, VbucketState};
use cuttlebone_checkpoint::{Item, Seqno};
use cuttlebone_http::status::Stage;
use cuttlebone_node::{Follow, Handle, Node, NodeBucket, Replicas};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const VALUE: [u8; 100] = [b'v'; 100];
const KEY_BYTES: usize = 32;
const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// Items that go to redb at once, as many as a bucket flushes at once in its own benchmark.
const BATCH: u64 = 20_000;
const LOOK_EVERY: Duration = Duration::from_millis(1);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| {
        arguments.iter().position(|argument| argument == flag).and_then(|at| arguments.get(at + 1)).cloned()
    };
    let items =
        after("--items").map_or(Ok(1_000_000), |items| items.parse()).context("--items takes a number")?;
    let folder = tempfile::tempdir_in(after("--dir").unwrap_or_else(|| ".".into()))?;
    let (origin, replica) = (folder.path().join("origin"), folder.path().join("replica"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    fill(&runtime, &origin, items)?;
    let by_hand = redb_start(&folder.path().join("by-hand.redb"), items)?;
    let (start, replication) = runtime.block_on(nodes(&origin, &replica, items))?;
    let copy = tcp_copy(&folder.path().join("copy"), items)?;
    let rows = tcp_into_redb(&folder.path().join("copy.redb"), items)?;
    let ratio = |of: &Value, to: &Value, figure: &str| {
        of[figure].as_f64().unwrap_or_default() / to[figure].as_f64().unwrap_or(1.0)
    };
    let result = json!({
        "schema": 1,
        "bench": "node",
        "items": items,
        "targets": { "start_s": 2.0 },
        "start_times_redb": ratio(&start, &by_hand, "s"),
        "replication_times_tcp_copy": ratio(&replication, &copy, "durable_s"),
        "replication_times_tcp_into_redb": ratio(&replication, &rows, "durable_s"),
        "start": start,
        "redb_into_a_map": by_hand,
        "replication": replication,
        "tcp_copy": copy,
        "tcp_into_redb": rows,
    });
    if arguments.iter().any(|argument| argument == "--json") {
        println!("{result}");
    } else {
        println!("{result:#}");
    }
    Ok(())
}

/// Scattered over the whole range, as the keys of clients are.
fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [b'k'; KEY_BYTES];
    key[24..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

/// How long something took, of the clock and of all cores.
struct Span {
    since: Clock,
    cpu: Duration,
}

impl Span {
    fn begin() -> Self {
        Self { since: Clock::now(), cpu: process_cpu() }
    }

    fn end(&self, items: u64) -> Value {
        let (took, cpu) = (self.since.elapsed(), process_cpu().saturating_sub(self.cpu));
        json!({
            "s": took.as_secs_f64(),
            "items_per_s": items as f64 / took.as_secs_f64(),
            "process_cpu_us_per_item": cpu.as_secs_f64() * 1e6 / items as f64,
        })
    }
}

fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn open(folder: &Path) -> Result<NodeBucket> {
    Ok(Bucket::open(LogEngine::open(folder)?, BucketLimits::default(), Now::default(), 7)?)
}

fn fill(runtime: &Runtime, folder: &Path, items: u64) -> Result<()> {
    let bucket = open(folder)?;
    bucket.create(0, Now::default(), VbucketState::Active)?;
    let runner = bucket.run(RunnerConfig::default(), Now::default)?;
    for number in 0..items {
        bucket.set(0, Now::default(), Item::set(&key(number), &VALUE)?, Mode::Set)?;
        if number % 10_000 == 0 {
            // The disk keeps up.
            let goal = Goal::Seqno(Seqno(number.saturating_sub(100_000)));
            runtime.block_on(bucket.persisted(0, goal, None)?)?;
        }
    }
    runner.stop(Duration::from_secs(60))?;
    Ok(())
}

/// A node at work.
struct Live {
    handle: Handle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), cuttlebone_node::Error>>,
}

impl Live {
    async fn start(folder: &Path, origin: Option<SocketAddr>) -> Result<(Self, NodeBucket)> {
        let folder = folder.to_owned();
        let bucket = tokio::task::spawn_blocking(move || open(&folder)).await??;
        let mut builder = Node::builder().bucket(bucket.clone());
        builder = match origin {
            None => builder.listen(([127, 0, 0, 1], 0).into()).sink(Replicas::new()),
            Some(origin) => builder.source(Follow::node(origin)),
        };
        let node = builder.build()?;
        let (handle, (stop, stopped)) = (node.handle(), oneshot::channel::<()>());
        let task = tokio::spawn(node.run(async { drop(stopped.await) }));
        let live = Self { handle, stop, task };
        let serves = |handle: &Handle| {
            handle.status().node.stage == Stage::Serving && (origin.is_some() || handle.listening().is_some())
        };
        while !serves(&live.handle) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok((live, bucket))
    }

    async fn stop(self) -> Result<()> {
        drop(self.stop);
        Ok(self.task.await??)
    }
}

/// The start of the origin until it serves, and that of an empty replica until it serves and has everything on its disk.
async fn nodes(origin: &Path, replica: &Path, items: u64) -> Result<(Value, Value)> {
    let span = Span::begin();
    let (live, _bucket) = Live::start(origin, None).await?;
    let start = span.end(items);
    let address = live.handle.listening().and_then(|addrs| addrs.msgr2()?.socket_addr());
    let span = Span::begin();
    let (follower, copy) = Live::start(replica, Some(address.context("an address")?)).await?;
    let mut replication = span.end(items);
    copy.persisted(0, Goal::Seqno(Seqno(items)), None)?.await?;
    replication["durable_s"] = span.end(items)["s"].take();
    let bytes = items * (KEY_BYTES + VALUE.len()) as u64;
    let seconds = replication["s"].as_f64().unwrap_or(1.0);
    replication["mib_per_s"] = json!(bytes as f64 / f64::from(1 << 20) / seconds);
    follower.stop().await?;
    live.stop().await?;
    Ok((start, replication))
}

/// The same items in redb: opening it, and reading them into a map.
fn redb_start(file: &Path, items: u64) -> Result<Value> {
    let database = Database::create(file)?;
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for number in 0..items {
            table.insert(&key(number)[..], &VALUE[..])?;
        }
    }
    transaction.commit()?;
    drop(database);
    let span = Span::begin();
    let database = Database::open(file)?;
    let transaction = database.begin_read()?;
    let mut map: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    for row in transaction.open_table(TABLE)?.iter()? {
        let (key, value) = row?;
        map.insert(key.value().to_vec(), value.value().to_vec());
    }
    let figures = span.end(map.len() as u64);
    Ok(figures)
}

/// Sends every item over TCP, from a thread of its own.
fn send(items: u64) -> Result<(TcpStream, std::thread::JoinHandle<Result<()>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let sender = std::thread::spawn(move || -> Result<()> {
        let mut stream = BufWriter::with_capacity(256 << 10, listener.accept()?.0);
        for number in 0..items {
            stream.write_all(&key(number))?;
            stream.write_all(&VALUE)?;
        }
        Ok(stream.flush()?)
    });
    Ok((TcpStream::connect(address)?, sender))
}

fn finish(sender: std::thread::JoinHandle<Result<()>>) -> Result<()> {
    sender.join().map_err(|_| anyhow::anyhow!("the sender broke off"))?
}

/// The same bytes over TCP, written to a file as they come, and on the disk in the end.
fn tcp_copy(file: &Path, items: u64) -> Result<Value> {
    let span = Span::begin();
    let ((mut stream, sender), mut file) = (send(items)?, File::create(file)?);
    let mut bytes = vec![0; 256 << 10];
    loop {
        match stream.read(&mut bytes)? {
            0 => break,
            len => file.write_all(bytes.get(..len).unwrap_or_default())?,
        }
    }
    file.sync_all()?;
    let mut figures = span.end(items);
    figures["durable_s"] = figures["s"].clone();
    finish(sender)?;
    Ok(figures)
}

/// The same items over TCP into a map and, a batch at a time, into redb: something to look items up in afterwards.
fn tcp_into_redb(file: &Path, items: u64) -> Result<Value> {
    let span = Span::begin();
    let ((stream, sender), database) = (send(items)?, Database::create(file)?);
    let mut stream = BufReader::with_capacity(256 << 10, stream);
    let mut map = HashMap::new();
    let (mut key, mut value) = ([0; KEY_BYTES], [0; VALUE.len()]);
    while (map.len() as u64) < items {
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for _ in 0..BATCH.min(items - map.len() as u64) {
                stream.read_exact(&mut key)?;
                stream.read_exact(&mut value)?;
                table.insert(&key[..], &value[..])?;
                map.insert(key.to_vec(), value.to_vec());
            }
        }
        transaction.commit()?;
    }
    let mut figures = span.end(items);
    figures["durable_s"] = figures["s"].clone();
    finish(sender)?;
    Ok(figures)
}
