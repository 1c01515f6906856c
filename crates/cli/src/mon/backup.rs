use core::time::Duration;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use cuttlebone_node::{Backup, BackupConfig, BackupEvent, Extent, Outcome, PaceConfig, RequesterConfig};
use cuttlebone_store::{Keep, Limits, Point, Reader, Selector};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::runtime;
use crate::args::Global;
use crate::environment::Environment;
use crate::exit::Exit;
use crate::interrupt::{Interrupt, interrupted};
use crate::output::{Output, table};
use crate::progress::Bar;
use crate::text::{bytes, rate};
use crate::usage::Usage;

/// What to pull, and how.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct BackupArgs {
    /// Directory of the copy; made if it is not there, and closed to other users.
    #[arg(long, value_name = "DIR")]
    pub store: PathBuf,
    /// Stay, and pull what is new as it is committed.
    #[arg(long)]
    pub follow: bool,
    /// Pull everything, whatever the copy has.
    #[arg(long)]
    pub full: bool,
    /// With --follow: seconds between two looks for something new.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5, value_parser = seconds)]
    pub every: f64,
    /// Most bytes a second.
    #[arg(long, value_name = "BYTES")]
    pub max_rate: Option<u64>,
    /// Most chunks in flight.
    #[arg(long, value_name = "N", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    pub window: u32,
    /// Seconds that a monitor may owe an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    pub stall_timeout: f64,
    /// Keep the last N points and let go of older ones.
    #[arg(long, value_name = "N", conflicts_with = "keep_generations")]
    pub keep_points: Option<usize>,
    /// Keep the last N full pulls, each with what was pulled after it; 8 if nothing is said.
    #[arg(long, value_name = "N")]
    pub keep_generations: Option<usize>,
}

/// Shortest and longest time that a flag takes, in seconds.
const SECONDS_RANGE: core::ops::RangeInclusive<f64> = 0.01..=86_400.0;

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| SECONDS_RANGE.contains(seconds));
    seconds.ok_or_else(|| "a number of seconds from 0.01 to 86400 is expected".into())
}

impl BackupArgs {
    fn config(&self, global: &Global, environment: &Environment) -> Result<BackupConfig> {
        let pace = PaceConfig {
            window_max: self.window,
            window_start: PaceConfig::default().window_start.min(self.window),
            bytes_per_second: self.max_rate,
            ..PaceConfig::default()
        };
        let mut limits = Limits::default();
        limits.generations_max = self.keep_generations.unwrap_or(limits.generations_max).max(1);
        Ok(BackupConfig {
            limits,
            extent: if self.full { Extent::Full } else { Extent::New },
            requester: RequesterConfig {
                pace,
                idle_timeout: Duration::from_secs_f64(self.stall_timeout),
                ..RequesterConfig::default()
            },
            connect_timeout: global.connect_timeout(),
            keep: match (self.keep_points, self.keep_generations) {
                (Some(points), _) => Keep::Points(points),
                (None, Some(generations)) => Keep::Generations(generations),
                (None, None) => Keep::Everything,
            },
            ..BackupConfig::new(environment.monitors()?, &self.store)
        })
    }
}

pub(super) fn run<W: Write>(
    arguments: &BackupArgs,
    global: &Global,
    environment: &Environment,
    output: &mut Output<W>,
) -> Result<Exit> {
    let config = arguments.config(global, environment)?;
    let mut bar = Bar::new(global);
    runtime()?.block_on(async {
        let mut backup = Backup::open(config)?;
        let work = async {
            if arguments.follow {
                follow(&mut backup, arguments, &mut bar, output).await
            } else {
                once(&mut backup, arguments, &mut bar, output).await.map(|()| Exit::Done)
            }
        };
        let ended = tokio::select! {
            ended = work => ended,
            how = interrupted() => Ok(match how {
                // A service that is asked to stop has done its work.
                Interrupt::Terminate if arguments.follow => Exit::Done,
                Interrupt::Terminate | Interrupt::Interrupt => Exit::Interrupted,
            }),
        };
        bar.clear();
        backup.close().await;
        ended
    })
}

