use alloc::vec::Vec;

use cuttlebone_machine::Instant;

use super::{Call, Caller, Client, Durability, Errno, Error, Event, NotTaken, SyncId, Tid};
use crate::{Ino, Rank, feature};

/// A request that is not finished.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) call: Call,
    pub(super) caller: Caller,
    pub(super) stage: Stage,
    /// Bytes that it keeps.
    bytes: usize,
    /// How often it was sent to the rank it is meant for now.
    pub(super) attempts: u32,
    /// How often a rank pointed to another one.
    pub(super) forwards: u32,
    /// Where a forward pointed.
    pub(super) hint: Option<Rank>,
    /// The inode that it made, as the user was told. A replay has to make the same one again.
    pub(super) created: Option<Ino>,
    /// Who waits for its commit.
    pub(super) waiters: Vec<SyncId>,
    /// The inodes whose fsync its commit belongs to.
    pub(super) touched: Vec<Ino>,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No rank can take it now.
    Unplaced,
    /// Waits for its turn in the session with a rank.
    Queued(Rank),
    /// Sent, for the last time then.
    Sent { rank: Rank, at: Instant },
    /// Applied by a rank, as the `order`th of its session.
    Applied { rank: Rank, order: u64 },
}

/// Most forwards of one request: they are counted in one byte on the wire.
///
/// Source: `torvalds/linux:fs/ceph/mds_client.c`, `handle_forward`.
pub(super) const FORWARDS_MAX: u32 = 255;

impl Client {
    /// Takes on a request; [`Event::Answer`] with its number follows, in any order with others.
    ///
    /// # Errors
    ///
    /// [`NotTaken::Busy`] above the limits, [`NotTaken::Closed`] behind [`close`](Self::close), and
    /// [`NotTaken::Misuse`] for what a server would not take well.
    pub fn request(&mut self, now: Instant, call: Call, caller: Caller) -> Result<Tid, NotTaken> {
        if !self.is_running() {
            return Err(NotTaken::Closed);
        }
        call.check().map_err(NotTaken::Misuse)?;
        self.check_lock(&call).map_err(NotTaken::Misuse)?;
        if caller.groups.len() > GROUPS_MAX {
            return Err(NotTaken::Misuse("a user is in at most 65,536 groups"));
        }
        let limits = &self.config.limits;
        let bytes = call.bytes().saturating_add(caller.groups.len().saturating_mul(8));
        let all_bytes = self.request_bytes.saturating_add(bytes);
        if self.requests.len() >= limits.requests_max || all_bytes > limits.request_bytes_max {
            return Err(NotTaken::Busy);
        }
        self.request_bytes = all_bytes;
        self.last_tid = self.last_tid.wrapping_add(1);
        let tid = Tid(self.last_tid);
        let refusal = self.refusal(&call);
        self.requests.insert(
            tid,
            Pending {
                call,
                caller,
                stage: Stage::Unplaced,
                bytes,
                attempts: 0,
                forwards: 0,
                hint: None,
                created: None,
                waiters: Vec::new(),
                touched: Vec::new(),
            },
        );
        match refusal {
            Some(error) => self.finish(tid, Err(error)),
            None => self.place(now, tid),
        }
        Ok(tid)
    }

    /// Why a call is answered without asking.
    fn refusal(&self, call: &Call) -> Option<Error> {
        if call.inodes().any(Ino::is_servers_own) {
            return Some(Error::Refused(Errno::ESTALE));
        }
        self.over_pins(call).or_else(|| self.over_quota(call))
    }

    /// Says that nobody waits for the answer of a request any more. One that was not sent is not sent; one that was
    /// goes on, since the server may have done it, and its events still come.
    ///
    /// Answers whether it was taken back.
    pub fn cancel(&mut self, tid: Tid) -> bool {
        let never_sent = self.requests.get(&tid).is_some_and(|pending| {
            pending.attempts == 0 && matches!(pending.stage, Stage::Unplaced | Stage::Queued(_))
        });
        if never_sent {
            for session in self.sessions.values_mut() {
                session.queue.retain(|queued| *queued != tid);
            }
            let waiters = self.drop_request(tid);
            self.count_down(waiters, &Ok(()));
        }
        never_sent
    }

    /// How many requests are not finished.
    pub fn unfinished(&self) -> usize {
        self.requests.len()
    }

    /// How many requests may be in flight to a rank at the moment.
    pub fn window(&self, rank: Rank) -> usize {
        self.sessions.get(&rank).map_or(0, |session| session.pace.window())
    }

