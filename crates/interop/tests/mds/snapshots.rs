//! What was there when a snapshot was made can be looked at, and nothing else can be done with it.

use anyhow::Result;
use cuttlebone_fs::{AttrChanges, Errno, Error};
use serde_json::json;

use crate::world::{ONE, as_second, blocking, finish, listing, mounted};

fn errno<T>(result: Result<T, Error>) -> Option<Errno> {
    result.err().and_then(|error| error.errno())
}

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
