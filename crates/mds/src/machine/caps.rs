use cuttlebone_machine::Instant;
use cuttlebone_wire::{Body, Message};

use super::cache::{Inode, Pins};
use super::cap::{Cap, Issue, Standing};
use super::session::Session;
use super::{Change, Client, Event, Generations, NotTaken};
use crate::message::{CapOp, ClientCaps};
use crate::{CapBits, CapGrant, Ino, InodeStat, Rank};

impl Client {
    /// Keeps an inode and asks for its shared capabilities, so that [`Event::Changed`] tells when others change it.
    ///
    /// Capabilities come with the next answer about the inode: ask for its attributes, now and after each such event.
    ///
    /// # Errors
    ///
    /// [`NotTaken::Busy`] above the limits, [`NotTaken::Misuse`] if nothing is known of the inode.
    pub fn watch(&mut self, now: Instant, ino: Ino) -> Result<(), NotTaken> {
        let inode =
            self.cache.get(ino).ok_or(NotTaken::Misuse("only an inode that was looked up can be watched"))?;
        if inode.pins.is_empty() && self.cache.pinned() >= self.config.limits.pins_max {
            return Err(NotTaken::Busy);
        }
        self.pin(ino, |pins| pins.watched = true);
        self.tell_wanted(now, ino);
        Ok(())
    }

    /// Watches an inode no more.
    pub fn unwatch(&mut self, now: Instant, ino: Ino) {
        self.pin(ino, |pins| pins.watched = false);
        self.tell_wanted(now, ino);
        self.settle(now);
    }

    /// The capabilities that count for an inode at the moment, over all ranks.
    pub fn caps(&self, now: Instant, ino: Ino) -> CapBits {
        let caps = self.cache.get(ino).map(|inode| inode.caps.as_slice()).unwrap_or_default();
        caps.iter().fold(CapBits::NONE, |all, cap| all | self.usable(now, cap))
    }

    /// The generations of the session with a rank, and those in which it gave its capability of an inode.
    pub fn generations(&self, rank: Rank, ino: Ino) -> Option<(Generations, Generations)> {
        let cap = self.cache.get(ino)?.cap(rank)?;
        Some((self.sessions.get(&rank)?.generations, cap.given))
    }

    pub(super) fn usable(&self, now: Instant, cap: &Cap) -> CapBits {
        let session = self.sessions.get(&cap.rank);
        session.map_or(CapBits::NONE, |session| cap.usable(session.generations, session.is_alive(now)))
    }

    pub(super) fn pin(&mut self, ino: Ino, change: impl FnOnce(&mut Pins)) {
        if let Some(inode) = self.cache.get_mut(ino) {
            change(&mut inode.pins);
            self.cache.settle(ino);
        }
    }

    /// Tells each server what is wanted of an inode, if it believes something else.
    pub(super) fn tell_wanted(&mut self, now: Instant, ino: Ino) {
        let Some(inode) = self.cache.get_mut(ino) else { return };
        let wanted = inode.wanted();
        let mut ranks = alloc::vec::Vec::new();
        for cap in inode.caps.iter_mut().filter(|cap| cap.wanted != wanted) {
            cap.wanted = wanted;
            ranks.push(cap.rank);
        }
        for rank in ranks {
            let counts = self.sessions.get(&rank).is_some_and(Session::is_open);
            if counts && self.caps(now, ino).contains(CapBits::PIN) {
                self.send_update(rank, ino);
            }
        }
    }

    /// Takes in what a rank told of an inode, with the capability that came with it.
    pub(super) fn learn_inode(&mut self, rank: Rank, stat: &InodeStat) {
        // Of a snapshot only the bits have a meaning; what else stands there is memory of the server.
        if !stat.snap.is_head() {
            return;
        }
        let issued = stat.cap.is_issued() && !stat.cap.caps.is_empty();
        if !issued && !stat.is_dir() && self.cache.get(stat.ino).is_none() {
            return;
        }
        self.cache.fill(stat, &self.config.limits);
        if issued {
            let grant = &stat.cap;
            let issue = Issue {
                id: grant.cap_id,
                bits: grant.caps,
                wanted: grant.wanted,
                seq: grant.seq,
                mseq: grant.mseq,
            };
            self.take_cap(rank, stat.ino, issue, grant.flags & CapGrant::AUTH != 0, grant.realm);
            self.remind(stat.ino);
        } else {
            self.cache.settle(stat.ino);
        }
    }

