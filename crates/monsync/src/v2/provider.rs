use alloc::collections::{BTreeMap, VecDeque};
use core::fmt;
use core::mem;

use cuttlebone_machine::{Entropy, Instant, Machine, Timer};
use cuttlebone_wire::{Op as StoreOp, Transaction};

use super::ProviderConfig;
use super::message::{Asked, ChunkAsked, Cookie, CookieAsked, Message, Position, Reply};
use crate::store::OpIds;
use crate::{Answer, Ask, OpId, PAXOS, Page, Read, Scan, Scope, SnapshotId, StoreKey, SyncKind, Version};

mod exchange;

pub use exchange::{Dropped, PeerId, ProviderInput, ProviderOutput};

/// Serves copies of a store to any number of requesters.
///
/// It lives as long as the node that it serves from. It needs to know nothing about its peers, and nothing that
/// they send can stop it: what has no meaning is dropped and reported. Reading the store is an effect; each cookie
/// reads one chunk ahead, so that the next one is ready when it is asked for.
///
/// ```text
/// of one cookie:
///                 opened: cookie          get_chunk, page            page: last chunk
/// Opening(asked) ────────────────▶ Serving(snapshot) ──▶ chunk ... ──────────────────▶ forgotten
///                                     └── idle for 120 s, trimmed past, store failed ──────┘
/// ```
pub struct Provider<E> {
    config: ProviderConfig,
    entropy: E,
    duty: Duty,
    opening: BTreeMap<OpId, Opening>,
    cookies: BTreeMap<Cookie, Serving>,
    /// Which cookie a read belongs to.
    reads: BTreeMap<OpId, Cookie>,
    ops: OpIds,
    snapshots: u64,
    outputs: VecDeque<ProviderOutput>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    Serving,
    Suspended,
}

/// A cookie that has been asked for and whose snapshot is being pinned.
#[derive(Debug)]
struct Opening {
    peer: PeerId,
    since: Instant,
    asked: CookieAsked,
    snapshot: SnapshotId,
}

/// One cookie.
#[derive(Debug)]
struct Serving {
    /// Who opened it, for the limit per peer.
    owner: PeerId,
    /// Where a full copy stands; `None` in a recent one.
    cursor: Option<Cursor>,
    /// The highest version in the chunks that have been read.
    reached: Version,
    ahead: Ahead,
    /// Questions that no chunk is ready for, oldest first.
    waiting: VecDeque<Waiting>,
    expiry: Timer,
}

/// A question that no chunk is ready for.
#[derive(Debug)]
struct Waiting {
    peer: PeerId,
    since: Instant,
    asked: ChunkAsked,
}

/// How far a snapshot has been read.
#[derive(Debug)]
struct Cursor {
    snapshot: SnapshotId,
    /// The last key that has been read.
    after: Option<StoreKey>,
    scanned: Scanned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scanned {
    Partly,
    ToTheEnd,
}

/// The chunk behind the last one that was sent.
#[derive(Debug)]
enum Ahead {
    /// Nobody has asked the store for it yet.
    Unread,
    /// The store has been asked.
    Reading,
    /// It is here.
    Ready(Chunk),
    /// The versions that it would begin with have been trimmed away.
    FellBehind,
}

#[derive(Debug)]
struct Chunk {
    position: Position,
    reached: Version,
    transaction: Transaction,
    bytes: usize,
}

impl<E: Entropy> Provider<E> {
    /// A provider without cookies. `entropy` makes cookies that nobody guesses.
    pub fn new(config: ProviderConfig, entropy: E) -> Self {
        Self {
            config,
            entropy,
            duty: Duty::Serving,
            opening: BTreeMap::new(),
            cookies: BTreeMap::new(),
            reads: BTreeMap::new(),
            ops: OpIds::default(),
            snapshots: 0,
            outputs: VecDeque::new(),
        }
    }

    /// How many copies are in progress.
    pub fn copies(&self) -> usize {
        self.cookies.len().saturating_add(self.opening.len())
    }

