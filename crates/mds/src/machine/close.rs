use alloc::vec::Vec;

use cuttlebone_machine::Instant;

use super::requests::Stage;
use super::session::{Behind, State};
use super::{Client, Error, Event, Life, SessionNews, Tid};
use crate::Rank;
use crate::message::SessionRequest;

impl Client {
    /// Ends the client: what was sent is waited for and committed, what was not is refused, capabilities go back, and
    /// each session is closed. [`Event::Closed`] is the last event, after
    /// [`Timing::close_max`](super::Timing::close_max) at the latest. Repeated calls change nothing.
    pub fn close(&mut self, now: Instant) {
        if !self.is_running() {
            return;
        }
        self.life = Life::Closing(now + self.config.timing.close_max);
        let never_sent = self.requests.iter().filter(|(_, pending)| {
            pending.attempts == 0 && matches!(pending.stage, Stage::Unplaced | Stage::Queued(_))
        });
        let never_sent: Vec<Tid> = never_sent.map(|(tid, _)| *tid).collect();
        for tid in never_sent {
            self.finish(tid, Err(Error::Closed));
        }
        let applied = self
            .sessions
            .values()
            .filter_map(|session| session.applied.last_key_value().map(|(order, _)| (session.rank, *order)));
        let applied: Vec<(Rank, u64)> = applied.collect();
        for (rank, order) in applied {
            self.ask_for_journal(rank, order);
        }
        self.settle(now);
    }

    /// Takes the next step of closing, if there is one to take.
    pub(super) fn go_on_closing(&mut self, now: Instant) {
        let Life::Closing(until) = self.life else { return };
        let late = now >= until;
        let ranks: Vec<Rank> = self.sessions.keys().copied().collect();
        for rank in ranks {
            self.close_session(rank, late);
        }
        if self.sessions.is_empty() || late {
            self.end();
        }
    }

    fn close_session(&mut self, rank: Rank, late: bool) {
        let Some(session) = self.sessions.get(&rank) else { return };
        let busy = !session.applied.is_empty()
            || self.requests.values().any(|pending| match pending.stage {
                Stage::Queued(asked) | Stage::Sent { rank: asked, .. } => {
                    asked == rank && !pending.call.may_wait()
                }
                Stage::Unplaced | Stage::Applied { .. } => false,
            });
        match session.state {
            State::Open if !busy => {
                self.give_everything_back(rank);
                self.ask_to_close(rank);
            }
            // Nothing that the server knows of, or nothing that it wants to know.
            State::Wanted | State::Rejected(_) if !busy && session.behind == Behind::Nothing => {
                self.drop_link(rank);
                self.sessions.remove(&rank);
            }
            State::Opening
            | State::Open
            | State::Wanted
            | State::Rejected(_)
            | State::Down
            | State::Reconnecting
            | State::Closing => {
                if late {
                    self.drop_link(rank);
                }
            }
        }
    }

    fn give_everything_back(&mut self, rank: Rank) {
        for ino in self.cache.holding(rank) {
            self.pin(ino, |pins| *pins = super::cache::Pins::default());
            self.release_inode(ino);
        }
        self.flush_releases(rank);
    }

    /// Says how many pushes have arrived: the server closes when it has sent no more.
    pub(super) fn ask_to_close(&mut self, rank: Rank) {
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        session.state = State::Closing;
        let pushes = session.pushes;
        self.send_session(rank, SessionRequest::Close { pushes });
    }

    /// A push has arrived. A server that is closing has dropped our request without a word, since it counted this push
    /// already.
    pub(super) fn after_push(&mut self, rank: Rank) {
        if self.sessions.get(&rank).is_some_and(|session| session.state == State::Closing) {
            self.ask_to_close(rank);
        }
    }

    /// The server has closed a session, as we asked. Behind a wreck, the session begins anew for whatever waits.
    pub(super) fn on_closed(&mut self, now: Instant, rank: Rank) {
        self.drop_link(rank);
        if let Some(session) = self.sessions.get_mut(&rank)
            && (session.behind == Behind::Session || !session.was_open && !session.queue.is_empty())
        {
            session.state = State::Wanted;
            // What another rank has moved here while it was being closed went with it.
            self.lose_state(rank);
            self.progress(now, rank);
            return;
        }
        let was_open = self.sessions.remove(&rank).is_some_and(|session| session.was_open);
        if was_open {
            self.session_event(rank, SessionNews::Closed);
        }
    }

    fn end(&mut self) {
        let clean = self.clean && self.sessions.is_empty();
        let ranks: Vec<Rank> = self.sessions.keys().copied().collect();
        for rank in ranks {
            self.drop_link(rank);
            if let Some(session) = self.sessions.get(&rank) {
                let applied: Vec<Tid> = session.applied.values().copied().collect();
                for tid in applied {
                    self.uncommit(tid, &Error::Uncommitted { rank });
                }
            }
        }
        self.sessions.clear();
        let left: Vec<Tid> = self.requests.keys().copied().collect();
        for tid in left {
            self.finish(tid, Err(Error::Closed));
        }
        self.life = Life::Closed;
        self.event(Event::Closed { clean });
    }
}
