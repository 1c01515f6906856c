use core::cmp::Ordering;

use super::Report;
use crate::block::Change;
use crate::generation::Generation;
use crate::layers::{Layers, Versions};
use crate::{Corruption, Error};

/// Compares an index with the one that its log makes, entry by entry.
pub(super) fn compare(generation: &Generation, rebuilt: &Layers, report: &mut Report) -> Result<(), Error> {
    let mut real = Histories::new(&generation.layers)?;
    let mut right = Histories::new(rebuilt)?;
    let mut wrong = |key: &[u8], what| {
        report.add(Corruption::new(generation.log.name(), None, what).of_key(key));
    };
    let mut entries = 0;
    loop {
        let order = match (&real.history, &right.history) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.key.cmp(&b.key),
        };
        match (order, &real.history, &right.history) {
            (Ordering::Less, Some(real), _) => wrong(&real.key, "the index has a key that the log has not"),
            (Ordering::Greater, _, Some(right)) => {
                wrong(&right.key, "the index lacks a key that the log has");
            }
            (_, Some(real), Some(right)) if real.versions != right.versions => {
                wrong(&real.key, "the index has another history of a key than the log");
            }
            (_, Some(real), _) => entries += real.versions.len() as u64,
            _ => {}
        }
        if order != Ordering::Greater {
            real.advance()?;
        }
        if order != Ordering::Less {
            right.advance()?;
        }
    }
    report.entries += entries;
    Ok(())
}

/// All that became of one key, oldest first.
#[derive(Debug)]
struct History {
    key: Vec<u8>,
    versions: Vec<(u64, Change)>,
}

/// The histories of all keys, without erasures of what was not there: whether those are kept depends on when a
/// builder ran out of memory.
#[derive(Debug)]
struct Histories<'a> {
    source: Versions<'a>,
    /// Whether `source` stands on an entry that is not part of a history yet.
    is_on_entry: bool,
    history: Option<History>,
}

impl<'a> Histories<'a> {
    fn new(layers: &'a Layers) -> Result<Self, Error> {
        let mut source = layers.versions(&[])?;
        let is_on_entry = source.advance()?;
        let mut histories = Self { source, is_on_entry, history: None };
        histories.advance()?;
        Ok(histories)
    }

    fn advance(&mut self) -> Result<(), Error> {
        self.history = None;
        while self.is_on_entry {
            let key = self.source.key().to_vec();
            let mut newest_first = Vec::new();
            while self.is_on_entry && *self.source.key() == *key {
                newest_first.push((self.source.point(), self.source.change()));
                self.is_on_entry = self.source.advance()?;
            }
            let mut versions: Vec<(u64, Change)> = Vec::with_capacity(newest_first.len());
            for (point, change) in newest_first.into_iter().rev() {
                if change.is_some() || versions.last().is_some_and(|(_, before)| before.is_some()) {
                    versions.push((point, change));
                }
            }
            if !versions.is_empty() {
                self.history = Some(History { key, versions });
                break;
            }
        }
        Ok(())
    }
}
