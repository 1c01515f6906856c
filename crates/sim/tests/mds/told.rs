//! What a server tells of what it did, and what it gives with it.

use core::time::Duration;

use bytes::Bytes;
use cuttlebone_machine::Entropy;
use cuttlebone_mds::{
    CapBits, CapId, CapOp, ClientCaps, ClientReply, Created, DirEntry, DirPage, DirStat, Frag, Ino,
    InodeStat, LeaseStat, NameHash, Op, PageFlags, ReplyForm, RequestArgs, SnapRealm, Trace, TraceDentry,
};

use crate::caps::Cap;
use crate::cluster::Change;
use crate::daemon::{Daemon, Logged, Standing};
use crate::work::{ALONE, Asked, DIR_MODE, Lease};

pub(crate) const FORM: ReplyForm = ReplyForm::Versioned;

impl Daemon {
    pub(crate) fn refuse(&mut self, asked: &Asked, result: i32) {
        let reply = ClientReply { op: asked.request.op, result, safe: true, ..ClientReply::default() };
        self.send(asked.client, &reply, asked.tid);
    }

    pub(crate) fn answer(&mut self, asked: &Asked, trace: &Trace, safe: bool) {
        let realm = SnapRealm { ino: Ino::ROOT, parent_since: 1, seq: 1, ..SnapRealm::default() };
        let reply = ClientReply { op: asked.request.op, safe, ..ClientReply::default() };
        let reply = reply.with_trace(trace, FORM).with_realms(&[realm]);
        self.send(asked.client, &reply, asked.tid);
    }

    pub(crate) fn look(&mut self, asked: &Asked, dir: Ino) {
        let request = &asked.request;
        let (client, base) = (asked.client, request.path.ino);
        match request.op {
            Op::LOOKUP => {
                let trace = self.trace_of(dir, request.path.path.clone(), client);
                if trace.target.is_none() {
                    let reply =
                        ClientReply { op: request.op, result: -2, safe: true, ..ClientReply::default() };
                    return self.send(client, &reply.with_trace(&trace, FORM), asked.tid);
                }
                self.answer(asked, &trace, true);
            }
            Op::GETATTR => {
                let mode = self.dirs[&dir].modes.get(&base).copied().unwrap_or(DIR_MODE);
                let target = Some(self.stat(base, mode, client));
                self.answer(asked, &Trace { dentry: None, target }, true);
            }
            Op::READDIR => self.page(asked, dir),
            op => panic!("{op} is not part of this world"),
        }
    }

    fn page(&mut self, asked: &Asked, dir: Ino) {
        let hash = |name: &Bytes| NameHash::RJENKINS.of(name) & 0xff_ffff;
        let mut names: Vec<_> =
            self.dirs[&dir].names.iter().map(|(name, ino)| (name.clone(), *ino)).collect();
        names.sort_by_key(|(name, _)| (hash(name), name.clone()));
        let after = &asked.request.path2.path;
        if !after.is_empty() {
            names.retain(|(name, _)| (hash(name), name) > (hash(after), after));
        }
        let RequestArgs::ReadDir(args) = asked.request.args else { panic!("{:?}", asked.request.args) };
        let max = usize::try_from(args.max_entries).unwrap().max(1);
        let end = names.len() <= max;
        names.truncate(max);
        let whole = if end && after.is_empty() { PageFlags::COMPLETE.0 } else { 0 };
        let order = PageFlags::HASH_ORDER.0 | PageFlags::OFFSET_HASH.0;
        let flags = PageFlags(order | whole | u16::from(end));
        let target = Some(self.stat(dir, DIR_MODE, asked.client));
        let entries = names.into_iter().map(|(name, ino)| {
            let mode = self.dirs[&dir].modes[&ino];
            let inode = self.stat(ino, mode, asked.client);
            DirEntry { lease: self.lease(dir, &name, asked.client, true), name, inode }
        });
        let entries = entries.collect();
        let frag = DirStat { frag: Frag::WHOLE, auth: self.rank, dist: Vec::new() };
        let reply = ClientReply { op: Op::READDIR, safe: true, ..ClientReply::default() };
        let reply = reply.with_trace(&Trace { dentry: None, target }, FORM);
        let reply = reply.with_dir_page(&DirPage { frag, flags, entries }, FORM);
        // It is the directory that a listing carries as its target.
        self.send(asked.client, &reply, asked.tid);
    }

    /// Tells of a change that was made; of one whose name is gone again only that it was.
    pub(crate) fn reply_done(&mut self, logged: &Logged, safe: bool) {
        let request = &logged.request;
        let mut reply = ClientReply { op: request.op, safe, ..ClientReply::default() };
        let gone = |ino: Ino| !self.dirs.get(&logged.dir).is_some_and(|dir| dir.modes.contains_key(&ino));
        let trace = match &logged.change {
            Change::Mode { ino, .. } if gone(*ino) => Trace::default(),
            Change::Mode { ino, .. } => {
                let mode = self.dirs[&logged.dir].modes[ino];
                Trace { dentry: None, target: Some(self.stat(*ino, mode, logged.client)) }
            }
            _ if !self.dirs.contains_key(&logged.dir) => Trace::default(),
            Change::Make { ino, .. } if gone(*ino) => Trace::default(),
            _ => self.trace_of(logged.dir, request.path.path.clone(), logged.client),
        };
        reply = reply.with_trace(&trace, FORM);
        if let Some(ino) = logged.made {
            reply = reply.with_created(&Created { ino, delegated: Some(Vec::new()) });
        }
        self.send(logged.client, &reply, logged.tid);
    }

