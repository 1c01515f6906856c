//! The input is a list of operations: one byte says what happens, and the bytes behind it say with what.
//!
//! What is checked: nothing panics, an end is reported once and followed by nothing, no more is in flight than the
//! limits allow, every question is answered at most once, and a snapshot that was opened is released once.

use core::time::Duration;

use bytes::Bytes;
use cuttlebone_machine::{Instant, Machine, SplitMix};
use cuttlebone_monsync::v2::{self, PeerId};
use cuttlebone_monsync::{
    Answer, AnyMessage, Ask, Effect, Entry, MESSAGE_TYPE, OpId, Page, StoreKey, SyncKind, Version, Window, v1,
};
use cuttlebone_wire::{
    Encode, EntityAddr, EntityInst, EntityNum, EntityType, Features, Message, Op, Transaction,
};

/// Takes bytes off the front of the input, zeros when it is used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        u64::from(self.byte())
    }

    fn bytes(&mut self) -> Bytes {
        let len = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        Bytes::copy_from_slice(taken)
    }

    fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    fn inst(&mut self) -> EntityInst {
        let num = i64::from(self.byte() % 4);
        EntityInst { name: EntityNum::new(EntityType::MON, num), addr: EntityAddr::default() }
    }

    /// A chunk's transaction: mostly versions and keys that ascend, sometimes anything.
    fn chunk(&mut self) -> Bytes {
        if self.byte().is_multiple_of(8) {
            return self.bytes();
        }
        let ops = (0..self.byte() % 6).map(|_| match self.byte() % 8 {
            0 => Op::erase("osdmap", self.bytes()),
            1..4 => Op::put("paxos", self.number().to_string(), self.bytes()),
            4 => Op::put(self.bytes(), self.bytes(), self.bytes()),
            _ => Op::put("osdmap", self.number().to_string(), self.bytes()),
        });
        Transaction::new(ops.collect()).to_bytes(Features::PACIFIC)
    }

    fn entries(&mut self) -> Vec<Entry> {
        let entry = |_| Entry { key: StoreKey::new(self.bytes(), self.bytes()), value: self.bytes() };
        let count = 2;
        (0..count).map(entry).collect()
    }
}

fn wire(version: u16, front: Bytes) -> Message {
    Message { kind: MESSAGE_TYPE, version, compat_version: version, front, ..Message::default() }
}

pub(crate) fn message(data: &[u8]) {
    for version in [1, 2] {
        if let Ok((any, features)) = AnyMessage::from_message(&wire(version, Bytes::copy_from_slice(data))) {
            let again = any.front(features);
            let (back, features) =
                AnyMessage::from_message(&wire(version, again.clone())).expect("what we wrote must decode");
            assert_eq!(back, any);
            assert_eq!(back.front(features), again);
        }
    }
}

/// Notes that an effect was asked for, and in which order things may follow.
#[derive(Default)]
struct Target {
    ops: Vec<OpId>,
    begun: bool,
    over: bool,
}

impl Target {
    fn effect(&mut self, op: OpId, effect: &Effect) {
        assert!(self.ops.last().is_none_or(|last| *last < op));
        self.ops.push(op);
        match effect {
            Effect::Begin { .. } => self.begun = true,
            Effect::Chunk { .. } | Effect::Replay { .. } | Effect::Commit { .. } => assert!(self.begun),
        }
    }

    fn end(&mut self) {
        assert!(!self.over, "it ended twice");
        self.over = true;
    }

    fn applied(&mut self, input: &mut Input<'_>) -> Option<OpId> {
        let index = usize::from(input.byte()) % self.ops.len().max(1);
        let op = *self.ops.get(index)?;
        self.ops.drain(..=index);
        Some(op)
    }
}

