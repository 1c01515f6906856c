//! Measures what following a monitor for a long time costs: many small recent pulls, and opening the copy after them.
//!
//! `cargo run --release -p cuttlebone-store --example follow -- DIR [POINTS]` prints one JSON object.

use std::path::PathBuf;

use cuttlebone_store::{Keep, Limits, NewPoint, Pull, Reader, Selector, Writer};
use cuttlebone_wire::{Decode, Encode, Features, Op, Transaction};
use rustix::time::{ClockId, clock_gettime};

/// Keys that a version changes.
const CHANGES: u64 = 20;
/// Versions that the monitor keeps of its log.
const WINDOW: u64 = 500;

fn seconds(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    #[expect(clippy::cast_precision_loss, reason = "seconds and nanoseconds of a benchmark fit a double")]
    let seconds = now.tv_sec as f64 + now.tv_nsec as f64 / 1e9;
    seconds
}

fn pull(writer: &mut Writer, version: u64) -> anyhow::Result<f64> {
    let mut ops: Vec<Op> =
        (0..CHANGES).map(|n| Op::put("kv", format!("key/{}", version * n % 5000), vec![0; 100])).collect();
    if version > WINDOW {
        ops.push(Op::erase("paxos", (version - WINDOW).to_string()));
    }
    let change = Transaction::new(ops).to_bytes(Features::PACIFIC);
    let raw =
        Transaction::new(vec![Op::put("paxos", version.to_string(), change)]).to_bytes(Features::PACIFIC);
    let transaction = Transaction::decode(&mut cuttlebone_wire::Reader::new(&raw))?;
    let started = seconds(ClockId::Monotonic);
    let what = if version == 1 { Pull::Full { start: 1 } } else { Pull::Recent { from: version - 1 } };
    let mut pull = writer.begin(what)?;
    pull.append(&raw, &transaction)?;
    pull.replay(version..=version)?;
    pull.commit(NewPoint { last_committed: version, ..NewPoint::default() })?;
    writer.maintain(Keep::Generations(2))?;
    Ok(seconds(ClockId::Monotonic) - started)
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| std::env::temp_dir().display().to_string()));
    let points = args.next().map_or(Ok(2000), |points| points.parse())?;
    let dir = dir.join(format!("follow-{}", std::process::id()));
    let mut writer = Writer::open(&dir, Limits::default())?;
    let cpu = seconds(ClockId::ProcessCPUTime);
    let mut took = (1..=points).map(|version| pull(&mut writer, version)).collect::<Result<Vec<_>, _>>()?;
    let cpu = seconds(ClockId::ProcessCPUTime) - cpu;
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took[(took.len() - 1) * percent / 100] * 1e3;
    let opened = seconds(ClockId::Monotonic);
    let reader = Reader::open(&dir)?;
    let opened = seconds(ClockId::Monotonic) - opened;
    let keys = reader.at(Selector::Latest)?.entries(None)?.count();
    let files = std::fs::read_dir(&dir)?.map(|entry| entry?.metadata()).collect::<Result<Vec<_>, _>>()?;
    let bytes: u64 = files.iter().map(std::fs::Metadata::len).sum();
    println!(
        "{{\"schema\":1,\"points\":{},\"keys\":{keys},\"files\":{},\"bytes\":{bytes},\"point_ms_p50\":{:.2},\
         \"point_ms_p99\":{:.2},\"point_ms_max\":{:.2},\"cpu_s\":{cpu:.2},\"open_ms\":{:.2}}}",
        reader.points().count(),
        files.len(),
        at(50),
        at(99),
        at(100),
        opened * 1e3
    );
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
