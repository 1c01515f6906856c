//! A live monitor's store copied: equal to the original, key by key, and kept current.

use core::time::Duration;
use std::collections::BTreeSet;
use std::thread;

use anyhow::{Context, Result, ensure};
use cuttlebone_testkit::{Cluster, Deadline, Fill, Mon, Program};
use serde_json::Value;

/// Prefixes of one monitor's own, which no monitor sends.
const PRIVATE: [&str; 4] = ["mkfs\t", "mon_sync\t", "monitor\t", "monitor_store\t"];

fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_cuttlebone"))
}

fn backup(cluster: &Cluster, store: &str) -> Result<Value> {
    let mon = cluster.mon("a").addr().to_string();
    program().json(["mon", "backup", "--json", "--mon", &mon, "--store", store])
}

fn shared(lines: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let own = |line: &String| PRIVATE.iter().any(|prefix| line.starts_with(prefix));
    lines.into_iter().filter(|line| !own(line)).collect()
}

fn list_crc(store: &str) -> Result<BTreeSet<String>> {
    Ok(shared(program().ok(["store", "list-crc", "--store", store])?.stdout.lines().map(String::from)))
}

/// The version that a stopped monitor ended at.
fn last_committed(mon: &Mon) -> Result<u64> {
    let value = mon.store_get("paxos", "last_committed")?;
    let value = value.first_chunk().context("last_committed is shorter than eight bytes")?;
    Ok(u64::from_le_bytes(*value))
}

/// Copies everything from a monitor that stands still, stops it, and compares every line that the real tool prints.
///
/// It has to stand still from the first key to its end: some keys are derived from versions by each monitor for
/// itself, such as `osdmap:full_<n>`, so a copy that was overtaken by a commit has them as of its start.
fn equals_its_source(cluster: &Cluster) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mon = cluster.mon("a");
    for round in 0..10 {
        let store = scratch.path().join(round.to_string()).display().to_string();
        let summary = backup(cluster, &store)?;
        mon.stop()?;
        let end = Some(last_committed(&mon)?);
        if summary["from_version"].as_u64() == end && summary["version"].as_u64() == end {
            let source = shared(mon.store_list_crc()?);
            let copy = list_crc(&store)?;
            ensure!(source.len() > 40, "{} keys are no monitor's store", source.len());
            let differing: Vec<_> = source.symmetric_difference(&copy).take(10).collect();
            ensure!(differing.is_empty(), "{} and {} keys: {differing:?}", source.len(), copy.len());
            program().ok(["store", "verify", "--store", &store])?;
            return Ok(());
        }
        std::fs::remove_dir_all(&store)?;
        mon.start()?;
        mon.wait_for_quorum(1)?;
    }
    anyhow::bail!("the monitor never stood still during a copy")
}

/// Stops the monitor and compares what follows from paxos versions alone.
fn has_caught_up(cluster: &Cluster, store: &str) -> Result<()> {
    let mon = cluster.mon("a");
    for _ in 0..10 {
        let summary = backup(cluster, store)?;
        mon.stop()?;
        if summary["version"].as_u64() == Some(last_committed(&mon)?) {
            let derived = |line: &String| {
                let key = line.split('\t').nth(1).unwrap_or_default();
                key.starts_with("full_") || line.starts_with("paxos\tpending_") || key.ends_with("_pn")
            };
            let without = |lines: BTreeSet<String>| lines.into_iter().filter(|line| !derived(line)).collect();
            let source: BTreeSet<String> = without(shared(mon.store_list_crc()?));
            let copy: BTreeSet<String> = without(list_crc(store)?);
            let differing: Vec<_> = source.symmetric_difference(&copy).take(10).collect();
            ensure!(differing.is_empty(), "{} and {} keys: {differing:?}", source.len(), copy.len());
            program().ok(["store", "verify", "--store", store])?;
            return Ok(());
        }
        mon.start()?;
        mon.wait_for_quorum(1)?;
    }
    anyhow::bail!("the monitor never stood still between a copy and its end")
}

#[test]
fn a_copy_of_a_fresh_store_equals_it() -> Result<()> {
    equals_its_source(&Cluster::builder().start()?)
}

