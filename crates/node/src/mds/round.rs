//! One round through the directories that may have changed.
//!
//! ```text
//!    found ──▶ waits to be listed ──▶ listed ──▶ waits for directories below, and for what vanished ──▶ complete
//! ```
//!
//! A directory is complete after everything below it: whoever finds it complete need not look below. So a round that is
//! broken off anywhere has completed what it has completed, and the next one goes on with the rest.

use std::collections::{HashMap, VecDeque};

use super::record::{InodeNumber, Stamp};

/// The directories of a round. Bounded by the directories that the tree may have.
#[derive(Debug, Default)]
pub(super) struct Round {
    visits: HashMap<InodeNumber, Visit>,
    /// To be listed, the last one first: going deep first keeps this short.
    waiting: Vec<InodeNumber>,
    complete: VecDeque<(InodeNumber, Stamp)>,
}

#[derive(Debug)]
struct Visit {
    /// How the directory was before it was listed.
    stamp: Stamp,
    /// Its own listing, the directories below it, and what vanished from it.
    waits: usize,
    /// Something has vanished from it, and may be found elsewhere.
    is_held: bool,
    above: Vec<InodeNumber>,
}

impl Round {
    /// A directory that may have changed, and the one in which it was found.
    pub(super) fn visit(&mut self, dir: InodeNumber, stamp: Stamp, above: Option<InodeNumber>) {
        let visit = self.visits.entry(dir).or_insert_with(|| {
            self.waiting.push(dir);
            Visit { stamp, waits: 1, is_held: false, above: Vec::new() }
        });
        // A directory that is moved about while we look may be found below itself; then neither is complete, and
        // the next round finds them where they are.
        if let Some(above) = above {
            visit.above.push(above);
            if let Some(above) = self.visits.get_mut(&above) {
                above.waits += 1;
            }
        }
    }

    /// The next directory to list.
    pub(super) fn next(&mut self) -> Option<InodeNumber> {
        self.waiting.pop()
    }

    /// Whether nothing waits to be listed.
    pub(super) fn is_listed(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A directory was listed to its end, after all directories in it were announced. `is_held` if something has vanished.
    pub(super) fn listed(&mut self, dir: InodeNumber, is_held: bool) {
        if let Some(visit) = self.visits.get_mut(&dir) {
            visit.is_held = is_held;
            visit.waits += usize::from(is_held);
            self.release(dir);
        }
    }

    /// What vanished is found, or gone for good.
    pub(super) fn settled(&mut self) {
        let held: Vec<_> =
            self.visits.iter().filter(|(_, visit)| visit.is_held).map(|(dir, _)| *dir).collect();
        for dir in held {
            if let Some(visit) = self.visits.get_mut(&dir) {
                visit.is_held = false;
                self.release(dir);
            }
        }
    }

    /// A directory whose completion is to be written, in an order in which what is below comes first.
    pub(super) fn take_complete(&mut self) -> Option<(InodeNumber, Stamp)> {
        self.complete.pop_front()
    }

    /// Something that `dir` has waited for has happened.
    fn release(&mut self, dir: InodeNumber) {
        let mut released = vec![dir];
        while let Some(dir) = released.pop() {
            let Some(visit) = self.visits.get_mut(&dir) else { continue };
            visit.waits = visit.waits.saturating_sub(1);
            if visit.waits == 0
                && let Some(visit) = self.visits.remove(&dir)
            {
                self.complete.push_back((dir, visit.stamp));
                released.extend(visit.above);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{SumsRecord, Time};
    use super::*;

    fn stamp(change: u64) -> Stamp {
        let time = Time(cuttlebone_wire::WallTime::default());
        let sums =
            SumsRecord { files: 0, subdirs: 0, rbytes: 0, rfiles: 0, rsubdirs: 1, rsnaps: 0, rctime: time };
        Stamp { change, ctime: time, sums }
    }

    fn drain(round: &mut Round) -> Vec<u64> {
        core::iter::from_fn(|| round.take_complete()).map(|(dir, _)| dir.0).collect()
    }

    const fn n(number: u64) -> InodeNumber {
        InodeNumber(number)
    }

    #[test]
    fn a_directory_is_complete_after_everything_below_it() {
        let mut round = Round::default();
        round.visit(n(1), stamp(1), None);
        assert_eq!(round.next(), Some(n(1)));
        round.visit(n(2), stamp(1), Some(n(1)));
        round.visit(n(3), stamp(1), Some(n(1)));
        round.listed(n(1), false);
        assert!(drain(&mut round).is_empty());
        assert_eq!((round.next(), round.next(), round.next()), (Some(n(3)), Some(n(2)), None));
        round.visit(n(4), stamp(1), Some(n(3)));
        round.listed(n(3), false);
        round.listed(n(2), false);
        assert_eq!(drain(&mut round), [2]);
        round.listed(n(4), false);
        assert_eq!(drain(&mut round), [4, 3, 1]);
    }

    #[test]
    fn what_vanished_holds_up_its_directory_and_those_above_until_it_is_settled() {
        let mut round = Round::default();
        round.visit(n(1), stamp(1), None);
        round.visit(n(2), stamp(1), Some(n(1)));
        round.listed(n(2), true);
        round.listed(n(1), false);
        assert!(drain(&mut round).is_empty());
        round.settled();
        assert_eq!(drain(&mut round), [2, 1]);
    }

    #[test]
    fn directories_that_are_found_below_each_other_stay_incomplete() {
        let mut round = Round::default();
        round.visit(n(1), stamp(1), None);
        round.visit(n(2), stamp(1), Some(n(1)));
        round.visit(n(3), stamp(1), Some(n(2)));
        round.visit(n(2), stamp(1), Some(n(3)));
        for dir in [1, 2, 3] {
            round.listed(n(dir), false);
        }
        assert!(drain(&mut round).is_empty());
    }

    #[test]
    fn a_directory_that_was_not_listed_to_its_end_completes_nothing_above() {
        let mut round = Round::default();
        round.visit(n(1), stamp(1), None);
        round.visit(n(2), stamp(1), Some(n(1)));
        round.visit(n(3), stamp(1), Some(n(1)));
        round.listed(n(1), false);
        round.listed(n(3), false);
        round.settled();
        assert_eq!(drain(&mut round), [3]);
    }
}
