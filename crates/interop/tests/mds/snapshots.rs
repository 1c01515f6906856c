//! What was there when a snapshot was made can be looked at, and nothing else can be done with it.

use anyhow::Result;
use cuttlebone_fs::{AttrChanges, Errno};
use serde_json::json;

use crate::world::{ONE, as_second, blocking, errno, finish, listing, mounted};

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_shows_what_was_there_and_cannot_be_changed() -> Result<()> {
    let (cluster, fs) = mounted(ONE).await?;
    let mut second = blocking(|| cluster.second_client())?;
    fs.mkdir("/d", 0o755).await?;
    fs.mkdir("/d/e", 0o755).await?;
    fs.create("/d/e/gone", 0o640).await?;
    fs.set_xattr("/d/e/gone", "user.k", "then").await?;
    fs.symlink("e", "/d/link").await?;
    fs.make_snapshot("/d", "one").await?;
    fs.unlink("/d/e/gone").await?;
    fs.create("/d/e/later", 0o644).await?;
    fs.sync().await?;

    for dir in ["/d/.snap", "/d/.snap/one", "/d/.snap/one/e"] {
        let theirs = blocking(|| second.ok("readdir", &[json!(dir)]))?;
        assert_eq!(listing(&fs, dir).await?, theirs, "{dir}");
    }
    for path in ["/d/.snap/one", "/d/.snap/one/e", "/d/.snap/one/e/gone", "/d/.snap/one/link"] {
        let mut theirs = blocking(|| second.ok("stat", &[json!(path)]))?;
        let ours = fs.stat(path).await?;
        if ours.is_dir() {
            // The other client makes up its own for directories.
            theirs["nlink"] = json!(ours.nlink);
            theirs["size"] = json!(ours.size);
        }
        assert_eq!(as_second(&ours), theirs, "{path}");
    }
    assert_eq!(fs.get_xattr("/d/.snap/one/e/gone", "user.k").await?, "then");
    assert_eq!(fs.read_link("/d/.snap/one/link").await?, "e");
    assert!(fs.stat("/d/.snap").await?.is_dir());
    assert_eq!(errno(fs.stat("/d/.snap/one/e/later").await), Some(Errno::ENOENT));
    assert_eq!(errno(fs.stat("/d/.snap/two").await), Some(Errno::ENOENT));
    assert_eq!(errno(fs.stat("/d/e/later/.snap").await), Some(Errno::ENOTDIR));

    let read_only = Some(Errno::EROFS);
    assert_eq!(errno(fs.mkdir("/d/.snap", 0o755).await), read_only);
    assert_eq!(errno(fs.create("/d/.snap/one/new", 0o644).await), read_only);
    assert_eq!(errno(fs.unlink("/d/.snap/one/e/gone").await), read_only);
    assert_eq!(errno(fs.rename("/d/.snap/one/e/gone", "/d/back").await), read_only);
    assert_eq!(errno(fs.rename("/d/e/later", "/d/.snap/one/e/later").await), read_only);
    let mode = AttrChanges { mode: Some(0o600), ..AttrChanges::default() };
    assert_eq!(errno(fs.set_attributes("/d/.snap/one/e/gone", mode).await), read_only);
    assert_eq!(errno(fs.set_xattr("/d/.snap/one/e", "user.k", "v").await), read_only);
    assert_eq!(errno(fs.watch(&["/d/.snap/one"]).await), read_only);
    let names = blocking(|| second.ok("readdir", &[json!("/d")]))?;
    assert_eq!(listing(&fs, "/d").await?, names, "nothing of it was made among the living");
    fs.remove_snapshot("/d", "one").await?;
    finish(&cluster, fs, Some(second)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_gets_another_name_by_either_client_and_errors_agree() -> Result<()> {
    let (cluster, fs) = mounted(ONE).await?;
    let mut second = blocking(|| cluster.second_client())?;
    fs.mkdir("/d", 0o755).await?;
    fs.mkdir("/d/e", 0o755).await?;
    fs.create("/d/e/f", 0o640).await?;
    let other = fs.create("/file", 0o640).await?.ino;
    fs.make_snapshot("/d", "one").await?;
    fs.make_snapshot("/d", "two").await?;
    let before = fs.stat("/d/.snap/one").await?.snap;
    fs.unlink("/d/e/f").await?;

    // Ours, seen by the other.
    fs.rename_snapshot("/d", "one", "first").await?;
    assert_eq!(blocking(|| second.ok("lssnap", &[json!("/d")]))?, json!(["first", "two"]));
    assert_eq!(fs.stat("/d/.snap/first").await?.snap, before, "it is the same snapshot");
    assert_eq!(errno(fs.stat("/d/.snap/one").await), Some(Errno::ENOENT));
    let theirs = blocking(|| second.ok("stat", &[json!("/d/.snap/first/e/f")]))?;
    assert_eq!(as_second(&fs.stat("/d/.snap/first/e/f").await?), theirs);
    // By its path, as the other client has it.
    fs.rename("/d/.snap/first", "/d/.snap/1st").await?;

    // What is refused is refused to both, with the same words.
    let long = "x".repeat(256);
    let cases = [
        ("/d", "none", "new", Errno::ENOENT),
        ("/d", "none", "two", Errno::ENOENT),
        ("/d", "1st", "two", Errno::EEXIST),
        ("/d", "1st", "1st", Errno::EEXIST),
        ("/d", "1st", "_new", Errno::EINVAL),
        ("/d", "_1st_1", "new", Errno::EINVAL),
        ("/d/e", "1st", "new", Errno::ENOENT),
        ("/d", "1st", &long, Errno::ENAMETOOLONG),
        ("/d", "1st", "a/b", Errno::EINVAL),
        ("/d", "1st", "", Errno::EINVAL),
        ("/d", "1st", ".snap", Errno::EROFS),
        ("/none", "1st", "new", Errno::ENOENT),
        ("/file", "1st", "new", Errno::ENOTDIR),
    ];
    for (dir, from, to, expected) in cases {
        assert_eq!(errno(fs.rename_snapshot(dir, from, to).await), Some(expected), "{dir}: {from} to {to}");
    }
    assert_eq!(errno(fs.rename_snapshot(other, "1st", "new").await), Some(Errno::ENOTDIR));
    assert_eq!(errno(fs.rename("/d/.snap/1st", "/d/e/.snap/1st").await), Some(Errno::EROFS));
    for (from, to, expected) in [
        ("/d/.snap/none", "/d/.snap/new", Errno::ENOENT),
        ("/d/.snap/1st", "/d/.snap/two", Errno::EEXIST),
        ("/d/.snap/1st", "/d/.snap/_new", Errno::EINVAL),
        ("/d/.snap/1st", "/d/e/.snap/1st", Errno::EROFS),
    ] {
        let theirs = blocking(|| second.call("rename", &[json!(from), json!(to)]))?;
        assert_eq!(theirs, Err(expected.0), "{from} to {to}");
    }

    // The other's, seen by us.
    blocking(|| second.ok("rename", &[json!("/d/.snap/two"), json!("/d/.snap/second")]))?;
    let names = fs.snapshots("/d").await?.into_iter().map(|snapshot| snapshot.name);
    assert_eq!(names.collect::<Vec<_>>(), ["1st", "second"]);
    fs.remove_snapshot("/d", "1st").await?;
    fs.remove_snapshot("/d", "second").await?;
    finish(&cluster, fs, Some(second)).await
}
