//! Measures what one full pull costs in this crate alone, and prints one JSON object per shape of store.
//!
//! `cargo run --release -p cuttlebone-store --example ingest -- DIR [SHAPE…]`, where a shape is
//! `<keys>x<value bytes>`, or `random:<keys>x<value bytes>` for keys in no order, as no monitor sends them. Each is written to a fresh copy under DIR, which decides what disk is measured. CPU seconds
//! are those of user and system together, without the making of the chunks; so is the wall time.

use std::path::PathBuf;

use bytes::Bytes;
use cuttlebone_store::{Limits, NewPoint, Pull, Reader, Selector, Writer, list_crc, verify};
use cuttlebone_wire::{Decode, Encode, Features, Op, Transaction};
use rustix::time::{ClockId, clock_gettime};

/// What a monitor puts into one chunk.
const CHUNK_BYTES: usize = 1024 * 1024;
const CHUNK_KEYS: usize = 2000;

fn seconds(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    #[expect(clippy::cast_precision_loss, reason = "seconds and nanoseconds of a benchmark fit a double")]
    let seconds = now.tv_sec as f64 + now.tv_nsec as f64 / 1e9;
    seconds
}

#[derive(Default)]
struct Cost {
    cpu: f64,
    wall: f64,
}

impl Cost {
    fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (cpu, wall) = (seconds(ClockId::ProcessCPUTime), seconds(ClockId::Monotonic));
        let result = work();
        self.cpu += seconds(ClockId::ProcessCPUTime) - cpu;
        self.wall += seconds(ClockId::Monotonic) - wall;
        result
    }
}

fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

struct Shape {
    keys: usize,
    value_bytes: usize,
    is_random: bool,
}

fn chunk(shape: &Shape, first: usize, last: usize, seed: &mut u64) -> Bytes {
    let ops = (first..last).map(|n| {
        // A multiplication by an odd number permutes the numbers of 32 bits.
        let n = if shape.is_random { (n * 0x9e37_79b1) & 0xffff_ffff } else { n };
        let mut value = vec![0; shape.value_bytes];
        for word in value.chunks_mut(8) {
            *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            word.copy_from_slice(&seed.to_le_bytes()[..word.len()]);
        }
        Op::put("mon_config_key", format!("bench/{n:010}"), value)
    });
    Transaction::new(ops.collect()).to_bytes(Features::PACIFIC)
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| std::env::temp_dir().display().to_string()));
    let mut shapes: Vec<String> = args.collect();
    if shapes.is_empty() {
        shapes = ["16384x65536", "300000x1024", "1000000x200"].map(String::from).into();
    }
    for shape in &shapes {
        let (is_random, size) = shape.strip_prefix("random:").map_or((false, &**shape), |size| (true, size));
        let numbers = size.split_once('x').map(|(keys, bytes)| (keys.parse().ok(), bytes.parse().ok()));
        let Some((Some(keys), Some(value_bytes))) = numbers else { anyhow::bail!("no shape: {shape}") };
        let dir = dir.join(format!("ingest-{}-{keys}", std::process::id()));
        measure(&dir, shape, &Shape { keys, value_bytes, is_random })?;
    }
    Ok(())
}

fn measure(dir: &std::path::Path, name: &str, shape: &Shape) -> anyhow::Result<()> {
    let Shape { keys, value_bytes, .. } = *shape;
    let before = peak_rss_kib();
    let mut cost = Cost::default();
    let mut seed = 1;
    let mut writer = Writer::open(dir, Limits::default())?;
    let mut pull = writer.begin(Pull::Full { start: 1 })?;
    let step = CHUNK_KEYS.min((CHUNK_BYTES / value_bytes).max(1));
    for first in (0..keys).step_by(step) {
        let raw = chunk(shape, first, keys.min(first + step), &mut seed);
        let transaction = Transaction::decode(&mut cuttlebone_wire::Reader::new(&raw))?;
        cost.measure(|| pull.append(&raw, &transaction))?;
    }
    let raw =
        Transaction::new(vec![Op::put("paxos", "1", Transaction::default().to_bytes(Features::PACIFIC))])
            .to_bytes(Features::PACIFIC);
    let transaction = Transaction::decode(&mut cuttlebone_wire::Reader::new(&raw))?;
    let point = cost.measure(|| {
        pull.append(&raw, &transaction)?;
        pull.replay(1..=1)?;
        pull.commit(NewPoint { last_committed: 1, ..NewPoint::default() })
    })?;
    let peak = peak_rss_kib();
    let mut list = Cost::default();
    let listed = list.measure(|| {
        let view = Reader::open(dir)?.at(Selector::Latest)?;
        let mut out = std::io::BufWriter::new(std::io::sink());
        anyhow::Ok(list_crc(&view, None, &mut out)?)
    });
    listed?;
    let mut scrub = Cost::default();
    let report = scrub.measure(|| verify(dir))?;
    anyhow::ensure!(report.is_sound(), "{report:?}");
    std::fs::remove_dir_all(dir)?;
    println!(
        "{{\"schema\":1,\"shape\":\"{name}\",\"keys\":{},\"bytes\":{},\"ingest_wall_s\":{:.3},\"ingest_cpu_s\":{:.3},\
         \"list_crc_cpu_s\":{:.3},\"verify_wall_s\":{:.3},\"verify_cpu_s\":{:.3},\"peak_rss_kib\":{peak},\"peak_rss_before_kib\":{before}}}",
        point.keys, point.bytes, cost.wall, cost.cpu, list.cpu, scrub.wall, scrub.cpu
    );
    Ok(())
}