/// One pull and its summary.
async fn once<W: Write>(
    backup: &mut Backup,
    arguments: &BackupArgs,
    bar: &mut Bar,
    output: &mut Output<W>,
) -> Result<()> {
    let started = Instant::now();
    let outcome = backup.pull(&mut |event| bar.on(&event)).await?;
    bar.clear();
    summarise(&outcome, started.elapsed(), arguments, output)
}

/// Pulls for ever: a summary of the first pull, then a line for each that brought something.
async fn follow<W: Write>(
    backup: &mut Backup,
    arguments: &BackupArgs,
    bar: &mut Bar,
    output: &mut Output<W>,
) -> Result<Exit> {
    let mut first = true;
    let mut failed = None;
    let every = Duration::from_secs_f64(arguments.every);
    // Set when nobody can be told any more.
    let closed = tokio::sync::Notify::new();
    let mut report = |event: BackupEvent<'_>| {
        let BackupEvent::Pulled { outcome, took } = event else { return bar.on(&event) };
        bar.clear();
        let result = match core::mem::replace(&mut first, false) {
            true => summarise(outcome, took, arguments, output),
            false if outcome.is_new => point(outcome, took, output),
            false => Ok(()),
        };
        if let Err(error) = result {
            failed.get_or_insert(error);
            closed.notify_one();
        }
    };
    tokio::select! {
        ended = backup.follow(every, &mut report) => match ended? {},
        () = closed.notified() => {}
    }
    Err(failed.unwrap_or_else(|| anyhow::anyhow!("standard output")))
}

fn point<W: Write>(outcome: &Outcome, took: Duration, output: &mut Output<W>) -> Result<()> {
    let seconds = took.as_secs_f64();
    output.item(&point_json(outcome, seconds), |out| writeln!(out, "{}", point_line(outcome, seconds)))?;
    Ok(output.finish()?)
}

fn summarise<W: Write>(
    outcome: &Outcome,
    took: Duration,
    arguments: &BackupArgs,
    output: &mut Output<W>,
) -> Result<()> {
    let usage = Usage::of_this_process();
    let summary = Summary { outcome, seconds: took.as_secs_f64(), usage, store: &arguments.store };
    output.item(&summary.json()?, |out| summary.plain(out))?;
    Ok(output.finish()?)
}

struct Summary<'a> {
    outcome: &'a Outcome,
    seconds: f64,
    usage: Usage,
    store: &'a Path,
}

/// One prefix of a copy: its name, keys, bytes, and versions where it counts them.
struct PrefixLine {
    prefix: String,
    keys: u64,
    bytes: u64,
    versions: Option<(u64, u64)>,
}

impl Summary<'_> {
    fn json(&self) -> Result<Value> {
        let Self { outcome, seconds, usage, .. } = self;
        let mut json = point_json(outcome, *seconds);
        json["prefixes"] = self.prefixes()?.iter().map(prefix_json).collect();
        json["cpu_seconds"] = usage.cpu_seconds.into();
        json["memory_bytes_max"] = usage.memory_bytes_max.into();
        Ok(json)
    }

    fn plain(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Self { outcome, seconds, usage, .. } = self;
        writeln!(out, "{}", point_line(outcome, *seconds))?;
        if let Some(point) = &outcome.point {
            writeln!(
                out,
                "copy: {} keys, {}, cluster {}, digest {}",
                point.keys,
                bytes(point.bytes),
                point.origin.fsid,
                point.digest
            )?;
        }
        let prefixes = self.prefixes().map_err(std::io::Error::other)?;
        let rows = prefixes.iter().map(|line| {
            let versions = line.versions.map(|(first, last)| format!("{first}..{last}"));
            vec![line.prefix.clone(), line.keys.to_string(), bytes(line.bytes), versions.unwrap_or_default()]
        });
        writeln!(out, "{}", table(&["PREFIX", "KEYS", "BYTES", "VERSIONS"], rows))?;
        writeln!(out, "{:.2} s of processor, {} of memory", usage.cpu_seconds, bytes(usage.memory_bytes_max))
    }

    fn prefixes(&self) -> Result<Vec<PrefixLine>> {
        if self.outcome.point.is_none() {
            return Ok(Vec::new());
        }
        let view = Reader::open(self.store)?.at(Selector::Latest)?;
        let windows = view.versions()?;
        let lines = view.prefixes()?.into_iter().map(|(prefix, totals)| {
            let window = windows.iter().find(|window| window.prefix == prefix);
            PrefixLine {
                prefix: prefix.escape_ascii().to_string(),
                keys: totals.keys,
                bytes: totals.bytes,
                versions: window.map(|window| (window.first, window.last)),
            }
        });
        Ok(lines.collect())
    }
}

