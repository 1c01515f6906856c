use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use cuttlebone_machine::{Instant, Machine, SplitMix};
use cuttlebone_wire::{Body, EntityAddr, EntityAddrs, FeatureSet, Features, Message};

use crate::*;

/// A client, what it wants done, and hand-written answers of servers.
pub(super) struct World {
    pub(super) client: Client,
    pub(super) now: Instant,
    pub(super) map: MdsMap,
    /// The newest link to each rank.
    pub(super) links: BTreeMap<Rank, LinkId>,
    sent: BTreeMap<LinkId, Vec<Message>>,
    pub(super) dialled: Vec<(Rank, EntityAddrs)>,
    pub(super) dropped: Vec<LinkId>,
    events: Vec<Event>,
}

pub(super) const RANK: Rank = Rank(0);
pub(super) const FILE_MODE: u32 = 0o100_644;
pub(super) const DIR_MODE: u32 = 0o040_755;

pub(super) fn addrs(port: u16, nonce: u32) -> EntityAddrs {
    let socket = core::net::SocketAddr::from(([127, 0, 0, 1], port));
    EntityAddrs::from(EntityAddr { nonce, ..EntityAddr::v2(socket) })
}

pub(super) fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

pub(super) fn entry(dir: Ino, text: &str) -> Entry {
    Entry::new(dir, name(text))
}

pub(super) fn inode(ino: u64, mode: u32, caps: CapBits, seq: u32) -> InodeStat {
    let cap = CapGrant {
        caps,
        cap_id: CapId(u64::from(!caps.is_empty())),
        seq,
        realm: Ino::ROOT,
        flags: CapGrant::AUTH,
        ..CapGrant::default()
    };
    let mut stat = InodeStat::default();
    stat.ino = Ino(ino);
    stat.mode = mode;
    stat.nlink = 1;
    stat.version = 1;
    stat.cap = cap;
    stat
}

/// A directory with a name in it, as traces carry them.
pub(super) fn dentry(dir: InodeStat, text: &str, lease: LeaseStat) -> TraceDentry {
    let frag = DirStat { auth: DirStat::AUTH_PARENT, ..DirStat::default() };
    TraceDentry { dir, frag, dname: text.as_bytes().to_vec().into(), lease }
}

pub(super) fn lease(seq: u32) -> LeaseStat {
    LeaseStat::new(LeaseStat::VALID | LeaseStat::PRIMARY_LINK, Duration::from_secs(30), seq)
}

impl World {
    pub(super) fn new(config: Config) -> Self {
        let mut world = Self {
            client: Client::new(config, Box::new(SplitMix::new(1))),
            now: Instant::ZERO + Duration::from_secs(1000),
            map: MdsMap::default(),
            links: BTreeMap::new(),
            sent: BTreeMap::new(),
            dialled: Vec::new(),
            dropped: Vec::new(),
            events: Vec::new(),
        };
        world.rank(RANK, MdsState::ACTIVE, 1);
        world
    }

    /// A client with an open session with rank 0.
    pub(super) fn open() -> Self {
        Self::open_with(Config::default())
    }

    pub(super) fn open_with(config: Config) -> Self {
        let mut world = Self::new(config);
        let tid = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
        world.ready(RANK);
        world.accept(RANK);
        world.answer(
            RANK,
            tid,
            0,
            true,
            &Trace { dentry: None, target: Some(inode(1, DIR_MODE, CapBits::STAT, 1)) },
        );
        world.sent(RANK);
        world.events();
        world
    }

    /// A new map in which another state, or another run, of a rank is told.
    pub(super) fn rank(&mut self, rank: Rank, state: MdsState, run: u32) {
        self.map.epoch += 1;
        let gid = Gid(u64::from(run) * 1000 + u64::try_from(rank.0).unwrap());
        if let Some(old) = self.map.up.insert(rank, gid) {
            self.map.info.remove(&old);
        }
        if !self.map.ranks.contains(&rank) {
            self.map.ranks.push(rank);
        }
        let port = 6800 + u16::try_from(rank.0).unwrap();
        let mut info = MdsInfo::default();
        info.gid = gid;
        info.rank = rank;
        info.state = state;
        info.addrs = addrs(port, run);
        self.map.info.insert(gid, info);
        self.tell_map();
    }

