//! What a server does with requests: who has to give up what first, what changes, and what is told.

use core::time::Duration;
use std::collections::BTreeSet;

use bytes::Bytes;
use cuttlebone_machine::{Entropy, Instant};
use cuttlebone_mds::{
    CapBits, CapId, CapOp, CapPeer, ClientCaps, ClientLease, ClientReply, ClientRequest,
    ClientRequestForward, ClientSession, Created, DirEntry, DirPage, DirStat, Frag, Ino, InodeStat,
    LeaseAction, LeaseStat, MdsState, NameHash, Op, PageFlags, Rank, ReplyForm, RequestArgs, SessionOp,
    SetAttrArgs, SnapRealm, Trace, TraceDentry,
};

use crate::caps::Cap;
use crate::cluster::{Change, Cluster, Dir, directory_name};
use crate::daemon::{Daemon, Logged};

const FORM: ReplyForm = ReplyForm::Versioned;
/// What nobody but the asker may hold while names of a directory change.
const NAMES: CapBits = CapBits(CapBits::FILE.0 | CapBits::EXCL.0);
/// What a client may be given beside shared bits while nobody else holds anything.
const ALONE: CapBits = CapBits(CapBits::EXCL.0 | 0xf << 10);
const DIR_MODE: u32 = 0o040_755;
/// How long a directory that is about to move is held back for those who do not answer.
const MOVE_MAX: Duration = Duration::from_secs(20);

/// The lease of a name.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) seq: u32,
    pub(crate) until: Instant,
    pub(crate) revoked: bool,
}

impl Lease {
    pub(crate) const DURATION: Duration = Duration::from_secs(30);
}

/// A request that waits for its turn.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) client: u64,
    tid: u64,
    request: ClientRequest,
    /// What stands in its way: bits of an inode that others may not hold, and that the asker may not hold.
    needs: Vec<(Ino, CapBits, CapBits)>,
    names: Vec<(Ino, Bytes)>,
    /// Clients that hold something of that.
    holders: BTreeSet<u64>,
    /// Of the asker's own the server takes back what it likes, as long as it is not shared.
    own: Option<CapBits>,
}

impl Asked {
    pub(crate) fn new(client: u64, tid: u64, request: ClientRequest) -> Self {
        let (needs, names, holders) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { client, tid, request, needs, names, holders, own: None }
    }

    pub(crate) fn is(&self, client: u64, tid: u64) -> bool {
        (self.client, self.tid) == (client, tid)
    }

    pub(crate) fn waits_for(&self, client: u64) -> bool {
        self.holders.contains(&client)
    }
}

enum Turn {
    Wait,
    Done,
}

/// What a request comes to.
enum Plan {
    Refuse(i32),
    Look,
    Change(Change, Option<Ino>),
}

impl Daemon {
    /// Does what can be done of what was asked, until nothing more can.
    pub(crate) fn work(&mut self, cluster: &mut Cluster) {
        self.go_on_moving(cluster);
        if self.state != MdsState::ACTIVE {
            return;
        }
        loop {
            let mut progress = false;
            for _ in 0..self.asked.len() {
                let Some(mut asked) = self.asked.pop_front() else { break };
                if let Turn::Done = self.turn(cluster, &mut asked) {
                    progress = true;
                } else {
                    self.asked.push_back(asked);
                }
            }
            if !progress {
                return;
            }
        }
    }

