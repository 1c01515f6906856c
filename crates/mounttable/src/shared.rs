use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cuttlebone_machine::Instant;
use futures::future::poll_fn;
use futures::{Stream, StreamExt};

use crate::{
    Change, Counters, Directory, Error, Failure, Found, Glob, Journal, JournalError, Kept, Lagged, Lease,
    Mount, Mounted, Name, Namespace, Pattern, Permissions, Place, Principal, Record, Resolved, Revision,
    Subtree, Table, Upkeep, Version, Which, Withdrawal,
};

/// Changes that a watch takes from the table at a time.
const WATCH_CHUNK: usize = 256;

/// A table that several tasks use: a lock, a clock, wakers for its watchers, and a journal if it shall survive.
///
/// The lock is held for one operation and never across an await. Clones are the same table.
#[derive(Clone)]
pub struct SharedTable(Arc<Inner>);

struct Inner {
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    state: Mutex<State>,
}

struct State {
    table: Table,
    journal: Option<Journal>,
    watchers: BTreeMap<u64, Option<Waker>>,
    next_watcher: u64,
    /// Until when the task that collects sleeps, and how to wake it earlier.
    collector: Option<(Option<Instant>, Waker)>,
}

impl SharedTable {
    /// Shares `table`; `clock` gives the time, which must not go backwards.
    pub fn new(table: Table, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self::build(table, None, Box::new(clock))
    }

    /// Shares `table` after bringing it to where `journal` left off; permissions and deletions go there from now on.
    ///
    /// # Errors
    ///
    /// What the journal says when it writes its compact copy.
    pub fn with_journal(
        mut table: Table,
        mut journal: Journal,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Result<Self, JournalError> {
        journal.take_records().iter().for_each(|record| table.apply(record));
        journal.compact(&table.records())?;
        Ok(Self::build(table, Some(journal), Box::new(clock)))
    }

    fn build(table: Table, journal: Option<Journal>, clock: Box<dyn Fn() -> Instant + Send + Sync>) -> Self {
        let state = State { table, journal, watchers: BTreeMap::new(), next_watcher: 0, collector: None };
        Self(Arc::new(Inner { clock, state: Mutex::new(state) }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug of the table; refusing all service afterwards would not mend it.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time by this table's clock.
    pub fn now(&self) -> Instant {
        (self.0.clock)()
    }

    /// Runs one operation, then wakes whoever it concerns.
    fn with<R>(&self, work: impl FnOnce(&mut State, Instant) -> R) -> R {
        let now = self.now();
        let mut wake = Vec::new();
        let result = {
            let mut state = self.lock();
            let before = state.table.revision();
            let result = work(&mut state, now);
            if state.table.revision() != before {
                wake.extend(state.watchers.values_mut().filter_map(Option::take));
            }
            let next = state.table.next_expiry();
            if let Some((asleep_until, _)) = &state.collector
                && next.is_some_and(|next| asleep_until.is_none_or(|until| next < until))
                && let Some((_, waker)) = state.collector.take()
            {
                wake.push(waker);
            }
            result
        };
        wake.into_iter().for_each(Waker::wake);
        result
    }

    /// See [`Table::mount`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn mount(&self, who: &Principal, mount: &Mount) -> Result<Mounted, Error> {
        self.with(|state, now| state.table.mount(now, who, mount))
    }

    /// See [`Table::unmount`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn unmount(&self, who: &Principal, name: &Name, which: &Which) -> Result<(), Error> {
        self.with(|state, now| state.table.unmount(now, who, name, which))
    }

    /// See [`Table::resolve`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn resolve(&self, who: &Principal, name: &Name) -> Result<Resolved, Error> {
        self.with(|state, now| state.table.resolve(now, who, name))
    }

    /// See [`Table::delete`]. Written to the journal before anybody sees it.
    ///
    /// # Errors
    ///
    /// See there; or the journal's.
    pub fn delete(&self, who: &Principal, name: &Name, subtree: Subtree) -> Result<(), SharedError> {
        self.durably(|table, now| table.plan_delete(now, who, name, subtree))
    }

    /// See [`Table::permissions`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn permissions(&self, who: &Principal, name: &Name) -> Result<Option<(Permissions, Version)>, Error> {
        self.with(|state, now| state.table.permissions(now, who, name))
    }

