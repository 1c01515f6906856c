use core::convert::Infallible;
use core::time::Duration;
use std::path::PathBuf;

use cuttlebone_bucket::VbucketId;
use cuttlebone_driver::Clock;
use cuttlebone_monsync::v2::{Progress, RequesterConfig};
use cuttlebone_monsync::{SyncKind, Version};
use cuttlebone_store::{Keep, Limits, Origin, Point};
use cuttlebone_wire::{EntityAddrs, Features, Uuid};

use crate::gather::Gather;
use crate::hunt::hunt;
use crate::keeper::Keeper;
use crate::monitor::Monitor;
use crate::pull::{Pull, Pulled, Step};
use crate::quorum::peons_first;
use crate::{Error, NodeBucket};

/// What to pull from where, into what.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "knobs, set with `..BackupConfig::new(…)`")]
pub struct BackupConfig {
    /// The monitors, any of which may be pulled from. Peons are preferred to the leader, which has enough to do.
    pub monitors: Vec<EntityAddrs>,
    /// The directory of the copy.
    pub store: PathBuf,
    /// Full, or only what is new.
    pub extent: Extent,
    /// How fast to ask, and how long to wait for an answer.
    pub requester: RequesterConfig,
    /// How long it may take until one of the monitors has greeted.
    pub connect_timeout: Duration,
    /// How often the list of monitors is gone through before giving up. Default 3.
    pub rounds_max: u32,
    /// What the copy may hold in memory and on disk.
    pub limits: Limits,
    /// Which points to keep.
    pub keep: Keep,
}

impl BackupConfig {
    /// The usual backup of these monitors.
    pub fn new(monitors: Vec<EntityAddrs>, store: impl Into<PathBuf>) -> Self {
        Self {
            monitors,
            store: store.into(),
            extent: Extent::New,
            requester: RequesterConfig::default(),
            connect_timeout: Duration::from_secs(30),
            rounds_max: 3,
            limits: Limits::default(),
            keep: Keep::Everything,
        }
    }
}

/// How much to pull.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two ways to pull")]
pub enum Extent {
    /// What is newer than the copy's latest point; everything if there is none, or if the monitor has trimmed what
    /// follows it.
    #[default]
    New,
    /// Everything.
    Full,
}

/// A copy that is kept current from a cluster's monitors.
///
/// ```no_run
/// # async fn example() -> Result<(), cuttlebone_node::Error> {
/// use cuttlebone_node::{Backup, BackupConfig};
///
/// let monitors = vec!["v2:10.0.0.1:3300/0".parse::<cuttlebone_wire::EntityAddr>().unwrap().into()];
/// let mut backup = Backup::open(BackupConfig::new(monitors, "/var/backups/mon"))?;
/// let outcome = backup.pull(&mut |_event| {}).await?;
/// println!("{:?}", outcome.point.map(|point| point.last_committed));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Backup {
    config: BackupConfig,
    keeper: Keeper,
    clock: Clock,
    monitor: Option<Monitor>,
}

/// What a backup reports while it works.
#[derive(Debug)]
#[non_exhaustive]
pub enum BackupEvent<'a> {
    /// A monitor answers.
    Connected {
        /// Name and address.
        monitor: &'a str,
        /// Its cluster.
        fsid: Uuid,
        /// What both sides understand.
        features: Features,
    },
    /// A monitor has granted a copy.
    Started {
        /// Whether it is a copy of everything.
        full: bool,
        /// The version that it starts from.
        from: u64,
    },
    /// A chunk has arrived.
    Progress(Progress),
    /// The monitor does not hold the versions after the copy's latest point any more: everything is pulled instead.
    FellBehind {
        /// The latest point's version.
        after: u64,
    },
    /// A pull has ended well.
    Pulled {
        /// How.
        outcome: &'a Outcome,
        /// How long it took, from dialling to a durable point.
        took: Duration,
    },
    /// All monitors have been tried, and none could do it; when following, the next look is another try.
    Unreachable(&'a Error),
    /// An attempt failed, and another one follows.
    Retrying {
        /// The monitor that it was made with.
        monitor: &'a EntityAddrs,
        /// How it failed.
        error: &'a Error,
    },
}

/// How a pull ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Whether everything was pulled.
    pub full: bool,
    /// Whether that was because the monitor had trimmed what follows the latest point.
    pub fell_behind: bool,
    /// The version that the pull started from.
    pub from: u64,
    /// The version that the copy has now.
    pub last_committed: u64,
    /// What was moved.
    pub progress: Progress,
    /// The latest point; `None` only if the monitor has no version yet.
    pub point: Option<Point>,
    /// Whether this pull made it.
    pub is_new: bool,
    /// The monitor that it came from: name and address.
    pub monitor: String,
}

