use cuttlebone_machine::Instant;

use crate::slots::{Place, Slot, Slots};
use crate::{CheckpointId, CheckpointKind, Marker, Seqno, SnapshotRange};

/// Memory of a meta-item.
const MARKER_BYTES: usize = size_of::<(Seqno, Marker)>();
/// Memory of a checkpoint without its elements.
pub(crate) const CHECKPOINT_BYTES: usize = size_of::<Checkpoint>();

/// A set of unique keys in the order of their newest mutation.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) id: CheckpointId,
    pub(crate) kind: CheckpointKind,
    pub(crate) closed: bool,
    pub(crate) created: Instant,
    /// First seqno of the snapshot.
    pub(crate) first: Seqno,
    /// Last seqno: announced by the producer, or known when the checkpoint was closed.
    pub(crate) end: Option<Seqno>,
    /// Everything above this is here or was replaced by something newer that is; nothing at or below it is.
    pub(crate) floor: Seqno,
    /// How many elements, and how many mutations, the log has had before this checkpoint's first that is left.
    pub(crate) line: Line,
    /// How many it has.
    pub(crate) len: Line,
    /// Bytes that its elements point to.
    pub(crate) bodies: usize,
    /// How many cursors stand in it.
    pub(crate) cursors: usize,
    pub(crate) slots: Slots,
}

/// A count of elements, and of the mutations among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) elements: u64,
    pub(crate) mutations: u64,
}

impl Line {
    pub(crate) fn of(slot: &Slot) -> Self {
        match slot {
            Slot::Vacant => Self::default(),
            Slot::Item(_) => Self { elements: 1, mutations: 1 },
            Slot::Marker(_) => Self { elements: 1, mutations: 0 },
        }
    }
}

impl core::ops::Add for Line {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self { elements: self.elements + rhs.elements, mutations: self.mutations + rhs.mutations }
    }
}

impl core::ops::Sub for Line {
    type Output = Self;
    /// Lines only grow, and a place is never ahead of its line's end: `recount` would tell.
    fn sub(self, rhs: Self) -> Self {
        Self { elements: self.elements - rhs.elements, mutations: self.mutations - rhs.mutations }
    }
}

impl core::ops::AddAssign for Line {
    fn add_assign(&mut self, rhs: Self) {
        *self = *self + rhs;
    }
}

impl core::ops::SubAssign for Line {
    fn sub_assign(&mut self, rhs: Self) {
        *self = *self - rhs;
    }
}

impl Checkpoint {
    pub(crate) fn new(
        id: CheckpointId,
        kind: CheckpointKind,
        created: Instant,
        last: Seqno,
        line: Line,
    ) -> Self {
        let mut checkpoint = Self {
            id,
            kind,
            closed: false,
            created,
            first: last.next(),
            end: None,
            floor: last,
            line,
            len: Line::default(),
            bodies: 0,
            cursors: 0,
            slots: Slots::default(),
        };
        checkpoint.push(Slot::marker(last.next(), Marker::Start(id)));
        checkpoint
    }

    /// Appends an element that replaces none.
    pub(crate) fn push(&mut self, slot: Slot) -> Place {
        self.len += Line::of(&slot);
        self.bodies += body_bytes(&slot);
        self.slots.push(slot)
    }

    /// Where the line goes on after the last element.
    pub(crate) fn line_end(&self) -> Line {
        self.line + self.len
    }

    pub(crate) fn bytes(&self) -> usize {
        CHECKPOINT_BYTES + self.bodies + self.slots.bytes()
    }

    /// The range that a consumer has completely when it has read all of it, given the last seqno of the log.
    pub(crate) fn range(&self, last: Seqno) -> SnapshotRange {
        let end = self.end.unwrap_or(last);
        SnapshotRange { start: self.first.min(end), end }
    }
}

/// Bytes that an element points to.
pub(crate) fn body_bytes(slot: &Slot) -> usize {
    match slot {
        Slot::Item(item) => item.body_bytes(),
        Slot::Marker(marker) => match &marker.1 {
            Marker::State(document) => MARKER_BYTES + document.len() + 16,
            _ => MARKER_BYTES,
        },
        Slot::Vacant => 0,
    }
}
