//! Turns transactions whose bytes lie in the log into index entries of one new point.

use core::ops::Bound;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cuttlebone_wire::{Decode, OpKind, Reader, Transaction, crc32c};

use crate::block::{Change, Slot};
use crate::disk::Disk;
use crate::layers::Layers;
use crate::limits::PULL_RUNS_MAX;
use crate::log::{Log, join_key, key_crc};
use crate::point::Summary;
use crate::run::{Run, RunMeta, RunWriter};
use crate::{Error, Limits, ProviderFault};

/// The service under which a monitor logs its own transactions.
pub(crate) const PAXOS: &[u8] = b"paxos";
/// The key under which every service keeps its newest version, as eight little-endian bytes.
pub(crate) const LAST_COMMITTED: &[u8] = b"last_committed";

/// The index of a pull while it grows.
#[derive(Debug)]
pub(crate) struct Builder {
    disk: Arc<dyn Disk>,
    limits: Limits,
    generation: u64,
    point: u64,
    /// What was there before, and the runs of this pull on top of it.
    beneath: Layers,
    /// Totals before this pull, and of the stream.
    summary: Summary,
    /// Totals before this pull, from which they are counted anew if the overlay was ever full.
    before: Summary,
    has_spilled: bool,
    /// The run of keys that arrive in order; only a full pull has one, and only until it is looked into.
    stream: Option<Stream>,
    overlay: BTreeMap<Vec<u8>, Change>,
    overlay_key_bytes: usize,
    next_run: u64,
    /// Runs of this pull, in the order of writing.
    runs: Vec<RunMeta>,
    /// The key at hand; kept to save an allocation per operation.
    key: Vec<u8>,
}

#[derive(Debug)]
struct Stream {
    run: RunWriter,
    last_key: Vec<u8>,
}

/// A finished index: what became of it depends on its size.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) summary: Summary,
    /// Runs written for this pull; on top of them lie the changes.
    pub(crate) runs: Vec<RunMeta>,
    /// Changes few enough to be written inline.
    pub(crate) changes: BTreeMap<Vec<u8>, Change>,
    pub(crate) next_run: u64,
}

/// Where a builder starts.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) generation: u64,
    pub(crate) point: u64,
    pub(crate) next_run: u64,
    pub(crate) beneath: Layers,
    pub(crate) summary: Summary,
    /// Whether nothing is beneath, so that keys in order can go straight into a run.
    pub(crate) streams: bool,
}

impl Builder {
    pub(crate) fn new(disk: Arc<dyn Disk>, limits: Limits, start: Start) -> Result<Self, Error> {
        let Start { generation, point, next_run, beneath, summary, streams } = start;
        let mut builder = Self {
            disk,
            limits,
            generation,
            point,
            beneath,
            before: summary.clone(),
            summary,
            has_spilled: false,
            stream: None,
            overlay: BTreeMap::new(),
            overlay_key_bytes: 0,
            next_run,
            runs: Vec::new(),
            key: Vec::new(),
        };
        if streams {
            let run = builder.create_run()?;
            builder.stream = Some(Stream { run, last_key: Vec::new() });
        }
        Ok(builder)
    }

    /// Applies a transaction that was decoded from `raw`, whose first byte lies at `at` in the log.
    pub(crate) fn apply(&mut self, transaction: &Transaction, raw: &[u8], at: u64) -> Result<(), Error> {
        for op in &transaction.ops {
            if op.prefix.contains(&0) {
                return Err(ProviderFault::NulInPrefix.into());
            }
            match op.kind {
                OpKind::Put => {
                    let slot = Self::slot_of(&op.prefix, &op.key, &op.value, raw, at)?;
                    self.put(&op.prefix, &op.key, slot)?;
                }
                OpKind::Erase => self.erase(&op.prefix, &op.key)?,
                OpKind::EraseRange => self.erase_range(&op.prefix, &op.key, &op.end_key)?,
                OpKind::Compact => {}
            }
        }
        Ok(())
    }

