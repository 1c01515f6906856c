use core::task::Waker;
use std::collections::{HashMap, VecDeque};

use cuttlebone_checkpoint::{
    ChangeLog, CheckpointId, Durability, Item, LimitError, Op, Role, Seqno, SnapshotRange, Start, UpdateState,
};
use cuttlebone_machine::Instant;

use crate::bucket::Now;
use crate::document::Document;
use crate::history::{Branch, History};
use crate::operations::LOCKED_CAS;
use crate::persisted::{Undone, Waiters};
use crate::table::{Disk, Entry, Hold, Meta, Table};
use crate::{BucketLimits, Error};

/// Who serves a vbucket.
///
/// Source: `membase/ep-engine:vbucket.hh`, `vbucket_state_t`; the numbers are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every one of them is handled")]
pub enum VbucketState {
    /// Clients are served.
    Active,
    /// A producer is followed.
    Replica,
    /// Clients wait until it becomes active, or something else.
    Pending,
    /// Nobody is served.
    Dead,
}

impl VbucketState {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::Active => 1,
            Self::Replica => 2,
            Self::Pending => 3,
            Self::Dead => 4,
        }
    }

    /// The state with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Active),
            2 => Some(Self::Replica),
            3 => Some(Self::Pending),
            4 => Some(Self::Dead),
            _ => None,
        }
    }

    pub(crate) const fn role(self) -> Role {
        match self {
            Self::Replica => Role::Replica,
            Self::Active | Self::Pending | Self::Dead => Role::Active,
        }
    }
}

/// How far checkpoint ids jump at a start, so that none is given twice: replicas may have seen ids that the disk has not.
const RESTART_STRIDE: u64 = 1 << 20;
/// The same for CAS stamps.
const CAS_STRIDE: u64 = 1 << 32;

/// One partition. Everything of it changes under one lock, so table and log never disagree.
#[derive(Debug)]
pub(crate) struct Vbucket {
    pub(crate) id: u16,
    pub(crate) state: VbucketState,
    pub(crate) generation: u32,
    pub(crate) log: ChangeLog,
    pub(crate) table: Table,
    pub(crate) history: History,
    pub(crate) cas: u64,
    pub(crate) purged: Seqno,
    /// Deletions that are remembered, oldest first.
    pub(crate) tombstones: VecDeque<(Seqno, Box<[u8]>)>,
    /// How each key that hot reload touched was at its start; `None` for a key that was not there.
    pub(crate) window: HashMap<Box<[u8]>, Option<Meta>>,
    pub(crate) reverted: Option<(CheckpointId, Seqno, Seqno)>,
    /// The snapshot that a replica receives.
    pub(crate) snapshot: SnapshotRange,
    pub(crate) parked: Vec<Waker>,
    pub(crate) waiters: Waiters,
    /// Whether the document on the disk is not this one.
    pub(crate) unsaved: bool,
    pub(crate) limits: BucketLimits,
}

impl Vbucket {
    pub(crate) fn new(
        now: Now,
        id: u16,
        state: VbucketState,
        chance: &mut impl FnMut() -> u64,
        limits: BucketLimits,
    ) -> Result<Self, LimitError> {
        let document = Document {
            state,
            generation: u32::try_from(chance() >> 32).unwrap_or_default(),
            seqno: Seqno(0),
            checkpoint: CheckpointId(1),
            purged: Seqno(0),
            cas: 0,
            history: History::new(Branch { id: chance().max(1), from: Seqno(0) }),
            reverted: None,
            snapshot: SnapshotRange { start: Seqno(0), end: Seqno(0) },
        };
        Self::from_document(now, id, document, chance, limits)
    }

