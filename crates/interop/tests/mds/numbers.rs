//! Inodes by their numbers alone, and from numbers back to names.

use anyhow::{Context, Result};
use cuttlebone_fs::{Errno, FileSystem, Ino, Metadata, Place};
use cuttlebone_testkit::Cluster;
use serde_json::{Value, json};

use crate::world::{ONE, WITH_STANDBY, blocking, config, errno, finish, mounted};

/// What the second client tells of a number: no times.
fn as_second(metadata: &Metadata) -> Value {
    let mut told = crate::world::as_second(metadata);
    let fields = told.as_object_mut().expect("attributes have names");
    fields.retain(|name, _| !name.ends_with("time"));
    told
}

/// How many requests of a kind whoever is active has answered.
fn asked(cluster: &Cluster, op: &str) -> Result<u64> {
    let mds = cluster.active_mds(0)?.context("one is active")?;
    let told = mds.admin(&json!({"prefix": "perf dump"}))?;
    told["mds_server"][format!("req_{op}_latency")]["avgcount"].as_u64().context("a counter")
}

/// Ends a mount, and the server with everything that it has in memory or could read from its journal.
async fn forget(cluster: &Cluster, fs: FileSystem) -> Result<FileSystem> {
    fs.unmount().await?;
    blocking(|| {
        cluster.active_mds(0)?.context("one is active")?.admin(&json!({"prefix": "flush journal"}))?;
        cluster.crash_mds(0, 1)
    })?;
    Ok(FileSystem::mount(config(cluster)).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_no_server_has_in_memory_is_found_on_disk() -> Result<()> {
    let (cluster, fs) = mounted(WITH_STANDBY).await?;
    let a = fs.mkdir("/a", 0o755).await?.ino;
    let b = fs.mkdir("/a/b", 0o750).await?.ino;
    let file = fs.create("/a/b/f", 0o640).await?.ino;
    fs.link("/a/b/f", "/a/second").await?;
    let other = fs.mkdir("/other", 0o755).await?.ino;
    let fs = forget(&cluster, fs).await?;
    let ours = fs.stat(file).await?;
    assert_eq!((ours.ino, ours.mode, ours.nlink), (file, 0o640, 2));
    // The server looks for it itself then, but not for everything that is asked for.
    let fs = forget(&cluster, fs).await?;
    fs.make_snapshot(b, "by number").await?;
    assert_eq!(blocking(|| asked(&cluster, "lookupino"))?, 1);
    fs.remove_snapshot(b, "by number").await?;

    // What is done with a number works as well, and with two.
    let fs = forget(&cluster, fs).await?;
    let made = fs.create(&Place::from(b).join("new"), 0o600).await?.ino;
    let fs = forget(&cluster, fs).await?;
    fs.rename(&Place::from(b).join("new"), &Place::from(other).join("moved")).await?;
    let fs = forget(&cluster, fs).await?;
    assert_eq!(fs.path_of(made).await?, Place::from("/other/moved"));
    assert_eq!(fs.path_of(file).await?, Place::from("/a/b/f"), "the first of its names");
    assert_eq!(fs.name_of(file).await?, (b, "f".into()));
    assert_eq!(fs.parent(b).await?, a);
    finish(&cluster, fs, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_lead_to_names_and_attributes_as_with_the_other_client() -> Result<()> {
    let (cluster, fs) = mounted(ONE).await?;
    let mut second = blocking(|| cluster.second_client())?;
    let dir = fs.mkdir("/d", 0o750).await?.ino;
    let file = fs.create("/d/f", 0o640).await?.ino;
    let removed = fs.create("/d/removed", 0o640).await?.ino;
    let theirs = blocking(|| second.ok("create", &[json!("/d/theirs")]))?;
    let theirs = Ino(theirs.as_u64().context("a number")?);
    fs.unlink("/d/removed").await?;
    fs.sync().await?;
    for ino in [file, theirs] {
        assert_eq!(as_second(&fs.stat(ino).await?), blocking(|| second.ok("stat_ino", &[json!(ino.0)]))?);
    }
    assert_eq!(fs.path_of(theirs).await?, Place::from("/d/theirs"));
    assert_eq!(fs.path_of(Ino::ROOT).await?, Place::root());
    assert_eq!(fs.name_of(dir).await?, (Ino::ROOT, "d".into()));
    // The second name stays when the first one goes.
    fs.link("/d/f", "/d/g").await?;
    fs.unlink("/d/f").await?;
    let moved = async {
        while fs.path_of(file).await.ok() != Some(Place::from("/d/g")) {
            tokio::time::sleep(core::time::Duration::from_millis(50)).await;
        }
    };
    crate::world::soon("the server to give the file its other name", moved).await?;
    blocking(|| second.ok("rename", &[json!("/d/g"), json!("/elsewhere")]))?;
    assert_eq!(fs.path_of(file).await?, Place::from("/elsewhere"));

    // What is gone, what never was, and what is not for clients.
    let gone = async {
        while fs.stat(removed).await.is_ok() {
            tokio::time::sleep(core::time::Duration::from_millis(50)).await;
        }
    };
    crate::world::soon("the server to purge what was removed", gone).await?;
    for ino in [removed, Ino(0x1_00ff_ffff_ffff), Ino(0x100), Ino(0x600), Ino(3), Ino(0)] {
        assert_eq!(errno(fs.stat(ino).await), Some(Errno::ESTALE), "{ino}");
        assert_eq!(errno(fs.lookup(ino).await), Some(Errno::ESTALE), "{ino}");
        assert_eq!(errno(fs.parent(ino).await), Some(Errno::ESTALE), "{ino}");
        assert_eq!(errno(fs.path_of(ino).await), Some(Errno::ESTALE), "{ino}");
        assert_eq!(errno(fs.mkdir(&Place::from(ino).join("x"), 0o755).await), Some(Errno::ESTALE), "{ino}");
    }
    for ino in [removed, Ino(0x1_00ff_ffff_ffff)] {
        assert_eq!(blocking(|| second.call("stat_ino", &[json!(ino.0)]))?, Err(Errno::ESTALE.0), "{ino}");
    }
    assert_eq!(errno(fs.parent(Ino::ROOT).await), Some(Errno::EINVAL));
    assert_eq!(errno(fs.name_of(Ino::ROOT).await), Some(Errno::EINVAL));
    assert_eq!(errno(fs.mkdir(&Place::from(file).join("x"), 0o755).await), Some(Errno::ENOTDIR));
    finish(&cluster, fs, Some(second)).await
}
