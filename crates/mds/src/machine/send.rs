use alloc::vec::Vec;

use cuttlebone_machine::Instant;
use cuttlebone_wire::Body;

use super::build::{Drop, drops, links};
use super::cap::Standing;
use super::session::Line;
use super::{Call, Client, Entry, Output, Tid};
use crate::message::{ClientRequest, ClientSession, RequestFlags, RequestRelease, SessionRequest};
use crate::{CapBits, Ino, Rank};

impl Client {
    /// Sends a body to a rank, if its link is open.
    pub(super) fn send<B: Body>(&mut self, rank: Rank, body: &B, tid: u64) {
        if let Some(Line::Ready(link, features)) = self.sessions.get(&rank).map(|session| session.link) {
            self.outputs.push_back(Output::Send(link, body.message(features, tid)));
        }
    }

    pub(super) fn send_session(&mut self, rank: Rank, request: SessionRequest) {
        self.send(rank, &ClientSession::from(request), 0);
    }

    /// Sends a request for the first time to this rank, or again after its session was lost.
    pub(super) fn send_request(&mut self, now: Instant, rank: Rank, tid: Tid) {
        let Some(pending) = self.requests.get(&tid) else { return };
        let (attempts, call) = (pending.attempts, pending.call.clone());
        // A server that was restarted drops what is given back inside a request, and one that lost us knows nothing of it.
        let releases = if attempts == 0 { self.give_back(now, rank, &call) } else { Vec::new() };
        self.transmit(now, rank, tid, RequestFlags::NONE, releases);
    }

    /// Sends a request once more to the successor of the server that had it: as a replay if it was applied there.
    pub(super) fn send_again(&mut self, now: Instant, rank: Rank, tid: Tid, flags: RequestFlags) {
        self.transmit(now, rank, tid, flags, Vec::new());
    }

    fn transmit(
        &mut self,
        now: Instant,
        rank: Rank,
        tid: Tid,
        flags: RequestFlags,
        releases: Vec<RequestRelease>,
    ) {
        let oldest = self.oldest_tid();
        let Some(pending) = self.requests.get(&tid) else { return };
        let mut request: ClientRequest = pending.call.build(&pending.caller);
        request.oldest_client_tid = oldest.0.min(tid.0);
        request.mdsmap_epoch = self.ranks.epoch();
        request.flags = request.flags.with(flags);
        request.retries = pending.attempts;
        request.forwards = pending.forwards;
        request.releases = releases;
        if flags.contains(RequestFlags::REPLAY) {
            request.retries = request.retries.max(1);
            request.ino = pending.created.unwrap_or(Ino::NONE);
        }
        self.send(rank, &request, tid.0);
        if flags.contains(RequestFlags::REPLAY) {
            if let Some(pending) = self.requests.get_mut(&tid) {
                pending.attempts = pending.attempts.saturating_add(1);
            }
        } else {
            self.on_sent(now, rank, tid);
        }
    }

    /// What a call gives back with it: bits that the server would have to take from us first, and leases on the names
    /// that change.
    fn give_back(&mut self, now: Instant, rank: Rank, call: &Call) -> Vec<RequestRelease> {
        let mut records: Vec<RequestRelease> = Vec::new();
        let mut wanted = drops(call);
        let losing = match call {
            Call::Unlink { entry } | Call::Rmdir { entry } => [Some(entry), None],
            Call::Rename { from, to } => [Some(from), Some(to)],
            _ => [None, None],
        };
        for entry in losing.into_iter().flatten() {
            wanted.extend(self.target_of(entry).map(|target| (target, Drop::Bits(links()))));
        }
        for (ino, drop) in wanted {
            if !records.iter().any(|record| record.ino == ino) {
                records.extend(self.give_back_bits(now, rank, ino, drop));
            }
        }
        for entry in call.names().into_iter().flatten() {
            self.give_back_lease(rank, entry, &mut records);
        }
        records
    }

    fn give_back_bits(&mut self, now: Instant, rank: Rank, ino: Ino, drop: Drop) -> Option<RequestRelease> {
        let session = self.sessions.get(&rank)?;
        let (generations, alive) = (session.generations, session.is_alive(now));
        let inode = self.cache.get_mut(ino)?;
        let wanted = inode.wanted();
        let cap = inode.cap_mut(rank)?;
        if !alive || generations.standing(cap.given) != Standing::Valid {
            return None;
        }
        let given_back = cap.issued & drop.bits(cap.issued).without(CapBits::PIN);
        if given_back.is_empty() {
            return None;
        }
        cap.issued = cap.issued.without(given_back);
        cap.wanted = wanted;
        Some(cap.release_record(ino))
    }

    fn give_back_lease(&mut self, rank: Rank, entry: &Entry, records: &mut Vec<RequestRelease>) {
        let Some(generations) = self.sessions.get(&rank).map(|session| session.generations) else { return };
        let Some(inode) = self.cache.get_mut(entry.dir) else { return };
        let cap = inode.cap(rank).filter(|cap| generations.standing(cap.given) == Standing::Valid);
        let cap = cap.map(|cap| cap.release_record(entry.dir));
        let Some(dentry) = inode.names.get_mut(entry.name.as_bytes()) else { return };
        let Some(lease) = dentry
            .lease
            .take_if(|lease| lease.rank == rank && generations.standing(lease.given) == Standing::Valid)
        else {
            return;
        };
        let at = records.iter().position(|record| record.ino == entry.dir && record.dname.is_empty());
        let at = at.unwrap_or_else(|| {
            let bare = RequestRelease { ino: entry.dir, ..RequestRelease::default() };
            records.push(cap.unwrap_or(bare));
            records.len().saturating_sub(1)
        });
        let Some(record) = records.get_mut(at) else { return };
        record.dname_seq = lease.seq;
        record.dname = entry.name.as_bytes().clone();
    }
}
