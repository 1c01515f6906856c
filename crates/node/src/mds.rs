//! A directory tree of CephFS in a bucket: an item per inode, kept current.
//!
//! `docs/node.md` says how it is kept current, how old it may be, and what an item looks like.

use core::convert::Infallible;
use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use cuttlebone_bucket::VbucketId;
use cuttlebone_fs::{FileSystem, FsConfig, Ino, Place};
use cuttlebone_http::status::SourceState;
use cuttlebone_machine::Instant as Moment;
use cuttlebone_wire::EntityAddrs;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use crate::builder::missing;
use crate::clock::wall_time;
use crate::error::chain;
use crate::filling::Filling;
use crate::part::{Plan, Running, Source};
use crate::{BuildError, Error, Ground};

mod record;
mod round;
mod tree;
mod walk;

pub use record::{InodeNumber, InodeRecord, KindRecord, NameRecord, Stamp, SumsRecord, Text, Time};
use tree::{Looking, Position, Tree};
use walk::{Desk, Outcome, Pace, Turn, Walk};

/// How long to wait before the file system is mounted again, at first and at most.
const RETRY: core::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// How long unmounting may take: within the deadline that sources have at a node's end.
const UNMOUNT_WITHIN: Duration = Duration::from_secs(4);
/// How often the status is told how old the tree is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A directory that changes all the time is looked at so often, because it is watched.
const WATCH_PAUSE: Duration = Duration::from_millis(250);
/// Watched directories that wait to be looked at.
const CHANGED_MAX: usize = 64;

/// A directory of a CephFS and everything below it, followed for ever into the node's bucket.
///
/// The sums that metadata servers keep tell where something has changed, so that only those directories are listed. On
/// request some in which something has changed lately are watched in addition, through capabilities, which tells at once.
/// Every now and then all of the tree is listed, which finds what sums cannot tell.
#[derive(Clone, Debug)]
pub struct MdsTree {
    fs: FsConfig,
    root: Place,
    vbucket: VbucketId,
    limits: MdsLimits,
}

/// How often, how much and how fast a tree is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "knobs, set with `..MdsLimits::default()`")]
pub struct MdsLimits {
    /// How often the root's sums are asked for. Default 1 s.
    pub every: Duration,
    /// How often all directories are listed. Default a day.
    pub walk_every: Duration,
    /// Directories that are listed at once. Default 8.
    pub parallel: usize,
    /// Entries that may be listed in a second; `None`, the default, leaves it to the servers, which are asked for less
    /// while they are slow.
    pub entries_per_second: Option<u64>,
    /// Directories that are watched: those in which something has changed last; at most 1,000. Default 0: a server lets
    /// nobody change what is watched before the watcher has answered, and waits for a minute for one that was killed.
    pub watched_max: usize,
    /// Inodes that the tree may have; the numbers of all are in memory, some 60 bytes each. Default 10,000,000.
    pub inodes_max: usize,
}

impl Default for MdsLimits {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(1),
            walk_every: Duration::from_secs(86_400),
            parallel: 8,
            entries_per_second: None,
            watched_max: 0,
            inodes_max: 10_000_000,
        }
    }
}

impl From<Vec<EntityAddrs>> for MdsTree {
    /// The root of the default file system of the cluster of these monitors.
    fn from(monitors: Vec<EntityAddrs>) -> Self {
        let (fs, limits) = (FsConfig::new(monitors), MdsLimits::default());
        Self { fs, root: Place::root(), vbucket: 0, limits }
    }
}

impl MdsTree {
    /// How to mount in detail.
    #[must_use]
    pub fn with_fs(self, fs: FsConfig) -> Self {
        Self { fs, ..self }
    }

    /// The directory that is followed. Default `/`.
    #[must_use]
    pub fn root(self, root: impl Into<Place>) -> Self {
        Self { root: root.into(), ..self }
    }

    /// The vbucket that is filled. Default 0.
    #[must_use]
    pub fn vbucket(self, vbucket: VbucketId) -> Self {
        Self { vbucket, ..self }
    }

    /// How often, how much and how fast.
    #[must_use]
    pub fn with_limits(self, limits: MdsLimits) -> Self {
        Self { limits, ..self }
    }
}