    pub(crate) fn trace_of(&mut self, dir: Ino, name: Bytes, client: u64) -> Trace {
        let target = self.dirs[&dir].names.get(&name).copied();
        let target = target.map(|ino| self.stat(ino, self.dirs[&dir].modes[&ino], client));
        let frag = DirStat { frag: Frag::WHOLE, auth: self.rank, dist: Vec::new() };
        let stat = self.stat(dir, DIR_MODE, client);
        let lease = self.lease(dir, &name, client, target.is_some());
        Trace { dentry: Some(TraceDentry { dir: stat, frag, dname: name, lease }), target }
    }

    /// An inode with what the client is given of it: nothing while it is about to move, or the client is stale.
    ///
    /// Source: `ceph/ceph:src/mds/CInode.cc`, `encode_inodestat`.
    pub(crate) fn stat(&mut self, ino: Ino, mode: u32, client: u64) -> InodeStat {
        let is_stale = self.sessions.get(&client).is_some_and(|session| session.standing == Standing::Stale);
        if is_stale || self.is_frozen(ino) {
            return plain_stat(ino, mode);
        }
        let allowed = self.allowed(ino, client);
        let next = CapId(self.last_cap + 1);
        let cap = self.caps.entry((ino, client)).or_insert_with(|| {
            self.last_cap += 1;
            Cap::new(next, CapBits::NONE, 0, 0)
        });
        cap.issue(allowed);
        let grant = cap.grant();
        let mut stat = plain_stat(ino, mode);
        stat.cap = grant;
        stat
    }

    /// Shared bits, unless somebody waits for them; everything for whoever is alone with the inode.
    pub(crate) fn allowed(&mut self, ino: Ino, client: u64) -> CapBits {
        let held = self.caps.range((ino, 0)..=(ino, u64::MAX));
        let mut others = held.filter(|((_, of), _)| *of != client).map(|(_, cap)| cap.issued());
        let (alone, exclusive) =
            (others.clone().all(CapBits::is_empty), others.any(|bits| bits.intersects(ALONE)));
        if exclusive {
            return CapBits::PIN;
        }
        let bits = if alone && self.chance.below(3) == 0 { CapBits::STAT | ALONE } else { CapBits::STAT };
        let needs = self
            .asked
            .iter()
            .flat_map(|asked| asked.needs.iter().map(move |need| (asked.client == client, need)));
        let waited_for = needs.filter(|(_, (of, ..))| *of == ino);
        let bits = waited_for
            .fold(bits, |bits, (is_own, (_, others, own))| bits.without(if is_own { *own } else { *others }));
        bits | CapBits::PIN
    }

    fn lease(&mut self, dir: Ino, name: &Bytes, client: u64, primary: bool) -> LeaseStat {
        let primary = if primary { LeaseStat::PRIMARY_LINK } else { 0 };
        let covered =
            self.caps.get(&(dir, client)).is_some_and(|cap| cap.pending.contains(CapBits::FILE_SHARED));
        let wanted =
            self.asked.iter().any(|asked| asked.names.iter().any(|(of, at)| *of == dir && at == name));
        if covered || wanted || self.chance.below(4) == 0 {
            return LeaseStat::new(primary, Duration::ZERO, 0);
        }
        self.last_lease += 1;
        let lease = Lease { seq: self.last_lease, until: self.now + Lease::DURATION, revoked: false };
        self.leases.insert((dir, name.clone(), client), lease);
        LeaseStat::new(LeaseStat::VALID | primary, Lease::DURATION, self.last_lease)
    }

    pub(crate) fn about_cap(&self, op: CapOp, ino: Ino, client: u64) -> ClientCaps {
        let cap = &self.caps[&(ino, client)];
        let holder = self.dirs.iter().find_map(|(at, dir)| Some((*at, dir, dir.modes.get(&ino).copied()?)));
        let mode = holder.map_or(DIR_MODE, |(_, _, mode)| mode);
        let mut message = ClientCaps::new(op, ino);
        message.cap_id = cap.id;
        message.seq = cap.seq;
        message.caps = cap.pending;
        message.wanted = cap.wanted;
        message.mseq = cap.mseq;
        message.mode = mode;
        message.nlink = 1;
        message.osd_epoch_barrier = 7;
        message
    }
}

pub(crate) fn plain_stat(ino: Ino, mode: u32) -> InodeStat {
    let mut stat = InodeStat::default();
    stat.ino = ino;
    stat.mode = mode;
    stat.nlink = 1;
    stat.version = 1;
    stat
}
