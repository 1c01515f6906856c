//! Sessions that servers end: what is told, and that a fresh one works.

use anyhow::{Context, Result, ensure};
use cuttlebone_fs::{Error, FileSystem, MdsError, Notice};
use cuttlebone_mds::{LossCause, SessionNews};
use cuttlebone_testkit::Cluster;
use serde_json::json;
use tokio::task::JoinSet;

use crate::world::{ONE, blocking, config, finish, finish_after, mounted, soon};

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_is_told_as_what_it_is_and_a_fresh_mount_works() -> Result<()> {
    let (cluster, fs) = mounted(ONE).await?;
    let mut notices = fs.notices();
    fs.mkdir("/d", 0o755).await?;
    blocking(|| cluster.evict_client(0, fs.global_id()))?;
    let blocklisted = async {
        // The first call may still be under way when the connection breaks; none may hang.
        loop {
            match fs.create("/d/f", 0o644).await {
                Err(Error::Failed { source: MdsError::Blocklisted, .. }) => return Ok(()),
                Err(Error::Failed { source: MdsError::Uncommitted { .. }, .. }) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    };
    soon("the eviction", blocklisted).await??;
    let told = core::iter::from_fn(|| notices.try_next());
    let told: Vec<_> = told.filter(|notice| matches!(notice, Notice::Session(..))).collect();
    let blocklisted =
        told.iter().any(|notice| matches!(notice, Notice::Session(_, SessionNews::Blocklisted)));
    ensure!(blocklisted, "{told:?}");
    let again = soon("a call of an evicted mount", fs.stat("/d")).await?;
    ensure!(matches!(again, Err(Error::Failed { source: MdsError::Blocklisted, .. })), "{again:?}");
    let fresh = FileSystem::mount(config(&cluster)).await?;
    ensure!(fresh.stat("/d").await?.is_dir());
    fresh.create("/d/fresh", 0o644).await?;
    // There is nothing left to close, and so nothing to wait for.
    soon("the unmount of an evicted mount", fs.unmount()).await?.ok();
    finish(&cluster, fresh, None).await
}

/// Without the list of addresses that may not come back, the server simply forgets the connection: we hear of it by a reset.
#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_that_blocklists_nobody_costs_what_was_under_way_and_the_mount_goes_on() -> Result<()> {
    let builder = Cluster::builder().fs(ONE).option("mds_session_blocklist_on_evict", "false");
    let cluster = blocking(|| builder.start())?;
    let fs = FileSystem::mount(config(&cluster)).await?;
    let mut notices = fs.notices();
    fs.mkdir("/d", 0o755).await?;
    fs.sync().await?;
    let mut changes = JoinSet::new();
    for i in 0..200 {
        let fs = fs.clone();
        changes.spawn(async move {
            let path = format!("/d/f{i}");
            let made = fs.create(&path, 0o644).await;
            (path, made)
        });
    }
    let mut all = vec![changes.join_next().await.context("one of them")??];
    blocking(|| cluster.evict_client(0, fs.global_id()))?;
    while let Some(made) = soon("a change", changes.join_next()).await? {
        all.push(made?);
    }
    for (path, made) in &all {
        match made {
            Ok(_) | Err(Error::Failed { source: MdsError::Uncommitted { .. }, .. }) => {}
            Err(error) => anyhow::bail!("{path}: {error:?}"),
        }
    }
    // One more may have been sent before the reset.
    let after = fs.create("/d/after", 0o644).await;
    let in_doubt = matches!(after, Err(Error::Failed { source: MdsError::Uncommitted { .. }, .. }));
    ensure!(after.is_ok() || in_doubt, "{after:?}");
    fs.create("/d/behind", 0o644).await?;
    let told: Vec<_> = core::iter::from_fn(|| notices.try_next()).collect();
    let lost = |notice: &Notice| matches!(notice, Notice::Session(_, SessionNews::Lost(LossCause::Reset)));
    ensure!(told.iter().any(lost), "{told:?}");
    // Once for what may not last after all, and then never again.
    fs.sync().await.ok();
    fs.sync().await?;
    finish_after(&cluster, fs, None, &["vict"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_who_we_are_and_nothing_when_we_are_gone() -> Result<()> {
    let (cluster, fs) = mounted(ONE).await?;
    fs.mkdir("/d", 0o755).await?;
    let sessions = blocking(|| cluster.mds_sessions(0))?;
    let ours =
        sessions.iter().find(|session| session["id"] == json!(fs.global_id())).context("our session")?;
    assert_eq!(ours["client_metadata"]["hostname"], json!("interop"));
    assert_eq!(ours["client_metadata"]["entity_id"], json!("admin"));
    ensure!(ours["num_caps"].as_u64().is_some_and(|caps| caps < 600), "{}", ours["num_caps"]);
    let id = fs.global_id();
    fs.unmount().await?;
    let sessions = blocking(|| cluster.mds_sessions(0))?;
    ensure!(!sessions.iter().any(|session| session["id"] == json!(id)), "the session is still there");
    blocking(|| cluster.wait_until_healthy())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_is_not_there_is_one_readable_error() -> Result<()> {
    let (cluster, fs) = mounted(ONE).await?;
    let mut wrong = config(&cluster);
    wrong.fs_name = Some("none".into());
    let error = FileSystem::mount(wrong).await.err();
    assert_eq!(error, Some(Error::NoFileSystem("none".into())));
    let mut right = config(&cluster);
    right.fs_name = Some("cephfs".into());
    FileSystem::mount(right).await?.unmount().await?;
    finish(&cluster, fs, None).await
}
