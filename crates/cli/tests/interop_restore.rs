//! Fresh monitors made from a copy: over the wire from `mon serve`, and offline from a trace.

use core::time::Duration;

use anyhow::{Context, Result};
use cuttlebone_testkit::{Cluster, Fill, Program, Running, free_port};
use cuttlebone_wire::{EntityAddr, EntityAddrs};

fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_cuttlebone"))
}

/// Keys, and the values that a restored cluster has to answer with.
const KEYS: [(&str, &str); 3] = [("greeting", "hello"), ("a/b/c", "x"), ("dm-crypt/osd/1/luks", "secret")];

fn set_keys(cluster: &Cluster) -> Result<()> {
    KEYS.iter().try_for_each(|(key, value)| cluster.config_key_set(key, value))
}

fn answers_as_before(cluster: &Cluster, fsid: &str) -> Result<()> {
    assert_eq!(cluster.ceph(&["fsid"])?.trim(), fsid);
    for (key, value) in KEYS {
        assert_eq!(cluster.ceph(&["config-key", "get", key])?.trim(), value);
    }
    assert!(cluster.ceph(&["-s"])?.contains("quorum"));
    // It does not only answer, it commits.
    cluster.config_key_set("after", "restore")
}

/// A provider of the copy, on a port that is known before it starts.
struct Provider {
    addrs: EntityAddrs,
    store: String,
}

impl Provider {
    fn of(store: &str) -> Result<Self> {
        let addr: EntityAddr = format!("v2:127.0.0.1:{}/0", free_port()?).parse()?;
        Ok(Self { addrs: addr.into(), store: store.into() })
    }

    fn start(&self) -> Result<Running> {
        let listen = self.addrs.to_string();
        let mut running = program().spawn(["mon", "serve", "--store", &self.store, "--listen", &listen])?;
        running.wait_for("serving point", Duration::from_secs(30))?;
        Ok(running)
    }
}

fn backup(cluster: &Cluster, store: &str) -> Result<()> {
    program().ok(["mon", "backup", "--mon", &cluster.mon_host(), "--store", store]).map(|_| ())
}

#[test]
fn a_single_monitor_is_restored_over_the_wire() -> Result<()> {
    let cluster = Cluster::builder().fill(Fill { keys: 2_000, value_bytes: 10_000, seed: 21 }).start()?;
    set_keys(&cluster)?;
    let scratch = tempfile::tempdir()?;
    let store = scratch.path().join("copy").display().to_string();
    backup(&cluster, &store)?;
    let provider = Provider::of(&store)?;
    let mut serving = provider.start()?;
    cluster.stop()?;
    let fresh = cluster.fresh_mon("a", &[("cuttlebone", &provider.addrs)])?;
    fresh.start()?;
    fresh.wait_for_quorum(1)?;
    assert_eq!(fresh.status()?["state"], "leader");
    answers_as_before(&cluster, &cluster.fsid().to_string())?;
    assert!(cluster.ceph(&["config-key", "exists", "fill/00001999"]).is_ok());
    serving.wait_for("finished", Duration::from_secs(10))?;
    assert_eq!(serving.stop()?.code(), Some(0));
    Ok(())
}

#[test]
fn three_monitors_are_restored_in_any_order_with_the_provider_late() -> Result<()> {
    let cluster =
        Cluster::builder().mons(3).fill(Fill { keys: 500, value_bytes: 10_000, seed: 22 }).start()?;
    set_keys(&cluster)?;
    let scratch = tempfile::tempdir()?;
    let store = scratch.path().join("copy").display().to_string();
    backup(&cluster, &store)?;
    cluster.stop()?;
    let provider = Provider::of(&store)?;
    for name in ["c", "a", "b"] {
        // A seed map of itself and the provider: no majority without us, so no empty cluster can come to be.
        let fresh = cluster.fresh_mon(name, &[("cuttlebone", &provider.addrs)])?;
        fresh.start()?;
        fresh.wait_for_log(0, "probing", Duration::from_secs(20))?;
    }
    let _serving = provider.start()?;
    cluster.wait_for_quorum()?;
    answers_as_before(&cluster, &cluster.fsid().to_string())
}

#[test]
fn a_monitor_is_restored_offline_from_a_trace() -> Result<()> {
    let cluster = Cluster::builder().fill(Fill { keys: 1_000, value_bytes: 20_000, seed: 23 }).start()?;
    set_keys(&cluster)?;
    let scratch = tempfile::tempdir()?;
    let store = scratch.path().join("copy").display().to_string();
    let trace = scratch.path().join("trace");
    backup(&cluster, &store)?;
    let out = trace.display().to_string();
    program().ok(["store", "export", "--format", "trace", "--store", &store, "--out", &out])?;
    cluster.stop()?;
    let fresh = cluster.fresh_mon("a", &[])?;
    fresh.replay_trace(&trace)?;
    fresh.start()?;
    fresh.wait_for_quorum(1)?;
    answers_as_before(&cluster, &cluster.fsid().to_string())
}

#[test]
fn an_earlier_point_can_be_restored_too() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    cluster.config_key_set("greeting", "early")?;
    let scratch = tempfile::tempdir()?;
    let store = scratch.path().join("copy").display().to_string();
    backup(&cluster, &store)?;
    cluster.config_key_set("greeting", "late")?;
    backup(&cluster, &store)?;
    let trace = scratch.path().join("trace");
    let out = trace.display().to_string();
    program().ok(["store", "export", "--store", &store, "--point", "1", "--out", &out])?;
    cluster.stop()?;
    let fresh = cluster.fresh_mon("a", &[])?;
    fresh.replay_trace(&trace)?;
    fresh.start()?;
    fresh.wait_for_quorum(1)?;
    assert_eq!(cluster.ceph(&["config-key", "get", "greeting"])?.trim(), "early");
    Ok(())
}

#[test]
fn a_provider_follows_the_copy_that_a_backup_keeps_current() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    cluster.config_key_set("greeting", "early")?;
    let scratch = tempfile::tempdir()?;
    let store = scratch.path().join("copy").display().to_string();
    backup(&cluster, &store)?;
    let provider = Provider::of(&store)?;
    let _serving = provider.start()?;
    cluster.config_key_set("greeting", "late")?;
    backup(&cluster, &store)?;
    cluster.stop()?;
    let fresh = cluster.fresh_mon("a", &[("cuttlebone", &provider.addrs)])?;
    fresh.start()?;
    fresh.wait_for_quorum(1)?;
    assert_eq!(cluster.ceph(&["config-key", "get", "greeting"])?.trim(), "late");
    let log = fresh.log();
    log.lines()
        .find(|line| line.contains("sync_start") && line.contains("full"))
        .context("no full synchronisation")?;
    Ok(())
}
