use alloc::vec::Vec;

use cuttlebone_machine::Instant;

use super::session::Line;
use super::{Client, Life};
use crate::Rank;

impl Client {
    /// When time alone changes something.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let sessions = self.sessions.values().flat_map(|session| {
            let redial = match session.link {
                Line::Pause(until) => Some(until),
                Line::None | Line::Dialled(_) | Line::Ready(..) => None,
            };
            [session.renewal.timer.deadline(), session.release_timer.deadline(), redial]
        });
        let closing = match self.life {
            Life::Closing(until) => Some(until),
            Life::Running | Life::Closed => None,
        };
        sessions.chain([closing]).flatten().min()
    }

    pub(super) fn on_time(&mut self, now: Instant) {
        let ranks: Vec<Rank> = self.sessions.keys().copied().collect();
        for rank in ranks {
            let Some(session) = self.sessions.get_mut(&rank) else { continue };
            let renew = session.renewal.timer.take_expired(now);
            let release = session.release_timer.take_expired(now);
            let redial = matches!(session.link, Line::Pause(until) if until <= now);
            if redial {
                session.link = Line::None;
            }
            if renew {
                self.renew(now, rank);
            }
            if release {
                self.flush_releases(rank);
            }
            if redial {
                self.progress(now, rank);
            }
        }
    }
}
