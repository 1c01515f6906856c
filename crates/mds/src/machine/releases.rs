use alloc::vec::Vec;
use core::mem;

use cuttlebone_machine::Instant;

use super::Client;
use super::cap::Standing;
use crate::message::{CapRelease, ClientCapRelease};
use crate::{Ino, InodeStat, Rank};

/// Capabilities that go back in one message: as many as fit a page.
///
/// Source: `torvalds/linux:fs/ceph/super.h`, `CEPH_CAPS_PER_RELEASE`.
const BATCH: usize = 170;

impl Client {
    /// Forgets an inode at once and gives back what is held of it, unless it is watched, open or locked.
    pub fn forget(&mut self, now: Instant, ino: Ino) {
        self.release_inode(ino);
        self.settle(now);
    }

    /// How many inodes and names are remembered, and of how many inodes some capability is held.
    pub fn remembered(&self) -> Remembered {
        Remembered {
            inodes: self.cache.len(),
            names: self.cache.names(),
            held: self.cache.held(),
            realms: self.realms.len(),
        }
    }

    /// Gives back what is held of an inode, and forgets it.
    pub(super) fn release_inode(&mut self, ino: Ino) {
        if !self.cache.get(ino).is_some_and(|inode| inode.pins.is_empty()) {
            return;
        }
        let Some(inode) = self.cache.remove(ino) else { return };
        for cap in &inode.caps {
            let Some(session) = self.sessions.get_mut(&cap.rank) else { continue };
            // What is dead is not known to the server, and what is listed in a reconnect is settled by that.
            if session.is_open() && session.generations.standing(cap.given) != Standing::Dead {
                session.releases.push(cap.release(ino));
            }
        }
    }

    /// Gives a capability back that has just come, without ever having used it.
    pub(super) fn decline(&mut self, rank: Rank, stat: &InodeStat) {
        let grant = &stat.cap;
        if grant.is_issued()
            && !grant.caps.is_empty()
            && let Some(session) = self.sessions.get_mut(&rank)
        {
            let (ino, cap_id, mseq, issue_seq) = (stat.ino, grant.cap_id, grant.mseq, grant.seq);
            session.releases.push(CapRelease { ino, cap_id, mseq, issue_seq });
        }
    }

    /// Does what every step ends with: keeps what is remembered within its limits, and goes on closing.
    pub(super) fn settle(&mut self, now: Instant) {
        self.trim(now);
        self.go_on_closing(now);
    }

    /// Gives back the capabilities that were not used for longest, and forgets the rest of what is above the limits.
    pub(super) fn trim(&mut self, now: Instant) {
        let max = self.caps_budget(now);
        while let Some(ino) = self.cache.surplus_held(max) {
            self.release_inode(ino);
        }
        self.cache.trim(&self.config.limits);
        let due = now + self.config.timing.release_delay;
        let mut full = Vec::new();
        for session in self.sessions.values_mut() {
            if session.releases.len() >= BATCH {
                full.push(session.rank);
            } else if !session.releases.is_empty() && session.release_timer.deadline().is_none() {
                session.release_timer.set(due);
            }
        }
        for rank in full {
            self.flush_releases(rank);
        }
    }

    /// The most capabilities to hold: as configured, or less for a while after a server asked for them back.
    fn caps_budget(&self, now: Instant) -> usize {
        let recalled = self.sessions.values().filter_map(|session| session.recalled);
        let recalled = recalled.filter(|(_, until)| now < *until).map(|(max, _)| max);
        recalled.min().unwrap_or(usize::MAX).min(self.config.limits.caps_max)
    }

    /// Sends what is to be given back to a rank.
    pub(super) fn flush_releases(&mut self, rank: Rank) {
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        session.release_timer.stop();
        let caps = mem::take(&mut session.releases);
        for batch in caps.chunks(BATCH) {
            let osd_epoch_barrier = self.osd_epoch_barrier;
            self.send(rank, &ClientCapRelease { caps: batch.to_vec(), osd_epoch_barrier }, 0);
        }
    }
}

/// How much a client remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remembered {
    /// Inodes.
    pub inodes: usize,
    /// Names.
    pub names: usize,
    /// Inodes of which some capability is held, or which are watched, open or locked.
    pub held: usize,
    /// Snapshot realms.
    pub realms: usize,
}
