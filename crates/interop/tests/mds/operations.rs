//! Every operation and its error cases, seen from both sides.

use anyhow::{Result, ensure};
use cuttlebone_fs::{AttrChanges, Errno, Error, Kind, Resize, XattrMode};
use cuttlebone_wire::WallTime;
use serde_json::json;

use crate::world::{ONE, as_second, blocking, finish, listing, mounted};

fn errno<T>(result: Result<T, Error>) -> i32 {
    result.err().and_then(|error| error.errno()).map_or(0, |errno| errno.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_attributes_agree_with_the_other_client_both_ways() -> Result<()> {
    let (cluster, fs) = mounted(ONE).await?;
    let mut second = blocking(|| cluster.second_client())?;
    // Ours, seen by the other.
    let dir = fs.mkdir("/d", 0o750).await?;
    let file = fs.create("/d/f", 0o640).await?;
    fs.symlink("f", "/d/s").await?;
    fs.link("/d/f", "/d/g").await?;
    fs.rename("/d/g", "/d/h").await?;
    let wanted = AttrChanges {
        mode: Some(0o600),
        uid: Some(5),
        gid: Some(6),
        mtime: Some(WallTime { secs: 1_000_000, nanos: 5 }),
        size: Some(Resize { from: 0, to: 12_345 }),
        ..AttrChanges::default()
    };
    let changed = fs.set_attributes("/d/f", wanted).await?;
    assert_eq!((changed.mode, changed.uid, changed.size, changed.nlink), (0o600, 5, 12_345, 2));
    fs.set_xattr("/d/f", "user.note", "hello").await?;
    blocking(|| -> Result<()> {
        assert_eq!(second.ok("stat", &[json!("/d/f")])?, as_second(&changed));
        assert_eq!(second.ok("stat", &[json!("/d")])?["mode"], json!(Kind::Dir.bits() | 0o750));
        assert_eq!(second.ok("stat", &[json!("/d")])?["ino"], json!(dir.ino.0));
        assert_eq!(second.ok("readlink", &[json!("/d/s")])?, json!("f"));
        assert_eq!(second.ok("getxattr", &[json!("/d/f"), json!("user.note")])?, json!("hello"));
        let names = second.ok("readdir", &[json!("/d")])?;
        assert_eq!(names.as_array().map(Vec::len), Some(3));
        assert_eq!(names[0], json!(["f", file.ino.0]));
        assert_eq!(names[1], json!(["h", file.ino.0]));
        Ok(())
    })?;
    assert_eq!(listing(&fs, "/d").await?, blocking(|| second.ok("readdir", &[json!("/d")]))?);
    // The other's, seen by us.
    blocking(|| -> Result<()> {
        second.ok("mkdir", &[json!("/e"), json!(0o711)])?;
        second.ok("create", &[json!("/e/f"), json!(0o604)])?;
        second.ok("chown", &[json!("/e/f"), json!(7), json!(8)])?;
        second.ok("truncate", &[json!("/e/f"), json!(99)])?;
        second.ok("setxattr", &[json!("/e/f"), json!("user.x"), json!("y")])?;
        second.ok("symlink", &[json!("/e/f"), json!("/e/s")])?;
        second.ok("rename", &[json!("/d/h"), json!("/e/h")])?;
        second.ok("unlink", &[json!("/d/s")]).map(drop)
    })?;
    assert_eq!(as_second(&fs.stat("/e/f").await?), blocking(|| second.ok("stat", &[json!("/e/f")]))?);
    assert_eq!(fs.get_xattr("/e/f", "user.x").await?, "y");
    assert_eq!(fs.read_link("/e/s").await?, "/e/f");
    assert_eq!(fs.stat("/e/h").await?.ino, file.ino);
    assert_eq!(errno(fs.stat("/d/h").await), 2);
    assert_eq!(errno(fs.stat("/d/s").await), 2);
    assert_eq!(listing(&fs, "/d").await?, json!([["f", file.ino.0]]));
    finish(&cluster, fs, Some(second)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_the_one_that_the_server_has_for_it() -> Result<()> {
    let (cluster, fs) = mounted(ONE).await?;
    fs.mkdir("/d", 0o755).await?;
    fs.mkdir("/d/sub", 0o755).await?;
    fs.mkdir("/empty", 0o755).await?;
    fs.create("/f", 0o644).await?;
    let at = |errno: Errno| errno.0;
    assert_eq!(errno(fs.stat("/none").await), at(Errno::ENOENT));
    assert_eq!(errno(fs.stat("/none/x").await), at(Errno::ENOENT));
    assert_eq!(errno(fs.stat("/f/x").await), at(Errno::ENOTDIR));
    assert_eq!(errno(fs.mkdir("/d", 0o755).await), at(Errno::EEXIST));
    assert_eq!(errno(fs.mkdir("/none/x", 0o755).await), at(Errno::ENOENT));
    assert_eq!(errno(fs.mkdir("/f/x", 0o755).await), at(Errno::ENOTDIR));
    assert_eq!(errno(fs.create("/f", 0o644).await), at(Errno::EEXIST));
    assert_eq!(errno(fs.create("/d", 0o644).await), at(Errno::EEXIST));
    assert_eq!(errno(fs.unlink("/none").await), at(Errno::ENOENT));
    assert_eq!(errno(fs.unlink("/d").await), at(Errno::EISDIR));
    assert_eq!(errno(fs.rmdir("/d").await), at(Errno::ENOTEMPTY));
    assert_eq!(errno(fs.rmdir("/f").await), at(Errno::ENOTDIR));
    assert_eq!(errno(fs.rmdir("/none").await), at(Errno::ENOENT));
    assert_eq!(errno(fs.rename("/none", "/x").await), at(Errno::ENOENT));
    assert_eq!(errno(fs.rename("/d", "/d/sub/x").await), at(Errno::EINVAL));
    assert_eq!(errno(fs.rename("/d", "/f").await), at(Errno::ENOTDIR));
    assert_eq!(errno(fs.rename("/f", "/d").await), at(Errno::ENOTEMPTY));
    assert_eq!(errno(fs.rename("/f", "/empty").await), at(Errno::EISDIR));
    assert_eq!(errno(fs.rename("/empty", "/d").await), at(Errno::ENOTEMPTY));
    // In place of a directory above: no server is asked, since it would wait for itself for ever.
    fs.create("/d/sub/deep", 0o644).await?;
    let sub = fs.stat("/d/sub").await?.ino;
    assert_eq!(errno(fs.rename("/d/sub/deep", "/d").await), at(Errno::ENOTEMPTY));
    assert_eq!(errno(fs.rename("/d/sub/deep", "/d/sub").await), at(Errno::ENOTEMPTY));
    let deep = cuttlebone_fs::Place::from(sub).join("deep");
    assert_eq!(errno(fs.rename(&deep, "/d").await), at(Errno::ENOTEMPTY));
    fs.rename(&deep, "/d/up").await?;
    assert_eq!(errno(fs.link("/none", "/x").await), at(Errno::ENOENT));
    assert_eq!(errno(fs.link("/f", "/d").await), at(Errno::EEXIST));
    assert_eq!(errno(fs.symlink("f", "/d").await), at(Errno::EEXIST));
    assert_eq!(errno(fs.read_link("/f").await), at(Errno::EINVAL));
    assert_eq!(errno(fs.get_xattr("/f", "user.none").await), at(Errno::ENODATA));
    assert_eq!(errno(fs.remove_xattr("/f", "user.none").await), at(Errno::ENODATA));
    fs.set_xattr("/f", "user.a", "1").await?;
    assert_eq!(errno(fs.set_xattr_as("/f", "user.a", "2", XattrMode::Create).await), at(Errno::EEXIST));
    assert_eq!(errno(fs.set_xattr_as("/f", "user.b", "2", XattrMode::Replace).await), at(Errno::ENODATA));
    assert_eq!(errno(fs.read_dir("/f").next().await.unwrap_or(Err(Error::Unmounted))), at(Errno::ENOTDIR));
    assert_eq!(
        errno(fs.create(format!("/{}", "x".repeat(256)).as_str(), 0o644).await),
        at(Errno::ENAMETOOLONG)
    );
    assert_eq!(errno(fs.create("/", 0o644).await), at(Errno::EINVAL));
    fs.create(format!("/{}", "x".repeat(255)).as_str(), 0o644).await?;
    // Links that go round.
    fs.symlink("b", "/a").await?;
    fs.symlink("a", "/b").await?;
    assert_eq!(errno(fs.stat("/a/x").await), at(Errno::ELOOP));
    // A file has no directory above it that one could go back to.
    fs.symlink("f/../d", "/back").await?;
    assert_eq!(errno(fs.stat("/back/sub").await), at(Errno::ENOTDIR));
    fs.symlink("d/../d/sub/..", "/way").await?;
    assert_eq!(fs.stat("/way/sub").await?.ino, fs.stat("/d/sub").await?.ino);
    finish(&cluster, fs, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_come_once_each_at_any_page_size() -> Result<()> {
    const COUNT: usize = 10_000;
    let (cluster, fs) = mounted(ONE).await?;
    let dir = fs.mkdir("/many", 0o755).await?.ino;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16 {
        let fs = fs.clone();
        tasks.spawn(async move {
            for i in (task..COUNT).step_by(16) {
                fs.create(&cuttlebone_fs::Place::from(dir).join(format!("f{i}")), 0o644).await?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let mut second = blocking(|| cluster.second_client())?;
    let expected = blocking(|| second.ok("readdir", &[json!("/many")]))?;
    ensure!(expected.as_array().is_some_and(|names| names.len() == COUNT));
    assert_eq!(listing(&fs, "/many").await?, expected);
    fs.unmount().await?;
    for page_entries in [7_000, 0] {
        let mut config = crate::world::config(&cluster);
        config.page_entries = page_entries;
        let fs = cuttlebone_fs::FileSystem::mount(config).await?;
        assert_eq!(listing(&fs, "/many").await?, expected);
        fs.unmount().await?;
    }
    let fs = cuttlebone_fs::FileSystem::mount(crate::world::config(&cluster)).await?;
    finish(&cluster, fs, Some(second)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_sums_and_how_full_it_is() -> Result<()> {
    let (cluster, fs) = mounted(ONE).await?;
    let mut second = blocking(|| cluster.second_client())?;
    fs.mkdir("/d", 0o755).await?;
    fs.mkdir("/d/e", 0o755).await?;
    for name in ["f", "g"] {
        fs.create(&cuttlebone_fs::Place::from("/d/e").join(name), 0o644).await?;
    }
    fs.make_snapshot("/d", "one").await?;
    blocking(|| second.ok("mksnap", &[json!("/d"), json!("two")]))?;
    let names: Vec<_> = fs.snapshots("/d").await?.into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["one", "two"]);
    fs.remove_snapshot("/d", "one").await?;
    assert_eq!(errno(fs.remove_snapshot("/d", "one").await), 2);
    blocking(|| second.ok("rmsnap", &[json!("/d"), json!("two")]))?;
    assert_eq!(fs.snapshots("/d").await?, []);
    // Sums are brought up to date by the server on its own time.
    let sums = async {
        while fs.get_xattr("/d", "ceph.dir.rfiles").await? != "2" {
            tokio::time::sleep(core::time::Duration::from_millis(100)).await;
        }
        Ok::<_, Error>(())
    };
    crate::world::soon("the sums", sums).await??;
    for name in ["ceph.dir.entries", "ceph.dir.rsubdirs", "ceph.dir.rentries", "ceph.dir.subdirs"] {
        let ours = fs.get_xattr("/d", name).await?;
        let theirs = blocking(|| second.ok("getxattr", &[json!("/d"), json!(name)]))?;
        assert_eq!(json!(String::from_utf8_lossy(&ours)), theirs, "{name}");
    }
    fs.set_xattr("/d", "ceph.quota.max_files", "10").await?;
    assert_eq!(fs.get_xattr("/d", "ceph.quota.max_files").await?, "10");
    assert_eq!(fs.get_xattr("/d", "ceph.dir.pin").await?, "-1");
    // Which no server checks.
    fs.set_xattr("/d", "ceph.quota.max_bytes", "1000").await?;
    fs.stat("/d").await?;
    let grow = |to| AttrChanges { size: Some(Resize { from: 0, to }), ..AttrChanges::default() };
    assert_eq!(errno(fs.set_attributes("/d/e/f", grow(1001)).await), Errno::EDQUOT.0);
    fs.set_attributes("/d/e/f", grow(1000)).await?;
    assert_eq!(errno(fs.rename("/d/e/g", "/g").await), Errno::EXDEV.0);
    let theirs = blocking(|| second.call("rename", &[json!("/d/e/g"), json!("/g")]))?;
    assert_eq!(theirs, Err(Errno::EXDEV.0), "as the other client has it");
    fs.set_xattr("/d", "ceph.quota.max_bytes", "0").await?;
    let ours = fs.statfs().await?;
    // Without a manager the monitors have no numbers, and both clients are told so.
    let theirs = blocking(|| second.ok("statfs", &[]))?;
    assert_eq!((ours.fsid, json!(ours.kib)), (cluster.fsid(), theirs["f_blocks"].clone()));
    finish(&cluster, fs, Some(second)).await
}
