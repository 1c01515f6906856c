//! A client that is stopped as a whole, and comes back when it is late.

use core::time::Duration;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context, Result, ensure};
use cuttlebone_fs::{AttrChanges, Error, FileSystem, FsConfig, Ino, MdsError, Notice, Place};
use cuttlebone_mds::{LossCause, SessionNews};
use cuttlebone_testkit::Cluster;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::world::{ONE, WITH_STANDBY, blocking, config, finish_after, soon};

/// A mount with a thread of its own, which can be stopped like a process by SIGSTOP: nothing is read, answered or counted.
struct Stoppable {
    fs: FileSystem,
    runtime: Handle,
    /// Its thread ends when this is dropped.
    _end: Sender<()>,
}

impl Stoppable {
    fn mount(config: FsConfig) -> Result<Self> {
        let (mounted, answer) = channel();
        let (end, ended) = channel();
        thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let fs = runtime.block_on(FileSystem::mount(config));
            mounted.send((fs, runtime.handle().clone()))?;
            // Its links go on until the test is over.
            runtime.block_on(async { tokio::task::spawn_blocking(move || ended.recv()).await })?.ok();
            Ok(())
        });
        let (fs, runtime) = answer.recv()?;
        Ok(Self { fs: fs?, runtime, _end: end })
    }

    /// Stops it; dropping what this answers lets it go on.
    fn stop(&self) -> Result<Sender<()>> {
        let (stopped, told) = channel();
        let (go_on, wait) = channel::<()>();
        self.runtime.spawn(async move {
            // It is the point of this that it blocks the thread that it is on.
            stopped.send(()).ok();
            wait.recv().ok();
        });
        told.recv().context("the mount's thread has ended")?;
        Ok(go_on)
    }
}

/// How long a server waits for those who have to reconnect.
const WINDOW: (&str, &str) = ("mds_reconnect_timeout", "5");
/// Changes that are under way when the mount is stopped.
const CHANGES: u32 = 200;

type Made = (Place, Result<Ino, Error>);

/// Stops the mount in the middle of its work, has the server replaced, and lets it go on when it is too late.
async fn come_back_too_late(cluster: &Cluster, mount: &Stoppable) -> Result<Vec<Made>> {
    let mut changes = JoinSet::new();
    for i in 0..CHANGES {
        let (fs, place) = (mount.fs.clone(), Place::from("/d").join(format!("f{i}")));
        changes.spawn(async move {
            let made = fs.create(&place, 0o644).await;
            (place, made.map(|metadata| metadata.ino))
        });
    }
    // Some have their answers, and some not.
    let mut all = Vec::new();
    for _ in 0..CHANGES / 4 {
        all.extend(changes.join_next().await.transpose()?);
    }
    let go_on = blocking(|| mount.stop())?;
    blocking(|| cluster.crash_mds(0, 1))?;
    drop(go_on);
    while let Some(made) = soon("a change", changes.join_next()).await? {
        all.push(made?);
    }
    Ok(all)
}

