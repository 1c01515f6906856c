//! A run of a metadata server: sessions, pushes, the journal, and the steps of a restart.
//!
//! It does what is known of 16.2.15, and panics where a real server would be harmed, confused or left waiting.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use cuttlebone_machine::{Entropy, Instant, SplitMix};
use cuttlebone_mds::{
    CapOp, CapRelease, ClientCapRelease, ClientCaps, ClientLease, ClientReconnect, ClientReply,
    ClientRequest, ClientSession, ClientSnap, Ino, LeaseAction, MdsState, Rank, RequestFlags, RequestRelease,
    SessionOp, SnapOp, SnapRealm,
};
use cuttlebone_sim::NodeId;
use cuttlebone_wire::{Body, FeatureSet, Features, Message};

use crate::caps::Cap;
use crate::cluster::{Change, Cluster, Dir};
use crate::line::{Line, Packet};
use crate::work::{Asked, Lease};

/// Without renewal for so long, what a client holds may be given to others.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
/// Without renewal for so long, a session ends.
const AUTOCLOSE: Duration = Duration::from_secs(300);
/// How long clients may take to reconnect. Longer than a session lasts without renewal, so that nobody can believe in
/// what is given to others; by default it is 45 s, which leaves 15 s of doubt.
const RECONNECT: Duration = Duration::from_secs(75);
/// How often a server looks around.
const TICK: Duration = Duration::from_secs(5);
/// What a server of 16.2.15 claims.
const FEATURES: core::ops::RangeInclusive<u16> = 0..=18;

#[derive(Debug, Default)]
pub(crate) struct Session {
    /// When the answer to an opening is due.
    opening: Option<Instant>,
    pub(crate) open: bool,
    pub(crate) stale: bool,
    renewed: Instant,
    pushes: u64,
    /// Whether the first creation is behind it.
    pub(crate) has_numbers: bool,
    reconnected: bool,
    /// The client has said that it will not ask for anything below this again.
    oldest_tid: u64,
    /// The highest request that came for the first time.
    newest_tid: u64,
}

/// Something in the journal that is not on disk yet.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) client: u64,
    pub(crate) tid: u64,
    pub(crate) dir: Ino,
    pub(crate) change: Change,
    pub(crate) request: ClientRequest,
    pub(crate) made: Option<Ino>,
    /// The client has not been told anything yet.
    pub(crate) first_reply: bool,
}

#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) rank: Rank,
    nonce: u32,
    pub(crate) state: MdsState,
    since: Instant,
    next_tick: Instant,
    pub(crate) now: Instant,
    pub(crate) dirs: BTreeMap<Ino, Dir>,
    pub(crate) sessions: BTreeMap<u64, Session>,
    pub(crate) caps: BTreeMap<(Ino, u64), Cap>,
    pub(crate) leases: BTreeMap<(Ino, Bytes, u64), Lease>,
    pub(crate) last_lease: u32,
    pub(crate) last_cap: u64,
    pub(crate) journal: VecDeque<Logged>,
    pub(crate) flush_at: Option<Instant>,
    pub(crate) asked: VecDeque<Asked>,
    replays: VecDeque<Asked>,
    /// A directory that is about to move, and who has yet to say that they have sent everything.
    pub(crate) moving: Option<(Ino, BTreeSet<u64>, Instant)>,
    lines: BTreeMap<u64, (NodeId, Line)>,
    /// For clients without a line.
    held: BTreeMap<u64, Vec<Message>>,
    pub(crate) out: Vec<(NodeId, Packet)>,
    pub(crate) chance: SplitMix,
    /// Of a thousand lines that resume, so many are not known any more.
    pub(crate) forgetful_permille: u64,
}

impl Daemon {
    /// Reads what is on disk.
    pub(crate) fn new(cluster: &mut Cluster, rank: Rank, now: Instant, mut chance: SplitMix) -> Self {
        let nonce = cluster.start(rank);
        let owned = cluster.dirs.iter().filter(|(_, (owner, _))| *owner == rank);
        let dirs = owned.map(|(ino, (_, dir))| (*ino, dir.clone())).collect();
        let open = |(_, client): &(Rank, u64)| {
            (*client, Session { open: true, renewed: now, has_numbers: true, ..Session::default() })
        };
        let mine = cluster.sessions.iter().filter(|(owner, _)| *owner == rank);
        Self {
            rank,
            nonce,
            state: MdsState::REPLAY,
            since: now,
            next_tick: now + TICK,
            now,
            dirs,
            sessions: mine.map(open).collect(),
            caps: BTreeMap::new(),
            leases: BTreeMap::new(),
            last_lease: 0,
            last_cap: chance.below(5),
            journal: VecDeque::new(),
            flush_at: None,
            asked: VecDeque::new(),
            replays: VecDeque::new(),
            moving: None,
            lines: BTreeMap::new(),
            held: BTreeMap::new(),
            out: Vec::new(),
            chance,
            forgetful_permille: 0,
        }
    }

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

