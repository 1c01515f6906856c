//! What is remembered of a vbucket beside its rows.

use bytes::Bytes;
use cuttlebone_checkpoint::{CheckpointId, Seqno, SnapshotRange};
use cuttlebone_wire::{DecodeError, Features, Reader, Writer};

use crate::history::{BRANCHES_MAX, Branch, History};
use crate::vbucket::VbucketState;

/// Version 2 has the snapshot that a replica was receiving. What version 1 wrote is read as if there was none.
const VERSION: u8 = 2;
const COMPAT: u8 = 1;
/// Greatest seqno and checkpoint id that a log may begin with: what it counts on from there fits.
const NUMBER_MAX: u64 = u64::MAX / 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) state: VbucketState,
    pub(crate) generation: u32,
    /// Everything up to this is in rows, or was reverted.
    pub(crate) seqno: Seqno,
    /// The open checkpoint when this was written.
    pub(crate) checkpoint: CheckpointId,
    /// Deletions up to this are forgotten.
    pub(crate) purged: Seqno,
    /// The greatest CAS that was given.
    pub(crate) cas: u64,
    pub(crate) history: History,
    /// Barrier and seqnos of the last window that was reverted.
    pub(crate) reverted: Option<(CheckpointId, Seqno, Seqno)>,
    /// What a replica has up to `seqno` is consistent only with all of this.
    pub(crate) snapshot: SnapshotRange,
}

impl Document {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new(Features::default());
        w.versioned(VERSION, COMPAT, |w| {
            w.u8(self.state.number());
            w.u32(self.generation);
            for value in [self.seqno.0, self.checkpoint.0, self.purged.0, self.cas] {
                w.u64(value);
            }
            w.count(self.history.branches().len());
            for branch in self.history.branches() {
                w.u64(branch.id);
                w.u64(branch.from.0);
            }
            w.bool(self.reverted.is_some());
            let (barrier, first, last) = self.reverted.unwrap_or_default();
            for value in [barrier.0, first.0, last.0, self.snapshot.start.0, self.snapshot.end.0] {
                w.u64(value);
            }
        });
        let crc = crc32c::crc32c(w.as_slice());
        w.u32(crc);
        w.into_bytes().to_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let body = Bytes::copy_from_slice(body);
        let mut r = Reader::new(&body);
        r.versioned("document", VERSION, Self::fields).ok().flatten()
    }

    /// One with something in every field.
    #[cfg(any(test, feature = "__fuzz"))]
    pub(crate) fn sample() -> Self {
        Self {
            state: VbucketState::Replica,
            generation: 3,
            seqno: Seqno(4),
            checkpoint: CheckpointId(5),
            purged: Seqno(6),
            cas: 7,
            history: History::new(Branch { id: 8, from: Seqno(9) }),
            reverted: Some((CheckpointId(10), Seqno(11), Seqno(12))),
            snapshot: SnapshotRange { start: Seqno(13), end: Seqno(14) },
        }
    }

    fn fields(r: &mut Reader<'_>, version: u8) -> Result<Option<Self>, DecodeError> {
        let state = VbucketState::from_number(r.u8("state")?);
        let generation = r.u32("generation")?;
        let seqno = Seqno(r.u64("seqno")?);
        let checkpoint = CheckpointId(r.u64("checkpoint")?);
        let purged = Seqno(r.u64("purged")?);
        let cas = r.u64("cas")?;
        let branches = r.list("branches", BRANCHES_MAX, 16, |r| {
            Ok(Branch { id: r.u64("branch")?, from: Seqno(r.u64("from")?) })
        })?;
        let was_reverted = r.bool("was reverted")?;
        let reverted = (CheckpointId(r.u64("barrier")?), Seqno(r.u64("first")?), Seqno(r.u64("last")?));
        let reverted = was_reverted.then_some(reverted);
        let mut snapshot = SnapshotRange { start: seqno, end: seqno };
        if version >= 2 {
            snapshot = SnapshotRange { start: Seqno(r.u64("start")?), end: Seqno(r.u64("end")?) };
        }
        let history = History::from_branches(branches).filter(|_| seqno.0.max(checkpoint.0) <= NUMBER_MAX);
        Ok(state.zip(history).map(|(state, history)| Self {
            state,
            generation,
            seqno,
            checkpoint,
            purged,
            cas,
            history,
            reverted,
            snapshot,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_comes_back_and_a_damaged_one_does_not() {
        let bytes = Document::sample().encode();
        assert_eq!(Document::decode(&bytes), Some(Document::sample()));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Document::decode(&damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn a_document_with_numbers_or_branches_that_nobody_writes_is_none() {
        let last = NUMBER_MAX + 1;
        let seqno = Document { seqno: Seqno(last), ..Document::sample() };
        let checkpoint = Document { checkpoint: CheckpointId(last), ..Document::sample() };
        for document in [seqno, checkpoint] {
            assert_eq!(Document::decode(&document.encode()), None, "{document:?}");
        }
        let branch = |id| Branch { id, from: Seqno(id) };
        let history = History::from_branches((1..=25).rev().map(branch).collect()).unwrap();
        let full = Document { history, ..Document::sample() };
        assert_eq!(Document::decode(&full.encode()), Some(full));
        assert_eq!(History::from_branches((1..=26).rev().map(branch).collect()), None);
    }
}
