//! Hot reload across node processes while a real monitor goes on committing and clients read: a window that is completed
//! stays, and one that is reverted is gone, on the origin, on every replica and on every disk, also on one that was away.
//!
//! `CUTTLEBONE_ROUNDS=<n>` makes that many rounds.

use core::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cuttlebone_testkit::{Cluster, Deadline};

mod running;

use running::follower::{Follower, Known};
use running::three::{shared, three};
use running::{Running, rounds};

const WITHIN: Duration = Duration::from_secs(60);

/// When the second replica is killed, to come back only after the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    BeforeTheWindow,
    InTheWindow,
}

/// The list of all these nodes, once it is the same on each.
fn same(nodes: &[&Running]) -> Result<String> {
    Deadline::after(WITHIN).wait_for("the same list on every node", || {
        let lists: Option<Vec<_>> = nodes.iter().map(|node| node.list_crc().ok()).collect();
        let mut lists = lists?.into_iter();
        let first = lists.next()?;
        lists.all(|list| list == first).then_some(first)
    })
}

/// The same, and nothing changes any more: the monitor is paused, so only what is on its way can still come.
fn still(nodes: &[&Running]) -> Result<String> {
    let mut last = same(nodes)?;
    Deadline::after(WITHIN).wait_for("a list that stays", || {
        let next = same(nodes).ok()?;
        let unchanged = next == last;
        last = next;
        unchanged.then(|| last.clone())
    })
}

fn becomes(node: &Running, expected: &str) -> Result<()> {
    let mut list = String::new();
    let came = Deadline::after(WITHIN).wait_for(format!("the model on {}", node.name()), || {
        list = node.list_crc().ok()?;
        (list == expected).then_some(())
    });
    came.with_context(|| {
        let (found, wanted) = (list.lines().collect::<Vec<_>>(), expected.lines().collect::<Vec<_>>());
        let more: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).take(5).collect();
        let less: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).take(5).collect();
        format!("{} lines, expected {}; too many: {more:?}; missing: {less:?}", found.len(), wanted.len())
    })
}

fn has(node: &Running, key: &str) -> Result<()> {
    let line = format!("mon_config_key\t{key}\t");
    Deadline::after(WITHIN).wait_for(format!("{key} on {}", node.name()), || {
        node.list_crc().ok()?.lines().any(|it| it.starts_with(&line)).then_some(())
    })
}

/// Opens a window at a moment when every node has the same, and returns what that is. The monitor is paused afterwards.
fn start_when_still(cluster: &Cluster, origin: &Running, all: &[&Running]) -> Result<String> {
    let monitor = cluster.mon("a");
    for _ in 0..10 {
        monitor.pause()?;
        let before = still(all)?;
        origin.update("start")?;
        if origin.list_crc()? == before {
            return Ok(before);
        }
        // Something was on its way still: not a moment of which the model could say anything.
        origin.update("complete")?;
        monitor.resume()?;
    }
    bail!("the list never stays as it is")
}

/// Everything that the node has is on its disk.
fn on_disk(node: &Running) -> Result<()> {
    Deadline::after(WITHIN).wait_for(format!("{} has written everything", node.name()), || {
        let status = node.status().ok()?;
        let vbucket = &status["buckets"][0]["vbuckets"]["rows"][0];
        (vbucket["unpersisted"] == 0 && vbucket["in_window"] == false).then_some(())
    })
}

