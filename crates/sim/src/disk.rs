use std::collections::VecDeque;

use cuttlebone_machine::{Entropy, SplitMix};

/// What a disk holds.
pub trait Store: Clone {
    /// One write, all or nothing.
    type Write;

    /// Carries out a write.
    fn apply(&mut self, write: &Self::Write);
}

/// A disk that keeps what was synced, and loses some end of the rest at a crash.
#[derive(Clone, Debug)]
pub struct Disk<S: Store> {
    durable: S,
    current: S,
    unsynced: VecDeque<S::Write>,
}

impl<S: Store + Default> Default for Disk<S> {
    fn default() -> Self {
        Self::new(S::default())
    }
}

impl<S: Store> Disk<S> {
    /// A disk that holds `store`, synced.
    pub fn new(store: S) -> Self {
        Self { durable: store.clone(), current: store, unsynced: VecDeque::new() }
    }

    /// What a reader sees.
    pub const fn get(&self) -> &S {
        &self.current
    }

    /// What would be left if everything unsynced were lost now.
    pub const fn durable(&self) -> &S {
        &self.durable
    }

    /// Writes without syncing.
    pub fn write(&mut self, write: S::Write) {
        self.current.apply(&write);
        self.unsynced.push_back(write);
    }

    /// Makes all writes so far durable.
    pub fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            self.durable.apply(&write);
        }
    }

    /// Power fails: of the unsynced writes, only a beginning of random length is left.
    pub fn crash(&mut self, chance: &mut SplitMix) {
        let all = u64::try_from(self.unsynced.len()).unwrap_or(u64::MAX);
        let kept = chance.below(all.saturating_add(1));
        for write in self.unsynced.drain(..).take(usize::try_from(kept).unwrap_or(usize::MAX)) {
            self.durable.apply(&write);
        }
        self.unsynced.clear();
        self.current = self.durable.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    struct Log(Vec<u32>);

    impl Store for Log {
        type Write = u32;

        fn apply(&mut self, write: &u32) {
            self.0.push(*write);
        }
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_a_beginning_of_the_rest() {
        let mut lengths = [false; 4];
        for seed in 0..100 {
            let mut disk = Disk::new(Log::default());
            disk.write(1);
            disk.sync();
            for n in 2..=4 {
                disk.write(n);
            }
            assert_eq!(disk.get().0, [1, 2, 3, 4]);
            disk.crash(&mut SplitMix::new(seed));
            let kept = disk.get().0.len();
            assert_eq!(disk.get().0, [1, 2, 3, 4][..kept]);
            assert_eq!(disk.get(), disk.durable());
            lengths[kept - 1] = true;
        }
        assert_eq!(lengths, [true; 4]);
    }
}