    /// A vbucket as its document says, without its keys.
    pub(crate) fn from_document(
        now: Now,
        id: u16,
        document: Document,
        chance: &mut impl FnMut() -> u64,
        limits: BucketLimits,
    ) -> Result<Self, LimitError> {
        let Document { state, generation, seqno, checkpoint, purged, cas, history, reverted, snapshot } =
            document;
        let checkpoint = match state.role() {
            Role::Active => CheckpointId(checkpoint.0 + RESTART_STRIDE),
            // A producer says which one it is.
            Role::Replica => CheckpointId(0),
        };
        let start = Start { checkpoint, seqno, role: state.role() };
        Ok(Self {
            id,
            state,
            generation,
            log: ChangeLog::new(now.at, start, Durability::Persisted, limits.log, chance())?,
            table: Table::default(),
            history,
            cas: cas.wrapping_add(CAS_STRIDE),
            purged,
            tombstones: VecDeque::new(),
            window: HashMap::new(),
            reverted,
            snapshot,
            parked: Vec::new(),
            waiters: Waiters::default(),
            unsaved: true,
            limits,
        })
    }

    pub(crate) fn document(&self, seqno: Seqno) -> Document {
        // A producer leaves out what it replaced later in the snapshot, so a part of one is no state that ever was. What is
        // written up to before the snapshot ends with a whole one.
        let SnapshotRange { start, end } = self.snapshot;
        let whole = SnapshotRange { start: seqno, end: seqno };
        let snapshot = if (start..end).contains(&seqno) { self.snapshot } else { whole };
        Document {
            snapshot,
            state: self.state,
            generation: self.generation,
            seqno,
            checkpoint: self.log.status().open,
            purged: self.purged,
            cas: self.cas,
            history: self.history.clone(),
            reverted: self.reverted,
        }
    }

    /// Whether a client's operation may go on.
    pub(crate) fn admit(&self) -> Result<(), Error> {
        match self.state {
            VbucketState::Replica | VbucketState::Dead => Err(Error::NotMyVbucket),
            VbucketState::Pending => Err(Error::Parked),
            VbucketState::Active if self.is_reverting() => Err(Error::Parked),
            VbucketState::Active => Ok(()),
        }
    }

    pub(crate) fn is_reverting(&self) -> bool {
        matches!(self.log.update_state(), UpdateState::Reverting { .. })
    }

    pub(crate) fn is_in_window(&self) -> bool {
        matches!(self.log.update_state(), UpdateState::On { .. })
    }

    /// Remembers who waits until [`admit`](Self::admit) says something else.
    pub(crate) fn park(&mut self, waker: &Waker) -> Result<(), Error> {
        if self.parked.iter().any(|parked| parked.will_wake(waker)) {
            return Ok(());
        }
        let limit = self.limits.parked_max;
        if self.parked.len() >= limit {
            return Err(Error::TooManyParked { limit });
        }
        self.parked.push(waker.clone());
        Ok(())
    }

    /// Everybody who waits tries again.
    pub(crate) fn unpark(&mut self) {
        self.parked.drain(..).for_each(Waker::wake);
    }

    /// Gives `item` its stamps, and puts it into log and table: both or neither.
    pub(crate) fn write(&mut self, now: Now, item: Item) -> Result<Meta, Error> {
        let old = self.table.look(item.key(), Entry::meta);
        self.make_room(item.body_bytes())?;
        // A producer may have given any.
        let revision = old.map_or(1, |meta| meta.revision.wrapping_add(1));
        let cas = self.next_cas();
        self.log.queue(now.at, item.with_cas(cas).with_revision(revision))?;
        self.cas = cas;
        self.applied(old)
    }

    /// A stamp that no key has. After the last one it goes on from the first, and leaves out those with a meaning: 0, and what
    /// readers of a held key see.
    const fn next_cas(&self) -> u64 {
        match self.cas.wrapping_add(1) {
            0 | LOCKED_CAS => 1,
            cas => cas,
        }
    }

    /// The log has a new mutation: now the table, and what hot reload has to know.
    pub(crate) fn applied(&mut self, old: Option<Meta>) -> Result<Meta, Error> {
        let item = self.log.newest().cloned().ok_or(Error::Misuse("the log has lost what it was given"))?;
        if self.is_in_window() && !self.window.contains_key(item.key()) {
            self.window.insert(item.key().into(), old);
        }
        let meta = Meta::of(&item);
        self.table.put(&item);
        Ok(meta)
    }

    /// In a window of hot reload, how the key is before it changes for the first time.
    fn remember(&mut self, key: &[u8]) {
        if self.is_in_window() && !self.window.contains_key(key) {
            let meta = self.table.look(key, Entry::meta);
            self.window.insert(key.into(), meta);
        }
    }

