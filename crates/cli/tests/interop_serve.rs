//! A real fresh monitor that synchronises from `mon serve` while others misbehave, and while the provider dies.

mod peer;

use core::time::Duration;

use anyhow::{Context, Result, ensure};
use cuttlebone_testkit::{Cluster, Deadline, Fill, Mon, Program, Running, free_port};
use cuttlebone_wire::{EntityAddr, EntityAddrs};
use peer::{Peer, asks_and_never_reads, runtime, silent, subscribe};
use tempfile::TempDir;

/// How long a monitor may take to begin its synchronisation on a busy machine.
const STEP_MAX: Duration = Duration::from_secs(60);

fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_cuttlebone"))
}

/// The copy of a cluster that is no more, and a provider of it in small chunks, so that a synchronisation takes long
/// enough to be disturbed.
struct Scene {
    cluster: Cluster,
    _scratch: TempDir,
    store: String,
    addr: EntityAddr,
}

impl Scene {
    fn set(seed: u64) -> Result<Self> {
        let fill = Fill { keys: 10_000, value_bytes: 4_000, seed };
        // A monitor whose provider is silent tries again after this time; 60 s if nothing is said.
        let cluster = Cluster::builder().fill(fill).option("mon_sync_timeout", "3").start()?;
        cluster.config_key_set("greeting", "hello")?;
        let scratch = tempfile::tempdir()?;
        let store = scratch.path().join("copy").display().to_string();
        program().ok(["mon", "backup", "--mon", &cluster.mon_host(), "--store", &store])?;
        cluster.stop()?;
        let addr = format!("v2:127.0.0.1:{}/0", free_port()?).parse()?;
        Ok(Self { cluster, _scratch: scratch, store, addr })
    }

    fn serve(&self) -> Result<Running> {
        let listen = self.addr.to_string();
        let small = ["--chunk-bytes", "8192"];
        let serve = ["mon", "serve", "--store", &self.store, "--listen", &listen];
        let mut running = program().spawn(serve.into_iter().chain(small))?;
        running.wait_for("serving point", STEP_MAX)?;
        Ok(running)
    }

    fn fresh_mon(&self) -> Result<std::sync::Arc<Mon>> {
        let provider: EntityAddrs = self.addr.clone().into();
        self.cluster.fresh_mon("a", &[("cuttlebone", &provider)])
    }

    fn is_restored(&self, mon: &Mon) -> Result<()> {
        mon.wait_for_quorum(1)?;
        ensure!(self.cluster.ceph(&["config-key", "get", "greeting"])?.trim() == "hello");
        ensure!(self.cluster.ceph(&["config-key", "exists", "fill/00009999"]).is_ok());
        let log = mon.log();
        ensure!(!log.contains("*** Caught signal") && !log.contains("FAILED ceph_assert"), "it crashed");
        Ok(())
    }
}

/// Chunks that a monitor has received in its life.
fn chunks(mon: &Mon) -> usize {
    mon.log().matches("handle_sync_chunk").count()
}

fn wait_for_chunks(mon: &Mon, more: usize) -> Result<()> {
    let before = chunks(mon);
    Deadline::after(STEP_MAX)
        .wait_for("a synchronisation is under way", || (chunks(mon) >= before + more).then_some(()))
}

#[test]
fn a_fresh_monitor_gets_its_copy_among_peers_that_are_deaf_or_dumb_or_never_stop_asking() -> Result<()> {
    let scene = Scene::set(41)?;
    let mut serving = scene.serve()?;
    let runtime = runtime()?;
    let _dumb = silent(scene.addr.socket_addr().context("no address")?, 200)?;
    let mut deaf = Vec::new();
    for _ in 0..4 {
        deaf.push(runtime.block_on(asks_and_never_reads(&scene.addr, 64))?);
    }
    let addr = scene.addr.clone();
    let asking = runtime.spawn(async move {
        let mut asked = 0_u64;
        while let Ok(peer) = Peer::monitor(&addr).await {
            while peer.send(subscribe()).await.is_ok() {
                asked += 1;
            }
        }
        asked
    });
    // A copy that somebody began and left is nobody's concern either.
    drop(runtime.block_on(asks_and_never_reads(&scene.addr, 1))?);
    let mon = scene.fresh_mon()?;
    mon.start()?;
    scene.is_restored(&mon)?;
    ensure!(!asking.is_finished(), "the provider did not hold out: {}", serving.stderr());
    ensure!(serving.ended()?.is_none(), "{}", serving.stderr());
    drop(deaf);
    asking.abort();
    ensure!(serving.stop()?.code() == Some(0), "it did not end in good order");
    Ok(())
}

#[test]
fn a_fresh_monitor_completes_after_its_provider_was_killed_and_came_back() -> Result<()> {
    let scene = Scene::set(42)?;
    let mon = scene.fresh_mon()?;
    let serving = scene.serve()?;
    mon.start()?;
    wait_for_chunks(&mon, 50)?;
    serving.kill()?;
    ensure!(mon.status()?["state"] == "synchronizing", "it was killed too late to matter");
    let mut serving = scene.serve()?;
    scene.is_restored(&mon)?;
    serving.wait_for("finished", STEP_MAX)?;
    ensure!(serving.stop()?.code() == Some(0), "it did not end in good order");
    Ok(())
}