#[test]
fn a_copy_of_5_000_keys_of_64_kib_equals_its_source() -> Result<()> {
    equals_its_source(&Cluster::builder().fill(Fill { keys: 5_000, value_bytes: 65_536, seed: 11 }).start()?)
}

#[test]
fn a_copy_of_300_000_keys_of_1_kib_equals_its_source() -> Result<()> {
    equals_its_source(&Cluster::builder().fill(Fill { keys: 300_000, value_bytes: 1_024, seed: 12 }).start()?)
}

#[test]
fn a_copy_of_1_000_000_keys_of_200_bytes_equals_its_source() -> Result<()> {
    equals_its_source(&Cluster::builder().fill(Fill { keys: 1_000_000, value_bytes: 200, seed: 13 }).start()?)
}

#[test]
fn a_copy_taken_while_400_commits_run_is_consistent_and_catches_up() -> Result<()> {
    let fill = Fill { keys: 5_000, value_bytes: 65_536, seed: 14 };
    let cluster = Cluster::builder().fill(fill).start()?;
    let scratch = tempfile::tempdir()?;
    let store = scratch.path().join("copy").display().to_string();
    let summary = thread::scope(|scope| -> Result<Value> {
        let load = scope.spawn(|| cluster.commits("load", 400, 2_000));
        let before = version(&cluster)?;
        Deadline::after(Duration::from_secs(30)).wait_for("the load to begin", || {
            version(&cluster).is_ok_and(|now| now > before + 20).then_some(())
        })?;
        // Slow enough that commits arrive in the middle of it.
        let mon = cluster.mon("a").addr().to_string();
        let slow = ["mon", "backup", "--json", "--max-rate", "200000000", "--mon", &mon, "--store", &store];
        let summary = program().json(slow)?;
        load.join().expect("the load does not panic")?;
        Ok(summary)
    })?;
    ensure!(
        summary["version"].as_u64() > summary["from_version"].as_u64(),
        "nothing was committed meanwhile: {summary}"
    );
    // Windows without gaps, and nothing beyond last_committed, at this very point.
    let report = program().json(["store", "verify", "--json", "--store", &store])?;
    ensure!(report["sound"] == true, "{report}");
    has_caught_up(&cluster, &store)
}

/// The paxos version that the monitor stands at.
fn version(cluster: &Cluster) -> Result<u64> {
    let status = cluster.mon("a").admin(&serde_json::json!({"prefix": "mon_status"}))?;
    let log = cluster.mon("a").admin(&serde_json::json!({"prefix": "perf dump"}))?;
    let commits = log["paxos"]["commit"].as_u64();
    commits.with_context(|| format!("no counter of commits; {}", status["state"]))
}

#[test]
fn a_second_backup_moves_only_what_is_new() -> Result<()> {
    let cluster = Cluster::builder().fill(Fill { keys: 1_000, value_bytes: 10_000, seed: 15 }).start()?;
    let scratch = tempfile::tempdir()?;
    let store = scratch.path().join("copy").display().to_string();
    let first = backup(&cluster, &store)?;
    assert_eq!(first["kind"], "full");
    cluster.commits("new", 100, 100)?;
    let second = backup(&cluster, &store)?;
    assert_eq!(second["kind"], "incremental");
    assert_eq!(second["from_version"], first["version"]);
    let versions = second["versions"].as_u64().unwrap_or(0);
    assert!((100..200).contains(&versions), "{second}");
    assert_eq!(second["moved_keys"].as_u64(), Some(versions));
    assert!(second["moved_bytes"].as_u64() < Some(1_000_000), "{second}");
    // Both points can be read, and differ by what was committed.
    let history = program().ok(["store", "history", "--json", "--store", &store])?.stdout;
    let points: Vec<Value> = history.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(points.len(), 2, "{history}");
    let get = |point: &str| {
        program().run(["store", "get", "--store", &store, "--point", point, "mon_config_key", "new/99"])
    };
    assert_eq!(get("1")?.code, Some(4));
    assert_eq!(get("2")?.code, Some(0));
    let differences = program().run(["store", "diff", "--store", &store])?;
    assert_eq!(differences.code, Some(7));
    assert!(differences.stdout.contains("+ mon_config_key\tnew/99\n"), "{}", differences.stdout);
    has_caught_up(&cluster, &store)
}