    /// See [`Table::set_permissions`]. Written to the journal before anybody sees it.
    ///
    /// # Errors
    ///
    /// See there; or the journal's.
    pub fn set_permissions(
        &self,
        who: &Principal,
        name: &Name,
        permissions: &Permissions,
        expected: Option<Version>,
    ) -> Result<(), SharedError> {
        self.durably(|table, now| table.plan_permissions(now, who, name, permissions, expected))
    }

    fn durably(
        &self,
        plan: impl FnOnce(&mut Table, Instant) -> Result<Vec<Record>, Error>,
    ) -> Result<(), SharedError> {
        self.with(|state, now| {
            let records = plan(&mut state.table, now)?;
            if let Some(journal) = &mut state.journal
                && !records.is_empty()
            {
                if journal.wants_compaction() {
                    journal.compact(&state.table.records())?;
                }
                journal.append(&records)?;
            }
            for record in &records {
                state.table.apply(record);
            }
            Ok(())
        })
    }

    /// See [`Table::counters`].
    pub fn counters(&self) -> Counters {
        self.with(|state, now| state.table.counters(now))
    }

    /// See [`Table::recount`].
    ///
    /// # Errors
    ///
    /// See there.
    #[doc(hidden)]
    pub fn recount(&self) -> Result<(), &'static str> {
        self.lock().table.recount()
    }

    /// The results of a glob, as a stream; see [`Table::glob`]. Dropping it ends it.
    pub fn glob(&self, who: Principal, base: Name, pattern: Pattern) -> GlobStream {
        GlobStream { table: self.clone(), glob: Glob::new(who, base, pattern), ready: VecDeque::new() }
    }

    /// What is mounted on the names that match, then every change to them, without gap or repeat.
    ///
    /// The list is taken in one step, so a pattern that matches a million names holds the table for as long as a
    /// million visits take. A watcher that falls behind the ring of changes gets [`Lagged`] as its last item; nobody
    /// waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when there are too many watchers, or more names than the list may have.
    pub fn watch(&self, who: Principal, pattern: Pattern) -> Result<Watch, Error> {
        self.with(|state, now| {
            let (max, list_max) = (state.table.limits.watchers_max, state.table.limits.watch_list_max);
            if state.watchers.len() >= max {
                return Err(Error::Full { limit: "watchers", max });
            }
            let mut ready = VecDeque::new();
            let mut glob = Glob::new(who.clone(), Name::root(), pattern.clone());
            while !glob.is_done() {
                // Only its root can be refused, and somebody who may not see that sees an empty table.
                let found = state.table.glob(now, &mut glob).unwrap_or_default();
                let mounts =
                    found.into_iter().filter(|f| f.place == Place::MountPoint && pattern.matches(&f.name));
                ready.extend(mounts.map(|found| Ok(Watched::Present(found))));
                if ready.len() > list_max {
                    return Err(Error::Full { limit: "names in the list of a watch", max: list_max });
                }
            }
            let after = state.table.revision();
            ready.push_back(Ok(Watched::Listed(after)));
            let id = state.next_watcher;
            state.next_watcher += 1;
            state.watchers.insert(id, None);
            Ok(Watch { table: self.clone(), id, who, pattern, after, ready, over: false })
        })
    }

    /// Collects expired servers when their time comes, so that watchers hear of them although nobody calls.
    ///
    /// Runs until it is dropped; one task per table is enough. `sleep_until` is the runtime's.
    pub async fn collect<S: Future<Output = ()>>(&self, sleep_until: impl Fn(Instant) -> S) {
        loop {
            let next = self.with(|state, now| {
                state.table.expire(now);
                state.table.next_expiry()
            });
            let mut sleep = pin!(async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => core::future::pending().await,
                }
            });
            let mut asleep = false;
            poll_fn(|cx| {
                let mut state = self.lock();
                let earlier = state.table.next_expiry() != next;
                // Whoever mounts something that expires earlier takes the waker out.
                if earlier || asleep && state.collector.is_none() {
                    return Poll::Ready(());
                }
                state.collector = Some((next, cx.waker().clone()));
                asleep = true;
                drop(state);
                sleep.as_mut().poll(cx)
            })
            .await;
        }
    }

    /// This table as a publisher sees it, used in the name of `who`.
    pub fn namespace(&self, who: Principal) -> LocalNamespace {
        LocalNamespace { table: self.clone(), who }
    }
}

impl fmt::Debug for SharedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("SharedTable")
            .field("revision", &state.table.revision())
            .field("watchers", &state.watchers.len())
            .finish_non_exhaustive()
    }
}

