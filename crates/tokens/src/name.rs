//! One name, without locks, clocks or futures: a state machine of plain methods.
//!
//! Time, epochs and sequence numbers come in through [`Cx`]; whom to wake and what happened go out through it. `W` is
//! whatever stands for somebody who waits: a waker in the registry, nothing at all in a model.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::fmt;

use cuttlebone_machine::Instant;

use crate::slab::Slab;
use crate::{DrainReport, Epoch, HOLDERS_REPORTED_MAX, Holder, Limits, OwnerId, Rules, Seq};

mod line;
#[cfg(all(test, feature = "std", not(loom)))]
mod model;
mod registration;
mod tokens;
mod wakes;
mod watch;

pub use registration::{Candidate, Registering};
pub use tokens::{Acquired, Grant, Waiter};
pub use wakes::Wakes;
pub use watch::{Watch, Watched};

use line::Line;
use registration::Applicant;
use tokens::{Held, Request, Use};
use watch::Watcher;

/// Where time, epochs and sequence numbers come from; each is asked for only when it is needed.
pub trait Source {
    /// What time it is.
    fn now(&self) -> Instant;
    /// About what time it is; for ages in reports.
    fn now_coarse(&self) -> Instant {
        self.now()
    }
    /// An epoch greater than every one before. The caller has made sure that there is one.
    fn epoch(&self) -> Epoch;
    /// A sequence number greater than every one before.
    fn seq(&self) -> Seq;
}

/// What a call is given, and what it leaves behind.
#[expect(clippy::exhaustive_structs, reason = "the caller makes it for every call")]
pub struct Cx<'a, W> {
    /// Where time and numbers come from.
    pub source: &'a dyn Source,
    /// Whom to wake, in this order, once the name is unlocked.
    pub wake: Wakes<W>,
    /// What happened, in order; `None` when nobody listens.
    pub events: Option<Vec<EventKind>>,
}

impl<W> fmt::Debug for Cx<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx").field("events", &self.events).finish_non_exhaustive()
    }
}

impl<'a, W> Cx<'a, W> {
    /// A call; events are kept if `listening`.
    pub fn new(source: &'a dyn Source, listening: bool) -> Self {
        Self { source, wake: Wakes::None, events: listening.then(Vec::new) }
    }

    fn tell(&mut self, event: impl FnOnce() -> EventKind) {
        if let Some(events) = &mut self.events {
            events.push(event());
        }
    }
}

/// What happened to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// An owner is the current one; tokens of `epoch` may be granted.
    Registered {
        /// The owner.
        owner: OwnerId,
        /// Its incarnation.
        epoch: Epoch,
    },
    /// The owner is gone or superseded, and tokens are still out.
    Draining {
        /// The incarnation that ended.
        epoch: Epoch,
        /// How many tokens are out.
        outstanding: usize,
    },
    /// Holders of `epoch` and older were told to stop.
    Fenced {
        /// The incarnation that was fenced.
        epoch: Epoch,
    },
    /// A token was granted.
    Granted {
        /// The token.
        seq: Seq,
        /// The incarnation it was granted to.
        epoch: Epoch,
    },
    /// A token ended, however it did.
    Released {
        /// The token.
        seq: Seq,
        /// The incarnation it was granted to.
        epoch: Epoch,
    },
    /// Nobody has the name any more and no token is out.
    Unregistered,
    /// A drain is still going on.
    WatchdogLate(DrainReport),
}

