//! What a server does with requests: who has to give up what first, what changes, and what is told.

use core::time::Duration;
use std::collections::BTreeSet;

use bytes::Bytes;
use cuttlebone_machine::{Entropy, Instant};
use cuttlebone_mds::{
    CapBits, CapOp, ClientLease, ClientReply, ClientRequest, ClientRequestForward, Created, DirStat, Frag,
    Ino, LeaseAction, LeaseStat, MdsState, Op, Rank, RequestArgs, SetAttrArgs, Trace, TraceDentry,
};

use crate::cluster::{Change, Cluster, Dir, directory_name};
use crate::daemon::{Daemon, Logged};
use crate::told::{FORM, plain_stat};

/// What nobody but the asker may hold while names of a directory change.
const NAMES: CapBits = CapBits(CapBits::FILE.0 | CapBits::EXCL.0);
/// What a client may be given beside shared bits while nobody else holds anything.
pub(crate) const ALONE: CapBits = CapBits(CapBits::EXCL.0 | 0xf << 10);
pub(crate) const DIR_MODE: u32 = 0o040_755;

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
    pub(crate) tid: u64,
    pub(crate) request: ClientRequest,
    /// What stands in its way: bits of an inode that others may not hold, and that the asker may not hold.
    pub(crate) needs: Vec<(Ino, CapBits, CapBits)>,
    pub(crate) names: Vec<(Ino, Bytes)>,
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
            // Another rank that is not at work may know it, or be told of it by a replay.
            if cluster.all_at_work_but(self.rank) {
                self.refuse(asked, -116);
                return Turn::Done;
            }
            return Turn::Wait;
        };
        if owner != self.rank {
            let forwards = asked.request.forwards + 1;
            let forward = ClientRequestForward { dest: owner, forwards, must_resend: true };
            self.send(client, &forward, tid);
            return Turn::Done;
        }
        if self.moving.as_ref().is_some_and(|moving| moving.dir == dir) {
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
                let mut target = plain_stat(*dir, DIR_MODE);
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

    pub(crate) fn revoke_lease(&mut self, dir: Ino, name: &Bytes, client: u64) {
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
        (Op::CREATE, _) if taken => Plan::Refuse(-17),
        (Op::CREATE, RequestArgs::Open { mode, .. }) => {
            let ino = if request.ino == Ino::NONE { cluster.new_ino() } else { request.ino };
            Plan::Change(Change::Make { name, ino, mode: 0o100_000 | *mode }, Some(ino))
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
        (Op::GETATTR | Op::LOOKUP | Op::READDIR, _) => Plan::Look,
        (op, args) => panic!("{op} {args:?} is not part of this world"),
    }
}
