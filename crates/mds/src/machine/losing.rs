use alloc::vec::Vec;
use core::mem;

use cuttlebone_machine::Instant;

use super::requests::Stage;
use super::session::{Behind, State};
use super::{Change, Client, Error, Event, Life, LossCause, SessionNews, Tid};
use crate::{Ino, MdsState, Rank};

impl Client {
    /// A session is gone: with it what was given and what was not committed. What has no answer yet starts over, but for
    /// changes that may have been done.
    pub(super) fn lose_session(&mut self, now: Instant, rank: Rank, cause: LossCause) {
        if self.sessions.get(&rank).is_some_and(|session| session.was_open) {
            self.session_event(rank, SessionNews::Lost(cause));
        }
        self.lose_state(rank);
        let is_wreck = matches!(cause, LossCause::Reset | LossCause::LinkClosed);
        self.clean &= self.is_running() || is_wreck || cause == LossCause::RankStopped;
        if !self.leaves_in_order(rank, cause) {
            self.give_up_changes(rank);
        }
        let stopped = !self.ranks.is_expected(rank);
        if stopped {
            self.drop_link(rank);
        }
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        session.state = State::Wanted;
        session.behind = if is_wreck { Behind::Wreck } else { Behind::Nothing };
        let idle = session.queue.is_empty() && !self.has_sent(rank) || !matches!(self.life, Life::Running);
        if stopped || idle && !is_wreck {
            self.forget_session(now, rank);
        } else {
            self.reroute(now, rank);
            self.progress(now, rank);
        }
    }

    /// Whether the server has answered everything that it did. One whose rank is given up has handed everything over
    /// before it closes its sessions, and drops what arrives after that.
    ///
    /// Source: `ceph/ceph:src/mds/Server.cc`, `terminate_sessions`, `handle_client_request`.
    fn leaves_in_order(&self, rank: Rank, cause: LossCause) -> bool {
        cause == LossCause::Closed && self.ranks.state(rank) == MdsState::STOPPING
    }

    /// Ends changes that were sent and not answered: the server may have done them, and with the session it forgets
    /// that it has, so that asking again could do them twice.
    ///
    /// Source: `ceph/ceph:src/mds/SessionMap.h`, `session_info_t::completed_requests`, which ends with its session.
    pub(super) fn give_up_changes(&mut self, rank: Rank) {
        let sent = self.requests.iter().filter(|(_, pending)| {
            pending.call.is_write()
                && matches!(pending.stage, Stage::Sent { rank: asked, .. } if asked == rank)
        });
        let sent: Vec<Tid> = sent.map(|(tid, _)| *tid).collect();
        for tid in sent {
            self.finish(tid, Err(Error::Uncommitted { rank }));
        }
    }

    fn has_sent(&self, rank: Rank) -> bool {
        self.requests
            .values()
            .any(|pending| matches!(pending.stage, Stage::Sent { rank: asked, .. } if asked == rank))
    }

    /// Forgets a session, and finds other ranks for what waited in it.
    pub(super) fn forget_session(&mut self, now: Instant, rank: Rank) {
        self.drop_link(rank);
        let waiting = self.waiting_in(rank);
        self.sessions.remove(&rank);
        for tid in &waiting {
            self.set_stage(*tid, Stage::Unplaced);
        }
        self.place_again(now, waiting);
    }

    /// Finds a place again for everything that waits in a session or was sent there without an answer.
    pub(super) fn reroute(&mut self, now: Instant, rank: Rank) {
        let waiting = self.waiting_in(rank);
        if let Some(session) = self.sessions.get_mut(&rank) {
            session.queue.clear();
            session.in_flight = 0;
        }
        for tid in &waiting {
            self.set_stage(*tid, Stage::Unplaced);
        }
        self.place_again(now, waiting);
    }

    fn waiting_in(&self, rank: Rank) -> Vec<Tid> {
        let waiting = self.requests.iter().filter(|(_, pending)| match pending.stage {
            Stage::Queued(asked) | Stage::Sent { rank: asked, .. } => asked == rank,
            Stage::Unplaced | Stage::Applied { .. } => false,
        });
        waiting.map(|(tid, _)| *tid).collect()
    }

    /// Everything that the server knew of us is void.
    pub(super) fn lose_state(&mut self, rank: Rank) {
        self.last_recon = self.last_recon.wrapping_add(1);
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        session.generations.recon = self.last_recon;
        session.was_open = false;
        session.alive_until = Instant::ZERO;
        session.pushes = 0;
        session.read_only = false;
        session.releases.clear();
        session.release_timer.stop();
        session.renewal.timer.stop();
        session.recalled = None;
        let applied: Vec<Tid> = mem::take(&mut session.applied).into_values().collect();
        for tid in applied {
            self.uncommit(tid, &Error::Uncommitted { rank });
        }
        self.tell_watchers(rank);
        let held: Vec<Ino> = self.cache.holding(rank);
        for ino in held {
            self.lose_file(rank, ino);
            self.lose_cap(rank, ino);
        }
    }

    /// Anything may have happened to what a rank gave us and somebody watches.
    pub(super) fn tell_watchers(&mut self, rank: Rank) {
        let watched = self.cache.iter().filter(|(_, inode)| inode.pins.watched && inode.cap(rank).is_some());
        let watched: Vec<Ino> = watched.map(|(ino, _)| ino).collect();
        for ino in watched {
            self.event(Event::Changed { ino, change: Change::Unknown });
        }
    }
}
