use alloc::boxed::Box;
use alloc::vec::Vec;

use cuttlebone_machine::Instant;
use cuttlebone_wire::{Body, DecodeError, Message};

use super::call::Call;
use super::requests::{FORWARDS_MAX, Stage};
use super::{Answer, Client, Durability, Entry, Errno, Error, Event, Extra, Tid};
use crate::message::{ClientReply, ClientRequestForward};
use crate::{Ino, Rank, ReplyForm, SnapRealm};

/// A reply with all its parts read.
struct Parts {
    answer: Answer,
    realms: Vec<SnapRealm>,
}

impl Client {
    pub(super) fn on_reply(&mut self, now: Instant, rank: Rank, message: &Message) {
        let tid = Tid(message.tid);
        // What is not expected from this rank is late, or sent twice: a forward crossed it, or a replay did.
        match self.requests.get(&tid).map(|pending| pending.stage) {
            Some(Stage::Sent { rank: asked, at }) if asked == rank => {
                self.on_first_reply(now, rank, at, tid, message);
            }
            Some(Stage::Applied { rank: asked, .. }) if asked == rank => self.on_second_reply(tid, message),
            _ => return,
        }
        self.pump(now, rank);
    }

    fn on_first_reply(&mut self, now: Instant, rank: Rank, at: Instant, tid: Tid, message: &Message) {
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        let Some(pending) = self.requests.get(&tid) else { return };
        if !pending.call.may_wait() {
            session.pace.on_answer(now.since(at));
        }
        let call = pending.call.clone();
        let reply = match ClientReply::decode(message) {
            Ok((reply, _)) => reply,
            Err(error) => return self.finish(tid, Err(Error::Malformed(error))),
        };
        let Parts { answer, realms } = match read_parts(&reply, &call) {
            Ok(parts) => parts,
            Err(error) => return self.finish(tid, Err(Error::Malformed(error))),
        };
        self.learn_realms(&realms);
        let refused = (reply.result < 0).then(|| Errno(reply.result.saturating_neg()));
        let victims = if refused.is_none() { self.victims(&call) } else { Vec::new() };
        self.learn(rank, at, &answer);
        if let Some(errno) = refused {
            return self.finish(tid, Err(Error::Refused(errno)));
        }
        self.on_done(rank, &call, &answer, &victims);
        // A server cannot remove what has no name any more before everybody has let go of it.
        if let Some(target) = answer.target.as_ref().filter(|stat| stat.snap.is_head() && stat.nlink == 0) {
            self.release_inode(target.ino);
        }
        if reply.safe || !call.is_write() {
            return self.finish(tid, Ok(answer));
        }
        self.apply(rank, tid, &call, &answer);
        let result = Ok(Box::new(answer));
        self.event(Event::Answer { tid, result, durability: Durability::Applied });
        self.on_applied(tid);
    }

    fn on_second_reply(&mut self, tid: Tid, message: &Message) {
        match ClientReply::decode(message) {
            // The first reply once more.
            Ok((reply, _)) if !reply.safe => {}
            Ok((reply, _)) if reply.result < 0 => {
                self.uncommit(tid, &Error::Refused(Errno(reply.result.saturating_neg())));
            }
            Ok(_) => self.commit(tid),
            Err(error) => self.uncommit(tid, &Error::Malformed(error)),
        }
    }

    /// A request was done and is not committed.
    fn apply(&mut self, rank: Rank, tid: Tid, call: &Call, answer: &Answer) {
        let Some(session) = self.sessions.get_mut(&rank) else { return };
        let order = session.next_order();
        session.applied.insert(order, tid);
        self.land(rank, call.may_wait());
        let made = answer.target.as_ref().map(|target| target.ino);
        let mut touched: Vec<Ino> = call.names().into_iter().flatten().map(|entry| entry.dir).collect();
        touched.extend(call.changes().or(made));
        touched.sort_unstable();
        touched.dedup();
        self.uncommitted.extend(touched.iter().map(|ino| (*ino, tid)));
        if let Some(pending) = self.requests.get_mut(&tid) {
            pending.stage = Stage::Applied { rank, order };
            pending.touched = touched;
            pending.created = if call.makes_inode() { made } else { None };
        }
    }

    /// Takes in what an answer tells of the tree.
    fn learn(&mut self, rank: Rank, at: Instant, answer: &Answer) {
        let target = answer.target.as_ref();
        if let Some(entry) = &answer.entry {
            self.learn_inode(rank, &entry.dir);
        }
        // Before its name, which tells the inode where it lives.
        if let Some(target) = target {
            self.learn_inode(rank, target);
        }
        if let Some(entry) = answer.entry.as_ref().filter(|entry| entry.dir.snap.is_head()) {
            self.cache.learn_fragment(entry.dir.ino, &entry.frag, &self.config.limits);
            let ino = target.filter(|target| target.snap.is_head()).map(|target| target.ino);
            self.learn_name(rank, at, entry.dir.ino, &entry.dname, &entry.lease, ino);
        }
        if let Extra::Page(page) = &answer.extra
            && let Some(dir) = target.filter(|dir| dir.snap.is_head())
        {
            self.cache.learn_fragment(dir.ino, &page.frag, &self.config.limits);
            // A listing fills what is free of the budget and displaces nothing, so that a walk through the whole tree
            // leaves alone what others use. Directories are kept all the same: they tell where things are.
            let mut room = self.config.limits.caps_max.saturating_sub(self.cache.held());
            for entry in page.entries.iter().filter(|entry| entry.inode.snap.is_head()) {
                let is_known = || self.cache.get(entry.inode.ino).is_some();
                if room > 0 || entry.inode.is_dir() || is_known() {
                    room = room.saturating_sub(1);
                    self.learn_inode(rank, &entry.inode);
                    self.learn_name(rank, at, dir.ino, &entry.name, &entry.lease, Some(entry.inode.ino));
                } else {
                    self.decline(rank, &entry.inode);
                }
            }
        }
    }

