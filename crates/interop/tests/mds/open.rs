//! Files that are open: they stay without a name and through a restart, and nobody has to wait for us.

use core::time::Duration;

use anyhow::{Context, Result, ensure};
use cuttlebone_fs::{AttrChanges, Errno, FileSystem, Ino, OpenFile, OpenHow};
use cuttlebone_mds::CapBits;
use cuttlebone_testkit::Cluster;
use serde_json::json;

use crate::world::{ONE, WITH_STANDBY, as_second, blocking, config, errno, finish, mounted, soon};

/// Waits until the server has removed what was kept only for us.
async fn gone(fs: &FileSystem, ino: Ino) -> Result<()> {
    let gone = async {
        while errno(fs.stat(ino).await) != Some(Errno::ESTALE) {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    soon("the server to remove what nobody has open", gone).await
}

/// How many files a server keeps that have no name.
fn nameless(cluster: &Cluster) -> Result<u64> {
    let mds = cluster.active_mds(0)?.context("one is active")?;
    let told = mds.admin(&json!({"prefix": "perf dump"}))?;
    told["mds_cache"]["num_strays"].as_u64().context("a counter")
}

async fn stays(file: &OpenFile) -> Result<()> {
    let now = soon("a stat", file.stat()).await??;
    ensure!(now.ino == file.ino() && now.nlink == 0 && !file.is_lost(), "{now:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_file_stays_without_a_name_until_it_is_closed() -> Result<()> {
    let (cluster, fs) = mounted(ONE).await?;
    let mut second = blocking(|| cluster.second_client())?;
    // Removed by us, by another, and replaced; opened by its name, and in the moment in which it is made.
    fs.create("/a", 0o640).await?;
    let first = fs.open("/a", OpenHow::Existing).await?;
    let again = fs.open(first.ino(), OpenHow::Existing).await?;
    let made = fs.open("/b", OpenHow::New(0o600)).await?;
    let replaced = fs.open("/c", OpenHow::OrMake(0o604)).await?;
    assert!(made.is_new() && replaced.is_new() && !first.is_new());
    assert_eq!(made.metadata(), &fs.stat("/b").await?);
    assert_eq!(as_second(replaced.metadata()), blocking(|| second.ok("stat", &[json!("/c")]))?);
    fs.unlink("/a").await?;
    blocking(|| second.ok("unlink", &[json!("/b")]))?;
    fs.create("/d", 0o640).await?;
    blocking(|| second.ok("rename", &[json!("/d"), json!("/c")]))?;
    fs.sync().await?;
    for file in [&first, &again, &made, &replaced] {
        stays(file).await?;
        assert_eq!(errno(fs.parent(file.ino()).await), Some(Errno::ESTALE), "it is in no directory of ours");
        assert_eq!(errno(fs.path_of(file.ino()).await), Some(Errno::ESTALE));
    }
    assert_eq!(blocking(|| nameless(&cluster))?, 3);
    let read_only = AttrChanges { mode: Some(0o444), ..AttrChanges::default() };
    assert_eq!(made.set_attributes(read_only).await?.mode, 0o444);
    // The other client may keep what it has seen.
    blocking(|| second.unmount())?;
    // Open twice, closed once.
    let (twice, closed) = (first.ino(), [made.ino(), replaced.ino()]);
    drop((first, made, replaced));
    for ino in closed {
        gone(&fs, ino).await?;
    }
    stays(&again).await?;
    drop(again);
    gone(&fs, twice).await?;
    let none_is_left = async {
        while blocking(|| nameless(&cluster)).ok() != Some(0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the server to remove them all", none_is_left).await?;
    finish(&cluster, fs, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_is_refused_as_by_the_other_client() -> Result<()> {
    const CREATE: i32 = 0o100;
    const EXCLUSIVE: i32 = 0o200;
    const NO_FOLLOW: i32 = 0o400_000;
    let (cluster, fs) = mounted(ONE).await?;
    let mut second = blocking(|| cluster.second_client())?;
    fs.mkdir("/d", 0o755).await?;
    // One that may be searched, or the other client does not look whether it can be.
    fs.create("/f", 0o755).await?;
    fs.symlink("f", "/s").await?;
    fs.sync().await?;
    let (existing, or_make, new) = (OpenHow::Existing, OpenHow::OrMake(0o644), OpenHow::New(0o644));
    let long = format!("/{}", "x".repeat(256));
    for (path, how, expected) in [
        ("/none", existing, Errno::ENOENT),
        ("/none/x", existing, Errno::ENOENT),
        ("/none/x", or_make, Errno::ENOENT),
        ("/none/x", new, Errno::ENOENT),
        ("/f/x", existing, Errno::ENOTDIR),
        ("/f/x", new, Errno::ENOTDIR),
        ("/f", new, Errno::EEXIST),
        ("/d", new, Errno::EEXIST),
        ("/s", new, Errno::EEXIST),
        ("/s", existing, Errno::ELOOP),
        ("/s", or_make, Errno::ELOOP),
        ("/d", or_make, Errno::EISDIR),
        (long.as_str(), new, Errno::ENAMETOOLONG),
    ] {
        assert_eq!(errno(fs.open(path, how).await), Some(expected), "{path} {how:?}");
        let flags = match how {
            OpenHow::Existing => NO_FOLLOW,
            OpenHow::OrMake(_) => NO_FOLLOW | CREATE,
            OpenHow::New(_) => NO_FOLLOW | CREATE | EXCLUSIVE,
        };
        // It makes names that are too long, follows a link while it makes a file, and opens a directory in place of making
        // one, as Linux does not.
        if expected != Errno::ENAMETOOLONG && how != or_make || expected == Errno::ENOENT {
            let theirs = blocking(|| second.call("hold", &[json!(path), json!(flags)]))?;
            assert_eq!(theirs, Err(expected.0), "{path} {how:?}");
        }
    }
    assert_eq!(errno(fs.open(Ino(0x1_00ff_ffff_ffff), existing).await), Some(Errno::ESTALE));
    fs.make_snapshot("/d", "one").await?;
    assert_eq!(errno(fs.open("/d/.snap/one", existing).await), Some(Errno::EROFS));
    fs.remove_snapshot("/d", "one").await?;
    assert!(!fs.open("/f", or_make).await?.is_new());
    let dir = fs.open("/d", existing).await?;
    blocking(|| second.ok("rmdir", &[json!("/d")]))?;
    dir.stat().await?;
    // A directory under a quota that is full takes no new file, and opens the one that is there.
    fs.mkdir("/q", 0o755).await?;
    fs.create("/q/f", 0o644).await?;
    fs.set_xattr("/q", "ceph.quota.max_files", "1").await?;
    fs.stat("/q").await?;
    assert_eq!(errno(fs.open("/q/new", or_make).await), Some(Errno::EDQUOT));
    assert!(!fs.open("/q/f", or_make).await?.is_new());
    finish(&cluster, fs, Some(second)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_a_file_that_we_have_open_is_not_held_up() -> Result<()> {
    const WRITE: i32 = 0o1;
    let (cluster, fs) = mounted(ONE).await?;
    let mut second = blocking(|| cluster.second_client())?;
    let made = fs.open("/made", OpenHow::New(0o644)).await?;
    fs.create("/found", 0o644).await?;
    let found = fs.open("/found", OpenHow::Existing).await?;
    for (path, file) in [("/made", &made), ("/found", &found)] {
        blocking(|| second.ok("hold", &[json!(path), json!(WRITE)]))?;
        // It may keep back what it writes, as if it had the file for itself.
        let keeps_back = async {
            let wanted = CapBits::FILE_WRITE | CapBits::FILE_BUFFER;
            loop {
                let bits = blocking(|| second.ok("caps", &[json!(path)]))?.as_u64().context("bits")?;
                if CapBits(u32::try_from(bits)?).contains(wanted) {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon("the other client to be given everything", keeps_back).await??;
        blocking(|| second.ok("write", &[json!(path), json!("hello")]))?;
        // Asked for, it comes out with it, and goes on.
        assert_eq!(soon("a stat", file.stat()).await??.size, 5, "{path}");
        blocking(|| second.ok("write", &[json!(path), json!("hello, world")]))?;
        blocking(|| second.ok("drop", &[json!(path)]))?;
        assert_eq!(soon("a stat", file.stat()).await??.size, 12, "{path}");
    }
    drop((made, found));
    finish(&cluster, fs, Some(second)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_file_outlives_its_server_and_is_lost_with_its_session() -> Result<()> {
    let (cluster, fs) = mounted(WITH_STANDBY).await?;
    let mut second = blocking(|| cluster.second_client())?;
    let nameless_before = fs.open("/before", OpenHow::New(0o644)).await?;
    let named = fs.open("/named", OpenHow::New(0o644)).await?;
    fs.unlink("/before").await?;
    // Once before it is committed, and once when nothing of it is in the journal any more.
    blocking(|| cluster.crash_mds(0, 1))?;
    stays(&nameless_before).await?;
    fs.sync().await?;
    blocking(|| {
        cluster.active_mds(0)?.context("one is active")?.admin(&json!({"prefix": "flush journal"}))?;
        cluster.crash_mds(0, 1)
    })?;
    stays(&nameless_before).await?;
    blocking(|| second.ok("unlink", &[json!("/named")]))?;
    stays(&named).await?;
    let before = nameless_before.ino();
    drop(nameless_before);
    gone(&fs, before).await?;
    stays(&named).await?;
    blocking(|| second.unmount())?;

    blocking(|| cluster.evict_client(0, fs.global_id()))?;
    let lost = async {
        while !named.is_lost() {
            // It is only noticed when something is asked for.
            let _ = fs.stat("/").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the loss to be noticed", lost).await?;
    assert_eq!(errno(named.stat().await), Some(Errno::ESTALE));
    let ino = named.ino();
    drop((named, fs));
    let fs = FileSystem::mount(config(&cluster)).await?;
    gone(&fs, ino).await?;
    crate::world::finish_after(&cluster, fs, None, &["vict"]).await
}