pub(crate) fn v2_requester(data: &[u8]) {
    let mut input = Input(data);
    let kind =
        if input.flag() { SyncKind::Full } else { SyncKind::Recent { after: Version(input.number()) } };
    let mut now = Instant::ZERO;
    let config = v2::RequesterConfig { copy_bytes_max: 4096, ..v2::RequesterConfig::default() };
    let mut machine = v2::Requester::new(now, config.clone(), kind);
    let (mut target, mut in_flight) = (Target::default(), 0_u32);
    loop {
        while let Some(output) = machine.poll_output() {
            assert!(!target.over, "{output:?} follows the end");
            match output {
                v2::RequesterOutput::Send(v2::Request::GetChunk(_)) => in_flight += 1,
                v2::RequesterOutput::Apply { op, effect } => target.effect(op, &effect),
                v2::RequesterOutput::Done(_) => {
                    assert!(target.ops.is_empty(), "done before everything is durable");
                    target.end();
                }
                v2::RequesterOutput::Failed(_) => target.end(),
                v2::RequesterOutput::Send(_)
                | v2::RequesterOutput::Started { .. }
                | v2::RequesterOutput::Progress(_) => {}
            }
        }
        assert!(in_flight <= config.pace.window_max, "{in_flight} in flight");
        assert!(!target.over || machine.poll_timeout().is_none());
        if input.0.is_empty() {
            return;
        }
        match input.byte() % 8 {
            0 => machine.handle(now, v2::RequesterInput::Message(wire(2, input.bytes()))),
            1..4 => {
                in_flight = in_flight.saturating_sub(1);
                machine.handle(now, v2::RequesterInput::Message(wire(2, answer(&mut input))));
            }
            4 => {
                if let Some(op) = target.applied(&mut input) {
                    machine.handle(now, v2::RequesterInput::Applied(op));
                }
            }
            5 => machine.handle(now, v2::RequesterInput::Disconnected),
            6 if input.flag() => machine.handle(now, v2::RequesterInput::Resumed),
            6 => machine.handle(now, v2::RequesterInput::Reconnected),
            _ => {
                now = now + Duration::from_secs(input.number());
                machine.handle_timeout(now);
            }
        }
    }
}

/// An answer with a good chance of being the right one.
fn answer(input: &mut Input<'_>) -> Bytes {
    let op = match input.byte() % 8 {
        0 => v2::Op::NoCookie,
        1 => v2::Op::LastChunk,
        2 => v2::Op::GetChunk,
        3..5 => v2::Op::Cookie,
        _ => v2::Op::Chunk,
    };
    let message = v2::Message {
        op,
        cookie: v2::Cookie(u64::from(!input.byte().is_multiple_of(16))),
        last_committed: Version(input.number()),
        last_key: StoreKey::default(),
        chunk: input.chunk(),
        reply_to: EntityInst::default(),
    };
    message.to_bytes(Features::PACIFIC)
}

/// A store that answers what it likes, and counts its snapshots.
#[derive(Default)]
struct Source {
    asks: Vec<Ask>,
    open: Vec<cuttlebone_monsync::SnapshotId>,
}

impl Source {
    fn ask(&mut self, ask: Ask) {
        match &ask {
            Ask::Open { snapshot, .. } => self.open.push(*snapshot),
            Ask::Release { snapshot } => {
                let at = self.open.iter().position(|open| open == snapshot);
                self.open.swap_remove(at.expect("only what is open is released"));
            }
            Ask::Read(read) => {
                let pinned = read.scan.as_ref().is_none_or(|scan| self.open.contains(&scan.snapshot));
                assert!(pinned, "a snapshot is read that is not open");
            }
        }
        self.asks.push(ask);
    }

    fn answer(&mut self, input: &mut Input<'_>) -> Option<Answer> {
        let ask = (!self.asks.is_empty()).then(|| self.asks.remove(0))?;
        let window = Window { first: Version(input.number()), last: Version(input.number()) };
        match ask {
            Ask::Open { op, .. } | Ask::Read(cuttlebone_monsync::Read { op, .. })
                if input.byte().is_multiple_of(16) =>
            {
                Some(Answer::Failed { op })
            }
            Ask::Open { op, .. } => Some(Answer::Opened { op, window }),
            Ask::Read(read) => {
                let versions = (0..input.byte() % 4).map(|_| input.bytes()).collect();
                let versions = if read.versions_after.is_some() { versions } else { Vec::new() };
                let entries = if read.scan.is_some() && input.flag() { input.entries() } else { Vec::new() };
                let at_end = read.scan.is_some() && input.flag();
                Some(Answer::Page { op: read.op, page: Page { window, versions, entries, at_end } })
            }
            Ask::Release { .. } => None,
        }
    }
}

