use alloc::collections::VecDeque;
use alloc::vec::Vec;

use cuttlebone_machine::Instant;

use crate::checkpoint::{Checkpoint, Line, body_bytes};
use crate::cursor::{Cursor, Cursors, Position, Role as CursorRole};
use crate::index::KeyIndex;
use crate::persist::Flushing;
use crate::slots::{Place, Slot};
use crate::update::Update;
use crate::{
    CheckpointId, CheckpointKind, CheckpointStatus, CursorId, Durability, Effect, Error, Freed, Item,
    LimitError, Limits, Marker, Queued, Role, Seqno, Start, Status,
};

/// An ordered, de-duplicating log of the mutations of one partition.
///
/// A plain data structure: put it behind a lock of your own, and build items before and drop batches after that lock.
#[derive(Debug)]
pub struct ChangeLog {
    pub(crate) limits: Limits,
    pub(crate) role: Role,
    pub(crate) durability: Durability,
    pub(crate) list: VecDeque<Checkpoint>,
    /// The ordinal of the first checkpoint in `list`.
    pub(crate) head: u64,
    pub(crate) index: KeyIndex,
    pub(crate) cursors: Cursors,
    pub(crate) last: Seqno,
    pub(crate) last_closed: CheckpointId,
    pub(crate) persisted: Seqno,
    pub(crate) flushing: Option<Flushing>,
    pub(crate) flushes: u64,
    pub(crate) update: Update,
    /// Memory of all checkpoints but the open one.
    pub(crate) closed_bytes: usize,
    /// Memory at which relief is tried again, after it brought too little.
    pub(crate) relieve_at: usize,
    /// What `queue` freed, until somebody outside the lock can drop it.
    pub(crate) garbage: Vec<Checkpoint>,
    /// Mutations that took the place of an older one.
    pub(crate) replaced: u64,
    /// How many cursors have a waker.
    pub(crate) waiting: usize,
}

impl ChangeLog {
    /// A log with nothing in it. `seed` keeps clients from choosing keys that collide; take it from a random source.
    ///
    /// # Errors
    ///
    /// If a limit is outside its range.
    pub fn new(
        now: Instant,
        start: Start,
        durability: Durability,
        limits: Limits,
        seed: u64,
    ) -> Result<Self, LimitError> {
        limits.check()?;
        let mut log = Self {
            limits,
            role: start.role,
            durability,
            list: VecDeque::new(),
            head: 0,
            index: KeyIndex::new(seed),
            cursors: Cursors::default(),
            last: start.seqno,
            last_closed: CheckpointId(start.checkpoint.0.saturating_sub(1)),
            persisted: start.seqno,
            flushing: None,
            flushes: 0,
            replaced: 0,
            update: Update::Off,
            closed_bytes: 0,
            relieve_at: limits.memory_high(),
            garbage: Vec::new(),
            waiting: 0,
        };
        log.list.push_back(Checkpoint::new(
            start.checkpoint,
            CheckpointKind::Memory,
            now,
            start.seqno,
            Line::default(),
        ));
        if durability == Durability::Persisted {
            let at = log.begin_of(0);
            log.cursors.add("persistence".into(), CursorRole::Persistence, at);
            log.enter(0);
        }
        Ok(log)
    }

    /// Appends a mutation, and closes the open checkpoint first if it has reached a limit.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] at the memory limit; [`Error::Misuse`] on a replica, whose mutations have seqnos.
    pub fn queue(&mut self, now: Instant, item: Item) -> Result<Queued, Error> {
        if self.role == Role::Replica {
            return Err(Error::Misuse("a replica is given mutations with their seqnos"));
        }
        self.admit(now, item.body_bytes())?;
        self.close_if_due(now);
        let seqno = self.last.next();
        Ok(Queued { seqno, effect: self.append(now, seqno, item) })
    }

    /// Appends the new state of the partition in the order of mutations.
    pub fn queue_state(&mut self, document: alloc::sync::Arc<[u8]>) {
        self.mark(Marker::State(document));
    }

