//! What a server does as time passes: restarting, writing its journal, losing patience with clients.

use core::time::Duration;

use cuttlebone_machine::{Entropy, Instant};
use cuttlebone_mds::{
    CapOp, ClientReply, ClientSession, ClientSnap, Ino, MdsState, SessionOp, SnapOp, SnapRealm,
};

use crate::cluster::Cluster;
use crate::daemon::{Daemon, Session, Standing, TICK};
use crate::line::Packet;

/// Without renewal for so long, what a client holds may be given to others.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Without renewal for so long, a session ends.
const AUTOCLOSE: Duration = Duration::from_secs(300);
/// How long clients may take to reconnect. Longer than a session lasts without renewal, so that nobody can believe in
/// what is given to others; by default it is 45 s, which leaves 15 s of doubt.
const RECONNECT: Duration = Duration::from_secs(75);

impl Daemon {
    pub(crate) fn deadline(&self) -> Instant {
        let step = (self.state < MdsState::ACTIVE).then(|| self.since + self.patience());
        let opening = self.sessions.values().filter_map(|session| session.opening);
        let expiry = self.leases.values().map(|lease| lease.until).filter(|until| *until > self.now);
        let waits = !self.asked.is_empty();
        let expiry = expiry.min().filter(|_| waits);
        opening.chain(step).chain(self.flush_at).chain(expiry).chain([self.next_tick]).min().unwrap()
    }

    /// How long a step of a restart takes at most.
    fn patience(&self) -> Duration {
        if self.state == MdsState::RECONNECT { RECONNECT } else { Duration::from_millis(500) }
    }

    pub(crate) fn on_time(&mut self, cluster: &mut Cluster, now: Instant) {
        self.now = now;
        let due = |session: &Session| session.opening.is_some_and(|due| due <= now);
        let opened: Vec<u64> =
            self.sessions.iter().filter(|(_, session)| due(session)).map(|(client, _)| *client).collect();
        for client in opened {
            self.sessions.insert(client, Session::opened(now));
            cluster.sessions.insert((self.rank, client));
            self.say_open(client, 0);
        }
        if self.flush_at.is_some_and(|due| due <= now) {
            self.commit(cluster);
        }
        if self.state < MdsState::ACTIVE {
            self.restart(cluster);
        }
        if self.next_tick <= now {
            self.next_tick = now + TICK;
            self.tick(cluster);
        }
        self.work(cluster);
    }

    fn restart(&mut self, cluster: &mut Cluster) {
        let all_here = self.sessions.values().all(|session| session.reconnected);
        let over = self.since + self.patience() <= self.now;
        if !(over || self.state == MdsState::RECONNECT && all_here) {
            return;
        }
        let next = match self.state {
            MdsState::REPLAY => MdsState::RECONNECT,
            MdsState::RECONNECT => {
                let late = self.sessions.iter().filter(|(_, session)| !session.reconnected);
                let late: Vec<u64> = late.map(|(client, _)| *client).collect();
                for client in late {
                    self.evict(cluster, client);
                }
                MdsState::REJOIN
            }
            MdsState::REJOIN => {
                let realm = SnapRealm { ino: Ino::ROOT, parent_since: 1, seq: 1, ..SnapRealm::default() };
                let clients: Vec<u64> = self.sessions.keys().copied().collect();
                for client in clients {
                    self.push(client, &ClientSnap::new(SnapOp::Update, vec![realm.clone()]));
                }
                MdsState::CLIENTREPLAY
            }
            _ => {
                while let Some(asked) = self.replays.pop_front() {
                    self.replay(cluster, &asked);
                }
                self.commit(cluster);
                MdsState::ACTIVE
            }
        };
        (self.state, self.since) = (next, self.now);
        cluster.set_state(self.rank, next);
    }

