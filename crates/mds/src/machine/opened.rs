//! Files that are open: they stay, whatever becomes of their names.

use cuttlebone_machine::Instant;

use super::{Call, Client, Errno, Error, Event, LockKind};
use crate::{CapBits, Ino, Rank};

/// Most locks held on one file.
const LOCKS_MAX: usize = 1024;

impl Client {
    /// How often an inode is open: by [`Call::Open`] and [`Call::Create`], and not yet closed or lost.
    pub fn times_open(&self, ino: Ino) -> u32 {
        self.cache.get(ino).map_or(0, |inode| inode.pins.open)
    }

    /// Closes a file once that [`Call::Open`] or [`Call::Create`] opened. When nothing keeps it any more, what is held of it
    /// goes back: a server cannot remove a file without names before.
    pub fn close_file(&mut self, now: Instant, ino: Ino) {
        self.pin(ino, |pins| {
            pins.open = pins.open.saturating_sub(1);
            if pins.open == 0 {
                // The server gives them up with the capability.
                pins.locks.clear();
            }
        });
        self.tell_wanted(now, ino);
        self.release_inode(ino);
        self.settle(now);
    }

    /// A rank has opened a file for us. It is kept, and everything goes back that comes with it and others may want: we
    /// neither read nor write it, and nobody should have to ask us for leave.
    pub(super) fn on_opened(&mut self, rank: Rank, ino: Ino) {
        let Some(inode) = self.cache.get_mut(ino) else { return };
        let Some(cap) = inode.cap(rank) else { return };
        let (issued, wanted_before) = (cap.issued, cap.wanted);
        self.pin(ino, |pins| pins.open = pins.open.saturating_add(1));
        let Some(inode) = self.cache.get_mut(ino) else { return };
        let kept = if inode.stat.is_dir() { CapBits::STAT | CapBits::EXCL } else { CapBits::STAT };
        let wanted = inode.wanted();
        if let Some(cap) = inode.cap_mut(rank)
            && (wanted_before != wanted || issued != issued & kept)
        {
            cap.issued = issued & kept;
            cap.wanted = wanted;
            self.send_update(rank, ino);
        }
    }

    /// A lock has to be taken on an open file: a server gives up the locks of a client with its capability, so one that is
    /// taken without any stays behind when the client goes.
    ///
    /// Source: `ceph/ceph:src/mds/CInode.cc`, `remove_client_cap`.
    pub(super) fn check_lock(&self, call: &Call) -> Result<(), &'static str> {
        match call {
            Call::SetLock { ino, lock } if lock.kind != LockKind::Unlock && self.times_open(*ino) == 0 => {
                Err("only a file that is open can be locked")
            }
            _ => Ok(()),
        }
    }

    /// Why no more can be open or locked, if it is so.
    pub(super) fn over_pins(&self, call: &Call) -> Option<Error> {
        let is_new = |ino: &Ino| self.cache.get(*ino).is_none_or(|inode| inode.pins.is_empty());
        let is_full = self.cache.pinned() >= self.config.limits.pins_max;
        let errno = match call {
            Call::Open { ino } if is_full && is_new(ino) => Errno::EMFILE,
            Call::Create { .. } if is_full => Errno::EMFILE,
            Call::SetLock { ino, .. } if is_full && is_new(ino) => Errno::ENOLCK,
            Call::SetLock { ino, .. }
                if self.cache.get(*ino).is_some_and(|inode| inode.pins.locks.len() >= LOCKS_MAX) =>
            {
                Errno::ENOLCK
            }
            _ => return None,
        };
        Some(Error::Refused(errno))
    }

    /// The session with a rank is lost, and with it what it has kept for us: open files and locks are with the authority
    /// for an inode.
    pub(super) fn lose_file(&mut self, rank: Rank, ino: Ino) {
        let Some(inode) = self.cache.get(ino) else { return };
        let others = inode.caps.iter().any(|cap| cap.rank != rank);
        if inode.pins.open == 0 || others && inode.auth != Some(rank) {
            return;
        }
        self.pin(ino, |pins| {
            pins.open = 0;
            pins.locks.clear();
        });
        self.event(Event::FileLost(ino));
    }
}
