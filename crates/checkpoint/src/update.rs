//! Hot reload: hold persistence back, then keep or revert what happened meanwhile.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use cuttlebone_machine::Instant;

use crate::batch::Part;
use crate::cursor::Position;
use crate::slots::Place;
use crate::values::NUMBER_MAX;
use crate::{
    Batch, ChangeLog, CheckpointId, CheckpointKind, Durability, Error, Freed, Item, Marker, Role, Seqno,
};

/// Where hot reload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the states are all there are; see the diagram in docs/protocols"
)]
pub enum UpdateState {
    /// Mutations are persisted as they come.
    Off,
    /// Nothing from the barrier on is persisted.
    On {
        /// The checkpoint that holds the start mark.
        barrier: CheckpointId,
        /// The first seqno of the window.
        first: Seqno,
    },
    /// The owner undoes the window.
    Reverting {
        /// The checkpoint that held the start mark.
        barrier: CheckpointId,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Update {
    Off,
    On { barrier: CheckpointId, ordinal: u64, first: Seqno },
    Reverting { barrier: CheckpointId },
}

impl Update {
    pub(crate) const fn is_on(&self) -> bool {
        matches!(self, Self::On { .. })
    }

    /// The checkpoint that persistence does not enter.
    pub(crate) const fn barrier_ordinal(&self) -> Option<u64> {
        match self {
            Self::On { ordinal, .. } => Some(*ordinal),
            Self::Off | Self::Reverting { .. } => None,
        }
    }
}

/// What a revert has to undo: exactly what lies between the start mark and the revert mark.
#[derive(Debug)]
#[must_use]
pub struct Window {
    barrier: CheckpointId,
    first: Seqno,
    last: Seqno,
    batch: Batch,
}

impl Window {
    /// The checkpoint that held the start mark.
    pub const fn barrier(&self) -> CheckpointId {
        self.barrier
    }

    /// The first seqno of the window.
    pub const fn first(&self) -> Seqno {
        self.first
    }

    /// The last seqno of the window; below [`first`](Self::first) if nothing was written.
    pub const fn last(&self) -> Seqno {
        self.last
    }

    /// Every mutation of the window that is left after de-duplication, in order.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.batch.items()
    }

    /// The last mutation of each key.
    pub fn newest_per_key(&self) -> BTreeMap<&[u8], &Item> {
        self.items().map(|item| (item.key(), item)).collect()
    }
}

impl ChangeLog {
    /// Where hot reload is.
    pub const fn update_state(&self) -> UpdateState {
        match self.update {
            Update::Off => UpdateState::Off,
            Update::On { barrier, first, .. } => UpdateState::On { barrier, first },
            Update::Reverting { barrier } => UpdateState::Reverting { barrier },
        }
    }

    /// Whether everything from before the window is committed, so that it could be reverted; true without a window.
    pub fn is_drained(&self) -> bool {
        match self.update {
            Update::On { ordinal, .. } => self.drained(ordinal).is_ok(),
            Update::Off | Update::Reverting { .. } => true,
        }
    }

    /// Opens a window: nothing that comes from now on is persisted until it is completed.
    ///
    /// # Errors
    ///
    /// [`Error::UpdateOn`], [`Error::Reverting`]; [`Error::Misuse`] on a replica or on a log that is not persisted.
    pub fn start_update(&mut self, now: Instant) -> Result<CheckpointId, Error> {
        self.needs_active()?;
        self.startable()?;
        self.roll(now);
        Ok(self.enter_window())
    }

    /// Closes the window and keeps everything: persistence goes on.
    ///
    /// # Errors
    ///
    /// [`Error::UpdateOff`], [`Error::Reverting`]; [`Error::Misuse`] on a replica.
    pub fn complete_update(&mut self, now: Instant) -> Result<(), Error> {
        self.needs_active()?;
        self.complete()?;
        self.roll(now);
        Ok(())
    }

    /// Ends the window and hands out what the owner has to undo before it calls
    /// [`finish_revert`](Self::finish_revert). Let no writer in between.
    ///
    /// # Errors
    ///
    /// [`Error::NotDrained`] until everything from before the start is committed: flush, and try again.
    /// [`Error::UpdateOff`], [`Error::Reverting`]; [`Error::Misuse`] on a replica.
    pub fn begin_revert(&mut self, now: Instant) -> Result<Window, Error> {
        self.needs_active()?;
        let mut window = self.revert()?;
        self.roll(now);
        window.batch.freed = self.freed();
        Ok(window)
    }

    /// The owner has undone the window.
    ///
    /// # Errors
    ///
    /// [`Error::UpdateOff`] if no revert was begun.
    pub fn finish_revert(&mut self) -> Result<Freed, Error> {
        match self.update {
            Update::Reverting { .. } => {
                self.update = Update::Off;
                Ok(self.freed())
            }
            Update::Off | Update::On { .. } => Err(Error::UpdateOff),
        }
    }

    /// The start mark of a producer arrived. Repeating it changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Behind`] if we are past that checkpoint, [`Error::Contradiction`] if it has mutations already or is none,
    /// [`Error::UpdateOn`] if another window is open.
    pub fn replica_start_update(&mut self, now: Instant, barrier: CheckpointId) -> Result<(), Error> {
        self.needs_replica()?;
        if matches!(self.update, Update::On { barrier: ours, .. } if ours == barrier) {
            return Ok(());
        }
        self.startable()?;
        let open = self.open();
        if barrier < open.id {
            return Err(Error::Behind { got: barrier, open: open.id });
        }
        if barrier.0 > NUMBER_MAX {
            return Err(Error::Contradiction(barrier));
        }
        if barrier > open.id {
            self.roll_to(now, barrier, CheckpointKind::Memory);
        } else if open.len.mutations > 0 || open.floor != self.last {
            return Err(Error::Contradiction(barrier));
        }
        self.enter_window();
        Ok(())
    }