    /// Tells each server what is wanted of an inode that somebody watches or has open, if it has forgotten.
    pub(super) fn remind(&mut self, ino: Ino) {
        let Some(inode) = self.cache.get_mut(ino).filter(|inode| !inode.pins.is_empty()) else { return };
        let wanted = inode.wanted();
        let mut ranks = alloc::vec::Vec::new();
        for cap in inode.caps.iter_mut().filter(|cap| !cap.wanted.contains(wanted)) {
            cap.wanted |= wanted;
            ranks.push(cap.rank);
        }
        for rank in ranks {
            self.send_update(rank, ino);
        }
    }

    /// A rank gives a capability of an inode that is known.
    pub(super) fn take_cap(&mut self, rank: Rank, ino: Ino, issue: Issue, is_auth: bool, realm: Ino) {
        let Some(generations) = self.sessions.get(&rank).map(|session| session.generations) else { return };
        let Some(inode) = self.cache.get_mut(ino) else { return };
        let before = shared_entries(inode, rank, generations);
        match inode.cap_mut(rank) {
            // Another incarnation: what was known of the older one says nothing of this one.
            Some(cap) if generations.standing(cap.given) == Standing::Dead || cap.id != issue.id => {
                *cap = Cap::new(rank, issue, generations);
            }
            Some(cap) => cap.issue(issue, generations),
            None => inode.caps.push(Cap::new(rank, issue, generations)),
        }
        let newest = inode.caps.iter().all(|cap| !super::cap::is_after(cap.mseq, issue.mseq));
        if is_auth && newest {
            inode.auth = Some(rank);
        } else if !is_auth && inode.auth == Some(rank) {
            inode.auth = None;
        }
        if realm != Ino::NONE {
            inode.realm = realm;
        }
        if !before && shared_entries(inode, rank, generations) {
            inode.shared = inode.shared.wrapping_add(1);
        }
        self.cache.settle(ino);
    }

    pub(super) fn on_caps(&mut self, now: Instant, rank: Rank, message: &Message) {
        let caps = match ClientCaps::decode(message) {
            Ok((caps, _)) => caps,
            Err(error) => return self.malformed(rank, error),
        };
        self.osd_epoch_barrier = self.osd_epoch_barrier.max(caps.osd_epoch_barrier);
        self.learn_realms(&caps.realms);
        match caps.op {
            CapOp::Grant | CapOp::Revoke | CapOp::Trunc => self.on_grant(rank, &caps),
            CapOp::Export => self.on_export(now, rank, &caps),
            CapOp::Import => self.on_import(rank, &caps),
            // We never write back, so there is nothing to be acknowledged.
            CapOp::FlushAck | CapOp::FlushSnapAck => {}
            CapOp::Update | CapOp::Drop | CapOp::Flush | CapOp::FlushSnap | CapOp::Release | CapOp::Renew => {
                self.unexpected(rank, "a message about capabilities that only clients send");
            }
        }
    }

    fn on_grant(&mut self, rank: Rank, message: &ClientCaps) {
        let Some(session) = self.sessions.get(&rank) else { return };
        let generations = session.generations;
        let is_revoke = message.op == CapOp::Revoke;
        let known = self.cache.get_mut(message.ino).filter(|inode| {
            inode.cap(rank).is_some_and(|cap| {
                cap.id == message.cap_id && generations.standing(cap.given) != Standing::Dead
            })
        });
        let Some(inode) = known else {
            // Given back already: the release goes out before the answer, which keeps nothing either way.
            self.flush_releases(rank);
            if is_revoke {
                self.send_empty_update(rank, message);
            }
            return;
        };
        let before = shared_entries(inode, rank, generations);
        let Some(cap) = inode.cap_mut(rank) else { return };
        let lost = cap.issued.without(message.caps);
        cap.seq = message.seq;
        cap.given = generations;
        cap.issued = message.caps;
        update(inode, message);
        if !before && shared_entries(inode, rank, generations) {
            inode.shared = inode.shared.wrapping_add(1);
        }
        let watched = inode.pins.watched;
        if is_revoke {
            // Also when nothing is lost by our books: the server waits for an answer with this seq.
            self.send_update(rank, message.ino);
        }
        if watched {
            let lost = lost & CapBits::STAT;
            let change = if lost.is_empty() { Change::Attributes } else { Change::Revoked(lost) };
            self.event(Event::Changed { ino: message.ino, change });
        }
    }