    fn turn(&mut self, cluster: &mut Cluster, asked: &mut Asked) -> Turn {
        let (client, tid, op) = (asked.client, asked.tid, asked.request.op);
        let base = asked.request.path.ino;
        if let Some(made) = cluster.completed.get(&(self.rank, client, tid)).copied() {
            let mine = made.and_then(|ino| self.home(cluster, ino)).filter(|(_, rank)| *rank == self.rank);
            let mut reply = ClientReply { op, safe: true, ..ClientReply::default() };
            // One that created is answered as if it had looked.
            if let Some((dir, _)) = mine {
                let trace = self.trace_of(dir, asked.request.path.path.clone(), client);
                reply = reply.with_trace(&trace, FORM);
            }
            self.send(client, &reply, tid);
            return Turn::Done;
        }
        if base == Ino::ROOT {
            return self.turn_in_root(cluster, asked);
        }
        let Some((dir, owner)) = self.home(cluster, base) else {
            self.refuse(asked, -116);
            return Turn::Done;
        };
        if owner != self.rank {
            let forwards = asked.request.forwards + 1;
            let forward = ClientRequestForward { dest: owner, forwards, must_resend: true };
            self.send(client, &forward, tid);
            return Turn::Done;
        }
        if self.moving.as_ref().is_some_and(|(moving, ..)| *moving == dir) {
            return Turn::Wait;
        }
        // What one client has changed, others see only when it is on disk.
        if self.journal.iter().any(|logged| logged.dir == dir && logged.client != client) {
            self.flush_within(Duration::from_millis(20));
            return Turn::Wait;
        }
        let plan = plan(cluster, &self.dirs[&dir], &asked.request);
        self.need(asked, dir, &plan);
        if !self.is_free(asked) {
            return Turn::Wait;
        }
        self.execute(asked, dir, plan);
        Turn::Done
    }

    /// The directory that an inode is or is in, and who has authority over it.
    fn home(&self, cluster: &Cluster, ino: Ino) -> Option<(Ino, Rank)> {
        let mut own =
            self.dirs.iter().filter(|(dir, inside)| **dir == ino || inside.modes.contains_key(&ino));
        own.next().map(|(dir, _)| (*dir, self.rank)).or_else(|| cluster.directory_of(ino))
    }

    /// The root has the directories, and nothing else; it never changes.
    fn turn_in_root(&mut self, cluster: &Cluster, asked: &Asked) -> Turn {
        if self.rank != Rank(0) {
            let forwards = asked.request.forwards + 1;
            let forward = ClientRequestForward { dest: Rank(0), forwards, must_resend: true };
            self.send(asked.client, &forward, asked.tid);
            return Turn::Done;
        }
        let index = (0..)
            .zip(cluster.dirs.keys())
            .find(|(index, _)| directory_name(*index) == asked.request.path.path);
        let root = self.stat(Ino::ROOT, DIR_MODE, asked.client);
        let trace = match (asked.request.op, index) {
            (Op::GETATTR, _) => Trace { dentry: None, target: Some(root) },
            (Op::LOOKUP, Some((_, dir))) => {
                let mut target = self.plain_stat(*dir, DIR_MODE);
                if self.dirs.contains_key(dir) {
                    target = self.stat(*dir, DIR_MODE, asked.client);
                }
                let frag = DirStat { frag: Frag::WHOLE, auth: self.rank, dist: Vec::new() };
                let lease = LeaseStat::new(LeaseStat::PRIMARY_LINK, Duration::ZERO, 0);
                let dname = asked.request.path.path.clone();
                Trace { dentry: Some(TraceDentry { dir: root, frag, dname, lease }), target: Some(target) }
            }
            (op, _) => panic!("{op} in the root is not part of this world"),
        };
        self.answer(asked, &trace, true);
        Turn::Done
    }

    /// Notes what stands in the way of a request; the rest of the server gives nothing of it away meanwhile.
    fn need(&mut self, asked: &mut Asked, dir: Ino, plan: &Plan) {
        let own = if self.chance.below(2) == 0 { CapBits::EXCL } else { CapBits::FILE_EXCL };
        let own = *asked.own.get_or_insert(own);
        asked.names.clear();
        asked.needs = match plan {
            Plan::Refuse(_) => Vec::new(),
            Plan::Look => vec![(dir, ALONE, CapBits::NONE), (asked.request.path.ino, ALONE, CapBits::NONE)],
            Plan::Change(Change::Mode { ino, .. }, _) => {
                vec![(*ino, CapBits::AUTH_SHARED | ALONE, CapBits::EXCL)]
            }
            Plan::Change(..) => vec![(dir, NAMES, own)],
        };
        let names = names_of(&asked.request);
        for target in names.iter().filter_map(|name| self.dirs[&dir].names.get(name)) {
            let links = CapBits::LINK_SHARED | CapBits::EXCL;
            match plan {
                Plan::Refuse(_) => {}
                Plan::Look => asked.needs.push((*target, ALONE, CapBits::NONE)),
                Plan::Change(..) => asked.needs.push((*target, links, links)),
            }
        }
        if let Plan::Change(..) = plan {
            asked.names = names.into_iter().map(|name| (dir, name)).collect();
        }
    }

