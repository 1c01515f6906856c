use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::Waker;

use crate::checkpoint::Line;
use crate::slots::Place;
use crate::{CheckpointId, Seqno};

/// Which cursor; never used again after the cursor is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CursorId(pub(crate) u64);

/// Whether a cursor may be dropped to free memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a choice between two")]
pub enum Droppable {
    /// Its owner can go on with a backfill.
    Yes,
    /// It cannot: a slow reader then ends in refused writes.
    No,
}

/// Where a cursor stands, for statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that only this crate makes")]
pub struct CursorStatus {
    /// Which one.
    pub id: CursorId,
    /// Its name.
    pub name: Arc<str>,
    /// The checkpoint that it stands in.
    pub checkpoint: CheckpointId,
    /// Everything up to this has been read.
    pub seqno: Seqno,
    /// Elements that are left to read, meta-items included.
    pub remaining: u64,
    /// Mutations that are left to read.
    pub remaining_mutations: u64,
    /// How often it was fetched from.
    pub fetches: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Persistence,
    /// Stays where persistence was when a flush began.
    Backup,
    Replication(Droppable),
}

/// A reader's place: everything before it has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Which checkpoint, counted from the first that the log ever had.
    pub(crate) ordinal: u64,
    /// Where in it.
    pub(crate) place: Place,
    /// How much of the log lies before.
    pub(crate) line: Line,
}

#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) id: CursorId,
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    pub(crate) at: Position,
    pub(crate) fetches: u64,
    /// Who wants to know when there is something to read.
    pub(crate) waker: Option<Waker>,
}

/// All cursors of a log. They are few, so a walk is quicker than a map.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    list: Vec<Cursor>,
    made: u64,
}

impl Cursors {
    pub(crate) fn add(&mut self, name: Arc<str>, role: Role, at: Position) -> CursorId {
        self.made += 1;
        let id = CursorId(self.made);
        self.list.push(Cursor { id, name, role, at, fetches: 0, waker: None });
        id
    }

    pub(crate) fn get(&self, id: CursorId) -> Option<&Cursor> {
        self.list.iter().find(|cursor| cursor.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: CursorId) -> Option<&mut Cursor> {
        self.list.iter_mut().find(|cursor| cursor.id == id)
    }

    pub(crate) fn with_role(&self, role: Role) -> Option<&Cursor> {
        self.list.iter().find(|cursor| cursor.role == role)
    }

    /// The replication cursor called `name`.
    pub(crate) fn named(&self, name: &str) -> Option<&Cursor> {
        self.iter().find(|cursor| matches!(cursor.role, Role::Replication(_)) && &*cursor.name == name)
    }

    pub(crate) fn remove(&mut self, id: CursorId) -> Option<Cursor> {
        let index = self.list.iter().position(|cursor| cursor.id == id)?;
        Some(self.list.swap_remove(index))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Cursor> {
        self.list.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Cursor> {
        self.list.iter_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }
}
