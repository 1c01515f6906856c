use core::ops::Range;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Engine, EngineError, RowAt, Snapshot, WriteBatch};

/// Rows in memory, for tests. Clones share them, so that a bucket can be dropped and opened again.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    rows: Arc<BTreeMap<u64, Vec<u8>>>,
    documents: BTreeMap<u16, Vec<u8>>,
    end: u64,
    operations: u64,
    fault: Option<(u64, Fault)>,
    full: bool,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are the ways in which a disk disappoints")]
pub enum Fault {
    /// Nothing was done.
    Nothing,
    /// It was done, but the answer was lost.
    Done,
}

impl MemoryEngine {
    /// Lets the operation number `after` from now fail once; 0 is the next.
    pub fn fail_after(&self, after: u64, fault: Fault) {
        let mut shared = self.lock();
        let at = shared.operations + after;
        shared.fault = Some((at, fault));
    }

    /// A copy that goes its own way: what another process would find after a kill.
    #[must_use]
    pub fn detached(&self) -> Self {
        let shared = self.lock();
        let (rows, documents, end) = (Arc::clone(&shared.rows), shared.documents.clone(), shared.end);
        Self { shared: Arc::new(Mutex::new(Shared { rows, documents, end, ..Shared::default() })) }
    }

    /// From now on every write fails, or none does.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// Flips a bit in the middle of every row, as a disk that rots.
    pub fn rot(&self) {
        let mut shared = self.lock();
        for row in Arc::make_mut(&mut shared.rows).values_mut() {
            let middle = row.len() / 2;
            row.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 1);
        }
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.lock().rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operation(&self) -> Result<MutexGuard<'_, Shared>, (MutexGuard<'_, Shared>, Fault)> {
        let mut shared = self.lock();
        let number = shared.operations;
        shared.operations += 1;
        match shared.fault {
            Some((at, fault)) if at == number => {
                shared.fault = None;
                Err((shared, fault))
            }
            _ => Ok(shared),
        }
    }
}

impl Engine for MemoryEngine {
    type Snapshot = MemorySnapshot;

    fn apply(&self, batch: &WriteBatch) -> Result<u64, EngineError> {
        let (mut shared, answer) = match self.operation() {
            Ok(shared) if shared.full => return Err(EngineError::new("injected: the disk is full")),
            Ok(shared) => {
                let base = shared.end;
                (shared, Ok(base))
            }
            Err((_, Fault::Nothing)) => return Err(EngineError::new("injected: nothing was written")),
            Err((shared, Fault::Done)) => (shared, Err(EngineError::new("injected: the answer was lost"))),
        };
        let base = shared.end;
        shared.end += batch.append.as_bytes().len() as u64;
        let rows = Arc::make_mut(&mut shared.rows);
        rows.extend(batch.append.iter(base).map(|(at, row)| (at.address, row.to_vec())));
        if rows.first_key_value().is_some_and(|(first, _)| *first < batch.remove_before) {
            *rows = rows.split_off(&batch.remove_before);
        }
        for (vbucket, document) in &batch.documents {
            if document.is_empty() {
                shared.documents.remove(vbucket);
            } else {
                shared.documents.insert(*vbucket, document.clone());
            }
        }
        answer
    }

    fn row(&self, at: RowAt) -> Result<Option<Vec<u8>>, EngineError> {
        let shared = self.operation().map_err(|_| EngineError::new("injected: nothing was read"))?;
        Ok(shared.rows.get(&at.address).cloned())
    }

    fn snapshot(&self) -> Result<MemorySnapshot, EngineError> {
        let shared = self.operation().map_err(|_| EngineError::new("injected: no snapshot"))?;
        Ok(MemorySnapshot { rows: Arc::clone(&shared.rows) })
    }

    fn documents(&self) -> Result<Vec<(u16, Vec<u8>)>, EngineError> {
        let shared = self.operation().map_err(|_| EngineError::new("injected: nothing was read"))?;
        Ok(shared.documents.iter().map(|(vbucket, document)| (*vbucket, document.clone())).collect())
    }

    fn span(&self) -> Range<u64> {
        let shared = self.lock();
        shared.rows.first_key_value().map_or(shared.end, |(first, _)| *first)..shared.end
    }
}

/// The rows of a [`MemoryEngine`] at one moment.
#[derive(Clone, Debug)]
pub struct MemorySnapshot {
    rows: Arc<BTreeMap<u64, Vec<u8>>>,
}

impl Snapshot for MemorySnapshot {
    fn row(&self, at: RowAt) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.rows.get(&at.address).cloned())
    }

    fn rows(
        &self,
        from: u64,
        limit: u64,
        each: &mut dyn FnMut(RowAt, &[u8]) -> bool,
    ) -> Result<u64, EngineError> {
        let mut next = from;
        for (address, row) in self.rows.range(from..) {
            if next - from >= limit {
                break;
            }
            let at = RowAt { address: *address, bytes: u32::try_from(row.len()).unwrap_or(u32::MAX) };
            next = at.end().max(at.address + 1);
            if !each(at, row) {
                break;
            }
        }
        Ok(next)
    }
}
