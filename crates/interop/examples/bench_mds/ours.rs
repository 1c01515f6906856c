//! The phases by this client: many operations at the same time, on a mount of its own for each phase.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use anyhow::{Result, ensure};
use cuttlebone_fs::{Error, FileSystem, FsConfig, Ino, Place};
use cuttlebone_testkit::Cluster;
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;

use crate::server::{Server, Usage};
use crate::{Phase, Took};

/// Operations of ours under way at the same time.
const PARALLEL: u64 = 64;

/// One phase, in a directory below the root.
pub(crate) async fn phase(
    cluster: &Cluster,
    server: &Server,
    phase: Phase,
    ops: u64,
    dir: &str,
) -> Result<Took> {
    let mut config = config(cluster);
    if phase == Phase::ReadDirUnbounded {
        config.page_entries = 0;
    }
    let fs = FileSystem::mount(config).await?;
    let dir = match phase {
        Phase::Create | Phase::Mkdir => fs.mkdir(dir, 0o755).await?.ino,
        _ => fs.stat(dir).await?.ino,
    };
    let meter = Meter::start(server)?;
    match phase {
        Phase::Create => {
            each(&fs, ops, move |fs, i| async move { fs.create(name(dir, 'f', i), 0o644).await.map(drop) })
                .await?;
        }
        Phase::Stat => {
            each(&fs, ops, move |fs, i| async move { fs.stat(name(dir, 'f', i)).await.map(drop) }).await?;
        }
        Phase::Lookup => {
            each(&fs, ops, move |fs, i| async move { fs.lookup(name(dir, 'f', i)).await.map(drop) }).await?;
        }
        Phase::ReadDir | Phase::ReadDirUnbounded => {
            let found = list(&fs, dir).await?;
            ensure!(found == ops, "{found} entries of {ops}");
        }
        Phase::Rename => {
            let rename = move |fs: FileSystem, i| async move {
                let (from, to) = (name(dir, 'f', i), name(dir, 'r', i));
                fs.rename(from, to).await
            };
            each(&fs, ops, rename).await?;
        }
        Phase::Mkdir => {
            each(&fs, ops, move |fs, i| async move { fs.mkdir(name(dir, 'd', i), 0o755).await.map(drop) })
                .await?;
        }
    }
    let took = meter.stop(server, ops)?;
    fs.unmount().await?;
    Ok(took)
}

async fn list(fs: &FileSystem, dir: Ino) -> Result<u64> {
    let mut listing = fs.read_dir(dir);
    let mut found = 0;
    while let Some(entry) = listing.next().await {
        entry?;
        found += 1;
    }
    Ok(found)
}

/// Does `step` for every number below `ops`, many at a time.
pub(crate) async fn each<F, S>(fs: &FileSystem, ops: u64, step: S) -> Result<()>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
    S: Fn(FileSystem, u64) -> F + Send + Clone + 'static,
{
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..PARALLEL {
        let (fs, next, step) = (fs.clone(), Arc::clone(&next), step.clone());
        tasks.spawn(async move {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= ops {
                    return Ok::<_, Error>(());
                }
                step(fs.clone(), i).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

pub(crate) fn name(dir: Ino, kind: char, i: u64) -> Place {
    Place::from(dir).join(format!("{kind}{i}"))
}

pub(crate) fn config(cluster: &Cluster) -> FsConfig {
    FsConfig::new(cluster.mons().iter().map(|mon| mon.addrs().clone()))
}

/// What is measured of one phase, since it began.
struct Meter {
    wall: tokio::time::Instant,
    cpu: Duration,
    server: Usage,
}

impl Meter {
    fn start(server: &Server) -> Result<Self> {
        let server = server.usage()?;
        Ok(Self { wall: tokio::time::Instant::now(), cpu: cpu_time(), server })
    }

    fn stop(self, server: &Server, ops: u64) -> Result<Took> {
        let seconds = self.wall.elapsed().as_secs_f64();
        let cpu_seconds = cpu_time().saturating_sub(self.cpu).as_secs_f64();
        Ok(Took { ops, seconds, cpu_seconds, server: server.usage()?.since(self.server) })
    }
}

/// The processor time of this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