    /// Whether a copy that this peer has asked for is in progress.
    pub fn serves(&self, peer: PeerId) -> bool {
        let opening = self.opening.values().any(|opening| opening.peer == peer);
        opening || self.cookies.values().any(|serving| serving.owner == peer)
    }

    fn asked_for_cookie(&mut self, now: Instant, peer: PeerId, asked: CookieAsked) {
        if self.duty == Duty::Suspended || !self.make_room(now, peer) {
            self.send(peer, asked.refuse());
            return;
        }
        match asked.kind() {
            SyncKind::Full => {
                let op = self.ops.next();
                self.snapshots = self.snapshots.saturating_add(1);
                let snapshot = SnapshotId(self.snapshots);
                self.opening.insert(op, Opening { peer, since: now, asked, snapshot });
                self.ask(Ask::Open { op, snapshot });
            }
            SyncKind::Recent { after } => self.grant(now, peer, asked, None, after),
        }
    }

    /// Whether one more copy for `peer` is within the limits, once its most idle one has made room.
    fn make_room(&mut self, now: Instant, peer: PeerId) -> bool {
        let opening = self.opening.values().filter(|opening| opening.peer == peer).count();
        let own = || self.cookies.iter().filter(|(_, serving)| serving.owner == peer);
        if own().count().saturating_add(opening) >= self.config.cookies_per_peer_max {
            // Expiries are re-armed at each use, so the earliest belongs to the one that lay idle longest.
            let idle = own().min_by_key(|(_, serving)| serving.expiry.deadline());
            let Some(cookie) = idle.map(|(cookie, _)| *cookie) else { return false };
            // What the peer asked of the old copy it does not wait for any more.
            self.withdraw(peer, cookie);
            self.forget(now, cookie);
        }
        self.copies() < self.config.cookies_max
    }

    fn grant(
        &mut self,
        now: Instant,
        peer: PeerId,
        asked: CookieAsked,
        cursor: Option<Cursor>,
        start: Version,
    ) {
        let cookie = loop {
            let cookie = Cookie(self.entropy.non_zero());
            if !self.cookies.contains_key(&cookie) {
                break cookie;
            }
        };
        let mut expiry = Timer::STOPPED;
        expiry.set(now + self.config.idle_timeout);
        let (reached, ahead, waiting) = (start, Ahead::Unread, VecDeque::new());
        self.cookies.insert(cookie, Serving { owner: peer, cursor, reached, ahead, waiting, expiry });
        self.send(peer, asked.grant(cookie, start));
        self.serve(now, cookie);
    }

    fn asked_for_chunk(&mut self, now: Instant, peer: PeerId, asked: ChunkAsked) {
        let cookie = asked.cookie();
        let Some(serving) = self.cookies.get_mut(&cookie) else {
            self.send(peer, asked.no_cookie());
            return;
        };
        serving.expiry.set(now + self.config.idle_timeout);
        if serving.waiting.len() >= self.config.waiting_max {
            self.outputs.push_back(ProviderOutput::Dropped { from: peer, why: Dropped::TooManyWaiting });
            return;
        }
        serving.waiting.push_back(Waiting { peer, since: now, asked });
        self.serve(now, cookie);
    }

    /// Answers with the chunk that is ready, if somebody waits, and reads on.
    fn serve(&mut self, now: Instant, cookie: Cookie) {
        let read_ahead: usize = self.cookies.values().map(Serving::ready_bytes).sum();
        let Some(serving) = self.cookies.get_mut(&cookie) else { return };
        match mem::replace(&mut serving.ahead, Ahead::Unread) {
            Ahead::Ready(chunk) => match serving.waiting.pop_front() {
                Some(Waiting { peer, asked, .. }) => {
                    let reply = asked.chunk(chunk.position, chunk.reached, chunk.transaction);
                    self.send(peer, reply);
                    if chunk.position == Position::Last {
                        self.forget(now, cookie);
                    } else {
                        self.read(cookie);
                    }
                }
                None => serving.ahead = Ahead::Ready(chunk),
            },
            Ahead::FellBehind if serving.waiting.is_empty() => serving.ahead = Ahead::FellBehind,
            Ahead::FellBehind => self.forget(now, cookie),
            Ahead::Unread if serving.waiting.is_empty() && read_ahead >= self.config.read_ahead_bytes_max => {
            }
            Ahead::Unread => self.read(cookie),
            Ahead::Reading => serving.ahead = Ahead::Reading,
        }
    }