/// Why a durable operation was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedError {
    /// The journal could not take it; the table is as it was.
    #[error("the journal of the mount table failed")]
    Journal(#[from] JournalError),
    /// The table refused.
    #[error(transparent)]
    Table(#[from] Error),
}

/// A stream of what a glob finds.
#[derive(Debug)]
pub struct GlobStream {
    table: SharedTable,
    glob: Glob,
    ready: VecDeque<Found>,
}

impl Stream for GlobStream {
    type Item = Result<Found, Error>;

    /// # Cancel safety
    ///
    /// A stream that is dropped leaves nothing behind.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(found) = this.ready.pop_front() {
            return Poll::Ready(Some(Ok(found)));
        }
        if this.glob.is_done() {
            return Poll::Ready(None);
        }
        match this.table.with(|state, now| state.table.glob(now, &mut this.glob)) {
            Ok(found) => this.ready.extend(found),
            Err(error) => return Poll::Ready(Some(Err(error))),
        }
        match this.ready.pop_front() {
            Some(found) => Poll::Ready(Some(Ok(found))),
            None if this.glob.is_done() => Poll::Ready(None),
            None => {
                // A pattern that matches little can look at much; others get their turn in between.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

/// One item of a [`Watch`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever keeps a copy has to know all of them")]
pub enum Watched {
    /// It was mounted when the watch began.
    Present(Found),
    /// That was everything as of this revision; changes follow.
    Listed(Revision),
    /// A change.
    Change(Change),
}

/// A stream of what is mounted and of every change to it; see [`SharedTable::watch`].
#[derive(Debug)]
pub struct Watch {
    table: SharedTable,
    id: u64,
    who: Principal,
    pattern: Pattern,
    after: Revision,
    ready: VecDeque<Result<Watched, Lagged>>,
    over: bool,
}

impl Watch {
    /// Takes the next changes from the ring; `false` when there are none yet.
    fn advance(&mut self, cx: &Context<'_>) -> bool {
        let mut state = self.table.lock();
        match state.table.changes.since(self.after, WATCH_CHUNK) {
            Ok(changes) if changes.is_empty() => {
                state.watchers.insert(self.id, Some(cx.waker().clone()));
                return false;
            }
            Ok(changes) => {
                self.after = changes.last().map_or(self.after, |last| last.change.revision);
                let heard = changes.into_iter().filter(|kept| {
                    self.pattern.matches(&kept.change.name) && state.table.may_hear(&self.who, kept)
                });
                self.ready.extend(heard.map(|kept| Ok(Watched::Change(kept.change))));
            }
            Err(lagged) => {
                self.over = true;
                self.ready.push_back(Err(lagged));
            }
        }
        true
    }
}

impl Stream for Watch {
    type Item = Result<Watched, Lagged>;

    /// # Cancel safety
    ///
    /// No change is lost between two polls; a watch that is dropped leaves nothing behind.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(item) = this.ready.pop_front() {
                return Poll::Ready(Some(item));
            }
            if this.over {
                return Poll::Ready(None);
            }
            if !this.advance(cx) {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.table.lock().watchers.remove(&self.id);
    }
}

/// A table in this process as a [`Namespace`].
#[derive(Clone, Debug)]
pub struct LocalNamespace {
    table: SharedTable,
    who: Principal,
}

impl Namespace for LocalNamespace {
    fn upkeep(&self) -> Upkeep {
        Upkeep::Refresh
    }

    fn batch_max(&self) -> usize {
        64
    }

    async fn mount(&self, batch: Vec<Mount>) -> Vec<Result<Mounted, Failure>> {
        batch.iter().map(|mount| Ok(self.table.mount(&self.who, mount)?)).collect()
    }

    async fn unmount(&self, batch: Vec<Withdrawal>) -> Vec<Result<(), Failure>> {
        let one = |entry: Withdrawal| {
            let which = Which::One { server: entry.server, epoch: entry.epoch };
            Ok(self.table.unmount(&self.who, &entry.name, &which)?)
        };
        batch.into_iter().map(one).collect()
    }

    async fn keep(&self) -> Result<Kept, Failure> {
        Ok(Kept::Lost { lease: Lease::NONE })
    }

    async fn release(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn resolve(&self, name: Name) -> Result<Resolved, Failure> {
        Ok(self.table.resolve(&self.who, &name)?)
    }
}

impl Directory for LocalNamespace {
    fn glob(
        &self,
        base: Name,
        pattern: Pattern,
    ) -> impl Stream<Item = Result<Found, Failure>> + Send + 'static {
        self.table.glob(self.who.clone(), base, pattern).map(|found| Ok(found?))
    }
}