    /// The lowest number that is not finished, for the servers to forget what is below.
    ///
    /// Locks that may wait for ever do not count.
    pub(super) fn oldest_tid(&self) -> Tid {
        let open = self.requests.iter().find(|(_, pending)| !pending.call.may_wait());
        open.map_or(Tid(self.last_tid), |(tid, _)| *tid)
    }

    /// Finds a rank for a request, and sends it there if there is room.
    pub(super) fn place(&mut self, now: Instant, tid: Tid) {
        if self.blocklisted {
            return self.finish(tid, Err(Error::Blocklisted));
        }
        let Some(rank) = self.choose(tid) else {
            self.set_stage(tid, Stage::Unplaced);
            self.unplaced.insert(tid);
            return;
        };
        self.want_session(now, rank);
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        if let Some(error) = session.refusal() {
            return self.finish(tid, Err(error));
        }
        session.queue.push_back(tid);
        self.set_stage(tid, Stage::Queued(rank));
        self.pump(now, rank);
    }

    pub(super) fn set_stage(&mut self, tid: Tid, stage: Stage) {
        if let Some(pending) = self.requests.get_mut(&tid) {
            pending.stage = stage;
        }
    }

    /// Places again what waits in a session, or in none.
    pub(super) fn place_again(&mut self, now: Instant, tids: impl IntoIterator<Item = Tid>) {
        for tid in tids {
            self.unplaced.remove(&tid);
            if self.requests.contains_key(&tid) {
                self.place(now, tid);
            }
        }
    }

    /// Sends what waits in a session, as far as its window allows.
    pub(super) fn pump(&mut self, now: Instant, rank: Rank) {
        while self.takes_requests(rank)
            && let Some(session) = self.sessions.get_mut(&rank)
            && session.pace.admits(session.in_flight)
            && let Some(tid) = session.queue.pop_front()
        {
            let (read_only, vxattrs) = (session.read_only, session.features.contains(feature::OP_GETVXATTR));
            match self.requests.get(&tid) {
                Some(pending) if pending.stage != Stage::Queued(rank) => {}
                Some(pending) if read_only && pending.call.is_write() => {
                    self.finish(tid, Err(Error::ReadOnly));
                }
                // A server that does not know the operation may not survive it.
                Some(pending) if !vxattrs && matches!(pending.call, Call::GetVxattr { .. }) => {
                    self.finish(tid, Err(Error::Refused(Errno::EOPNOTSUPP)));
                }
                Some(_) => self.send_request(now, rank, tid),
                None => {}
            }
        }
    }

    /// A request was sent; from now on it counts.
    pub(super) fn on_sent(&mut self, now: Instant, rank: Rank, tid: Tid) {
        let Some(pending) = self.requests.get_mut(&tid) else { return };
        let counted = matches!(pending.stage, Stage::Sent { .. });
        pending.attempts = pending.attempts.saturating_add(1);
        pending.stage = Stage::Sent { rank, at: now };
        if !counted
            && !pending.call.may_wait()
            && let Some(session) = self.sessions.get_mut(&rank)
        {
            session.in_flight = session.in_flight.saturating_add(1);
        }
    }

    /// A request that was sent to `rank` is not in flight any more.
    pub(super) fn land(&mut self, rank: Rank, may_wait: bool) {
        if !may_wait && let Some(session) = self.sessions.get_mut(&rank) {
            session.in_flight = session.in_flight.saturating_sub(1);
        }
    }

    /// Ends a request with this result, before or without its commit.
    pub(super) fn finish(&mut self, tid: Tid, result: Result<super::Answer, Error>) {
        let waiters = self.drop_request(tid);
        let result = result.map(alloc::boxed::Box::new);
        self.event(Event::Answer { tid, result, durability: Durability::Committed });
        self.count_down(waiters, &Ok(()));
    }

    /// Takes a request out of every list, and answers who waits for its commit.
    pub(super) fn drop_request(&mut self, tid: Tid) -> Vec<SyncId> {
        let Some(pending) = self.requests.remove(&tid) else { return Vec::new() };
        self.request_bytes = self.request_bytes.saturating_sub(pending.bytes);
        self.unplaced.remove(&tid);
        match pending.stage {
            Stage::Sent { rank, .. } => self.land(rank, pending.call.may_wait()),
            Stage::Applied { rank, order } => {
                if let Some(session) = self.sessions.get_mut(&rank) {
                    session.applied.remove(&order);
                }
            }
            Stage::Unplaced | Stage::Queued(_) => {}
        }
        for ino in pending.touched {
            self.uncommitted.remove(&(ino, tid));
        }
        pending.waiters
    }
}

/// Most groups that a user may be in.
///
/// Source: `torvalds/linux:include/uapi/linux/limits.h`, `NGROUPS_MAX`.
const GROUPS_MAX: usize = 65_536;
