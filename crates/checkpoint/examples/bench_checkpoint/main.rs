//! Measures the change log, and beside it what one would otherwise take: a map and a queue, or a broadcast channel and a map.
//!
//! `cargo run --release --example bench_checkpoint -- --json [--quick]`. Each case runs in a process of its own, so that
//! memory is that of the case. Single-threaded figures are CPU time of the thread, so that a busy host does not count.

mod concurrent;
mod single;

use std::process::Command;

use rustix::time::{ClockId, Timespec};
use serde_json::{Value, json};

/// Bytes of a key, and of a value.
const KEY_BYTES: usize = 32;
const VALUE_BYTES: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, case] = &arguments[..]
        && flag == "--case"
    {
        println!("{}", run(case));
        return;
    }
    let json = arguments.iter().any(|argument| argument == "--json");
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let results: Vec<Value> = cases(quick).iter().map(|case| in_a_process(case)).collect();
    if json {
        println!("{}", json!({ "schema": 1, "bench": "checkpoint", "results": results }));
    } else {
        for result in results {
            println!("{result}");
        }
    }
}

fn cases(quick: bool) -> Vec<String> {
    let sizes: &[&str] = if quick { &["1000000"] } else { &["1000000", "10000000"] };
    let mut cases = Vec::new();
    for size in sizes {
        for per_checkpoint in ["500", "5000", "100000"] {
            // What is compared runs side by side, since the neighbours of a virtual machine come and go.
            for case in ["queue", "by-hand", "drain"] {
                cases.push(format!("{case} distinct {per_checkpoint} {size}"));
                cases.push(format!("{case} overwrite {per_checkpoint} {size}"));
            }
        }
    }
    for per_checkpoint in ["500", "5000", "100000"] {
        cases.push(format!("concurrent distinct {per_checkpoint} 2000000"));
    }
    cases.push("broadcast distinct 5000 1000000".into());
    cases.push("broadcast overwrite 5000 1000000".into());
    cases.push("broadcast-concurrent distinct 5000 1000000".into());
    cases
}

fn in_a_process(case: &str) -> Value {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program).args(["--case", case]).output().expect("this program starts again");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text)
        .unwrap_or_else(|_| json!({ "case": case, "failed": output.status.to_string() }))
}

fn run(case: &str) -> Value {
    let words: Vec<&str> = case.split(' ').collect();
    let [what, keys, per_checkpoint, size] = words[..] else {
        return json!({ "case": case, "failed": "words" });
    };
    let keys = if keys == "distinct" { Keys::Distinct } else { Keys::Overwrite };
    let per_checkpoint: usize = per_checkpoint.parse().expect("a number");
    let size: u64 = size.parse().expect("a number");
    let mut result = match what {
        "queue" => single::queue(keys, per_checkpoint, size),
        "by-hand" => single::by_hand(keys, per_checkpoint, size),
        "drain" => single::drain(keys, per_checkpoint, size),
        "broadcast" => single::broadcast(keys, per_checkpoint, size),
        "concurrent" => concurrent::log(per_checkpoint, size),
        "broadcast-concurrent" => concurrent::broadcast(size),
        _ => json!({ "failed": "unknown case" }),
    };
    result["case"] = json!(case);
    if let Some(targets) = targets(what, keys) {
        result["targets"] = targets;
    }
    result
}

/// What the figures are measured against.
fn targets(what: &str, keys: Keys) -> Option<Value> {
    match (what, keys) {
        ("queue", Keys::Distinct) => Some(json!({ "cpu_ns_per_op": 200, "peak_bytes_per_item": 260 })),
        ("queue", Keys::Overwrite) => Some(json!({ "cpu_ns_per_op": 130, "peak_bytes_per_item": 260 })),
        ("drain", _) => Some(json!({ "drain_cpu_ns_per_item": 40 })),
        ("concurrent", _) => Some(json!({ "writes_per_s": 2_500_000 })),
        _ => None,
    }
}

/// Which keys are written.
#[derive(Clone, Copy)]
enum Keys {
    /// A new one each time.
    Distinct,
    /// One in ten is new; the others are among the last `per_checkpoint / 2` new ones.
    Overwrite,
}

/// Makes keys without taking time worth mentioning.
struct Source {
    keys: Keys,
    window: u64,
    made: u64,
    chance: u64,
    key: [u8; KEY_BYTES],
}

impl Source {
    fn new(keys: Keys, per_checkpoint: usize) -> Self {
        Self { keys, window: per_checkpoint as u64 / 2, made: 0, chance: 1, key: [b'k'; KEY_BYTES] }
    }

    fn next(&mut self) -> &[u8] {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let fresh = matches!(self.keys, Keys::Distinct) || self.made == 0 || self.chance.is_multiple_of(10);
        let number = if fresh {
            self.made += 1;
            self.made
        } else {
            self.made - (self.chance >> 8) % self.window.min(self.made)
        };
        self.key[KEY_BYTES - 8..].copy_from_slice(&number.to_be_bytes());
        &self.key
    }
}

/// Nanoseconds that this thread was running.
fn thread_cpu() -> u64 {
    nanos(rustix::time::clock_gettime(ClockId::ThreadCPUTime))
}

/// Nanoseconds that all threads of this process were running.
fn process_cpu() -> u64 {
    nanos(rustix::time::clock_gettime(ClockId::ProcessCPUTime))
}

fn nanos(time: Timespec) -> u64 {
    let whole = u64::try_from(time.tv_sec).unwrap_or_default() * 1_000_000_000;
    whole + u64::try_from(time.tv_nsec).unwrap_or_default()
}

/// The largest resident set so far, in bytes.
fn peak_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024
}
