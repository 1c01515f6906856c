use alloc::collections::BTreeSet;

use bytes::Bytes;
use cuttlebone_wire::{Decode, Encode, Features, Op, Reader, Transaction, crc32c};

use super::RequesterConfig;
use super::message::{Flags, Message};
use crate::v2::put;
use crate::{ChunkError, PAXOS, StoreKey, Version};

/// Adds an entry to the checksum of a phase.
///
/// Source: `ceph/ceph:src/mon/MonitorDBStore.h` of 0.61, `Synchronizer::get_chunk`: prefix, key and value, each
/// with its length, seed 0, nothing inverted.
pub(crate) fn checksum(crc: u32, op: &Op) -> u32 {
    [&op.prefix, &op.key, &op.value].into_iter().fold(crc, |crc, part| {
        let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
        crc32c(crc32c(crc, &len.to_le_bytes()), part)
    })
}

/// Follows one copy chunk by chunk, over one provider after another, and refuses what a true one cannot contain.
///
/// A copy has two phases: all keys, ascending, then those of the log once more, ascending. Where one ends is not
/// said, but keys that begin again show it. Its last chunk names the version that it is of.
#[derive(Debug, Default)]
pub(crate) struct Phases {
    phase: Phase,
    /// The last key that has arrived, in this phase.
    last_key: Option<StoreKey>,
    /// Over what this provider has sent in this phase.
    crc: u32,
    /// The versions that the log phase has brought.
    versions: BTreeSet<Version>,
    /// The oldest version that any part of the copy is of, and the newest; `None` if some provider does not say.
    span: Option<(Version, Version)>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Whole,
    /// The last key was that of the last whole chunk; the log must begin.
    Between,
    Paxos,
}

/// A chunk that passed.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) raw: Bytes,
    pub(crate) transaction: Transaction,
}

impl Phases {
    /// Goes on with another provider; says behind which key, or that everything has to come again.
    ///
    /// The part that is here may be of a later version than what another provider has, and the last chunk alone
    /// would not show it. So a copy is resumed only if the first provider said what its part is of.
    pub(crate) fn resume(&mut self) -> Option<StoreKey> {
        self.crc = 0;
        self.versions.clear();
        // A last key whose second half is empty reads as "from the start" to a provider.
        let nameable = self.last_key.as_ref().is_some_and(|key| !key.key.is_empty());
        if self.span.is_none() || !nameable {
            *self = Self { bytes: self.bytes, ..Self::default() };
            return None;
        }
        self.phase = Phase::Whole;
        self.last_key.clone()
    }

    pub(crate) fn chunk(
        &mut self,
        message: &Message,
        config: &RequesterConfig,
    ) -> Result<Checked, ChunkError> {
        self.weigh(message, config)?;
        let mut r = Reader::new(&message.chunk);
        let transaction = Transaction::decode(&mut r)?;
        r.finish("transaction")?;
        let first = transaction.ops.first();
        self.turn(first);
        for op in &transaction.ops {
            self.key(op, config)?;
            self.crc = checksum(self.crc, op);
        }
        self.note(message.version);
        if message.flags.contains(Flags::CRC) {
            if message.crc != self.crc {
                return Err(ChunkError::Checksum { ours: self.crc, theirs: message.crc });
            }
            if self.phase == Phase::Whole && !message.flags.contains(Flags::LAST) {
                self.phase = Phase::Between;
            }
        }
        if let Some(key) = &mut self.last_key {
            // Or the whole frame would stay in memory for the sake of one key.
            *key = key.detached();
        }
        without_proposals(message, transaction)
    }

    /// Nothing may be missing behind the last chunk: the versions to replay, and so the version of the copy.
    pub(crate) fn finish(&self, version: Version) -> Result<(Version, Version), ChunkError> {
        let (oldest, newest) = self.span.unwrap_or((version, version));
        if newest > version {
            return Err(ChunkError::Backwards { from: newest, to: version });
        }
        let first = self.versions.first().copied().unwrap_or(version);
        // Whatever is of an older version needs all that came after it.
        if first > oldest.next() {
            return Err(ChunkError::Gap { expected: oldest.next() });
        }
        let mut expected = first;
        for present in self.versions.range(..=version) {
            if *present != expected {
                return Err(ChunkError::Gap { expected });
            }
            expected = expected.next();
        }
        if self.phase != Phase::Paxos || expected != version.next() {
            return Err(ChunkError::Gap { expected });
        }
        Ok((first, version))
    }

    fn weigh(&mut self, message: &Message, config: &RequesterConfig) -> Result<(), ChunkError> {
        let wide = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let bytes = wide(message.chunk.len());
        if message.chunk.len() > config.chunk_bytes_max {
            return Err(ChunkError::TooLarge { bytes, max: wide(config.chunk_bytes_max) });
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > config.copy_bytes_max {
            return Err(ChunkError::TooLarge { bytes: self.bytes, max: config.copy_bytes_max });
        }
        Ok(())
    }

    /// Begins the log phase if keys of the log begin again. A chunk never belongs to both phases.
    fn turn(&mut self, first: Option<&Op>) {
        let Some(first) = first else { return };
        let again = self
            .last_key
            .as_ref()
            .is_some_and(|last| (&first.prefix, &first.key) <= (&last.prefix, &last.key));
        if self.phase == Phase::Between || (self.phase == Phase::Whole && again && first.prefix == PAXOS) {
            self.phase = Phase::Paxos;
            self.last_key = None;
            self.crc = 0;
        }
    }

    fn key(&mut self, op: &Op, config: &RequesterConfig) -> Result<(), ChunkError> {
        put(op)?;
        let key = StoreKey { prefix: op.prefix.clone(), key: op.key.clone() };
        if self.last_key.as_ref().is_some_and(|last| key <= *last) {
            return Err(ChunkError::OutOfOrder);
        }
        self.last_key = Some(key);
        if self.phase == Phase::Paxos {
            if op.prefix != PAXOS {
                return Err(ChunkError::Uninvited);
            }
            self.versions.extend(Version::from_key(&op.key));
            if self.versions.len() > config.versions_max {
                let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
                return Err(ChunkError::TooLarge { bytes: self.bytes, max: wide(config.versions_max) });
            }
        }
        Ok(())
    }

    fn note(&mut self, version: Version) {
        // Historic providers name the version on the last chunk only.
        if version > Version(0) {
            let (oldest, newest) = self.span.unwrap_or((version, version));
            self.span = Some((oldest.min(version), newest.max(version)));
        }
    }
}

/// The chunk without what the provider had accepted and not committed, if it says up to where it had committed.
fn without_proposals(message: &Message, transaction: Transaction) -> Result<Checked, ChunkError> {
    let proposed = |op: &Op| {
        message.version > Version(0)
            && op.prefix == PAXOS
            && Version::from_key(&op.key).is_some_and(|version| version > message.version)
    };
    if !transaction.ops.iter().any(proposed) {
        return Ok(Checked { raw: message.chunk.clone(), transaction });
    }
    let ops = transaction.ops.into_iter().filter(|op| !proposed(op)).collect();
    let raw = Transaction::new(ops).to_bytes(Features::PACIFIC);
    // Decoded again, since whoever keeps a chunk counts on its values lying in its bytes.
    let transaction = Transaction::decode(&mut Reader::new(&raw))?;
    Ok(Checked { raw, transaction })
}
