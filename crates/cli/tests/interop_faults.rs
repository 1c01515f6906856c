//! Real monitors, and backups of them, that are killed or frozen in the middle of a copy.

use core::time::Duration;

use anyhow::{Context, Result, ensure};
use cuttlebone_machine::{Entropy, SplitMix};
use cuttlebone_testkit::{Cluster, Deadline, Fill, Mon, Program, Running};
use serde_json::Value;
use tempfile::TempDir;

/// 79 MB: a copy takes a few hundred milliseconds, or as long as a rate makes it.
const FILL: Fill = Fill { keys: 1_200, value_bytes: 65_536, seed: 31 };
/// How often a backup is killed, and after how many kills one is let through to its end.
const KILLS: u32 = 50;
/// See [`KILLS`].
const KILLS_BETWEEN_RUNS: u32 = 5;
/// Decides when.
const SEED: u64 = 0x00c0_ffee;
/// How long a backup may take from its start to its first chunk, and to its end when it has to wait for nobody.
const STEP_MAX: Duration = Duration::from_secs(60);

fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_cuttlebone"))
}

/// A copy with one point, and what that point has to look like for ever.
struct Copy {
    _scratch: TempDir,
    store: String,
    before: String,
}

impl Copy {
    fn of(cluster: &Cluster) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let store = scratch.path().join("copy").display().to_string();
        let mut copy = Self { _scratch: scratch, store, before: String::new() };
        program().ok(copy.arguments(cluster, &[]))?;
        copy.before = copy.first_point()?;
        ensure!(copy.before.lines().count() > 1_200, "{}", copy.before);
        Ok(copy)
    }

    fn arguments(&self, cluster: &Cluster, flags: &[&str]) -> Vec<String> {
        let mons = cluster.mon_host();
        let all = [&["mon", "backup", "--json", "--mon", &mons, "--store", &self.store], flags].concat();
        all.into_iter().map(String::from).collect()
    }

    fn first_point(&self) -> Result<String> {
        Ok(program().ok(["store", "list-crc", "--store", &self.store, "--point", "1"])?.stdout)
    }

    fn is_intact(&self) -> Result<()> {
        ensure!(self.first_point()? == self.before, "the first point has changed");
        Ok(())
    }

    fn is_sound(&self) -> Result<()> {
        self.is_intact()?;
        let report = program().json(["store", "verify", "--json", "--store", &self.store])?;
        ensure!(report["sound"] == true, "{report}");
        Ok(())
    }

    /// Nothing is left of what did not end.
    fn is_tidy(&self) -> Result<()> {
        let report = program().json(["store", "verify", "--json", "--store", &self.store])?;
        ensure!(report["sound"] == true && report["unfinished_files"] == serde_json::json!([]), "{report}");
        self.is_intact()
    }

    /// A backup that takes some seconds.
    fn start_slowly(&self, cluster: &Cluster, flags: &[&str]) -> Result<Running> {
        program().spawn(self.arguments(cluster, &[&["--full", "--max-rate", "15000000"], flags].concat()))
    }
}

fn seconds(summary: &Value) -> Result<Duration> {
    Ok(Duration::from_secs_f64(summary["seconds"].as_f64().context("no duration")?))
}

fn election_epoch(mon: &Mon) -> Result<u64> {
    mon.status()?["election_epoch"].as_u64().context("no election epoch")
}

/// How many chunks a monitor has been asked for in its life, as its log tells.
fn chunks(mon: &Mon) -> usize {
    mon.log().matches("handle_sync_get_chunk").count()
}

/// Waits until one of the monitors is in the middle of giving a copy that it had not begun when it had been asked for
/// `before` chunks, and answers which.
fn provider_of_a_copy(cluster: &Cluster, before: &[usize]) -> Result<std::sync::Arc<Mon>> {
    let mons = cluster.mons();
    Deadline::after(STEP_MAX).wait_for("a copy is in progress", || {
        mons.iter().zip(before).find(|(mon, before)| chunks(mon) > **before + 5).map(|(mon, _)| mon.clone())
    })
}

fn chunks_of_all(cluster: &Cluster) -> Vec<usize> {
    cluster.mons().iter().map(|mon| chunks(mon)).collect()
}

/// Every monitor is in quorum, the cluster answers, and no log tells of a crash.
fn is_healthy(cluster: &Cluster) -> Result<()> {
    cluster.wait_for_quorum()?;
    let health = cluster.ceph(&["health"])?;
    ensure!(!health.contains("HEALTH_ERR"), "{health}");
    for mon in cluster.mons() {
        let log = mon.log();
        let crash = log.lines().find(|line| {
            line.contains("*** Caught signal")
                || line.contains("FAILED ceph_assert")
                || line.contains("abort(")
        });
        ensure!(crash.is_none(), "mon.{}: {crash:?}", mon.name());
    }
    Ok(())
}

