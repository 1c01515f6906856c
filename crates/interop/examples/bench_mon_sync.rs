//! A monitor's store over the wire, beside a real fresh `ceph-mon` that synchronises from the same provider in the
//! same run: `cargo xtask bench mon-sync --json`.
//!
//! One JSON object a line. Ratios are of medians: how many times as fast as the real requester we are. The real
//! one's time is what its own log says between `sync_start` and `sync_finish`; ours is what `mon backup` reports,
//! from dialling to a durable point, index and checks included.

use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use cuttlebone_testkit::{Cluster, Deadline, Fill, Mon, free_port};
use cuttlebone_wire::{AddrKind, EntityAddr, EntityAddrs};
use serde_json::{Value, json};

/// What one store is filled with.
struct Case {
    name: &'static str,
    keys: u64,
    value_bytes: usize,
    /// How long the network takes in each direction.
    delay: Option<Duration>,
}

/// The cases of the acceptance criteria; the last one crosses a round trip of 20 ms.
const CASES: &[Case] = &[
    Case { name: "64KiB", keys: 16_000, value_bytes: 65_536, delay: None },
    Case { name: "1KiB", keys: 300_000, value_bytes: 1_024, delay: None },
    Case { name: "200B", keys: 1_000_000, value_bytes: 200, delay: None },
    Case { name: "64KiB-rtt20ms", keys: 4_800, value_bytes: 65_536, delay: Some(Duration::from_millis(10)) },
];
/// How often each is measured; the median counts.
const ROUNDS: usize = 3;
/// Commits before the measurement, so that versions have been trimmed.
const COMMITS: u64 = 60;
/// How long one synchronisation may take.
const SYNC_TIMEOUT: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    let only: Vec<_> = std::env::args().skip(1).collect();
    for case in CASES.iter().filter(|case| only.is_empty() || only.iter().any(|name| name == case.name)) {
        println!("{}", measure(case)?);
    }
    Ok(())
}

fn measure(case: &Case) -> Result<Value> {
    let fill = Fill { keys: case.keys, value_bytes: case.value_bytes, seed: 1 };
    // A fresh monitor copies the whole store only from a provider that has trimmed its first versions.
    let mut builder = Cluster::builder().fill(fill).option("paxos_min", "5").option("paxos_trim_min", "5");
    if let Some(delay) = case.delay {
        builder = builder.delay(delay);
    }
    let cluster = builder.start()?;
    cluster.commits("warm-up", COMMITS, 10)?;
    let source = cluster.mon("a");
    let scratch = tempfile::tempdir()?;
    let mut real = Vec::new();
    let mut ours = Vec::new();
    let (mut for_real, mut for_us) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let before = cpu_seconds(&source)?;
        real.push(real_requester(&cluster, source.addrs())?);
        let between = cpu_seconds(&source)?;
        let store = scratch.path().join(format!("copy-{round}"));
        ours.push(backup(&source.addr(), &store)?);
        for_real.push(between - before);
        for_us.push(cpu_seconds(&source)? - between);
        if round + 1 < ROUNDS {
            fs::remove_dir_all(&store)?;
        }
    }
    let mut from_us = Vec::new();
    let mut ours_from_us = Vec::new();
    if case.delay.is_none() {
        let provider = Provider::start(&scratch.path().join(format!("copy-{}", ROUNDS - 1)))?;
        for _ in 0..ROUNDS {
            from_us.push(real_requester(&cluster, &provider.addrs)?);
            let store = scratch.path().join("copy-of-a-copy");
            ours_from_us.push(backup(&provider.addrs.legacy_or_first(), &store)?);
            fs::remove_dir_all(&store)?;
        }
    }
    let seconds = |runs: &[Run]| runs.iter().map(|run| run.seconds).collect::<Vec<_>>();
    let bytes = ours[0].bytes;
    let (real_median, our_median) = (median(&seconds(&real)), median(&seconds(&ours)));
    let our_cpu = median(&ours.iter().map(|run| run.cpu_seconds).collect::<Vec<_>>());
    let real_cpu = median(&real.iter().map(|run| run.cpu_seconds).collect::<Vec<_>>());
    let mut line = json!({
        "schema": 1,
        "bench": "mon-sync",
        "case": case.name,
        "bytes": bytes,
        "keys": ours[0].keys,
        "real_seconds": seconds(&real),
        "our_seconds": seconds(&ours),
        "times_as_fast": real_median / our_median,
        "our_bytes_per_second": bytes / our_median,
        "our_cpu_seconds": our_cpu,
        "our_cpu_seconds_per_gb": our_cpu / bytes * 1e9,
        "real_cpu_seconds": real_cpu,
        "provider_cpu_seconds_for_real": median(&for_real),
        "provider_cpu_seconds_for_us": median(&for_us),
        "our_memory_bytes_max": ours.iter().map(|run| run.memory_bytes_max).max(),
    });
    if !from_us.is_empty() {
        line["real_from_us_seconds"] = json!(seconds(&from_us));
        line["our_from_us_seconds"] = json!(seconds(&ours_from_us));
        line["provider_times_as_fast"] = json!(real_median / median(&seconds(&from_us)));
    }
    Ok(line)
}