fn round(cluster: &Cluster, nodes: &mut [Running; 3], step: &str, away: Away, name: &str) -> Result<()> {
    let monitor = cluster.mon("a");
    if away == Away::BeforeTheWindow {
        nodes[2].kill()?;
    }
    let [origin, stays, leaves] = &*nodes;
    let there: Vec<_> = match away {
        Away::BeforeTheWindow => vec![origin, stays],
        Away::InTheWindow => vec![origin, stays, leaves],
    };
    let before = start_when_still(cluster, origin, &there)?;
    monitor.resume()?;
    cluster.commits(&format!("{name}-first"), 40, 200)?;
    for node in &there {
        has(node, &format!("{name}-first/39"))?;
    }
    if away == Away::InTheWindow {
        nodes[2].kill()?;
    }
    cluster.commits(&format!("{name}-second"), 40, 200)?;
    let [origin, stays, _] = &*nodes;
    has(origin, &format!("{name}-second/39"))?;
    monitor.pause()?;
    let window = still(&[origin, stays])?;
    ensure!(window != before, "a window in which nothing happened");
    let answer = origin.update(step)?;
    let model = if step == "complete" { window } else { before };
    ensure!(step == "complete" || answer["restored_keys"].as_u64() >= Some(80), "{answer}");
    ensure!(origin.list_crc()? == model, "the origin, as soon as it has answered");
    becomes(stays, &model)?;
    nodes[2].start()?;
    becomes(&nodes[2], &model)?;
    // And so it is on every disk.
    for node in &mut *nodes {
        on_disk(node)?;
    }
    for node in &mut *nodes {
        node.kill()?;
        node.start()?;
        becomes(node, &model).context("from its disk")?;
    }
    monitor.resume()
}

#[test]
fn every_node_and_every_disk_is_as_a_model_says_while_the_monitor_goes_on() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let dir = tempfile::tempdir()?;
    let mut nodes = three(&cluster, dir.path())?;
    cluster.commits("first", 20, 200)?;
    for node in &nodes {
        has(node, "first/19")?;
    }
    let reader = Follower::start(nodes[0].server(), Known::default())?;
    for at in 0..rounds(4) {
        let step = if at % 2 == 0 { "revert" } else { "complete" };
        let away = if at % 4 < 2 { Away::InTheWindow } else { Away::BeforeTheWindow };
        round(&cluster, &mut nodes, step, away, &format!("r{at}"))
            .with_context(|| format!("round {at}: {step}, {away:?}"))?;
    }

    // In the middle of commits, and with the origin killed in its window: what the monitor has is what counts.
    for (at, step) in ["revert", "complete", "kill"].into_iter().enumerate() {
        std::thread::scope(|scope| -> Result<()> {
            let committing = scope.spawn(|| cluster.commits(&format!("live-{at}"), 400, 100));
            has(&nodes[0], &format!("live-{at}/50"))?;
            nodes[0].update("start")?;
            has(&nodes[1], &format!("live-{at}/150"))?;
            if step == "kill" {
                nodes[0].kill()?;
                nodes[0].start()?;
            } else {
                nodes[0].update(step)?;
            }
            committing.join().map_err(|_| anyhow::anyhow!("the client broke off"))?
        })?;
        for node in &nodes {
            has(node, &format!("live-{at}/399")).with_context(|| step.to_owned())?;
        }
    }

    let all = same(&nodes.each_ref())?;
    Deadline::after(WITHIN).wait_for("the follower has the same list", || {
        (reader.known().list_crc() == nodes[0].list_crc().ok()?).then_some(())
    })?;
    let known = reader.stop()?;
    eprintln!("the follower saw {} reverts and had to begin anew {} times", known.reverts, known.rollbacks);
    ensure!(known.reverts > 0, "no client saw a window being undone");
    let monitor = cluster.mon("a");
    monitor.stop()?;
    let source = shared(monitor.store_list_crc()?);
    let kept = shared(same(&nodes.each_ref())?.lines().map(String::from));
    let differing = source.symmetric_difference(&kept).filter(|line| !line.starts_with("paxos\tpending_v\t"));
    let differing: Vec<_> = differing.take(10).collect();
    ensure!(differing.is_empty(), "{} keys in the monitor, {} here: {differing:?}", source.len(), kept.len());
    ensure!(all.lines().count() > 1000, "{} keys are no monitor's store", all.lines().count());
    nodes.iter_mut().try_for_each(Running::stop)
}
