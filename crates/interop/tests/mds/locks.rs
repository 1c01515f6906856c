//! Locks on files: between us and Ceph's own client, and through a restart.

use anyhow::{Result, ensure};
use cuttlebone_fs::{FileSystem, Ino, LockKind, LockRule, OpenFile, OpenHow};
use cuttlebone_testkit::SecondClient;
use serde_json::json;

use crate::world::{ONE, WITH_STANDBY, blocking, config, finish, mounted, soon};

use LockKind::{Exclusive, Shared, Unlock};
use LockRule::{Fcntl, Flock};

const PATH: &str = "/f";

/// Whether Ceph's own client is given a lock.
fn theirs(second: &mut SecondClient, ino: Ino, rule: LockRule, kind: LockKind) -> Result<bool> {
    // Source: `torvalds/linux:include/uapi/asm-generic/fcntl.h`, `LOCK_*` and `F_*LCK`.
    let (flock, fcntl) = match kind {
        Shared => (1, 0),
        Exclusive => (2, 1),
        Unlock => (8, 2),
    };
    let taken = match rule {
        Flock => blocking(|| second.ok("flock", &[json!(PATH), json!(flock)]))?,
        Fcntl => blocking(|| second.ok("setlk", &[json!(ino.0), json!(fcntl)]))?,
    };
    Ok(taken == json!(true))
}

async fn holder(file: &OpenFile, rule: LockRule, kind: LockKind) -> Result<Option<(u64, LockKind)>> {
    Ok(file.lock_holder(rule, kind).await?.map(|held| (held.client, held.kind)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_keeps_the_other_client_out_and_theirs_keeps_us_out() -> Result<()> {
    let (cluster, fs) = mounted(ONE).await?;
    let mut second = blocking(|| cluster.second_client())?;
    let other = FileSystem::mount(config(&cluster)).await?;
    let file = fs.open(PATH, OpenHow::New(0o666)).await?;
    let ino = file.ino();
    let seen = other.open(PATH, OpenHow::Existing).await?;
    let us = fs.global_id();
    for rule in [Flock, Fcntl] {
        ensure!(file.try_lock(rule, Exclusive).await?);
        ensure!(file.try_lock(rule, Exclusive).await?, "it is ours already");
        assert_eq!(holder(&file, rule, Exclusive).await?, None, "nobody else is in our way");
        for kind in [Shared, Exclusive] {
            assert_eq!(holder(&seen, rule, kind).await?, Some((us, Exclusive)), "{rule:?} {kind:?}");
            ensure!(!seen.try_lock(rule, kind).await?);
            ensure!(!theirs(&mut second, ino, rule, kind)?, "{rule:?} {kind:?}");
        }
        // The other rules do not see it.
        let independent = if rule == Flock { Fcntl } else { Flock };
        ensure!(theirs(&mut second, ino, independent, Exclusive)?);
        ensure!(theirs(&mut second, ino, independent, Unlock)?);

        ensure!(file.try_lock(rule, Shared).await?, "another kind of it");
        assert_eq!(holder(&seen, rule, Shared).await?, None);
        assert_eq!(holder(&seen, rule, Exclusive).await?, Some((us, Shared)));
        ensure!(theirs(&mut second, ino, rule, Shared)?);
        ensure!(!theirs(&mut second, ino, rule, Exclusive)?);
        ensure!(!file.try_lock(rule, Exclusive).await?, "theirs is in the way");
        ensure!(file.try_lock(rule, Unlock).await?);
        ensure!(
            theirs(&mut second, ino, rule, Exclusive)?,
            "what was not given has not kept the old one from going"
        );
        for kind in [Shared, Exclusive] {
            ensure!(!file.try_lock(rule, kind).await?, "{rule:?} {kind:?}");
            let held = holder(&file, rule, kind).await?;
            ensure!(held.is_some_and(|(client, kind)| client != us && kind == Exclusive), "{held:?}");
        }
        ensure!(theirs(&mut second, ino, rule, Unlock)?);
        ensure!(file.try_lock(rule, Unlock).await?, "nothing to give up is no error");
    }

    // Closing gives it up, but only the last time, and so does the end of a mount.
    let again = fs.open(PATH, OpenHow::Existing).await?;
    ensure!(file.try_lock(Flock, Exclusive).await?);
    drop(file);
    ensure!(!seen.try_lock(Flock, Shared).await?);
    drop(again);
    let taken = async {
        while !seen.try_lock(Flock, Exclusive).await? {
            tokio::time::sleep(core::time::Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    soon("what was closed gives its lock up", taken).await??;
    ensure!(!theirs(&mut second, ino, Flock, Shared)?);
    other.unmount().await?;
    drop(seen);
    ensure!(theirs(&mut second, ino, Flock, Exclusive)?, "the end of a mount gives its locks up");
    finish(&cluster, fs, Some(second)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_outlives_the_server_that_gave_it() -> Result<()> {
    let (cluster, fs) = mounted(WITH_STANDBY).await?;
    let other = FileSystem::mount(config(&cluster)).await?;
    let file = fs.open(PATH, OpenHow::New(0o666)).await?;
    let seen = other.open(PATH, OpenHow::Existing).await?;
    fs.sync().await?;
    ensure!(file.try_lock(Flock, Exclusive).await? && file.try_lock(Fcntl, Shared).await?);
    blocking(|| cluster.crash_mds(0, 1))?;
    soon("the server to answer again", fs.mkdir("/after", 0o755)).await??;
    ensure!(!file.is_lost() && !seen.is_lost());
    let us = fs.global_id();
    assert_eq!(holder(&seen, Flock, Shared).await?, Some((us, Exclusive)));
    assert_eq!(holder(&seen, Fcntl, Exclusive).await?, Some((us, Shared)));
    ensure!(!seen.try_lock(Flock, Shared).await? && seen.try_lock(Fcntl, Shared).await?);
    ensure!(file.try_lock(Flock, Unlock).await? && file.try_lock(Fcntl, Unlock).await?);
    ensure!(seen.try_lock(Flock, Exclusive).await? && seen.try_lock(Fcntl, Exclusive).await?);
    drop(seen);
    other.unmount().await?;
    drop(file);
    finish(&cluster, fs, None).await
}
