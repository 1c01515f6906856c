use bytes::Bytes;
use cuttlebone_machine::Instant;
use cuttlebone_wire::{Body, Message};

use super::cap::Lease;
use super::{Change, Client, Event, Name};
use crate::message::{ClientLease, LeaseAction, LeaseStat};
use crate::{CapBits, Ino, Rank};

impl Client {
    /// Takes in what a rank told of a name, in answer to what was sent at `at`.
    pub(super) fn learn_name(
        &mut self,
        rank: Rank,
        at: Instant,
        dir: Ino,
        name: &Bytes,
        told: &LeaseStat,
        target: Option<Ino>,
    ) {
        let Some(generations) = self.sessions.get(&rank).map(|session| session.generations) else { return };
        let granted = told.mask & LeaseStat::VALID != 0 && !told.duration.is_zero();
        let lease = granted.then(|| Lease {
            rank,
            seq: told.seq,
            given: generations,
            until: at + told.duration,
            renew_at: at + told.duration / 2,
            asked: None,
        });
        // A copy of its own: a slice would keep the whole frame alive.
        let name = &Bytes::copy_from_slice(name);
        if let Some(ino) = target
            && let Some(inode) = self.cache.get_mut(ino)
            && (told.mask & LeaseStat::PRIMARY_LINK != 0 || inode.link.is_none())
            && inode.link.as_ref().is_none_or(|(known_dir, known)| (*known_dir, known) != (dir, name))
        {
            inode.link = Some((dir, name.clone()));
        }
        // Without a lease, only the directory's own capability makes a name worth remembering.
        let covered = self
            .cache
            .get(dir)
            .is_some_and(|inode| inode.caps.iter().any(|cap| cap.issued.contains(CapBits::FILE_SHARED)));
        if lease.is_some() || covered {
            self.cache.learn_name(dir, name, target, lease);
        } else {
            self.cache.forget_name(dir, name);
        }
    }

    pub(super) fn on_lease(&mut self, rank: Rank, message: &Message) {
        let lease = match ClientLease::decode(message) {
            Ok((lease, _)) => lease,
            Err(error) => return self.malformed(rank, error),
        };
        match lease.action {
            LeaseAction::Revoke => self.on_lease_revoke(rank, &lease),
            LeaseAction::Renew => self.on_lease_renewed(rank, &lease),
            LeaseAction::Release | LeaseAction::RevokeAck => {
                self.unexpected(rank, "a message about a lease that only clients send");
            }
        }
    }

    /// Answers in any case: the server waits, also if the name is not known here.
    fn on_lease_revoke(&mut self, rank: Rank, lease: &ClientLease) {
        let known = self.cache.get_mut(lease.ino).and_then(|inode| {
            let dentry = inode.names.get_mut(&lease.dname)?;
            dentry.lease.take_if(|known| known.rank == rank)
        });
        let watched = self.cache.get(lease.ino).is_some_and(|inode| inode.pins.watched);
        if watched && let Ok(name) = Name::new(Bytes::copy_from_slice(&lease.dname)) {
            self.event(Event::Changed { ino: lease.ino, change: Change::Name(name) });
        }
        self.send(rank, &lease.revoke_ack(known.map(|known| known.seq)), 0);
    }

    fn on_lease_renewed(&mut self, rank: Rank, told: &ClientLease) {
        let Some(inode) = self.cache.get_mut(told.ino) else { return };
        let Some(dentry) = inode.names.get_mut(&told.dname) else { return };
        // One of an older generation stays what it is, however long it lasts.
        if let Some(lease) = &mut dentry.lease
            && lease.rank == rank
            && let Some(asked) = lease.asked.take()
        {
            lease.seq = told.seq;
            lease.until = asked + told.duration;
            lease.renew_at = asked + told.duration / 2;
        }
    }

    /// Asks for a longer lease on a name that is being used, once in half its time.
    pub(super) fn renew_lease(&mut self, now: Instant, dir: Ino, name: &Bytes) {
        let Some(inode) = self.cache.get_mut(dir) else { return };
        let Some(dentry) = inode.names.get_mut(name) else { return };
        let Some(lease) = &mut dentry.lease else { return };
        if now < lease.renew_at || lease.asked.is_some() {
            return;
        }
        lease.asked = Some(now);
        let (rank, seq) = (lease.rank, lease.seq);
        let renew = ClientLease::renew(dir, name.clone(), seq);
        self.send(rank, &renew, 0);
    }
}