    /// A new map in which nobody has a rank.
    pub(super) fn fail(&mut self, rank: Rank) {
        self.map.epoch += 1;
        if let Some(old) = self.map.up.remove(&rank) {
            self.map.info.remove(&old);
        }
        self.tell_map();
    }

    pub(super) fn tell_map(&mut self) {
        self.handle(Input::Map(Box::new(self.map.clone())));
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.client.handle(self.now, input);
        self.drain();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.client.handle_timeout(self.now);
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Dial { link, rank, addrs } => {
                    self.links.insert(rank, link);
                    self.dialled.push((rank, addrs));
                }
                Output::Drop(link) => {
                    self.links.retain(|_, known| *known != link);
                    self.dropped.push(link);
                }
                Output::Send(link, message) => self.sent.entry(link).or_default().push(message),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    pub(super) fn link(&mut self, rank: Rank, news: LinkNews) {
        let link = *self.links.get(&rank).expect("a link to the rank");
        self.handle(Input::Link(link, news));
    }

    pub(super) fn ready(&mut self, rank: Rank) {
        self.link(rank, LinkNews::Ready(Features::PACIFIC));
    }

    /// What was sent to a rank over its newest link since the last call.
    pub(super) fn sent(&mut self, rank: Rank) -> Vec<Message> {
        self.links.get(&rank).and_then(|link| self.sent.remove(link)).unwrap_or_default()
    }

    /// The bodies of one type among what was sent since the last call of this or [`sent`](Self::sent).
    pub(super) fn sent_of<B: Body>(&mut self, rank: Rank) -> Vec<B> {
        let sent = self.sent(rank);
        sent.iter()
            .filter(|message| message.kind == B::KIND)
            .map(|message| B::decode(message).unwrap().0)
            .collect()
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.events)
    }

    pub(super) fn ask(&mut self, call: Call) -> Tid {
        let tid = self.client.request(self.now, call, Caller::default()).unwrap();
        self.drain();
        tid
    }

    /// A message from a rank.
    pub(super) fn tell<B: Body>(&mut self, rank: Rank, body: &B, tid: u64) {
        self.link(rank, LinkNews::Message(body.message(Features::PACIFIC, tid)));
    }

    pub(super) fn session(&mut self, rank: Rank, op: SessionOp, seq: u64) {
        self.tell(rank, &ClientSession::new(op, seq), 0);
    }

    /// The rank opens the session, and confirms the renewal that follows, which is then not among what was sent.
    pub(super) fn accept(&mut self, rank: Rank) {
        let mut open = ClientSession::new(SessionOp::Open, 0);
        open.features = FeatureSet::from_bits(0..=18);
        self.tell(rank, &open, 0);
        let Some(sent) = self.links.get(&rank).and_then(|link| self.sent.get_mut(link)) else { return };
        let mut renewals = Vec::new();
        sent.retain(|message| {
            let session =
                (message.kind == ClientSession::KIND).then(|| ClientSession::decode(message).unwrap().0);
            let renewal = session.filter(|session| session.op == SessionOp::RequestRenewCaps);
            renewals.extend(renewal.as_ref().map(|renewal| renewal.seq));
            renewal.is_none()
        });
        for seq in renewals {
            self.session(rank, SessionOp::RenewCaps, seq);
        }
    }

    pub(super) fn answer(&mut self, rank: Rank, tid: Tid, result: i32, safe: bool, trace: &Trace) {
        let reply = ClientReply { result, safe, ..ClientReply::default() };
        self.tell(rank, &reply.with_trace(trace, ReplyForm::Versioned), tid.0);
    }

    /// The rank says that a request is committed.
    pub(super) fn commit(&mut self, rank: Rank, tid: Tid) {
        self.answer(rank, tid, 0, true, &Trace::default());
    }

    /// Makes a directory in the root and has it answered.
    pub(super) fn mkdir(&mut self, text: &str, ino: u64, safe: bool) -> Tid {
        let tid = self.ask(Call::Mkdir { entry: entry(Ino::ROOT, text), mode: 0o755 });
        let dir = inode(1, DIR_MODE, CapBits::STAT, 2);
        let trace = Trace {
            dentry: Some(dentry(dir, text, lease(1))),
            target: Some(inode(ino, DIR_MODE, CapBits::STAT, 1)),
        };
        self.answer(RANK, tid, 0, safe, &trace);
        tid
    }
}
