use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use cuttlebone_link::{
    AcceptConfig, Acceptor, Command, DialConfig, Error, Event, Incoming, Link, Policy, SessionKey, Start,
    Verdict,
};
use cuttlebone_machine::{Entropy, Instant, SplitMix, StreamMachine, StreamOutput};
use cuttlebone_wire::{EntityAddr, Message, MessageType};

/// Messages that each side sends.
pub(crate) const MESSAGES: usize = 12;
/// No run takes more steps unless it never ends.
const STEPS_MAX: usize = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// Breaks the first connection after so many bytes have arrived in one direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) direction: Direction,
    pub(crate) at: usize,
}

/// One TCP connection: what is under way in each direction, and what each end knows of the other.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each end has its own view of one connection")]
struct Conn {
    up: BytesMut,
    down: BytesMut,
    arrived: (usize, usize),
    cut: Option<Cut>,
    broken: bool,
    silent: bool,
    client_gone: bool,
    server_gone: bool,
}

/// The server's end of a connection.
enum ServerEnd {
    Incoming(Box<Incoming>, BytesMut),
    Session(SessionKey),
}

/// A session at the server.
struct Peer {
    link: Link,
    conn: Option<usize>,
    inbound: BytesMut,
    got: Vec<u64>,
    sent: usize,
}

pub(crate) struct World {
    seed: u64,
    dice: SplitMix,
    now: Instant,
    policy: Policy,
    nonce: u32,
    same_nonce: bool,
    client: Link,
    client_conn: Option<usize>,
    client_inbound: BytesMut,
    client_sent: usize,
    dialling: bool,
    reachable: bool,
    acceptor: Acceptor,
    peers: BTreeMap<SessionKey, Peer>,
    conns: Vec<Conn>,
    ends: BTreeMap<usize, ServerEnd>,
    first_cut: Option<Cut>,
    silent_after: Option<usize>,
    random_cuts: (usize, usize),
    server_crashes_left: usize,
    client_crashes_left: usize,
    client_got: Vec<u64>,
    server_got: Vec<u64>,
    /// Where a new session began in what each side got.
    fresh_at: (Vec<usize>, Vec<usize>),
    pub(crate) server_crashes: usize,
    pub(crate) dials: usize,
    pub(crate) client_ready: Vec<Start>,
    pub(crate) client_resets: usize,
    pub(crate) client_lost: Vec<Error>,
    pub(crate) client_closed: Vec<Result<(), Error>>,
    pub(crate) server_closed: Vec<Result<(), Error>>,
    pub(crate) client_events: Vec<Event>,
    pub(crate) trace: Vec<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Connect,
    Up(usize),
    Down(usize),
    TellClient,
    TellServer(usize),
    ClientSends,
    ServerSends(SessionKey),
    CrashServer,
    CrashClient,
}

fn server_addr() -> EntityAddr {
    "v2:10.0.0.1:3300/0".parse().expect("an address")
}

fn message(tid: usize) -> Message {
    let tid = u64::try_from(tid).expect("a small number");
    Message { kind: MessageType(69), tid, front: Bytes::from(vec![7; 40]), ..Message::default() }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} at {:?}", self.seed, self.now)?;
        writeln!(
            f,
            "client: {} conn {:?} sent {}",
            self.client.state_name(),
            self.client_conn,
            self.client_sent
        )?;
        for (key, peer) in &self.peers {
            writeln!(f, "{key:?}: {} conn {:?} sent {}", peer.link.state_name(), peer.conn, peer.sent)?;
        }
        writeln!(f, "client got {:?}\nserver got {:?}", self.client_got, self.server_got)?;
        writeln!(f, "lost {:?} closed {:?}", self.client_lost, self.client_closed)
    }
}

impl World {
    pub(crate) fn new(seed: u64, policy: Policy) -> Self {
        let mut dice = SplitMix::new(seed);
        let now = Instant::from_nanos(1);
        let client = dial(policy, 1, &mut dice, now);
        let acceptor = accept(&mut dice);
        let mut world = Self {
            seed,
            dice,
            now,
            policy,
            nonce: 1,
            same_nonce: false,
            client,
            client_conn: None,
            client_inbound: BytesMut::new(),
            client_sent: 0,
            dialling: false,
            reachable: true,
            acceptor,
            peers: BTreeMap::new(),
            conns: Vec::new(),
            ends: BTreeMap::new(),
            first_cut: None,
            silent_after: None,
            random_cuts: (0, 1),
            server_crashes_left: 0,
            client_crashes_left: 0,
            client_got: Vec::new(),
            server_got: Vec::new(),
            fresh_at: (Vec::new(), Vec::new()),
            server_crashes: 0,
            dials: 0,
            client_ready: Vec::new(),
            client_resets: 0,
            client_lost: Vec::new(),
            client_closed: Vec::new(),
            server_closed: Vec::new(),
            client_events: Vec::new(),
            trace: Vec::new(),
        };
        world.drain_client();
        world
    }

