//! A change is usable before it is committed, and is there after whatever happens to the server.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use cuttlebone_fs::{Error, FileSystem, Ino, Place};
use cuttlebone_machine::{Entropy, SplitMix};
use cuttlebone_testkit::Cluster;
use tokio::task::JoinSet;

use crate::world::{ONE, WITH_STANDBY, blocking, config, finish, mounted, number, soon};

/// Writers at the same time.
const WRITERS: usize = 8;
/// Files that each writer makes between two crashes.
const FILES: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_usable_before_its_commit_and_fsync_waits_for_that() -> Result<()> {
    let (cluster, fs) = mounted(ONE).await?;
    // The first of a session is committed at once, since it has to get numbers for inodes.
    fs.mkdir("/d", 0o755).await?;
    fs.sync().await?;
    let osd = cluster.osd();
    osd.pause()?;
    let made = soon("a create while nothing can be written", fs.create("/d/f", 0o644)).await??;
    assert_eq!(soon("a stat", fs.stat("/d/f")).await??.ino, made.ino);
    let fsync = tokio::spawn({
        let fs = fs.clone();
        async move { fs.sync_dir("/d").await }
    });
    // What is committed already does not wait for what is not.
    let other = tokio::time::timeout(Duration::from_secs(30), fs.sync_dir("/")).await;
    // Half a second is many times what a commit takes when it can be written.
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(!fsync.is_finished(), "fsync returned although nothing can be written");
    osd.resume()?;
    soon("fsync", fsync).await???;
    other.context("fsync of a directory in which nothing is uncommitted")??;
    finish(&cluster, fs, None).await
}

/// What was reported to a caller: names with their inodes, and those whose fsync returned.
#[derive(Default)]
struct Reported {
    made: BTreeMap<String, Ino>,
    synced: BTreeSet<String>,
}

/// Makes files until it is told how many, with an fsync now and then.
async fn write(fs: FileSystem, round: u64, writer: usize) -> Result<Reported, Error> {
    let dir = format!("/r{round}w{writer}");
    let mut reported = Reported::default();
    let ino = fs.mkdir(&dir, 0o755).await?.ino;
    reported.made.insert(dir.clone(), ino);
    for file in 0..FILES {
        let path = format!("{dir}/f{file}");
        let made = fs.create(&path, 0o644).await?;
        reported.made.insert(path, made.ino);
        if file % 20 == 10 && writer.is_multiple_of(2) {
            fs.sync_dir(ino).await?;
            reported.synced = reported.made.keys().cloned().collect();
        }
    }
    Ok(reported)
}

/// How often the server is killed, unless `CUTTLEBONE_KILLS` says otherwise.
const KILLS: u64 = 50;
/// Longer than anything may take here. By default a server waits 45 s for those who have to reconnect and shuts them out
/// then, rightly; whoever is late because the machine stands still is none of this test's business, but of `late.rs`.
const WINDOW: (&str, &str) = ("mds_reconnect_timeout", "300");

/// What servers say of sessions that they end or do not know, for whoever has to find out why one was lost.
fn said_of_sessions(cluster: &Cluster) -> Vec<String> {
    let words =
        ["reconnect attempt", "evicting", "no existing connection", "blocklist", "gave up", "respawn"];
    let logs = ["a", "b"].map(|id| cluster.mds(id).log());
    let lines = logs.iter().flat_map(|log| log.lines());
    lines.filter(|line| words.iter().any(|word| line.contains(word))).map(String::from).collect()
}

/// `kill -9` between the two replies.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_reported_is_there_with_its_inode_after_the_server_is_killed() -> Result<()> {
    let cluster = blocking(|| Cluster::builder().fs(WITH_STANDBY).option(WINDOW.0, WINDOW.1).start())?;
    let fs = FileSystem::mount(config(&cluster)).await?;
    let mut chance = SplitMix::new(number("CUTTLEBONE_SEED", 7));
    let mut all = Reported::default();
    let mut notices = fs.notices();
    for round in 0..number("CUTTLEBONE_KILLS", KILLS) {
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            writers.spawn(write(fs.clone(), round, writer));
        }
        tokio::time::sleep(Duration::from_millis(5 + chance.below(150))).await;
        blocking(|| cluster.crash_mds(0, 1))?;
        while let Some(done) = soon("the writers", writers.join_next()).await? {
            let reported = done?.with_context(|| {
                let told: Vec<_> = core::iter::from_fn(|| notices.try_next()).collect();
                format!("round {round}: {told:?}, and the servers said {:#?}", said_of_sessions(&cluster))
            })?;
            all.made.extend(reported.made);
            all.synced.extend(reported.synced);
        }
    }
    check(&fs, &all).await?;
    fs.sync().await?;
    // The same seen by somebody who has nothing in memory.
    let fresh = FileSystem::mount(config(&cluster)).await?;
    check(&fresh, &all).await?;
    fresh.unmount().await?;
    finish(&cluster, fs, None).await
}

/// Everything that was reported exists as it was reported, and no inode has two names.
async fn check(fs: &FileSystem, reported: &Reported) -> Result<()> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![Place::root()];
    while let Some(place) = waiting.pop() {
        let mut dir = fs.read_dir(&place);
        while let Some(entry) = dir.next().await {
            let entry = entry?;
            let below = place.join(&entry.name);
            ensure!(found.insert(below.to_string(), entry.metadata.ino).is_none(), "{below} is listed twice");
            if entry.metadata.is_dir() {
                waiting.push(below);
            }
        }
    }
    for (path, ino) in &reported.made {
        ensure!(found.get(path) == Some(ino), "{path}: {:?}, not {ino}", found.get(path));
    }
    for path in &reported.synced {
        ensure!(found.contains_key(path), "{path} was lost after its fsync");
    }
    let inodes: BTreeSet<_> = found.values().collect();
    ensure!(inodes.len() == found.len(), "an inode has two names");
    Ok(())
}