    fn make_room(&mut self, bytes: usize) -> Result<(), Error> {
        let max = self.limits.resident_bytes_max;
        if self.table.sums().resident_bytes + bytes > max {
            self.table.evict_to(max / 10 * 8);
            if self.table.sums().resident_bytes + bytes > max {
                return Err(Error::Temporary);
            }
        }
        Ok(())
    }

    /// Removes up to `limit` keys that are out of time, and tells whether there may be more. Replicas are told by their
    /// producer.
    pub(crate) fn expire_due(&mut self, now: Now, limit: usize) -> bool {
        if self.state != VbucketState::Active || self.is_reverting() {
            return false;
        }
        for _ in 0..limit {
            let Some(key) = self.table.overdue(now.unix).map(<[u8]>::to_vec) else { return false };
            // Memory is full: the next tick tries again, and whoever looks finds nothing either way.
            if self.expire(now, &key).is_err() {
                return false;
            }
        }
        true
    }

    /// A deletion on behalf of time.
    pub(crate) fn expire(&mut self, now: Now, key: &[u8]) -> Result<(), Error> {
        self.write(now, Item::new(Op::Delete, key, &[])?).map(drop)
    }

    /// The disk has `seqno` of `key` in `row` now.
    pub(crate) fn persisted(&mut self, key: &[u8], disk: Disk, deleted: bool) {
        let known = self.table.update(key, |entry| entry.disk = Some(disk)).is_some();
        if known && deleted {
            self.tombstones.push_back((disk.seqno, key.into()));
            if self.tombstones.len() > self.limits.tombstones_max
                && let Some((seqno, key)) = self.tombstones.pop_front()
            {
                let gone = |entry: &Entry| !entry.is_live() && entry.seqno() == seqno;
                if self.table.look(&key, gone) == Some(true) {
                    self.table.remove(&key);
                    self.purged = self.purged.max(seqno);
                    // On the disk before the deletion's row goes, also if nothing else happens here: a replica without it
                    // would be told of nothing.
                    self.unsaved = true;
                }
            }
        }
    }

    /// Forgets everything, as if nobody had ever written.
    pub(crate) fn reset(&mut self, now: Now, generation: u32, branch: Branch, keep_seqnos: bool) {
        let status = self.log.status();
        let last = if keep_seqnos { status.last_seqno } else { Seqno(0) };
        let checkpoint = match self.state.role() {
            Role::Active => CheckpointId(self.log.status().open.0 + 1),
            Role::Replica => CheckpointId(0),
        };
        let ids: Vec<_> = self.log.cursors().filter(|cursor| &*cursor.name != "persistence").collect();
        for cursor in ids {
            // What they have read is not a beginning of what will follow.
            let _ = self.log.unregister(cursor.id);
        }
        if keep_seqnos {
            let seqnos = (status.persisted.next(), last);
            let checkpoints = (CheckpointId(status.persisted_checkpoint.0 + 1), status.open);
            self.waiters.undo(Undone { seqnos, checkpoints });
        } else {
            self.waiters.forget();
        }
        drop(self.log.reset(now.at, Start { checkpoint, seqno: last, role: self.state.role() }));
        self.table.clear();
        self.tombstones.clear();
        self.window.clear();
        self.history.begin(branch);
        self.generation = generation;
        self.purged = last;
        self.snapshot = SnapshotRange { start: last, end: last };
        self.unsaved = true;
    }

    /// Whether somebody holds the key.
    pub(crate) fn is_locked(&self, key: &[u8], now: Instant) -> bool {
        let is_held = |entry: &Entry| entry.hold.as_ref().is_some_and(|hold| hold.until > now);
        self.table.look(key, is_held) == Some(true)
    }

    /// Lets nobody else change a key for a while, and gives it the stamp that its holder has to show.
    pub(crate) fn hold(&mut self, key: &[u8], until: Instant) -> u64 {
        self.remember(key);
        let cas = self.next_cas();
        self.cas = cas;
        self.table.update(key, |entry| entry.hold = Some(Box::new(Hold { until, cas })));
        cas
    }
}
