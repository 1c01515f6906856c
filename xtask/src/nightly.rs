//! What takes too long for every change, and runs once a night instead.

use anyhow::{Result, bail};

use crate::{fuzz, suites};

/// One long run of a suite.
struct Long {
    suite: &'static str,
    package: Option<&'static str>,
    /// What makes it long; see docs/TESTING.md.
    sizes: &'static [(&'static str, &'static str)],
}

const RUNS: &[Long] = &[
    Long { suite: "sim", package: None, sizes: &[("CUTTLEBONE_SEEDS", "2000")] },
    Long { suite: "crash", package: None, sizes: &[("CUTTLEBONE_ROUNDS", "1000")] },
    Long {
        suite: "model",
        package: Some("cuttlebone-tokens"),
        sizes: &[("CUTTLEBONE_WORLD", "2,3,3,2,2,1"), ("CUTTLEBONE_FAIR_WORLD", "2,3,3,1,1,1")],
    },
    Long {
        suite: "interop",
        package: Some("cuttlebone-interop"),
        sizes: &[("CUTTLEBONE_FS_OPS", "20000"), ("CUTTLEBONE_KILLS", "300")],
    },
    Long { suite: "interop", package: Some("cuttlebone-cli"), sizes: &[("CUTTLEBONE_ROUNDS", "100")] },
    Long { suite: "shuttle", package: None, sizes: &[("CUTTLEBONE_SEEDS", "100000")] },
];

/// How long each fuzz target runs, in seconds.
const FUZZ_SECONDS: u64 = 120;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which run: sim, crash, model, interop, shuttle or fuzz; without one, each in turn
    run: Option<String>,
}

/// What can be asked for.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    RUNS.iter().map(|long| long.suite).chain(["fuzz"])
}

/// Runs everything that was asked for, also after a failure, and then says what failed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let wanted = |name: &str| arguments.run.as_ref().is_none_or(|run| run == name);
    let mut tried = 0;
    let mut failed = Vec::new();
    for long in RUNS.iter().filter(|long| wanted(long.suite)) {
        let sizes: Vec<_> = long.sizes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        eprintln!("\nnightly: suite {} with {}", long.suite, sizes.join(" "));
        let suite = suites::Arguments::long(long.suite, long.package, long.sizes);
        tried += 1;
        if let Err(error) = suites::run(&suite) {
            failed.push(format!("{}: {error:#}", long.suite));
        }
    }
    if wanted("fuzz") {
        tried += 1;
        if let Err(error) = fuzz::run(&fuzz::Arguments::each_for(FUZZ_SECONDS)) {
            failed.push(format!("fuzz: {error:#}"));
        }
    }
    match (tried, failed.is_empty()) {
        (0, _) => bail!("there is no run {}", arguments.run.as_deref().unwrap_or_default()),
        (_, true) => Ok(()),
        (_, false) => bail!("nightly:\n  {}", failed.join("\n  ")),
    }
}
