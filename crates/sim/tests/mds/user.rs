//! A user with a client: makes changes, keeps book of what it was told, and compares it with what is.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use cuttlebone_machine::{Entropy, Instant, Machine, SplitMix};
use cuttlebone_mds::{
    AttrChanges, Call, Caller, CapBits, Client, Config, Durability, Entry, Errno, Error, Event as Told, Frag,
    Ino, Input, KnownName, Limits, LinkId, LinkNews, Name, NotTaken, Output, SessionNews, SyncId, Tid,
    Timing,
};
use cuttlebone_sim::{Context, Event, NodeId};
use cuttlebone_wire::{Features, Message};

use crate::book::{Book, Doing};
use crate::cluster::{Shared, directory};
use crate::line::{Line, Packet};

/// Wakes a user for its next calls.
const NEXT: u64 = 0;
/// Calls under way at a time.
const CALLS_MAX: usize = 6;

/// A line of the client's to one run of a server.
struct End {
    link: LinkId,
    node: NodeId,
    nonce: u32,
    line: Line,
    welcome: bool,
}

impl End {
    fn hello(&self, client: u64) -> Packet {
        Packet::Hello { client, line: self.line.id, nonce: self.nonce }
    }

    fn resume(&self, client: u64) -> Packet {
        Packet::Resume { client, line: self.line.id, nonce: self.nonce, received: self.line.received() }
    }
}

pub(crate) struct User {
    /// Which instance of a client it is now; the first part is the user.
    instance: u64,
    client: Client,
    ends: Vec<End>,
    last_line: u64,
    cluster: Shared,
    monitor: NodeId,
    servers: Vec<NodeId>,
    chance: SplitMix,
    dirs: u64,
    /// Changes that are still to be made.
    pub(crate) goal: u32,
    pub(crate) book: Book,
    doing: BTreeMap<Tid, Doing>,
    syncs: BTreeMap<SyncId, Vec<(Ino, Bytes, u64)>>,
    stage: Stage,
    /// What happened to sessions, for the scenarios to ask for.
    pub(crate) news: Vec<SessionNews>,
    pub(crate) uncommitted: u32,
    /// Calls that may have been done or not.
    pub(crate) unknown: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Busy,
    Syncing,
    Closing,
    Closed { clean: bool },
}

fn client(seed: u64) -> Client {
    // Small, so that everything is given back and asked for again all the time.
    let limits = Limits {
        caps_max: 12,
        inodes_max: 24,
        dentries_max: 24,
        in_flight_max: 8,
        reconnect_bytes_max: 300,
        ..Limits::default()
    };
    // Longer than any fault of these worlds lasts, or closing would be given up in the middle of one.
    let timing = Timing { close_max: Duration::from_secs(600), ..Timing::default() };
    Client::new(Config { limits, timing, ..Config::default() }, Box::new(SplitMix::new(seed)))
}

impl User {
    pub(crate) fn new(cluster: &Shared, number: u64, seed: u64, servers: Vec<NodeId>, goal: u32) -> Self {
        let dirs = u64::try_from(cluster.borrow().dirs.len()).unwrap();
        Self {
            instance: number << 32,
            client: client(seed),
            ends: Vec::new(),
            last_line: number << 32,
            cluster: Rc::clone(cluster),
            monitor: NodeId(0),
            servers,
            chance: SplitMix::new(seed),
            dirs,
            goal,
            book: Book::new(number),
            doing: BTreeMap::new(),
            syncs: BTreeMap::new(),
            stage: Stage::Busy,
            news: Vec::new(),
            uncommitted: 0,
            unknown: 0,
        }
    }

    pub(crate) fn done(&self) -> bool {
        matches!(self.stage, Stage::Closed { .. })
    }

    pub(crate) fn closed_cleanly(&self) -> bool {
        self.stage == Stage::Closed { clean: true }
    }

    pub(crate) fn instance(&self) -> u64 {
        self.instance
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.client.poll_timeout()
    }

    pub(crate) fn start(cx: &mut Context<'_, Packet>) {
        cx.wake_after(Duration::from_millis(1), NEXT);
    }