/// One synchronisation.
struct Run {
    seconds: f64,
    cpu_seconds: f64,
    bytes: f64,
    keys: u64,
    memory_bytes_max: u64,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// A fresh real monitor synchronises from `provider`; then it is gone again.
fn real_requester(cluster: &Cluster, provider: &EntityAddrs) -> Result<Run> {
    let fresh = cluster.fresh_mon("x", &[("source", provider)])?;
    let seen = fresh.log().lines().count();
    fresh.start()?;
    fresh.wait_for_log(seen, " full", SYNC_TIMEOUT)?;
    let end = fresh.wait_for_log(seen, "sync_finish", SYNC_TIMEOUT)?;
    let start = fresh.wait_for_log(seen, "sync_start", SYNC_TIMEOUT)?;
    let cpu_seconds = cpu_seconds(&fresh)?;
    fresh.kill()?;
    let seconds = stamp(&end)? - stamp(&start)?;
    Ok(Run { seconds, cpu_seconds, bytes: 0.0, keys: 0, memory_bytes_max: 0 })
}

/// Seconds since midnight, from a log line `2026-11-20T09:31:11.123+0000 …`.
fn stamp(line: &str) -> Result<f64> {
    let time = line.split_once('T').and_then(|(_, rest)| rest.split(['+', '-', ' ']).next());
    let mut parts = time.into_iter().flat_map(|time| time.split(':')).map(str::parse::<f64>);
    let mut next = || parts.next().and_then(Result::ok).with_context(|| format!("no time in {line}"));
    Ok(next()? * 3600.0 + next()? * 60.0 + next()?)
}

/// What a process has used so far, from `/proc`; it may be gone already, as one that is in no map soon is.
#[expect(clippy::cast_precision_loss, reason = "a benchmark's figures need no more than 52 bits")]
fn cpu_seconds(mon: &Mon) -> Result<f64> {
    let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", mon.pid()?)) else {
        return Ok(f64::NAN);
    };
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // Linux counts in hundredths of a second for user space, whatever its own tick is.
    Ok(fields.iter().sum::<u64>() as f64 / 100.0)
}

/// The program under test, built by `cargo xtask bench`.
fn cuttlebone() -> Command {
    let target = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.to_path_buf()));
    Command::new(target.unwrap_or_else(|| PathBuf::from("target/release")).join("cuttlebone"))
}

fn backup(source: &EntityAddr, store: &Path) -> Result<Run> {
    let mut command = cuttlebone();
    command.args(["mon", "backup", "--json", "--mon", &source.to_string(), "--store"]).arg(store);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    let summary: Value = serde_json::from_slice(&output.stdout)?;
    let float = |key: &str| summary[key].as_f64().with_context(|| format!("no {key} in {summary}"));
    let number = |key: &str| summary[key].as_u64().with_context(|| format!("no {key} in {summary}"));
    Ok(Run {
        seconds: float("seconds")?,
        cpu_seconds: float("cpu_seconds")?,
        bytes: float("bytes")?,
        keys: number("keys")?,
        memory_bytes_max: number("memory_bytes_max")?,
    })
}

/// `mon serve` on a free port, until it is dropped.
struct Provider {
    child: Child,
    addrs: EntityAddrs,
}

impl Provider {
    fn start(store: &Path) -> Result<Self> {
        let addr = format!("127.0.0.1:{}", free_port()?);
        let mut command = cuttlebone();
        command.args(["mon", "serve", "--quiet", "--listen", &addr, "--store"]).arg(store);
        let child = command.stdout(Stdio::null()).spawn().with_context(|| format!("{command:?}"))?;
        let socket = addr.parse()?;
        let provider = Self { child, addrs: EntityAddr::new(AddrKind::MSGR2, socket, 0).into() };
        Deadline::after(SYNC_TIMEOUT)
            .wait_for("the provider listens", || std::net::TcpStream::connect(socket).ok().map(drop))?;
        Ok(provider)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
