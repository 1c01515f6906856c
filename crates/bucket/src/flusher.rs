use std::collections::{HashMap, HashSet};

use cuttlebone_checkpoint::{FetchLimit, Flush, Item, Op, Seqno, Stop};
use foldhash::quality::RandomState;

use crate::bucket::{Bucket, VbucketId};
use crate::engine::{Engine, RowAt, Rows, Snapshot, WriteBatch};
use crate::sync::{Arc, Cell};
use crate::table::Disk;
use crate::{Error, record};

/// Keys that are marked as persisted under one hold of a vbucket's lock, so that readers wait a few microseconds at most.
const MARK_SLICE: usize = 64;
/// Bytes that one flush reads from the front of the disk at least, to move what is live in them; and as many times what
/// it writes, so that the front goes faster than the end comes.
const CLEAN_BYTES: u64 = 1024 * 1024;
const CLEAN_TIMES: u64 = 2;
/// Bytes of mutations that one flush takes from a vbucket, about: it takes whole checkpoints, and one at least.
const TAKE_BYTES: usize = 32 * 1024 * 1024;
/// Void bytes that are not worth cleaning.
const VOID_BYTES: u64 = 8 * 1024 * 1024;

/// Who appends to the disk: whoever holds its lock.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// The address of the first row that was not looked at for what is live.
    pub(crate) first: u64,
    /// Nothing refers to rows before this any more: they go with the next commit. Not with the one that moved the live
    /// ones among them, whose answer may be lost.
    pub(crate) void_before: u64,
    /// Vbuckets whose documents have to go.
    pub(crate) removed: Vec<VbucketId>,
    /// Bytes of the last commit.
    pub(crate) written: u64,
    /// The row at the front is not what was written: nothing is cleaned any more.
    pub(crate) damaged: bool,
    /// The memory of the last batch.
    pub(crate) rows: Rows,
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

/// A live row that was copied to the end. Its new place is that of the first rows of the batch.
struct Move {
    vbucket: VbucketId,
    generation: u32,
    key: Box<[u8]>,
    from: RowAt,
}

/// What one vbucket contributes.
struct Share {
    vbucket: Arc<Cell>,
    generation: u32,
    flush: Option<Flush>,
    /// The items of the flush that have a row, in its order, if not all of them have.
    newest: Option<HashSet<Seqno, RandomState>>,
}