    /// Takes back what stands in the way, and says whether it is gone.
    fn is_free(&mut self, asked: &mut Asked) -> bool {
        asked.holders.clear();
        for (ino, others, own) in asked.needs.clone() {
            let held: Vec<u64> =
                self.caps.range((ino, 0)..=(ino, u64::MAX)).map(|((_, of), _)| *of).collect();
            for client in held {
                let bits = if client == asked.client { own } else { others };
                let cap = self.caps.get_mut(&(ino, client)).unwrap();
                if cap.pending.intersects(bits) {
                    cap.change(cap.pending.without(bits));
                    let revoke = self.about_cap(CapOp::Revoke, ino, client);
                    self.push(client, &revoke);
                }
                if self.caps[&(ino, client)].issued().intersects(bits) {
                    asked.holders.insert(client);
                }
            }
        }
        let now = self.now;
        self.leases.retain(|_, lease| lease.until > now);
        for (dir, name) in &asked.names {
            let all = (*dir, name.clone(), 0)..=(*dir, name.clone(), u64::MAX);
            let clients: Vec<u64> = self.leases.range(all).map(|((_, _, client), _)| *client).collect();
            for client in clients {
                asked.holders.insert(client);
                self.revoke_lease(*dir, name, client);
            }
        }
        asked.holders.is_empty()
    }

    fn revoke_lease(&mut self, dir: Ino, name: &Bytes, client: u64) {
        let Some(lease) = self.leases.get_mut(&(dir, name.clone(), client)) else { return };
        if !core::mem::replace(&mut lease.revoked, true) {
            let revoke = ClientLease::new(LeaseAction::Revoke, dir, name.clone(), lease.seq);
            self.push(client, &revoke);
        }
    }

    fn execute(&mut self, asked: &Asked, dir: Ino, plan: Plan) {
        match plan {
            Plan::Refuse(errno) => self.refuse(asked, errno),
            Plan::Look => self.look(asked, dir),
            Plan::Change(change, made) => {
                self.dirs.get_mut(&dir).unwrap().apply(&change);
                // The first creation, and now and then any other change, is told of only when it is on disk.
                let session = self.sessions.get_mut(&asked.client).unwrap();
                let first = made.is_some() && !core::mem::replace(&mut session.has_numbers, true);
                let late = first || self.chance.below(5) == 0;
                let logged = Logged {
                    client: asked.client,
                    tid: asked.tid,
                    dir,
                    change,
                    request: asked.request.clone(),
                    made,
                    first_reply: late,
                };
                if !late {
                    self.reply_done(&logged, false);
                }
                self.journal.push_back(logged);
                self.flush_within(Duration::from_millis(if late { 3 } else { 5000 }));
            }
        }
    }

    /// Does again what was done before a restart, for a client that was told so.
    pub(crate) fn replay(&mut self, cluster: &mut Cluster, asked: &Asked) {
        let (client, tid) = (asked.client, asked.tid);
        let op = asked.request.op;
        let mut reply = ClientReply { op, safe: true, ..ClientReply::default() };
        let known = cluster.completed.get(&(self.rank, client, tid)).copied();
        let mut made = known.flatten();
        if known.is_none() {
            let (dir, owner) = self.home(cluster, asked.request.path.ino).expect("a replay is where it was");
            assert_eq!(owner, self.rank, "what moved was on disk before");
            let plan = plan(cluster, &self.dirs[&dir], &asked.request);
            let Plan::Change(change, ino) = plan else {
                panic!("the replay of {tid} of {client} fails: {op}")
            };
            self.dirs.get_mut(&dir).unwrap().apply(&change);
            cluster.dirs.get_mut(&dir).unwrap().1.apply(&change);
            cluster.completed.insert((self.rank, client, tid), ino);
            made = ino;
        }
        if let Some(ino) = made {
            reply = reply.with_created(&Created { ino, delegated: Some(Vec::new()) });
        }
        self.send(client, &reply, tid);
    }

