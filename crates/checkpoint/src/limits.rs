use core::time::Duration;

/// Longest name of a cursor, in bytes.
pub const CURSOR_NAME_BYTES_MAX: usize = 200;

/// How far a log may grow. Every field has a range that [`check`](Self::check) knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "built with `..Limits::default()`")]
pub struct Limits {
    /// Mutations after which the open checkpoint closes: 10 to 1,000,000.
    pub items_max: usize,
    /// Bytes after which the open checkpoint closes: 4 KiB at least. It takes one mutation whatever its size.
    pub checkpoint_bytes_max: usize,
    /// Age after which a checkpoint with a mutation closes: 1 s to 1 h.
    pub age_max: Duration,
    /// Memory of the log in bytes, at which mutations are refused: 64 KiB at least.
    pub memory_max: usize,
    /// Cursors of all kinds: 2 to 1024. Each overwrite looks at all of them.
    pub cursors_max: usize,
}

impl Default for Limits {
    /// 10,000 mutations, 32 MiB or 5 s a checkpoint, the ancestor's last defaults; 256 MiB and 64 cursors a log.
    fn default() -> Self {
        Self {
            items_max: 10_000,
            checkpoint_bytes_max: 32 * 1024 * 1024,
            age_max: Duration::from_secs(5),
            memory_max: 256 * 1024 * 1024,
            cursors_max: 64,
        }
    }
}

/// A limit outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} has to be {range}")]
#[non_exhaustive]
pub struct LimitError {
    /// The field of [`Limits`].
    pub name: &'static str,
    /// What it may be.
    pub range: &'static str,
}

impl Limits {
    /// Finds the first limit outside its range.
    ///
    /// # Errors
    ///
    /// Names that limit and its range.
    pub fn check(&self) -> Result<(), LimitError> {
        let hour = Duration::from_secs(3600);
        let rules = [
            (matches!(self.items_max, 10..=1_000_000), "items_max", "10 to 1000000"),
            (self.checkpoint_bytes_max >= 4096, "checkpoint_bytes_max", "at least 4096 bytes"),
            (self.age_max >= Duration::from_secs(1) && self.age_max <= hour, "age_max", "1 s to 1 h"),
            (self.memory_max >= 65_536, "memory_max", "at least 65536 bytes"),
            (
                self.memory_max / 2 >= self.checkpoint_bytes_max,
                "memory_max",
                "at least twice checkpoint_bytes_max, since cursors in the open checkpoint are never dropped",
            ),
            (matches!(self.cursors_max, 2..=1024), "cursors_max", "2 to 1024"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, name, range)) => Err(LimitError { name, range }),
            None => Ok(()),
        }
    }

    /// Where relief begins: nine tenths of the memory.
    pub(crate) const fn memory_high(&self) -> usize {
        self.memory_max / 10 * 9
    }

    /// Where relief ends: six tenths of the memory.
    pub(crate) const fn memory_low(&self) -> usize {
        self.memory_max / 10 * 6
    }
}