/// The state of one name; see the diagram in `docs/tokens.md`.
#[derive(Clone, Debug)]
pub struct Name<W> {
    limits: Limits,
    rules: Rules,
    /// Until then only re-claims are answered.
    quiet_until: Instant,
    phase: Phase,
    /// Holders of this epoch and older were told to stop.
    fenced: Epoch,
    held: Slab<Held>,
    in_use: Use,
    requests: Slab<Request<W>>,
    lines: [Line; 3],
    tickets: u64,
    applicants: Slab<Applicant<W>>,
    queue: VecDeque<u32>,
    watchers: Slab<Watcher<W>>,
    reclaimed: BTreeSet<(Epoch, Seq)>,
    closed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody has it.
    Free,
    /// `owner` has it; `handles` registrations of that owner stand for the same incarnation.
    Active { owner: OwnerId, epoch: Epoch, handles: u32 },
    /// Tokens of `from` or older are out, or the recovery window is open.
    Draining(Drain),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Drain {
    from: Epoch,
    since: Instant,
    report_at: Instant,
    /// When the policy applies; `None` once it has.
    patience: Option<Instant>,
    successor: Option<Successor>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Successor {
    owner: OwnerId,
    epoch: Epoch,
    /// The applicants that will share the registration; never empty.
    keys: Vec<u32>,
}

impl<W> Name<W> {
    /// A free name. Until `quiet_until` only re-claims are answered.
    pub fn new(limits: Limits, rules: Rules, quiet_until: Instant) -> Self {
        Self {
            limits,
            rules,
            quiet_until,
            phase: Phase::Free,
            fenced: Epoch(0),
            held: Slab::default(),
            in_use: Use::default(),
            requests: Slab::default(),
            lines: [Line::default(); 3],
            tickets: 0,
            applicants: Slab::default(),
            queue: VecDeque::new(),
            watchers: Slab::default(),
            reclaimed: BTreeSet::new(),
            closed: false,
        }
    }

    /// The incarnation that may be granted tokens, if there is one.
    pub const fn current(&self) -> Option<Epoch> {
        match self.phase {
            Phase::Active { epoch, .. } => Some(epoch),
            Phase::Free | Phase::Draining(_) => None,
        }
    }

    /// Holders of this epoch and older were told to stop.
    pub const fn fenced(&self) -> Epoch {
        self.fenced
    }

    /// Whether forgetting this name would lose nothing.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Free
            && self.held.is_empty()
            && self.requests.is_empty()
            && self.applicants.is_empty()
            && self.watchers.is_empty()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has to be called; read it again after every call.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let Phase::Draining(drain) = &self.phase else { return None };
        let quiet = self.held.is_empty().then_some(self.quiet_until);
        [Some(drain.report_at), drain.patience, quiet].into_iter().flatten().min()
    }

    /// What can be seen from outside, in one consistent cut, with at most `holders_max` holders.
    pub fn view(&self, now: Instant, holders_max: usize) -> View {
        let (state, epoch, owner, successor) = match &self.phase {
            Phase::Free => (NameState::Free, None, None, None),
            Phase::Active { owner, epoch, .. } => (NameState::Active, Some(*epoch), Some(*owner), None),
            Phase::Draining(drain) => {
                let next = drain.successor.as_ref();
                let owner = next.map(|next| next.owner);
                (NameState::Draining, Some(drain.from), owner, next.map(|next| next.epoch))
            }
        };
        View {
            state,
            epoch,
            owner,
            successor,
            outstanding: self.held.len(),
            slots_held: self.in_use.all,
            slots_max: self.limits.tokens,
            waiting: self.waiting(),
            registrants: self.queue.len(),
            holders: self.holders(now, holders_max),
        }
    }

    fn waiting(&self) -> usize {
        self.lines.iter().map(|line| line.len as usize).sum()
    }

    fn holders(&self, now: Instant, most: usize) -> Vec<Holder> {
        let holder = |(_, held): (u32, &Held)| Holder {
            seq: held.seq,
            epoch: held.epoch,
            class: held.class,
            slots: held.slots,
            age: now.since(held.since),
        };
        self.held.iter().take(most).map(holder).collect()
    }

    fn report(&self, now: Instant, since: Instant) -> DrainReport {
        DrainReport {
            outstanding: self.held.len(),
            waited: now.since(since),
            holders: self.holders(now, HOLDERS_REPORTED_MAX),
        }
    }
}

/// Which of its states a name is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the states of the diagram")]
pub enum NameState {
    /// Nobody has it.
    Free,
    /// An owner has it.
    Active,
    /// Older tokens are out.
    Draining,
}

/// One name as seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct View {
    /// The state.
    pub state: NameState,
    /// The current incarnation, or the one being drained.
    pub epoch: Option<Epoch>,
    /// The current owner, or the one next.
    pub owner: Option<OwnerId>,
    /// The incarnation that follows the drain.
    pub successor: Option<Epoch>,
    /// Tokens out.
    pub outstanding: usize,
    /// Slots they take.
    pub slots_held: u64,
    /// Slots there are.
    pub slots_max: u32,
    /// Requests waiting for a token.
    pub waiting: usize,
    /// Registrations waiting in line.
    pub registrants: usize,
    /// Some of the tokens that are out.
    pub holders: Vec<Holder>,
}
