//! Servers restart, fail over, share the tree and move parts of it, and connections break: nobody hangs, nothing is lost.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use cuttlebone_fs::{Error, FileSystem, Ino, Notice, Place};
use cuttlebone_mds::SessionNews;
use cuttlebone_testkit::{Cluster, FsSpec, Proxy, ProxyConfig};
use serde_json::json;
use tokio::task::JoinSet;

use crate::world::{ONE, PATIENCE, WITH_STANDBY, blocking, config, finish, mounted, soon};

/// Writers and readers that go on until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<BTreeMap<String, Ino>, Error>>,
}

impl Load {
    fn on(fs: &FileSystem, dirs: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for writer in 0..8 {
            let (fs, stop) = (fs.clone(), Arc::clone(&stop));
            let dir = dirs[writer % dirs.len()].to_owned();
            tasks.spawn(async move {
                let mut made = BTreeMap::new();
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    let path = format!("{dir}/w{writer}n{count}");
                    let ino = fs.create(&path, 0o644).await?.ino;
                    let name = format!("{dir}/w{writer}m{count}");
                    fs.rename(&path, &name).await?;
                    made.insert(name.clone(), ino);
                    assert_eq!(fs.stat(&name).await?.ino, ino, "{name}");
                    count += 1;
                    // A load, not a benchmark: the machine has other things to do.
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                Ok(made)
            });
        }
        Self { stop, tasks }
    }

    /// Stops it, and checks that everything that it was told is so.
    async fn finish(mut self, fs: &FileSystem) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        let mut made = BTreeMap::new();
        while let Some(done) = soon("the load", self.tasks.join_next()).await? {
            made.extend(done??);
        }
        for (path, ino) in &made {
            ensure!(fs.stat(path).await?.ino == *ino, "{path} stands for another inode");
        }
        Ok(made.len())
    }
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

fn is_loss(notice: &Notice) -> bool {
    matches!(
        notice,
        Notice::Session(_, SessionNews::Lost(_) | SessionNews::Blocklisted) | Notice::Uncommitted(_)
    )
}

