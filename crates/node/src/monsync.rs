use core::convert::Infallible;
use core::time::Duration;
use std::path::PathBuf;

use cuttlebone_bucket::VbucketId;
use cuttlebone_http::status::SourceState;
use cuttlebone_wire::EntityAddrs;

use crate::builder::missing;
use crate::clock::wall_time;
use crate::error::chain;
use crate::part::{Plan, Running, Source};
use crate::{Backup, BackupConfig, BackupEvent, BuildError, Error, Ground};

/// How often a source looks for something new, unless it is told otherwise.
const EVERY: Duration = Duration::from_millis(500);
/// How long it waits before it tries again when no monitor could be pulled from.
const RETRY: Duration = Duration::from_secs(1);

/// The monitors of a live cluster, followed for ever: into the node's copy, its bucket, or both.
///
/// In the bucket each key of the monitor's store is an item, its prefix and its key joined by a NUL byte. Copy and bucket
/// pull each for itself, since each goes on from what it has itself on the disk.
#[derive(Clone, Debug)]
pub struct MonSync {
    config: BackupConfig,
    vbucket: VbucketId,
    every: Duration,
}

impl From<Vec<EntityAddrs>> for MonSync {
    /// The monitors of one cluster, any of which may be pulled from.
    fn from(monitors: Vec<EntityAddrs>) -> Self {
        Self { config: BackupConfig::new(monitors, PathBuf::new()), vbucket: 0, every: EVERY }
    }
}

impl MonSync {
    /// How to pull in detail; the directory in it is the node's.
    #[must_use]
    pub fn with_config(self, config: BackupConfig) -> Self {
        Self { config, ..self }
    }

    /// The vbucket that is filled. Default 0.
    #[must_use]
    pub fn vbucket(self, vbucket: VbucketId) -> Self {
        Self { vbucket, ..self }
    }

    /// How often to look for something new. Default 500 ms.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }
}

impl Source for MonSync {
    fn name(&self) -> &'static str {
        "monsync"
    }

    fn check(&self, plan: &Plan) -> Result<(), BuildError> {
        if !plan.copy && !plan.bucket {
            return Err(missing(self.name(), "a bucket, or a directory for its copy"));
        }
        if self.config.monitors.is_empty() {
            return Err(missing(self.name(), "a monitor to pull from"));
        }
        Ok(())
    }

    fn run(self: Box<Self>, ground: Ground) -> Running {
        Box::pin(async move {
            let Self { mut config, vbucket, every } = *self;
            let mut copy = None;
            if let Some(dir) = ground.copy() {
                config.store = dir.into();
                copy = Some(Backup::open(config.clone())?);
            }
            let mut bucket = None;
            if let Some(kept) = ground.bucket() {
                bucket = Some(Backup::into_bucket(config, kept.clone(), vbucket)?);
            }
            let mut brought = usize::from(copy.is_some()) + usize::from(bucket.is_some());
            // What is there from before is as good as what a first pull brings.
            for backup in [&copy, &bucket].into_iter().flatten() {
                brought -= usize::from(backup.latest().is_some());
            }
            let teller = Teller { ground: ground.clone(), brought: std::sync::Mutex::new(brought) };
            teller.check_ready();
            let ended = tokio::select! {
                ended = follow_both(&mut copy, &mut bucket, every, &teller) => ended.map(|_: (Infallible, Infallible)| ()),
                () = ground.stopping() => Ok(()),
            };
            for backup in [copy, bucket].into_iter().flatten() {
                backup.close().await;
            }
            ground.source(|source| source.state = SourceState::Ended);
            ended
        })
    }
}

async fn follow_both(
    copy: &mut Option<Backup>,
    bucket: &mut Option<Backup>,
    every: Duration,
    teller: &Teller,
) -> Result<(Infallible, Infallible), Error> {
    tokio::try_join!(follow(copy, every, teller), follow(bucket, every, teller))
}

/// Follows for ever; monitors that are away are tried again, also before the first of them has answered.
async fn follow(backup: &mut Option<Backup>, every: Duration, teller: &Teller) -> Result<Infallible, Error> {
    let Some(backup) = backup else { return core::future::pending().await };
    let mut first = true;
    loop {
        let mut tell = |event: BackupEvent<'_>| teller.tell(&event, &mut first);
        match backup.follow(every, &mut tell).await {
            Ok(never) => match never {},
            Err(error @ Error::Exhausted { .. }) => tell(BackupEvent::Unreachable(&error)),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Tells log and status what a pull reports.
struct Teller {
    ground: Ground,
    /// Targets that have not been filled once.
    brought: std::sync::Mutex<usize>,
}

impl Teller {
    fn check_ready(&self) {
        if *self.brought.lock().unwrap_or_else(std::sync::PoisonError::into_inner) == 0 {
            self.ground.ready();
        }
    }

    fn tell(&self, event: &BackupEvent<'_>, first: &mut bool) {
        let part = self.ground.part();
        match event {
            BackupEvent::Connected { monitor, fsid, .. } => {
                tracing::info!(part, monitor, %fsid, "connected");
                self.ground.source(|source| source.peer = Some((*monitor).to_owned()));
            }
            BackupEvent::Started { full, from } => {
                tracing::debug!(part, full, from, "pulling");
                let state = if *full { SourceState::Copying } else { SourceState::Following };
                self.ground.source(|source| source.state = state);
            }
            BackupEvent::Progress(_) => {}
            BackupEvent::FellBehind { after } => {
                tracing::warn!(part, after, "the monitors have trimmed what follows");
            }
            BackupEvent::Pulled { outcome, took } => {
                if outcome.is_new {
                    tracing::info!(
                        part,
                        version = outcome.last_committed,
                        keys = outcome.progress.keys,
                        "pulled"
                    );
                }
                self.ground.source(|source| {
                    source.state = SourceState::Following;
                    source.items_total += outcome.progress.keys;
                    source.bytes_total += outcome.progress.bytes;
                    source.last_error = None;
                    source.lag_versions = Some(0);
                    source.lag_ms = Some(0);
                    source.last_success_unix = Some(wall_time().secs.into());
                    source.last_duration_ms = u64::try_from(took.as_millis()).ok();
                });
                if core::mem::replace(first, false) {
                    let mut brought = self.brought.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    *brought = brought.saturating_sub(1);
                    drop(brought);
                    self.check_ready();
                }
            }
            BackupEvent::Unreachable(error) => self.failed(error, "no monitor could be pulled from"),
            BackupEvent::Retrying { monitor, error } => {
                tracing::info!(part, %monitor, error = chain(*error), "trying again");
            }
        }
    }

    fn failed(&self, error: &Error, what: &str) {
        let text = chain(error);
        tracing::warn!(part = self.ground.part(), error = text, "{what}");
        self.ground.source(|source| {
            source.state = SourceState::Connecting;
            source.failures_total += 1;
            source.last_error = Some(text);
        });
    }
}