    /// The completion mark of a producer arrived.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownWindow`] if it is not about the window that is open here.
    pub fn replica_complete_update(&mut self, barrier: CheckpointId) -> Result<(), Error> {
        self.needs_replica()?;
        self.needs_window(barrier)?;
        self.complete()
    }

    /// The revert mark of a producer arrived; undo the window, then [`finish_revert`](Self::finish_revert).
    ///
    /// # Errors
    ///
    /// [`Error::UnknownWindow`] if it is not about the window that is open here, [`Error::NotDrained`] as in
    /// [`begin_revert`](Self::begin_revert).
    pub fn replica_begin_revert(&mut self, barrier: CheckpointId) -> Result<Window, Error> {
        self.needs_replica()?;
        self.needs_window(barrier)?;
        self.revert()
    }

    fn startable(&self) -> Result<(), Error> {
        match (self.update, self.durability) {
            (Update::On { .. }, _) => Err(Error::UpdateOn),
            (Update::Reverting { .. }, _) => Err(Error::Reverting),
            (Update::Off, Durability::MemoryOnly) => Err(Error::Misuse("hot reload needs persistence")),
            (Update::Off, Durability::Persisted) => Ok(()),
        }
    }

    /// The open checkpoint becomes the barrier.
    fn enter_window(&mut self) -> CheckpointId {
        let (barrier, ordinal, first) = (self.open().id, self.open_ordinal(), self.last.next());
        self.mark(Marker::UpdateStart(barrier));
        self.update = Update::On { barrier, ordinal, first };
        barrier
    }

    fn complete(&mut self) -> Result<(), Error> {
        let (barrier, ..) = self.window()?;
        self.mark(Marker::UpdateComplete(barrier));
        self.update = Update::Off;
        Ok(())
    }

    fn revert(&mut self) -> Result<Window, Error> {
        let (barrier, ordinal, first) = self.window()?;
        self.drained(ordinal)?;
        let last = self.last;
        let batch = self.everything_from(ordinal);
        self.mark(Marker::UpdateRevert { barrier, first, last });
        self.update = Update::Reverting { barrier };
        let at = self.end_of_open();
        if let Some(id) = self.persistence() {
            self.move_cursor(id, at);
        }
        self.persisted = last;
        Ok(Window { barrier, first, last, batch })
    }

    fn window(&self) -> Result<(CheckpointId, u64, Seqno), Error> {
        match self.update {
            Update::Off => Err(Error::UpdateOff),
            Update::Reverting { .. } => Err(Error::Reverting),
            Update::On { barrier, ordinal, first } => Ok((barrier, ordinal, first)),
        }
    }

    fn needs_window(&self, got: CheckpointId) -> Result<(), Error> {
        match self.window() {
            Ok((barrier, ..)) if barrier == got => Ok(()),
            Ok(_) | Err(Error::UpdateOff) => Err(Error::UnknownWindow { got }),
            Err(other) => Err(other),
        }
    }

    /// Whether everything before the barrier is committed. What only frames checkpoints needs no flush.
    fn drained(&self, barrier: u64) -> Result<(), Error> {
        let Some(guard) = self.guard() else { return Ok(()) };
        if self.flushing.is_none() && (guard.at.ordinal >= barrier || !self.has_content(guard.at, barrier)) {
            return Ok(());
        }
        let wall = self.begin_of(barrier).line;
        let mutations = if guard.at.ordinal < barrier { (wall - guard.at.line).mutations } else { 0 };
        Err(Error::NotDrained { mutations })
    }

    fn has_content(&self, from: Position, to: u64) -> bool {
        let places = self.list.iter().zip(self.head..).filter(|(_, at)| (from.ordinal..to).contains(at));
        places.into_iter().any(|(checkpoint, ordinal)| {
            let start = if ordinal == from.ordinal { from.place } else { Place::FIRST };
            checkpoint.slots.iter_from(start).any(|(_, slot)| slot.is_content())
        })
    }

    /// Shares everything from the start of a checkpoint on, without any cursor.
    fn everything_from(&mut self, ordinal: u64) -> Batch {
        let (mut parts, mut len, mut mutations) = (Vec::new(), 0, 0);
        let skip = usize::try_from(ordinal.saturating_sub(self.head)).unwrap_or(usize::MAX);
        for checkpoint in self.list.iter_mut().skip(skip) {
            len += checkpoint.len.elements;
            mutations += checkpoint.len.mutations;
            checkpoint
                .slots
                .share(Place::FIRST, None, |chunk, from, to| parts.push(Part { chunk, from, to }));
        }
        Batch {
            parts,
            ranges: Vec::new(),
            kind: CheckpointKind::Memory,
            through: self.last,
            len,
            mutations,
            more: false,
            freed: Freed::default(),
        }
    }

    fn needs_active(&self) -> Result<(), Error> {
        match self.role {
            Role::Active => Ok(()),
            Role::Replica => Err(Error::Misuse("a replica follows the marks of its producer")),
        }
    }
}