    /// Finds a value in the bytes that it was decoded from: it shares their memory.
    fn slot_of(prefix: &[u8], key: &[u8], value: &Bytes, raw: &[u8], at: u64) -> Result<Slot, Error> {
        const FOREIGN: Error = Error::Misuse("a transaction was not decoded from the bytes given with it");
        // An empty value shares no memory with anything.
        let inside = if value.is_empty() {
            0
        } else {
            let offset = value.as_ptr().addr().checked_sub(raw.as_ptr().addr());
            offset.filter(|offset| offset + value.len() <= raw.len()).ok_or(FOREIGN)?
        };
        let len = u32::try_from(value.len()).map_err(|_| FOREIGN)?;
        let crc = crc32c(crc32c(crc32c(0, prefix), key), value);
        Ok(Slot { at: at + inside as u64, len, crc })
    }

    /// Sets a key to the value at `slot`.
    pub(crate) fn put(&mut self, prefix: &[u8], key: &[u8], slot: Slot) -> Result<(), Error> {
        join_key(&mut self.key, prefix, key);
        // A provider mixes new paxos versions among the other keys; in the stream they would be a last key that
        // everything after them is below.
        if *prefix != *PAXOS
            && let Some(stream) = &mut self.stream
            && (stream.run.entries() == 0 || *stream.last_key < *self.key)
        {
            stream.run.push(&self.key, self.point, Some(slot))?;
            stream.last_key.clone_from(&self.key);
            return self.summary.add(&self.key, slot);
        }
        self.set(Some(slot))
    }

    fn erase(&mut self, prefix: &[u8], key: &[u8]) -> Result<(), Error> {
        self.seal_stream()?;
        join_key(&mut self.key, prefix, key);
        self.set(None)
    }

    /// Erases every key there is in `key..end_key`, one by one, so that nobody else has to know about ranges.
    fn erase_range(&mut self, prefix: &[u8], key: &[u8], end_key: &[u8]) -> Result<(), Error> {
        self.seal_stream()?;
        let (mut from, mut to) = (Vec::new(), Vec::new());
        join_key(&mut from, prefix, key);
        join_key(&mut to, prefix, end_key);
        if from >= to {
            return Ok(());
        }
        let range = (Bound::Included(&*from), Bound::Excluded(&*to));
        for (_, change) in self.overlay.range_mut::<[u8], _>(range) {
            *change = None;
        }
        let beneath = self.beneath.clone();
        let mut visible = beneath.visible(&from, self.point)?;
        while visible.advance()? && *visible.key() < *to {
            self.key.clear();
            self.key.extend_from_slice(visible.key());
            self.set(None)?;
        }
        Ok(())
    }

    /// Notes a change of the key at hand in the overlay.
    fn set(&mut self, change: Change) -> Result<(), Error> {
        let key = core::mem::take(&mut self.key);
        let bytes = key.len();
        if self.overlay.insert(key, change).is_none() {
            self.overlay_key_bytes += bytes;
        }
        if self.overlay.len() >= self.limits.overlay_entries_max
            || self.overlay_key_bytes >= self.limits.overlay_key_bytes_max
        {
            self.spill()?;
        }
        Ok(())
    }

    /// Where the value of a key lies by now.
    pub(crate) fn get(&mut self, prefix: &[u8], key: &[u8]) -> Result<Option<Slot>, Error> {
        self.seal_stream()?;
        join_key(&mut self.key, prefix, key);
        match self.overlay.get(&self.key) {
            Some(change) => Ok(*change),
            None => self.beneath.get(&self.key, self.point),
        }
    }

    /// Applies the transactions in `paxos:<first> ..= paxos:<last>`, read from `log`, in the order of versions.
    pub(crate) fn replay(&mut self, log: &Log, first: u64, last: u64) -> Result<(), Error> {
        for version in first..=last {
            let number = version.to_string();
            let Some(slot) = self.get(PAXOS, number.as_bytes())? else {
                return Err(ProviderFault::MissingVersion(version).into());
            };
            let value = log.value(&self.key, slot)?;
            let transaction = Transaction::decode(&mut Reader::new(&value))
                .map_err(|error| ProviderFault::Malformed { version, error })?;
            self.apply(&transaction, &value, slot.at)?;
        }
        Ok(())
    }

    /// Notes that `paxos:last_committed` is the eight bytes at `at` in the log, which say `version`.
    pub(crate) fn set_last_committed(&mut self, version: u64, at: u64) -> Result<(), Error> {
        let mut key = Vec::new();
        join_key(&mut key, PAXOS, LAST_COMMITTED);
        let crc = crc32c(key_crc(&key), &version.to_le_bytes());
        self.put(PAXOS, LAST_COMMITTED, Slot { at, len: 8, crc })
    }

