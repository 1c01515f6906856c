//! One capability as a server keeps it.

use cuttlebone_mds::{CapBits, CapGrant, CapId, Ino};

#[derive(Clone, Debug)]
pub(crate) struct Cap {
    pub(crate) id: CapId,
    /// What the client is to have.
    pub(crate) pending: CapBits,
    pub(crate) seq: u32,
    /// The seq of the last reply or import that carried it.
    pub(crate) last_issue: u32,
    pub(crate) mseq: u32,
    pub(crate) wanted: CapBits,
    /// What was pending at each seq that the client has not confirmed.
    unconfirmed: Vec<(u32, CapBits)>,
}

impl Cap {
    pub(crate) fn new(id: CapId, bits: CapBits, seq: u32, mseq: u32) -> Self {
        let wanted = CapBits::NONE;
        Self { id, pending: bits, seq, last_issue: seq, mseq, wanted, unconfirmed: vec![(seq, bits)] }
    }

    /// What the client may still use: everything since what it confirmed last.
    pub(crate) fn issued(&self) -> CapBits {
        self.unconfirmed.iter().fold(self.pending, |all, (_, bits)| all | *bits)
    }

    pub(crate) fn change(&mut self, bits: CapBits) {
        self.pending = bits;
        self.seq += 1;
        self.unconfirmed.push((self.seq, bits));
    }

    /// The client has seen everything up to `seq`, and keeps `caps`.
    pub(crate) fn confirm(&mut self, seq: u32, caps: CapBits, wanted: CapBits) {
        assert!(seq <= self.seq, "a client confirms {seq}, and there were only {}", self.seq);
        self.unconfirmed.retain(|(at, _)| *at >= seq);
        // What was said before a suspension says nothing of what was given after it.
        let Some((_, bits)) = self.unconfirmed.first_mut().filter(|(at, _)| *at == seq) else { return };
        assert!(bits.contains(caps), "a client keeps {caps} of {bits}");
        *bits = caps;
        if seq == self.seq {
            self.pending = self.pending & caps;
            self.wanted = wanted;
        }
    }

    /// Suspended: nobody waits for confirmations of what was given before.
    pub(crate) fn suspend(&mut self) {
        self.unconfirmed.clear();
        self.change(CapBits::PIN);
    }

    /// Gives what is `allowed`, beside what was given and not taken back.
    pub(crate) fn issue(&mut self, allowed: CapBits) {
        self.change(self.pending | allowed);
        self.last_issue = self.seq;
    }

    pub(crate) fn grant(&self) -> CapGrant {
        CapGrant {
            caps: self.pending,
            wanted: self.wanted,
            cap_id: self.id,
            seq: self.seq,
            mseq: self.mseq,
            realm: Ino::ROOT,
            flags: CapGrant::AUTH,
        }
    }
}
