//! Rounds through the directories that may have changed, at the pace that was asked for.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use cuttlebone_driver::Clock;
use cuttlebone_fs::{Entry, Errno, FileSystem, Ino, Place};
use cuttlebone_machine::Instant;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::record::{InodeNumber, Stamp};
use super::round::Round;
use super::tree::{Looking, Seen, Told, Tree};
use crate::Error;

/// The tree, for those who must not wait: each call runs on a thread that may.
#[derive(Debug)]
pub(super) struct Desk {
    tree: Arc<Mutex<Tree>>,
    is_over: Arc<AtomicBool>,
    turn: Turn,
}

/// Who has this writes; what an earlier desk has begun ends before the next one begins. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn(Arc<Mutex<()>>);

impl Turn {
    /// Runs what may wait, on a thread that may, when its turn comes.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = Arc::clone(&self.0);
        let work = move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            work()
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|broken| Err(Error::Other(Box::new(broken))))
    }
}

impl Desk {
    pub(super) async fn open(
        turn: &Turn,
        open: impl FnOnce() -> Result<(Tree, u32), Error> + Send + 'static,
    ) -> Result<(Self, u32), Error> {
        let (tree, walked) = turn.run(open).await?;
        Ok((Self { tree: Arc::new(Mutex::new(tree)), is_over: Arc::default(), turn: turn.clone() }, walked))
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tree) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (tree, is_over) = (Arc::clone(&self.tree), Arc::clone(&self.is_over));
        let work = move || {
            if is_over.load(Ordering::Relaxed) {
                return Err(Error::Config("the round was broken off"));
            }
            // A panic ends the source.
            work(&mut tree.lock().unwrap_or_else(PoisonError::into_inner))
        };
        self.turn.run(work).await
    }
}

impl Drop for Desk {
    /// What has not begun does not begin any more: what it would write may be out of date by then.
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// How a round went.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Directories that were listed.
    pub(super) listed: u64,
    /// Entries in them.
    pub(super) entries: u64,
    /// Items that were written, and those that were erased.
    pub(super) written: u64,
    pub(super) erased: u64,
    /// Bytes of the values that were written.
    pub(super) bytes: u64,
    /// Entries that no record can have.
    pub(super) passed_over: u64,
    /// Directories that went away while they were listed.
    pub(super) gone: u64,
    /// Directories in which something has changed, and not only below.
    pub(super) news: Vec<InodeNumber>,
}

/// What a round needs.
pub(super) struct Walk<'a> {
    pub(super) fs: &'a FileSystem,
    pub(super) desk: &'a Desk,
    /// Of the tree. Any other start may be gone by the time that it is looked at.
    pub(super) root: &'a Place,
    pub(super) parallel: usize,
    pub(super) pace: &'a Pace,
}

/// A directory that was listed.
struct Listed {
    seen: Seen,
    told: Told,
    entries: u64,
}

