use alloc::vec::Vec;
use core::task::{Context, Poll};

use crate::batch::Part;
use crate::checkpoint::Line;
use crate::cursor::{Position, Role};
use crate::{Batch, ChangeLog, CheckpointId, CheckpointKind, CursorId, Error, FetchLimit, Seqno, Stop};

impl ChangeLog {
    /// Reads on from a replication cursor. An empty batch says that there is nothing new.
    ///
    /// Takes time for the chunks, not for the items: one reference count for each 32 of them.
    ///
    /// # Errors
    ///
    /// [`Error::CursorGone`] if the cursor was dropped, replaced or removed.
    pub fn fetch(&mut self, id: CursorId, limit: FetchLimit) -> Result<Batch, Error> {
        let cursor = self.cursors.get(id).ok_or(Error::CursorGone)?;
        if !matches!(cursor.role, Role::Replication(_)) {
            return Err(Error::Misuse("persistence is served by take"));
        }
        Ok(if self.open().id == CheckpointId(0) {
            // Being backfilled ourselves: what is here is no consistent point yet.
            self.nothing(cursor.at)
        } else {
            self.read(id, limit)
        })
    }

    /// As [`fetch`](Self::fetch), but pending instead of empty; the task is woken when there is more, or when the
    /// cursor is gone.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    ///
    /// # Cancel safety
    ///
    /// Nothing is read unless it is returned.
    pub fn poll_fetch(
        &mut self,
        cx: &mut Context<'_>,
        id: CursorId,
        limit: FetchLimit,
    ) -> Poll<Result<Batch, Error>> {
        let batch = self.fetch(id, limit)?;
        if !batch.is_empty() {
            return Poll::Ready(Ok(batch));
        }
        if let Some(cursor) = self.cursors.get_mut(id)
            && cursor.waker.replace(cx.waker().clone()).is_none()
        {
            self.waiting += 1;
        }
        Poll::Pending
    }

    /// Everything up to this was read by a cursor that stands at `at`.
    pub(crate) fn through(&self, at: Position) -> Seqno {
        let rest = self
            .list
            .iter()
            .skip(usize::try_from(at.ordinal.saturating_sub(self.head)).unwrap_or(usize::MAX));
        for (checkpoint, from) in rest.zip([at.place]) {
            if let Some((_, next)) = checkpoint.slots.iter_from(from).next() {
                return next.seqno().map_or(self.last, Seqno::previous);
            }
        }
        self.last
    }

    fn nothing(&self, at: Position) -> Batch {
        Batch {
            parts: Vec::new(),
            ranges: Vec::new(),
            kind: CheckpointKind::Memory,
            through: self.through(at),
            len: 0,
            mutations: 0,
            more: false,
            freed: crate::Freed::default(),
        }
    }

    /// Reads on from any cursor, and moves it.
    pub(crate) fn read(&mut self, id: CursorId, limit: FetchLimit) -> Batch {
        let Some(cursor) = self.cursors.get_mut(id) else { return self.nothing(self.begin_of(self.head)) };
        cursor.fetches += 1;
        let wall = if cursor.role == Role::Persistence { self.update.barrier_ordinal() } else { None };
        let mut at = cursor.at;
        let mut batch = self.nothing(at);
        let mut bytes = 0;
        while self.enters(at, wall, &batch, bytes, limit) {
            let last = self.last;
            let Some(checkpoint) = self.checkpoint_mut(at.ordinal) else { break };
            batch.kind = checkpoint.kind;
            batch.ranges.push(checkpoint.range(last));
            bytes += checkpoint.bytes();
            let rest = checkpoint.line_end() - at.line;
            let wanted = limit.elements - batch.len;
            let (taken, to) = if limit.stop == Stop::Anywhere && rest.elements > wanted {
                let taken =
                    checkpoint.slots.iter_from(at.place).take(usize::try_from(wanted).unwrap_or(usize::MAX));
                let (line, last) = taken.fold((Line::default(), at.place), |(line, _), (place, slot)| {
                    (line + Line::of(slot), place)
                });
                (line, Some(last.next()))
            } else {
                (rest, None)
            };
            let parts = &mut batch.parts;
            checkpoint.slots.share(at.place, to, |chunk, from, to| parts.push(Part { chunk, from, to }));
            batch.len += taken.elements;
            batch.mutations += taken.mutations;
            let (closed, place) = (checkpoint.closed, to.unwrap_or(checkpoint.slots.end()));
            at = if closed && to.is_none() {
                self.begin_of(at.ordinal + 1)
            } else {
                Position { place, line: at.line + taken, ..at }
            };
        }
        self.move_cursor(id, at);
        batch.through = self.through(at);
        batch.more = self.has_rest(at, wall);
        batch.freed = self.freed();
        batch
    }

    /// Whether there is anything to read at `at`, short of the wall.
    fn has_rest(&self, at: Position, wall: Option<u64>) -> bool {
        wall.is_none_or(|wall| at.ordinal < wall)
            && (at.ordinal < self.open_ordinal() || at.line != self.open().line_end())
    }

    /// Whether the checkpoint at `at` belongs to the batch.
    fn enters(
        &self,
        at: Position,
        wall: Option<u64>,
        batch: &Batch,
        bytes: usize,
        limit: FetchLimit,
    ) -> bool {
        let Some(checkpoint) = self.checkpoint(at.ordinal) else { return false };
        if !self.has_rest(at, wall) || batch.len >= limit.elements {
            return false;
        }
        // The first one is always taken. A disk checkpoint stays alone.
        batch.is_empty()
            || batch.kind == CheckpointKind::Memory
                && checkpoint.kind == CheckpointKind::Memory
                && bytes.saturating_add(checkpoint.bytes()) <= limit.bytes
    }
}