fn lost(notices: &mut cuttlebone_fs::Notices) -> Vec<Notice> {
    core::iter::from_fn(|| notices.try_next()).filter(is_loss).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_and_a_takeover_under_load_lose_nothing() -> Result<()> {
    let (cluster, fs) = mounted(WITH_STANDBY).await?;
    let mut notices = fs.notices();
    fs.mkdir("/d", 0o755).await?;
    let load = Load::on(&fs, &["/d"]);
    pause(300).await;
    blocking(|| cluster.fail_mds(0))?;
    blocking(|| cluster.wait_for_active(1))?;
    pause(300).await;
    // Both daemons go, so that the one that comes back has to read the journal of the other.
    for id in ["a", "b"] {
        cluster.mds(id).kill()?;
    }
    // The monitors would wait for the beacons of both before they let anybody in.
    blocking(|| -> Result<()> {
        for id in ["a", "b"] {
            cluster.ceph(&["mds", "fail", id])?;
        }
        Ok(())
    })?;
    blocking(|| cluster.mds("a").start())?;
    blocking(|| cluster.wait_for_active(1))?;
    let made = load.finish(&fs).await?;
    ensure!(made > 50, "{made} names are no load");
    ensure!(fs.create("/d/after", 0o644).await?.is_file());
    let lost = lost(&mut notices);
    ensure!(lost.is_empty(), "{lost:?}");
    finish(&cluster, fs, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_in_many_parts_keeps_the_session_and_what_it_holds() -> Result<()> {
    let cluster = blocking(|| Cluster::builder().fs(WITH_STANDBY).start())?;
    let mut config = config(&cluster);
    // Each capability takes more than that by itself.
    config.limits.reconnect_bytes_max = 1;
    let fs = FileSystem::mount(config).await?;
    let mut made = Vec::new();
    for i in 0..100 {
        made.push((format!("/d{i}"), fs.mkdir(format!("/d{i}").as_str(), 0o755).await?.ino));
    }
    let mut notices = fs.notices();
    blocking(|| cluster.fail_mds(0))?;
    blocking(|| cluster.wait_for_active(1))?;
    for (path, ino) in &made {
        ensure!(fs.stat(path).await?.ino == *ino, "{path} stands for another inode");
    }
    let news: Vec<_> = core::iter::from_fn(|| notices.try_next()).collect();
    let caps = news.iter().find_map(|notice| match notice {
        Notice::Session(_, SessionNews::Reconnected { caps }) => Some(*caps),
        _ => None,
    });
    ensure!(caps.is_some_and(|caps| caps > 100), "{news:?}");
    ensure!(lost(&mut notices).is_empty(), "{news:?}");
    fs.sync().await?;
    finish(&cluster, fs, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ranks_share_a_tree_that_moves_between_them_under_load() -> Result<()> {
    let (cluster, fs) = mounted(FsSpec { active: 2, standby: 0 }).await?;
    for (dir, rank) in [("/a", "0"), ("/b", "1")] {
        fs.mkdir(dir, 0o755).await?;
        fs.set_xattr(dir, "ceph.dir.pin", rank).await?;
    }
    assert_eq!(fs.stat("/b").await?.pin.map(|rank| rank.0), Some(1));
    let load = Load::on(&fs, &["/a", "/b"]);
    for _ in 0..2 {
        for (dir, rank) in [("/a", "1"), ("/b", "0"), ("/a", "0"), ("/b", "1")] {
            pause(1_500).await;
            soon("a pin", fs.set_xattr(dir, "ceph.dir.pin", rank)).await??;
        }
    }
    // Names that move from one rank's directory to the other's.
    for i in 0..20 {
        let name = format!("x{i}");
        let ino = fs.create(&Place::from("/a").join(&name), 0o644).await?.ino;
        soon(
            "a rename across ranks",
            fs.rename(&Place::from("/a").join(&name), &Place::from("/b").join(&name)),
        )
        .await??;
        assert_eq!(fs.stat(&Place::from("/b").join(&name)).await?.ino, ino);
    }
    let made = load.finish(&fs).await?;
    ensure!(made > 50, "{made} names are no load");
    for rank in [0, 1] {
        let sessions = blocking(|| cluster.mds_sessions(rank))?;
        ensure!(
            sessions.iter().any(|session| session["id"] == json!(fs.global_id())),
            "no session with rank {rank}"
        );
    }
    finish(&cluster, fs, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_resumed_and_the_session_never_notices() -> Result<()> {
    let cluster = blocking(|| Cluster::builder().fs(ONE).start())?;
    let addr = blocking(|| cluster.mds_addr(0))?;
    let proxy = Proxy::start(addr, ProxyConfig::default())?;
    let mut config = config(&cluster);
    config.detours.insert(addr, proxy.addr());
    let fs = FileSystem::mount(config).await?;
    let mut notices = fs.notices();
    fs.mkdir("/d", 0o755).await?;
    let load = Load::on(&fs, &["/d"]);
    for round in 0..12 {
        pause(40 + round * 23).await;
        proxy.cut();
    }
    proxy.stall(true);
    pause(700).await;
    proxy.cut();
    proxy.stall(false);
    pause(300).await;
    let made = load.finish(&fs).await?;
    ensure!(made > 50, "{made} names are no load");
    // On a busy machine there may be nothing to cut yet when the next cut is due.
    ensure!(proxy.accepted() > 5, "{} connections: nothing was cut", proxy.accepted());
    let session = core::iter::from_fn(|| notices.try_next());
    let session: Vec<_> = session.filter(|notice| matches!(notice, Notice::Session(..))).collect();
    ensure!(session.is_empty(), "{session:?}");
    let sessions = blocking(|| cluster.mds_sessions(0))?;
    let ours = sessions.iter().find(|session| session["id"] == json!(fs.global_id()));
    assert_eq!(ours.context("our session")?["state"], json!("open"));
    finish(&cluster, fs, None).await
}

/// A server is killed and started again where it was, and we meet its successor before any map tells of it: it knows
/// nothing of our line and says so. That is not the word of the server that we have a session with.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_started_again_does_not_speak_for_its_predecessor() -> Result<()> {
    let cluster = blocking(|| Cluster::builder().fs(WITH_STANDBY).start())?;
    let mut config = config(&cluster);
    let mon = cluster.mon("a").addr().socket_addr().context("the monitor's address")?;
    let proxy = Proxy::start(mon, ProxyConfig::default())?;
    config.detours.insert(mon, proxy.addr());
    let fs = FileSystem::mount(config).await?;
    let mut notices = fs.notices();
    fs.mkdir("/d", 0o755).await?;
    fs.sync().await?;
    let mds = blocking(|| cluster.active_mds(0))?.context("one is active")?;
    let load = Load::on(&fs, &["/d"]);
    pause(50).await;
    proxy.stall(true);
    let lines = mds.log().lines().count();
    blocking(|| mds.kill())?;
    blocking(|| mds.start())?;
    blocking(|| mds.wait_for_log(lines, "no existing connection exists", PATIENCE))?;
    proxy.stall(false);
    blocking(|| cluster.wait_for_active(1))?;
    load.finish(&fs).await?;
    let told: Vec<_> = core::iter::from_fn(|| notices.try_next()).collect();
    let kept = |notice: &Notice| matches!(notice, Notice::Session(_, SessionNews::Reconnected { .. }));
    ensure!(told.iter().any(kept), "{told:?}");
    ensure!(!told.iter().any(is_loss), "{told:?}");
    finish(&cluster, fs, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_monitors_sessions_go_on_and_when_they_are_back_so_do_maps() -> Result<()> {
    let cluster = blocking(|| Cluster::builder().mons(3).fs(WITH_STANDBY).start())?;
    let mut config = config(&cluster);
    config.answer_within = Duration::from_secs(1);
    let fs = FileSystem::mount(config).await?;
    let mut notices = fs.notices();
    fs.mkdir("/d", 0o755).await?;
    blocking(|| cluster.mons().iter().try_for_each(|mon| mon.kill()))?;
    // Shorter than a server takes to notice that nobody answers its beacons, after which it does nothing for anybody.
    for i in 0..100 {
        soon("a create without monitors", fs.create(&Place::from("/d").join(format!("f{i}")), 0o644))
            .await??;
    }
    let told = fs.statfs().await;
    ensure!(matches!(told, Err(Error::NotInTime { .. })), "{told:?}");
    blocking(|| cluster.mons().iter().try_for_each(|mon| mon.start()))?;
    blocking(|| cluster.wait_for_quorum())?;
    soon("the monitors", async {
        while fs.statfs().await.is_err() {
            pause(100).await;
        }
    })
    .await?;
    // What only maps tell.
    blocking(|| cluster.fail_mds(0))?;
    soon("a create after a takeover", fs.create("/d/after", 0o644)).await??;
    let lost = lost(&mut notices);
    ensure!(lost.is_empty(), "{lost:?}");
    finish(&cluster, fs, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rank_that_is_given_up_under_load_costs_nothing() -> Result<()> {
    let (cluster, fs) = mounted(FsSpec { active: 2, standby: 0 }).await?;
    let mut notices = fs.notices();
    for (dir, rank) in [("/a", "0"), ("/b", "1")] {
        fs.mkdir(dir, 0o755).await?;
        fs.set_xattr(dir, "ceph.dir.pin", rank).await?;
    }
    let load = Load::on(&fs, &["/a", "/b"]);
    pause(1_500).await;
    blocking(|| cluster.set_max_mds(1))?;
    blocking(|| cluster.wait_for_active(1))?;
    pause(500).await;
    let made = load.finish(&fs).await?;
    ensure!(made > 50, "{made} names are no load");
    let uncommitted = |notice: &Notice| matches!(notice, Notice::Uncommitted(_));
    let told: Vec<_> = core::iter::from_fn(|| notices.try_next()).filter(uncommitted).collect();
    ensure!(told.is_empty(), "{told:?}");
    finish(&cluster, fs, None).await
}
