//! What the bucket needs of a disk, and two that have it.
//!
//! Rows are only ever appended, at addresses that ascend over all vbuckets, and removed from the front. Where the newest
//! row of a key is, the table above knows, so a disk needs no index: [`LogEngine`] is files that are written from the
//! front to the end.

mod log;
mod memory;

use core::ops::Range;

#[cfg(feature = "__fuzz")]
pub(crate) use log::fuzzing;
pub use log::{LogEngine, LogError, LogSnapshot};
pub use memory::{Fault, MemoryEngine, MemorySnapshot};

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

/// Where a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct RowAt {
    /// The address of its first byte.
    pub address: u64,
    /// Its length.
    pub bytes: u32,
}

impl RowAt {
    /// Addresses that it takes: itself, and its length before it.
    pub const fn span(self) -> u64 {
        self.bytes as u64 + ROW_HEAD_BYTES as u64
    }

    /// The address after it.
    pub const fn end(self) -> u64 {
        self.address + self.bytes as u64
    }
}

/// Bytes of a row's length before it.
const ROW_HEAD_BYTES: usize = 4;

/// Rows one after another in one buffer, each behind its length: as they lie on a disk.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    /// Where each lies from the beginning of the buffer.
    places: Vec<RowAt>,
}

impl Rows {
    /// Adds a row.
    pub fn push(&mut self, row: &[u8]) {
        self.push_with(|bytes| bytes.extend_from_slice(row));
    }

    /// Adds what `write` appends, and nothing else.
    pub(crate) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let head = self.bytes.len();
        self.bytes.extend_from_slice(&[0; ROW_HEAD_BYTES]);
        let start = self.bytes.len();
        write(&mut self.bytes);
        // An item has 20 MiB at most.
        let bytes = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(hole) = self.bytes.get_mut(head..start) {
            hole.copy_from_slice(&bytes.to_le_bytes());
        }
        self.places.push(RowAt { address: start as u64, bytes });
    }

    /// Where each row lies if the buffer lies at `base`.
    pub fn places(&self, base: u64) -> impl ExactSizeIterator<Item = RowAt> {
        self.places.iter().map(move |at| RowAt { address: base + at.address, ..*at })
    }

    /// Each row, and where it lies if the buffer lies at `base`.
    pub fn iter(&self, base: u64) -> impl Iterator<Item = (RowAt, &[u8])> {
        self.places(base).zip(self.places.iter()).filter_map(|(at, place)| {
            let start = usize::try_from(place.address).ok()?;
            Some((at, self.bytes.get(start..start + place.bytes as usize)?))
        })
    }

    /// All of it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Removes all rows, and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }
}

/// Everything that one commit changes.
#[derive(Clone, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "built by the flusher, read by engines")]
pub struct WriteBatch {
    /// New rows.
    pub append: Rows,
    /// Rows before this address are not needed any more once the commit is done. An engine may keep some.
    pub remove_before: u64,
    /// Documents of vbuckets; an empty one removes it.
    pub documents: Vec<(u16, Vec<u8>)>,
}

/// Rows and documents on a disk.
pub trait Engine: Send + Sync + 'static {
    /// The rows as they were at one moment.
    type Snapshot: Snapshot;

    /// Appends the rows and changes the documents, all or nothing; durable when it returns. Tells at which address the
    /// rows' buffer lies: above every row before. One caller at a time.
    ///
    /// # Errors
    ///
    /// If the disk fails; then nothing is acknowledged, and the caller tries again with the same or more. What was to be
    /// written may be there all the same.
    fn apply(&self, batch: &WriteBatch) -> Result<u64, EngineError>;

    /// A row; `None` if it was removed.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    fn row(&self, at: RowAt) -> Result<Option<Vec<u8>>, EngineError>;

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

    /// The addresses that are in use: from where [`Snapshot::rows`] begins, to where the next commit goes, about.
    fn span(&self) -> Range<u64>;
}

/// Rows as they were at one moment.
pub trait Snapshot: Send {
    /// A row; `None` if it was removed.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    fn row(&self, at: RowAt) -> Result<Option<Vec<u8>>, EngineError>;

    /// The rows from the address `from` on, which is the beginning of [`Engine::span`] or what another call returned;
    /// ascending, until `each` says false or `limit` bytes or a little more were read. Tells where to go on.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    fn rows(
        &self,
        from: u64,
        limit: u64,
        each: &mut dyn FnMut(RowAt, &[u8]) -> bool,
    ) -> Result<u64, EngineError>;
}
