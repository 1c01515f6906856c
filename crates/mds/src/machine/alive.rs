use cuttlebone_machine::Instant;

use super::{Client, SessionNews};
use crate::message::SessionRequest;
use crate::{MdsState, Rank};

/// Renewals in the time that a session lasts without one.
///
/// Source: `torvalds/linux:fs/ceph/mds_client.c`, `delayed_work`, which renews after a quarter.
const RENEWALS: u32 = 4;

impl Client {
    pub(super) fn renew(&mut self, now: Instant, rank: Rank) {
        let pause = self.ranks.session_timeout() / RENEWALS;
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        session.renewal.timer.set(now + pause);
        if !session.is_open() || self.ranks.state(rank) < MdsState::RECONNECT {
            return;
        }
        session.renewal.seq = session.renewal.seq.wrapping_add(1);
        session.renewal.asked = now;
        let seq = session.renewal.seq;
        self.send_session(rank, SessionRequest::RenewCaps { seq });
    }

    pub(super) fn on_renewed(&mut self, now: Instant, rank: Rank, seq: u64) {
        let timeout = self.ranks.session_timeout();
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        // Only the newest question counts: an older one was asked before we went stale.
        if seq != session.renewal.seq {
            return;
        }
        let had_lapsed = session.alive_until != Instant::ZERO && !session.is_alive(now);
        let asked = session.renewal.asked;
        session.keep_alive(asked, timeout);
        if had_lapsed && session.is_alive(now) {
            self.session_event(rank, SessionNews::Renewed);
        }
    }

    pub(super) fn on_stale(&mut self, now: Instant, rank: Rank) {
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        session.generations.stale = session.generations.stale.wrapping_add(1);
        session.alive_until = now;
        self.session_event(rank, SessionNews::Stale);
        self.tell_watchers(rank);
        self.renew(now, rank);
    }

    pub(super) fn on_recall(&mut self, now: Instant, rank: Rank, max_caps: u32) {
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        let caps_max = usize::try_from(max_caps).unwrap_or(usize::MAX);
        session.recalled = Some((caps_max, now + self.config.timing.recall_decay));
        self.trim(now);
        // At once: the server compares what comes back with what it asked for.
        self.flush_releases(rank);
        self.session_event(rank, SessionNews::Recalled { caps_max });
    }
}