fn prefix_json(line: &PrefixLine) -> Value {
    let mut json = json!({"prefix": line.prefix, "keys": line.keys, "bytes": line.bytes});
    if let Some((first, last)) = line.versions {
        json["first_committed"] = first.into();
        json["last_committed"] = last.into();
    }
    json
}

fn kind(outcome: &Outcome) -> &'static str {
    match (outcome.full, outcome.is_new) {
        (true, _) => "full",
        (false, true) => "incremental",
        (false, false) => "unchanged",
    }
}

/// The fields that a pull has with and without `--follow`.
fn point_json(outcome: &Outcome, seconds: f64) -> Value {
    let point = outcome.point.as_ref();
    json!({
        "kind": kind(outcome),
        "fell_behind": outcome.fell_behind,
        "monitor": outcome.monitor,
        "fsid": point.map(|point| point.origin.fsid.to_string()),
        "from_version": outcome.from,
        "version": outcome.last_committed,
        "versions": outcome.last_committed.saturating_sub(outcome.from),
        "point": point.map(|point| point.id.0),
        "digest": point.map(|point| point.digest.to_string()),
        "keys": point.map_or(0, |point| point.keys),
        "bytes": point.map_or(0, |point| point.bytes),
        "moved_keys": outcome.progress.keys,
        "moved_bytes": outcome.progress.bytes,
        "chunks": outcome.progress.chunks,
        "seconds": seconds,
    })
}

fn point_line(outcome: &Outcome, seconds: f64) -> String {
    let id = outcome.point.as_ref().map_or(0, |point: &Point| point.id.0);
    let (kind, version, monitor) = (kind(outcome), outcome.last_committed, &outcome.monitor);
    if !outcome.is_new {
        return format!("unchanged: point {id} at version {version} is the latest that {monitor} has");
    }
    let why = if outcome.fell_behind { ", since what followed the last point is trimmed" } else { "" };
    let moved = outcome.progress;
    format!(
        "{kind}: point {id} at version {version} from {monitor}{why}: {} keys, {} in {seconds:.2} s ({})",
        moved.keys,
        bytes(moved.bytes),
        rate(moved.bytes, seconds)
    )
}

impl Bar {
    /// Shows what a backup reports.
    pub(crate) fn on(&mut self, event: &BackupEvent<'_>) {
        match event {
            BackupEvent::Connected { monitor, fsid, .. } => self.say(&format!("{monitor} of cluster {fsid}")),
            BackupEvent::Started { full, from } => {
                let what = if *full { "everything" } else { "what is new" };
                self.say(&format!("pulling {what} from version {from}"));
            }
            BackupEvent::Progress(progress) => {
                self.moved(progress.bytes, progress.keys, progress.reached.0);
            }
            BackupEvent::FellBehind { after } => {
                self.remark(&format!("the versions after {after} are trimmed; pulling everything"));
            }
            BackupEvent::Unreachable(error) => {
                self.remark(&format!("{}; trying on", crate::exit::chain(*error)));
            }
            BackupEvent::Retrying { monitor, error } => {
                self.remark(&format!("{monitor}: {}", crate::exit::chain(*error)));
            }
            _ => {}
        }
    }
}
