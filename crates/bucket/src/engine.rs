//! What the bucket needs of a disk, and two that have it.
//!
//! Rows are only ever appended, under numbers that ascend over all vbuckets: an embedded tree writes ten times less that
//! way than with one append point for each of a thousand vbuckets. Where the newest row of a key is, the table above
//! knows; old rows are removed from the front, in order.

mod memory;
mod redb;

use core::ops::Range;

pub use memory::{Fault, MemoryEngine, MemorySnapshot};
pub use redb::{RedbEngine, RedbSnapshot};

/// A disk failed. What was to be written may or may not be there.
#[derive(Debug, thiserror::Error)]
#[error("storage engine")]
#[non_exhaustive]
pub struct EngineError {
    /// What the engine says.
    #[source]
    pub source: Box<dyn core::error::Error + Send + Sync>,
}

impl EngineError {
    /// Wraps what an engine says.
    pub fn new(source: impl Into<Box<dyn core::error::Error + Send + Sync>>) -> Self {
        Self { source: source.into() }
    }
}

/// Everything that one commit changes.
#[derive(Clone, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "built by the flusher, read by engines")]
pub struct WriteBatch {
    /// Rows under new numbers, ascending, all above every number before.
    pub append: Vec<(u64, Vec<u8>)>,
    /// Numbers whose rows go; empty for none.
    pub remove: Range<u64>,
    /// Documents of vbuckets; an empty one removes it.
    pub documents: Vec<(u16, Vec<u8>)>,
}

/// Ordered rows on a disk.
pub trait Engine: Send + Sync + 'static {
    /// The rows as they were at one moment.
    type Snapshot: Snapshot;

    /// Changes everything in `batch` or nothing; durable when it returns. One caller at a time.
    ///
    /// # Errors
    ///
    /// If the disk fails; then nothing is acknowledged, and the caller tries again with the same or more.
    fn apply(&self, batch: &WriteBatch) -> Result<(), EngineError>;

    /// The row under a number.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    fn row(&self, number: u64) -> Result<Option<Vec<u8>>, EngineError>;

    /// The rows as they are now, whatever is written later.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    fn snapshot(&self) -> Result<Self::Snapshot, EngineError>;

    /// The documents of all vbuckets.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    fn documents(&self) -> Result<Vec<(u16, Vec<u8>)>, EngineError>;
}

/// Rows as they were at one moment.
pub trait Snapshot: Send {
    /// The row under a number.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    fn row(&self, number: u64) -> Result<Option<Vec<u8>>, EngineError>;

    /// Every row in `range`, ascending, until `each` says false.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    fn rows(&self, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8]) -> bool) -> Result<(), EngineError>;
}