#[test]
fn a_backup_killed_at_fifty_moments_loses_nothing_and_is_made_good_by_the_next() -> Result<()> {
    let cluster = Cluster::builder().fill(FILL).start()?;
    let epoch = election_epoch(&cluster.mon("a"))?;
    let copy = Copy::of(&cluster)?;
    let mut chance = SplitMix::new(SEED);
    let mut at_work = 0;
    for round in 0..KILLS / KILLS_BETWEEN_RUNS {
        let full = round % 2 == 0;
        let flags: &[&str] =
            if full { &["--full", "--max-rate", "80000000"] } else { &["--max-rate", "3000000"] };
        cluster.commits(&format!("round-{round}"), 60, 60_000)?;
        // Less than a run takes at that rate, so that nearly all are killed at work, whatever the machine.
        let longest: u64 = if full { 600 } else { 750 };
        for _ in 0..KILLS_BETWEEN_RUNS {
            let running = program().spawn(copy.arguments(&cluster, flags))?;
            at_work += u32::from(running.kill_after(Duration::from_millis(chance.next_u64() % longest))?);
            copy.is_intact()?;
        }
        let points =
            program().ok(["store", "history", "--json", "--store", &copy.store])?.stdout.lines().count();
        let flags: &[&str] = if full { &["--full"] } else { &[] };
        let summary = program().json(copy.arguments(&cluster, flags))?;
        let history = program().ok(["store", "history", "--json", "--store", &copy.store])?.stdout;
        let made = usize::from(summary["kind"] != "unchanged");
        ensure!(history.lines().count() == points + made, "{points} points, {summary}, then {history}");
    }
    ensure!(at_work > KILLS / 2, "only {at_work} of {KILLS} were killed at work");
    copy.is_tidy()?;
    is_healthy(&cluster)?;
    ensure!(election_epoch(&cluster.mon("a"))? == epoch, "an election was held");
    Ok(())
}

#[test]
fn a_monitor_that_dies_in_the_middle_is_replaced_by_another() -> Result<()> {
    let cluster = Cluster::builder().mons(3).fill(FILL).start()?;
    let copy = Copy::of(&cluster)?;
    let epoch = election_epoch(&cluster.mon("a"))?;
    // A requester that dies means nothing to the monitors.
    let before = chunks_of_all(&cluster);
    let running = copy.start_slowly(&cluster, &[])?;
    provider_of_a_copy(&cluster, &before)?;
    running.kill()?;
    is_healthy(&cluster)?;
    ensure!(election_epoch(&cluster.mon("a"))? == epoch, "an election was held");
    // A provider that dies costs the chunks so far.
    let before = chunks_of_all(&cluster);
    let mut running = copy.start_slowly(&cluster, &["--connect-timeout", "3"])?;
    let victim = provider_of_a_copy(&cluster, &before)?;
    victim.kill()?;
    let ended = running.wait(STEP_MAX)?;
    ensure!(ended.code() == Some(0), "{ended}: {}", running.stderr());
    let summary: Value = serde_json::from_str(&running.stdout())?;
    let from = summary["monitor"].as_str().unwrap_or_default().to_owned();
    ensure!(from.starts_with("mon.") && !from.starts_with(&format!("mon.{} ", victim.name())), "{summary}");
    ensure!(running.stderr().contains(&victim.addr().to_string()), "{}", running.stderr());
    copy.is_sound()?;
    victim.start()?;
    is_healthy(&cluster)
}

#[test]
fn the_only_monitor_that_dies_in_the_middle_ends_the_backup_with_the_reason() -> Result<()> {
    let cluster = Cluster::builder().fill(FILL).start()?;
    let copy = Copy::of(&cluster)?;
    let before = chunks_of_all(&cluster);
    let mut running = copy.start_slowly(&cluster, &["--connect-timeout", "2"])?;
    let victim = provider_of_a_copy(&cluster, &before)?;
    victim.kill()?;
    let ended = running.wait(STEP_MAX)?;
    ensure!(ended.code() == Some(6), "{ended}: {}", running.stderr());
    let reason = running.stderr();
    ensure!(
        reason.contains("none of 3 attempts with 1 monitors") && reason.contains("disconnected"),
        "{reason}"
    );
    copy.is_sound()?;
    victim.start()?;
    is_healthy(&cluster)?;
    program().ok(copy.arguments(&cluster, &["--full"]))?;
    copy.is_tidy()
}

#[test]
fn a_frozen_monitor_ends_the_backup_and_one_that_thaws_in_time_does_not() -> Result<()> {
    let cluster = Cluster::builder().fill(FILL).start()?;
    let copy = Copy::of(&cluster)?;
    let mon = cluster.mon("a");
    let before = chunks_of_all(&cluster);
    let mut running = copy.start_slowly(&cluster, &["--stall-timeout", "2", "--connect-timeout", "2"])?;
    provider_of_a_copy(&cluster, &before)?;
    mon.pause()?;
    let ended = running.wait(STEP_MAX)?;
    ensure!(ended.code() == Some(6), "{ended}: {}", running.stderr());
    let reason = running.stderr();
    ensure!(reason.contains("no chunk within 2s"), "{reason}");
    copy.is_sound()?;
    mon.resume()?;
    is_healthy(&cluster)?;
    // The same for one second, which is a second of patience less than it has.
    let before = chunks_of_all(&cluster);
    let mut running = copy.start_slowly(&cluster, &["--stall-timeout", "30"])?;
    provider_of_a_copy(&cluster, &before)?;
    mon.pause()?;
    let still = running.wait(Duration::from_secs(1));
    ensure!(still.is_err(), "it did not wait for the monitor: {}", running.stderr());
    mon.resume()?;
    let ended = running.wait(STEP_MAX)?;
    ensure!(ended.code() == Some(0), "{ended}: {}", running.stderr());
    let summary: Value = serde_json::from_str(&running.stdout())?;
    ensure!(seconds(&summary)? > Duration::from_secs(1), "{summary}");
    ensure!(running.stderr().is_empty(), "it did not wait for the monitor: {}", running.stderr());
    copy.is_tidy()?;
    is_healthy(&cluster)
}
