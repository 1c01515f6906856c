//! Fuzzing under libFuzzer.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::run;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which target; without one, each in turn
    target: Option<String>,
    /// How long each target runs, in seconds
    #[arg(long = "for", value_name = "SECONDS", default_value = "10s", value_parser = seconds)]
    seconds: u64,
}

impl Arguments {
    /// Every target in turn, so many seconds each.
    pub(crate) fn each_for(seconds: u64) -> Self {
        Self { target: None, seconds }
    }
}

fn seconds(text: &str) -> Result<u64, String> {
    text.trim_end_matches('s').parse().map_err(|_| format!("{text} is not a number of seconds"))
}

/// Runs the target, keeping new finds in a scratch corpus and crashes in `crates/fuzz/artifacts`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let corpora = run::root().join("crates/fuzz/corpus");
    let mut targets: Vec<String> = fs::read_dir(&corpora)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    targets.sort();
    if let Some(wanted) = &arguments.target {
        if !targets.contains(wanted) {
            bail!("there is no fuzz target {wanted}; there are: {}", targets.join(" "));
        }
        targets.retain(|target| target == wanted);
    }
    for target in &targets {
        one(target, arguments.seconds).with_context(|| format!("fuzz target {target}"))?;
    }
    println!("{} passed, 0 failed", targets.len());
    Ok(())
}

fn one(target: &str, seconds: u64) -> Result<()> {
    let fuzz = run::root().join("crates/fuzz");
    let scratch = run::root().join("target/fuzz").join(target);
    let artifacts = fuzz.join("artifacts").join(target);
    fs::create_dir_all(&scratch)?;
    fs::create_dir_all(&artifacts)?;
    let mut command =
        run::command("cargo", ["+nightly", "fuzz", "run", "--fuzz-dir", "crates/fuzz/driver", "any"]);
    command.arg(&scratch).arg(fuzz.join("corpus").join(target)).arg("--");
    command.args(["-max_len=65536", "-rss_limit_mb=1024", "-timeout=10", "-print_final_stats=1"]);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    run::step(command.env("CUTTLEBONE_FUZZ_TARGET", target))
}