    /// Forgets everything; what was under way may have been done or not.
    pub(crate) fn crash(&mut self) {
        for doing in core::mem::take(&mut self.doing).into_values() {
            self.book.doubt(&doing);
        }
        self.book.next_instance();
        self.syncs.clear();
        self.ends.clear();
        self.instance += 1;
        self.client = client(self.chance.next_u64());
        if !self.done() {
            self.stage = Stage::Busy;
        }
    }

    pub(crate) fn handle(&mut self, cx: &mut Context<'_, Packet>, event: Event<Packet>) {
        match event {
            Event::Message { from, message } => self.on_packet(cx, from, message),
            Event::Reconnected(node) => self.on_connection(cx, node),
            Event::Timeout => self.client.handle_timeout(cx.now()),
            Event::Wake(_) => self.next_calls(cx),
            Event::Disconnected(_) | Event::Resumed(_) => {}
        }
        self.drain(cx);
        self.compare(cx.now());
        self.drain(cx);
    }

    // --- lines ---

    fn on_connection(&mut self, cx: &mut Context<'_, Packet>, node: NodeId) {
        for end in self.ends.iter().filter(|end| end.node == node) {
            cx.send(node, if end.welcome { end.resume(self.instance) } else { end.hello(self.instance) });
        }
    }

    fn on_packet(&mut self, cx: &mut Context<'_, Packet>, from: NodeId, packet: Packet) {
        let id = match &packet {
            Packet::Map(map) => return self.client.handle(cx.now(), Input::Map(map.clone())),
            Packet::Welcome { line }
            | Packet::Unknown { line }
            | Packet::Resumed { line, .. }
            | Packet::Data { line, .. } => *line,
            Packet::Hello { .. } | Packet::Resume { .. } => panic!("{packet:?} to a user"),
        };
        let Some(end) = self.ends.iter_mut().find(|end| end.line.id == id) else { return };
        let link = end.link;
        let news = match packet {
            Packet::Welcome { .. } if !end.welcome => {
                end.welcome = true;
                LinkNews::Ready(Features::PACIFIC)
            }
            Packet::Unknown { .. } if end.welcome => {
                end.welcome = false;
                self.last_line += 1;
                end.line = Line::new(self.last_line);
                cx.send(from, end.hello(self.instance));
                LinkNews::Reset
            }
            Packet::Resumed { received, .. } => {
                for packet in end.line.again(received) {
                    cx.send(from, packet);
                }
                return;
            }
            Packet::Data { seq, received, message, .. } if end.welcome && end.line.accept(seq, received) => {
                LinkNews::Message(message)
            }
            _ => return,
        };
        self.client.handle(cx.now(), Input::Link(link, news));
    }