    // --- what is told ---

    fn refuse(&mut self, asked: &Asked, result: i32) {
        let reply = ClientReply { op: asked.request.op, result, safe: true, ..ClientReply::default() };
        self.send(asked.client, &reply, asked.tid);
    }

    fn answer(&mut self, asked: &Asked, trace: &Trace, safe: bool) {
        let realm = SnapRealm { ino: Ino::ROOT, parent_since: 1, seq: 1, ..SnapRealm::default() };
        let reply = ClientReply { op: asked.request.op, safe, ..ClientReply::default() };
        let reply = reply.with_trace(trace, FORM).with_realms(&[realm]);
        self.send(asked.client, &reply, asked.tid);
    }

    fn look(&mut self, asked: &Asked, dir: Ino) {
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

    fn trace_of(&mut self, dir: Ino, name: Bytes, client: u64) -> Trace {
        let target = self.dirs[&dir].names.get(&name).copied();
        let target = target.map(|ino| self.stat(ino, self.dirs[&dir].modes[&ino], client));
        let frag = DirStat { frag: Frag::WHOLE, auth: self.rank, dist: Vec::new() };
        let stat = self.stat(dir, DIR_MODE, client);
        let lease = self.lease(dir, &name, client, target.is_some());
        Trace { dentry: Some(TraceDentry { dir: stat, frag, dname: name, lease }), target }
    }

    /// An inode with what the client is given of it.
    fn stat(&mut self, ino: Ino, mode: u32, client: u64) -> InodeStat {
        let allowed = self.allowed(ino, client);
        let next = CapId(self.last_cap + 1);
        let cap = self.caps.entry((ino, client)).or_insert_with(|| {
            self.last_cap += 1;
            Cap::new(next, CapBits::NONE, 0, 0)
        });
        cap.issue(allowed);
        let grant = cap.grant();
        let mut stat = self.plain_stat(ino, mode);
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

    // --- moving a directory to another rank ---

    /// Begins to hand a directory over: asks everybody who holds something there to send what is on its way.
    pub(crate) fn begin_moving(&mut self, dir: Ino) {
        if self.moving.is_some() || self.state != MdsState::ACTIVE || !self.dirs.contains_key(&dir) {
            return;
        }
        let clients: BTreeSet<u64> = self.holders(dir).into_iter().map(|(_, client)| client).collect();
        for client in &clients {
            self.send(*client, &ClientSession::new(SessionOp::FlushMsg, 0), 0);
        }
        self.moving = Some((dir, clients, self.now + MOVE_MAX));
        let leases = self.leases.keys().filter(|(of, ..)| *of == dir).cloned().collect::<Vec<_>>();
        for (_, name, client) in leases {
            self.revoke_lease(dir, &name, client);
        }
        self.flush_within(Duration::from_millis(20));
    }

    fn holders(&self, dir: Ino) -> Vec<(Ino, u64)> {
        let within = |ino: &Ino| *ino == dir || self.dirs[&dir].modes.contains_key(ino);
        self.caps.keys().filter(|(ino, _)| within(ino)).copied().collect()
    }

    fn go_on_moving(&mut self, cluster: &mut Cluster) {
        let Some((dir, missing, _)) = &self.moving else { return };
        let dir = *dir;
        let revoking = |key: &(Ino, u64)| self.caps[key].issued() != self.caps[key].pending;
        let busy = self.journal.iter().any(|logged| logged.dir == dir)
            || self.leases.keys().any(|(of, ..)| *of == dir)
            || self.holders(dir).iter().any(revoking);
        let to = Rank(1 - self.rank.0);
        let Some(mut other) = cluster.daemons.remove(&to) else { return };
        if missing.is_empty() && !busy && other.state == MdsState::ACTIVE {
            self.moving = None;
            self.hand_over(cluster, &mut other, dir);
        }
        cluster.daemons.insert(to, other);
    }

    fn hand_over(&mut self, cluster: &mut Cluster, other: &mut Self, dir: Ino) {
        for (ino, client) in self.holders(dir) {
            let old = self.caps.remove(&(ino, client)).unwrap();
            if cluster.blocklist.contains(&client) || !self.sessions.contains_key(&client) {
                continue;
            }
            other.now = self.now.max(other.now);
            other.open_by_force(cluster, client);
            other.last_cap += 1;
            let new = Cap::new(CapId(other.last_cap), old.pending, 1, old.mseq + 1);
            let mut export = ClientCaps::new(CapOp::Export, ino);
            export.cap_id = old.id;
            export.mseq = old.mseq;
            export.peer = CapPeer { cap_id: new.id, seq: 1, mseq: new.mseq, rank: other.rank, flags: 0 };
            self.push(client, &export);
            other.caps.insert((ino, client), new);
            let mut import = other.about_cap(CapOp::Import, ino, client);
            import.peer = CapPeer { cap_id: old.id, seq: old.seq, mseq: old.mseq, rank: self.rank, flags: 0 };
            other.push(client, &import);
        }
        let moved = self.dirs.remove(&dir).unwrap();
        other.dirs.insert(dir, moved);
        cluster.dirs.get_mut(&dir).unwrap().0 = other.rank;
        cluster.moves += 1;
    }

    fn plain_stat(&self, ino: Ino, mode: u32) -> InodeStat {
        let mut stat = InodeStat::default();
        stat.ino = ino;
        stat.mode = mode;
        stat.nlink = 1;
        stat.version = 1;
        stat
    }
}

/// The names that a request is about.
fn names_of(request: &ClientRequest) -> Vec<Bytes> {
    let mut names = vec![request.path.path.clone()];
    if request.op == Op::RENAME {
        names.push(request.path2.path.clone());
    }
    names.retain(|name| !name.is_empty());
    names
}

fn plan(cluster: &mut Cluster, dir: &Dir, request: &ClientRequest) -> Plan {
    let name = request.path.path.clone();
    let taken = dir.names.contains_key(&name);
    match (request.op, &request.args) {
        (Op::MKNOD, _) if taken => Plan::Refuse(-17),
        (Op::MKNOD, RequestArgs::MkNod { mode, .. }) => {
            let ino = if request.ino == Ino::NONE { cluster.new_ino() } else { request.ino };
            Plan::Change(Change::Make { name, ino, mode: *mode }, Some(ino))
        }
        (Op::UNLINK, _) if !taken => Plan::Refuse(-2),
        (Op::UNLINK, _) => Plan::Change(Change::Remove { name }, None),
        (Op::RENAME, _) if request.path.ino != request.path2.ino => Plan::Refuse(-18),
        (Op::RENAME, _) if !dir.names.contains_key(&request.path2.path) => Plan::Refuse(-2),
        (Op::RENAME, _) => Plan::Change(Change::Rename { from: request.path2.path.clone(), to: name }, None),
        (Op::SETATTR, RequestArgs::SetAttr(set)) if set.mask == SetAttrArgs::MODE => {
            let ino = request.path.ino;
            let known = dir.modes.get(&ino).map(|mode| mode & 0o170_000 | set.mode);
            known.map_or(Plan::Refuse(-116), |mode| Plan::Change(Change::Mode { ino, mode }, None))
        }
        (Op::GETATTR, _) | (Op::LOOKUP, _) | (Op::READDIR, _) => Plan::Look,
        (op, args) => panic!("{op} {args:?} is not part of this world"),
    }
}
