use alloc::vec::Vec;

use triomphe::Arc;

use crate::checkpoint::Checkpoint;
use crate::slots::{Chunk, Slot};
use crate::{CheckpointKind, Item, Marker, Seqno};

/// How much one fetch may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "built in full or from the default")]
pub struct FetchLimit {
    /// Elements, meta-items included.
    pub elements: u64,
    /// Bytes of whole checkpoints. Counted before a checkpoint is entered, so the first one always fits.
    pub bytes: usize,
    /// Where the fetch may stop.
    pub stop: Stop,
}

impl Default for FetchLimit {
    /// Whole checkpoints until 10,000 elements or 16 MiB are reached.
    fn default() -> Self {
        Self { elements: 10_000, bytes: 16 * 1024 * 1024, stop: Stop::AfterCheckpoint }
    }
}

impl FetchLimit {
    /// Everything there is.
    pub const ALL: Self = Self { elements: u64::MAX, bytes: usize::MAX, stop: Stop::AfterCheckpoint };

    /// At most this many elements, wherever that is.
    pub const fn exactly(elements: u64) -> Self {
        Self { elements, bytes: usize::MAX, stop: Stop::Anywhere }
    }
}

/// Where a fetch may stop when its limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a choice between two")]
pub enum Stop {
    /// Only after a whole checkpoint, or at the end of the open one: what was fetched is a consistent snapshot.
    AfterCheckpoint,
    /// After any element.
    Anywhere,
}

/// The seqnos of a snapshot, both ends included. A consumer that has all of it is consistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct SnapshotRange {
    /// The first.
    pub start: Seqno,
    /// The last.
    pub end: Seqno,
}

/// One element of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are only items and meta-items")]
pub enum Element<'a> {
    /// A mutation.
    Item(&'a Item),
    /// A meta-item, with the seqno that the next mutation after it has or would have.
    Marker(Seqno, &'a Marker),
}

/// What a fetch brought: a view of the log as it was, read without holding any lock.
///
/// Dropping it frees what the fetch released, so drop it after the lock.
#[derive(Debug)]
#[must_use]
pub struct Batch {
    pub(crate) parts: Vec<Part>,
    pub(crate) ranges: Vec<SnapshotRange>,
    pub(crate) kind: CheckpointKind,
    pub(crate) through: Seqno,
    pub(crate) len: u64,
    pub(crate) mutations: u64,
    pub(crate) more: bool,
    pub(crate) freed: Freed,
}

#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) chunk: Arc<Chunk>,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl Batch {
    /// The elements in the order of the log.
    pub fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        let slots = self.parts.iter().flat_map(|part| part.chunk.get(part.from..part.to).unwrap_or_default());
        slots.filter_map(|slot| match slot {
            Slot::Vacant => None,
            Slot::Item(item) => Some(Element::Item(item)),
            Slot::Marker(marker) => Some(Element::Marker(marker.0, &marker.1)),
        })
    }

    /// The mutations among them.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.iter().filter_map(|element| match element {
            Element::Item(item) => Some(item),
            Element::Marker(..) => None,
        })
    }

    /// The snapshots that it belongs to, one for each checkpoint that it touches.
    pub fn ranges(&self) -> &[SnapshotRange] {
        &self.ranges
    }

    /// Whether it is from memory or from a producer's disk; never both.
    pub const fn kind(&self) -> CheckpointKind {
        self.kind
    }

    /// Everything up to this seqno has now been read.
    pub const fn through(&self) -> Seqno {
        self.through
    }

    /// How many elements it has, meta-items included.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// How many mutations it has.
    pub const fn mutations(&self) -> u64 {
        self.mutations
    }

    /// Whether it has no element.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there was more to read when it was fetched.
    pub const fn has_more(&self) -> bool {
        self.more
    }
}

/// Checkpoints that nobody needs any more. Dropping it frees them, so drop it after the lock.
#[derive(Debug, Default)]
#[must_use = "drop it after the lock is released"]
pub struct Freed(pub(crate) Vec<Checkpoint>);

impl Freed {
    /// How many checkpoints.
    pub fn checkpoints(&self) -> usize {
        self.0.len()
    }
}