impl Source for MdsTree {
    fn name(&self) -> &'static str {
        "mds"
    }

    fn check(&self, plan: &Plan) -> Result<(), BuildError> {
        if !plan.bucket {
            return Err(missing(self.name(), "a bucket"));
        }
        if self.fs.monitors.is_empty() {
            return Err(missing(self.name(), "a monitor to ask"));
        }
        if self.limits.parallel == 0 || self.limits.watched_max > 1000 {
            let why = "at least 1 directory is listed at once, and at most 1,000 are watched";
            return Err(BuildError::Refused { part: self.name().into(), why: why.into() });
        }
        Ok(())
    }

    fn run(self: Box<Self>, ground: Ground) -> Running {
        Box::pin(async move {
            let Self { mut fs, root, vbucket, limits } = *self;
            fs.unmount_within = fs.unmount_within.min(UNMOUNT_WITHIN);
            // What a server grants on the way is given back at once: nobody shall wait for us but where we watch.
            fs.limits.caps_max = 0;
            let Some(bucket) = ground.bucket().cloned() else {
                return Err(Error::Config("a tree needs a bucket"));
            };
            let filling = Filling::new(bucket, vbucket, ground.clock())?;
            let (turn, shown) = (Turn::default(), ground.clone());
            let pause = *RETRY.start();
            let mut following = Following {
                fs,
                root,
                limits,
                filling,
                turn,
                ground: shown,
                mounted: None,
                pause,
                current: None,
            };
            let ended = tokio::select! {
                ended = following.always() => ended.map(|never| match never {}),
                () = ground.stopping() => Ok(()),
            };
            following.unmount().await;
            ground.source(|source| source.state = SourceState::Ended);
            ended
        })
    }
}

/// A tree that is followed.
struct Following {
    fs: FsConfig,
    root: Place,
    limits: MdsLimits,
    filling: Filling,
    turn: Turn,
    ground: Ground,
    mounted: Option<FileSystem>,
    /// Before the next attempt; longer with each one that fails before a round has ended.
    pause: Duration,
    /// The tree was as new as its servers told at this moment.
    current: Option<Moment>,
}

