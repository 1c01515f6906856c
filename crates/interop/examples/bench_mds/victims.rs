//! What another client sees of a walk.

use anyhow::{Context, Result, bail, ensure};
use cuttlebone_fs::FileSystem;
use cuttlebone_testkit::Cluster;
use serde_json::{Value, json};
use std::process::Command;

use crate::ours::{config, each, name};
use crate::rival::Rival;

/// Entries in each directory of the tree that is walked.
const WALK_DIR: u64 = 1_000;

/// How long another client takes to make and remove a directory while nobody walks, while we do, and while libcephfs does.
pub(crate) async fn victims(cluster: &Cluster, rival: Option<&Rival>, entries: u64) -> Result<()> {
    let fs = FileSystem::mount(config(cluster)).await?;
    let root = fs.mkdir("/tree", 0o755).await?.ino;
    for at in 0..entries.div_ceil(WALK_DIR) {
        let dir = fs.mkdir(name(root, 'd', at), 0o755).await?.ino;
        let made = WALK_DIR.min(entries - at * WALK_DIR);
        each(&fs, made, move |fs, i| async move { fs.create(name(dir, 'f', i), 0o644).await.map(drop) })
            .await?;
    }
    fs.create("/victim", 0o644).await?;
    fs.sync().await?;
    fs.unmount().await?;
    let program = std::env::current_exe()?;
    let ours = program.ancestors().nth(2).context("a target directory")?.join("cuttlebone");
    ensure!(ours.is_file(), "{} is not built", ours.display());
    let mut find = Command::new(ours);
    find.args(["fs", "--mon", &cluster.mon_host(), "find", "/tree"]);
    let alone = victim(cluster, None)?;
    let with_us = victim(cluster, Some(find))?;
    let mut figures = json!({
        "schema": 1,
        "bench": "mds victim",
        "entries": entries,
        "alone_p99_microseconds": alone.p99,
        "while_we_walk_p99_microseconds": with_us.p99,
        "our_walk_seconds": with_us.seconds,
    });
    if let Some(rival) = rival {
        let with_them = victim(cluster, Some(rival.command(&["walk", "1", "0", "/tree"])))?;
        figures["while_libcephfs_walks_p99_microseconds"] = json!(with_them.p99);
        figures["libcephfs_walk_seconds"] = json!(with_them.seconds);
        figures["p99_ratio"] = json!(with_us.p99 / with_them.p99);
    }
    println!("{figures}");
    Ok(())
}

struct Seen {
    p99: f64,
    seconds: f64,
}

/// The second client makes and removes a directory again and again, for as long as `walk` runs.
fn victim(cluster: &Cluster, walk: Option<Command>) -> Result<Seen> {
    const AT_ONCE: u64 = 100;
    const ALONE: usize = 2_000;
    let mut second = cluster.second_client()?;
    second.ok("timed", &[json!("/victim"), json!(AT_ONCE)])?;
    let begin = tokio::time::Instant::now();
    let mut child = match walk {
        Some(mut command) => Some(command.stdout(std::process::Stdio::null()).spawn()?),
        None => None,
    };
    let mut took: Vec<f64> = Vec::new();
    let mut seconds = 0.0;
    loop {
        match child.as_mut().map(std::process::Child::try_wait).transpose()? {
            None if took.len() >= ALONE => break,
            Some(Some(status)) => {
                if !status.success() {
                    bail!("the walk ended with {status}");
                }
                break;
            }
            _ => {}
        }
        let answers = second.ok("timed", &[json!("/victim"), json!(AT_ONCE)])?;
        took.extend(answers.as_array().into_iter().flatten().filter_map(Value::as_f64));
        seconds = begin.elapsed().as_secs_f64();
    }
    second.unmount()?;
    took.sort_by(f64::total_cmp);
    let p99 = took.get(took.len().saturating_mul(99) / 100).copied().context("no answers")?;
    Ok(Seen { p99, seconds })
}