    fn read(&mut self, cookie: Cookie) {
        let Some(serving) = self.cookies.get_mut(&cookie) else { return };
        serving.ahead = Ahead::Reading;
        let unfinished = serving.cursor.as_ref().filter(|cursor| cursor.scanned == Scanned::Partly);
        let scan = unfinished.map(|cursor| Scan {
            snapshot: cursor.snapshot,
            scope: Scope::Targets,
            after: cursor.after.clone(),
        });
        let op = self.ops.next();
        let read = Read { op, versions_after: Some(serving.reached), scan, budget: self.config.budget };
        self.reads.insert(op, cookie);
        self.ask(Ask::Read(read));
    }

    fn store_answered(&mut self, now: Instant, answer: Answer) {
        match answer {
            Answer::Opened { op, window } => {
                if let Some(Opening { peer, asked, snapshot, .. }) = self.opening.remove(&op) {
                    let cursor = Cursor { snapshot, after: None, scanned: Scanned::Partly };
                    self.grant(now, peer, asked, Some(cursor), window.last);
                }
            }
            Answer::Page { op, page } => {
                let Some(cookie) = self.reads.remove(&op) else { return };
                let Some(serving) = self.cookies.get_mut(&cookie) else { return };
                match serving.take(page) {
                    Some(ahead) => {
                        serving.ahead = ahead;
                        self.serve(now, cookie);
                    }
                    None => self.forget(now, cookie),
                }
            }
            Answer::Failed { op } => {
                if let Some(opening) = self.opening.remove(&op) {
                    self.refuse(now, opening);
                } else if let Some(cookie) = self.reads.remove(&op) {
                    self.forget(now, cookie);
                }
            }
        }
    }

    /// Ends a copy: whoever still waits learns that the cookie is gone.
    fn forget(&mut self, now: Instant, cookie: Cookie) {
        let Some(serving) = self.cookies.remove(&cookie) else { return };
        self.reads.retain(|_, reading| *reading != cookie);
        if let Some(cursor) = serving.cursor {
            self.ask(Ask::Release { snapshot: cursor.snapshot });
        }
        for Waiting { peer, since, asked } in serving.waiting {
            if self.is_fresh(now, since) {
                self.send(peer, asked.no_cookie());
            }
        }
    }

    fn refuse(&mut self, now: Instant, Opening { peer, since, asked, snapshot }: Opening) {
        self.ask(Ask::Release { snapshot });
        if self.is_fresh(now, since) {
            self.send(peer, asked.refuse());
        }
    }

    /// Whether the peer still waits for an answer to what it asked then.
    ///
    /// A monitor that has given up may be in a quorum by now, and a late `no_cookie` would make it leave.
    fn is_fresh(&self, now: Instant, since: Instant) -> bool {
        now.since(since) <= self.config.no_cookie_within
    }

    /// Drops a peer's questions, or chunks would be read, and the scan moved on, for nobody.
    fn withdraw(&mut self, peer: PeerId, cookie: Cookie) {
        if let Some(serving) = self.cookies.get_mut(&cookie) {
            serving.waiting.retain(|waiting| waiting.peer != peer);
        }
    }

    fn suspend(&mut self, now: Instant) {
        self.duty = Duty::Suspended;
        for opening in mem::take(&mut self.opening).into_values() {
            self.refuse(now, opening);
        }
        while let Some(cookie) = self.cookies.keys().next().copied() {
            self.forget(now, cookie);
        }
    }

    fn gone(&mut self, peer: PeerId) {
        for serving in self.cookies.values_mut() {
            serving.waiting.retain(|waiting| waiting.peer != peer);
        }
        for opening in self.opening.values().filter(|opening| opening.peer == peer) {
            let release = Ask::Release { snapshot: opening.snapshot };
            self.outputs.push_back(ProviderOutput::Store(release));
        }
        self.opening.retain(|_, opening| opening.peer != peer);
    }