    fn drain(&mut self, cx: &mut Context<'_, Packet>) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Dial { link, rank, addrs } => {
                    self.last_line += 1;
                    let node = self.servers[usize::try_from(rank.0).unwrap()];
                    let (nonce, line) = (addrs.0[0].nonce, self.last_line);
                    self.ends.push(End { link, node, nonce, line: Line::new(line), welcome: false });
                    cx.send(node, Packet::Hello { client: self.instance, line, nonce });
                }
                Output::Drop(link) => self.ends.retain(|end| end.link != link),
                Output::Send(link, message) => self.send(cx, link, message),
                Output::Event(told) => self.on_told(cx, told),
            }
        }
    }

    fn send(&mut self, cx: &mut Context<'_, Packet>, link: LinkId, message: Message) {
        let end = self.ends.iter_mut().find(|end| end.link == link).expect("sent on a link that was dialled");
        assert!(end.welcome, "sent on a link that is not ready");
        let packet = end.line.send(message);
        cx.send(end.node, packet);
    }

    // --- calls ---

    fn next_calls(&mut self, cx: &mut Context<'_, Packet>) {
        if self.stage == Stage::Busy && self.goal == 0 && self.doing.is_empty() {
            self.stage = Stage::Syncing;
            let id = self.client.sync().expect("one sync is not too many");
            self.syncs.insert(id, self.book.settled(None));
        }
        while self.stage == Stage::Busy && self.goal > 0 && self.doing.len() < CALLS_MAX {
            self.goal -= 1;
            self.one_call(cx.now());
            if self.chance.below(3) == 0 {
                break;
            }
        }
        if !self.done() {
            let pause = Duration::from_micros(self.chance.below(400_000));
            cx.wake_after(pause, NEXT);
        }
    }

    fn one_call(&mut self, now: Instant) {
        let dir = directory(self.chance.below(self.dirs));
        let Some((call, doing)) = self.choose(dir) else { return };
        self.book.begin(&doing);
        match self.client.request(now, call, Caller::default()) {
            Ok(tid) => {
                self.doing.insert(tid, doing);
            }
            Err(NotTaken::Busy) => self.book.take_back(&doing),
            Err(error) => panic!("{error}"),
        }
    }

    fn choose(&mut self, dir: Ino) -> Option<(Call, Doing)> {
        let mine = self.book.free_name(dir, &mut self.chance);
        let name = if self.chance.below(3) == 0 { shared_name(self.chance.below(3)) } else { mine?.0 };
        let entry = |name: &Bytes| Entry::new(dir, Name::new(name.clone()).unwrap());
        let mode = 0o600 + u32::try_from(self.chance.below(64)).unwrap();
        Some(match self.chance.below(12) {
            0..=3 => {
                let call = Call::MakeFile { entry: entry(&name), mode };
                (call, Doing::Make { dir, name })
            }
            4 => (Call::Unlink { entry: entry(&name) }, Doing::Remove { dir, name }),
            5 => {
                let (other, _) =
                    self.book.free_name(dir, &mut self.chance).filter(|(other, _)| *other != name)?;
                let (from, to) = (entry(&name), entry(&other));
                (Call::Rename { from, to }, Doing::Rename { dir, from: name, to: other })
            }
            6 => {
                let ino = self.book.known_ino(dir, &name)?;
                let changes = AttrChanges { mode: Some(mode & 0o777), ..AttrChanges::default() };
                (Call::SetAttr { ino, changes }, Doing::Mode { dir, name, ino })
            }
            7 => (Call::Lookup { entry: entry(&name), want: CapBits::STAT }, Doing::Look),
            8 => {
                let index = dir.0 - directory(0).0;
                let entry = Entry::new(Ino::ROOT, Name::new(crate::cluster::directory_name(index)).unwrap());
                (Call::Lookup { entry, want: CapBits::STAT }, Doing::Look)
            }
            9 => (Call::GetAttr { target: dir.into(), want: CapBits::STAT }, Doing::Look),
            10 => {
                let after = (self.chance.below(2) == 0).then(|| Name::new(name).unwrap());
                let (frag, dir) = (Frag::WHOLE, dir.into());
                (Call::ReadDir { dir, frag, after, entries_max: 4, bytes_max: 0 }, Doing::Look)
            }
            _ => {
                let id = self.client.fsync(dir).expect("few syncs");
                self.syncs.insert(id, self.book.settled(Some(dir)));
                return None;
            }
        })
    }

    // --- what the client tells ---

    fn on_told(&mut self, cx: &mut Context<'_, Packet>, told: Told) {
        match told {
            Told::Answer { tid, result, durability } => {
                let doing = self.doing.remove(&tid).expect("an answer to a call, and only one");
                let made = match &result {
                    Ok(answer) => Ok(answer.target.as_ref().map(|target| target.ino)),
                    Err(error) => Err(error.clone()),
                };
                self.check_error(&doing, result.as_ref().err());
                self.unknown += u32::from(matches!(made, Err(Error::Uncommitted { .. })));
                let (durable, done) = (durability == Durability::Committed, made.is_ok());
                self.book.end(tid, &doing, &made, durable);
                if durable && done {
                    self.check_durable(&self.book.touched(&doing));
                }
            }
            Told::Committed(tid) => {
                let touched = self.book.commit(tid).expect("something was applied");
                self.check_durable(&touched);
            }
            Told::Uncommitted(tid, _) => {
                self.uncommitted += 1;
                self.book.uncommit(tid);
            }
            Told::Synced(id, result) => {
                let settled = self.syncs.remove(&id).expect("a sync, and only once");
                if result.is_ok() {
                    self.check_durable(&settled);
                }
                if self.stage == Stage::Syncing && self.syncs.is_empty() {
                    self.stage = Stage::Closing;
                    self.client.close(cx.now());
                }
            }
            Told::Session(_, SessionNews::Blocklisted) => {
                self.news.push(SessionNews::Blocklisted);
                assert!(self.client.is_blocklisted());
                self.begin_anew(cx);
            }
            Told::Session(_, SessionNews::Rejected(reason)) => panic!("rejected: {reason}"),
            Told::Session(_, news) => self.news.push(news),
            Told::Changed { .. } => {}
            Told::Nonsense(rank, nonsense) => panic!("an honest {rank} is accused: {nonsense}"),
            Told::Closed { clean } => {
                assert_eq!((self.client.unfinished(), self.doing.len()), (0, 0));
                self.stage = Stage::Closed { clean };
            }
            other => panic!("{other:?}"),
        }
    }

    /// An instance that is shut out is of no use any more.
    fn begin_anew(&mut self, cx: &mut Context<'_, Packet>) {
        self.crash();
        // A new one asks the monitor for the map.
        cx.close(self.monitor);
    }

    fn check_error(&self, doing: &Doing, error: Option<&Error>) {
        match error {
            None | Some(Error::Uncommitted { .. } | Error::Blocklisted | Error::Closed) => {}
            Some(Error::Refused(errno)) => {
                let usual = [Errno::EEXIST, Errno::ENOENT, Errno::ESTALE].contains(errno);
                assert!(usual && self.book.may_be_refused(doing, *errno), "{doing:?}: {errno:?}, {self:?}");
            }
            Some(error) => panic!("{doing:?}: {error}"),
        }
    }

    /// What is said to be on disk is there.
    fn check_durable(&self, settled: &[(Ino, Bytes, u64)]) {
        let cluster = self.cluster.borrow();
        for (dir, name, version) in settled {
            if let Some(fate) = self.book.fate(*dir, name, *version) {
                let there = cluster.dirs[dir].1.names.get(name).copied();
                assert!(fate.agrees(there), "{dir}/{name:?} is to be {fate:?}, and is {there:?}: {self:?}");
            }
        }
    }

    /// What the client believes without asking is so, and it uses nothing that a server has not given it.
    fn compare(&mut self, now: Instant) {
        let cluster = Rc::clone(&self.cluster);
        let cluster = cluster.borrow();
        if cluster.blocklist.contains(&self.instance) {
            return;
        }
        for _ in 0..3 {
            let dir = directory(self.chance.below(self.dirs));
            let Some(truth) = cluster.now(dir) else { continue };
            let name = self.book.any_name(dir, &mut self.chance);
            let busy = self.doing.values().any(|doing| doing.concerns(dir, &name));
            if !busy {
                let known = self.client.known_name(now, &Entry::new(dir, Name::new(name.clone()).unwrap()));
                let there = truth.names.get(&name).copied();
                match known {
                    KnownName::Taken(ino) => assert_eq!(there, Some(ino), "{dir}/{name:?}"),
                    KnownName::Free => assert_eq!(there, None, "{dir}/{name:?}"),
                    KnownName::Unknown => {}
                }
            }
            let at = usize::try_from(self.chance.below(4)).unwrap();
            let some = truth.modes.iter().nth(at).map(|(ino, mode)| (*ino, *mode));
            for (ino, mode) in some.into_iter().chain([(dir, 0o040_755)]) {
                let used = self.client.caps(now, ino).without(CapBits::PIN);
                let given = cluster.issued(self.instance, ino);
                assert!(given.contains(used), "{ino}: {used} is used of {given}: {self:?}");
                let changing = self.doing.values().any(|doing| doing.changes(ino));
                if !changing && let Some(stat) = self.client.known_attributes(now, ino, CapBits::AUTH_SHARED)
                {
                    assert_eq!(stat.mode, mode, "the mode of {ino}");
                }
            }
        }
    }
}

/// A name that all users fight for.
pub(crate) fn shared_name(index: u64) -> Bytes {
    format!("shared{index}").into_bytes().into()
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {:#x} {:?}, {} to do, {:?}", self.instance, self.stage, self.goal, self.doing)?;
        write!(f, ", {:?}, {:?}", self.client, self.news)
    }
}
