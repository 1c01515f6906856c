use alloc::collections::{BTreeMap, VecDeque};

use cuttlebone_machine::{Instant, Machine, Timer};
use cuttlebone_wire::{Encode, EntityInst, Features, Op as StoreOp, Transaction};

use super::leader::key;
use super::message::{Flags, Message, Op};
use super::phase::checksum;
use super::{Checksums, ProviderConfig};
use crate::store::OpIds;
use crate::{Answer, Ask, OpId, Page, Read, Scan, Scope, SnapshotId, StoreKey, Version};

/// Sends chunks to requesters, one at a time to each: first all keys, then the log once more.
///
/// ```text
///                 opened, page                   chunk_reply, page
/// Opening ─────────────────────▶ Awaiting(chunk) ──────────────────▶ Awaiting(next)  ... Awaiting(last)
///    │                              │ silence, abort                       chunk_reply+LAST │
///    └── store failed ──▶ forgotten ◀┴──────────────────────────────────────────────────────┘
/// ```
#[derive(Debug)]
pub struct Provider {
    config: ProviderConfig,
    copies: BTreeMap<Key, Copy>,
    ops: OpIds,
    snapshots: u64,
    outputs: VecDeque<ProviderOutput>,
}

type Key = (cuttlebone_wire::EntityNum, cuttlebone_wire::EntityAddr);

/// What a provider is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to know all it can say")]
pub enum ProviderInput {
    /// A monitor sent this.
    Message {
        /// Who.
        from: EntityInst,
        /// What.
        message: Message,
    },
    /// The store answers.
    Store(Answer),
    /// Our own store is being replaced: forget every requester. They find another provider.
    Suspend,
}

/// What a provider wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to carry out every one of them")]
pub enum ProviderOutput {
    /// Send this.
    Send {
        /// To whom.
        to: EntityInst,
        /// What.
        message: Message,
    },
    /// Ask the store.
    Store(Ask),
}

/// One requester.
#[derive(Debug)]
struct Copy {
    to: EntityInst,
    snapshot: SnapshotId,
    /// What the requester will have at the end: the version of the snapshot.
    version: Version,
    phase: Phase,
    /// The last key that has been read in this phase.
    after: Option<StoreKey>,
    /// Over everything sent in this phase to this requester.
    crc: u32,
    turn: Turn,
    expiry: Timer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// All keys that are synchronised.
    Whole,
    /// The log, once more.
    Paxos,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The store's.
    Reading(OpId),
    /// The requester's; more follows.
    Middle,
    /// The requester's; nothing follows.
    Last,
}

impl Provider {
    /// A provider that nobody has asked anything.
    pub fn new(config: ProviderConfig) -> Self {
        let (copies, outputs) = (BTreeMap::new(), VecDeque::new());
        Self { config, copies, ops: OpIds::default(), snapshots: 0, outputs }
    }

    /// How many copies are in progress.
    pub fn copies(&self) -> usize {
        self.copies.len()
    }

    fn start(&mut self, now: Instant, from: EntityInst, message: &Message) {
        let key = key(&from);
        // One that is known has started over; history ignored it until its old self had timed out.
        self.forget(&key);
        if self.copies.len() >= self.config.requesters_max {
            return;
        }
        let op = self.ops.next();
        self.snapshots = self.snapshots.saturating_add(1);
        let snapshot = SnapshotId(self.snapshots);
        let mut expiry = Timer::STOPPED;
        expiry.set(now + self.config.idle_timeout);
        let last_key = &message.last_key;
        let given = !last_key.prefix.is_empty() && !last_key.key.is_empty();
        let copy = Copy {
            to: from,
            snapshot,
            version: Version(0),
            phase: Phase::Whole,
            after: given.then(|| last_key.detached()),
            crc: 0,
            turn: Turn::Reading(op),
            expiry,
        };
        self.copies.insert(key, copy);
        self.outputs.push_back(ProviderOutput::Store(Ask::Open { op, snapshot }));
    }

    fn replied(&mut self, now: Instant, from: &EntityInst, message: &Message) {
        let key = key(from);
        let Some(copy) = self.copies.get_mut(&key) else { return };
        let last = message.flags.contains(Flags::LAST);
        match copy.turn {
            Turn::Middle if !last => {
                copy.expiry.set(now + self.config.idle_timeout);
                self.read(&key);
            }
            // It is done, or believes that it is.
            Turn::Middle | Turn::Last if last => self.forget(&key),
            // It answers something that it has not been sent.
            Turn::Middle | Turn::Last | Turn::Reading(_) => {}
        }
    }

