//! Capabilities move between us and another client, and nobody waits for longer than it takes to say so.

use core::time::Duration;

use anyhow::{Result, ensure};
use cuttlebone_fs::{Change, Error, Place};
use serde_json::json;

use crate::world::{ONE, blocking, finish, mounted, soon};

/// Names in the contended directory.
const NAMES: u64 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_other_client_wants_is_given_back_while_our_callers_wait() -> Result<()> {
    let (cluster, fs) = mounted(ONE).await?;
    let mut second = blocking(|| cluster.second_client())?;
    fs.mkdir("/d", 0o755).await?;
    for i in 0..NAMES {
        fs.create(&Place::from("/d").join(format!("f{i}")), 0o644).await?;
    }
    fs.mkdir("/elsewhere", 0o755).await?;
    fs.sync().await?;
    // A caller of ours who waits all the time, for one commit after another.
    let waiting = tokio::spawn({
        let fs = fs.clone();
        async move {
            for i in 0_u64.. {
                fs.create(&Place::from("/elsewhere").join(format!("f{i}")), 0o644).await?;
                fs.sync().await?;
            }
            Ok::<_, Error>(())
        }
    });
    let mut took = Vec::new();
    for i in 0..NAMES {
        let path = format!("/d/f{i}");
        // We hold it, by capability and by lease, and are asked for it while everybody here sleeps.
        fs.stat(&path).await?;
        let begin = tokio::time::Instant::now();
        blocking(|| second.ok("stat", &[json!(path)]))?;
        blocking(|| second.ok("chmod", &[json!(path), json!(0o600)]))?;
        took.push(begin.elapsed());
        assert_eq!(fs.stat(&path).await?.mode, 0o600, "the other's change is what we see");
    }
    ensure!(!waiting.is_finished(), "the waiting caller has failed");
    waiting.abort();
    took.sort();
    println!("two calls of the other client, with our revokes: median {:?}", took[took.len() / 2]);
    // Files that the other client keeps open for writing, with everything that goes with it.
    for i in 0..NAMES / 4 {
        let path = format!("/d/f{i}");
        blocking(|| -> Result<()> {
            second.ok("hold", &[json!(path), json!(0o2)])?;
            second.ok("write", &[json!(path), json!("some text")]).map(drop)
        })?;
        // The other holds the size; the server has to ask for it before it can tell us.
        assert_eq!(soon("a stat", fs.stat(&path)).await??.size, 9);
        blocking(|| second.ok("drop", &[json!(path)]))?;
    }
    finish(&cluster, fs, Some(second)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_directory_tells_of_each_change_of_the_other_client() -> Result<()> {
    let (cluster, fs) = mounted(ONE).await?;
    let mut second = blocking(|| cluster.second_client())?;
    fs.mkdir("/w", 0o755).await?;
    let mut changes = fs.watch(&["/w"]).await?;
    for i in 0..5 {
        blocking(|| second.ok("create", &[json!(format!("/w/f{i}"))]))?;
        let seen = soon("a change", changes.next()).await?;
        ensure!(matches!(&seen, Some((place, _)) if place.to_string() == "/w"), "{seen:?}");
        // One change may be heard of in several ways; what is heard is over before the next one is made.
        while tokio::time::timeout(Duration::from_millis(200), changes.next()).await.is_ok() {}
    }
    blocking(|| second.ok("chmod", &[json!("/w"), json!(0o700)]))?;
    let seen = soon("a change", changes.next()).await?;
    ensure!(matches!(&seen, Some((_, change)) if *change != Change::Unknown), "{seen:?}");
    drop(changes);
    finish(&cluster, fs, Some(second)).await
}