#[test]
fn a_copy_that_fell_behind_is_pulled_anew_and_says_so() -> Result<()> {
    let cluster = Cluster::builder().option("paxos_min", "5").option("paxos_trim_min", "5").start()?;
    let scratch = tempfile::tempdir()?;
    let store = scratch.path().join("copy").display().to_string();
    backup(&cluster, &store)?;
    cluster.commits("much", 120, 100)?;
    let second = backup(&cluster, &store)?;
    assert_eq!((&second["kind"], &second["fell_behind"]), (&"full".into(), &true.into()), "{second}");
    equals_its_source(&cluster)
}

#[test]
fn a_following_backup_is_less_than_two_seconds_behind() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let scratch = tempfile::tempdir()?;
    let store = scratch.path().join("copy").display().to_string();
    let mon = cluster.mon("a").addr().to_string();
    let mut following =
        program().spawn(["mon", "backup", "--follow", "--json", "--mon", &mon, "--store", &store])?;
    following.wait_for("\"kind\":\"full\"", Duration::from_secs(30))?;
    for round in 0..5 {
        cluster.commits(&format!("round-{round}"), 1, 10)?;
        // Two seconds on a quiet machine; the limit here only tells a follower from one that sleeps.
        let key = format!("round-{round}/0");
        let get = ["store", "get", "--store", &store, "mon_config_key", &key];
        Deadline::after(Duration::from_secs(30))
            .wait_for(&key, || program().run(get).is_ok_and(|got| got.code == Some(0)).then_some(()))?;
    }
    assert_eq!(following.stop()?.code(), Some(0));
    has_caught_up(&cluster, &store)
}

#[test]
fn a_peon_is_preferred_and_a_dead_monitor_is_passed_over() -> Result<()> {
    let cluster = Cluster::builder().mons(3).start()?;
    let scratch = tempfile::tempdir()?;
    let store = scratch.path().join("copy").display().to_string();
    let all = cluster.mon_host();
    let backup = || program().json(["mon", "backup", "--json", "--mon", &all, "--store", &store]);
    // On a busy machine another election may change who leads while we look.
    let (leader, summary) = loop {
        let before = cluster.ceph_json(&["quorum_status"])?;
        let summary = backup()?;
        if cluster.ceph_json(&["quorum_status"])?["election_epoch"] == before["election_epoch"] {
            break (before["quorum_leader_name"].as_str().context("no leader")?.to_owned(), summary);
        }
    };
    let from = summary["monitor"].as_str().context("no monitor")?.to_owned();
    assert!(!from.starts_with(&format!("mon.{leader} ")), "{from} leads");
    // The one that was chosen dies; the next run finds another.
    let name = from.trim_start_matches("mon.").split(' ').next().unwrap_or_default().to_owned();
    cluster.mon(&name).kill()?;
    cluster.mon(&leader).wait_for_quorum(2)?;
    let again = backup()?;
    assert_ne!(again["monitor"], summary["monitor"]);
    Ok(())
}

#[test]
fn a_backup_of_a_loaded_cluster_causes_no_election() -> Result<()> {
    let fill = Fill { keys: 5_000, value_bytes: 65_536, seed: 16 };
    let cluster = Cluster::builder().mons(3).fill(fill).start()?;
    let scratch = tempfile::tempdir()?;
    let epoch = |cluster: &Cluster| -> Result<u64> {
        cluster.mon("a").status()?["election_epoch"].as_u64().context("no election epoch")
    };
    let before = epoch(&cluster)?;
    thread::scope(|scope| -> Result<()> {
        let load = scope.spawn(|| cluster.commits("load", 300, 1_000));
        for round in 0..3 {
            let store = scratch.path().join(round.to_string()).display().to_string();
            let all = cluster.mon_host();
            program().json(["mon", "backup", "--json", "--mon", &all, "--store", &store])?;
        }
        load.join().expect("the load does not panic")
    })?;
    assert_eq!(epoch(&cluster)?, before, "an election was held");
    Ok(())
}
