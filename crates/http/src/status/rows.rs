use serde::{Deserialize, Serialize};

/// How many rows of a table a snapshot keeps.
pub const ROWS_MAX: usize = 1_024;

/// The first [`ROWS_MAX`] rows of a table, and how many there are in all. Made by collecting an iterator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Rows<T> {
    /// How many there are.
    pub total: u64,
    /// The first of them.
    pub rows: Vec<T>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { total: 0, rows: Vec::new() }
    }
}

impl<T> FromIterator<T> for Rows<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let mut collected = Self::default();
        for row in all {
            collected.total += 1;
            if collected.rows.len() < ROWS_MAX {
                collected.rows.push(row);
            }
        }
        collected
    }
}

impl<T> Rows<T> {
    /// How many are not shown.
    pub fn hidden(&self) -> u64 {
        self.total.saturating_sub(self.rows.len() as u64)
    }
}