    fn tick(&mut self, cluster: &mut Cluster) {
        let clients: Vec<u64> = self.sessions.keys().copied().collect();
        for client in clients {
            let silent = self.now.since(self.sessions[&client].renewed);
            let waited_for = self.asked.iter().any(|asked| asked.waits_for(client));
            if cluster.blocklist.contains(&client)
                || self.state == MdsState::ACTIVE && self.sessions[&client].is_open() && silent > AUTOCLOSE
            {
                self.evict(cluster, client);
            } else if silent > TIMEOUT && waited_for && self.sessions[&client].standing == Standing::Open {
                self.suspend(client);
            } else if self.state == MdsState::ACTIVE && self.chance.below(20) == 0 {
                self.bother(client);
            }
        }
        if self.moving.as_ref().is_some_and(|moving| moving.until <= self.now) {
            self.stop_moving();
        }
    }

    fn suspend(&mut self, client: u64) {
        let caps = self.caps.iter_mut().filter(|((_, of), _)| *of == client);
        caps.for_each(|(_, cap)| cap.suspend());
        self.leases.retain(|(_, _, of), _| *of != client);
        let session = self.sessions.get_mut(&client).unwrap();
        session.standing = Standing::Stale;
        let pushes = session.pushes;
        self.say(client, SessionOp::Stale, pushes);
    }

    pub(crate) fn grant_again(&mut self, client: u64) {
        let held: Vec<Ino> = self.caps.keys().filter(|(_, of)| *of == client).map(|(ino, _)| *ino).collect();
        for ino in held.into_iter().filter(|ino| ino.0 % 2 == 0) {
            let allowed = self.allowed(ino, client);
            let cap = self.caps.get_mut(&(ino, client)).unwrap();
            cap.change(cap.pending | allowed);
            let grant = self.about_cap(CapOp::Grant, ino, client);
            self.push(client, &grant);
        }
    }

    /// Things that a server asks of a client now and then.
    fn bother(&mut self, client: u64) {
        let pushes = self.sessions[&client].pushes;
        if self.chance.below(2) == 0 {
            return self.say(client, SessionOp::FlushMsg, pushes);
        }
        let mut recall = ClientSession::new(SessionOp::RecallState, 0);
        recall.max_caps = u32::try_from(self.chance.below(8)).unwrap();
        self.send(client, &recall, 0);
    }

    pub(crate) fn flush_within(&mut self, longest: Duration) {
        let due =
            self.now + Duration::from_micros(1 + self.chance.below(longest.as_micros().try_into().unwrap()));
        if !self.journal.is_empty() {
            self.flush_at = Some(self.flush_at.map_or(due, |planned| planned.min(due)));
        }
    }

    /// Everything that was done is on disk now.
    pub(crate) fn commit(&mut self, cluster: &mut Cluster) {
        self.flush_at = None;
        while let Some(logged) = self.journal.pop_front() {
            let (_, durable) = cluster.dirs.get_mut(&logged.dir).unwrap();
            durable.apply(&logged.change);
            cluster.completed.insert((self.rank, logged.client, logged.tid), logged.made);
            if !self.sessions.contains_key(&logged.client) {
                continue;
            }
            if logged.first_reply {
                self.reply_done(&logged, true);
            } else {
                let reply = ClientReply { op: logged.request.op, safe: true, ..ClientReply::default() };
                self.send(logged.client, &reply, logged.tid);
            }
        }
    }

    pub(crate) fn end(&mut self, cluster: &mut Cluster, client: u64) {
        self.sessions.remove(&client);
        let rank = self.rank;
        cluster.completed.retain(|(at, of, _), _| (*at, *of) != (rank, client));
        cluster.sessions.remove(&(self.rank, client));
        self.caps.retain(|(_, of), _| *of != client);
        self.leases.retain(|(_, _, of), _| *of != client);
        self.asked.retain(|asked| asked.client != client);
        self.replays.retain(|asked| asked.client != client);
        if let Some(moving) = &mut self.moving {
            moving.flushed(client);
        }
    }

    /// Throws a client out: its connection ends without a word, and its address may not come back, unless an
    /// administrator wants it otherwise.
    pub(crate) fn evict(&mut self, cluster: &mut Cluster, client: u64) {
        if !self.lenient {
            cluster.blocklist.insert(client);
        }
        self.end(cluster, client);
        self.held.remove(&client);
        if let Some((node, line)) = self.lines.remove(&client) {
            self.out.push((node, Packet::Unknown { line: line.id }));
        }
    }
}
