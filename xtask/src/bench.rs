//! The benchmarks: each an example of the crate whose hot path it measures.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::{run, setup};

/// A benchmark, and the crate and example that hold it.
struct Bench {
    name: &'static str,
    package: &'static str,
    example: &'static str,
    /// Whether it compares with real daemons.
    peers: bool,
}

/// Every benchmark.
const BENCHES: &[Bench] = &[
    Bench { name: "bucket", package: "cuttlebone-bucket", example: "bench_bucket", peers: false },
    Bench { name: "checkpoint", package: "cuttlebone-checkpoint", example: "bench_checkpoint", peers: false },
    Bench { name: "mds", package: "cuttlebone-interop", example: "bench_mds", peers: true },
    Bench { name: "mon-sync", package: "cuttlebone-interop", example: "bench_mon_sync", peers: true },
    Bench { name: "mounttable", package: "cuttlebone-mounttable", example: "bench_mounttable", peers: false },
    Bench { name: "node", package: "cuttlebone-node", example: "bench_node", peers: false },
    Bench {
        name: "publisher",
        package: "cuttlebone-mounttable-etcd",
        example: "bench_publisher",
        peers: false,
    },
    Bench { name: "tokens", package: "cuttlebone-http", example: "bench_tokens", peers: false },
    Bench { name: "wire", package: "cuttlebone-wire", example: "bench_wire", peers: false },
];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which benchmark; without one, each in turn
    name: Option<String>,
    /// Print the JSON objects as they are, one a line
    #[arg(long)]
    json: bool,
    /// What else the benchmark takes: see its `--help`
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Builds with optimisation and runs; everything a benchmark compares runs in the same process or beside it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let wanted = |bench: &&Bench| arguments.name.as_ref().is_none_or(|name| name == bench.name);
    let chosen: Vec<_> = BENCHES.iter().filter(wanted).collect();
    if chosen.is_empty() {
        bail!(
            "there are these benchmarks: {}",
            BENCHES.iter().map(|bench| bench.name).collect::<Vec<_>>().join(" ")
        );
    }
    if chosen.iter().any(|bench| bench.peers) {
        if let Err(advice) = setup::peers() {
            bail!(advice);
        }
        // Ours runs beside them as a process.
        run::step(&mut run::cargo(["build", "--release", "--quiet"]))?;
    }
    if chosen.iter().any(|bench| bench.name == "mds") {
        setup::rival();
    }
    for bench in chosen {
        let mut command = run::cargo(["run", "--release", "--quiet", "--package", bench.package]);
        command.args(["--example", bench.example, "--"]).args(&arguments.rest);
        let lines = run::output(&mut command)?;
        if arguments.json {
            print!("{lines}");
        } else {
            lines.lines().for_each(show);
        }
    }
    Ok(())
}

/// Prints one measurement for people: what it is of, then each figure on a line of its own.
fn show(line: &str) {
    let Ok(Value::Object(figures)) = serde_json::from_str(line) else {
        println!("{line}");
        return;
    };
    println!("{}", figures.get("bench").and_then(Value::as_str).unwrap_or_default());
    for (name, value) in figures.iter().filter(|(name, _)| !matches!(name.as_str(), "bench" | "schema")) {
        println!("    {name:<32} {value}");
    }
}