impl Backup {
    /// Opens the copy and locks it; nothing is dialled yet.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if another writer has the copy or it cannot be read, [`Error::Config`] without monitors.
    pub fn open(config: BackupConfig) -> Result<Self, Error> {
        if config.monitors.is_empty() {
            return Err(Error::Config("a backup needs a monitor to pull from"));
        }
        let keeper = Keeper::in_copy(&config.store, config.limits.clone())?;
        Ok(Self { config, keeper, clock: Clock::start(), monitor: None })
    }

    /// Keeps what it pulls in a vbucket of `bucket` instead of a directory: each key of the monitor's store is an item, and
    /// how far the pulls are is one, too. A vbucket that is not there is made.
    ///
    /// A reader of the bucket sees each key as it arrives, also in the middle of a pull. How durable a pull is, is the
    /// bucket's business: after a kill the next one goes on from what the bucket has on its disk.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without monitors, [`Error::Bucket`] if the vbucket is not active here.
    pub fn into_bucket(config: BackupConfig, bucket: NodeBucket, vbucket: VbucketId) -> Result<Self, Error> {
        if config.monitors.is_empty() {
            return Err(Error::Config("a source needs a monitor to pull from"));
        }
        let clock = Clock::start();
        let keeper = Keeper::in_bucket(Gather::new(bucket, vbucket, clock)?)?;
        Ok(Self { config, keeper, clock, monitor: None })
    }

    /// The version that everything was pulled up to, and if it is kept in a directory, the latest point there.
    pub fn latest(&self) -> Option<(u64, Option<Point>)> {
        self.keeper.latest().map(|latest| (latest.last_committed, latest.point))
    }