    pub(crate) fn cut(mut self, cut: Cut) -> Self {
        self.first_cut = Some(cut);
        self
    }

    /// The first `cuts` connections break somewhere in their first `bytes` bytes.
    pub(crate) fn cut_randomly(mut self, cuts: usize, bytes: usize) -> Self {
        self.random_cuts = (cuts, bytes);
        self
    }

    pub(crate) fn fall_silent_after(mut self, bytes: usize) -> Self {
        self.silent_after = Some(bytes);
        self
    }

    pub(crate) fn crash_server(mut self, times: usize) -> Self {
        self.server_crashes_left = times;
        self
    }

    pub(crate) fn crash_client(mut self, times: usize) -> Self {
        self.client_crashes_left = times;
        self
    }

    /// A client that crashes comes back under its old address and nonce.
    pub(crate) fn keep_nonce(mut self) -> Self {
        self.same_nonce = true;
        self
    }

    pub(crate) fn unreachable(mut self) -> Self {
        self.reachable = false;
        self
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now.since(Instant::ZERO)
    }

    pub(crate) fn acceptor_sessions(&self) -> usize {
        self.acceptor.sessions()
    }

    pub(crate) fn bytes_of_first_connection(&self) -> (usize, usize) {
        self.conns[0].arrived
    }

    fn roll(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a small number");
        usize::try_from(self.dice.below(bound)).expect("below a usize")
    }

    pub(crate) fn run(mut self) -> Self {
        for _ in 0..STEPS_MAX {
            if self.is_done() {
                return self;
            }
            self.step();
        }
        panic!("never ends\n{self}");
    }

    pub(crate) fn run_and_close(mut self) -> Self {
        self = self.run();
        self.client.handle_close(self.now);
        self.drain_client();
        self
    }

    fn is_done(&self) -> bool {
        let quiet = self.client_crashes_left == 0 && self.server_crashes_left == 0;
        let lossless_done = self.client_sent == MESSAGES
            && self.server_got.last().is_some_and(|last| *last + 1 == MESSAGES as u64)
            && self.client_got.last().is_some_and(|last| *last + 1 == MESSAGES as u64)
            && self.peers.len() == 1;
        !self.client_closed.is_empty()
            || (quiet && lossless_done)
            || (quiet && self.fresh_at.0.len() > 1 && self.is_idle() && self.poll_timeout_is_far())
    }

    /// Everything was sent, and what did not arrive was lost with a session.
    fn is_idle(&self) -> bool {
        let open = self.client_conn.is_some() && self.client.state_name() == "the session is open";
        self.actions().is_empty() && open && self.client_sent == MESSAGES && self.peers.len() == 1
    }

    /// Nothing but keepalives is ahead.
    fn poll_timeout_is_far(&self) -> bool {
        self.client.poll_timeout().is_some_and(|at| at.since(self.now) > Duration::from_secs(1))
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.dialling {
            actions.push(Action::Connect);
        }
        for (id, conn) in self.conns.iter().enumerate() {
            if !conn.broken && !conn.silent && !conn.up.is_empty() && !conn.server_gone {
                actions.push(Action::Up(id));
            }
            if !conn.broken && !conn.silent && !conn.down.is_empty() && !conn.client_gone {
                actions.push(Action::Down(id));
            }
            let client_ends = conn.broken || (conn.server_gone && conn.down.is_empty() && !conn.silent);
            if client_ends && !conn.client_gone && self.client_conn == Some(id) {
                actions.push(Action::TellClient);
            }
            let server_ends = conn.broken || (conn.client_gone && conn.up.is_empty() && !conn.silent);
            if server_ends && !conn.server_gone {
                actions.push(Action::TellServer(id));
            }
        }
        if self.client_sent < MESSAGES && self.client.accepts_commands() {
            actions.push(Action::ClientSends);
        }
        for (key, peer) in &self.peers {
            if peer.sent < MESSAGES && peer.link.accepts_commands() {
                actions.push(Action::ServerSends(*key));
            }
        }
        if self.server_crashes_left > 0 && self.client_sent > MESSAGES / 4 {
            actions.push(Action::CrashServer);
        }
        if self.client_crashes_left > 0 && self.client_sent > MESSAGES / 4 {
            actions.push(Action::CrashClient);
        }
        actions
    }

