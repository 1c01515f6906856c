use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cuttlebone_wire::{Decode, Encode, Features, Op, Reader, Transaction};

use crate::block::Slot;
use crate::generation::Generation;
use crate::layers::Visible;
use crate::limits::EXPORT_BYTES_MAX;
use crate::log::{join_key, split_key};
use crate::point::PlacedPoint;
use crate::{Error, Point, PrefixTotals};

/// A copy as of one point. Unmoved by what a writer does meanwhile; cheap to clone.
#[derive(Clone)]
pub struct View {
    generation: Arc<Generation>,
    placed: PlacedPoint,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("point", &self.placed.point).finish_non_exhaustive()
    }
}

impl View {
    pub(crate) fn new(generation: Arc<Generation>, placed: PlacedPoint) -> Self {
        Self { generation, placed }
    }

    /// The point that this shows.
    pub const fn point(&self) -> &Point {
        &self.placed.point
    }

    /// The value of a key; `None` if there is no such key.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the index or the value is damaged, and what the disk says.
    pub fn get(&self, prefix: &[u8], key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.find(prefix, key)? {
            None => Ok(None),
            Some(entry) => self.value(&entry).map(Some),
        }
    }

    /// A key's entry, without its value; `None` if there is no such key.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn find(&self, prefix: &[u8], key: &[u8]) -> Result<Option<Entry>, Error> {
        let mut combined = Vec::with_capacity(prefix.len() + 1 + key.len());
        join_key(&mut combined, prefix, key);
        // A prefix with a NUL byte would find the key of another one.
        if split_key(&combined).0 != prefix {
            return Ok(None);
        }
        let slot = self.generation.layers.get(&combined, self.placed.point.id.0)?;
        Ok(slot.map(|slot| Entry { combined, slot }))
    }

    /// Every entry, or those of one prefix, in the byte order of `prefix NUL key`. Values are not read.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); the iterator ends with its first error.
    pub fn entries(&self, prefix: Option<&[u8]>) -> Result<Entries<'_>, Error> {
        let from = prefix.map(|prefix| [prefix, b"\0"].concat()).unwrap_or_default();
        self.entries_between(from, None)
    }

    /// Every entry behind a key, which need not exist; all of them without one. Values are not read.
    ///
    /// This is how a reader that went away goes on where it was.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); the iterator ends with its first error.
    pub fn entries_after(&self, after: Option<(&[u8], &[u8])>) -> Result<Entries<'_>, Error> {
        let mut from = Vec::new();
        if let Some((prefix, key)) = after {
            join_key(&mut from, prefix, key);
            // The smallest key that is greater.
            from.push(0);
        }
        let visible = self.generation.layers.visible(&from, self.placed.point.id.0)?;
        Ok(Entries { visible: Some(visible), until: Until::Prefix(Vec::new()) })
    }

    /// The entries whose `prefix NUL key` starts with `from`, or lies in `from..to`.
    pub(crate) fn entries_between(&self, from: Vec<u8>, to: Option<Vec<u8>>) -> Result<Entries<'_>, Error> {
        let visible = self.generation.layers.visible(&from, self.placed.point.id.0)?;
        let until = to.map_or_else(|| Until::Prefix(from), Until::Key);
        Ok(Entries { visible: Some(visible), until })
    }

    /// The value of an entry of this view.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn value(&self, entry: &Entry) -> Result<Bytes, Error> {
        self.generation.log.value(&entry.combined, entry.slot)
    }

    /// Tells the system that the values of `entry` and of those behind it will be read soon, about `bytes` of them.
    ///
    /// A log is written past the page cache, so whoever reads one in order gains much by this; nothing depends on it.
    pub fn will_read(&self, entry: &Entry, bytes: u64) {
        self.generation.log.will_need(entry.slot.at, bytes);
    }

    /// Keys and bytes under each prefix.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn prefixes(&self) -> Result<BTreeMap<Bytes, PrefixTotals>, Error> {
        Ok(self.generation.summary(&self.placed)?.prefixes().clone())
    }

    /// The content as transactions of PUTs, each of about 1 MiB, without the given prefixes.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn transactions<'a>(&'a self, without: &'a [&'a [u8]]) -> Result<Transactions<'a>, Error> {
        Ok(Transactions { view: self, entries: self.entries(None)?, without, held: None })
    }
}

