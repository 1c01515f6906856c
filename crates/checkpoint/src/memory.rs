use alloc::sync::Arc;
use alloc::vec::Vec;

use cuttlebone_machine::Instant;

use crate::checkpoint::{Line, body_bytes};
use crate::cursor::Role;
use crate::slots::{Place, Slot};
use crate::{ChangeLog, CursorId, Droppable, Error, Freed, Seqno};

/// What relief gave up.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that only this crate makes")]
pub struct Relief {
    /// Mutations that all cursors had read, taken out of the oldest checkpoint.
    pub expelled: u64,
    /// Names of the cursors that were dropped.
    pub dropped: Vec<Arc<str>>,
    /// Drop it after the lock.
    pub freed: Freed,
}

impl ChangeLog {
    /// Gives up what is not needed, until memory is below `goal` bytes or nothing more can be given up: closes the open
    /// checkpoint if everybody has read it, expels what everybody has read of the oldest one, drops droppable
    /// cursors that stand before persistence, oldest first.
    ///
    /// [`queue`](Self::queue) does it by itself near the memory limit.
    pub fn relieve(&mut self, now: Instant, goal: usize) -> Relief {
        let mut relief = Relief { expelled: 0, dropped: Vec::new(), freed: Freed::default() };
        if self.memory() > goal && self.is_read_by_all() {
            self.roll(now);
        }
        if self.memory() > goal {
            relief.expelled += self.expel();
        }
        while self.memory() > goal
            && let Some(id) = self.next_to_drop()
        {
            relief.dropped.extend(self.cursors.get(id).map(|cursor| Arc::clone(&cursor.name)));
            self.remove(id);
            self.detach();
            relief.expelled += self.expel();
        }
        relief.freed = self.freed();
        relief
    }

    /// Takes the mutations that every cursor has read out of the oldest checkpoint, and tells how many.
    ///
    /// A seqno is never split: a meta-item goes only with the mutation after it.
    pub fn expel(&mut self) -> u64 {
        let (head, is_open) = (self.head, self.list.len() == 1);
        let read = self.cursors.iter().filter(|c| c.at.ordinal == head).map(|c| c.at.place).min();
        let Some(oldest) = self.list.front_mut() else { return 0 };
        let read = read.unwrap_or(oldest.slots.end());
        let mut boundary: Option<(Place, Seqno)> = None;
        for (place, slot) in oldest.slots.iter_from(Place::FIRST).take_while(|(place, _)| *place < read) {
            if let Slot::Item(item) = slot {
                boundary = Some((place.next(), item.seqno()));
            }
        }
        let Some((to, seqno)) = boundary else { return 0 };
        let before = oldest.bytes();
        let (mut gone, mut bytes) = (Line::default(), 0);
        oldest.slots.expel_before(to, |slot| {
            gone += Line::of(&slot);
            bytes += body_bytes(&slot);
        });
        oldest.line += gone;
        oldest.len -= gone;
        oldest.bodies -= bytes;
        oldest.floor = seqno;
        if is_open {
            self.index.forget_before(to);
        } else {
            self.closed_bytes -= before - oldest.bytes();
        }
        gone.mutations
    }

    /// The cursors that relief may drop, the one furthest behind first.
    pub fn droppable(&self) -> Vec<CursorId> {
        let wall = self.guard().map_or(self.open_ordinal(), |guard| guard.at.ordinal);
        let behind =
            |c: &&crate::cursor::Cursor| c.role == Role::Replication(Droppable::Yes) && c.at.ordinal < wall;
        let mut list: Vec<_> =
            self.cursors.iter().filter(behind).map(|c| (c.at.ordinal, c.at.place, c.id)).collect();
        list.sort_unstable();
        list.into_iter().map(|(.., id)| id).collect()
    }

    fn next_to_drop(&self) -> Option<CursorId> {
        self.droppable().first().copied()
    }

    fn is_read_by_all(&self) -> bool {
        let end = self.open().line_end();
        self.role == crate::Role::Active
            && self.open().len.mutations > 0
            && self.cursors.iter().all(|cursor| cursor.at.line == end)
    }

    /// Makes room for `bytes` more, or refuses them.
    pub(crate) fn admit(&mut self, now: Instant, bytes: usize) -> Result<(), Error> {
        let used = self.memory() + bytes;
        let (high, limit) = (self.limits.memory_high(), self.limits.memory_max);
        if used < high {
            self.relieve_at = high;
            return Ok(());
        }
        if used < self.relieve_at {
            return Ok(());
        }
        drop(self.relieve(now, self.limits.memory_low()));
        // If that brought little, the next attempt waits until a thirty-second part more is used.
        self.relieve_at = (self.memory() + limit / 32).clamp(high, limit);
        let bytes = self.memory() + bytes;
        if bytes > limit { Err(Error::Full { bytes, limit }) } else { Ok(()) }
    }
}
