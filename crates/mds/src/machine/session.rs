use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use cuttlebone_machine::{Instant, Timer};
use cuttlebone_wire::{EntityAddrs, FeatureSet, Features};

use super::cap::Generations;
use super::pace::Pace;
use super::{Error, Limits, LinkId, Tid};
use crate::Rank;
use crate::message::CapRelease;

/// What is between us and one rank.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) rank: Rank,
    /// Where the rank was when we dialled or waited for it.
    pub(super) addrs: EntityAddrs,
    pub(super) link: Line,
    pub(super) state: State,
    pub(super) generations: Generations,
    /// Whether the server ever said so, since the last time that it was lost.
    pub(super) was_open: bool,
    pub(super) behind: Behind,
    /// Until then what we were given counts.
    pub(super) alive_until: Instant,
    pub(super) renewal: Renewal,
    /// Pushes received, which the server counts as well.
    pub(super) pushes: u64,
    pub(super) read_only: bool,
    /// What the server can do.
    pub(super) features: FeatureSet,
    /// Requests that wait to be sent, in order.
    pub(super) queue: VecDeque<Tid>,
    /// Requests that count as in flight.
    pub(super) in_flight: usize,
    pub(super) pace: Pace,
    /// Requests that were applied and are not committed, in the order in which they were applied.
    pub(super) applied: BTreeMap<u64, Tid>,
    pub(super) last_order: u64,
    /// The place in that order that the last request to write out the journal covers.
    pub(super) journal_asked: u64,
    /// Capabilities to give back.
    pub(super) releases: Vec<CapRelease>,
    pub(super) release_timer: Timer,
    /// The server asked us to hold no more than so many, for some time.
    pub(super) recalled: Option<(usize, Instant)>,
}

/// What the server may have of us that we do not know. If nobody kept that up, the server would throw us out after a
/// while: of this session, and with it of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    Nothing,
    /// A session that is good: opened before we heard of it, or by force for an import.
    Session,
    /// A session from which messages were lost: it may wait for ever for answers to revokes that we never saw. It is
    /// taken up again only to be closed.
    Wreck,
}

/// The link to a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// There is none, and none is needed now.
    None,
    /// There is none, and there will be one at that time.
    Pause(Instant),
    /// Dialled.
    Dialled(LinkId),
    /// Open.
    Ready(LinkId, Features),
}

impl Line {
    pub(super) const fn id(self) -> Option<LinkId> {
        match self {
            Self::Dialled(id) | Self::Ready(id, _) => Some(id),
            Self::None | Self::Pause(_) => None,
        }
    }
}

/// Where a session is in its life; see `docs/protocols/mds.md` for the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Somebody wants it; the link or the rank is not ready.
    Wanted,
    /// REQUEST_OPEN was sent.
    Opening,
    Open,
    /// The rank is being replaced; what we have is kept.
    Down,
    /// The reconnect message was sent.
    Reconnecting,
    /// REQUEST_CLOSE was sent.
    Closing,
    /// The server refused. Stays until the rank moves.
    Rejected(Error),
}

/// Keeping a session alive: one question under way, of which only the answer with its number counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Renewal {
    pub(super) seq: u64,
    pub(super) asked: Instant,
    pub(super) timer: Timer,
}

impl Session {
    pub(super) fn new(rank: Rank, recon: u32, limits: &Limits) -> Self {
        Self {
            rank,
            addrs: EntityAddrs::default(),
            link: Line::None,
            state: State::Wanted,
            generations: Generations { stale: 0, recon },
            was_open: false,
            behind: Behind::Nothing,
            alive_until: Instant::ZERO,
            renewal: Renewal::default(),
            pushes: 0,
            read_only: false,
            features: FeatureSet::default(),
            queue: VecDeque::new(),
            in_flight: 0,
            pace: Pace::new(limits.in_flight_min, limits.in_flight_max, limits.latency_target),
            applied: BTreeMap::new(),
            last_order: 0,
            journal_asked: 0,
            releases: Vec::new(),
            release_timer: Timer::STOPPED,
            recalled: None,
        }
    }

    /// The session is open, so that the server listens.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Closing)
    }

    /// Why requests cannot go this way at all.
    pub(super) fn refusal(&self) -> Option<Error> {
        match &self.state {
            State::Rejected(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// The next place in the order of what was applied.
    pub(super) fn next_order(&mut self) -> u64 {
        self.last_order = self.last_order.wrapping_add(1);
        self.last_order
    }

    pub(super) fn is_alive(&self, now: Instant) -> bool {
        now < self.alive_until
    }

    /// The state, for people.
    pub(super) const fn state_name(&self) -> &'static str {
        match self.state {
            State::Wanted => "wanted",
            State::Opening => "opening",
            State::Open => "open",
            State::Down => "down",
            State::Reconnecting => "reconnecting",
            State::Closing => "closing",
            State::Rejected(_) => "rejected",
        }
    }

    /// Whether the server knows, or will know again, what it gave us.
    pub(super) const fn has_state(&self) -> bool {
        match self.state {
            State::Open | State::Down | State::Reconnecting | State::Closing => true,
            State::Wanted | State::Opening | State::Rejected(_) => false,
        }
    }

    /// The server confirmed, in answer to a question asked then, that it knows us.
    pub(super) fn keep_alive(&mut self, asked: Instant, timeout: Duration) {
        self.alive_until = self.alive_until.max(asked + timeout);
    }
}
