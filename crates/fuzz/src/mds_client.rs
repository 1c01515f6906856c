use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cuttlebone_machine::{Instant, Machine, SplitMix};
use cuttlebone_mds::{
    Call, Caller, CapBits, CapId, CapOp, CapPeer, Client, ClientCapRelease, ClientCaps, ClientLease,
    ClientReconnect, ClientReply, ClientRequest, ClientRequestForward, ClientSession, ClientSnap, Config,
    Durability, Entry, Event, Frag, Gid, Ino, InodeStat, Input, LeaseAction, LeaseStat, Limits, LinkId,
    LinkNews, MdsInfo, MdsMap, MdsState, Name, Output, Rank, ReplyForm, SessionOp, SnapOp, SnapRealm, SyncId,
    Tid, Trace, TraceDentry,
};
use cuttlebone_wire::{
    AddrKind, Body, EntityAddr, EntityAddrs, FeatureSet, Features, Message, MessageType, SockAddr,
};

/// A list of operations on a client: whatever servers say, each request ends at most once, what is remembered is
/// limited, nothing goes out on a link that is not open, and nothing that would make a server abort.
pub(crate) fn client(data: &[u8]) {
    let config = Config { limits: limits(), ..Config::default() };
    let mut world = World {
        script: data,
        client: Client::new(config, Box::new(SplitMix::new(1))),
        now: Instant::ZERO,
        map: MdsMap::default(),
        links: BTreeMap::new(),
        told: BTreeMap::new(),
        syncs: BTreeSet::new(),
        closed: false,
    };
    while let Some(op) = world.byte() {
        world.step(op);
        world.drain();
        world.check();
    }
}

fn limits() -> Limits {
    Limits {
        requests_max: 16,
        in_flight_max: 8,
        caps_max: 4,
        inodes_max: 4,
        dentries_max: 4,
        pins_max: 2,
        syncs_max: 4,
        fragments_max: 2,
        realms_max: 2,
        ..Limits::default()
    }
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Applied,
    Everything,
}

struct World<'a> {
    script: &'a [u8],
    client: Client,
    now: Instant,
    map: MdsMap,
    /// Links, and whether they are open.
    links: BTreeMap<LinkId, bool>,
    told: BTreeMap<Tid, Option<Told>>,
    syncs: BTreeSet<SyncId>,
    closed: bool,
}

