use crate::cursor::Role;
use crate::{Batch, ChangeLog, Error, FetchLimit, Freed};

/// What persistence has taken and not committed yet.
///
/// End it with [`ChangeLog::commit`] or [`ChangeLog::abort`]: until then nothing more can be taken. Drop it after the
/// lock.
#[derive(Debug)]
#[must_use]
pub struct Flush {
    number: u64,
    batch: Batch,
}

impl Flush {
    /// The elements to persist. One key may occur in several of its checkpoints; the last one counts.
    pub const fn batch(&self) -> &Batch {
        &self.batch
    }
}

/// A flush that is under way.
#[derive(Debug)]
pub(crate) struct Flushing {
    number: u64,
}

impl ChangeLog {
    /// Takes what persistence has not had yet, up to the barrier of hot reload; `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if the former flush is neither committed nor aborted, or if the log is not persisted.
    pub fn take(&mut self, limit: FetchLimit) -> Result<Option<Flush>, Error> {
        let id = self.persistence().ok_or(Error::Misuse("the log is not persisted"))?;
        if self.flushing.is_some() {
            return Err(Error::Misuse("the former flush is neither committed nor aborted"));
        }
        let Some(cursor) = self.cursors.get(id) else { return Ok(None) };
        let (name, at) = (alloc::sync::Arc::clone(&cursor.name), cursor.at);
        let backup = self.cursors.add(name, Role::Backup, at);
        self.enter(at.ordinal);
        let batch = self.read(id, limit);
        if batch.is_empty() {
            self.remove(backup);
            return Ok(None);
        }
        self.flushes += 1;
        self.flushing = Some(Flushing { number: self.flushes });
        Ok(Some(Flush { number: self.flushes, batch }))
    }

    /// Says that everything in `flush` is durable.
    ///
    /// # Errors
    ///
    /// [`Error::FlushVoid`] if the log was reset meanwhile, or the flush was ended before.
    pub fn commit(&mut self, flush: &Flush) -> Result<Freed, Error> {
        self.end(flush)?;
        self.persisted = self.persisted.max(flush.batch.through);
        Ok(self.drop_backup())
    }

    /// Says that `flush` failed: the next one brings the same again, without what was overwritten meanwhile.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub fn abort(&mut self, flush: &Flush) -> Result<Freed, Error> {
        self.end(flush)?;
        let backup = self.cursors.with_role(Role::Backup).map(|cursor| cursor.at);
        if let (Some(at), Some(id)) = (backup, self.persistence()) {
            self.move_cursor(id, at);
        }
        Ok(self.drop_backup())
    }

    fn end(&mut self, flush: &Flush) -> Result<(), Error> {
        if self.flushing.as_ref().is_none_or(|flushing| flushing.number != flush.number) {
            return Err(Error::FlushVoid);
        }
        self.flushing = None;
        Ok(())
    }

    fn drop_backup(&mut self) -> Freed {
        if let Some(id) = self.cursors.with_role(Role::Backup).map(|cursor| cursor.id) {
            self.remove(id);
        }
        self.freed()
    }
}
