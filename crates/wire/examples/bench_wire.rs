//! How fast a chunk is decoded, beside copying it: `cargo xtask bench wire --json`.
//!
//! One JSON object a line for each size of value: bytes a second and CPU seconds for each GB, of decoding without
//! copying values, and of what a decoder that owns its strings would do.

use std::time::Instant;

use bytes::Bytes;
use cuttlebone_wire::{Decode, Encode, Features, Op, Reader, Transaction};

/// Bytes of a chunk as 16.2 sends it at most.
const CHUNK_BYTES: usize = 1 << 20;
/// Keys of a chunk as 16.2 sends it at most.
const CHUNK_KEYS: usize = 2000;
/// How many bytes each measurement decodes.
const TOTAL_BYTES: usize = 2_000_000_000;
/// Measurements; the best one counts, since other work disturbs in one direction only.
const ROUNDS: u32 = 5;

fn chunk(value_bytes: usize) -> Bytes {
    let keys = (CHUNK_BYTES / value_bytes).clamp(1, CHUNK_KEYS);
    let ops = (0..keys).map(|i| Op::put("mon_config_key", format!("bench/{i:08}"), vec![0x5a; value_bytes]));
    Transaction::new(ops.collect()).to_bytes(Features::PACIFIC)
}

/// The best rate over all rounds, in bytes a second.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]
#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn rate(chunk: &Bytes, mut work: impl FnMut(&Bytes) -> usize) -> f64 {
    let times = TOTAL_BYTES / chunk.len() / 5;
    let mut best = 0.0_f64;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut seen = 0;
        for _ in 0..times {
            seen += work(core::hint::black_box(chunk));
        }
        assert!(seen > 0, "the chunk has operations");
        best = best.max((times * chunk.len()) as f64 / start.elapsed().as_secs_f64());
    }
    best
}

fn main() {
    for value_bytes in [65_536, 1_024, 200] {
        let chunk = chunk(value_bytes);
        let shared = rate(&chunk, |chunk| {
            let tx = Transaction::decode(&mut Reader::new(chunk)).expect("our own chunk decodes");
            core::hint::black_box(&tx).ops.len()
        });
        let copied = rate(&chunk, |chunk| {
            let tx = Transaction::decode(&mut Reader::new(chunk)).expect("our own chunk decodes");
            let owned: Vec<_> =
                tx.ops.iter().map(|op| (op.prefix.to_vec(), op.key.to_vec(), op.value.to_vec())).collect();
            core::hint::black_box(&owned).len()
        });
        println!(
            "{{\"schema\":1,\"bench\":\"wire\",\"value_bytes\":{value_bytes},\"chunk_bytes\":{},\"decode_bytes_per_second\":{shared:.0},\"cpu_seconds_per_gb\":{:.4},\"copying_bytes_per_second\":{copied:.0},\"ratio\":{:.2}}}",
            chunk.len(),
            1e9 / shared,
            shared / copied
        );
    }
}
