use core::ops::Range;
use std::collections::HashMap;

use cuttlebone_checkpoint::{FetchLimit, Flush, Op, Stop};

use crate::bucket::{Bucket, VbucketId};
use crate::engine::{Engine, Snapshot, WriteBatch};
use crate::sync::{Arc, Cell};
use crate::table::Disk;
use crate::{Error, record};

/// Keys that are marked as persisted under one hold of a vbucket's lock, so that readers wait a few microseconds at most.
const MARK_SLICE: usize = 64;
/// Rows that one flush moves or removes from the front.
const CLEAN_ROWS: u64 = 4096;
/// Void rows that are not worth cleaning.
const VOID_ROWS: u64 = 20_000;

/// Who appends to the disk: whoever holds its lock.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// The number of the next row.
    pub(crate) next: u64,
    /// The number of the first row.
    pub(crate) first: u64,
    /// Rows that nothing refers to any more: they go with the next commit. Not with the one that moved the live ones
    /// among them, whose answer may be lost.
    pub(crate) void: Range<u64>,
    /// Vbuckets whose documents have to go.
    pub(crate) removed: Vec<VbucketId>,
}

/// What a flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that only this crate makes")]
pub struct Flushed {
    /// Mutations that are durable now.
    pub mutations: u64,
    /// Live rows that were moved from the front of the disk to the end.
    pub moved: u64,
    /// Whether there is more to flush at once.
    pub more: bool,
}

/// One key's new row.
struct Mark {
    key: Box<[u8]>,
    disk: Disk,
    deleted: bool,
}

/// A live row that was copied to the end.
struct Move {
    vbucket: VbucketId,
    generation: u32,
    key: Box<[u8]>,
    disk: Disk,
}

/// What one vbucket contributes.
struct Share {
    vbucket: Arc<Cell>,
    generation: u32,
    flush: Option<Flush>,
    marks: Vec<Mark>,
}

impl<E: Engine> Bucket<E> {
    /// Persists what is waiting in all vbuckets, in one commit; call it again while it says that there is more.
    ///
    /// Blocks on the disk: call it from a thread of its own. One flush at a time; others wait.
    ///
    /// # Errors
    ///
    /// [`Error::Paused`]. [`Error::Engine`] if the disk fails: then nothing counts as persisted, and the next flush brings
    /// the same again, without what was overwritten meanwhile.
    pub fn flush(&self) -> Result<Flushed, Error> {
        if self.is_paused() {
            return Err(Error::Paused);
        }
        let mut writer = self.writer();
        let (mut batch, mut shares, mut flushed) = (WriteBatch::default(), Vec::new(), Flushed::default());
        let mut next = writer.next;
        batch.documents.extend(writer.removed.iter().map(|id| (*id, Vec::new())));
        batch.remove = writer.void.clone();
        let (cleaned, moved) = self.clean(&writer, &mut next, &mut batch)?;
        flushed.moved = moved.len() as u64;
        for vbucket in self.all() {
            let room = self.limits().flush_rows.saturating_sub(flushed.mutations);
            if room == 0 {
                flushed.more = true;
                break;
            }
            shares.extend(Self::take(vbucket, room, &mut next, &mut batch, &mut flushed)?);
        }
        if batch.append.is_empty() && batch.documents.is_empty() && batch.remove.is_empty() {
            Self::end_all(shares, true);
            return Ok(flushed);
        }
        let outcome = self.engine().apply(&batch);
        // A commit whose answer was lost may be there: its numbers are not used again.
        writer.next = next;
        if let Err(error) = outcome {
            Self::end_all(shares, false);
            return Err(error.into());
        }
        writer.void = cleaned;
        writer.first = writer.first.max(writer.void.end);
        writer.removed.clear();
        for row in moved {
            // A vbucket that was removed meanwhile has no use for it.
            let _ = self.with(row.vbucket, |vbucket| {
                if vbucket.generation == row.generation {
                    vbucket.table.update(&row.key, |entry| entry.disk = Some(row.disk));
                }
                Ok(())
            });
        }
        Self::end_all(shares, true);
        Ok(flushed)
    }

