use cuttlebone_machine::Instant;

use crate::message::{CapRelease, RequestRelease};
use crate::{CapBits, CapId, Ino, Rank};

/// The two generations of a session; see the crate's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there are exactly two")]
pub struct Generations {
    /// How often the server said that it has lost touch with us.
    pub stale: u32,
    /// How often we reconnected to a server that had been restarted.
    pub recon: u32,
}

/// How a thing that was given in some generation stands in the session's present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "two counters make three standings")]
pub enum Standing {
    /// As good as when it was given.
    Valid,
    /// Suspended: the server knows it, and may have given others what it covers. Only the pin is left.
    Stale,
    /// Not known to the server any more: it was not listed when we reconnected.
    Dead,
}

impl Generations {
    /// How something stands that was given in `given`.
    pub const fn standing(self, given: Self) -> Standing {
        if self.recon != given.recon {
            Standing::Dead
        } else if self.stale != given.stale {
            Standing::Stale
        } else {
            Standing::Valid
        }
    }
}

/// What one rank has given us of one inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cap {
    pub(super) rank: Rank,
    /// Not unique across inodes: every new inode begins with 1.
    pub(super) id: CapId,
    pub(super) issued: CapBits,
    /// What we told the server last that we want.
    pub(super) wanted: CapBits,
    pub(super) seq: u32,
    /// The number at the last reply or import, which a release has to quote.
    pub(super) issue_seq: u32,
    /// Counts migrations; of two capabilities the one with the higher count is newer.
    pub(super) mseq: u32,
    pub(super) given: Generations,
}

/// A capability as a reply, a migration or a grant tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Issue {
    pub(super) id: CapId,
    pub(super) bits: CapBits,
    pub(super) wanted: CapBits,
    pub(super) seq: u32,
    pub(super) mseq: u32,
}

impl Cap {
    pub(super) const fn new(rank: Rank, issue: Issue, given: Generations) -> Self {
        let Issue { id, bits, wanted, seq, mseq } = issue;
        Self { rank, id, issued: bits, wanted, seq, issue_seq: seq, mseq, given }
    }

    /// A reply or an import gives it anew.
    ///
    /// If another rank has taken over since (`seq` is not newer than what its export announced), the reply was on its
    /// way before the import and must not take anything away.
    ///
    /// Source: `torvalds/linux:fs/ceph/caps.c`, `ceph_add_cap`.
    pub(super) fn issue(&mut self, issue: Issue, now: Generations) {
        if now.standing(self.given) != Standing::Valid {
            self.issued = CapBits::PIN;
        }
        let overtaken = self.id == issue.id && !is_after(issue.seq, self.seq) && self.seq != issue.seq;
        if overtaken {
            self.issued |= issue.bits;
        } else {
            self.issued = issue.bits;
            self.seq = issue.seq;
            self.issue_seq = issue.seq;
        }
        if is_after(issue.mseq, self.mseq) {
            self.wanted = issue.wanted;
            self.mseq = issue.mseq;
        } else {
            self.wanted |= issue.wanted;
        }
        self.id = issue.id;
        self.given = now;
    }

    /// This capability as it is given back as a whole.
    pub(super) const fn release(&self, ino: Ino) -> CapRelease {
        CapRelease { ino, cap_id: self.id, mseq: self.mseq, issue_seq: self.issue_seq }
    }

    /// This capability as a request tells what is left of it.
    pub(super) fn release_record(&self, ino: Ino) -> RequestRelease {
        RequestRelease {
            ino,
            cap_id: self.id,
            caps: self.issued,
            wanted: self.wanted,
            seq: self.seq,
            issue_seq: self.issue_seq,
            mseq: self.mseq,
            ..RequestRelease::default()
        }
    }

    /// The bits that count, given how the session stands.
    pub(super) const fn usable(&self, session: Generations, alive: bool) -> CapBits {
        match session.standing(self.given) {
            Standing::Valid if alive => self.issued,
            Standing::Valid | Standing::Stale => CapBits::PIN,
            Standing::Dead => CapBits::NONE,
        }
    }
}

/// Whether one of these numbers, which wrap around, is newer than another.
///
/// Source: `torvalds/linux:include/linux/ceph/ceph_fs.h`, `ceph_seq_cmp`.
pub(super) const fn is_after(seq: u32, other: u32) -> bool {
    let ahead = seq.wrapping_sub(other);
    ahead != 0 && ahead < 1 << 31
}

/// A lease on a name: how long the server will tell us before the name changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) rank: Rank,
    pub(super) seq: u32,
    pub(super) given: Generations,
    /// From here on it is worth nothing. It counts from when the question was sent.
    pub(super) until: Instant,
    /// From here on it is renewed when it is used.
    pub(super) renew_at: Instant,
    /// A renewal was asked for then, and not answered yet.
    pub(super) asked: Option<Instant>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Generations = Generations { stale: 1, recon: 1 };

    fn issue(bits: CapBits, seq: u32) -> Issue {
        Issue { id: CapId(1), bits, wanted: CapBits::NONE, seq, mseq: 0 }
    }

    #[test]
    fn a_generation_that_is_old_tells_which_way_a_capability_was_lost() {
        let check = |stale, recon, expected| {
            assert_eq!(NOW.standing(Generations { stale, recon }), expected, "{stale} {recon}");
        };
        check(1, 1, Standing::Valid);
        check(0, 1, Standing::Stale);
        check(1, 0, Standing::Dead);
        check(0, 0, Standing::Dead);
    }

    #[test]
    fn only_a_valid_capability_of_a_live_session_is_worth_more_than_its_pin() {
        let cap = Cap::new(Rank(0), issue(CapBits::STAT, 1), NOW);
        assert_eq!(cap.usable(NOW, true), CapBits::STAT);
        assert_eq!(cap.usable(NOW, false), CapBits::PIN);
        assert_eq!(cap.usable(Generations { stale: 2, recon: 1 }, true), CapBits::PIN);
        assert_eq!(cap.usable(Generations { stale: 1, recon: 2 }, true), CapBits::NONE);
    }

    #[test]
    fn an_issue_that_an_export_overtook_takes_nothing_away() {
        let mut cap = Cap::new(Rank(1), issue(CapBits::STAT, 5), NOW);
        cap.issue(issue(CapBits::PIN, 3), NOW);
        assert_eq!((cap.issued, cap.seq), (CapBits::STAT, 5));
        cap.issue(issue(CapBits::PIN, 6), NOW);
        assert_eq!((cap.issued, cap.seq, cap.issue_seq), (CapBits::PIN, 6, 6));
    }

    #[test]
    fn an_issue_that_was_overtaken_does_not_bring_back_what_was_suspended() {
        let mut cap = Cap::new(Rank(1), issue(CapBits::STAT, 5), NOW);
        let later = Generations { stale: 2, recon: 1 };
        cap.issue(issue(CapBits::AUTH_SHARED, 3), later);
        assert_eq!(cap.usable(later, true), CapBits::PIN | CapBits::AUTH_SHARED);
    }

    #[test]
    fn a_capability_issued_anew_is_valid_again() {
        let mut cap = Cap::new(Rank(0), issue(CapBits::STAT, 1), NOW);
        let later = Generations { stale: 2, recon: 1 };
        cap.issue(issue(CapBits::AUTH_SHARED, 2), later);
        assert_eq!(cap.usable(later, true), CapBits::AUTH_SHARED);
    }

    #[test]
    fn sequence_numbers_wrap_around() {
        assert!(is_after(1, 0));
        assert!(is_after(0, u32::MAX));
        assert!(!is_after(u32::MAX, 0));
        assert!(!is_after(7, 7));
    }
}
