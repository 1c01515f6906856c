use bytes::Bytes;
use cuttlebone_wire::{Decode, Encode, Features, Op, OpKind, Reader, Transaction};

use super::RequesterConfig;
use crate::{ChunkError, PAXOS, StoreKey, SyncKind, Version};

/// Follows one copy chunk by chunk and refuses what a true one cannot contain.
///
/// A chunk holds, in this order: the versions from the one after the last chunk's `last_committed` up to its own,
/// without a gap; then, in a full copy, keys of the snapshot, ascending over the whole copy.
///
/// Source: `ceph/ceph:src/mon/Monitor.cc`, `handle_sync_get_chunk`; order and contents seen in 16.2.15.
#[derive(Debug)]
pub(crate) struct Scan {
    kind: SyncKind,
    start: Version,
    reached: Version,
    /// Whether the snapshot has shown version `start`, which the replay begins with.
    start_seen: bool,
    last_key: Option<StoreKey>,
    empty_chunks: u32,
    bytes: u64,
}

/// A chunk that passed.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) raw: Bytes,
    pub(crate) transaction: Transaction,
    pub(crate) versions: u64,
}

impl Scan {
    pub(crate) fn new(kind: SyncKind, start: Version) -> Self {
        Self { kind, start, reached: start, start_seen: false, last_key: None, empty_chunks: 0, bytes: 0 }
    }

    pub(crate) const fn kind(&self) -> SyncKind {
        self.kind
    }

    /// The highest version that has arrived.
    pub(crate) const fn reached(&self) -> Version {
        self.reached
    }

    /// The versions that have to be replayed; `None` if there are none.
    pub(crate) fn replay(&self) -> Option<(Version, Version)> {
        let first = match self.kind {
            // What a snapshot holds of a version whose services were being written is made whole by replaying it.
            SyncKind::Full => self.start.max(Version(1)),
            SyncKind::Recent { after } => after.next(),
        };
        (first <= self.reached).then_some((first, self.reached))
    }

    pub(crate) fn chunk(
        &mut self,
        raw: Bytes,
        last_committed: Version,
        config: &RequesterConfig,
    ) -> Result<Checked, ChunkError> {
        self.weigh(&raw, config)?;
        let mut r = Reader::new(&raw);
        let transaction = Transaction::decode(&mut r)?;
        r.finish("transaction")?;
        if last_committed < self.reached {
            return Err(ChunkError::Backwards { from: self.reached, to: last_committed });
        }
        let before = self.reached;
        let mut ops = transaction.ops.iter();
        while self.reached < last_committed {
            self.version(ops.next())?;
        }
        let versions = self.reached.0.saturating_sub(before.0);
        let mut proposals = 0_usize;
        for op in ops {
            proposals = proposals.saturating_add(usize::from(self.key(op)? == Kind::Proposal));
        }
        self.count_empty(&transaction, config)?;
        if let Some(key) = &mut self.last_key {
            // Or the whole frame would stay in memory for the sake of one key.
            *key = key.detached();
        }
        if proposals > 0 {
            return self.without_proposal(&transaction, versions);
        }
        Ok(Checked { raw, transaction, versions })
    }

    /// Nothing may be missing behind the last chunk.
    pub(crate) fn finish(&self) -> Result<(), ChunkError> {
        if self.kind == SyncKind::Full && self.start > Version(0) && !self.start_seen {
            return Err(ChunkError::Gap { expected: self.start });
        }
        Ok(())
    }

    fn weigh(&mut self, raw: &Bytes, config: &RequesterConfig) -> Result<(), ChunkError> {
        let wide = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        if raw.len() > config.chunk_bytes_max {
            return Err(ChunkError::TooLarge { bytes: wide(raw.len()), max: wide(config.chunk_bytes_max) });
        }
        self.bytes = self.bytes.saturating_add(wide(raw.len()));
        if self.bytes > config.copy_bytes_max {
            return Err(ChunkError::TooLarge { bytes: self.bytes, max: config.copy_bytes_max });
        }
        Ok(())
    }

    /// The next operation has to put the version after the last one.
    fn version(&mut self, op: Option<&Op>) -> Result<(), ChunkError> {
        let expected = self.reached.next();
        match op {
            Some(op) if op.prefix == PAXOS && Version::from_key(&op.key) == Some(expected) => put(op)?,
            _ => return Err(ChunkError::Gap { expected }),
        }
        self.reached = expected;
        Ok(())
    }

    fn key(&mut self, op: &Op) -> Result<Kind, ChunkError> {
        put(op)?;
        if self.kind != SyncKind::Full {
            return Err(ChunkError::Uninvited);
        }
        let key = StoreKey { prefix: op.prefix.clone(), key: op.key.clone() };
        if self.last_key.as_ref().is_some_and(|last| key <= *last) {
            return Err(ChunkError::OutOfOrder);
        }
        self.last_key = Some(key);
        match Version::from_key(&op.key).filter(|_| op.prefix == PAXOS) {
            // A monitor keeps what it has accepted and not committed yet under the next version's key.
            Some(version) if version == self.start.next() => Ok(Kind::Proposal),
            Some(version) if version > self.start => {
                Err(ChunkError::Beyond { version, last_committed: self.start })
            }
            Some(version) => {
                self.start_seen |= version == self.start;
                Ok(Kind::Key)
            }
            None => Ok(Kind::Key),
        }
    }

    fn count_empty(&mut self, transaction: &Transaction, config: &RequesterConfig) -> Result<(), ChunkError> {
        self.empty_chunks = if transaction.ops.is_empty() { self.empty_chunks.saturating_add(1) } else { 0 };
        if self.empty_chunks > config.empty_chunks_max {
            return Err(ChunkError::Empty { chunks: self.empty_chunks });
        }
        Ok(())
    }

    /// The chunk without the snapshot's proposal for the version after `start`.
    ///
    /// Another value may have been committed in its place since, and that one may have come already; the proposal
    /// must not overwrite it. If it was the right one, it comes again as a version.
    fn without_proposal(&self, transaction: &Transaction, versions: u64) -> Result<Checked, ChunkError> {
        let skip = usize::try_from(versions).unwrap_or(usize::MAX);
        let proposal = self.start.next().key();
        let keep = |(i, op): &(usize, &Op)| *i < skip || op.prefix != PAXOS || op.key != proposal;
        let ops = transaction.ops.iter().enumerate().filter(keep).map(|(_, op)| op.clone()).collect();
        let raw = Transaction::new(ops).to_bytes(Features::PACIFIC);
        // Decoded again, since whoever keeps a chunk counts on its values lying in its bytes.
        let transaction = Transaction::decode(&mut Reader::new(&raw))?;
        Ok(Checked { raw, transaction, versions })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Key,
    Proposal,
}

/// A chunk holds nothing but puts, of keys that a store can hold.
pub(crate) fn put(op: &Op) -> Result<(), ChunkError> {
    if op.kind != OpKind::Put {
        Err(ChunkError::NotAPut)
    } else if op.prefix.is_empty() || op.prefix.contains(&0) {
        Err(ChunkError::BadKey)
    } else {
        Ok(())
    }
}