impl World<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.script.split_first()?;
        self.script = rest;
        Some(*first)
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.byte().unwrap_or(0) % bound
    }

    fn ino(&mut self) -> Ino {
        Ino(1 + u64::from(self.below(8)))
    }

    fn bits(&mut self) -> CapBits {
        CapBits(u32::from(self.below(255)) << 8 | u32::from(self.below(255)))
    }

    fn name(&mut self) -> Name {
        Name::new(vec![b'a' + self.below(4)]).expect("a letter")
    }

    fn step(&mut self, op: u8) {
        match op % 8 {
            0 => self.change_map(),
            1 => self.ask(),
            2 => self.link_news(),
            3 => self.raw_message(),
            4 | 5 => self.message(),
            6 => {
                self.now = self.now + Duration::from_secs(self.below(90).into());
                self.client.handle_timeout(self.now);
            }
            _ => self.user(),
        }
    }

    fn change_map(&mut self) {
        let rank = Rank(self.below(2).into());
        let state =
            [MdsState::ACTIVE, MdsState::RECONNECT, MdsState::REPLAY, MdsState::STOPPING, MdsState::NULL];
        let state = state[usize::from(self.below(5))];
        self.map.epoch += 1;
        if let Some(gid) = self.map.up.remove(&rank) {
            self.map.info.remove(&gid);
        }
        self.map.ranks.retain(|other| *other != rank);
        if state != MdsState::NULL {
            let run = self.below(3);
            let mut info = MdsInfo::default();
            info.rank = rank;
            info.state = state;
            let socket = SockAddr::V4("10.0.0.1:6800".parse().expect("an address"));
            info.addrs = EntityAddrs(vec![EntityAddr { kind: AddrKind::MSGR2, nonce: run.into(), socket }]);
            let gid = Gid(u64::from(run) << 8 | u64::from(rank.0.unsigned_abs()));
            self.map.ranks.push(rank);
            self.map.up.insert(rank, gid);
            self.map.info.insert(gid, info);
        }
        self.client.handle(self.now, Input::Map(Box::new(self.map.clone())));
    }

    fn ask(&mut self) {
        let (dir, ino) = (self.ino(), self.ino());
        let entry = Entry::new(dir, self.name());
        let call = match self.below(9) {
            0 => Call::GetAttr { target: ino.into(), want: CapBits::STAT },
            1 => Call::Lookup { entry, want: CapBits::STAT },
            2 => Call::ReadDir {
                dir: dir.into(),
                frag: Frag::WHOLE,
                after: None,
                entries_max: 0,
                bytes_max: 0,
            },
            3 => Call::Mkdir { entry, mode: 0o755 },
            4 => Call::Unlink { entry },
            5 => Call::Rename { from: entry, to: Entry::new(ino, self.name()) },
            6 => Call::Open { ino },
            7 => Call::Create { entry, mode: 0o600, exclusive: true },
            _ => Call::GetVxattr { ino, name: Bytes::from_static(b"ceph.dir.pin") },
        };
        if let Ok(tid) = self.client.request(self.now, call, Caller::default()) {
            self.told.insert(tid, None);
        }
    }

    fn user(&mut self) {
        let ino = self.ino();
        match self.below(7) {
            0 => self.client.watch(self.now, ino).unwrap_or(()),
            1 => self.client.unwatch(self.now, ino),
            2 => self.client.forget(self.now, ino),
            3 => self.client.close_file(self.now, ino),
            4 => self.syncs.extend(self.client.fsync(ino)),
            5 => self.syncs.extend(self.client.sync()),
            _ => {
                if self.below(4) == 0 {
                    self.client.close(self.now);
                }
            }
        }
    }

    fn some_link(&mut self) -> Option<(LinkId, bool)> {
        let at = usize::from(self.below(4));
        self.links.iter().nth(at).map(|(link, open)| (*link, *open))
    }

    fn link_news(&mut self) {
        let choice = self.below(8);
        let Some((link, _)) = self.some_link() else { return };
        let news = match choice {
            0 => {
                self.links.insert(link, false);
                LinkNews::Reset
            }
            1 => {
                self.links.remove(&link);
                LinkNews::Closed
            }
            _ => {
                self.links.insert(link, true);
                LinkNews::Ready(Features::PACIFIC)
            }
        };
        self.client.handle(self.now, Input::Link(link, news));
    }

    fn hear(&mut self, message: Message) {
        if let Some((link, true)) = self.some_link() {
            self.client.handle(self.now, Input::Link(link, LinkNews::Message(message)));
        }
    }

    /// Any bytes as a message of a type that means something to a client.
    fn raw_message(&mut self) {
        let kinds = [22, 25, 26, 0x310, 0x311, 0x312, 0x314, 7];
        let kind = MessageType(kinds[usize::from(self.below(8))]);
        let (version, tid) = (self.below(13).into(), self.below(20).into());
        let len = usize::from(self.below(255)).min(self.script.len());
        let (front, rest) = self.script.split_at(len);
        let front = Bytes::copy_from_slice(front);
        self.script = rest;
        self.hear(Message { kind, version, tid, front, ..Message::default() });
    }

    /// A message that follows the encoding, and need not make sense otherwise.
    fn message(&mut self) {
        let tid = u64::from(self.below(20));
        let message = match self.below(6) {
            0 => self.session().message(Features::PACIFIC, 0),
            1 => {
                let (dest, forwards) = (Rank(i32::from(self.below(4)) - 1), self.below(255).into());
                ClientRequestForward { dest, forwards, must_resend: true }.message(Features::PACIFIC, tid)
            }
            2 => self.caps().message(Features::PACIFIC, 0),
            3 => {
                let action = [LeaseAction::Revoke, LeaseAction::Renew][usize::from(self.below(2))];
                let (dir, name, seq) = (self.ino(), self.name(), self.below(4).into());
                ClientLease::new(action, dir, name.as_bytes().clone(), seq).message(Features::PACIFIC, 0)
            }
            4 => {
                let realm = SnapRealm { ino: self.ino(), parent: self.ino(), ..SnapRealm::default() };
                let mut snap = ClientSnap::new(SnapOp::Split, vec![realm]);
                snap.split_inos.push(self.ino());
                snap.message(Features::PACIFIC, 0)
            }
            _ => self.reply().message(Features::PACIFIC, tid),
        };
        self.hear(message);
    }

    fn session(&mut self) -> ClientSession {
        let ops = [
            SessionOp::Open,
            SessionOp::Open,
            SessionOp::RenewCaps,
            SessionOp::Stale,
            SessionOp::RecallState,
            SessionOp::FlushMsg,
            SessionOp::Close,
            SessionOp::ForceReadOnly,
            SessionOp::Reject,
            SessionOp::RequestOpen,
        ];
        let op = ops[usize::from(self.below(10))];
        let mut session = ClientSession::new(op, self.below(4).into());
        session.max_caps = self.below(4).into();
        if op == SessionOp::Open {
            session.features = FeatureSet::from_bits(0..=18);
        }
        session
    }

    fn caps(&mut self) -> ClientCaps {
        let ops = [CapOp::Grant, CapOp::Revoke, CapOp::Export, CapOp::Import, CapOp::FlushAck, CapOp::Trunc];
        let mut caps = ClientCaps::new(ops[usize::from(self.below(6))], self.ino());
        caps.cap_id = CapId(self.below(3).into());
        caps.caps = self.bits();
        caps.seq = self.below(6).into();
        caps.mseq = self.below(3).into();
        let (rank, cap_id) = (Rank(i32::from(self.below(4)) - 1), CapId(self.below(3).into()));
        caps.peer = CapPeer { cap_id, seq: 1, mseq: 1, rank, flags: self.below(4) };
        caps
    }

    fn stat(&mut self) -> InodeStat {
        let mut stat = InodeStat::default();
        stat.ino = self.ino();
        stat.mode = if self.below(2) == 0 { 0o040_755 } else { 0o100_644 };
        stat.nlink = self.below(3).into();
        stat.cap.caps = self.bits();
        stat.cap.cap_id = CapId(self.below(3).into());
        stat.cap.seq = self.below(6).into();
        stat.cap.mseq = self.below(3).into();
        stat.cap.flags = self.below(2);
        stat.cap.realm = self.ino();
        stat
    }

    fn reply(&mut self) -> ClientReply {
        let shape = self.below(32);
        let mut trace = Trace::default();
        if shape & 1 == 0 {
            let mut dentry = TraceDentry { dir: self.stat(), ..TraceDentry::default() };
            dentry.dname = self.name().as_bytes().clone();
            dentry.lease =
                LeaseStat::new(self.below(8).into(), Duration::from_secs(30), self.below(4).into());
            dentry.frag.auth = Rank(i32::from(self.below(4)) - 2);
            trace.dentry = Some(dentry);
        }
        if shape & 2 == 0 {
            trace.target = Some(self.stat());
        }
        let result = if shape & 0b1100 == 0 { -2 } else { 0 };
        let reply = ClientReply { result, safe: shape & 16 == 0, ..ClientReply::default() };
        reply.with_trace(&trace, ReplyForm::Versioned)
    }

    fn drain(&mut self) {
        while let Some(output) = self.client.poll_output() {
            assert!(!self.closed, "nothing follows the end: {output:?}");
            match output {
                Output::Dial { link, .. } => assert!(self.links.insert(link, false).is_none()),
                Output::Drop(link) => assert!(self.links.remove(&link).is_some()),
                Output::Send(link, message) => {
                    assert_eq!(self.links.get(&link), Some(&true), "sent on a link that is not open");
                    harms_nobody(&message);
                }
                Output::Event(event) => self.on_event(&event),
            }
        }
    }

    fn on_event(&mut self, event: &Event) {
        match event {
            Event::Answer { tid, durability, .. } => {
                let told = if *durability == Durability::Applied { Told::Applied } else { Told::Everything };
                // An answer may come before the call has returned.
                let before = self.told.insert(*tid, Some(told)).flatten();
                assert_eq!(before, None, "{tid:?} is answered twice");
            }
            Event::Committed(tid) | Event::Uncommitted(tid, _) => {
                let before = self.told.insert(*tid, Some(Told::Everything)).flatten();
                assert_eq!(
                    before,
                    Some(Told::Applied),
                    "{tid:?} is committed before it is applied, or twice"
                );
            }
            Event::Synced(id, _) => {
                self.syncs.remove(id);
            }
            Event::Closed { .. } => self.closed = true,
            _ => {}
        }
    }

    fn check(&self) {
        let (limits, remembered) = (limits(), self.client.remembered());
        assert!(remembered.names <= limits.dentries_max, "{remembered:?}");
        assert!(remembered.inodes <= remembered.held + limits.inodes_max, "{remembered:?}");
        assert!(remembered.realms <= limits.realms_max, "{remembered:?}");
        assert!(self.client.unfinished() <= limits.requests_max);
        assert!(self.links.len() <= 4, "one link for each rank");
    }
}

/// A server of 16.2.15 aborts on operations of sessions and leases that it does not expect from a client.
fn harms_nobody(message: &Message) {
    let kind = message.kind;
    if kind == ClientSession::KIND {
        let (session, _) = ClientSession::decode(message).expect("what we wrote must decode");
        let allowed = [
            SessionOp::RequestOpen,
            SessionOp::RequestClose,
            SessionOp::RequestRenewCaps,
            SessionOp::FlushMsgAck,
            SessionOp::RequestFlushMdLog,
        ];
        assert!(allowed.contains(&session.op), "{session:?}");
    } else if kind == ClientLease::KIND {
        let (lease, _) = ClientLease::decode(message).expect("what we wrote must decode");
        assert!(lease.action != LeaseAction::Revoke, "{lease:?}");
    } else if kind == ClientCaps::KIND {
        let (caps, _) = ClientCaps::decode(message).expect("what we wrote must decode");
        assert!(caps.op == CapOp::Update && caps.dirty.is_empty(), "{caps:?}");
    } else {
        let allowed = [ClientRequest::KIND, ClientCapRelease::KIND, ClientReconnect::KIND];
        assert!(allowed.contains(&kind), "{message:?}");
    }
}