impl<E: Engine> Bucket<E> {
    /// Persists what is waiting in all vbuckets, in one commit; call it again while it says that there is more.
    ///
    /// Blocks on the disk: call it from a thread of its own, or let a [`Runner`](crate::Runner) do it. One flush at a time;
    /// others wait.
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
        let mut batch = WriteBatch { append: core::mem::take(&mut writer.rows), ..WriteBatch::default() };
        batch.append.clear();
        batch.documents.extend(writer.removed.iter().map(|id| (*id, Vec::new())));
        batch.remove_before = writer.void_before;
        let outcome = self.flush_batch(&mut writer, &mut batch);
        writer.rows = batch.append;
        outcome
    }

    fn flush_batch(&self, writer: &mut Writer, batch: &mut WriteBatch) -> Result<Flushed, Error> {
        let (cleaned, moved) = self.clean(writer, batch);
        let mut flushed = Flushed { moved: moved.len() as u64, ..Flushed::default() };
        let mut shares = Vec::new();
        for vbucket in self.all() {
            let room = self.limits().flush_rows.saturating_sub(flushed.mutations);
            if room == 0 {
                flushed.more = true;
                break;
            }
            match Self::take(vbucket, room, batch, &mut flushed) {
                Ok(share) => shares.extend(share),
                Err(error) => {
                    Self::end_all(shares, None);
                    return Err(error);
                }
            }
        }
        if batch.append.is_empty() && batch.documents.is_empty() {
            // What was looked at in vain may go as soon as anything is written.
            (writer.first, writer.void_before) = (cleaned, cleaned);
            Self::end_all(shares, Some(&mut core::iter::empty()));
            return Ok(flushed);
        }
        let base = match self.engine().apply(batch) {
            Ok(base) => base,
            Err(error) => {
                Self::end_all(shares, None);
                return Err(error.into());
            }
        };
        writer.void_before = cleaned;
        writer.first = cleaned;
        writer.removed.clear();
        writer.written = batch.append.as_bytes().len() as u64;
        let mut places = batch.append.places(base);
        self.end_moves(moved, &mut places);
        Self::end_all(shares, Some(&mut places));
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
        batch: &mut WriteBatch,
        flushed: &mut Flushed,
    ) -> Result<Option<Share>, Error> {
        let limit = FetchLimit { elements: room, bytes: TAKE_BYTES, stop: Stop::AfterCheckpoint };
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
        let mut newest = None;
        if let Some(flush) = &flush {
            let taken = flush.batch();
            flushed.more |= taken.has_more();
            flushed.mutations += taken.mutations();
            // A key occurs once in a checkpoint, so only several of them need a look.
            if taken.ranges().len() > 1 {
                let last: HashMap<_, _, RandomState> =
                    taken.items().map(|item| (item.key(), item.seqno())).collect();
                if last.len() as u64 != taken.mutations() {
                    newest = Some(last.into_values().collect());
                }
            }
            for item in rows_of(flush, newest.as_ref()) {
                batch.append.push_with(|bytes| record::encode(bytes, id, generation, item));
            }
        }
        Ok(Some(Share { vbucket, generation, flush, newest }))
    }

    /// Tells the vbuckets how the commit went: where their rows are, or `None` if it failed.
    fn end_all(shares: Vec<Share>, places: Option<&mut dyn Iterator<Item = RowAt>>) {
        let Some(places) = places else {
            for share in shares {
                Self::end(share, false);
            }
            return;
        };
        for share in shares {
            if let Some(flush) = &share.flush {
                let mut rows = rows_of(flush, share.newest.as_ref()).zip(&mut *places).peekable();
                while rows.peek().is_some() {
                    share.vbucket.give_way();
                    let mut vbucket = share.vbucket.lock();
                    // It may have been cleared since: then the rows are void.
                    let is_same = vbucket.generation == share.generation;
                    for (item, row) in rows.by_ref().take(MARK_SLICE).filter(|_| is_same) {
                        let disk = Disk::new(row, item.seqno());
                        vbucket.persisted(item.key(), disk, item.op() == Op::Delete);
                    }
                }
            }
            Self::end(share, true);
        }
    }

    fn end(share: Share, good: bool) {
        let Share { vbucket, flush, .. } = share;
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

    /// Copies live rows from the front to the end when most rows are void, so that the front can go. Tells up to where.
    ///
    /// A front that cannot be read stays, and flushing goes on: whoever looks for a row there is told.
    fn clean(&self, writer: &mut Writer, batch: &mut WriteBatch) -> (u64, Vec<Move>) {
        let live: u64 = self.all().iter().map(|vbucket| vbucket.lock().table.sums().disk_bytes).sum();
        let used = self.engine().span().end.saturating_sub(writer.first);
        if writer.damaged || used <= 2 * live + VOID_BYTES {
            return (writer.first, Vec::new());
        }
        let (mut moved, mut damaged) = (Vec::new(), false);
        let limit = CLEAN_BYTES + CLEAN_TIMES * writer.written;
        let read = self.engine().snapshot().and_then(|snapshot| {
            snapshot.rows(writer.first, limit, &mut |from, row| {
                let Some((vbucket, generation, key)) = record::owner(row) else {
                    damaged = true;
                    return false;
                };
                let is_live = self.with(vbucket, |vbucket| {
                    let disk = vbucket.table.look(key, |entry| entry.disk).flatten();
                    Ok(vbucket.generation == generation && disk.is_some_and(|disk| disk.row() == from))
                });
                if is_live.unwrap_or(false) {
                    batch.append.push(row);
                    moved.push(Move { vbucket, generation, key: key.into(), from });
                }
                true
            })
        });
        match read {
            Ok(next) if !damaged => (next, moved),
            _ => {
                writer.damaged |= damaged;
                batch.append.clear();
                (writer.first, Vec::new())
            }
        }
    }

    /// The copies are durable: nobody refers to the originals any more.
    fn end_moves(&self, moved: Vec<Move>, places: &mut impl Iterator<Item = RowAt>) {
        for (Move { vbucket, generation, key, from }, row) in moved.into_iter().zip(places) {
            // A vbucket that was removed meanwhile has no use for it.
            let _ = self.with(vbucket, |vbucket| {
                if vbucket.generation == generation {
                    vbucket.table.update(&key, |entry| match entry.disk {
                        Some(disk) if disk.row() == from => entry.disk = Some(Disk::new(row, disk.seqno)),
                        _ => {}
                    });
                }
                Ok(())
            });
        }
    }
}

/// The items that get a row: the last one of each key.
fn rows_of<'a>(
    flush: &'a Flush,
    newest: Option<&'a HashSet<Seqno, RandomState>>,
) -> impl Iterator<Item = &'a Item> {
    flush.batch().items().filter(move |item| newest.is_none_or(|newest| newest.contains(&item.seqno())))
}