    /// The inodes that lose a name by a call.
    fn victims(&self, call: &Call) -> Vec<Ino> {
        match call {
            Call::Unlink { entry } | Call::Rmdir { entry } | Call::Rename { to: entry, .. } => {
                self.target_of(entry).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn target_of(&self, entry: &Entry) -> Option<Ino> {
        self.cache.get(entry.dir)?.names.get(entry.name.as_bytes())?.target
    }

    /// What follows from a call that was done, beyond what its trace told.
    fn on_done(&mut self, rank: Rank, call: &Call, answer: &Answer, victims: &[Ino]) {
        let target = answer.target.as_ref().map(|target| target.ino);
        match call {
            Call::Rename { from, .. } => drop(self.cache.forget_name(from.dir, from.name.as_bytes())),
            Call::Unlink { entry } => victims.iter().for_each(|ino| self.forget_link(*ino, entry)),
            Call::Open { .. } | Call::Create { .. } => {
                if let Some(ino) = target {
                    self.on_opened(rank, ino);
                }
            }
            // As long as we hold it, the server believes that it is open.
            Call::MakeFile { .. } => target.into_iter().for_each(|ino| self.release_inode(ino)),
            Call::SetLock { ino, lock } => self.pin(*ino, |pins| pins.locked(lock)),
            _ => {}
        }
        for victim in victims.iter().filter(|victim| Some(**victim) != target) {
            // With its last name goes every use of it, and a server keeps what was unlinked while somebody holds it.
            if self.cache.get(*victim).is_some_and(|inode| inode.stat.nlink <= 1 || inode.stat.is_dir()) {
                self.release_inode(*victim);
            }
        }
        if call.is_write() && answer.entry.is_none() && answer.target.is_none() {
            // It had been done before, and nothing was told: what we know of it may be old.
            for entry in call.names().into_iter().flatten() {
                self.cache.forget_name(entry.dir, entry.name.as_bytes());
            }
            if let Some(ino) = call.changes() {
                self.distrust(ino);
            }
        }
    }

    /// An inode does not live under this name any more.
    fn forget_link(&mut self, ino: Ino, entry: &Entry) {
        if let Some(inode) = self.cache.get_mut(ino) {
            inode.link.take_if(|(dir, name)| (*dir, &*name) == (entry.dir, entry.name.as_bytes()));
        }
    }

    pub(super) fn on_forward(&mut self, now: Instant, rank: Rank, message: &Message) {
        let tid = Tid(message.tid);
        let Some(pending) = self.requests.get_mut(&tid) else { return };
        if !matches!(pending.stage, Stage::Sent { rank: asked, .. } if asked == rank) {
            return;
        }
        let forward = match ClientRequestForward::decode(message) {
            Ok((forward, _)) => forward,
            Err(error) => return self.finish(tid, Err(Error::Malformed(error))),
        };
        // One that was sent before the last one we followed.
        if forward.forwards <= pending.forwards {
            return;
        }
        let may_wait = pending.call.may_wait();
        pending.forwards = forward.forwards;
        pending.hint = Some(forward.dest);
        pending.attempts = 0;
        pending.stage = Stage::Unplaced;
        self.land(rank, may_wait);
        if forward.forwards > FORWARDS_MAX {
            self.finish(tid, Err(Error::TooManyForwards(FORWARDS_MAX)));
        } else {
            self.place(now, tid);
        }
        self.pump(now, rank);
    }
}

/// Reads all parts at once, so that nothing is taken in of a reply that is malformed further on.
fn read_parts(reply: &ClientReply, call: &Call) -> Result<Parts, DecodeError> {
    let form = ReplyForm::Versioned;
    let trace = reply.trace(form)?;
    let extra =
        if reply.extra.is_empty() || reply.result < 0 { Extra::None } else { read_extra(reply, call)? };
    let answer = Answer { entry: trace.dentry, target: trace.target, extra };
    Ok(Parts { answer, realms: reply.realms()? })
}

fn read_extra(reply: &ClientReply, call: &Call) -> Result<Extra, DecodeError> {
    Ok(match call {
        Call::ReadDir { .. } | Call::ListSnaps { .. } => Extra::Page(reply.dir_page(ReplyForm::Versioned)?),
        Call::GetVxattr { .. } => Extra::Vxattr(reply.vxattr()?),
        Call::GetLock { .. } => Extra::Lock(reply.file_lock()?),
        call if call.makes_inode() => reply.created()?.map_or(Extra::None, |made| Extra::Created(made.ino)),
        _ => Extra::None,
    })
}
