//! A file system's metadata beside libcephfs, on the same cluster in the same run: `cargo xtask bench mds --json`.
//!
//! One JSON object for each kind of operation, then one for what another client sees of a walk. libcephfs runs with one
//! thread, as a program that asks for one thing after another, and with eight, which is its best here; it is built from
//! `libcephfs.c` beside this file, and without its headers the figures are ours alone.
//!
//! * `…_ratio` says how many times as fast we are, `cpu_share` which part of its processor time per operation we take.
//!   `…target` is what is asked of the figure of that name.
//! * `mds_…` are the server's own: its processor time, messages of both directions and journal events per operation.
//! * `machine_busy` is what part of all processors was in use, by whomever. At 1, with the servers on the same machine, a
//!   client can only be faster in so far as it and the server need less processor time per operation.
//! * `rate_ratio_bound` says how far that goes: how many times as fast as libcephfs with eight threads a client would be
//!   that took no processor time at all, with what our operations cost the server.
//!
//! Each kind of operation is measured in several rounds, in which the sides take turns, and each figure is the median.
//! `--ops N`, `--rounds N`, `--only PHASE`, and `--walk N` entries for the victim (0: none, 200000: as large as it gets).

use anyhow::{Context, Result};
use cuttlebone_testkit::{Cluster, FsSpec};
use serde_json::{Value, json};

mod ours;
mod rival;
mod server;
mod victims;

use rival::Rival;
use server::{Server, Usage};

/// Names in the directory of each round, unless `--ops` says otherwise.
const OPS: u64 = 10_000;
/// Most renames, in the directory that all names are in. A server of 16.2.15 whose directory holds more than 15,000 names,
/// those included that have just gone, counts them one by one at each change, until it has divided the directory some
/// seconds later; the figures would be about that. For the same reason directories are made in one of their own.
///
/// Source: `ceph/ceph:src/mds/CDir.cc`, `CDir::should_split_fast`; `mds_bal_split_size` times `mds_bal_fragment_fast_factor`.
const RENAMES_MAX: u64 = 4_500;
/// Rounds, unless `--rounds` says otherwise.
const ROUNDS: u64 = 3;
/// Entries of the tree that is walked while another client works, unless `--walk` says otherwise.
const WALK: u64 = 50_000;

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Create,
    Stat,
    Lookup,
    ReadDir,
    ReadDirUnbounded,
    Rename,
    Mkdir,
}

impl Phase {
    /// In the order in which they need each other.
    const ALL: [Self; 7] = [
        Self::Create,
        Self::Stat,
        Self::Lookup,
        Self::ReadDir,
        Self::ReadDirUnbounded,
        Self::Rename,
        Self::Mkdir,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Stat => "stat",
            Self::Lookup => "lookup",
            Self::ReadDir => "readdir",
            Self::ReadDirUnbounded => "readdir unbounded",
            Self::Rename => "rename",
            Self::Mkdir => "mkdir",
        }
    }

    /// What libcephfs calls it. It has one way to list a directory.
    const fn rival_name(self) -> &'static str {
        match self {
            Self::ReadDirUnbounded => "readdir",
            other => other.name(),
        }
    }

    /// How many times as fast as libcephfs it is meant to be.
    const fn target(self) -> f64 {
        match self {
            Self::Create | Self::Stat | Self::Lookup | Self::Mkdir => 2.0,
            Self::ReadDir => 1.0 / 1.2,
            Self::ReadDirUnbounded => 1.0,
            Self::Rename => 3.0,
        }
    }
}

/// What part of libcephfs's processor time per operation is meant to be enough for us.
const CPU_SHARE_TARGET: f64 = 0.5;