    /// Completes the index. What is left of the overlay stays inline if it is small and `may_inline`.
    pub(crate) fn finish(mut self, may_inline: bool) -> Result<Built, Error> {
        self.seal_stream()?;
        let is_counted = !self.has_spilled;
        if is_counted {
            self.absorb()?;
        }
        if !may_inline || self.has_spilled || self.overlay.len() > self.limits.inline_entries_max {
            self.spill()?;
        }
        if !is_counted {
            self.count_anew()?;
        }
        Ok(Built { summary: self.summary, runs: self.runs, changes: self.overlay, next_run: self.next_run })
    }

    fn create_run(&mut self) -> Result<RunWriter, Error> {
        let id = self.next_run;
        self.next_run += 1;
        RunWriter::create(&*self.disk, self.generation, id)
    }

    /// Ends the run of keys in order, so that it can be looked into.
    fn seal_stream(&mut self) -> Result<(), Error> {
        match self.stream.take() {
            Some(stream) if stream.run.entries() > 0 => self.add_run(stream.run),
            // An empty one stays behind as an unnamed file, and goes with the next pull.
            _ => Ok(()),
        }
    }

    fn add_run(&mut self, run: RunWriter) -> Result<(), Error> {
        let meta = run.finish(&[])?;
        self.beneath.runs.push(Arc::new(Run::open(&*self.disk, self.generation, meta)?));
        self.runs.push(meta);
        Ok(())
    }

    /// Writes the overlay as a run. What it changes is not counted here: looking up so many keys in no order would
    /// take longer than going through all of them once at the end.
    fn spill(&mut self) -> Result<(), Error> {
        self.seal_stream()?;
        self.has_spilled = true;
        if self.overlay.is_empty() {
            return Ok(());
        }
        let mut run = self.create_run()?;
        for (key, change) in core::mem::take(&mut self.overlay) {
            run.push(&key, self.point, change)?;
        }
        self.overlay_key_bytes = 0;
        self.add_run(run)?;
        if self.runs.len() >= PULL_RUNS_MAX { self.merge_own_runs() } else { Ok(()) }
    }

    /// Brings the totals up to date with the overlay, and drops erasures of what is not there.
    fn absorb(&mut self) -> Result<(), Error> {
        let Self { overlay, beneath, summary, point, .. } = self;
        let mut result = Ok(());
        overlay.retain(|key, change| {
            if result.is_err() {
                return true;
            }
            let before = match beneath.get(key, *point) {
                Ok(before) => before,
                Err(error) => {
                    result = Err(error);
                    return true;
                }
            };
            if let Some(slot) = before {
                summary.sub(key, slot);
            }
            if let Some(slot) = change {
                result = summary.add(key, *slot);
            }
            before.is_some() || change.is_some()
        });
        result
    }

    /// Brings the totals up to date in one pass over the whole index.
    fn count_anew(&mut self) -> Result<(), Error> {
        self.summary = self.before.clone();
        let mut versions = self.beneath.versions(&[])?;
        // The key that this pull has changed and whose older version, if any, comes next.
        let mut changed: Option<Vec<u8>> = None;
        while versions.advance()? {
            if versions.point() == self.point {
                if let Some(slot) = versions.change() {
                    self.summary.add(versions.key(), slot)?;
                }
                let key = changed.get_or_insert_default();
                key.clear();
                key.extend_from_slice(versions.key());
            } else if changed.as_deref() == Some(versions.key()) {
                if let Some(slot) = versions.change() {
                    self.summary.sub(versions.key(), slot);
                }
                changed = None;
            }
        }
        Ok(())
    }

    /// Merges the runs of this pull, so that no order of arrival makes too many.
    fn merge_own_runs(&mut self) -> Result<(), Error> {
        let first = self.beneath.runs.len() - self.runs.len();
        let own = Layers::of_runs(self.beneath.runs.split_off(first));
        self.runs.clear();
        let mut run = self.create_run()?;
        let mut versions = own.versions(&[])?;
        while versions.advance()? {
            run.push(versions.key(), versions.point(), versions.change())?;
        }
        self.add_run(run)?;
        // The old files are named nowhere; what cannot be removed now goes with the next pull.
        for old in &own.runs {
            let _ = self.disk.remove(&crate::run::run_name(self.generation, old.meta().id));
        }
        Ok(())
    }
}
