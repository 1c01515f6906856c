//! Three nodes and a real monitor: what changes in the cluster is on every node, whichever is killed when.
//!
//! `CUTTLEBONE_ROUNDS=<n>` kills that many nodes.

use core::time::Duration;

use anyhow::{Context, Result, ensure};
use cuttlebone_testkit::{Cluster, Deadline};
use tokio::time::Instant;

mod running;

use running::three::{shared, three};
use running::{Running, rounds};

const WITHIN: Duration = Duration::from_secs(60);
/// Waits until every node has the key, and says how long that took.
fn appears_everywhere(nodes: &[Running], key: &str) -> Result<Duration> {
    let started = Instant::now();
    let line = format!("mon_config_key\t{key}\t");
    for node in nodes {
        Deadline::after(WITHIN).wait_for(format!("{key} on {}", node.name()), || {
            node.list_crc().ok()?.lines().any(|it| it.starts_with(&line)).then_some(())
        })?;
    }
    Ok(started.elapsed())
}

#[test]
fn what_changes_in_the_cluster_is_on_every_node_whichever_is_killed() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let dir = tempfile::tempdir()?;
    let mut nodes = three(&cluster, dir.path())?;
    cluster.config_key_set("first", "value")?;
    let took = appears_everywhere(&nodes, "first")?;
    eprintln!("on every node {} ms after the command", took.as_millis());

    let mut seed = 0x5eed_u64;
    for round in 0..rounds(6) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let victim = usize::try_from(seed >> 33).unwrap_or(0) % 3;
        cluster.commits(&format!("before-{round}"), 40, 200)?;
        nodes[victim].kill()?;
        cluster.commits(&format!("meanwhile-{round}"), 40, 200)?;
        nodes[victim].start()?;
        let key = format!("after-{round}");
        cluster.config_key_set(&key, "value")?;
        let took = appears_everywhere(&nodes, &key)?;
        eprintln!(
            "round {round}: {} was killed, current again after {} ms",
            nodes[victim].name(),
            took.as_millis()
        );
    }

    // Nothing is committed any more, so all of them come to the same, and that is what the monitor has.
    let all = Deadline::after(WITHIN).wait_for("the same list on every node", || {
        let [first, second, third] = [0, 1, 2].map(|node| nodes[node].list_crc());
        let (first, second, third) = (first.ok()?, second.ok()?, third.ok()?);
        (first == second && second == third).then_some(first)
    })?;
    let mon = cluster.mon("a");
    mon.stop()?;
    let source = shared(mon.store_list_crc()?);
    let kept = shared(all.lines().map(String::from));
    let differing: Vec<_> = source.symmetric_difference(&kept).collect();
    // The one key that a monitor writes for itself among those that it shares: what it was about to propose.
    let ours: Vec<_> =
        differing.iter().filter(|line| !line.starts_with("paxos\tpending_v\t")).take(10).collect();
    ensure!(ours.is_empty(), "{} keys in the monitor, {} here: {ours:?}", source.len(), kept.len());
    ensure!(kept.len() > 200, "{} keys are no monitor's store", kept.len());
    for node in &mut nodes {
        node.stop().with_context(|| node.name().to_owned())?;
    }
    Ok(())
}