    /// Closes the open checkpoint and opens the next, if it has a mutation.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] on a replica, whose producer decides.
    pub fn close_checkpoint(&mut self, now: Instant) -> Result<CheckpointId, Error> {
        if self.role == Role::Replica {
            return Err(Error::Misuse("checkpoints of a replica are its producer's"));
        }
        if self.open().len.mutations > 0 {
            self.roll(now);
        }
        Ok(self.open().id)
    }

    /// Does what is due: closes a checkpoint that is old enough. Call it about once a second.
    pub fn tick(&mut self, now: Instant) {
        if self.role == Role::Active {
            self.close_if_due(now);
        }
    }

    /// Changes who decides about checkpoints and seqnos.
    pub fn set_role(&mut self, now: Instant, role: Role) {
        let open = self.open();
        let foreign = open.kind == CheckpointKind::Disk || open.id == CheckpointId(0);
        if self.role != role && role == Role::Active && foreign {
            self.roll(now);
        }
        self.role = role;
        self.open_mut().end = None;
    }

    /// Who decides about checkpoints and seqnos.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The mutation that was queued last, if it is in memory: with its stamps, and sharing its bytes.
    pub fn newest(&self) -> Option<&Item> {
        self.open().slots.last().and_then(|slot| match slot {
            Slot::Item(item) => Some(item),
            Slot::Vacant | Slot::Marker(_) => None,
        })
    }

    /// The last seqno that was given.
    pub const fn last_seqno(&self) -> Seqno {
        self.last
    }

    /// Memory in bytes: items, places, index. What batches hold is theirs.
    pub fn memory(&self) -> usize {
        self.closed_bytes + self.open().bytes() + self.index.bytes()
    }

    /// The figures, in constant time.
    pub fn status(&self) -> Status {
        let open = self.open();
        let in_memory = open.line_end() - self.list.front().map_or(open.line, |head| head.line);
        Status {
            open: open.id,
            last_closed: self.last_closed,
            checkpoints: self.list.len(),
            elements: in_memory.elements,
            mutations: in_memory.mutations,
            open_elements: open.len.elements,
            last_seqno: self.last,
            persisted: self.persisted,
            persisted_checkpoint: self.persisted_checkpoint(),
            unpersisted: self.guard().map_or(0, |cursor| (open.line_end() - cursor.at.line).mutations),
            memory: self.memory(),
            cursors: self.cursors.len(),
            replaced: self.replaced,
        }
    }

    /// The checkpoints in memory, the oldest first; the last one is open.
    pub fn checkpoints(&self) -> impl Iterator<Item = CheckpointStatus> {
        self.list.iter().map(|checkpoint| CheckpointStatus {
            id: checkpoint.id,
            first: checkpoint.first,
            last: checkpoint.end.filter(|_| checkpoint.closed).unwrap_or(self.last),
            mutations: checkpoint.len.mutations,
            created: checkpoint.created,
            is_open: !checkpoint.closed,
        })
    }

    /// The checkpoint before the one in which persistence stands.
    fn persisted_checkpoint(&self) -> CheckpointId {
        let guard = self.guard().and_then(|guard| self.checkpoint(guard.at.ordinal));
        guard.map_or(self.last_closed, |checkpoint| CheckpointId(checkpoint.id.0.saturating_sub(1)))
    }

    /// Forgets everything and begins anew, as after a rollback or when a partition is reset.
    ///
    /// All cursors stand at the beginning then, hot reload is off, and a flush that was under way cannot commit.
    pub fn reset(&mut self, now: Instant, start: Start) -> Freed {
        let line = self.open().line_end();
        let old = core::mem::take(&mut self.list);
        let ordinal = self.head + old.len() as u64;
        self.head = ordinal;
        self.role = start.role;
        self.last = start.seqno;
        self.persisted = start.seqno;
        self.last_closed = CheckpointId(start.checkpoint.0.saturating_sub(1));
        self.update = Update::Off;
        self.closed_bytes = 0;
        self.relieve_at = self.limits.memory_high();
        self.index.clear(0);
        self.list.push_back(Checkpoint::new(
            start.checkpoint,
            CheckpointKind::Memory,
            now,
            start.seqno,
            line,
        ));
        if self.flushing.take().is_some()
            && let Some(backup) = self.cursors.with_role(CursorRole::Backup).map(|cursor| cursor.id)
        {
            self.cursors.remove(backup);
        }
        let at = self.begin_of(ordinal);
        for cursor in self.cursors.iter_mut() {
            cursor.at = at;
        }
        let count = self.cursors.len();
        self.open_mut().cursors = count;
        self.wake();
        Freed(old.into_iter().chain(self.garbage.drain(..)).collect())
    }