    /// Tells a rank what we keep of an inode.
    pub(super) fn send_update(&mut self, rank: Rank, ino: Ino) {
        let Some(inode) = self.cache.get(ino) else { return };
        let Some(cap) = inode.cap(rank) else { return };
        let mut update = ClientCaps::new(CapOp::Update, ino);
        update.realm = inode.realm;
        update.cap_id = cap.id;
        update.caps = cap.issued;
        update.wanted = cap.wanted;
        update.seq = cap.seq;
        update.issue_seq = cap.issue_seq;
        update.mseq = cap.mseq;
        update.osd_epoch_barrier = self.osd_epoch_barrier;
        self.send(rank, &update, 0);
    }

    /// Answers a revoke of what we do not have.
    fn send_empty_update(&mut self, rank: Rank, revoke: &ClientCaps) {
        let mut update = ClientCaps::new(CapOp::Update, revoke.ino);
        update.realm = revoke.realm;
        update.cap_id = revoke.cap_id;
        update.caps = revoke.caps & CapBits::PIN;
        update.seq = revoke.seq;
        update.mseq = revoke.mseq;
        update.osd_epoch_barrier = self.osd_epoch_barrier;
        self.send(rank, &update, 0);
    }

    /// Takes away what one rank gave of an inode, without telling it.
    pub(super) fn lose_cap(&mut self, rank: Rank, ino: Ino) {
        if let Some(inode) = self.cache.get_mut(ino) {
            inode.caps.retain(|cap| cap.rank != rank);
            if inode.auth == Some(rank) {
                inode.auth = None;
            }
            self.after_loss(ino);
        }
    }

    /// Puts an inode where it belongs after it has lost a capability. A file without one is of no use to anybody.
    pub(super) fn after_loss(&mut self, ino: Ino) {
        let Some(inode) = self.cache.get(ino) else { return };
        if inode.caps.is_empty() && inode.pins.is_empty() && !inode.stat.is_dir() {
            self.cache.remove(ino);
        } else {
            self.cache.settle(ino);
        }
    }

    /// What is known of an inode may be old, whatever the capabilities say: its server did something without telling.
    pub(super) fn distrust(&mut self, ino: Ino) {
        if let Some(inode) = self.cache.get_mut(ino) {
            inode.stat.version = 0;
            inode.trusted = false;
        }
    }
}

/// Whether a rank lets us keep the entries of a directory.
fn shared_entries(inode: &Inode, rank: Rank, generations: Generations) -> bool {
    let cap = inode.cap(rank).filter(|cap| generations.standing(cap.given) == Standing::Valid);
    cap.is_some_and(|cap| cap.issued.contains(CapBits::FILE_SHARED))
}

/// Takes in the attributes of a grant, as far as it covers them.
///
/// Source: `torvalds/linux:fs/ceph/caps.c`, `handle_cap_grant`.
fn update(inode: &mut Inode, message: &ClientCaps) {
    let stat = &mut inode.stat;
    let covers = |bits| message.caps.intersects(bits);
    if covers(CapBits::AUTH_SHARED) {
        // The type of an inode never changes, whatever is said.
        stat.mode = stat.mode & FILE_TYPE | message.mode & !FILE_TYPE;
        stat.uid = message.uid;
        stat.gid = message.gid;
        stat.btime = message.btime;
    }
    if covers(CapBits::LINK_SHARED) {
        stat.nlink = message.nlink;
    }
    if covers(CapBits::FILE_SHARED | CapBits::FILE_READ | CapBits::FILE_CACHE) {
        stat.mtime = message.mtime;
        stat.atime = message.atime;
        stat.ctime = message.ctime;
        stat.time_warp_seq = message.time_warp_seq;
    }
    if covers(CapBits::FILE_SHARED) {
        if let (Ok(files), Ok(subdirs)) = (u64::try_from(message.files), u64::try_from(message.subdirs)) {
            stat.files = files;
            stat.subdirs = subdirs;
        }
        if !stat.is_dir() {
            stat.size = message.size;
        }
    }
    stat.change_attr = stat.change_attr.max(message.change_attr);
}

/// Bits of a mode that are the type.
///
/// Source: `torvalds/linux:include/uapi/linux/stat.h`, `S_IFMT`.
const FILE_TYPE: u32 = 0o170_000;
