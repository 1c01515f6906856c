use core::time::Duration;
use std::env;

use anyhow::{Context, Result, ensure};
use cuttlebone_fs::{Errno, Error, FileSystem, FsConfig, Metadata, Place};
use cuttlebone_testkit::{Cluster, FsSpec, SecondClient};
use serde_json::{Value, json};

/// One rank and nobody who stands by.
pub(crate) const ONE: FsSpec = FsSpec { active: 1, standby: 0 };
/// One rank, and somebody to take over.
pub(crate) const WITH_STANDBY: FsSpec = FsSpec { active: 1, standby: 1 };

/// How long anything in a test may take that should end by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How to mount the file system of `cluster`.
pub(crate) fn config(cluster: &Cluster) -> FsConfig {
    let mut config = FsConfig::new(cluster.mons().iter().map(|mon| mon.addrs().clone()));
    config.metadata.insert("hostname".into(), "interop".into());
    config
}

/// A cluster with a file system, and us on it.
pub(crate) async fn mounted(spec: FsSpec) -> Result<(Cluster, FileSystem)> {
    let cluster = blocking(|| Cluster::builder().fs(spec).start())?;
    let fs = FileSystem::mount(config(&cluster)).await?;
    Ok((cluster, fs))
}

/// Unmounts, and checks that nobody has anything to complain about, or ever had.
pub(crate) async fn finish(cluster: &Cluster, fs: FileSystem, second: Option<SecondClient>) -> Result<()> {
    finish_after(cluster, fs, second, &[]).await
}

/// The same for a test that provokes warnings, each of which has one of these words.
pub(crate) async fn finish_after(
    cluster: &Cluster,
    fs: FileSystem,
    second: Option<SecondClient>,
    provoked: &[&str],
) -> Result<()> {
    // While both are still there: who goes takes with it what it left undone.
    blocking(|| cluster.wait_until_idle())?;
    fs.unmount().await.context("unmount")?;
    blocking(|| {
        second.map_or(Ok(()), SecondClient::unmount)?;
        trust(cluster, provoked)
    })
}

/// The unit of trust: a clean bill of health now, and no warning about a client at any time.
pub(crate) fn trust(cluster: &Cluster, provoked: &[&str]) -> Result<()> {
    cluster.wait_until_healthy()?;
    let mut warnings = cluster.client_warnings()?;
    warnings.retain(|warning| !provoked.iter().any(|word| warning.contains(word)));
    ensure!(warnings.is_empty(), "the cluster was warned: {warnings:#?}");
    Ok(())
}

/// Something that blocks, without holding up the tasks that drive our mount.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// Waits for what has to come; a test that hangs says where.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, work).await.with_context(|| format!("{what}: it hangs"))
}

/// A number from the environment, for long runs.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a call was refused with, if it was.
pub(crate) fn errno<T>(result: Result<T, Error>) -> Option<Errno> {
    result.err().and_then(|error| error.errno())
}

/// What the second client's `stat` tells, from our attributes.
pub(crate) fn as_second(metadata: &Metadata) -> Value {
    json!({
        "ino": metadata.ino.0,
        "mode": metadata.kind.bits() | metadata.mode,
        "nlink": metadata.nlink,
        "uid": metadata.uid,
        "gid": metadata.gid,
        "size": metadata.size,
        "atime": metadata.atime.secs,
        "mtime": metadata.mtime.secs,
        "btime": metadata.btime.secs,
    })
}

/// The entries of a directory as the second client's `readdir` tells them.
pub(crate) async fn listing(fs: &FileSystem, place: impl Into<Place>) -> Result<Value> {
    let mut entries = Vec::new();
    let mut dir = fs.read_dir(place);
    while let Some(entry) = dir.next().await {
        let entry = entry?;
        entries.push((String::from_utf8_lossy(&entry.name).into_owned(), entry.metadata.ino.0));
    }
    entries.sort();
    Ok(json!(entries))
}
