use alloc::format;
use alloc::string::String;

use crate::checkpoint::{Checkpoint, Line, body_bytes};
use crate::cursor::Role;
use crate::slots::{Place, Slot};
use crate::{ChangeLog, CheckpointKind, Durability, Marker};

macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err(format!($($what)+));
        }
    };
}

impl ChangeLog {
    /// Counts everything again by walking, and compares: for tests and for a node that doubts itself. Takes time for
    /// every element.
    ///
    /// # Errors
    ///
    /// Says which invariant does not hold, which would be a defect of this crate.
    pub fn recount(&self) -> Result<(), String> {
        ensure!(!self.list.is_empty(), "the list is empty");
        let mut line = self.list.front().map_or(Line::default(), |head| head.line);
        let mut closed_bytes = 0;
        let (mut mutation, mut meta) = (None, None);
        for (checkpoint, ordinal) in self.list.iter().zip(self.head..) {
            let id = checkpoint.id;
            ensure!(
                checkpoint.closed == (ordinal != self.open_ordinal()),
                "checkpoint {id} is not open or closed"
            );
            ensure!(
                checkpoint.line == line,
                "the line of checkpoint {id} is {:?}, not {line:?}",
                checkpoint.line
            );
            Self::recount_elements(checkpoint)?;
            for (_, slot) in checkpoint.slots.iter_from(Place::FIRST) {
                match slot {
                    Slot::Item(item) => {
                        ensure!(mutation < Some(item.seqno()), "seqno {} does not increase", item.seqno());
                        ensure!(meta <= Some(item.seqno()), "seqno {} is below a meta-item's", item.seqno());
                        mutation = Some(item.seqno());
                    }
                    Slot::Marker(marker) => {
                        let seqno = &marker.0;
                        ensure!(meta <= Some(*seqno), "meta-item {seqno} decreases");
                        ensure!(mutation < Some(*seqno), "meta-item {seqno} is not ahead of the mutations");
                        meta = Some(*seqno);
                    }
                    Slot::Vacant => {}
                }
            }
            let here = self.cursors.iter().filter(|cursor| cursor.at.ordinal == ordinal).count();
            ensure!(
                checkpoint.cursors == here,
                "checkpoint {id} has {here} cursors, not {}",
                checkpoint.cursors
            );
            line = checkpoint.line_end();
            closed_bytes += if checkpoint.closed { checkpoint.bytes() } else { 0 };
        }
        ensure!(mutation <= Some(self.last), "a mutation is above the last seqno");
        ensure!(closed_bytes == self.closed_bytes, "closed bytes {closed_bytes}, not {}", self.closed_bytes);
        let ids = self.list.iter().zip(self.list.iter().skip(1));
        for (one, two) in ids {
            ensure!(one.id < two.id, "checkpoint {} is followed by {}", one.id, two.id);
        }
        if let Some(head) = self.list.front() {
            ensure!(!head.closed || head.cursors > 0, "nobody holds checkpoint {}", head.id);
        }
        self.recount_index()?;
        self.recount_cursors()
    }

    fn recount_elements(checkpoint: &Checkpoint) -> Result<(), String> {
        let id = checkpoint.id;
        let (mut len, mut bodies, mut ended) = (Line::default(), 0, false);
        let mut elements = checkpoint.slots.iter_from(Place::FIRST);
        let first = elements.next().map(|(_, slot)| slot);
        let starts = matches!(first, Some(Slot::Marker(marker)) if marker.1 == Marker::Start(id));
        ensure!(starts, "{id} has no start");
        for (_, slot) in checkpoint.slots.iter_from(Place::FIRST) {
            ensure!(!ended, "checkpoint {id} goes on after its end");
            ended = matches!(slot, Slot::Marker(marker) if matches!(marker.1, Marker::End(_)));
            len += Line::of(slot);
            bodies += body_bytes(slot);
        }
        ensure!(ended == checkpoint.closed, "checkpoint {id} is closed without its end, or the reverse");
        ensure!(len == checkpoint.len, "checkpoint {id} has {len:?}, not {:?}", checkpoint.len);
        ensure!(bodies == checkpoint.bodies, "checkpoint {id} has {bodies} bytes, not {}", checkpoint.bodies);
        Ok(())
    }

    fn recount_index(&self) -> Result<(), String> {
        let open = self.open();
        let mut keys = 0;
        for (place, slot) in open.slots.iter_from(Place::FIRST) {
            if let Slot::Item(item) = slot
                && open.kind == CheckpointKind::Memory
            {
                keys += 1;
                let is_key =
                    |at| matches!(open.slots.get(at), Some(Slot::Item(at)) if at.key() == item.key());
                let found = self.index.find(item.key(), is_key);
                ensure!(found == Some(place), "the index has {found:?} for the key at {place:?}");
            }
        }
        ensure!(self.index.len() == keys, "the index has {} keys, not {keys}", self.index.len());
        Ok(())
    }

    fn recount_cursors(&self) -> Result<(), String> {
        let mut waiting = 0;
        for cursor in self.cursors.iter() {
            let Some(checkpoint) = self.checkpoint(cursor.at.ordinal) else {
                return Err(format!("cursor {} stands in no checkpoint", cursor.name));
            };
            let rest = checkpoint
                .slots
                .iter_from(cursor.at.place)
                .fold(Line::default(), |l, (_, s)| l + Line::of(s));
            let counted = checkpoint.line_end() - rest;
            ensure!(
                cursor.at.line == counted,
                "cursor {} is at {:?}, not {counted:?}",
                cursor.name,
                cursor.at.line
            );
            let resting = !checkpoint.closed || rest.elements > 0;
            ensure!(resting, "cursor {} rests at the end of a closed checkpoint", cursor.name);
            waiting += usize::from(cursor.waker.is_some());
        }
        ensure!(waiting == self.waiting, "{waiting} cursors wait, not {}", self.waiting);
        let persistence = self.cursors.with_role(Role::Persistence);
        let backup = self.cursors.with_role(Role::Backup);
        ensure!(
            persistence.is_some() == (self.durability == Durability::Persisted),
            "persistence has no cursor"
        );
        ensure!(backup.is_some() == self.flushing.is_some(), "a guard without a flush, or the reverse");
        if let (Some(persistence), Some(backup)) = (persistence, backup) {
            ensure!(
                backup.at.line.elements <= persistence.at.line.elements,
                "the guard is ahead of persistence"
            );
        }
        if let (Some(persistence), Some(barrier)) = (persistence, self.update.barrier_ordinal()) {
            ensure!(persistence.at.ordinal <= barrier, "persistence is past the barrier");
            ensure!(self.checkpoint(barrier).is_some(), "the barrier is gone");
        }
        Ok(())
    }
}
