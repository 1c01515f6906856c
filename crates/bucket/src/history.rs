use cuttlebone_checkpoint::{CheckpointId, Seqno};

/// Branches that are remembered. Whoever is older than the oldest starts anew.
pub(crate) const BRANCHES_MAX: usize = 25;

/// A point at which a history began to be its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Branch {
    /// A number that nobody else has.
    pub id: u64,
    /// Up to here it is the same as the branch before.
    pub from: Seqno,
}

/// The branches of a vbucket's history, newest first: the failover log.
///
/// A new one begins whenever something that others may have seen can be lost: a restart, a promotion, a revert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    branches: Vec<Branch>,
}

/// How far a consumer is, and on which branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Position {
    /// The newest branch it knows; 0 for none.
    pub branch: u64,
    /// Everything up to this it has.
    pub seqno: Seqno,
    /// The snapshot that it was receiving: first seqno.
    pub snapshot_start: Seqno,
    /// The snapshot that it was receiving: last seqno.
    pub snapshot_end: Seqno,
    /// The checkpoint that it has open: it is told of no earlier one.
    pub checkpoint: CheckpointId,
    /// The barrier of the window of hot reload that it is in.
    pub barrier: Option<CheckpointId>,
}

/// What a consumer that asks for a stream is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a choice between two")]
pub enum Decision {
    /// It is on this history: go on.
    Accept,
    /// It has something that is not of this history: it has to go back to this seqno first.
    Rollback(Seqno),
}

impl History {
    /// A history that begins with `branch`.
    pub fn new(branch: Branch) -> Self {
        Self { branches: vec![branch] }
    }

    /// A history from its branches, newest first; `None` if there is none, or too many.
    pub fn from_branches(branches: Vec<Branch>) -> Option<Self> {
        (1..=BRANCHES_MAX).contains(&branches.len()).then_some(Self { branches })
    }

    /// The branches, newest first.
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// The newest branch.
    pub fn newest(&self) -> Branch {
        self.branches.first().copied().unwrap_or(Branch { id: 0, from: Seqno(0) })
    }

    /// Begins a new branch. Older ones that began later never happened.
    pub fn begin(&mut self, branch: Branch) {
        self.branches.retain(|old| old.from <= branch.from);
        self.branches.insert(0, branch);
        self.branches.truncate(BRANCHES_MAX);
    }

    /// This history as one who is at `seqno` and not yet told of later branches may know it: the branches that began
    /// before, and at least the oldest.
    pub(crate) fn known_at(&self, seqno: Seqno) -> Self {
        let oldest = self.branches.len().saturating_sub(1);
        let known = |(at, branch): (usize, &Branch)| (at == oldest || branch.from < seqno).then_some(*branch);
        Self { branches: self.branches.iter().enumerate().filter_map(known).collect() }
    }

    /// Whether a consumer is on this history. `high` is our last seqno; deletions up to `purged` are forgotten.
    ///
    /// Source: `couchbase/kv_engine:engines/ep/src/failover-table.cc`, `FailoverTable::needsRollback`; the order of
    /// the rules is its, in our words.
    pub fn decide(&self, position: Position, high: Seqno, purged: Seqno) -> Decision {
        let Position { branch, seqno, mut snapshot_start, mut snapshot_end, .. } = position;
        if seqno == Seqno(0) {
            return Decision::Accept;
        }
        if seqno < purged {
            return Decision::Rollback(Seqno(0));
        }
        let Some(at) = self.branches.iter().position(|known| known.id == branch) else {
            return Decision::Rollback(Seqno(0));
        };
        let upper = match at.checked_sub(1).and_then(|newer| self.branches.get(newer)) {
            Some(newer) => newer.from,
            None => high,
        };
        if seqno <= snapshot_start {
            // The snapshot was announced, and nothing of it had come.
            snapshot_end = seqno;
        }
        if snapshot_end <= upper {
            return Decision::Accept;
        }
        if seqno == snapshot_end {
            snapshot_start = seqno;
        }
        Decision::Rollback(upper.min(snapshot_start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(branch: u64, seqno: u64, start: u64, end: u64) -> Decision {
        let mut history = History::new(Branch { id: 1, from: Seqno(0) });
        history.begin(Branch { id: 2, from: Seqno(100) });
        let (snapshot_start, snapshot_end) = (Seqno(start), Seqno(end));
        let position =
            Position { branch, seqno: Seqno(seqno), snapshot_start, snapshot_end, ..Position::default() };
        history.decide(position, Seqno(150), Seqno(10))
    }

    #[test]
    fn consumers_on_this_history_go_on_and_others_go_back() {
        let back = |seqno| Decision::Rollback(Seqno(seqno));
        let cases = [
            ((0, 0, 0, 0), Decision::Accept),
            ((2, 150, 150, 150), Decision::Accept),
            ((1, 100, 90, 100), Decision::Accept),
            ((1, 101, 101, 101), back(100)),
            ((1, 95, 90, 105), back(90)),
            ((1, 95, 95, 105), Decision::Accept),
            ((1, 105, 90, 105), back(100)),
            ((2, 151, 151, 151), back(150)),
            ((9, 50, 50, 50), back(0)),
            ((2, 9, 9, 9), back(0)),
        ];
        for ((branch, seqno, start, end), expected) in cases {
            assert_eq!(decide(branch, seqno, start, end), expected, "{branch} {seqno} {start} {end}");
        }
    }

    #[test]
    fn a_branch_removes_those_that_began_after_it() {
        let mut history = History::new(Branch { id: 1, from: Seqno(0) });
        history.begin(Branch { id: 2, from: Seqno(100) });
        history.begin(Branch { id: 3, from: Seqno(50) });
        let ids: Vec<_> = history.branches().iter().map(|branch| branch.id).collect();
        assert_eq!(ids, [3, 1]);
        for id in 4..100 {
            history.begin(Branch { id, from: Seqno(id * 100) });
        }
        assert_eq!(history.branches().len(), BRANCHES_MAX);
    }
}
