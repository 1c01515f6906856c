//! A run of a metadata server: sessions, pushes, the journal, and the steps of a restart.
//!
//! It does what is known of 16.2.15, and panics where a real server would be harmed, confused or left waiting.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use cuttlebone_machine::{Entropy, Instant, SplitMix};
use cuttlebone_mds::{
    CapOp, CapRelease, ClientCapRelease, ClientCaps, ClientLease, ClientReconnect, ClientRequest,
    ClientSession, Ino, LeaseAction, MdsState, Rank, RequestFlags, RequestRelease, SessionOp,
};
use cuttlebone_sim::NodeId;
use cuttlebone_wire::{Body, FeatureSet, Features, Message};

use crate::caps::Cap;
use crate::cluster::{Change, Cluster, Dir};
use crate::line::{Line, Packet};
use crate::moving::{Deferred, Moving};
use crate::work::{Asked, Lease};

/// How often a server looks around.
pub(crate) const TICK: Duration = Duration::from_secs(5);
/// What a server of 16.2.15 claims.
const FEATURES: core::ops::RangeInclusive<u16> = 0..=18;

/// How a session stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    #[default]
    Closed,
    Open,
    Stale,
}

#[derive(Debug, Default)]
pub(crate) struct Session {
    /// When the answer to an opening is due.
    pub(crate) opening: Option<Instant>,
    pub(crate) standing: Standing,
    pub(crate) renewed: Instant,
    pub(crate) pushes: u64,
    /// Whether the first creation is behind it.
    pub(crate) has_numbers: bool,
    pub(crate) reconnected: bool,
    /// The client has said that it will not ask for anything below this again.
    oldest_tid: u64,
}

impl Session {
    pub(crate) fn opened(now: Instant) -> Self {
        Self { standing: Standing::Open, renewed: now, ..Self::default() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.standing != Standing::Closed
    }
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
    pub(crate) since: Instant,
    pub(crate) next_tick: Instant,
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
    pub(crate) replays: VecDeque<Asked>,
    pub(crate) moving: Option<Moving>,
    pub(crate) lines: BTreeMap<u64, (NodeId, Line)>,
    /// For clients without a line.
    pub(crate) held: BTreeMap<u64, Vec<Message>>,
    pub(crate) out: Vec<(NodeId, Packet)>,
    pub(crate) chance: SplitMix,
    /// Of a thousand lines that resume, so many are not known any more.
    pub(crate) forgetful_permille: u64,
    /// Whoever is thrown out may come back: `mds_session_blocklist_on_timeout` is off.
    pub(crate) lenient: bool,
}

impl Daemon {
    /// Reads what is on disk.
    pub(crate) fn new(cluster: &mut Cluster, rank: Rank, now: Instant, mut chance: SplitMix) -> Self {
        let nonce = cluster.start(rank);
        let owned = cluster.dirs.iter().filter(|(_, (owner, _))| *owner == rank);
        let dirs = owned.map(|(ino, (_, dir))| (*ino, dir.clone())).collect();
        let open =
            |(_, client): &(Rank, u64)| (*client, Session { has_numbers: true, ..Session::opened(now) });
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
            lenient: false,
        }
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

    pub(crate) fn say(&mut self, client: u64, op: SessionOp, seq: u64) {
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
        } else if !self.sessions.get(&client).is_some_and(Session::is_open) {
            // What clients without a session say about capabilities vanishes.
        } else if kind == ClientCaps::KIND {
            self.on_caps(client, ClientCaps::decode(message).unwrap().0);
        } else if kind == ClientCapRelease::KIND {
            for release in ClientCapRelease::decode(message).unwrap().0.caps {
                self.on_release(client, release);
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
        let Some(session) = self.sessions.get_mut(&client).filter(|session| session.is_open()) else {
            return;
        };
        match message.op {
            SessionOp::RequestRenewCaps => {
                session.renewed = now;
                if core::mem::replace(&mut session.standing, Standing::Open) == Standing::Stale {
                    self.grant_again(client);
                }
                self.say(client, SessionOp::RenewCaps, message.seq);
            }
            SessionOp::RequestClose if message.seq == session.pushes => {
                // The end of the session is in the journal behind everything that it did.
                self.commit(cluster);
                self.end(cluster, client);
                self.say(client, SessionOp::Close, 0);
            }
            SessionOp::RequestClose => {
                assert!(message.seq < session.pushes, "a client has seen more pushes than there were");
            }
            SessionOp::FlushMsgAck => {
                if let Some(moving) = &mut self.moving {
                    moving.flushed(client);
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
        if session.is_open() {
            let pushes = session.pushes;
            self.say_open(client, pushes);
        } else {
            session.opening = Some(due);
        }
    }

    pub(crate) fn say_open(&mut self, client: u64, seq: u64) {
        let mut open = ClientSession::new(SessionOp::Open, seq);
        open.features = FeatureSet::from_bits(FEATURES);
        self.send(client, &open, 0);
    }

    /// Opens a session by force, for what another rank hands over.
    pub(crate) fn open_by_force(&mut self, cluster: &mut Cluster, client: u64) {
        let now = self.now;
        let session = self.sessions.entry(client).or_default();
        if !session.is_open() {
            *session = Session::opened(now);
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
        session.reconnected = !message.more;
        session.renewed = self.now;
        for (ino, claim) in &message.caps {
            self.caps.insert((*ino, client), Cap::new(claim.cap_id, claim.issued, 0, 0));
            self.last_cap = self.last_cap.max(claim.cap_id.0);
        }
        if message.more {
            return;
        }
        self.say_open(client, 0);
    }

    fn on_request(&mut self, cluster: &mut Cluster, client: u64, tid: u64, request: ClientRequest) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        assert!(session.opening.is_none(), "a request before the session is open vanishes");
        if !session.is_open() {
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
        let is_frozen = self.is_frozen(release.ino);
        if let Some(cap) = self.caps.get_mut(&(release.ino, client))
            && cap.id == release.cap_id
            && cap.mseq == release.mseq
            && self.sessions[&client].standing == Standing::Open
            && !is_frozen
        {
            cap.confirm(release.seq, release.caps, release.wanted);
        }
        let key = (release.ino, release.dname.clone(), client);
        if self.leases.get(&key).is_some_and(|lease| lease.seq == release.dname_seq) {
            self.leases.remove(&key);
        }
    }

    pub(crate) fn on_caps(&mut self, client: u64, message: ClientCaps) {
        assert!(message.op == CapOp::Update, "a client that never writes back sends {}", message.op);
        let said = Deferred::Update(Box::new(message));
        let Some(Deferred::Update(message)) = self.defer(client, said) else { return };
        if self.sessions.get(&client).is_none_or(|session| session.standing == Standing::Stale) {
            return;
        }
        if let Some(cap) = self.caps.get_mut(&(message.ino, client))
            && cap.id == message.cap_id
            && cap.mseq == message.mseq
        {
            cap.confirm(message.seq, message.caps, message.wanted);
        }
    }

    pub(crate) fn on_release(&mut self, client: u64, release: CapRelease) {
        let said = Deferred::Release(release);
        let Some(Deferred::Release(release)) = self.defer(client, said) else { return };
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
}
