//! Servers that say anything in any order, and what has to hold all the same.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use cuttlebone_machine::{Entropy, Instant, Machine, SplitMix};
use cuttlebone_wire::{Body, FeatureSet, Features, WallTime};

use super::world::{addrs, dentry, entry, inode};
use crate::*;

/// How far the user was told a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Applied,
    Everything,
}

struct Chaos {
    random: SplitMix,
    client: Client,
    now: Instant,
    map: MdsMap,
    links: BTreeMap<LinkId, Rank>,
    ready: BTreeSet<LinkId>,
    requests: BTreeMap<Tid, Told>,
    syncs: BTreeSet<SyncId>,
    closed: bool,
    /// What was seen to happen, and how often: a world in which nothing happens proves nothing.
    seen: BTreeMap<&'static str, usize>,
}

const INOS: u64 = 40;
const RANKS: u64 = 3;

fn limits() -> Limits {
    Limits {
        requests_max: 64,
        in_flight_max: 16,
        caps_max: 8,
        inodes_max: 8,
        dentries_max: 8,
        pins_max: 4,
        syncs_max: 8,
        realms_max: 4,
        ..Limits::default()
    }
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let config = Config { limits: limits(), ..Config::default() };
        let mut random = SplitMix::new(seed);
        let client = Client::new(config, Box::new(random.fork()));
        Self {
            random,
            client,
            now: Instant::ZERO,
            map: MdsMap::default(),
            links: BTreeMap::new(),
            ready: BTreeSet::new(),
            requests: BTreeMap::new(),
            syncs: BTreeSet::new(),
            closed: false,
            seen: BTreeMap::new(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// An index below `len`.
    fn at(&mut self, len: usize) -> usize {
        usize::try_from(self.below(u64::try_from(len).unwrap())).unwrap()
    }

    fn u32(&mut self, bound: u64) -> u32 {
        u32::try_from(self.below(bound)).unwrap()
    }

    fn ino(&mut self) -> Ino {
        match self.below(INOS) {
            0 => Ino::ROOT,
            other => Ino(0x1000 + other),
        }
    }

    fn bits(&mut self) -> CapBits {
        CapBits(self.u32(1 << 16))
    }

    fn rank(&mut self) -> Rank {
        Rank(i32::try_from(self.below(RANKS + 1)).unwrap() - 1)
    }

    fn drain(&mut self) {
        while let Some(output) = self.client.poll_output() {
            assert!(!self.closed, "nothing follows the end: {output:?}");
            match output {
                Output::Dial { link, rank, .. } => {
                    assert!(!self.links.values().any(|other| *other == rank), "one link per rank");
                    assert!(self.links.insert(link, rank).is_none());
                }
                Output::Drop(link) => {
                    assert!(self.links.remove(&link).is_some(), "only what was dialled");
                    self.ready.remove(&link);
                }
                Output::Send(link, _) => assert!(self.ready.contains(&link), "only over open links"),
                Output::Event(event) => self.on_event(event),
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let what = match &event {
            Event::Answer { result: Err(_), .. } => "failed",
            Event::Answer { durability: Durability::Applied, .. } => "applied",
            Event::Answer { .. } => "answered",
            Event::Committed(_) => "committed",
            Event::Uncommitted(..) => "uncommitted",
            Event::Synced(_, Ok(())) => "synced",
            Event::Synced(..) => "not synced",
            Event::Session(_, SessionNews::Opened) => "opened",
            Event::Session(_, SessionNews::Reconnected { .. }) => "reconnected",
            Event::Session(_, SessionNews::Lost(_)) => "lost",
            Event::Session(_, SessionNews::Stale) => "stale",
            Event::Changed { .. } => "changed",
            Event::Nonsense(..) => "nonsense",
            _ => "else",
        };
        *self.seen.entry(what).or_default() += 1;
        match event {
            Event::Answer { tid, result, durability } => {
                let told = self.requests.get_mut(&tid).expect("a request of ours");
                assert_eq!(*told, Told::Nothing, "{tid:?} answered twice");
                *told = match durability {
                    Durability::Applied => Told::Applied,
                    Durability::Committed => Told::Everything,
                };
                assert!(result.is_ok() || durability == Durability::Committed);
            }
            Event::Committed(tid) | Event::Uncommitted(tid, _) => {
                let told = self.requests.insert(tid, Told::Everything);
                assert_eq!(told, Some(Told::Applied), "{tid:?} ended before its answer, or twice");
            }
            Event::Synced(id, _) => assert!(self.syncs.remove(&id), "{id:?} twice"),
            Event::Closed { .. } => self.closed = true,
            _ => {}
        }
    }

    fn step(&mut self) {
        match self.below(120) {
            0 => self.change_map(),
            1..=12 => self.ask(),
            13 => self.now = self.now + Duration::from_millis(self.random.below(20_000)),
            14..=17 => self.user(),
            18..=39 => self.link_news(),
            _ => self.message(),
        }
        if self.client.poll_timeout().is_some_and(|wake| wake <= self.now) {
            self.client.handle_timeout(self.now);
        }
        self.drain();
        let remembered = self.client.remembered();
        let limits = limits();
        assert!(remembered.names <= limits.dentries_max, "{remembered:?}");
        assert!(remembered.held <= limits.caps_max + limits.pins_max + limits.requests_max, "{remembered:?}");
        assert!(remembered.inodes <= remembered.held + limits.inodes_max, "{remembered:?}");
        assert!(self.client.unfinished() <= limits.requests_max);
    }

    fn change_map(&mut self) {
        let rank = Rank(i32::try_from(self.below(RANKS)).unwrap());
        self.map.epoch += 1;
        if let Some(gid) = self.map.up.remove(&rank) {
            self.map.info.remove(&gid);
        }
        self.map.ranks.retain(|other| *other != rank);
        if self.below(10) > 0 {
            self.map.ranks.push(rank);
            if self.below(5) > 0 {
                let run = self.u32(2);
                let gid = Gid(self.below(1 << 40));
                let state = [MdsState::REPLAY, MdsState::RECONNECT, MdsState::CLIENTREPLAY, MdsState::ACTIVE]
                    [self.at(10).min(3)];
                let mut info = MdsInfo::default();
                info.gid = gid;
                info.rank = rank;
                info.state = state;
                info.addrs = addrs(6800 + u16::try_from(rank.0).unwrap(), run);
                self.map.up.insert(rank, gid);
                self.map.info.insert(gid, info);
            }
        }
        self.client.handle(self.now, Input::Map(Box::new(self.map.clone())));
    }

    fn ask(&mut self) {
        let (ino, dir) = (self.ino(), self.ino());
        let text = ["a", "b", "c"][self.at(3)];
        let call = match self.below(10) {
            0 => Call::GetAttr { target: ino.into(), want: CapBits::STAT },
            1 => Call::Lookup { entry: entry(dir, text), want: CapBits::STAT },
            2 => Call::ReadDir {
                dir: dir.into(),
                frag: Frag::WHOLE,
                after: None,
                entries_max: 0,
                bytes_max: 0,
            },
            3 => Call::Mkdir { entry: entry(dir, text), mode: 0o755 },
            4 => Call::Unlink { entry: entry(dir, text) },
            5 => Call::Rename { from: entry(dir, text), to: entry(ino, "d") },
            6 => Call::Open { ino },
            7 => Call::SetAttr { ino, changes: AttrChanges { mode: Some(0o600), ..AttrChanges::default() } },
            8 => Call::GetVxattr { ino, name: "ceph.dir.pin".into() },
            _ => {
                let kind = if self.below(2) == 0 { LockKind::Shared } else { LockKind::Unlock };
                let lock = Lock { rule: LockRule::Fcntl, kind, owner: 1 + self.below(3), pid: 1, wait: true };
                Call::SetLock { ino, lock }
            }
        };
        // An answer may come before the call returns.
        if let Ok(tid) = self.client.request(self.now, call, Caller::default()) {
            self.requests.insert(tid, Told::Nothing);
        }
    }

    fn user(&mut self) {
        let ino = self.ino();
        match self.below(6) {
            0 => self.client.watch(self.now, ino).unwrap_or(()),
            1 => self.client.unwatch(self.now, ino),
            2 => self.client.forget(self.now, ino),
            3 => self.client.close_file(self.now, ino),
            4 => {
                let sync = if self.below(2) == 0 { self.client.fsync(ino) } else { self.client.sync() };
                self.syncs.extend(sync);
            }
            _ => {
                let tid = Tid(self.some_tid());
                if self.client.cancel(tid) {
                    self.requests.insert(tid, Told::Everything);
                }
            }
        }
    }

    fn some_link(&mut self) -> Option<LinkId> {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        let at = self.at(links.len() + 1);
        links.get(at).copied()
    }

    fn link_news(&mut self) {
        let Some(link) = self.some_link() else { return };
        let news = match self.below(200) {
            0 => {
                self.ready.remove(&link);
                LinkNews::Reset
            }
            1 => {
                self.links.remove(&link);
                self.ready.remove(&link);
                LinkNews::Closed
            }
            _ => {
                self.ready.insert(link);
                LinkNews::Ready(Features::PACIFIC)
            }
        };
        self.client.handle(self.now, Input::Link(link, news));
    }

    fn message(&mut self) {
        let Some(link) = self.some_link().filter(|link| self.ready.contains(link)) else { return };
        let mut message = match self.below(12) {
            0 | 1 => self.session().message(Features::PACIFIC, 0),
            2..=6 => {
                let tid = self.some_tid();
                self.reply().message(Features::PACIFIC, tid)
            }
            7 => {
                let tid = self.some_tid();
                let (dest, forwards) = (self.rank(), self.u32(300));
                ClientRequestForward { dest, forwards, must_resend: true }.message(Features::PACIFIC, tid)
            }
            8 | 9 => self.caps().message(Features::PACIFIC, 0),
            10 => {
                let action = [LeaseAction::Revoke, LeaseAction::Renew, LeaseAction::Release][self.at(3)];
                ClientLease::new(action, self.ino(), "a".into(), self.u32(5)).message(Features::PACIFIC, 0)
            }
            _ => {
                let realm = SnapRealm {
                    ino: self.ino(),
                    parent: self.ino(),
                    seq: self.below(9),
                    ..SnapRealm::default()
                };
                let mut snap = ClientSnap::new(SnapOp::Split, vec![realm]);
                snap.split_inos.push(self.ino());
                snap.message(Features::PACIFIC, 0)
            }
        };
        if self.below(40) == 0 {
            let len = self.at(message.front.len() + 1);
            message.front.truncate(len);
        }
        self.client.handle(self.now, Input::Link(link, LinkNews::Message(message)));
    }

    /// One that is not finished, most of the time.
    fn some_tid(&mut self) -> u64 {
        let open = self.requests.iter().filter(|(_, told)| **told != Told::Everything);
        let open: Vec<u64> = open.map(|(tid, _)| tid.0).collect();
        let at = self.at(open.len() + 1);
        let any = u64::try_from(self.at(self.requests.len() + 2)).unwrap();
        open.get(at).copied().unwrap_or(any)
    }

    fn session(&mut self) -> ClientSession {
        let op = match self.below(1000) {
            0..=9 => SessionOp::Close,
            10 | 11 => SessionOp::Reject,
            12 | 13 => SessionOp::ForceReadOnly,
            14..=99 => SessionOp::RequestOpen,
            100..=199 => SessionOp::Stale,
            200..=299 => SessionOp::RecallState,
            300..=399 => SessionOp::FlushMsg,
            400..=599 => SessionOp::RenewCaps,
            _ => SessionOp::Open,
        };
        let mut session = ClientSession::new(op, self.below(4));
        session.max_caps = self.u32(10);
        if op == SessionOp::Open {
            session.features = FeatureSet::from_bits(0..=18);
        }
        session
    }

    fn stat(&mut self) -> InodeStat {
        let mode = if self.below(2) == 0 { 0o040_755 } else { 0o100_644 };
        let (ino, bits, seq) = (self.ino().0, self.bits(), self.u32(6));
        let mut stat = inode(ino, mode, bits, seq);
        stat.nlink = self.u32(3);
        stat.cap.cap_id = CapId(self.below(3));
        stat.cap.mseq = self.u32(3);
        stat.cap.realm = self.ino();
        stat.quota.max_files = i64::from(self.below(20) == 0);
        stat.rfiles = self.below(3);
        if self.below(8) == 0 {
            stat.snap = SnapId(self.below(3));
        }
        stat
    }

    fn reply(&mut self) -> ClientReply {
        let result = if self.below(4) == 0 { -2 } else { 0 };
        let reply = ClientReply { result, safe: self.below(2) == 0, ..ClientReply::default() };
        let lease =
            LeaseStat::new(u16::try_from(self.below(8)).unwrap(), Duration::from_secs(self.below(40)), 1);
        let mut dentry = dentry(self.stat(), "a", lease);
        dentry.frag.auth = self.rank();
        dentry.frag.dist = vec![self.rank()];
        dentry.frag.frag = Frag(self.u32(1 << 30));
        let trace = Trace {
            dentry: (self.below(2) == 0).then_some(dentry),
            target: (self.below(3) > 0).then(|| self.stat()),
        };
        let page = DirPage {
            entries: vec![DirEntry { name: "e".into(), lease: LeaseStat::default(), inode: self.stat() }],
            ..DirPage::default()
        };
        let reply = reply.with_trace(&trace, ReplyForm::Versioned);
        if self.below(6) == 0 { reply.with_dir_page(&page, ReplyForm::Versioned) } else { reply }
    }

    fn caps(&mut self) -> ClientCaps {
        let op = [CapOp::Grant, CapOp::Revoke, CapOp::Export, CapOp::Import, CapOp::FlushAck, CapOp::Update]
            [self.at(6)];
        let mut caps = ClientCaps::new(op, self.ino());
        caps.cap_id = CapId(self.below(3));
        caps.caps = self.bits();
        caps.seq = self.u32(6);
        caps.mseq = self.u32(3);
        caps.peer = CapPeer { cap_id: CapId(self.below(3)), seq: 1, mseq: 1, rank: self.rank(), flags: 2 };
        caps.mtime = WallTime::default();
        caps
    }
}

#[test]
fn whatever_servers_say_each_request_ends_once_and_memory_is_bounded() {
    let mut seen: BTreeMap<&'static str, usize> = BTreeMap::new();
    for seed in 0..60 {
        let mut chaos = Chaos::new(seed);
        for _ in 0..2000 {
            chaos.step();
        }
        chaos.client.close(chaos.now);
        chaos.drain();
        for _ in 0..100 {
            chaos.step();
        }
        chaos.now = chaos.now + Duration::from_secs(3600);
        chaos.client.handle_timeout(chaos.now);
        chaos.drain();
        assert!(chaos.closed, "seed {seed}");
        let open: Vec<_> = chaos.requests.iter().filter(|(_, told)| **told != Told::Everything).collect();
        assert!(open.is_empty(), "seed {seed}: {open:?}");
        assert!(chaos.links.is_empty() && chaos.client.unfinished() == 0, "seed {seed}");
        for (what, times) in chaos.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    assert!(seen.len() == 14 && seen.values().all(|times| *times > 10), "{seen:?}");
}