pub(crate) fn v2_provider(data: &[u8]) {
    let mut input = Input(data);
    let mut now = Instant::ZERO;
    let config =
        v2::ProviderConfig { cookies_max: 4, cookies_per_peer_max: 2, ..v2::ProviderConfig::default() };
    let mut machine = v2::Provider::new(config.clone(), SplitMix::new(1));
    let (mut source, mut cookies, mut unanswered) = (Source::default(), vec![v2::Cookie(0)], 0_u64);
    while !input.0.is_empty() {
        let mut ask = |request: v2::Request, machine: &mut v2::Provider<_>, from| {
            unanswered += 1;
            let message = request.to_message(Features::PACIFIC);
            machine.handle(now, v2::ProviderInput::Message { from: PeerId(from), message });
        };
        match input.byte() % 8 {
            0 => ask(v2::Request::GetCookie(SyncKind::Full), &mut machine, input.number() % 3),
            1 => {
                let after = Version(input.number());
                ask(v2::Request::GetCookie(SyncKind::Recent { after }), &mut machine, input.number() % 3);
            }
            2 | 3 => {
                let cookie = cookies[usize::from(input.byte()) % cookies.len()];
                ask(v2::Request::GetChunk(cookie), &mut machine, input.number() % 3);
            }
            4 => {
                if let Some(answer) = source.answer(&mut input) {
                    machine.handle(now, v2::ProviderInput::Store(answer));
                }
            }
            5 => {
                let message = wire(2, input.bytes());
                machine.handle(now, v2::ProviderInput::Message { from: PeerId(9), message });
            }
            6 => machine.handle(
                now,
                match input.byte() % 4 {
                    0 => v2::ProviderInput::Suspend,
                    1 => v2::ProviderInput::Resume,
                    _ => v2::ProviderInput::Gone(PeerId(input.number() % 3)),
                },
            ),
            _ => {
                now = now + Duration::from_secs(input.number());
                machine.handle_timeout(now);
            }
        }
        while let Some(output) = machine.poll_output() {
            match output {
                v2::ProviderOutput::Store(ask) => source.ask(ask),
                v2::ProviderOutput::Dropped { .. } => {}
                v2::ProviderOutput::Send { to, reply } => {
                    let message = v2::Message::from_message(&reply.into_message(Features::PACIFIC));
                    let message = message.expect("what we send can be read");
                    if to != PeerId(9) {
                        unanswered = unanswered.checked_sub(1).expect("an answer that nobody asked for");
                    }
                    if message.op == v2::Op::Cookie {
                        cookies.push(message.cookie);
                    }
                }
            }
        }
        assert!(machine.copies() <= config.cookies_max);
        assert!(source.open.len() <= config.cookies_max);
    }
}

fn v1_message(input: &mut Input<'_>) -> v1::Message {
    let op = v1::Op::ALL[usize::from(input.byte()) % v1::Op::ALL.len()];
    v1::Message {
        op,
        flags: v1::Flags(input.byte()),
        version: Version(input.number()),
        chunk: if op == v1::Op::Chunk { input.chunk() } else { Bytes::new() },
        last_key: StoreKey::new(input.bytes(), input.bytes()),
        crc: 0,
        reply_to: input.inst(),
    }
}

pub(crate) fn v1_requester(data: &[u8]) {
    let mut input = Input(data);
    let mut now = Instant::ZERO;
    let entry = input.inst();
    let others = (0..3).map(|_| input.inst()).collect();
    let config = v1::RequesterConfig { copy_bytes_max: 4096, ..v1::RequesterConfig::default() };
    let mut machine = v1::Requester::new(now, config, entry, others, SplitMix::new(1));
    let mut target = Target::default();
    loop {
        while let Some(output) = machine.poll_output() {
            assert!(!target.over, "{output:?} follows the end");
            match output {
                v1::RequesterOutput::Apply { op, effect } => target.effect(op, &effect),
                v1::RequesterOutput::Done(_) => {
                    assert!(target.ops.is_empty(), "done before everything is durable");
                    target.end();
                }
                v1::RequesterOutput::Failed(_) => target.end(),
                v1::RequesterOutput::Send { .. } | v1::RequesterOutput::Provider(_) => {}
            }
        }
        if input.0.is_empty() {
            return;
        }
        match input.byte() % 4 {
            0 | 1 => {
                let (from, message) = (input.inst(), v1_message(&mut input));
                machine.handle(now, v1::RequesterInput::Message { from, message });
            }
            2 => {
                if let Some(op) = target.applied(&mut input) {
                    machine.handle(now, v1::RequesterInput::Applied(op));
                }
            }
            _ => {
                now = now + Duration::from_secs(input.number());
                machine.handle_timeout(now);
            }
        }
    }
}