/// One key of a view, and what is known of its value without reading it.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    combined: Vec<u8>,
    slot: Slot,
}

impl Entry {
    /// First half of the key.
    pub fn prefix(&self) -> &[u8] {
        split_key(&self.combined).0
    }

    /// Second half of the key.
    pub fn key(&self) -> &[u8] {
        split_key(&self.combined).1
    }

    /// Both halves with a NUL byte between them, which is the order of entries.
    pub fn combined(&self) -> &[u8] {
        &self.combined
    }

    /// Length of the value in bytes.
    #[expect(clippy::len_without_is_empty, reason = "the length of something else")]
    pub const fn len(&self) -> u32 {
        self.slot.len
    }

    /// What `list-crc` prints: CRC-32C, seed 0, over prefix, key and value.
    pub const fn crc(&self) -> u32 {
        self.slot.crc
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = crate::list::key_text(&self.combined);
        f.debug_struct("Entry")
            .field("key", &key)
            .field("len", &self.len())
            .field("crc", &self.crc())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Until {
    /// As long as keys start so.
    Prefix(Vec<u8>),
    /// As long as keys are below.
    Key(Vec<u8>),
}

/// Entries in order. Ends with its first error.
#[derive(Debug)]
pub struct Entries<'a> {
    visible: Option<Visible<'a>>,
    until: Until,
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let visible = self.visible.as_mut()?;
        let advanced = visible.advance();
        let inside = match &self.until {
            Until::Prefix(start) => visible.key().starts_with(start),
            Until::Key(end) => *visible.key() < **end,
        };
        match advanced {
            Ok(true) if inside => Some(Ok(Entry { combined: visible.key().to_vec(), slot: visible.slot() })),
            Ok(_) => {
                self.visible = None;
                None
            }
            Err(error) => {
                self.visible = None;
                Some(Err(error))
            }
        }
    }
}

/// The content of a view as transactions.
pub struct Transactions<'a> {
    view: &'a View,
    entries: Entries<'a>,
    without: &'a [&'a [u8]],
    /// Read already, and too large for the transaction before.
    held: Option<Op>,
}

impl fmt::Debug for Transactions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactions").field("view", self.view).finish_non_exhaustive()
    }
}

impl Transactions<'_> {
    /// The next transaction, encoded, and decoded from those bytes; `None` at the end.
    ///
    /// # Errors
    ///
    /// As [`View::get`].
    pub fn next_batch(&mut self) -> Result<Option<(Bytes, Transaction)>, Error> {
        let mut ops: Vec<Op> = self.held.take().into_iter().collect();
        let mut bytes = ops.first().map_or(0, op_bytes);
        while let Some(op) = self.next_op()? {
            bytes += op_bytes(&op);
            if bytes > EXPORT_BYTES_MAX && !ops.is_empty() {
                self.held = Some(op);
                break;
            }
            ops.push(op);
        }
        if ops.is_empty() {
            return Ok(None);
        }
        let raw = Transaction::new(ops).to_bytes(Features::PACIFIC);
        let transaction = Transaction::decode(&mut Reader::new(&raw));
        let transaction =
            transaction.map_err(|_| Error::Misuse("a key is longer than a transaction can hold"))?;
        Ok(Some((raw, transaction)))
    }

    fn next_op(&mut self) -> Result<Option<Op>, Error> {
        for entry in self.entries.by_ref() {
            let entry = entry?;
            if self.without.contains(&entry.prefix()) {
                continue;
            }
            let value = self.view.value(&entry)?;
            let (prefix, key) = (entry.prefix(), entry.key());
            return Ok(Some(Op::put(Bytes::copy_from_slice(prefix), Bytes::copy_from_slice(key), value)));
        }
        Ok(None)
    }
}

/// Encoded size of an operation: its strings, and 23 bytes around them.
fn op_bytes(op: &Op) -> usize {
    23 + op.prefix.len() + op.key.len() + op.value.len() + op.end_key.len()
}