    fn read(&mut self, key: &Key) {
        let Some(copy) = self.copies.get_mut(key) else { return };
        let op = self.ops.next();
        copy.turn = Turn::Reading(op);
        let scope = match copy.phase {
            Phase::Whole => Scope::Targets,
            Phase::Paxos => Scope::Paxos,
        };
        let scan = Some(Scan { snapshot: copy.snapshot, scope, after: copy.after.clone() });
        let read = Read { op, versions_after: None, scan, budget: self.config.budget };
        self.outputs.push_back(ProviderOutput::Store(Ask::Read(read)));
    }

    fn store_answered(&mut self, now: Instant, answer: Answer) {
        let (Answer::Opened { op, .. } | Answer::Page { op, .. } | Answer::Failed { op }) = &answer;
        let reading = Turn::Reading(*op);
        // Otherwise the requester has gone in the meantime.
        let Some(key) = self.copies.iter().find(|(_, copy)| copy.turn == reading).map(|(key, _)| key.clone())
        else {
            return;
        };
        match answer {
            Answer::Opened { window, .. } => {
                if let Some(copy) = self.copies.get_mut(&key) {
                    copy.version = window.last;
                }
                self.read(&key);
            }
            Answer::Page { page, .. } => self.page(now, &key, page),
            Answer::Failed { .. } => self.forget(&key),
        }
    }

    fn page(&mut self, now: Instant, key: &Key, page: Page) {
        let Some(copy) = self.copies.get_mut(key) else { return };
        let idle = page.entries.is_empty();
        if idle && !page.at_end {
            // The store broke its rules; asking again would go on for ever.
            self.forget(key);
            return;
        }
        if idle && copy.phase == Phase::Whole {
            copy.turn_to_paxos();
            self.read(key);
            return;
        }
        let message = copy.chunk(page, self.config.checksums);
        copy.expiry.set(now + self.config.idle_timeout);
        let to = copy.to.clone();
        self.outputs.push_back(ProviderOutput::Send { to, message });
    }

    fn forget(&mut self, key: &Key) {
        if let Some(copy) = self.copies.remove(key) {
            let release = Ask::Release { snapshot: copy.snapshot };
            self.outputs.push_back(ProviderOutput::Store(release));
        }
    }
}

impl Copy {
    fn turn_to_paxos(&mut self) {
        self.phase = Phase::Paxos;
        self.after = None;
        self.crc = 0;
    }

    /// The message that carries a page; it belongs to one phase.
    fn chunk(&mut self, page: Page, checksums: Checksums) -> Message {
        let last_key = page.entries.last().map(|entry| entry.key.detached());
        let put = |entry: crate::Entry| StoreOp::put(entry.key.prefix, entry.key.key, entry.value);
        let transaction = Transaction::new(page.entries.into_iter().map(put).collect()).into_oldest();
        self.crc = transaction.ops.iter().fold(self.crc, checksum);
        let mut message = Message {
            version: self.version,
            chunk: transaction.to_bytes(Features::empty()),
            last_key: last_key.clone().unwrap_or_default(),
            ..Message::new(Op::Chunk)
        };
        self.after = last_key.or(self.after.take());
        self.turn = Turn::Middle;
        if page.at_end {
            if checksums == Checksums::Sent {
                message = Message { crc: self.crc, ..message.with_flags(Flags::CRC) };
            }
            match self.phase {
                Phase::Whole => self.turn_to_paxos(),
                Phase::Paxos => {
                    self.turn = Turn::Last;
                    message = message.with_flags(Flags::LAST);
                }
            }
        }
        message
    }
}

impl Machine for Provider {
    type Input = ProviderInput;
    type Output = ProviderOutput;

    fn handle(&mut self, now: Instant, input: ProviderInput) {
        match input {
            ProviderInput::Message { from, message } => match message.op {
                Op::StartChunks => self.start(now, from, &message),
                Op::ChunkReply => self.replied(now, &from, &message),
                Op::Abort => self.forget(&key(&from)),
                // Meant for another role.
                Op::Start
                | Op::StartReply
                | Op::Heartbeat
                | Op::HeartbeatReply
                | Op::Finish
                | Op::Chunk
                | Op::FinishReply => {}
            },
            ProviderInput::Store(answer) => self.store_answered(now, answer),
            ProviderInput::Suspend => {
                while let Some(key) = self.copies.keys().next().cloned() {
                    self.forget(&key);
                }
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let expired = |copy: &Copy| copy.expiry.deadline().is_some_and(|deadline| deadline <= now);
        while let Some(key) = self.copies.iter().find(|(_, copy)| expired(copy)).map(|(key, _)| key.clone()) {
            self.forget(&key);
        }
    }

    fn poll_output(&mut self) -> Option<ProviderOutput> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Timer::earliest(self.copies.values().map(|copy| copy.expiry))
    }
}
