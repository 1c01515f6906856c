use cuttlebone_machine::Instant;

use super::Client;
use super::cap::{Cap, Issue, is_after};
use super::session::{Behind, State};
use crate::message::ClientCaps;
use crate::{CapBits, CapGrant, Rank};

impl Client {
    /// A rank hands a capability over to another. Until that one tells of it, it is worth its pin: this message may have
    /// been on its way for so long that the other rank was replaced meanwhile, and knows of nothing. Linux goes on using
    /// what it had.
    ///
    /// Source: `torvalds/linux:fs/ceph/caps.c`, `handle_cap_export`.
    pub(super) fn on_export(&mut self, now: Instant, rank: Rank, message: &ClientCaps) {
        let peer = message.peer;
        let is_other = self.ranks.is_expected(peer.rank) && peer.rank != rank;
        if is_other {
            self.want_session(now, peer.rank);
            if let Some(session) = self.sessions.get_mut(&peer.rank)
                && (!session.was_open || session.state == State::Closing)
                && session.behind == Behind::Nothing
            {
                // It opened one by force, whether we still have what it imports or not; perhaps just behind the end of
                // the one that we are closing.
                session.behind = Behind::Session;
            }
        }
        let Some(inode) = self.cache.get_mut(message.ino) else { return };
        let matching = inode.cap(rank).filter(|cap| cap.id == message.cap_id).cloned();
        let Some(old) = matching else { return };
        let was_auth = inode.auth == Some(rank);
        inode.caps.retain(|cap| cap.rank != rank);
        if was_auth {
            inode.auth = None;
        }
        if is_other {
            self.expect_import(message, &old, was_auth);
        }
        self.after_loss(message.ino);
    }

    /// Puts in place what the other rank is about to tell us of, unless it has already done so.
    fn expect_import(&mut self, message: &ClientCaps, old: &Cap, was_auth: bool) {
        let peer = message.peer;
        let Some(generations) = self.sessions.get(&peer.rank).map(|session| session.generations) else {
            return;
        };
        let Some(inode) = self.cache.get_mut(message.ino) else { return };
        match inode.cap_mut(peer.rank) {
            // The import came first.
            Some(cap) if cap.id == peer.cap_id && is_after(cap.seq, peer.seq.wrapping_sub(1)) => {}
            Some(cap) => {
                cap.id = peer.cap_id;
                cap.seq = peer.seq.wrapping_sub(1);
                cap.issue_seq = cap.seq;
                cap.mseq = peer.mseq;
                cap.given = generations;
            }
            None => {
                let issue = Issue {
                    id: peer.cap_id,
                    bits: CapBits::PIN,
                    wanted: old.wanted,
                    seq: peer.seq.wrapping_sub(1),
                    mseq: peer.mseq,
                };
                inode.caps.push(Cap::new(peer.rank, issue, generations));
            }
        }
        if was_auth {
            inode.auth = Some(peer.rank);
        }
    }

    /// A rank has taken a capability over from another.
    ///
    /// Source: `torvalds/linux:fs/ceph/caps.c`, `handle_cap_import`.
    pub(super) fn on_import(&mut self, rank: Rank, message: &ClientCaps) {
        let peer = message.peer;
        if self.cache.get(message.ino).is_none() {
            // Given up before it arrived: it goes back, or nobody would ever do so.
            self.refuse_import(rank, message);
            return;
        }
        let issue = Issue {
            id: message.cap_id,
            bits: message.caps,
            wanted: message.wanted,
            seq: message.seq,
            mseq: message.mseq,
        };
        self.take_cap(rank, message.ino, issue, true, message.realm);
        let old = self.cache.get(message.ino).and_then(|inode| inode.cap(peer.rank));
        if peer.rank != rank
            && let Some(old) = old.filter(|cap| cap.id == peer.cap_id)
        {
            let release = (peer.flags & CapGrant::RELEASE != 0).then(|| old.release(message.ino));
            if let (Some(release), Some(session)) = (release, self.sessions.get_mut(&peer.rank)) {
                session.releases.push(release);
            }
            self.lose_cap(peer.rank, message.ino);
        }
        // What we want may have been lost on the way.
        self.remind(message.ino);
    }

    fn refuse_import(&mut self, rank: Rank, message: &ClientCaps) {
        let issue = Issue {
            id: message.cap_id,
            bits: message.caps,
            wanted: message.wanted,
            seq: message.seq,
            mseq: message.mseq,
        };
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        session.releases.push(Cap::new(rank, issue, session.generations).release(message.ino));
        self.flush_releases(rank);
    }
}
