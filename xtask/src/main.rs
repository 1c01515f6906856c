//! Every chore of this workspace: `cargo xtask <verb>`.
//!
//! Workflows, `.ci/run` and people call the same verbs, so that what is green here is green everywhere.

mod bench;
mod ceph;
mod ci;
mod dist;
mod docs;
mod fuzz;
mod golden;
mod layers;
mod nightly;
mod run;
mod setup;
mod suites;
mod tidy;
#[cfg(test)]
mod workflows;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Every chore of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Installs what the suites need: Debian packages, cargo-nextest; with --all also cargo-deny, cargo-fuzz, systemd.
    Setup {
        /// Also the tools that only `ci`, `fuzz` and `dist` need; most are built from source and take minutes.
        #[arg(long)]
        all: bool,
    },
    /// Runs a suite, or all of them; the last line says how many tests passed and failed.
    Test(suites::Arguments),
    /// Runs what has to pass before a change lands.
    Ci {
        /// Leaves out what takes minutes: interop, cargo-deny.
        #[arg(long)]
        fast: bool,
    },
    /// Checks formatting, lints, file sizes, citations, links and names.
    Tidy,
    /// Checks that every crate depends on lower tiers only.
    Layers,
    /// Builds the documentation of all crates with warnings denied.
    Docs,
    /// Builds and checks the archive that people download: static binary, manual, completions, units, licences.
    Dist(dist::Arguments),
    /// Checks that everything builds with the oldest toolchain that we promise (which has to be installed).
    Msrv,
    /// Runs benchmarks, each beside what a user would otherwise take.
    Bench(bench::Arguments),
    /// A cluster of real monitors to look at.
    #[command(subcommand)]
    Ceph(ceph::Verb),
    /// Objects recorded from real peers, and expected texts.
    #[command(subcommand)]
    Golden(golden::Verb),
    /// Runs what takes too long for every change: many seeds, many kills, large models, fuzzing.
    Nightly(nightly::Arguments),
    /// Fuzzes one target, or each in turn, under libFuzzer (needs nightly and cargo-fuzz).
    Fuzz(fuzz::Arguments),
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(verb: Verb) -> Result<()> {
    match verb {
        Verb::Setup { all } => setup::install(all),
        Verb::Test(arguments) => suites::run(&arguments),
        Verb::Ci { fast } => ci::run(fast),
        Verb::Tidy => tidy::check(),
        Verb::Layers => layers::check(),
        Verb::Docs => docs::build(),
        Verb::Dist(arguments) => dist::build(&arguments),
        Verb::Msrv => ci::msrv(),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Ceph(verb) => ceph::run(&verb),
        Verb::Golden(verb) => golden::run(&verb),
        Verb::Nightly(arguments) => nightly::run(&arguments),
        Verb::Fuzz(arguments) => fuzz::run(&arguments),
    }
}
