use cuttlebone_machine::Instant;

use crate::values::NUMBER_MAX;
use crate::{ChangeLog, CheckpointId, CheckpointKind, Error, Item, Queued, Role, SnapshotRange};

impl ChangeLog {
    /// A producer's checkpoint begins, or goes on with more of it.
    ///
    /// A checkpoint without mutations takes the new id; otherwise it is closed and the next one opened.
    ///
    /// # Errors
    ///
    /// [`Error::Behind`] if the producer is at an older checkpoint, and ours has a mutation. [`Error::Contradiction`] if it changes the kind of
    /// the checkpoint, shortens its range, or begins at or below what we have. [`Error::Misuse`] on an active log.
    pub fn begin_snapshot(
        &mut self,
        now: Instant,
        id: CheckpointId,
        range: SnapshotRange,
        kind: CheckpointKind,
    ) -> Result<(), Error> {
        self.needs_replica()?;
        let (open, last) = (self.open(), self.last);
        let fresh = open.len.mutations == 0 && open.floor == last;
        let renames = fresh && !self.update.is_on();
        if id < open.id && !(renames && id > self.last_closed) {
            return Err(Error::Behind { got: id, open: open.id });
        }
        if range.end < range.start || id.0.max(range.end.0) > NUMBER_MAX {
            return Err(Error::Contradiction(id));
        }
        // A barrier keeps its start mark, so it is not renamed even when it is fresh.
        if id == open.id && (!fresh || self.update.is_on()) {
            if open.kind != kind || open.end.is_some_and(|end| range.end < end) {
                return Err(Error::Contradiction(id));
            }
            let open = self.open_mut();
            open.first = if fresh { range.start } else { open.first };
            open.end = Some(range.end);
            return Ok(());
        }
        if range.end < last || (range.end == last && range.start < last) {
            return Err(Error::Contradiction(id));
        }
        if renames {
            self.rename_open(now, id, kind);
        } else {
            self.roll_to(now, id, kind);
        }
        let open = self.open_mut();
        open.first = range.start;
        open.end = Some(range.end);
        Ok(())
    }

    /// A producer's checkpoint ends. The next one begins when the producer says so; until then it has the id after it.
    ///
    /// # Errors
    ///
    /// [`Error::Contradiction`] if another one is open.
    pub fn end_snapshot(&mut self, now: Instant, id: CheckpointId) -> Result<(), Error> {
        self.needs_replica()?;
        if self.open().id != id {
            return Err(Error::Contradiction(id));
        }
        self.roll(now);
        Ok(())
    }

    /// Appends a producer's mutation.
    ///
    /// # Errors
    ///
    /// [`Error::OutsideSnapshot`] if its seqno is not above the last one, or not in the announced range.
    /// [`Error::Full`] at the memory limit: the producer has to send it again later.
    pub fn queue_replica(&mut self, now: Instant, item: Item) -> Result<Queued, Error> {
        self.needs_replica()?;
        let (seqno, open) = (item.seqno(), self.open());
        let end = open.end.unwrap_or(self.last);
        if seqno <= self.last || seqno < open.first || seqno > end {
            return Err(Error::OutsideSnapshot { got: seqno, after: self.last, end });
        }
        self.admit(now, item.body_bytes())?;
        Ok(Queued { seqno, effect: self.append(now, seqno, item) })
    }

    /// Gives the open checkpoint another id. Cursors that have read its start read it again, with the right id.
    fn rename_open(&mut self, now: Instant, id: CheckpointId, kind: CheckpointKind) {
        let ordinal = self.open_ordinal();
        let (line, cursors, last) = (self.open().line, self.open().cursors, self.last);
        let mut fresh = crate::checkpoint::Checkpoint::new(id, kind, now, last, line);
        // States that came before the checkpoint's first mutation stay in it.
        let open = core::mem::take(&mut self.open_mut().slots);
        for (_, slot) in open.iter_from(crate::slots::Place::FIRST).skip(1) {
            fresh.push(slot.clone());
        }
        fresh.cursors = cursors;
        *self.open_mut() = fresh;
        let at = self.begin_of(ordinal);
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.at.ordinal == ordinal) {
            cursor.at = at;
        }
        self.wake();
    }

    pub(crate) fn needs_replica(&self) -> Result<(), Error> {
        match self.role {
            Role::Replica => Ok(()),
            Role::Active => Err(Error::Misuse("an active log decides about its checkpoints itself")),
        }
    }
}