    pub(crate) fn open(&self) -> &Checkpoint {
        self.list.back().expect("the list is never empty")
    }

    pub(crate) fn open_mut(&mut self) -> &mut Checkpoint {
        self.list.back_mut().expect("the list is never empty")
    }

    pub(crate) fn open_ordinal(&self) -> u64 {
        self.head + self.list.len() as u64 - 1
    }

    pub(crate) fn checkpoint(&self, ordinal: u64) -> Option<&Checkpoint> {
        self.list.get(usize::try_from(ordinal.checked_sub(self.head)?).ok()?)
    }

    pub(crate) fn checkpoint_mut(&mut self, ordinal: u64) -> Option<&mut Checkpoint> {
        self.list.get_mut(usize::try_from(ordinal.checked_sub(self.head)?).ok()?)
    }

    /// The position before the first element of a checkpoint.
    pub(crate) fn begin_of(&self, ordinal: u64) -> Position {
        let line = self.checkpoint(ordinal).map_or(self.open().line_end(), |checkpoint| checkpoint.line);
        Position { ordinal, place: Place::FIRST, line }
    }

    /// The cursor behind which nothing is needed for persistence: the guard of a flush, else persistence itself.
    pub(crate) fn guard(&self) -> Option<&Cursor> {
        let backup = self.cursors.with_role(CursorRole::Backup);
        backup.or_else(|| self.cursors.with_role(CursorRole::Persistence))
    }

    pub(crate) fn persistence(&self) -> Option<CursorId> {
        self.cursors.with_role(CursorRole::Persistence).map(|cursor| cursor.id)
    }

    /// Puts an item at the end, in place of an older one of its key.
    pub(crate) fn append(&mut self, now: Instant, seqno: Seqno, mut item: Item) -> Effect {
        self.last = seqno;
        let Some(open) = self.list.back_mut() else { return Effect::New };
        let place = open.slots.reserve();
        let old = if open.kind == CheckpointKind::Disk {
            None
        } else {
            let slots = &open.slots;
            let is_key = |place| matches!(slots.get(place), Some(Slot::Item(at)) if at.key() == item.key());
            self.index.put(item.key(), place, is_key)
        };
        let effect = match old {
            None => {
                item.stamp(seqno, now);
                open.push(Slot::Item(item));
                Effect::New
            }
            Some(old) => {
                self.replaced = self.replaced.saturating_add(1);
                self.replace(now, seqno, old, item)
            }
        };
        if self.waiting > 0 {
            self.wake();
        }
        effect
    }

    /// Vacates `old` and appends `item`. Cursors that have read the old element have one more to read again.
    fn replace(&mut self, now: Instant, seqno: Seqno, old: Place, mut item: Item) -> Effect {
        let ordinal = self.open_ordinal();
        let mut effect = Effect::Existing;
        for cursor in self.cursors.iter_mut() {
            if cursor.at.ordinal == ordinal && cursor.at.place > old {
                cursor.at.line -= Line { elements: 1, mutations: 1 };
                if cursor.role == CursorRole::Persistence {
                    effect = Effect::PersistAgain;
                }
            }
        }
        let open = self.open_mut();
        let vacated = open.slots.vacate(old);
        open.bodies -= body_bytes(&vacated);
        open.len -= Line::of(&vacated);
        let queued_at = match (effect, &vacated) {
            // What persistence has not read yet waits since the key's first mutation.
            (Effect::Existing, Slot::Item(before)) => before.queued_at(),
            _ => now,
        };
        item.stamp(seqno, queued_at);
        open.push(Slot::Item(item));
        let live = usize::try_from(open.len.elements).unwrap_or(usize::MAX);
        if open.slots.is_sparse(live) {
            self.squeeze();
        }
        effect
    }

