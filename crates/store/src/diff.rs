use core::cmp::Ordering;
use core::iter::Peekable;

use crate::{Entries, Entry, Error, View};

/// How one key differs between two views.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a key is in the first view, in the second, or in both")]
pub enum Difference {
    /// Only in the second.
    Added(Entry),
    /// In both, with another value.
    Changed {
        /// In the first view.
        before: Entry,
        /// In the second view.
        after: Entry,
    },
    /// Only in the first.
    Removed(Entry),
}

/// What is different in `after`, in the order of keys. Values are compared by length and crc, not read.
///
/// # Errors
///
/// As [`View::entries`]; the iterator ends with its first error.
pub fn diff<'a>(before: &'a View, after: &'a View) -> Result<Differences<'a>, Error> {
    Ok(Differences { before: before.entries(None)?.peekable(), after: after.entries(None)?.peekable() })
}

/// Differences in the order of keys.
#[derive(Debug)]
pub struct Differences<'a> {
    before: Peekable<Entries<'a>>,
    after: Peekable<Entries<'a>>,
}

impl Differences<'_> {
    fn step(&mut self) -> Result<Option<Difference>, Error> {
        loop {
            let order = match (self.before.peek(), self.after.peek()) {
                (Some(Ok(before)), Some(Ok(after))) => before.combined().cmp(after.combined()),
                (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
                (_, Some(_)) => Ordering::Greater,
                (None, None) => return Ok(None),
            };
            if order == Ordering::Less {
                return self.before.next().transpose().map(|entry| entry.map(Difference::Removed));
            }
            let Some(after) = self.after.next().transpose()? else { return Ok(None) };
            if order == Ordering::Greater {
                return Ok(Some(Difference::Added(after)));
            }
            let Some(before) = self.before.next().transpose()? else { return Ok(None) };
            if (before.len(), before.crc()) != (after.len(), after.crc()) {
                return Ok(Some(Difference::Changed { before, after }));
            }
        }
    }
}

impl Iterator for Differences<'_> {
    type Item = Result<Difference, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
