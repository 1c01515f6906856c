//! Sessions that servers end: what is told, and that a fresh one works.

use anyhow::{Context, Result, ensure};
use cuttlebone_fs::{Error, FileSystem, MdsError, Notice};
use cuttlebone_mds::SessionNews;
use serde_json::json;

use crate::world::{ONE, blocking, config, finish, mounted, soon};

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