/// What a phase took.
#[derive(Clone, Copy, Debug, Default)]
struct Took {
    ops: u64,
    seconds: f64,
    cpu_seconds: f64,
    server: Usage,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (ops, rounds) = (argument("--ops", OPS)?, argument("--rounds", ROUNDS)?.max(1));
    let walk = argument("--walk", WALK)?;
    // Nothing but the servers and what is measured, and no log that costs them time.
    let quiet = |builder: cuttlebone_testkit::Builder| builder.option("debug_mon", "1");
    let cluster = quiet(Cluster::builder().fs(FsSpec { active: 1, standby: 0 })).start()?;
    let server = Server::new(cluster.active_mds(0)?.context("no rank 0")?);
    let rival = Rival::build(&cluster)?;
    let only = word("--only");
    for phase in Phase::ALL {
        // What comes later needs the files.
        if only.as_ref().is_some_and(|only| only != phase.name()) && phase != Phase::Create {
            continue;
        }
        let ops = if phase == Phase::Rename { ops.min(RENAMES_MAX) } else { ops };
        println!("{}", measure(&cluster, &server, rival.as_ref(), phase, ops, rounds).await?);
    }
    if walk > 0 {
        victims::victims(&cluster, rival.as_ref(), walk).await?;
    }
    Ok(())
}

fn word(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn argument(name: &str, default: u64) -> Result<u64> {
    Ok(word(name).map(|text| text.parse()).transpose()?.unwrap_or(default))
}

/// All rounds of one phase: in each, ours, then libcephfs with eight threads and with one.
async fn measure(
    cluster: &Cluster,
    server: &Server,
    rival: Option<&Rival>,
    phase: Phase,
    ops: u64,
    rounds: u64,
) -> Result<Value> {
    let (mut ours, mut eight, mut one) = (Vec::new(), Vec::new(), Vec::new());
    let kind = if phase == Phase::Mkdir { "dirs" } else { "files" };
    for round in 0..rounds {
        let dir = |side: &str| format!("/{side}-{kind}-{round}");
        ours.push(ours::phase(cluster, server, phase, ops, &dir("ours")).await?);
        if let Some(rival) = rival {
            let name = phase.rival_name();
            eight.push(rival.phase(server, name, 8, ops, &dir("eight"))?);
            one.push(rival.phase(server, name, 1, ops, &dir("one"))?);
        }
    }
    let mut figures = json!({
        "schema": 1,
        "bench": format!("mds {}", phase.name()),
        "ops": ops,
        "rounds": rounds,
    });
    let ours = add(&mut figures, "", &ours);
    let eight = add(&mut figures, "libcephfs_8_threads_", &eight);
    let one = add(&mut figures, "libcephfs_1_thread_", &one);
    if let (Some(ours), Some(eight), Some(one)) = (ours, eight, one) {
        figures["rate_ratio_to_1_thread"] = json!(ours.rate / one.rate);
        figures["rate_ratio_to_8_threads"] = json!(ours.rate / eight.rate);
        figures["rate_ratio_target"] = json!(phase.target());
        figures["rate_ratio_bound"] = json!((eight.cpu + eight.mds_cpu) / ours.mds_cpu);
        figures["cpu_share"] = json!(ours.cpu / eight.cpu);
        figures["cpu_share_target"] = json!(CPU_SHARE_TARGET);
    }
    Ok(figures)
}

/// Medians that are compared.
struct Medians {
    /// Operations per second.
    rate: f64,
    /// Microseconds of the client's processor time per operation.
    cpu: f64,
    /// The same of the server.
    mds_cpu: f64,
}

/// Adds the medians of some rounds to the figures, under this prefix.
#[expect(clippy::cast_precision_loss, reason = "numbers of operations are far below 2^52")]
fn add(figures: &mut Value, prefix: &str, rounds: &[Took]) -> Option<Medians> {
    let per_op = |value: fn(&Took) -> f64| median(rounds, |took| value(took) / took.ops as f64);
    let rate = median(rounds, |took| took.ops as f64 / took.seconds)?;
    let cpu = per_op(|took| took.cpu_seconds * 1e6)?;
    let mut figure = |name: &str, value: f64| figures[format!("{prefix}{name}")] = json!(value);
    figure("ops_per_second", rate.round());
    figure("cpu_microseconds_per_op", cpu);
    let mds_cpu = per_op(|took| took.server.cpu_seconds * 1e6)?;
    figure("mds_cpu_microseconds_per_op", mds_cpu);
    figure("mds_messages_per_op", per_op(|took| took.server.messages)?);
    figure("mds_journal_events_per_op", per_op(|took| took.server.journal_events)?);
    figure("machine_busy", median(rounds, |took| took.server.machine_busy())?);
    Some(Medians { rate, cpu, mds_cpu })
}

fn median(rounds: &[Took], value: impl Fn(&Took) -> f64) -> Option<f64> {
    let mut values: Vec<f64> = rounds.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
