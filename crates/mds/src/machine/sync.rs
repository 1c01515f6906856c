use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::requests::Stage;
use super::{Client, Error, Event, Life, NotTaken, SyncId, Tid};
use crate::message::SessionRequest;
use crate::{Ino, Rank};

/// Somebody who waits for commits.
#[derive(Debug)]
pub(super) struct Sync {
    left: usize,
    result: Result<(), Error>,
}

impl Client {
    /// Waits until every change of an inode, or of names in it, that was answered before is committed;
    /// [`Event::Synced`] with the number tells. It fails, once, if one of them since the last call may not last.
    ///
    /// # Errors
    ///
    /// [`NotTaken::Busy`] above the limits, [`NotTaken::Closed`] behind the end.
    pub fn fsync(&mut self, ino: Ino) -> Result<SyncId, NotTaken> {
        let tids: Vec<Tid> =
            self.uncommitted.range((ino, Tid(0))..=(ino, Tid(u64::MAX))).map(|(_, tid)| *tid).collect();
        let result = self.failures.take(ino).map_or(Ok(()), Err);
        self.wait_for(&tids, result)
    }

    /// The same for all changes that were asked for before, also those without an answer yet.
    ///
    /// # Errors
    ///
    /// [`NotTaken::Busy`] above the limits, [`NotTaken::Closed`] behind the end.
    pub fn sync(&mut self) -> Result<SyncId, NotTaken> {
        let writes = self.requests.iter().filter(|(_, pending)| pending.call.is_write());
        let tids: Vec<Tid> = writes.map(|(tid, _)| *tid).collect();
        let result = self.failures.take_all().map_or(Ok(()), Err);
        self.wait_for(&tids, result)
    }

    fn wait_for(&mut self, tids: &[Tid], result: Result<(), Error>) -> Result<SyncId, NotTaken> {
        if self.life == Life::Closed {
            return Err(NotTaken::Closed);
        }
        if self.syncs.len() >= self.config.limits.syncs_max {
            return Err(NotTaken::Busy);
        }
        self.last_sync = self.last_sync.wrapping_add(1);
        let id = SyncId(self.last_sync);
        if tids.is_empty() {
            self.event(Event::Synced(id, result));
            return Ok(id);
        }
        let mut ranks = BTreeSet::new();
        for tid in tids {
            if let Some(pending) = self.requests.get_mut(tid) {
                pending.waiters.push(id);
                if let Stage::Applied { rank, order } = pending.stage {
                    ranks.insert((rank, order));
                }
            }
        }
        self.syncs.insert(id, Sync { left: tids.len(), result });
        for (rank, order) in ranks {
            self.ask_for_journal(rank, order);
        }
        Ok(id)
    }

    /// Has a rank write out its journal, unless that was asked after the `order`th request was applied.
    pub(super) fn ask_for_journal(&mut self, rank: Rank, order: u64) {
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        if session.journal_asked >= order || !session.is_open() {
            return;
        }
        session.journal_asked = session.applied.last_key_value().map_or(order, |(newest, _)| *newest);
        self.send_session(rank, SessionRequest::FlushMdLog);
    }

    /// A request that somebody may wait for was applied: the journal is asked for if so.
    pub(super) fn on_applied(&mut self, tid: Tid) {
        let Some(pending) = self.requests.get(&tid) else { return };
        if let Stage::Applied { rank, order } = pending.stage
            && (!pending.waiters.is_empty() || !self.is_running())
        {
            self.ask_for_journal(rank, order);
        }
    }

    /// One of the things that these wait for has come to its end.
    pub(super) fn count_down(&mut self, waiters: Vec<SyncId>, result: &Result<(), Error>) {
        for id in waiters {
            let Some(sync) = self.syncs.get_mut(&id) else { continue };
            sync.left = sync.left.saturating_sub(1);
            if sync.result.is_ok() {
                sync.result.clone_from(result);
            }
            if sync.left == 0
                && let Some(sync) = self.syncs.remove(&id)
            {
                self.event(Event::Synced(id, sync.result));
            }
        }
    }

    /// A request is committed.
    pub(super) fn commit(&mut self, tid: Tid) {
        let waiters = self.drop_request(tid);
        self.event(Event::Committed(tid));
        self.count_down(waiters, &Ok(()));
    }

    /// What a request changed may not last: its caller, everybody who waits, and the next who will.
    pub(super) fn uncommit(&mut self, tid: Tid, error: &Error) {
        let touched = self.requests.get(&tid).map(|pending| pending.touched.clone());
        self.failures.add(touched.unwrap_or_default(), error);
        let waiters = self.drop_request(tid);
        self.event(Event::Uncommitted(tid, error.clone()));
        self.count_down(waiters, &Err(error.clone()));
    }
}

/// Changes that may not have lasted, until an fsync has told of them.
#[derive(Debug, Default)]
pub(super) struct Failures {
    inodes: alloc::collections::BTreeMap<Ino, Error>,
    /// There were too many to remember: whoever asks next is told.
    rest: Option<Error>,
}

/// Most inodes whose failures are remembered one by one.
const FAILURES_MAX: usize = 4096;

impl Failures {
    fn add(&mut self, inos: Vec<Ino>, error: &Error) {
        for ino in inos {
            if self.inodes.len() < FAILURES_MAX || self.inodes.contains_key(&ino) {
                self.inodes.insert(ino, error.clone());
            } else {
                self.rest = Some(error.clone());
            }
        }
    }

    fn take(&mut self, ino: Ino) -> Option<Error> {
        self.inodes.remove(&ino).or_else(|| self.rest.take())
    }

    fn take_all(&mut self) -> Option<Error> {
        let one = core::mem::take(&mut self.inodes).into_values().next();
        one.or_else(|| self.rest.take())
    }
}
