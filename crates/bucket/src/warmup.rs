use std::collections::BTreeMap;

use cuttlebone_checkpoint::{Item, Seqno};

use crate::bucket::Now;
use crate::document::Document;
use crate::engine::{Engine, RowAt, Snapshot};
use crate::flusher::Writer;
use crate::history::Branch;
use crate::table::{Disk, Entry};
use crate::vbucket::{Vbucket, VbucketState};
use crate::{BucketLimits, OpenError, record};

/// Values are loaded up to this part of the memory for them.
const LOAD_TENTHS: usize = 6;

/// Reads documents and rows, oldest first: of each key the row with the greatest seqno counts, the last of equal ones.
pub(crate) fn load<E: Engine>(
    engine: &E,
    limits: BucketLimits,
    now: Now,
    chance: &mut impl FnMut() -> u64,
) -> Result<(Vec<Vbucket>, Writer), OpenError> {
    let mut vbuckets = BTreeMap::new();
    for (id, bytes) in engine.documents()? {
        let document = Document::decode(&bytes).ok_or(OpenError::Document { vbucket: id })?;
        vbuckets.insert(id, Vbucket::from_document(now, id, document, chance, limits)?);
    }
    let first = engine.span().start;
    let writer = Writer { first, ..Writer::default() };
    let mut damaged = None;
    engine.snapshot()?.rows(first, u64::MAX, &mut |at, row| {
        let Some(record) = record::decode(row) else {
            damaged = Some(at.address);
            return false;
        };
        if let Some(vbucket) = vbuckets.get_mut(&record.vbucket)
            && vbucket.generation == record.generation
        {
            vbucket.load(at, record.item);
        }
        true
    })?;
    if let Some(address) = damaged {
        return Err(OpenError::Row { address });
    }
    let vbuckets = vbuckets.into_values().map(|mut vbucket| {
        vbucket.loaded(chance());
        vbucket
    });
    Ok((vbuckets.collect(), writer))
}

impl Vbucket {
    fn load(&mut self, row: RowAt, item: Item) {
        let newer = self.table.look(item.key(), Entry::seqno).is_none_or(|seqno| seqno <= item.seqno());
        if newer {
            let disk = Disk::new(row, item.seqno());
            let mut entry = Entry::new(item, Some(disk));
            if self.table.sums().resident_bytes > self.limits.resident_bytes_max / 10 * LOAD_TENTHS {
                entry.give_up_value();
            }
            self.table.insert(entry);
        }
    }

    /// All rows are read: deletions are queued for being forgotten, and a new branch begins, since what the last
    /// process told others beyond its disk is lost.
    fn loaded(&mut self, branch: u64) {
        let mut tombstones: Vec<(Seqno, Box<[u8]>)> = Vec::new();
        self.table.for_each(|entry| {
            if !entry.is_live() {
                tombstones.push((entry.seqno(), entry.key().into()));
            }
        });
        tombstones.sort_unstable();
        self.tombstones = tombstones.into();
        if self.state != VbucketState::Replica {
            self.history.begin(Branch { id: branch.max(1), from: self.log.last_seqno() });
        }
    }
}