impl Following {
    async fn always(&mut self) -> Result<Infallible, Error> {
        loop {
            match self.once().await {
                Ok(never) => match never {},
                // Nothing is wrong: the next round begins with what the bucket says.
                Err(Error::Reverted) => tracing::info!(part = self.ground.part(), "reverted; looking again"),
                Err(error) if error.is_retryable() => {
                    self.failed(&error);
                    self.unmount().await;
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(*RETRY.end());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Mounts and follows until something fails.
    async fn once(&mut self) -> Result<Infallible, Error> {
        let fs = match &self.mounted {
            Some(fs) => fs.clone(),
            None => FileSystem::mount(self.fs.clone()).await?,
        };
        self.mounted = Some(fs.clone());
        let root = fs.stat(&self.root).await?;
        if !root.is_dir() {
            return Err(Error::Config("the root of the tree is not a directory"));
        }
        let mut position = Position::new(fs.statfs().await?.fsid, &root);
        tracing::info!(part = self.ground.part(), client = fs.global_id(), "mounted");
        self.ground.source(|source| source.peer = Some(format!("cephfs, as client.{}", fs.global_id())));

        let (filling, known, inodes_max) = (self.filling.clone(), position.clone(), self.limits.inodes_max);
        let open = move || Tree::open(filling, &known, inodes_max);
        let (desk, walked) = Desk::open(&self.turn, open).await?;
        position.walked = walked;
        if desk.run(|tree| Ok(tree.is_complete())).await? {
            self.ground.ready();
        }
        let pace = Pace::new(self.limits.entries_per_second, self.ground.clock());
        // By number: a root that is renamed is still the root.
        let root = Place::from(root.ino);
        let parallel = self.limits.parallel;
        let walk = Walk { fs: &fs, desk: &desk, root: &root, parallel, pace: &pace };
        let mut watches = Watches::new(&fs, self.limits.watched_max);
        watches.watch(InodeNumber(root.base().0));
        let mut starts = vec![root.clone()];
        loop {
            self.look(&walk, &starts, &mut position, &mut watches).await?;
            self.pause = *RETRY.start();
            let due = Instant::now() + self.limits.every;
            // What is watched may change all the time, and the root has its turn all the same.
            starts = loop {
                if due <= Instant::now() {
                    break vec![root.clone()];
                }
                match timeout_at(due, watches.changed()).await {
                    Ok(changed) => self.look(&walk, &changed, &mut position, &mut watches).await?,
                    Err(_) => break vec![root.clone()],
                }
            };
        }
    }

    /// One round, through everything if it is time for that.
    async fn look(
        &mut self,
        walk: &Walk<'_>,
        starts: &[Place],
        position: &mut Position,
        watches: &mut Watches,
    ) -> Result<(), Error> {
        let began = self.ground.clock().now();
        let unix = wall_time().secs;
        // A clock that was set back makes it look as if the last walk was in the future.
        let age = unix.checked_sub(position.walked).map(|secs| Duration::from_secs(secs.into()));
        let is_due = position.walked == 0 || age.is_none_or(|age| age >= self.limits.walk_every);
        let of_root = starts.contains(walk.root);
        let how = if is_due && of_root { Looking::Everywhere } else { Looking::WhereChanged };
        if !walk.desk.run(Tree::begin).await? {
            position.walked = 0;
        }
        let state = if self.current.is_none() { SourceState::Copying } else { SourceState::Following };
        self.ground.source(|source| source.state = state);
        let outcome = self.while_telling(walk.round(starts, how)).await?;
        if how == Looking::Everywhere && outcome.gone == 0 {
            position.walked = unix;
            let walked = position.clone();
            walk.desk.run(move |tree| tree.walked(&walked)).await?;
        }
        // The first round finds everything new, and that is no reason to expect more.
        if self.current.is_some() {
            outcome.news.iter().for_each(|dir| watches.watch(*dir));
        }
        if of_root {
            self.current = Some(began);
        }
        self.tell(&outcome, began, unix);
        if walk.desk.run(|tree| Ok(tree.is_complete())).await? {
            self.ground.ready();
        }
        Ok(())
    }

    /// Tells the status how old the tree is while a round is under way.
    async fn while_telling<T>(&self, round: impl Future<Output = T>) -> T {
        let ticks = async {
            loop {
                tokio::time::sleep(TELL_EVERY).await;
                self.tell_age();
            }
        };
        tokio::select! {
            done = round => done,
            // It goes on for ever.
            never = ticks => never,
        }
    }

    fn tell_age(&self) {
        let Some(current) = self.current else { return };
        let age = self.ground.clock().now().since(current);
        self.ground.source(|source| source.lag_ms = u64::try_from(age.as_millis()).ok());
    }

    fn tell(&self, outcome: &Outcome, began: Moment, unix: u32) {
        let part = self.ground.part();
        let took = self.ground.clock().now().since(began);
        let Outcome { listed, entries, written, erased, bytes, passed_over, gone, .. } = outcome;
        if written + erased > 0 {
            tracing::debug!(part, listed, entries, written, erased, gone, "looked");
        }
        if *passed_over > 0 {
            tracing::warn!(part, passed_over, "entries with names above 4,096 bytes are not kept");
        }
        self.ground.source(|source| {
            source.state = SourceState::Following;
            source.items_total += written + erased;
            source.bytes_total += bytes;
            source.last_error = None;
            source.last_success_unix = Some(unix.into());
            source.last_duration_ms = u64::try_from(took.as_millis()).ok();
        });
        self.tell_age();
    }

    fn failed(&self, error: &Error) {
        let text = chain(error);
        tracing::warn!(part = self.ground.part(), error = text, "the tree could not be looked at");
        self.ground.source(|source| {
            source.state = SourceState::Connecting;
            source.failures_total += 1;
            source.last_error = Some(text);
        });
        self.tell_age();
    }

    async fn unmount(&mut self) {
        if let Some(fs) = self.mounted.take()
            && let Err(error) = fs.unmount().await
        {
            tracing::info!(part = self.ground.part(), error = chain(&error), "not unmounted in good order");
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.filling.give_up();
    }
}

/// Directories that are watched: those in which something has changed last.
struct Watches {
    fs: FileSystem,
    max: usize,
    /// The one in which something has changed last is the last.
    watched: VecDeque<(InodeNumber, AbortHandle)>,
    tasks: JoinSet<()>,
    tell: mpsc::Sender<InodeNumber>,
    changed: mpsc::Receiver<InodeNumber>,
}

impl Watches {
    fn new(fs: &FileSystem, max: usize) -> Self {
        let (tell, changed) = mpsc::channel(CHANGED_MAX);
        Self { fs: fs.clone(), max, watched: VecDeque::new(), tasks: JoinSet::new(), tell, changed }
    }

    fn watch(&mut self, dir: InodeNumber) {
        while self.tasks.try_join_next().is_some() {}
        let known = self.watched.iter().position(|(watched, task)| *watched == dir && !task.is_finished());
        if let Some(known) = known.and_then(|at| self.watched.remove(at)) {
            self.watched.push_back(known);
            return;
        }
        self.watched.retain(|(_, task)| !task.is_finished());
        if self.max == 0 {
            return;
        }
        while self.watched.len() >= self.max
            && let Some((_, task)) = self.watched.pop_front()
        {
            task.abort();
        }
        let task = self.tasks.spawn(watch(self.fs.clone(), dir, self.tell.clone()));
        self.watched.push_back((dir, task));
    }

    /// Waits for a change, and answers all that there are.
    async fn changed(&mut self) -> Vec<Place> {
        let mut changed = BTreeSet::new();
        // We have a sender ourselves, so there is always a next one.
        changed.extend(self.changed.recv().await);
        while let Ok(dir) = self.changed.try_recv() {
            changed.insert(dir);
        }
        changed.into_iter().map(|dir| Place::from(Ino(dir.0))).collect()
    }
}

/// Tells of a directory whenever something in it has changed, until it is gone.
async fn watch(fs: FileSystem, dir: InodeNumber, tell: mpsc::Sender<InodeNumber>) {
    let place = Place::from(Ino(dir.0));
    let Ok(mut changes) = fs.watch(core::slice::from_ref(&place)).await else { return };
    while changes.next().await.is_some() {
        // Let go while others are at work in it, so that they need not ask for each step.
        drop(changes);
        tokio::time::sleep(WATCH_PAUSE).await;
        let Ok(again) = fs.watch(core::slice::from_ref(&place)).await else { return };
        changes = again;
        // Told when it is watched again: what comes now is not missed.
        if tell.send(dir).await.is_err() {
            return;
        }
    }
}
