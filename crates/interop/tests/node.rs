//! A node as an engineer composes it: it follows a real monitor and serves fresh ones at the same time.

use core::time::Duration;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use cuttlebone_node::{MonSync, Node, NodeEvent, Provider};
use cuttlebone_testkit::{Cluster, Deadline};
use cuttlebone_wire::EntityAddrs;

#[test]
fn a_node_follows_one_monitor_and_seeds_another() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let dir = tempfile::tempdir()?;
    let node = Node::builder()
        .sink(Provider::listening(([127, 0, 0, 1], 0).into()))
        .source(MonSync::from(vec![cluster.mon("a").addrs().clone()]).every(Duration::from_millis(100)))
        .copy(dir.path().join("copy"))
        .build()?;
    let seen: Arc<Mutex<(Option<EntityAddrs>, u64)>> = Arc::default();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = Arc::clone(&seen);
    let thread = std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shutdown = async move { drop(stopped.await) };
        let mut report = |event: NodeEvent<'_>| {
            let mut seen = running.lock().expect("no test panics in here");
            match event {
                NodeEvent::Listening { addrs, .. } => seen.0 = Some(addrs.clone()),
                NodeEvent::Source(cuttlebone_node::BackupEvent::Pulled { outcome, .. }) => {
                    seen.1 = outcome.last_committed;
                }
                _ => {}
            }
        };
        Ok(runtime.block_on(node.run(shutdown, &mut report))?)
    });
    let look = || seen.lock().expect("no test panics in here").clone();
    let listening = Deadline::after(Duration::from_secs(30)).wait_for("the node listens", || look().0)?;
    cluster.config_key_set("greeting", "hello")?;
    let before = look().1;
    cluster.commits("more", 20, 100)?;
    Deadline::after(Duration::from_secs(30))
        .wait_for("the node has what was committed", || (look().1 >= before + 20).then_some(()))?;
    // The node gives up on the monitor that goes away, and goes on serving.
    cluster.stop()?;
    let fresh = cluster.fresh_mon("a", &[("cuttlebone", &listening)])?;
    fresh.start()?;
    fresh.wait_for_quorum(1)?;
    assert_eq!(cluster.ceph(&["config-key", "get", "greeting"])?.trim(), "hello");
    stop.send(()).ok().context("the node has ended by itself")?;
    thread.join().expect("the node does not panic")
}
