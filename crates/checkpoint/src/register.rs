use crate::checkpoint::{Checkpoint, Line};
use crate::cursor::{Position, Role};
use crate::slots::Place;
use crate::{
    CURSOR_NAME_BYTES_MAX, ChangeLog, CheckpointId, CursorId, CursorStatus, Droppable, Error, Freed, Seqno,
};

/// Where a new cursor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all the ways to name a position")]
pub enum Resume {
    /// After this mutation, which its owner has.
    After(Seqno),
    /// At the start of the checkpoint that follows this one, which its owner has completely.
    AfterCheckpoint(CheckpointId),
    /// At the oldest element in memory.
    Oldest,
    /// After everything: only what comes from now on.
    Now,
}

/// A cursor, and what its owner has to do first.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that only this crate makes")]
pub struct Registered {
    /// The cursor.
    pub cursor: CursorId,
    /// The first mutation that it will read, or would read if it came now.
    pub next: Seqno,
    /// Whether what lies between the wanted position and `next` is no longer in memory: read it from the store
    /// first, up to [`Status::persisted`](crate::Status::persisted) as of now, and skip what the cursor brings twice.
    pub backfill: bool,
    /// Whether it begins with the start of a checkpoint.
    pub at_start: bool,
    /// Drop it after the lock.
    pub freed: Freed,
}

impl ChangeLog {
    /// Adds a replication cursor, in place of an older one with the same name.
    ///
    /// # Errors
    ///
    /// [`Error::Ahead`] if the position is ahead of everything: it belongs to another history.
    /// [`Error::TooManyCursors`] at the limit. [`Error::Misuse`] if the name is empty or too long.
    pub fn register(&mut self, name: &str, droppable: Droppable, from: Resume) -> Result<Registered, Error> {
        if name.is_empty() || name.len() > CURSOR_NAME_BYTES_MAX {
            return Err(Error::Misuse("a cursor's name has 1 to 200 bytes"));
        }
        let old = self.cursors.named(name).map(|cursor| cursor.id);
        // One place is kept for the guard of a flush.
        if old.is_none() && self.cursors.len() + 1 >= self.limits.cursors_max {
            return Err(Error::TooManyCursors { limit: self.limits.cursors_max });
        }
        let (at, backfill) = self.locate(from)?;
        let cursor = self.cursors.add(name.into(), Role::Replication(droppable), at);
        self.enter(at.ordinal);
        // The new one first: removing the old one may free the very checkpoint that is entered.
        if let Some(old) = old {
            self.remove(old);
        }
        let next = self.next_mutation(at);
        Ok(Registered { cursor, next, backfill, at_start: at.place == Place::FIRST, freed: self.freed() })
    }

    /// Removes a replication cursor. Its place in memory is free at once.
    ///
    /// # Errors
    ///
    /// [`Error::CursorGone`] if there is none.
    pub fn unregister(&mut self, id: CursorId) -> Result<Freed, Error> {
        match self.cursors.get(id) {
            Some(cursor) if matches!(cursor.role, Role::Replication(_)) => {
                self.remove(id);
                Ok(self.freed())
            }
            _ => Err(Error::CursorGone),
        }
    }

    /// Every cursor, persistence and the guard of a flush included, oldest first.
    pub fn cursors(&self) -> impl Iterator<Item = CursorStatus> {
        let mut ids: alloc::vec::Vec<_> = self.cursors.iter().map(|cursor| cursor.id).collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.cursor(id))
    }

    /// One cursor.
    pub fn cursor(&self, id: CursorId) -> Option<CursorStatus> {
        let cursor = self.cursors.get(id)?;
        let rest = self.open().line_end() - cursor.at.line;
        Some(CursorStatus {
            id,
            name: alloc::sync::Arc::clone(&cursor.name),
            checkpoint: self.checkpoint(cursor.at.ordinal)?.id,
            seqno: self.through(cursor.at),
            remaining: rest.elements,
            remaining_mutations: rest.mutations,
            fetches: cursor.fetches,
        })
    }

    pub(crate) fn remove(&mut self, id: CursorId) {
        if let Some(cursor) = self.cursors.remove(id) {
            self.leave(cursor.at.ordinal);
            if let Some(waker) = cursor.waker {
                self.waiting -= 1;
                waker.wake();
            }
        }
    }

    fn locate(&self, from: Resume) -> Result<(Position, bool), Error> {
        Ok(match from {
            Resume::Oldest => (self.begin_of(self.head), false),
            Resume::Now => (self.end_of_open(), false),
            Resume::After(seqno) if seqno > self.last => {
                return Err(Error::Ahead { got: seqno, last: self.last });
            }
            Resume::After(seqno) => self.after(seqno),
            Resume::AfterCheckpoint(id) => self.after_checkpoint(id),
        })
    }

    pub(crate) fn end_of_open(&self) -> Position {
        let open = self.open();
        Position { ordinal: self.open_ordinal(), place: open.slots.end(), line: open.line_end() }
    }

    fn after_checkpoint(&self, id: CheckpointId) -> (Position, bool) {
        let wanted = CheckpointId(id.0.saturating_add(1));
        let found = self.list.iter().zip(self.head..).find(|(checkpoint, _)| checkpoint.id == wanted);
        match found {
            Some((checkpoint, ordinal)) => {
                let whole = ordinal > self.head || checkpoint.floor == checkpoint.first.previous();
                (self.begin_of(ordinal), !whole)
            }
            None => (self.begin_of(self.open_ordinal()), true),
        }
    }

    /// The checkpoint with the first thing to deliver after `seqno`, and the place in it. A checkpoint that was read
    /// to its last mutation is not entered, so that nobody holds it.
    fn after(&self, seqno: Seqno) -> (Position, bool) {
        let backfill = self.list.front().is_some_and(|head| seqno < head.floor);
        for (checkpoint, ordinal) in self.list.iter().zip(self.head..) {
            let later = |slot: &crate::slots::Slot| slot.seqno().is_some_and(|at| at > seqno);
            let delivers = !checkpoint.closed
                || checkpoint.slots.iter_from(Place::FIRST).any(|(_, slot)| slot.is_content() && later(slot));
            if delivers {
                return (position_after(checkpoint, ordinal, seqno), backfill);
            }
        }
        (self.end_of_open(), backfill)
    }

    fn next_mutation(&self, at: Position) -> Seqno {
        for (checkpoint, ordinal) in self.list.iter().zip(self.head..).filter(|(_, o)| *o >= at.ordinal) {
            let from = if ordinal == at.ordinal { at.place } else { Place::FIRST };
            let mut rest = checkpoint.slots.iter_from(from);
            if let Some(seqno) = rest.find_map(|(_, slot)| match slot {
                crate::slots::Slot::Item(item) => Some(item.seqno()),
                _ => None,
            }) {
                return seqno;
            }
        }
        self.last.next()
    }
}

fn position_after(checkpoint: &Checkpoint, ordinal: u64, seqno: Seqno) -> Position {
    let mut line = checkpoint.line;
    for (place, slot) in checkpoint.slots.iter_from(Place::FIRST) {
        if slot.seqno().is_some_and(|at| at > seqno) {
            return Position { ordinal, place, line };
        }
        line += Line::of(slot);
    }
    Position { ordinal, place: checkpoint.slots.end(), line }
}
