//! A node as an engineer composes it: it follows a real monitor and serves fresh ones at the same time.

use core::time::Duration;

use anyhow::{Context, Result};
use cuttlebone_http::TokioClock;
use cuttlebone_http::status::Stage;
use cuttlebone_node::{MonSync, Node, Provider};
use cuttlebone_store::{Reader, Selector};
use cuttlebone_testkit::{Cluster, Deadline};
use cuttlebone_tokens::{Config, OwnerId, Registry, Takeover};

#[test]
fn a_node_follows_one_monitor_and_seeds_another() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let dir = tempfile::tempdir()?;
    let registry = Registry::new(Config::default(), TokioClock::new());
    let node = Node::builder()
        .tokens(registry.clone())
        .sink(Provider::new())
        .listen(([127, 0, 0, 1], 0).into())
        .source(MonSync::from(vec![cluster.mon("a").addrs().clone()]).every(Duration::from_millis(100)))
        .copy(dir.path().join("copy"))
        .build()?;
    let handle = node.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(node.run(async move { drop(stopped.await) }))?)
    });
    let deadline = || Deadline::after(Duration::from_secs(30));
    let listening = deadline().wait_for("the node listens", || handle.listening())?;
    deadline().wait_for("it serves", || (handle.status().node.stage == Stage::Serving).then_some(()))?;
    cluster.config_key_set("greeting", "hello")?;
    cluster.commits("more", 20, 100)?;
    let copy = dir.path().join("copy");
    deadline().wait_for("the node has what was committed", || {
        let view = Reader::open(&copy).ok()?.at(Selector::Latest).ok()?;
        view.get(b"mon_config_key", b"more/19").ok()?.map(drop)
    })?;
    // The node gives up on the monitor that goes away, and goes on serving.
    cluster.stop()?;
    let fresh = cluster.fresh_mon("a", &[("cuttlebone", &listening)])?;
    // While somebody else has the name whose tokens admit monitors, the monitor waits for its turn.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let held = runtime.block_on(registry.register("provide", OwnerId(1), Takeover::Deny))?;
    fresh.start()?;
    let waits = || registry.lookup("provide", 0).is_some_and(|view| view.registrants == 1).then_some(());
    deadline().wait_for("the monitor waits for its turn", waits)?;
    let before = registry.lookup("provide", 0).and_then(|view| view.epoch);
    drop(held);
    fresh.wait_for_quorum(1)?;
    let after = registry.lookup("provide", 0).context("the name of those who synchronise")?;
    assert!(after.epoch > before, "it has had its turn under another incarnation: {after:?}");
    assert_eq!((after.outstanding, after.slots_max), (0, 4), "and has given it back");
    assert_eq!(cluster.ceph(&["config-key", "get", "greeting"])?.trim(), "hello");
    stop.send(()).ok().context("the node has ended by itself")?;
    thread.join().expect("the node does not panic")
}