    fn send(&mut self, to: PeerId, reply: Reply) {
        self.outputs.push_back(ProviderOutput::Send { to, reply });
    }

    fn ask(&mut self, ask: Ask) {
        self.outputs.push_back(ProviderOutput::Store(ask));
    }
}

impl Serving {
    fn ready_bytes(&self) -> usize {
        match &self.ahead {
            Ahead::Ready(chunk) => chunk.bytes,
            Ahead::Unread | Ahead::Reading | Ahead::FellBehind => 0,
        }
    }

    /// Makes the next chunk of what the store has read; `None` if the store broke its rules.
    fn take(&mut self, page: Page) -> Option<Ahead> {
        if !page.window.reaches_back_to(self.reached) || page.window.last < self.reached {
            return Some(Ahead::FellBehind);
        }
        let mut bytes = 0_usize;
        let mut ops = alloc::vec::Vec::with_capacity(page.versions.len().saturating_add(page.entries.len()));
        for value in page.versions {
            self.reached = self.reached.next();
            bytes = bytes.saturating_add(value.len());
            ops.push(StoreOp::put(PAXOS, self.reached.key(), value));
        }
        if let Some(last) = page.entries.last() {
            self.cursor.as_mut()?.after = Some(last.key.detached());
        }
        for entry in page.entries {
            bytes = bytes.saturating_add(entry.value.len()).saturating_add(entry.key.key.len());
            ops.push(StoreOp::put(entry.key.prefix, entry.key.key, entry.value));
        }
        if page.at_end {
            self.cursor.as_mut()?.scanned = Scanned::ToTheEnd;
        }
        let scanned = self.cursor.as_ref().is_none_or(|cursor| cursor.scanned == Scanned::ToTheEnd);
        let position =
            if scanned && self.reached == page.window.last { Position::Last } else { Position::Middle };
        // A store that has more and gives nothing would make us send empty chunks for ever.
        let idle = ops.is_empty() && position == Position::Middle;
        if idle || self.reached > page.window.last {
            return None;
        }
        let transaction = Transaction::new(ops);
        Some(Ahead::Ready(Chunk { position, reached: self.reached, transaction, bytes }))
    }
}

impl<E: Entropy> Machine for Provider<E> {
    type Input = ProviderInput;
    type Output = ProviderOutput;

    fn handle(&mut self, now: Instant, input: ProviderInput) {
        match input {
            ProviderInput::Message { from, message } => match Message::from_message(&message) {
                Err(error) => {
                    self.outputs.push_back(ProviderOutput::Dropped { from, why: Dropped::Malformed(error) });
                }
                Ok(message) => match message.into_asked() {
                    Some(Asked::Cookie(asked)) => self.asked_for_cookie(now, from, asked),
                    Some(Asked::Chunk(asked)) => self.asked_for_chunk(now, from, asked),
                    None => {
                        self.outputs.push_back(ProviderOutput::Dropped { from, why: Dropped::NotAQuestion });
                    }
                },
            },
            ProviderInput::Gone(peer) => self.gone(peer),
            ProviderInput::Store(answer) => self.store_answered(now, answer),
            ProviderInput::Suspend => self.suspend(now),
            ProviderInput::Resume => self.duty = Duty::Serving,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let expired = |serving: &Serving| serving.expiry.deadline().is_some_and(|deadline| deadline <= now);
        while let Some(cookie) =
            self.cookies.iter().find(|(_, serving)| expired(serving)).map(|(cookie, _)| *cookie)
        {
            self.forget(now, cookie);
        }
    }

    fn poll_output(&mut self) -> Option<ProviderOutput> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Timer::earliest(self.cookies.values().map(|serving| serving.expiry))
    }
}

impl<E> fmt::Debug for Provider<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("duty", &self.duty)
            .field("opening", &self.opening.len())
            .field("cookies", &self.cookies)
            .finish_non_exhaustive()
    }
}
