//! The harness itself: clusters come up, do what they are told, and leave nothing behind.

use core::time::Duration;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use cuttlebone_testkit::{Cluster, Fill};

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).join("exe").exists()
}

#[test]
fn a_cluster_of_one_comes_up_and_leaves_nothing_behind() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let pid = cluster.mon("a").pid()?;
    let dir = cluster.path().to_owned();
    assert!(cluster.ceph(&["-s"])?.contains("quorum a"));
    assert_eq!(cluster.ceph_json(&["mon", "dump"])?["fsid"], cluster.fsid().to_string());
    cluster.config_key_set("greeting", "hello")?;
    assert_eq!(cluster.ceph(&["config-key", "get", "greeting"])?.trim(), "hello");
    assert!(is_alive(pid));
    drop(cluster);
    assert!(!is_alive(pid) && !dir.exists());
    Ok(())
}

#[test]
fn three_monitors_survive_the_loss_of_one_and_take_it_back() -> Result<()> {
    let cluster = Cluster::builder().mons(3).start()?;
    cluster.mon("b").kill()?;
    cluster.mon("a").wait_for_quorum(2)?;
    cluster.commits("while-b-was-away", 10, 100)?;
    cluster.mon("b").start()?;
    cluster.wait_for_quorum()
}

#[test]
fn a_cluster_that_is_dropped_by_a_panic_leaves_no_process() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let pid = cluster.mon("a").pid()?;
    let dir = cluster.path().to_owned();
    let result = std::thread::spawn(move || {
        let _cluster = cluster;
        panic!("as a failing test does");
    })
    .join();
    assert!(result.is_err() && !is_alive(pid));
    assert!(dir.join("mon.a.log").exists(), "the files of a failed test are kept");
    Ok(fs::remove_dir_all(dir)?)
}

#[test]
fn commits_are_paxos_versions_of_their_own() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let paxos = |cluster: &Cluster| -> Result<u64> {
        let report = cluster.ceph_json(&["report"])?;
        report["paxos"]["last_committed"].as_u64().context("the report has a paxos version")
    };
    let before = paxos(&cluster)?;
    cluster.commits("n", 100, 10)?;
    assert!(paxos(&cluster)? >= before + 100);
    Ok(())
}

#[test]
fn a_filled_store_lists_every_key_with_its_checksum() -> Result<()> {
    let fill = Fill { keys: 300, value_bytes: 1000, seed: 1 };
    let cluster = Cluster::builder().fill(fill).start()?;
    let mon = cluster.mon("a");
    mon.stop()?;
    mon.fill(&Fill { keys: 301, ..fill })?;
    let lines = mon.store_list_crc()?;
    assert_eq!(
        lines.iter().filter(|line| line.starts_with("mon_config_key\tfill/")).count(),
        301,
        "{lines:?}"
    );
    mon.start()?;
    mon.wait_for_quorum(1)?;
    assert!(cluster.ceph(&["config-key", "get", "fill/00000300"])?.len() > 100);
    Ok(())
}

#[test]
fn a_frozen_monitor_answers_again_when_it_thaws() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let mon = cluster.mon("a");
    mon.pause()?;
    let stat = fs::read_to_string(format!("/proc/{}/stat", mon.pid()?))?;
    assert!(stat.contains(") T "), "{stat}");
    mon.resume()?;
    assert_eq!(mon.status()?["state"], "leader");
    mon.pause()?;
    mon.stop()?;
    mon.start()?;
    mon.wait_for_quorum(1)?;
    mon.wait_for_log(0, "init", Duration::from_secs(5)).map(|_| ())
}

#[test]
fn a_fresh_monitor_synchronises_from_the_cluster() -> Result<()> {
    let cluster = Cluster::builder().fill(Fill { keys: 100, value_bytes: 100, seed: 2 }).start()?;
    cluster.commits("n", 20, 10)?;
    let source = cluster.mon("a");
    let fresh = cluster.fresh_mon("x", &[("a", source.addrs())])?;
    fresh.start()?;
    fresh.wait_for_log(0, "sync_finish", Duration::from_secs(30))?;
    assert!(Arc::ptr_eq(&fresh, &cluster.mon("x")));
    Ok(())
}

#[test]
fn a_real_monitor_synchronises_through_a_network_that_takes_its_time() -> Result<()> {
    let delay = Duration::from_millis(10);
    let cluster =
        Cluster::builder().fill(Fill { keys: 100, value_bytes: 100, seed: 3 }).delay(delay).start()?;
    cluster.commits("n", 20, 10)?;
    let fresh = cluster.fresh_mon("x", &[("a", cluster.mon("a").addrs())])?;
    fresh.start()?;
    fresh.wait_for_log(0, "sync_finish", Duration::from_secs(30)).map(|_| ())
}