    /// Pulls once, from the first monitor with which it works.
    ///
    /// The link stays open for the next call.
    ///
    /// # Errors
    ///
    /// What no other monitor can mend: the copy's disk, another cluster. [`Error::Exhausted`] if none of them could
    /// do it. Earlier points are intact in any case.
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle, nothing of the pull is kept, and the next call starts anew.
    pub async fn pull(
        &mut self,
        report: &mut (impl FnMut(BackupEvent<'_>) + ?Sized),
    ) -> Result<Outcome, Error> {
        let mut tries = Tries::default();
        for _ in 0..self.config.rounds_max.max(1) {
            let mut monitors = match &self.monitor {
                Some(monitor) => vec![monitor.addr.clone().into()],
                None => peons_first(&self.config.monitors, self.config.connect_timeout).await,
            };
            while let Some(at) = self.reach(&monitors, &mut tries, report).await? {
                let addrs = monitors.remove(at);
                match self.pull_from(&addrs, report).await {
                    Ok(outcome) => {
                        self.keeper.maintain(self.config.keep).await?;
                        return Ok(outcome);
                    }
                    Err(error) if !error.is_retryable() => return Err(error),
                    Err(error) => tries.failed(&addrs, error, report),
                }
            }
        }
        let source = Box::new(tries.last.unwrap_or(Error::LinkClosed));
        Err(Error::Exhausted { tried: tries.made, monitors: self.config.monitors.len(), source })
    }

    /// Pulls for ever, looking for something new again and again. Monitors that are away for a while are no reason to
    /// end, once one has been pulled from.
    ///
    /// # Errors
    ///
    /// As [`pull`](Self::pull), but for [`Error::Exhausted`] after the first one.
    ///
    /// # Cancel safety
    ///
    /// As [`pull`](Self::pull).
    pub async fn follow(
        &mut self,
        every: Duration,
        report: &mut (impl FnMut(BackupEvent<'_>) + ?Sized),
    ) -> Result<Infallible, Error> {
        let mut reached = false;
        loop {
            let started = self.clock.now();
            match self.pull(report).await {
                Ok(outcome) => {
                    reached = true;
                    report(BackupEvent::Pulled { outcome: &outcome, took: self.clock.now().since(started) });
                }
                Err(error @ Error::Exhausted { .. }) if reached => report(BackupEvent::Unreachable(&error)),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(every).await;
        }
    }

    /// Closes link and copy in good order.
    pub async fn close(mut self) {
        if let Some(monitor) = self.monitor.take() {
            monitor.close().await;
        }
        self.keeper.close().await;
    }

    /// Sees to it that there is a link to one of the monitors, and tells to which; to none if none of them greets.
    async fn reach(
        &mut self,
        monitors: &[EntityAddrs],
        tries: &mut Tries,
        report: &mut (impl FnMut(BackupEvent<'_>) + ?Sized),
    ) -> Result<Option<usize>, Error> {
        if monitors.is_empty() {
            return Ok(None);
        }
        if self.monitor.is_some() {
            return Ok(Some(0));
        }
        let within = self.config.connect_timeout;
        let hunted =
            hunt(monitors, within, async |addrs: EntityAddrs| Monitor::dial(&addrs, within).await).await;
        if hunted.found.is_none() && hunted.failures.is_empty() {
            let silence = Error::NoAnswer { what: "monitor map", after: within };
            tries.failed(&monitors[0], silence, report);
        }
        for (at, error) in hunted.failures {
            if hunted.found.is_none() && !error.is_retryable() {
                return Err(error);
            }
            tries.failed(&monitors[at], error, report);
        }
        Ok(hunted.found.map(|(at, monitor)| {
            report(BackupEvent::Connected {
                monitor: &monitor.title(),
                fsid: monitor.map.fsid,
                features: monitor.features,
            });
            self.monitor = Some(monitor);
            at
        }))
    }

    /// Pulls over the link that [`reach`](Self::reach) has made.
    async fn pull_from(
        &mut self,
        addrs: &EntityAddrs,
        report: &mut (impl FnMut(BackupEvent<'_>) + ?Sized),
    ) -> Result<Outcome, Error> {
        // Taken out while it is in use: whatever goes wrong or is cancelled below, it is not used again.
        let mut monitor = self.monitor.take().ok_or(Error::LinkClosed)?;
        self.same_cluster(&monitor)?;
        let origin = Origin { fsid: monitor.map.fsid, provider: monitor.title() };
        let after = match (self.config.extent, self.keeper.latest()) {
            (Extent::New, Some(latest)) if latest.last_committed > 0 => Some(Version(latest.last_committed)),
            _ => None,
        };
        let mut kind = after.map_or(SyncKind::Full, |after| SyncKind::Recent { after });
        let mut fell_behind = false;
        let pulled = loop {
            match self.pull_kind(&mut monitor, &origin, kind, report).await {
                Err(Error::Sync(cuttlebone_monsync::Error::FellBehind { after })) => {
                    report(BackupEvent::FellBehind { after: after.0 });
                    fell_behind = true;
                    kind = SyncKind::Full;
                    // Refusals of further requests may still be on their way, and would be taken for answers.
                    monitor.close().await;
                    monitor = Monitor::dial(addrs, self.config.connect_timeout).await?;
                }
                result => break result?,
            }
        };
        let outcome = Outcome {
            full: kind == SyncKind::Full,
            fell_behind,
            from: pulled.summary.start.0,
            last_committed: pulled.summary.last_committed.0,
            progress: pulled.summary.progress,
            is_new: pulled.summary.last_committed > pulled.summary.start || pulled.point.is_some(),
            point: self.keeper.latest().and_then(|latest| latest.point),
            monitor: monitor.title(),
        };
        self.monitor = Some(monitor);
        Ok(outcome)
    }

    async fn pull_kind(
        &mut self,
        monitor: &mut Monitor,
        origin: &Origin,
        kind: SyncKind,
        report: &mut (impl FnMut(BackupEvent<'_>) + ?Sized),
    ) -> Result<Pulled, Error> {
        let pull = Pull {
            features: monitor.features,
            connection: &mut monitor.connection,
            keeper: &mut self.keeper,
            clock: &self.clock,
            origin,
        };
        let full = kind == SyncKind::Full;
        let mut tell = |step| match step {
            Step::Started(from) => report(BackupEvent::Started { full, from }),
            Step::Progress(progress) => report(BackupEvent::Progress(progress)),
        };
        pull.run(kind, self.config.requester.clone(), &mut tell).await
    }

    /// One directory holds one cluster: points of another in between would make a restore a lottery.
    fn same_cluster(&self, monitor: &Monitor) -> Result<(), Error> {
        match self.keeper.latest() {
            Some(latest) if !latest.fsid.is_nil() && latest.fsid != monitor.map.fsid => {
                Err(Error::OtherCluster { copy: latest.fsid, monitor: monitor.map.fsid })
            }
            _ => Ok(()),
        }
    }
}

/// The attempts of one pull that failed.
#[derive(Default)]
struct Tries {
    made: u32,
    last: Option<Error>,
}

impl Tries {
    /// Another attempt follows this one.
    fn failed(
        &mut self,
        monitor: &EntityAddrs,
        error: Error,
        report: &mut (impl FnMut(BackupEvent<'_>) + ?Sized),
    ) {
        report(BackupEvent::Retrying { monitor, error: &error });
        self.made += 1;
        self.last = Some(error);
    }
}
