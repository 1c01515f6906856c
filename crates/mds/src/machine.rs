//! One instance of a client, and its sessions with all ranks.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::fmt;

use cuttlebone_machine::{Entropy, Instant, Machine};

use crate::{Ino, Rank};

mod alive;
mod answer;
mod build;
mod cache;
mod call;
mod cap;
mod caps;
mod close;
mod config;
mod error;
mod event;
mod known;
mod leases;
mod losing;
mod lru;
mod migration;
mod name;
mod nature;
mod opened;
mod pace;
mod quotas;
mod ranks;
mod realms;
mod reconnect;
mod releases;
mod reply;
mod requests;
mod routing;
mod send;
mod session;
mod sessions;
mod sync;
mod wake;

#[cfg(test)]
mod tests;

pub use answer::{Answer, Extra};
pub use call::{AttrChanges, Call, Caller, Entry, Lock, LockKind, LockRule, Resize, Target, XattrMode};
pub use cap::{Generations, Standing};
pub use config::{Config, Limits, Timing};
pub use error::{Errno, Error, NotTaken};
pub use event::{
    Change, Durability, Event, Input, LinkId, LinkNews, LossCause, Nonsense, Output, SessionNews, SyncId, Tid,
};
pub use known::KnownName;
pub use name::{NAME_BYTES_MAX, Name, NameError};
pub use releases::Remembered;

use cache::Cache;
use ranks::Ranks;
use realms::Realms;
use requests::Pending;
use session::Session;
use sync::{Failures, Sync};

/// One instance of a client of a file system: its sessions with metadata servers, its requests, and what it knows.
///
/// Pure: maps, messages and time go in through [`Machine::handle`], calls through [`request`](Self::request) and the
/// other methods, and what is to be done comes out of [`Machine::poll_output`]. Poll after every call that takes
/// `&mut self`.
pub struct Client {
    config: Config,
    entropy: Box<dyn Entropy + Send>,
    life: Life,
    ranks: Ranks,
    sessions: BTreeMap<Rank, Session>,
    links: BTreeMap<LinkId, Rank>,
    last_link: u64,
    /// Tells sessions apart that followed each other, so that nothing of an older one counts in a newer one.
    last_recon: u32,
    requests: BTreeMap<Tid, Pending>,
    request_bytes: usize,
    last_tid: u64,
    /// Requests that no rank can take now.
    unplaced: BTreeSet<Tid>,
    /// Requests that were applied and are not committed, by what they touched.
    uncommitted: BTreeSet<(Ino, Tid)>,
    syncs: BTreeMap<SyncId, Sync>,
    last_sync: u64,
    failures: Failures,
    cache: Cache,
    realms: Realms,
    /// The newest map of object servers that a server wants to be known before data is touched.
    osd_epoch_barrier: u32,
    blocklisted: bool,
    /// Whether every session so far was closed as it should be.
    clean: bool,
    outputs: VecDeque<Output>,
}

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    /// Finishes what was asked for, then closes its sessions; not beyond that time.
    Closing(Instant),
    Closed,
}

impl Client {
    /// A client that knows no map yet. `entropy` chooses among ranks that are equally good.
    pub fn new(config: Config, entropy: Box<dyn Entropy + Send>) -> Self {
        Self {
            config,
            entropy,
            life: Life::Running,
            ranks: Ranks::default(),
            sessions: BTreeMap::new(),
            links: BTreeMap::new(),
            last_link: 0,
            last_recon: 0,
            requests: BTreeMap::new(),
            request_bytes: 0,
            last_tid: 0,
            unplaced: BTreeSet::new(),
            uncommitted: BTreeSet::new(),
            syncs: BTreeMap::new(),
            last_sync: 0,
            failures: Failures::default(),
            cache: Cache::default(),
            realms: Realms::default(),
            osd_epoch_barrier: 0,
            blocklisted: false,
            clean: true,
            outputs: VecDeque::new(),
        }
    }

    /// The newest map of object servers that some server wants known before file contents are touched; 0 for none.
    pub const fn osd_epoch_barrier(&self) -> u32 {
        self.osd_epoch_barrier
    }

    /// Whether our address is on the list of those that may not come back.
    pub const fn is_blocklisted(&self) -> bool {
        self.blocklisted
    }

    const fn is_running(&self) -> bool {
        matches!(self.life, Life::Running)
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn session_event(&mut self, rank: Rank, news: SessionNews) {
        self.event(Event::Session(rank, news));
    }
}

impl Machine for Client {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        if self.life == Life::Closed {
            return;
        }
        match input {
            Input::Map(map) => self.on_map(now, map),
            Input::Link(link, news) => {
                if let Some(rank) = self.links.get(&link).copied() {
                    self.on_link(now, rank, link, news);
                }
            }
        }
        self.settle(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.life != Life::Closed {
            self.on_time(now);
            self.settle(now);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.next_wake()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("life", &self.life)
            .field("sessions", &self.sessions.len())
            .field("requests", &self.requests.len())
            .finish_non_exhaustive()
    }
}