    /// Closes the holes of the open checkpoint. Amortised over the overwrites that made them, one move each.
    fn squeeze(&mut self) {
        let ordinal = self.open_ordinal();
        let moved = self.open_mut().slots.squeeze();
        self.index.follow(&moved);
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.at.ordinal == ordinal) {
            cursor.at.place = moved.to(cursor.at.place);
        }
    }

    /// Appends a meta-item.
    pub(crate) fn mark(&mut self, marker: Marker) {
        let seqno = self.last.next();
        self.open_mut().push(Slot::marker(seqno, marker));
        self.wake();
    }

    fn close_if_due(&mut self, now: Instant) {
        let open = self.open();
        let count = open.len.mutations >= self.limits.items_max as u64;
        let age = now.since(open.created) >= self.limits.age_max;
        if open.len.mutations > 0 && (count || age || open.bytes() >= self.limits.checkpoint_bytes_max) {
            self.roll(now);
        }
    }

    /// Closes the open checkpoint and opens the next one.
    pub(crate) fn roll(&mut self, now: Instant) {
        let next = CheckpointId(self.open().id.0 + 1);
        self.roll_to(now, next, CheckpointKind::Memory);
    }

    /// Closes the open checkpoint and opens `id`. Cursors that have read everything move on without its end mark.
    pub(crate) fn roll_to(&mut self, now: Instant, id: CheckpointId, kind: CheckpointKind) {
        let (ordinal, last) = (self.open_ordinal(), self.last);
        let open = self.open_mut();
        let finished = open.line_end();
        let ended = Marker::End(open.id);
        let closed_id = open.id;
        open.push(Slot::marker(last.next(), ended));
        open.slots.finish();
        open.closed = true;
        // A producer's announcement stands, so that a consumer of ours can tell an unfinished snapshot.
        open.end = open.end.or(Some(last));
        let (line, bytes, count) = (open.line_end(), open.bytes(), open.len.mutations);
        self.closed_bytes += bytes;
        self.last_closed = closed_id;
        self.index.clear(usize::try_from(count).unwrap_or(usize::MAX));
        self.list.push_back(Checkpoint::new(id, kind, now, last, line));
        let at = self.begin_of(ordinal + 1);
        let mut moved = 0;
        for cursor in self.cursors.iter_mut().filter(|c| c.at.ordinal == ordinal && c.at.line == finished) {
            cursor.at = at;
            moved += 1;
        }
        if let Some(closed) = self.checkpoint_mut(ordinal) {
            closed.cursors -= moved;
        }
        self.open_mut().cursors += moved;
        // Whoever holds the lock now is a writer: it drops at most what the previous call left behind.
        self.garbage.clear();
        self.detach();
        self.wake();
    }

    /// Moves checkpoints that nobody needs from the front of the list to the garbage.
    pub(crate) fn detach(&mut self) {
        while let Some(head) = self.list.front()
            && head.closed
            && head.cursors == 0
        {
            self.closed_bytes -= head.bytes();
            self.garbage.extend(self.list.pop_front());
            self.head += 1;
        }
    }

    /// Everything that was detached, for the caller to drop.
    pub(crate) fn freed(&mut self) -> Freed {
        self.detach();
        Freed(core::mem::take(&mut self.garbage))
    }

    pub(crate) fn enter(&mut self, ordinal: u64) {
        if let Some(checkpoint) = self.checkpoint_mut(ordinal) {
            checkpoint.cursors += 1;
        }
    }

    pub(crate) fn leave(&mut self, ordinal: u64) {
        if let Some(checkpoint) = self.checkpoint_mut(ordinal) {
            checkpoint.cursors -= 1;
        }
    }

    /// Moves a cursor; the only way in which one changes its checkpoint outside `roll_to` and `reset`.
    pub(crate) fn move_cursor(&mut self, id: CursorId, to: Position) {
        if let Some(cursor) = self.cursors.get_mut(id) {
            let from = core::mem::replace(&mut cursor.at, to).ordinal;
            self.enter(to.ordinal);
            self.leave(from);
        }
    }

    /// Tells everybody who waits.
    pub(crate) fn wake(&mut self) {
        if self.waiting > 0 {
            self.waiting = 0;
            for waker in self.cursors.iter_mut().filter_map(|cursor| cursor.waker.take()) {
                waker.wake();
            }
        }
    }
}