/// Nothing is told but what it came to: done, or that it may have been done.
fn check_answers(all: &[Made]) -> Result<()> {
    for (place, made) in all {
        let is_right = matches!(
            made,
            Ok(_) | Err(Error::Failed { source: MdsError::Uncommitted { .. } | MdsError::Blocklisted, .. })
        );
        ensure!(is_right, "{place}: {made:?}");
    }
    let unknown = all
        .iter()
        .filter(|(_, made)| matches!(made, Err(Error::Failed { source: MdsError::Uncommitted { .. }, .. })));
    println!("{} of {} may have been done or not", unknown.count(), all.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_that_is_denied_costs_what_was_not_committed_and_the_mount_goes_on() -> Result<()> {
    // Servers that let everybody come back.
    let builder = Cluster::builder().fs(WITH_STANDBY).option(WINDOW.0, WINDOW.1);
    let builder = builder.option("mds_session_blocklist_on_timeout", "false");
    let cluster = blocking(|| builder.start())?;
    let mount = blocking(|| Stoppable::mount(config(&cluster)))?;
    let fs = mount.fs.clone();
    let mut notices = fs.notices();
    fs.mkdir("/d", 0o755).await?;
    let kept = fs.create("/kept", 0o644).await?.ino;
    fs.sync().await?;
    let mut second = blocking(|| cluster.second_client())?;
    let all = come_back_too_late(&cluster, &mount).await?;
    check_answers(&all)?;
    blocking(|| second.ok("chmod", &[json!("/kept"), json!(0o600)]))?;
    // Nothing is believed of what was known.
    let known = soon("a stat", fs.stat("/kept")).await??;
    assert_eq!((known.ino, known.mode), (kept, 0o600));
    let told: Vec<_> = core::iter::from_fn(|| notices.try_next()).collect();
    let denied =
        |notice: &Notice| matches!(notice, Notice::Session(_, SessionNews::Lost(LossCause::ReconnectDenied)));
    ensure!(told.iter().any(denied), "{told:?}");
    // What was done and is not there was told to be in doubt; what was not done is not there.
    let doubtful = told.iter().filter(|notice| matches!(notice, Notice::Uncommitted(_))).count();
    let mut lost = 0;
    for (place, made) in &all {
        let there = fs.stat(place).await;
        match (made, there) {
            (Ok(ino), Ok(there)) => ensure!(there.ino == *ino, "{place} stands for another inode"),
            (Ok(_), Err(_)) => lost += 1,
            (Err(_), _) => {}
        }
    }
    ensure!(lost <= doubtful, "{lost} are lost, {doubtful} were told to be in doubt");
    ensure!(doubtful == 0 || fs.sync_dir("/d").await.is_err(), "an fsync does not tell of it");
    fs.sync_dir("/d").await?;
    fs.create("/d/after", 0o644).await?;
    finish_after(&cluster, fs, Some(second), &["evicting unresponsive client", "denied reconnect"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_blocklisted_for_being_late_is_told_so_and_a_fresh_mount_works() -> Result<()> {
    let cluster = blocking(|| Cluster::builder().fs(WITH_STANDBY).option(WINDOW.0, WINDOW.1).start())?;
    let mount = blocking(|| Stoppable::mount(config(&cluster)))?;
    mount.fs.mkdir("/d", 0o755).await?;
    mount.fs.sync().await?;
    let all = come_back_too_late(&cluster, &mount).await?;
    check_answers(&all)?;
    let again = soon("a call of an evicted mount", mount.fs.stat("/d")).await?;
    ensure!(matches!(again, Err(Error::Failed { source: MdsError::Blocklisted, .. })), "{again:?}");
    let fresh = FileSystem::mount(config(&cluster)).await?;
    for (place, made) in &all {
        if let (Ok(ino), Ok(there)) = (made, fresh.stat(place).await) {
            ensure!(there.ino == *ino, "{place} stands for another inode");
        }
    }
    fresh.create("/d/fresh", 0o644).await?;
    // There is nothing left to close.
    soon("the unmount of an evicted mount", mount.fs.clone().unmount()).await?.ok();
    finish_after(&cluster, fresh, None, &["evicting unresponsive client", "denied reconnect"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_stopped_for_longer_than_a_session_lasts_comes_back_stale_and_then_right() -> Result<()> {
    let cluster = blocking(|| Cluster::builder().fs(ONE).start())?;
    // The shortest that the monitors allow.
    blocking(|| cluster.ceph(&["fs", "set", "cephfs", "session_timeout", "30"]))?;
    let mount = blocking(|| Stoppable::mount(config(&cluster)))?;
    let fs = mount.fs.clone();
    let mut notices = fs.notices();
    fs.mkdir("/d", 0o755).await?;
    let ino = fs.create("/d/f", 0o644).await?.ino;
    fs.stat("/d/f").await?;
    fs.sync().await?;
    let mut second = blocking(|| cluster.second_client())?;
    // Looked at by both, so that nobody has more than shared bits: whoever may hold changes is thrown out instead.
    blocking(|| second.ok("stat", &[json!("/d/f")]))?;
    fs.stat("/d/f").await?;
    let go_on = blocking(|| mount.stop())?;
    // It waits for us until the server has lost patience.
    blocking(|| -> Result<()> {
        second.send("chmod", &[json!("/d/f"), json!(0o600)])?;
        second.wait(Duration::from_secs(60))?.map_err(|errno| anyhow::anyhow!("errno {errno}"))?;
        Ok(())
    })?;
    drop(go_on);
    let stale = async {
        while let Some(notice) = notices.next().await {
            if matches!(notice, Notice::Session(_, SessionNews::Stale)) {
                return true;
            }
        }
        false
    };
    ensure!(soon("the news that we are stale", stale).await?, "unmounted");
    let known = soon("a stat", fs.stat("/d/f")).await??;
    assert_eq!((known.ino, known.mode), (ino, 0o600));
    let changes = AttrChanges { mode: Some(0o640), ..AttrChanges::default() };
    soon("a change", fs.set_attributes("/d/f", changes)).await??;
    let mode = blocking(|| second.ok("stat", &[json!("/d/f")]))?["mode"].clone();
    assert_eq!(mode, json!(0o100_640));
    let provoked = [
        "isn't responding to mclientcaps(revoke)",
        "MDS_CLIENT_LATE_RELEASE",
        "low request",
        "MDS_SLOW_REQUEST",
    ];
    finish_after(&cluster, fs, Some(second), &provoked).await
}