impl Walk<'_> {
    /// Looks at `starts`, at what has changed below them, and at where things were moved to.
    pub(super) async fn round(&self, starts: &[Place], how: Looking) -> Result<Outcome, Error> {
        let mut outcome = Outcome::default();
        let mut round = Round::default();
        for start in starts {
            match self.fs.stat(start).await {
                Ok(metadata) => {
                    let told = self.desk.run(move |tree| tree.dir(&metadata, how)).await?;
                    outcome.add(&told);
                    told.changed.into_iter().for_each(|(dir, stamp)| round.visit(dir, stamp, None));
                }
                Err(error) if is_gone(&error) && start != self.root => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut looked_for = HashSet::new();
        loop {
            self.list_all(&mut round, how, &mut outcome).await?;
            for (dir, stamp) in self.where_moved(&mut looked_for).await? {
                round.visit(dir, stamp, None);
            }
            if round.is_listed() {
                break;
            }
        }
        outcome.erased += self.desk.run(Tree::settle).await?;
        round.settled();
        self.complete(&mut round).await?;
        Ok(outcome)
    }

    /// Lists what waits to be listed, and what is found on the way.
    async fn list_all(&self, round: &mut Round, how: Looking, outcome: &mut Outcome) -> Result<(), Error> {
        let mut listing = FuturesUnordered::new();
        loop {
            while listing.len() < self.parallel
                && let Some(dir) = round.next()
            {
                listing.push(async move { (dir, self.list(dir, how).await) });
            }
            let Some((dir, listed)) = listing.next().await else { return Ok(()) };
            match listed {
                Ok(Listed { seen, told, entries }) => {
                    outcome.add(&told);
                    outcome.listed += 1;
                    outcome.entries += entries;
                    outcome.passed_over += seen.passed_over;
                    told.changed.into_iter().for_each(|(below, stamp)| round.visit(below, stamp, Some(dir)));
                    let is_held = self.desk.run(move |tree| tree.listed(dir, &seen)).await?;
                    if told.is_news || is_held {
                        outcome.news.push(dir);
                    }
                    round.listed(dir, is_held);
                    self.complete(round).await?;
                }
                // What is in it is of no use to anybody; whoever has it listed is not complete.
                Err(Error::FileSystem(error)) if is_gone(&error) => outcome.gone += 1,
                Err(error) => return Err(error),
            }
        }
    }

    async fn list(&self, dir: InodeNumber, how: Looking) -> Result<Listed, Error> {
        let mut listing = self.fs.read_dir(Ino(dir.0));
        let page_entries = usize::try_from(self.fs.config().page_entries).unwrap_or(usize::MAX).max(1);
        let mut listed = Listed { seen: Seen::default(), told: Told::default(), entries: 0 };
        loop {
            let mut page: Vec<Entry> = Vec::new();
            while page.len() < page_entries
                && let Some(entry) = listing.next().await
            {
                page.push(entry?);
            }
            if page.is_empty() {
                return Ok(listed);
            }
            listed.entries += page.len() as u64;
            self.pace.take(page.len()).await;
            let mut seen = listed.seen;
            let (told, seen) = self
                .desk
                .run(move |tree| tree.page(dir, &page, &mut seen, how).map(|told| (told, seen)))
                .await?;
            listed.seen = seen;
            listed.told.add(told);
        }
    }

    /// The directories to which those that have vanished were moved, as far as they are in the tree.
    async fn where_moved(
        &self,
        looked_for: &mut HashSet<InodeNumber>,
    ) -> Result<Vec<(InodeNumber, Stamp)>, Error> {
        let mut places = Vec::new();
        for inode in self.desk.run(|tree| Ok(tree.missing_dirs())).await? {
            if !looked_for.insert(inode) {
                continue;
            }
            let above = match self.fs.parent(Ino(inode.0)).await {
                Ok(above) => above,
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(error.into()),
            };
            let known = self.desk.run(move |tree| tree.record(above.into())).await?;
            if known.is_none() {
                continue;
            }
            match self.fs.stat(above).await {
                Ok(metadata) => places.extend(Stamp::of(&metadata).map(|stamp| (above.into(), stamp))),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(places)
    }

    async fn complete(&self, round: &mut Round) -> Result<(), Error> {
        let complete: Vec<_> = core::iter::from_fn(|| round.take_complete()).collect();
        if complete.is_empty() {
            return Ok(());
        }
        let work = move |tree: &mut Tree| {
            complete.into_iter().try_for_each(|(dir, stamp)| tree.complete(dir, stamp))
        };
        self.desk.run(work).await
    }
}

impl Outcome {
    fn add(&mut self, told: &Told) {
        self.written += told.written;
        self.bytes += told.bytes;
    }
}

/// Whether somebody has removed it, or put something else in its place.
fn is_gone(error: &cuttlebone_fs::Error) -> bool {
    matches!(error.errno(), Some(Errno::ENOENT | Errno::ESTALE | Errno::ENOTDIR))
}

/// How many entries a second may be listed.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: Option<u64>,
    clock: Clock,
    /// When the next page may be taken.
    next: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(per_second: Option<u64>, clock: Clock) -> Self {
        Self { per_second, clock, next: Mutex::new(Instant::ZERO) }
    }

    /// Waits for the turn of so many.
    async fn take(&self, entries: usize) {
        let Some(per_second) = self.per_second else { return };
        let nanos = (entries as u64).saturating_mul(1_000_000_000) / per_second.max(1);
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(self.clock.now());
            *next = at + Duration::from_nanos(nanos);
            at
        };
        tokio::time::sleep_until(self.clock.at(at)).await;
    }
}
