//! `cuttlebone demo`: the main job on this machine alone, with nothing else installed.

use core::time::Duration;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use clap::Args;
use cuttlebone_http::update::Step;
use cuttlebone_node::{Backup, BackupConfig, BackupEvent, Extent, Outcome, Provide, ProvideConfig};
use cuttlebone_store::{Digest, Reader, Selector, verify};
use cuttlebone_wire::EntityAddrs;
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::args::Global;
use crate::exit::Exit;
use crate::interrupt::interrupted;
use crate::mon::runtime;
use crate::output::Output;
use crate::progress::Bar;
use crate::text::{bytes, rate};

mod nodes;
mod origin;

use nodes::{Announced, Running};
use origin::Origin;

/// How the demonstration runs.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct DemoArgs {
    /// Leave the nodes and their status pages running until Ctrl-C, and then the directories in place.
    #[arg(long)]
    pub keep: bool,
}

/// Commits that the origin makes before the incremental pull, and again before the last one.
const COMMITS: u64 = 100;
/// Bytes a second of the pull that is going to be killed, so that there is a middle to kill it in.
const DOOMED_RATE: u64 = 64 << 20;
/// Bytes that it may bring in before it is killed.
const DOOMED_BYTES: u64 = 16 << 20;
/// Keys that are set in a window of hot reload.
const WINDOW: u32 = 100;
/// How long that may take.
const DOOMED_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn run<W: Write>(arguments: &DemoArgs, global: &Global, output: &mut Output<W>) -> Result<Exit> {
    let dir = tempfile::Builder::new().prefix("cuttlebone-demo-").tempdir()?;
    let mut demo = Demo {
        origin: Origin::found(&dir.path().join("origin"))?,
        replica: dir.path().join("replica"),
        nodes: dir.path().to_owned(),
        keep: arguments.keep,
        bar: Bar::new(global),
        output,
        started: Instant::now(),
    };
    let same = runtime()?.block_on(demo.tell());
    if arguments.keep {
        let kept = dir.keep();
        writeln!(std::io::stderr(), "kept: {}", kept.display())?;
    }
    Ok(if same? { Exit::Done } else { Exit::Corrupt })
}

struct Demo<'a, W: Write> {
    origin: Origin,
    replica: PathBuf,
    nodes: PathBuf,
    keep: bool,
    bar: Bar,
    output: &'a mut Output<W>,
    started: Instant,
}

