//! The small contract of an ordered store with atomic batches and snapshots.

use core::ops::Range;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cuttlebone_wire::{Decode, Encode, Features, OpKind, Reader, Transaction};

use crate::log::join_key;
use crate::{Error, NewPoint, PointId, ProviderFault, Pull, View, Writer};

/// An ordered store that takes whole batches and shows whole states.
pub trait Store {
    /// A state that stays as it is.
    type Snapshot: Snapshot;

    /// Applies the operations of `batch` in order, as one. When this returns, all of them are durable, as far as the
    /// store is.
    ///
    /// # Errors
    ///
    /// What the store says. Then either all of the batch has been applied or nothing.
    fn apply(&mut self, batch: &Transaction) -> Result<PointId, Error>;

    /// The state after the last batch.
    fn snapshot(&self) -> Self::Snapshot;
}

/// One state of a store.
pub trait Snapshot: Clone + Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// What the store says.
    fn get(&self, prefix: &[u8], key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Keys and values under `prefix` whose key lies in `keys`, in order.
    ///
    /// # Errors
    ///
    /// What the store says; the iterator ends with its first error.
    fn range(
        &self,
        prefix: &[u8],
        keys: Range<&[u8]>,
    ) -> Result<impl Iterator<Item = Result<(Bytes, Bytes), Error>>, Error>;
}

/// A writer is a store whose every batch is a point of kind [`PointKind::Batch`](crate::PointKind::Batch).
impl Store for Writer {
    /// `None` before the first batch.
    type Snapshot = Option<View>;

    fn apply(&mut self, batch: &Transaction) -> Result<PointId, Error> {
        let raw = batch.to_bytes(Features::PACIFIC);
        // The values have to lie in the bytes that are logged.
        let batch = Transaction::decode(&mut Reader::new(&raw))
            .map_err(|_| Error::Misuse("a batch holds a key that no decoder accepts"))?;
        let mut pull = self.begin(Pull::Batch)?;
        pull.append(&raw, &batch)?;
        Ok(pull.commit(NewPoint::default())?.id)
    }

    fn snapshot(&self) -> Option<View> {
        self.view()
    }
}

impl Snapshot for Option<View> {
    fn get(&self, prefix: &[u8], key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.as_ref().map_or(Ok(None), |view| view.get(prefix, key))
    }

    fn range(
        &self,
        prefix: &[u8],
        keys: Range<&[u8]>,
    ) -> Result<impl Iterator<Item = Result<(Bytes, Bytes), Error>>, Error> {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        join_key(&mut from, prefix, keys.start);
        join_key(&mut to, prefix, keys.end);
        let entries = match self {
            None => None,
            Some(view) => Some((view, view.entries_between(from, Some(to))?)),
        };
        Ok(entries.into_iter().flat_map(|(view, entries)| {
            entries.map(|entry| {
                let entry = entry?;
                Ok((Bytes::copy_from_slice(entry.key()), view.value(&entry)?))
            })
        }))
    }
}

/// A store in memory, durable as long as the process. A batch after a snapshot copies the map once.
#[derive(Clone, Default)]
pub struct MemoryStore {
    entries: MemorySnapshot,
    batches: u64,
}

impl core::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MemoryStore")
            .field("keys", &self.entries.0.len())
            .field("batches", &self.batches)
            .finish_non_exhaustive()
    }
}

/// A state of a [`MemoryStore`].
#[derive(Clone, Default)]
pub struct MemorySnapshot(Arc<BTreeMap<Vec<u8>, Bytes>>);

impl core::fmt::Debug for MemorySnapshot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MemorySnapshot").field("keys", &self.0.len()).finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    type Snapshot = MemorySnapshot;

    fn apply(&mut self, batch: &Transaction) -> Result<PointId, Error> {
        if batch.ops.iter().any(|op| op.prefix.contains(&0)) {
            return Err(ProviderFault::NulInPrefix.into());
        }
        let entries = Arc::make_mut(&mut self.entries.0);
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for op in &batch.ops {
            join_key(&mut from, &op.prefix, &op.key);
            match op.kind {
                OpKind::Put => {
                    entries.insert(from.clone(), op.value.clone());
                }
                OpKind::Erase => {
                    entries.remove(&from);
                }
                OpKind::EraseRange => {
                    join_key(&mut to, &op.prefix, &op.end_key);
                    entries.retain(|key, _| *key < from || *key >= to);
                }
                OpKind::Compact => {}
            }
        }
        self.batches += 1;
        Ok(PointId(self.batches))
    }

    fn snapshot(&self) -> MemorySnapshot {
        self.entries.clone()
    }
}

impl Snapshot for MemorySnapshot {
    fn get(&self, prefix: &[u8], key: &[u8]) -> Result<Option<Bytes>, Error> {
        let mut combined = Vec::new();
        join_key(&mut combined, prefix, key);
        Ok(self.0.get(&combined).filter(|_| !prefix.contains(&0)).cloned())
    }

    fn range(
        &self,
        prefix: &[u8],
        keys: Range<&[u8]>,
    ) -> Result<impl Iterator<Item = Result<(Bytes, Bytes), Error>>, Error> {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        join_key(&mut from, prefix, keys.start);
        join_key(&mut to, prefix, keys.end.max(keys.start));
        let skip = prefix.len() + 1;
        let entries = self.0.range(from..to);
        Ok(entries.map(move |(key, value)| Ok((Bytes::copy_from_slice(&key[skip..]), value.clone()))))
    }
}
