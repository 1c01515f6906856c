//! The index of a generation: runs, and the inline changes since the last run, read as one.

use core::cmp::Reverse;
use core::ops::Bound;
use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use crate::Error;
use crate::block::{Change, Slot};
use crate::run::{Cursor, Run};

/// Key, and point in descending order.
type TailKey = (Box<[u8]>, Reverse<u64>);

/// All versions of all keys of a generation. Cheap to clone but for the tail, which a limit keeps small.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers {
    /// In the order of writing: of two entries for the same key and point, the later run's counts.
    pub(crate) runs: Vec<Arc<Run>>,
    tail: Arc<BTreeMap<TailKey, Change>>,
}

impl Layers {
    pub(crate) fn of_runs(runs: Vec<Arc<Run>>) -> Self {
        Self { runs, ..Self::default() }
    }

    pub(crate) fn tail_len(&self) -> usize {
        self.tail.len()
    }

    pub(crate) fn push_tail(&mut self, key: &[u8], point: u64, change: Change) {
        Arc::make_mut(&mut self.tail).insert((key.into(), Reverse(point)), change);
    }

    /// The tail's entries in the order of a run.
    pub(crate) fn tail(&self) -> impl Iterator<Item = (&[u8], u64, Change)> {
        self.tail.iter().map(|((key, Reverse(point)), change)| (&**key, *point, *change))
    }

    pub(crate) fn clear_tail(&mut self) {
        self.tail = Arc::default();
    }

    /// Where the value of `key` lies as of `point`.
    pub(crate) fn get(&self, key: &[u8], point: u64) -> Result<Option<Slot>, Error> {
        let from = (Box::from(key), Reverse(point));
        let mut best = self
            .tail
            .range(from..)
            .next()
            .filter(|((found, _), _)| **found == *key)
            .map(|((_, Reverse(at)), change)| (*at, *change));
        for run in self.runs.iter().rev() {
            if let Some((at, change)) = run.get(key, point)?
                && best.is_none_or(|(best, _)| at > best)
            {
                best = Some((at, change));
            }
        }
        Ok(best.and_then(|(_, change)| change))
    }

    /// Every version of every key from `from` on: keys ascending, points descending, each pair once.
    pub(crate) fn versions(&self, from: &[u8]) -> Result<Versions<'_>, Error> {
        let mut sources = Vec::with_capacity(self.runs.len() + 1);
        let start = (Bound::Included((Box::from(from), Reverse(u64::MAX))), Bound::Unbounded);
        let mut tail = self.tail.range(start);
        if let Some(entry) = tail.next() {
            sources.push(Source::Tail { entry, rest: tail });
        }
        for run in self.runs.iter().rev() {
            let cursor = Cursor::seek(run, from)?;
            if cursor.entry().is_some() {
                sources.push(Source::Run(cursor));
            }
        }
        Ok(Versions { sources, started: false, key: Vec::new(), point: 0, change: None })
    }

    /// Every key with a value as of `point`, from `from` on.
    pub(crate) fn visible(&self, from: &[u8], point: u64) -> Result<Visible<'_>, Error> {
        Ok(Visible {
            versions: self.versions(from)?,
            point,
            last: None,
            slot: Slot { at: 0, len: 0, crc: 0 },
        })
    }
}

#[derive(Debug)]
enum Source<'a> {
    Tail { entry: (&'a TailKey, &'a Change), rest: btree_map::Range<'a, TailKey, Change> },
    Run(Cursor),
}

impl Source<'_> {
    fn key_and_point(&self) -> (&[u8], Reverse<u64>) {
        match self {
            Self::Tail { entry: ((key, point), _), .. } => (key, *point),
            // A source without an entry is dropped at once; a cursor behind its end sorts first and shows it.
            Self::Run(cursor) => {
                cursor.entry().map_or((&[], Reverse(0)), |block| (block.key(), Reverse(block.point())))
            }
        }
    }

    fn change(&self) -> Change {
        match self {
            Self::Tail { entry: (_, change), .. } => **change,
            Self::Run(cursor) => cursor.entry().and_then(super::block::BlockReader::change),
        }
    }

    /// Goes on; `false` at the end.
    fn advance(&mut self) -> Result<bool, Error> {
        match self {
            Self::Tail { entry, rest } => Ok(rest.next().map(|next| *entry = next).is_some()),
            Self::Run(cursor) => {
                cursor.advance()?;
                Ok(cursor.entry().is_some())
            }
        }
    }
}

/// A merge of all sources, which stand in the order of their rank.
///
/// There are at most a handful of them, so the smallest is found by looking at each.
#[derive(Debug)]
pub(crate) struct Versions<'a> {
    sources: Vec<Source<'a>>,
    started: bool,
    key: Vec<u8>,
    point: u64,
    change: Change,
}

impl Versions<'_> {
    /// Goes to the next version; `false` at the end.
    pub(crate) fn advance(&mut self) -> Result<bool, Error> {
        loop {
            let Some(first) = self.smallest() else { return Ok(false) };
            let source = &self.sources[first];
            let (key, Reverse(point)) = source.key_and_point();
            // The same key and point again comes from a lower rank.
            let is_new = !self.started || point != self.point || *key != *self.key;
            if is_new {
                self.change = source.change();
                self.point = point;
                self.key.clear();
                self.key.extend_from_slice(key);
                self.started = true;
            }
            if !self.sources[first].advance()? {
                self.sources.remove(first);
            }
            if is_new {
                return Ok(true);
            }
        }
    }

    fn smallest(&self) -> Option<usize> {
        let mut best = 0;
        for other in 1..self.sources.len() {
            if self.sources[other].key_and_point() < self.sources[best].key_and_point() {
                best = other;
            }
        }
        (!self.sources.is_empty()).then_some(best)
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(crate) const fn point(&self) -> u64 {
        self.point
    }

    pub(crate) const fn change(&self) -> Change {
        self.change
    }
}

/// The keys of one point, each with its value's place.
#[derive(Debug)]
pub(crate) struct Visible<'a> {
    versions: Versions<'a>,
    point: u64,
    /// The key that has been decided already: older versions of it are passed over.
    last: Option<Vec<u8>>,
    slot: Slot,
}

impl Visible<'_> {
    /// Goes to the next key; `false` at the end.
    pub(crate) fn advance(&mut self) -> Result<bool, Error> {
        while self.versions.advance()? {
            if self.versions.point() > self.point || self.last.as_deref() == Some(self.versions.key()) {
                continue;
            }
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(self.versions.key());
            if let Some(slot) = self.versions.change() {
                self.slot = slot;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `prefix NUL key`.
    pub(crate) fn key(&self) -> &[u8] {
        self.versions.key()
    }

    pub(crate) const fn slot(&self) -> Slot {
        self.slot
    }
}