    /// Flushes until nothing is waiting.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub fn flush_all(&self) -> Result<(), Error> {
        while self.flush()?.more {}
        Ok(())
    }

    /// Takes what waits in one vbucket, and adds its rows and its document to the batch.
    fn take(
        vbucket: Arc<Cell>,
        room: u64,
        next: &mut u64,
        batch: &mut WriteBatch,
        flushed: &mut Flushed,
    ) -> Result<Option<Share>, Error> {
        let limit = FetchLimit { elements: room, bytes: 32 << 20, stop: Stop::AfterCheckpoint };
        let (id, generation, flush, document) = {
            let mut vbucket = vbucket.lock();
            let flush = vbucket.log.take(limit)?;
            if flush.is_none() {
                // Persistence moves on with a checkpoint that closes when everything of it is on the disk already.
                vbucket.tell_persisted();
            }
            let through =
                flush.as_ref().map_or(vbucket.log.status().persisted, |flush| flush.batch().through());
            let wanted = core::mem::take(&mut vbucket.unsaved) || flush.is_some();
            (vbucket.id, vbucket.generation, flush, wanted.then(|| vbucket.document(through).encode()))
        };
        let Some(document) = document else { return Ok(None) };
        batch.documents.push((id, document));
        let mut marks = Vec::new();
        if let Some(flush) = &flush {
            let taken = flush.batch();
            flushed.more |= taken.has_more();
            flushed.mutations += taken.mutations();
            // A key occurs once in a checkpoint, so only several of them need a look.
            let mut newest = HashMap::new();
            if taken.ranges().len() > 1 {
                newest = taken.items().map(|item| (item.key(), item.seqno())).collect();
            }
            marks.reserve(usize::try_from(taken.mutations()).unwrap_or_default());
            for item in
                taken.items().filter(|item| newest.get(item.key()).is_none_or(|at| *at == item.seqno()))
            {
                batch.append.push((*next, record::encode(id, generation, item)));
                let disk = Disk { row: *next, seqno: item.seqno() };
                marks.push(Mark { key: item.key().into(), disk, deleted: item.op() == Op::Delete });
                *next += 1;
            }
        }
        Ok(Some(Share { vbucket, generation, flush, marks }))
    }

    fn end_all(shares: Vec<Share>, good: bool) {
        for share in shares {
            Self::end(share, good);
        }
    }

    /// Tells a vbucket how the commit went.
    fn end(share: Share, good: bool) {
        let Share { vbucket, generation, flush, marks } = share;
        if good {
            for slice in marks.chunks(MARK_SLICE) {
                vbucket.give_way();
                let mut vbucket = vbucket.lock();
                // It may have been cleared since: then the rows are void.
                if vbucket.generation == generation {
                    for mark in slice {
                        vbucket.persisted(&mark.key, mark.disk, mark.deleted);
                    }
                }
            }
        }
        let freed = {
            let mut vbucket = vbucket.lock();
            vbucket.unsaved |= !good;
            let log = &mut vbucket.log;
            // A reset in between makes the flush void, and leaves nothing to end.
            let freed =
                flush.as_ref().and_then(|flush| if good { log.commit(flush) } else { log.abort(flush) }.ok());
            vbucket.tell_persisted();
            freed
        };
        drop((freed, flush));
    }

    /// Moves live rows from the front to the end when most rows are void, so that the front can go.
    fn clean(
        &self,
        writer: &Writer,
        next: &mut u64,
        batch: &mut WriteBatch,
    ) -> Result<(Range<u64>, Vec<Move>), Error> {
        let live: usize = self.all().iter().map(|vbucket| vbucket.lock().table.sums().on_disk).sum();
        if writer.next - writer.first <= 2 * live as u64 + VOID_ROWS {
            return Ok((0..0, Vec::new()));
        }
        let range = writer.first..writer.next.min(writer.first + CLEAN_ROWS);
        let mut rows = Vec::new();
        self.engine().snapshot()?.rows(range.clone(), &mut |number, row| {
            rows.push((number, row.to_vec()));
            true
        })?;
        let mut moved = Vec::new();
        for (number, row) in rows {
            let record = record::decode(&row).ok_or(Error::Corrupt { number })?;
            let item = record.item;
            let is_live = self.with(record.vbucket, |vbucket| {
                let disk = vbucket.table.get(item.key()).and_then(|entry| entry.disk);
                Ok(vbucket.generation == record.generation && disk.is_some_and(|disk| disk.row == number))
            });
            if is_live.unwrap_or(false) {
                batch.append.push((*next, row));
                let disk = Disk { row: *next, seqno: item.seqno() };
                let (vbucket, generation) = (record.vbucket, record.generation);
                moved.push(Move { vbucket, generation, key: item.key().into(), disk });
                *next += 1;
            }
        }
        Ok((range, moved))
    }
}
