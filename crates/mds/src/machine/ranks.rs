use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use cuttlebone_machine::Instant;
use cuttlebone_wire::EntityAddrs;

use super::session::{Behind, State};
use super::{Client, LossCause, SessionNews};
use crate::{MdsInfo, MdsMap, MdsState, Rank};

/// What the newest map says of the ranks.
#[derive(Debug, Default)]
pub(super) struct Ranks {
    map: Option<Box<MdsMap>>,
}

/// Most ranks of a file system.
///
/// Source: `ceph/ceph:src/mds/mdstypes.h`, `MAX_MDS`.
const RANKS_MAX: i32 = 256;

impl Ranks {
    pub(super) fn epoch(&self) -> u32 {
        self.map.as_ref().map_or(0, |map| map.epoch)
    }

    /// How long a session lasts without a renewal.
    pub(super) fn session_timeout(&self) -> Duration {
        self.map.as_ref().map_or(Duration::from_secs(60), |map| {
            // A map that says 0 must not make us renew without pause.
            Duration::from_secs(map.session_timeout_secs.max(1).into())
        })
    }

    /// The rank that has the root.
    pub(super) fn root(&self) -> Option<Rank> {
        self.map.as_ref().map(|map| map.root)
    }

    /// What the rank is doing; [`MdsState::NULL`] if nobody has it.
    pub(super) fn state(&self, rank: Rank) -> MdsState {
        self.map.as_ref().map_or(MdsState::NULL, |map| map.state(rank))
    }

    pub(super) fn addrs(&self, rank: Rank) -> Option<&EntityAddrs> {
        Some(&self.map.as_ref()?.serving(rank)?.addrs)
    }

    /// Whether the rank belongs to the file system, though nobody may have it now.
    pub(super) fn is_expected(&self, rank: Rank) -> bool {
        (0..RANKS_MAX).contains(&rank.0)
            && self.map.as_ref().is_some_and(|map| map.ranks.contains(&rank) || map.up.contains_key(&rank))
    }

    /// All such ranks.
    fn expected(&self) -> impl Iterator<Item = Rank> + '_ {
        let ranks = self.map.iter().flat_map(|map| map.ranks.iter().copied());
        ranks.filter(|rank| self.is_expected(*rank))
    }

    /// Whether the rank answers requests.
    pub(super) fn is_serving(&self, rank: Rank) -> bool {
        self.is_expected(rank) && self.state(rank).is_serving()
    }

    /// Whether the monitors have not heard from it for a while.
    pub(super) fn is_laggy(&self, rank: Rank) -> bool {
        self.map.as_ref().and_then(|map| map.serving(rank)).is_some_and(MdsInfo::is_laggy)
    }

    /// The ranks that answer, and take new sessions.
    pub(super) fn serving(&self) -> impl Iterator<Item = Rank> + '_ {
        let up = self.map.iter().flat_map(|map| map.up.keys().copied());
        up.filter(|rank| self.is_expected(*rank) && self.state(*rank) == MdsState::ACTIVE)
    }
}

impl Client {
    pub(super) fn on_map(&mut self, now: Instant, map: Box<MdsMap>) {
        if self.ranks.map.is_some() && map.epoch <= self.ranks.epoch() {
            return;
        }
        self.ranks.map = Some(map);
        let ranks: BTreeSet<Rank> = self.sessions.keys().copied().collect();
        for rank in ranks {
            self.on_rank(now, rank);
        }
        let waiting = mem::take(&mut self.unplaced);
        self.place_again(now, waiting);
    }

    /// A rank that is gone may have handed capabilities to others without living to tell us. They opened sessions by
    /// force for that, which nobody would keep up or close; and a server shuts clients out that leave a session alone.
    fn look_for_imports(&mut self, now: Instant, gone: Rank) {
        let others: Vec<Rank> = self.ranks.expected().filter(|rank| *rank != gone).collect();
        for rank in others {
            if self.sessions.get(&rank).is_some_and(|session| session.state != State::Closing) {
                continue;
            }
            self.want_session(now, rank);
            if let Some(session) = self.sessions.get_mut(&rank)
                && session.behind == Behind::Nothing
            {
                session.behind = Behind::Session;
            }
        }
    }

    /// What the newest map means for a session.
    fn on_rank(&mut self, now: Instant, rank: Rank) {
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        if !self.ranks.is_expected(rank) {
            return self.lose_session(now, rank, LossCause::RankStopped);
        }
        let addrs = self.ranks.addrs(rank).cloned();
        let moved = addrs.as_ref() != Some(&session.addrs);
        session.addrs = addrs.unwrap_or_default();
        if moved {
            let next = match session.state {
                // A session whose opening was under way may be known to the successor, which then waits for us.
                State::Opening | State::Open | State::Closing | State::Down | State::Reconnecting => {
                    State::Down
                }
                State::Wanted if session.behind != Behind::Nothing => State::Down,
                State::Wanted | State::Rejected(_) => State::Wanted,
            };
            let went_down = matches!(session.state, State::Open | State::Closing);
            session.state = next;
            let is_idle = session.state == State::Wanted && session.queue.is_empty();
            self.drop_link(rank);
            if is_idle {
                self.sessions.remove(&rank);
                return;
            }
            if went_down {
                self.session_event(rank, SessionNews::Down);
                self.look_for_imports(now, rank);
            }
        }
        self.progress(now, rank);
    }
}