    // --- lines ---

    pub(crate) fn on_packet(&mut self, cluster: &mut Cluster, from: NodeId, packet: Packet) {
        match packet {
            Packet::Hello { client, line, nonce } if nonce == self.nonce => {
                self.out.push((from, Packet::Welcome { line }));
                if let Some((_, end)) = self.lines.get_mut(&client).filter(|(_, end)| end.id == line) {
                    // The welcome was lost, and what came behind it.
                    return self.out.extend(end.again(0).into_iter().map(|packet| (from, packet)));
                }
                let mut end = Line::new(line);
                for message in self.held.remove(&client).unwrap_or_default() {
                    self.out.push((from, end.send(message)));
                }
                self.lines.insert(client, (from, end));
            }
            Packet::Resume { client, line, nonce, received } if nonce == self.nonce => {
                let forgets = self.chance.below(1000) < self.forgetful_permille;
                match self.lines.get_mut(&client) {
                    Some((_, end)) if end.id == line && !forgets => {
                        self.out.push((from, Packet::Resumed { line, received: end.received() }));
                        self.out.extend(end.again(received).into_iter().map(|packet| (from, packet)));
                    }
                    _ => self.out.push((from, Packet::Unknown { line })),
                }
            }
            Packet::Data { line, seq, received, message } => {
                let client = self.lines.iter_mut().find_map(|(client, (_, end))| {
                    (end.id == line && end.accept(seq, received)).then_some(*client)
                });
                if let Some(client) = client {
                    self.on_message(cluster, client, &message);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn send<B: Body>(&mut self, client: u64, body: &B, tid: u64) {
        let message = body.message(Features::PACIFIC, tid);
        match self.lines.get_mut(&client) {
            Some((node, end)) => self.out.push((*node, end.send(message))),
            None => self.held.entry(client).or_default().push(message),
        }
    }

    /// Sends what both sides count.
    pub(crate) fn push<B: Body>(&mut self, client: u64, body: &B) {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.pushes += 1;
            self.send(client, body, 0);
        }
    }

    fn say(&mut self, client: u64, op: SessionOp, seq: u64) {
        self.send(client, &ClientSession::new(op, seq), 0);
    }

    // --- what clients say ---

    fn on_message(&mut self, cluster: &mut Cluster, client: u64, message: &Message) {
        let kind = message.kind;
        if kind == ClientSession::KIND {
            self.on_session(cluster, client, &ClientSession::decode(message).unwrap().0);
        } else if kind == ClientReconnect::KIND {
            self.on_reconnect(cluster, client, &ClientReconnect::decode(message).unwrap().0);
        } else if kind == ClientRequest::KIND {
            self.on_request(cluster, client, message.tid, ClientRequest::decode(message).unwrap().0);
        } else if !self.sessions.get(&client).is_some_and(|session| session.open) {
            // What clients without a session say about capabilities vanishes.
        } else if kind == ClientCaps::KIND {
            self.on_caps(client, &ClientCaps::decode(message).unwrap().0);
        } else if kind == ClientCapRelease::KIND {
            for release in ClientCapRelease::decode(message).unwrap().0.caps {
                self.on_release(client, &release);
            }
        } else if kind == ClientLease::KIND {
            self.on_lease(client, &ClientLease::decode(message).unwrap().0);
        } else {
            panic!("clients do not send {kind}");
        }
        self.work(cluster);
    }

    fn on_session(&mut self, cluster: &mut Cluster, client: u64, message: &ClientSession) {
        if message.op == SessionOp::RequestOpen {
            return self.on_open(cluster, client);
        }
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&client).filter(|session| session.open) else { return };
        match message.op {
            SessionOp::RequestRenewCaps => {
                session.renewed = now;
                if core::mem::take(&mut session.stale) {
                    self.grant_again(client);
                }
                self.say(client, SessionOp::RenewCaps, message.seq);
            }
            SessionOp::RequestClose if message.seq == session.pushes => {
                assert!(
                    self.journal.iter().all(|logged| logged.client != client),
                    "closed before it is safe"
                );
                self.end(cluster, client);
                self.say(client, SessionOp::Close, 0);
            }
            SessionOp::RequestClose => {
                assert!(message.seq < session.pushes, "a client has seen more pushes than there were");
            }
            SessionOp::FlushMsgAck => {
                if let Some((_, missing, _)) = &mut self.moving {
                    missing.remove(&client);
                }
            }
            SessionOp::RequestFlushMdLog => self.flush_within(Duration::from_millis(20)),
            op => panic!("a server aborts on {op} from a client"),
        }
    }

    fn on_open(&mut self, cluster: &mut Cluster, client: u64) {
        assert!(self.state >= MdsState::CLIENTREPLAY, "opened in {}", self.state);
        if cluster.blocklist.contains(&client) {
            let mut reject = ClientSession::new(SessionOp::Reject, 0);
            reject.flags = ClientSession::BLOCKLISTED;
            return self.send(client, &reject, 0);
        }
        let due = self.now + Duration::from_millis(1 + self.chance.below(20));
        let session = self.sessions.entry(client).or_default();
        if session.open {
            let pushes = session.pushes;
            self.say_open(client, pushes);
        } else {
            session.opening = Some(due);
        }
    }

    fn say_open(&mut self, client: u64, seq: u64) {
        let mut open = ClientSession::new(SessionOp::Open, seq);
        open.features = FeatureSet::from_bits(FEATURES);
        self.send(client, &open, 0);
    }

    /// Opens a session by force, for what another rank hands over.
    pub(crate) fn open_by_force(&mut self, cluster: &mut Cluster, client: u64) {
        let now = self.now;
        let session = self.sessions.entry(client).or_default();
        if !session.open {
            *session = Session { open: true, renewed: now, ..Session::default() };
            cluster.sessions.insert((self.rank, client));
            self.say_open(client, 0);
        }
    }

    fn on_reconnect(&mut self, cluster: &mut Cluster, client: u64, message: &ClientReconnect) {
        let in_time = self.state == MdsState::RECONNECT && cluster.sessions.contains(&(self.rank, client));
        let Some(session) = self.sessions.get_mut(&client).filter(|session| in_time && !session.reconnected)
        else {
            return self.say(client, SessionOp::Close, 0);
        };
        session.reconnected = true;
        session.renewed = self.now;
        for (ino, claim) in &message.caps {
            self.caps.insert((*ino, client), Cap::new(claim.cap_id, claim.issued, 0, 0));
        }
        self.say_open(client, 0);
    }

    fn on_request(&mut self, cluster: &mut Cluster, client: u64, tid: u64, request: ClientRequest) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        assert!(session.opening.is_none(), "a request before the session is open vanishes");
        if !session.open {
            return;
        }
        let is_new = request.retries == 0 && !request.flags.contains(RequestFlags::REPLAY);
        assert!(!is_new || self.state >= MdsState::CLIENTREPLAY, "a new request while {}", self.state);
        assert!(
            tid >= session.oldest_tid,
            "request {tid}, and it was done with all below {}",
            session.oldest_tid
        );
        assert!(
            request.oldest_client_tid <= tid,
            "{} is not the oldest before {tid}",
            request.oldest_client_tid
        );
        assert!(
            self.state != MdsState::RECONNECT || !session.reconnected,
            "what is asked again goes before the reconnect message"
        );
        session.oldest_tid = session.oldest_tid.max(request.oldest_client_tid);
        session.newest_tid = session.newest_tid.max(tid);
        // What is under way is not begun twice; its answer will come over the new connection.
        let known = self.asked.iter().any(|asked| asked.is(client, tid))
            || self.journal.iter().any(|logged| (logged.client, logged.tid) == (client, tid));
        if known {
            return;
        }
        let (rank, oldest) = (self.rank, session.oldest_tid);
        cluster.completed.retain(|(at, of, done), _| (*at, *of) != (rank, client) || *done >= oldest);
        cluster.check_unchanged(client, tid, &request);
        if self.state == MdsState::ACTIVE {
            for release in &request.releases {
                self.on_request_release(client, release);
            }
        }
        let is_replay = request.flags.contains(RequestFlags::REPLAY);
        let asked = Asked::new(client, tid, request);
        if is_replay && self.state < MdsState::ACTIVE {
            self.replays.push_back(asked);
        } else {
            self.asked.push_back(asked);
        }
    }

    fn on_request_release(&mut self, client: u64, release: &RequestRelease) {
        if let Some(cap) = self.caps.get_mut(&(release.ino, client))
            && cap.id == release.cap_id
            && cap.mseq == release.mseq
            && !self.sessions[&client].stale
        {
            cap.confirm(release.seq, release.caps, release.wanted);
        }
        let key = (release.ino, release.dname.clone(), client);
        if self.leases.get(&key).is_some_and(|lease| lease.seq == release.dname_seq) {
            self.leases.remove(&key);
        }
    }

    fn on_caps(&mut self, client: u64, message: &ClientCaps) {
        assert!(message.op == CapOp::Update, "a client that never writes back sends {}", message.op);
        if self.sessions[&client].stale {
            return;
        }
        if let Some(cap) = self.caps.get_mut(&(message.ino, client))
            && cap.id == message.cap_id
            && cap.mseq == message.mseq
        {
            cap.confirm(message.seq, message.caps, message.wanted);
        }
    }

    fn on_release(&mut self, client: u64, release: &CapRelease) {
        let key = (release.ino, client);
        let current = |cap: &Cap| cap.id == release.cap_id && cap.last_issue == release.issue_seq;
        if self.caps.get(&key).is_some_and(current) {
            self.caps.remove(&key);
        }
    }

    fn on_lease(&mut self, client: u64, message: &ClientLease) {
        let key = (message.ino, message.dname.clone(), client);
        let Some(lease) = self.leases.get_mut(&key).filter(|lease| lease.seq == message.seq) else { return };
        match message.action {
            LeaseAction::RevokeAck | LeaseAction::Release => {
                self.leases.remove(&key);
            }
            LeaseAction::Renew if !lease.revoked => {
                lease.seq += 1;
                lease.until = self.now + Lease::DURATION;
                let mut renewed = ClientLease::new(LeaseAction::Renew, key.0, key.1, lease.seq);
                renewed.duration = Lease::DURATION;
                self.push(client, &renewed);
            }
            LeaseAction::Renew => {}
            _ => panic!("a server aborts on this from a client"),
        }
    }

    // --- time ---

    pub(crate) fn on_time(&mut self, cluster: &mut Cluster, now: Instant) {
        self.now = now;
        let due = |session: &Session| session.opening.is_some_and(|due| due <= now);
        let opened: Vec<u64> =
            self.sessions.iter().filter(|(_, session)| due(session)).map(|(client, _)| *client).collect();
        for client in opened {
            self.sessions.insert(client, Session { open: true, renewed: now, ..Session::default() });
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
        if !over && !(self.state == MdsState::RECONNECT && all_here) {
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
                || self.state == MdsState::ACTIVE && self.sessions[&client].open && silent > AUTOCLOSE
            {
                self.evict(cluster, client);
            } else if silent > TIMEOUT && waited_for && !self.sessions[&client].stale {
                self.suspend(client);
            } else if self.state == MdsState::ACTIVE && self.chance.below(20) == 0 {
                self.bother(client);
            }
        }
        if self.moving.as_ref().is_some_and(|(_, _, until)| *until <= self.now) {
            self.moving = None;
        }
    }

    fn suspend(&mut self, client: u64) {
        let caps = self.caps.iter_mut().filter(|((_, of), _)| *of == client);
        caps.for_each(|(_, cap)| cap.suspend());
        self.leases.retain(|(_, _, of), _| *of != client);
        let session = self.sessions.get_mut(&client).unwrap();
        session.stale = true;
        let pushes = session.pushes;
        self.say(client, SessionOp::Stale, pushes);
    }

    fn grant_again(&mut self, client: u64) {
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
            self.now + Duration::from_micros(self.chance.below(longest.as_micros().try_into().unwrap()));
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

    // --- ends ---

    fn end(&mut self, cluster: &mut Cluster, client: u64) {
        self.sessions.remove(&client);
        cluster.sessions.remove(&(self.rank, client));
        self.caps.retain(|(_, of), _| *of != client);
        self.leases.retain(|(_, _, of), _| *of != client);
        self.asked.retain(|asked| asked.client != client);
        self.replays.retain(|asked| asked.client != client);
        if let Some((_, missing, _)) = &mut self.moving {
            missing.remove(&client);
        }
    }

    /// Throws a client out: its connection ends without a word, and its address may not come back.
    pub(crate) fn evict(&mut self, cluster: &mut Cluster, client: u64) {
        cluster.blocklist.insert(client);
        self.end(cluster, client);
        self.held.remove(&client);
        if let Some((node, line)) = self.lines.remove(&client) {
            self.out.push((node, Packet::Unknown { line: line.id }));
        }
    }
}