    fn step(&mut self) {
        let mut actions = self.actions();
        if actions.is_empty() {
            return self.sleep();
        }
        // A crash is rarer than a byte.
        if actions.len() > 1 && self.roll(20) > 0 {
            actions.retain(|action| !matches!(action, Action::CrashServer | Action::CrashClient));
        }
        if actions.is_empty() {
            return;
        }
        let action = actions[self.roll(actions.len())];
        self.trace.push(action);
        self.now = self.now + Duration::from_micros(self.dice.below(2000));
        match action {
            Action::Connect => self.connect(),
            Action::Up(id) => self.deliver_up(id),
            Action::Down(id) => self.deliver_down(id),
            Action::TellClient => {
                self.hang_up_client();
                self.client.handle_disconnected(self.now);
                self.drain_client();
            }
            Action::TellServer(id) => self.tell_server(id),
            Action::ClientSends => {
                self.client.handle_command(self.now, Command::Send(message(self.client_sent)));
                self.client_sent += 1;
                self.drain_client();
            }
            Action::ServerSends(key) => {
                let now = self.now;
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.link.handle_command(now, Command::Send(message(peer.sent)));
                    peer.sent += 1;
                }
                self.drain_peer(key);
            }
            Action::CrashServer => self.crash_server_now(),
            Action::CrashClient => self.crash_client_now(),
        }
    }

    /// Nothing can happen but the passing of time.
    fn sleep(&mut self) {
        let peers = self.peers.values().filter_map(|peer| peer.link.poll_timeout());
        let incoming = self.ends.values().filter_map(|end| match end {
            ServerEnd::Incoming(incoming, _) => Some(incoming.deadline()),
            ServerEnd::Session(_) => None,
        });
        let next = self.client.poll_timeout().into_iter().chain(peers).chain(incoming).min();
        let Some(next) = next else { panic!("stuck\n{self}") };
        self.now = self.now.max(next);
        if self.client.poll_timeout().is_some_and(|at| at <= self.now) {
            self.client.handle_timeout(self.now);
            self.drain_client();
        }
        let keys: Vec<_> = self.peers.keys().copied().collect();
        for key in keys {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.link.handle_timeout(self.now);
            }
            self.drain_peer(key);
        }
        let now = self.now;
        let late: Vec<_> = self
            .ends
            .iter()
            .filter(|(_, end)| matches!(end, ServerEnd::Incoming(incoming, _) if incoming.deadline() <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.hang_up_server(id);
        }
    }

    // --- connections ---

    fn connect(&mut self) {
        self.dialling = false;
        self.dials += 1;
        if !self.reachable {
            self.client.handle_disconnected(self.now);
            return self.drain_client();
        }
        let id = self.conns.len();
        let (cuts, bytes) = self.random_cuts;
        let cut = if id < cuts {
            let direction = if self.roll(2) == 0 { Direction::Up } else { Direction::Down };
            Some(Cut { direction, at: self.roll(bytes) })
        } else {
            self.first_cut.take()
        };
        self.conns.push(Conn { cut, ..Conn::default() });
        self.client_conn = Some(id);
        self.client_inbound.clear();
        let peer = SocketAddr::from(([10, 0, 0, 2], 40_000));
        let incoming = Box::new(self.acceptor.incoming(self.now, peer));
        self.ends.insert(id, ServerEnd::Incoming(incoming, BytesMut::new()));
        self.drain_incoming(id);
        self.client.handle_connected(self.now);
        self.drain_client();
    }

    /// Takes a piece of what is under way; `None` if the connection broke instead.
    fn piece(&mut self, id: usize, direction: Direction) -> Option<BytesMut> {
        let len = match direction {
            Direction::Up => self.conns[id].up.len(),
            Direction::Down => self.conns[id].down.len(),
        };
        let len = 1 + self.roll(len);
        let silent_after = self.silent_after;
        let conn = &mut self.conns[id];
        let (pipe, arrived) = match direction {
            Direction::Up => (&mut conn.up, &mut conn.arrived.0),
            Direction::Down => (&mut conn.down, &mut conn.arrived.1),
        };
        let mut len = len.min(pipe.len());
        if let Some(cut) = conn.cut
            && cut.direction == direction
            && *arrived + len > cut.at
        {
            len = cut.at - *arrived;
            conn.broken = true;
        }
        *arrived += len;
        let piece = pipe.split_to(len);
        if id == 0 && silent_after.is_some_and(|bytes| *arrived > bytes) {
            conn.silent = true;
        }
        (!piece.is_empty()).then_some(piece)
    }

    fn deliver_up(&mut self, id: usize) {
        let Some(piece) = self.piece(id, Direction::Up) else { return };
        match self.ends.get_mut(&id) {
            Some(ServerEnd::Incoming(_, unread)) => {
                unread.extend_from_slice(&piece);
                self.advance_incoming(id);
            }
            Some(ServerEnd::Session(key)) => {
                let key = *key;
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.inbound.extend_from_slice(&piece);
                    peer.link.handle_bytes(self.now, &mut peer.inbound);
                }
                self.drain_peer(key);
            }
            None => {}
        }
    }

    fn deliver_down(&mut self, id: usize) {
        let Some(piece) = self.piece(id, Direction::Down) else { return };
        if self.client_conn == Some(id) {
            self.client_inbound.extend_from_slice(&piece);
            self.client.handle_bytes(self.now, &mut self.client_inbound);
            self.drain_client();
        }
    }

    fn hang_up_client(&mut self) {
        if let Some(id) = self.client_conn.take() {
            self.conns[id].client_gone = true;
        }
        self.client_inbound.clear();
        self.dialling = false;
    }

    fn hang_up_server(&mut self, id: usize) {
        self.conns[id].server_gone = true;
        if let Some(ServerEnd::Session(key)) = self.ends.remove(&id)
            && let Some(peer) = self.peers.get_mut(&key)
            && peer.conn == Some(id)
        {
            peer.conn = None;
            peer.inbound.clear();
        }
    }

    fn tell_server(&mut self, id: usize) {
        let key = match self.ends.get(&id) {
            Some(ServerEnd::Session(key)) => Some(*key),
            _ => None,
        };
        self.hang_up_server(id);
        if let Some(key) = key {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.link.handle_disconnected(self.now);
            }
            self.drain_peer(key);
        }
    }

    // --- the server ---

    fn drain_incoming(&mut self, id: usize) {
        if let Some(ServerEnd::Incoming(incoming, _)) = self.ends.get_mut(&id) {
            while let Some(bytes) = incoming.poll_transmit() {
                self.conns[id].down.extend_from_slice(&bytes);
            }
        }
    }

    fn advance_incoming(&mut self, id: usize) {
        loop {
            let Some(ServerEnd::Incoming(incoming, unread)) = self.ends.get_mut(&id) else { return };
            let arrival = incoming.handle_bytes(unread);
            self.drain_incoming(id);
            let arrival = match arrival {
                Ok(Some(arrival)) => arrival,
                Ok(None) => return,
                Err(_) => return self.hang_up_server(id),
            };
            let Some(ServerEnd::Incoming(incoming, unread)) = self.ends.remove(&id) else { return };
            match self.acceptor.decide(self.now, incoming, arrival) {
                Ok(Verdict::Stay(incoming)) => {
                    self.ends.insert(id, ServerEnd::Incoming(incoming, unread));
                    self.drain_incoming(id);
                }
                Ok(Verdict::Close(incoming)) => {
                    self.ends.insert(id, ServerEnd::Incoming(incoming, unread));
                    self.drain_incoming(id);
                    return self.hang_up_server(id);
                }
                Ok(Verdict::Start { key, link, replaces }) => {
                    if let Some(old) = replaces {
                        if let Some(peer) = self.peers.get_mut(&old) {
                            peer.link.handle_command(self.now, Command::Supersede);
                        }
                        self.drain_peer(old);
                    }
                    let peer =
                        Peer { link: *link, conn: None, inbound: BytesMut::new(), got: vec![], sent: 0 };
                    self.peers.insert(key, peer);
                    return self.attach(key, id, unread);
                }
                Ok(Verdict::Hand { key, command }) => {
                    let Some(peer) = self.peers.get_mut(&key) else {
                        panic!("the registry knows a session that is gone\n{self}")
                    };
                    peer.link.handle_command(self.now, command);
                    if let Some(old) = peer.conn {
                        self.hang_up_server(old);
                    }
                    self.attach(key, id, unread);
                    return self.acceptor.settled(key);
                }
                Err(_) => return self.hang_up_server(id),
            }
        }
    }

    fn attach(&mut self, key: SessionKey, id: usize, unread: BytesMut) {
        self.ends.insert(id, ServerEnd::Session(key));
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.conn = Some(id);
            peer.inbound = unread;
        }
        self.drain_peer(key);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.link.handle_bytes(self.now, &mut peer.inbound);
        }
        self.drain_peer(key);
    }

    fn drain_peer(&mut self, key: SessionKey) {
        while let Some(peer) = self.peers.get_mut(&key) {
            let Some(output) = peer.link.poll_output() else { return };
            match output {
                StreamOutput::Transmit(bytes) => {
                    if let Some(id) = peer.conn {
                        self.conns[id].down.extend_from_slice(&bytes);
                    }
                }
                StreamOutput::Event(Event::Message(message)) => {
                    peer.got.push(message.tid);
                    self.server_got.push(message.tid);
                }
                StreamOutput::Event(Event::Ready(ready)) => {
                    if ready.start == Start::Fresh {
                        self.fresh_at.1.push(self.server_got.len());
                    }
                }
                StreamOutput::Event(Event::Closed(how)) => self.server_closed.push(how),
                StreamOutput::Event(_) | StreamOutput::Dial => {}
                StreamOutput::Disconnect => {
                    if let Some(id) = peer.conn {
                        self.hang_up_server(id);
                    }
                }
                StreamOutput::Finished => {
                    if let Some(id) = peer.conn {
                        self.hang_up_server(id);
                    }
                    self.peers.remove(&key);
                    self.acceptor.ended(key);
                }
            }
        }
    }

    fn crash_server_now(&mut self) {
        self.server_crashes_left -= 1;
        self.server_crashes += 1;
        let ids: Vec<_> = self.ends.keys().copied().collect();
        for id in ids {
            self.conns[id].broken = true;
            self.conns[id].server_gone = true;
        }
        self.ends.clear();
        self.peers.clear();
        self.acceptor = accept(&mut self.dice);
    }

    // --- the client ---

    fn drain_client(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                StreamOutput::Dial => self.dialling = true,
                StreamOutput::Transmit(bytes) => {
                    if let Some(id) = self.client_conn {
                        self.conns[id].up.extend_from_slice(&bytes);
                    }
                }
                StreamOutput::Event(event) => {
                    match &event {
                        Event::Ready(ready) => {
                            if ready.start == Start::Fresh {
                                self.fresh_at.0.push(self.client_got.len());
                            }
                            self.client_ready.push(ready.start);
                        }
                        Event::Message(message) => self.client_got.push(message.tid),
                        Event::Lost(error) => self.client_lost.push(error.clone()),
                        Event::Reset => self.client_resets += 1,
                        Event::Closed(how) => self.client_closed.push(how.clone()),
                    }
                    self.client_events.push(event);
                }
                StreamOutput::Disconnect | StreamOutput::Finished => self.hang_up_client(),
            }
        }
    }

    fn crash_client_now(&mut self) {
        self.client_crashes_left -= 1;
        self.hang_up_client();
        // A new process has a new nonce as a rule, so its old session waits until it is forgotten.
        self.nonce += u32::from(!self.same_nonce);
        self.client = dial(self.policy, self.nonce, &mut self.dice, self.now);
        self.client_sent = 0;
        self.drain_client();
    }

    // --- what has to hold ---

    pub(crate) fn assert_all_arrived_once_in_order(&self) {
        let all: Vec<u64> = (0..MESSAGES).map(|tid| tid as u64).collect();
        assert_eq!(self.server_got, all, "at the server\n{self}");
        assert_eq!(self.client_got, all, "at the client\n{self}");
    }

    pub(crate) fn assert_prefixes_in_order(&self) {
        for got in [&self.server_got, &self.client_got] {
            assert!(got.iter().enumerate().all(|(index, tid)| *tid == index as u64), "{self}");
        }
    }

    /// Within one session nothing is doubled, left out or out of order.
    pub(crate) fn assert_in_order_between_resets(&self) {
        for (got, fresh_at) in [(&self.client_got, &self.fresh_at.0), (&self.server_got, &self.fresh_at.1)] {
            let ends = fresh_at.iter().copied().skip(1).chain([got.len()]);
            for (start, end) in fresh_at.iter().copied().zip(ends) {
                let session = &got[start..end];
                assert!(session.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{session:?}\n{self}");
            }
        }
    }
}

fn dial(policy: Policy, nonce: u32, dice: &mut SplitMix, now: Instant) -> Link {
    let config = match policy {
        Policy::Lossless => DialConfig::monitor("x", server_addr(), nonce),
        Policy::Lossy => DialConfig::client("admin", server_addr(), nonce),
    };
    Link::dial(config, Box::new(dice.fork()), now)
}

fn accept(dice: &mut SplitMix) -> Acceptor {
    Acceptor::new(AcceptConfig::monitor(server_addr()), Box::new(dice.fork()))
}