impl<W: Write> Demo<'_, W> {
    /// The story, while the provider serves beside it. Answers whether both ends are equal.
    async fn tell(&mut self) -> Result<bool> {
        let provide =
            Provide::bind(ProvideConfig::new(self.origin.dir(), ([127, 0, 0, 1], 0).into())).await?;
        let (addrs, fsid) = (provide.addrs().clone(), provide.fsid());
        let (keys, size) = (provide.point().keys, provide.point().bytes);
        self.step(
            "origin",
            &format!("a monitor's store of {keys} keys, {}, in cluster {fsid}", bytes(size)),
        )?;
        self.step("provider", &format!("serves it on {addrs}, as monitors serve each other"))?;
        let mut quiet = |_event: cuttlebone_node::ProvideEvent<'_>| {};
        tokio::select! {
            served = provide.run(core::future::pending(), &mut quiet) => {
                served?;
                bail!("the provider stopped serving")
            }
            told = self.chapters(&addrs) => told,
        }
    }

    async fn chapters(&mut self, addrs: &EntityAddrs) -> Result<bool> {
        self.full(addrs).await?;
        self.incremental(addrs).await?;
        self.kill(addrs).await?;
        self.recover(addrs).await?;
        let nodes = self.nodes(addrs).await?;
        let same = self.verdict()?;
        self.close(nodes).await?;
        Ok(same)
    }

    /// The same store in two nodes: one follows the provider, and the other one follows it.
    async fn nodes(&mut self, provider: &EntityAddrs) -> Result<(Running, Running)> {
        let announced = Announced::new();
        let started = Instant::now();
        let origin = nodes::origin(&self.nodes.join("node-origin"), provider, &announced)?;
        origin.serves().await?;
        let mut replica = nodes::replica(&self.nodes.join("node-replica"), &origin)?;
        replica.serves().await?;
        let keys = nodes::equal(&origin, &replica).await?.lines().count();
        let seconds = started.elapsed().as_secs_f64();
        self.step(
            "nodes",
            &format!(
                "the store in a node's bucket, and in its replica's: {keys} keys each in {seconds:.2} s"
            ),
        )?;
        nodes::until("the name is announced", || announced.resolve().is_some()).await?;
        self.step("published", &format!("demo/store leads to {}", announced.resolve().unwrap_or_default()))?;

        let client = origin.client()?;
        let before = nodes::equal(&origin, &replica).await?;
        let first = nodes::agent(&client).await?;
        client.update(Step::Start, &first).await?;
        origin.write("undone", WINDOW)?;
        let inside = nodes::equal(&origin, &replica).await?;
        let restored = client.update(Step::Revert, &first).await?.restored_keys;
        let reverted = nodes::equal(&origin, &replica).await?;
        if reverted != before || inside == before {
            bail!("a revert has not restored what was there before");
        }
        self.step(
            "reverted",
            &format!("hot reload: {WINDOW} keys set on both nodes, {restored} undone on both"),
        )?;
        let second = nodes::agent(&client).await?;
        client.update(Step::Start, &second).await?;
        origin.write("kept", WINDOW)?;
        client.update(Step::Complete, &second).await?;
        let kept = nodes::equal(&origin, &replica).await?.lines().count() - keys;
        self.step("kept", &format!("hot reload: {kept} keys more on both nodes"))?;
        if !nodes::is_refused(&client, &first).await? {
            bail!("an agent that was superseded was let in");
        }
        self.step("fenced", "what the first agent still asked for after the second one's turn is refused")?;

        let dir = replica.kill().await?;
        origin.write("meanwhile", WINDOW)?;
        replica = nodes::replica(&dir, &origin)?;
        replica.serves().await?;
        let keys = nodes::equal(&origin, &replica).await?.lines().count();
        self.step(
            "node-kill",
            &format!("the replica was dropped, missed {WINDOW} changes, and has all {keys} keys again"),
        )?;
        Ok((origin, replica))
    }

    /// Ends the nodes, or lets them be looked at until somebody asks us to end.
    async fn close(&mut self, (origin, replica): (Running, Running)) -> Result<()> {
        if self.keep {
            let pages = format!("look at {} and {}; Ctrl-C ends it", origin.page(), replica.page());
            writeln!(std::io::stderr(), "{pages}")?;
            interrupted().await;
        }
        replica.end().await?;
        origin.end().await
    }

    async fn full(&mut self, addrs: &EntityAddrs) -> Result<()> {
        let (outcome, seconds, handshake) = self.pull(addrs, Extent::New).await?;
        self.step("handshake", &handshake)?;
        self.step("full", &moved(&outcome, seconds))
    }

    async fn incremental(&mut self, addrs: &EntityAddrs) -> Result<()> {
        self.origin.commit(COMMITS)?;
        self.step("commits", &format!("{COMMITS} at the origin, now at version {}", self.origin.version()))?;
        let (outcome, seconds, _) = self.pull(addrs, Extent::New).await?;
        self.step("incremental", &moved(&outcome, seconds))
    }

    /// Another process pulls everything, and is killed in the middle of it.
    async fn kill(&mut self, addrs: &EntityAddrs) -> Result<()> {
        let before = digest(&self.replica)?;
        let mut doomed = self.doomed(addrs)?;
        let written = self.wait_until_midway(&mut doomed).await?;
        doomed.kill().await?;
        let after = digest(&self.replica)?;
        if after != before {
            bail!("a pull that was killed has changed what readers see");
        }
        let what = format!("kill -9 of a full pull by process of its own after {}", bytes(written));
        self.step("kill", &format!("{what}; the last point still reads {after}"))
    }

    fn doomed(&self, addrs: &EntityAddrs) -> Result<Child> {
        let mut command = Command::new(this_program()?);
        command.args(["mon", "backup", "--quiet", "--full", "--mon", &addrs.to_string()]);
        command.args(["--max-rate", &DOOMED_RATE.to_string(), "--store"]).arg(&self.replica);
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command.spawn().context("cannot start another process of this program")
    }

    /// Waits until the other process has written a good part, which shows in the size of its log.
    async fn wait_until_midway(&self, doomed: &mut Child) -> Result<u64> {
        let deadline = Instant::now() + DOOMED_TIMEOUT;
        loop {
            let written = largest_unfinished(&self.replica)?;
            if written >= DOOMED_BYTES {
                return Ok(written);
            }
            if let Some(status) = doomed.try_wait()? {
                bail!("the pull that was to be killed ended by itself: {status}");
            }
            if Instant::now() > deadline {
                bail!("the pull that was to be killed brought in only {}", bytes(written));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn recover(&mut self, addrs: &EntityAddrs) -> Result<()> {
        self.origin.commit(COMMITS)?;
        let (outcome, seconds, _) = self.pull(addrs, Extent::Full).await?;
        self.step("recovery", &moved(&outcome, seconds))
    }

    fn verdict(&mut self) -> Result<bool> {
        let report = verify(&self.replica)?;
        let soundness = if report.is_sound() { "sound" } else { "NOT sound" };
        let (points, records, entries) = (report.points, report.records, report.entries);
        self.step(
            "verify",
            &format!("{soundness}: {points} points, {records} records, {entries} index entries"),
        )?;
        let (origin, replica) = (digest(self.origin.dir())?, digest(&self.replica)?);
        self.step("digest", &format!("origin  {origin}"))?;
        self.step("digest", &format!("replica {replica}"))?;
        let same = origin == replica && report.is_sound();
        let version = self.origin.version();
        let seconds = self.started.elapsed().as_secs_f64();
        let verdict =
            if same { "the replica equals the origin" } else { "the replica DIFFERS from the origin" };
        let answer = json!({
            "step": "verdict",
            "equal": same,
            "origin_digest": origin.to_string(),
            "replica_digest": replica.to_string(),
            "version": version,
            "seconds": seconds,
        });
        self.output
            .item(&answer, |out| writeln!(out, "verdict: {verdict} at version {version} ({seconds:.1} s)"))?;
        Ok(same)
    }

    /// One pull into the replica: how it ended, how long it took, and with whom it was.
    async fn pull(&mut self, addrs: &EntityAddrs, extent: Extent) -> Result<(Outcome, f64, String)> {
        let config = BackupConfig { extent, ..BackupConfig::new(vec![addrs.clone()], &self.replica) };
        let mut backup = Backup::open(config)?;
        let started = Instant::now();
        let mut handshake = String::new();
        let bar = &mut self.bar;
        let outcome = backup
            .pull(&mut |event| {
                if let BackupEvent::Connected { monitor, features, .. } = &event {
                    handshake = format!("messenger v2.1 crc, AUTH_NONE, features {features}, with {monitor}");
                }
                bar.on(&event);
            })
            .await;
        let seconds = started.elapsed().as_secs_f64();
        self.bar.clear();
        backup.close().await;
        Ok((outcome?, seconds, handshake))
    }

    fn step(&mut self, name: &str, detail: &str) -> Result<()> {
        self.output
            .item(&json!({"step": name, "detail": detail}), |out| writeln!(out, "{name:<12} {detail}"))?;
        Ok(self.output.finish()?)
    }
}

fn moved(outcome: &Outcome, seconds: f64) -> String {
    let progress = outcome.progress;
    let (moved, pace) = (bytes(progress.bytes), rate(progress.bytes, seconds));
    let point = outcome.point.as_ref().map_or(0, |point| point.id.0);
    let versions = format!("versions {} to {}", outcome.from, outcome.last_committed);
    format!("{} keys, {moved} in {seconds:.2} s ({pace}), {versions}: point {point}", progress.keys)
}

fn digest(store: &Path) -> Result<Digest> {
    Ok(Reader::open(store)?.at(Selector::Latest)?.point().digest)
}

/// Bytes of the largest file that no point needs yet.
fn largest_unfinished(store: &Path) -> Result<u64> {
    let mut largest = 0;
    let newest = std::fs::read_dir(store)?.filter_map(Result::ok).filter(|entry| {
        let name = entry.file_name();
        Path::new(&name).extension().is_some_and(|extension| extension == "log")
    });
    if let Some(log) = newest.max_by_key(std::fs::DirEntry::file_name) {
        // The first generation's log belongs to the points that are there.
        let generations = Reader::open(store)?.points().map(|point| point.generation).max().unwrap_or(0);
        let number: String = log.file_name().to_string_lossy().chars().filter(char::is_ascii_digit).collect();
        if number.parse::<u64>().is_ok_and(|number| number > generations) {
            largest = log.metadata()?.len();
        }
    }
    Ok(largest)
}

/// The file of this program; where `/proc` does not tell, as in an empty root directory, the name it was called by.
fn this_program() -> Result<PathBuf> {
    let called = || std::env::args_os().next().map(PathBuf::from);
    std::env::current_exe().ok().or_else(called).context("this program has no name")
}
