use core::fmt;
use core::ops::Range;
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Engine, EngineError, Snapshot, WriteBatch};

const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
const DOCUMENTS: TableDefinition<'_, u16, &[u8]> = TableDefinition::new("documents");
/// Page cache of the database. Rows are read once in a while, so a small one does.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Rows in one redb file. Readable by its owner alone.
pub struct RedbEngine {
    database: Database,
}

impl fmt::Debug for RedbEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbEngine").finish_non_exhaustive()
    }
}

fn failed(error: impl Into<redb::Error>) -> EngineError {
    EngineError::new(error.into())
}

impl RedbEngine {
    /// Opens the database in `folder`, or creates both.
    ///
    /// # Errors
    ///
    /// If the folder or the file cannot be made or opened, or another process has it open.
    pub fn open(folder: &Path) -> Result<Self, EngineError> {
        if !folder.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(EngineError::new)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(folder.join("bucket.redb")).map_err(EngineError::new)?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_file(file).map_err(failed)?;
        let engine = Self { database };
        // Readers of a fresh database would find no table.
        engine.apply(&WriteBatch::default())?;
        Ok(engine)
    }

    fn rows(&self) -> Result<ReadOnlyTable<u64, &'static [u8]>, EngineError> {
        self.database.begin_read().map_err(failed)?.open_table(ROWS).map_err(failed)
    }
}

impl Engine for RedbEngine {
    type Snapshot = RedbSnapshot;

    fn apply(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        let mut transaction = self.database.begin_write().map_err(failed)?;
        transaction.set_durability(Durability::Immediate).map_err(failed)?;
        // A kill then costs milliseconds at the next start, not a walk over the whole file.
        transaction.set_quick_repair(true);
        {
            let mut rows = transaction.open_table(ROWS).map_err(failed)?;
            for (number, row) in &batch.append {
                rows.insert(number, row.as_slice()).map_err(failed)?;
            }
            if !batch.remove.is_empty() {
                rows.retain_in(batch.remove.clone(), |_, _| false).map_err(failed)?;
            }
            let mut documents = transaction.open_table(DOCUMENTS).map_err(failed)?;
            for (vbucket, document) in &batch.documents {
                if document.is_empty() {
                    documents.remove(vbucket).map_err(failed)?;
                } else {
                    documents.insert(vbucket, document.as_slice()).map_err(failed)?;
                }
            }
        }
        transaction.commit().map_err(failed)
    }

    fn row(&self, number: u64) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.rows()?.get(number).map_err(failed)?.map(|row| row.value().to_vec()))
    }

    fn snapshot(&self) -> Result<RedbSnapshot, EngineError> {
        Ok(RedbSnapshot { rows: self.rows()? })
    }

    fn documents(&self) -> Result<Vec<(u16, Vec<u8>)>, EngineError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let table = transaction.open_table(DOCUMENTS).map_err(failed)?;
        let mut all = Vec::new();
        for entry in table.iter().map_err(failed)? {
            let (vbucket, document) = entry.map_err(failed)?;
            all.push((vbucket.value(), document.value().to_vec()));
        }
        Ok(all)
    }
}

/// The rows of a redb file at one moment.
pub struct RedbSnapshot {
    rows: ReadOnlyTable<u64, &'static [u8]>,
}

impl fmt::Debug for RedbSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbSnapshot").finish_non_exhaustive()
    }
}

impl Snapshot for RedbSnapshot {
    fn row(&self, number: u64) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.rows.get(number).map_err(failed)?.map(|row| row.value().to_vec()))
    }

    fn rows(&self, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8]) -> bool) -> Result<(), EngineError> {
        for entry in self.rows.range(range).map_err(failed)? {
            let (number, row) = entry.map_err(failed)?;
            if !each(number.value(), row.value()) {
                break;
            }
        }
        Ok(())
    }
}
