use core::ops::Range;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Engine, EngineError, Snapshot, WriteBatch};

/// Rows in memory, for tests. Clones share them, so that a bucket can be dropped and opened again.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    rows: Arc<BTreeMap<u64, Vec<u8>>>,
    documents: BTreeMap<u16, Vec<u8>>,
    operations: u64,
    fault: Option<(u64, Fault)>,
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
        let (rows, documents) = (Arc::clone(&shared.rows), shared.documents.clone());
        Self { shared: Arc::new(Mutex::new(Shared { rows, documents, ..Shared::default() })) }
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

    fn apply(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        let (mut shared, answer) = match self.operation() {
            Ok(shared) => (shared, Ok(())),
            Err((_, Fault::Nothing)) => return Err(EngineError::new("injected: nothing was written")),
            Err((shared, Fault::Done)) => (shared, Err(EngineError::new("injected: the answer was lost"))),
        };
        let rows = Arc::make_mut(&mut shared.rows);
        rows.extend(batch.append.iter().cloned());
        rows.retain(|number, _| !batch.remove.contains(number));
        for (vbucket, document) in &batch.documents {
            if document.is_empty() {
                shared.documents.remove(vbucket);
            } else {
                shared.documents.insert(*vbucket, document.clone());
            }
        }
        answer
    }

    fn row(&self, number: u64) -> Result<Option<Vec<u8>>, EngineError> {
        let shared = self.operation().map_err(|_| EngineError::new("injected: nothing was read"))?;
        Ok(shared.rows.get(&number).cloned())
    }

    fn snapshot(&self) -> Result<MemorySnapshot, EngineError> {
        let shared = self.operation().map_err(|_| EngineError::new("injected: no snapshot"))?;
        Ok(MemorySnapshot { rows: Arc::clone(&shared.rows) })
    }

    fn documents(&self) -> Result<Vec<(u16, Vec<u8>)>, EngineError> {
        let shared = self.operation().map_err(|_| EngineError::new("injected: nothing was read"))?;
        Ok(shared.documents.iter().map(|(vbucket, document)| (*vbucket, document.clone())).collect())
    }
}

/// The rows of a [`MemoryEngine`] at one moment.
#[derive(Clone, Debug)]
pub struct MemorySnapshot {
    rows: Arc<BTreeMap<u64, Vec<u8>>>,
}

impl Snapshot for MemorySnapshot {
    fn row(&self, number: u64) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.rows.get(&number).cloned())
    }

    fn rows(&self, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8]) -> bool) -> Result<(), EngineError> {
        for (number, row) in self.rows.range(range) {
            if !each(*number, row) {
                break;
            }
        }
        Ok(())
    }
}