pub(crate) fn v1_provider(data: &[u8]) {
    let mut input = Input(data);
    let mut now = Instant::ZERO;
    let config = v1::ProviderConfig { requesters_max: 2, ..v1::ProviderConfig::default() };
    let mut machine = v1::Provider::new(config.clone());
    let mut source = Source::default();
    while !input.0.is_empty() {
        match input.byte() % 4 {
            0 | 1 => {
                let (from, message) = (input.inst(), v1_message(&mut input));
                machine.handle(now, v1::ProviderInput::Message { from, message });
            }
            2 => {
                if let Some(answer) = source.answer(&mut input) {
                    machine.handle(now, v1::ProviderInput::Store(answer));
                }
            }
            _ if input.byte().is_multiple_of(16) => machine.handle(now, v1::ProviderInput::Suspend),
            _ => {
                now = now + Duration::from_secs(input.number());
                machine.handle_timeout(now);
            }
        }
        while let Some(output) = machine.poll_output() {
            match output {
                v1::ProviderOutput::Store(ask) => source.ask(ask),
                v1::ProviderOutput::Send { message, .. } => assert_eq!(message.op, v1::Op::Chunk),
            }
        }
        assert!(machine.copies() <= config.requesters_max && source.open.len() == machine.copies());
    }
}

pub(crate) fn v1_leader(data: &[u8]) {
    let mut input = Input(data);
    let mut now = Instant::ZERO;
    let config = v1::LeaderConfig { requesters_max: 2, ..v1::LeaderConfig::default() };
    let me = input.inst();
    let mut machine = v1::Leader::new(config.clone(), me.clone(), SplitMix::new(1));
    let mut held = false;
    while !input.0.is_empty() {
        match input.byte() % 4 {
            0 | 1 => {
                let (from, message) = (input.inst(), v1_message(&mut input));
                machine.handle(now, v1::LeaderInput::Message { from, message });
            }
            2 => {
                let input = match input.byte() % 8 {
                    0 => v1::LeaderInput::TrimDue(v1::Trim::Now),
                    1 => v1::LeaderInput::TrimDue(v1::Trim::Later),
                    2 => v1::LeaderInput::Standing(v1::Standing::NoQuorum),
                    3 => v1::LeaderInput::Standing(v1::Standing::Peon { leader: input.inst() }),
                    4 => {
                        v1::LeaderInput::Standing(v1::Standing::Synchronizing { leader: Some(input.inst()) })
                    }
                    5 => v1::LeaderInput::Standing(v1::Standing::Synchronizing { leader: None }),
                    _ => {
                        let quorum = (0..input.byte() % 3).map(|_| input.inst()).collect();
                        v1::LeaderInput::Standing(v1::Standing::Leader { quorum })
                    }
                };
                machine.handle(now, input);
            }
            _ => {
                now = now + Duration::from_secs(input.number());
                machine.handle_timeout(now);
            }
        }
        while let Some(output) = machine.poll_output() {
            match output {
                v1::LeaderOutput::Trim(trim) => held = trim == v1::Trim::Later,
                v1::LeaderOutput::Send { message, .. } => {
                    assert!(message.op.role() != Some(v1::Role::Provider));
                }
                v1::LeaderOutput::Bootstrap => {}
            }
        }
        assert!(machine.requesters() <= config.requesters_max);
        assert!(held || machine.requesters() == 0, "somebody synchronises while trimming goes on");
    }
}
