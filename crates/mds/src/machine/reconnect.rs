use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;
use cuttlebone_machine::Instant;
use cuttlebone_wire::{Encode, Features, Writer};

use super::call::{LockKind, LockRule};
use super::requests::Stage;
use super::session::State;
use super::{Client, Lock, Tid};
use crate::message::{CapReconnect, ClientReconnect, FileLock, RequestFlags, SnapRealmReconnect};
use crate::{CapBits, Ino, Rank, feature};

impl Client {
    /// Makes ourselves known to a server that took a rank over: what was applied is replayed, what has no answer is
    /// asked again, and then the capabilities that we hold are listed. This order keeps the server in the state in which
    /// it takes replays until it has ours.
    ///
    /// Source: `torvalds/linux:fs/ceph/mds_client.c`, `send_mds_reconnect`; the order seen in 16.2.15.
    pub(super) fn reconnect(&mut self, now: Instant, rank: Rank) {
        if !self.is_linked(now, rank) {
            return;
        }
        self.last_recon = self.last_recon.wrapping_add(1);
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        session.state = State::Reconnecting;
        session.pushes = 0;
        session.read_only = false;
        session.journal_asked = 0;
        // They are superseded: what is not listed is gone.
        session.releases.clear();
        session.release_timer.stop();
        let before = mem::replace(&mut session.generations.recon, self.last_recon);
        let applied: Vec<Tid> = session.applied.values().copied().collect();
        for tid in applied {
            self.send_again(now, rank, tid, RequestFlags::REPLAY);
        }
        let unanswered = self
            .requests
            .iter()
            .filter(|(_, pending)| matches!(pending.stage, Stage::Sent { rank: asked, .. } if asked == rank));
        let unanswered: Vec<Tid> = unanswered.map(|(tid, _)| *tid).collect();
        for tid in unanswered {
            self.send_again(now, rank, tid, RequestFlags::NONE);
        }
        for message in self.claims(rank, before) {
            self.send(rank, &message, 0);
        }
    }

    /// Lists what we hold from a rank, and stamps it with the new generation: what is left out is dead from now on. Each
    /// inode comes with its place in the tree, for a server that does not have it in memory; without a place it has to
    /// search the disk for it.
    fn claims(&mut self, rank: Rank, before: u32) -> Vec<ClientReconnect> {
        let Some(session) = self.sessions.get(&rank) else { return Vec::new() };
        let (generations, takes_parts) =
            (session.generations, session.features.contains(feature::MULTI_RECONNECT));
        let mut caps = Vec::new();
        let mut realms = BTreeMap::new();
        for (ino, inode) in self.cache.iter_mut() {
            let (base, path) = inode.link.clone().unwrap_or_default();
            let (realm, is_dir) = (inode.realm, inode.stat.is_dir());
            let flock = encode_locks(&inode.pins.locks);
            let Some(cap) = inode.cap_mut(rank) else { continue };
            // One that was dead before stays so.
            if cap.given.recon != before {
                continue;
            }
            if cap.given.stale != generations.stale {
                cap.issued = CapBits::PIN;
            }
            if is_dir {
                // On a directory these are promises to work ahead of the server, which end with it.
                cap.issued = cap.issued.without(CapBits::FILE_CACHE | CapBits::FILE_READ);
            }
            cap.seq = 0;
            cap.issue_seq = 0;
            cap.mseq = 0;
            cap.given = generations;
            let mut claim = CapReconnect::new(cap.id, cap.issued, cap.wanted).at(base, path);
            claim.realm = if realm == Ino::NONE { Ino::ROOT } else { realm };
            claim.flock = flock;
            if let Some(known) = self.realms.get(claim.realm) {
                let (seq, parent) = (known.seq, known.parent);
                realms.insert(claim.realm, SnapRealmReconnect { ino: claim.realm, seq, parent });
            }
            caps.push((ino, claim));
        }
        let bytes_max = if takes_parts { self.config.limits.reconnect_bytes_max } else { usize::MAX };
        parts(caps, realms.into_values().collect(), bytes_max)
    }
}

/// Divides a reconnect into messages of about this size: capabilities first, then the realms by themselves, and each
/// message but the last says that there is more.
///
/// Source: `torvalds/linux:fs/ceph/mds_client.c`, `send_reconnect_partial`; `ceph/ceph:src/mds/Server.cc`,
/// `handle_client_reconnect`, which opens the session with the last part. Seen in 16.2.15.
fn parts(
    caps: Vec<(Ino, CapReconnect)>,
    realms: Vec<SnapRealmReconnect>,
    bytes_max: usize,
) -> Vec<ClientReconnect> {
    let mut parts = Vec::new();
    let mut part = ClientReconnect::default();
    let mut bytes = 0_usize;
    for (ino, cap) in caps {
        let more = cap.path.len().saturating_add(cap.flock.len()).saturating_add(CAP_BYTES);
        bytes = bytes.saturating_add(more);
        if bytes > bytes_max && !part.caps.is_empty() {
            parts.push(ClientReconnect { more: true, ..mem::take(&mut part) });
            bytes = more;
        }
        part.caps.insert(ino, cap);
    }
    let rest = bytes.saturating_add(realms.len().saturating_mul(REALM_BYTES));
    if rest > bytes_max && !realms.is_empty() && !part.caps.is_empty() {
        parts.push(ClientReconnect { more: true, ..mem::take(&mut part) });
    }
    part.realms = realms;
    parts.push(part);
    parts
}

/// Bytes of a capability in a reconnect, without its path and locks.
///
/// Source: `ceph/ceph:src/mds/mdstypes.cc`, `cap_reconnect_t`.
const CAP_BYTES: usize = 62;
/// Bytes of a realm.
///
/// Source: `ceph/ceph:src/mds/mdstypes.cc`, `snaprealm_reconnect_t`.
const REALM_BYTES: usize = 30;

/// The locks that we hold on a file: those of processes, then those of open files, each list with its count.
///
/// Source: `ceph/ceph:src/mds/flock.h`, `ceph_lock_state_t`; seen in 16.2.15.
fn encode_locks(locks: &[Lock]) -> Bytes {
    let mut w = Writer::new(Features::all_known());
    for rule in [LockRule::Fcntl, LockRule::Flock] {
        let held: Vec<&Lock> = locks.iter().filter(|lock| lock.rule == rule).collect();
        w.list(held, |w, lock| {
            let kind = match lock.kind {
                LockKind::Shared => 1,
                LockKind::Exclusive => 2,
                LockKind::Unlock => 4,
            };
            let Lock { owner, pid, .. } = *lock;
            FileLock { start: 0, length: 0, client: 0, owner, pid, kind }.encode(w);
        });
    }
    w.into_bytes()
}
