//! Every state with every input, as reviewed text: `tests/tables/*.txt`.
//!
//! `CUTTLEBONE_BLESS=1` writes the tables anew, for review.

#![expect(clippy::unwrap_used, reason = "test code, outside of test functions too")]

use core::fmt::{Debug, Write as _};
use std::path::Path;
use std::{env, fs};

use bytes::Bytes;
use cuttlebone_machine::{Instant, Machine, SplitMix};
use cuttlebone_monsync::v2::{self, PeerId};
use cuttlebone_monsync::{
    Answer, Ask, Entry, MESSAGE_TYPE, OpId, Page, Read, StoreKey, SyncKind, Version, Window, v1,
};
use cuttlebone_wire::{Encode, EntityAddr, EntityInst, EntityNum, EntityType, Features, Op, Transaction};

/// A machine, what it has put out so far, and its clock.
struct Rig<M: Machine> {
    machine: M,
    seen: Vec<M::Output>,
    now: Instant,
}

impl<M: Machine> Rig<M> {
    fn new(machine: M) -> Self {
        let mut rig = Self { machine, seen: Vec::new(), now: Instant::ZERO };
        rig.drain();
        rig
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            self.seen.push(output);
        }
    }

    fn tell(mut self, input: M::Input) -> Self {
        self.machine.handle(self.now, input);
        self.drain();
        self
    }

    /// Lets the next timer end, if there is one.
    fn time(mut self) -> Self {
        if let Some(deadline) = self.machine.poll_timeout() {
            self.now = deadline;
            self.machine.handle_timeout(deadline);
            self.drain();
        }
        self
    }
}

type Step<M> = fn(Rig<M>) -> Rig<M>;
type State<M> = (&'static str, fn() -> Rig<M>);

/// Tries every input in every state and compares with the stored table.
fn check<M: Machine<Output: Debug>>(
    name: &str,
    states: &[State<M>],
    inputs: &[(&str, Step<M>)],
    describe: fn(&M) -> String,
) {
    let mut text = String::new();
    for (state, reach) in states {
        writeln!(text, "{state}").unwrap();
        for (input, step) in inputs {
            let rig = reach();
            let before = rig.seen.len();
            let rig = step(rig);
            let outputs = rig.seen.iter().skip(before).map(|output| format!("{output:?}"));
            let outputs = outputs.collect::<Vec<_>>().join(", ");
            let timer = rig.machine.poll_timeout().map_or(String::from("no timer"), |deadline| {
                format!("timer in {:?}", deadline.since(rig.now))
            });
            let after = describe(&rig.machine);
            writeln!(text, "  {input}\n    → {after}, {timer}; [{outputs}]").unwrap();
        }
        text.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables").join(name);
    if env::var_os("CUTTLEBONE_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap();
    for (stored, now) in stored.lines().zip(text.lines()) {
        assert_eq!(stored, now, "{name} has changed; if that is meant, review it with CUTTLEBONE_BLESS=1");
    }
    assert_eq!(stored.len(), text.len());
}

/// A chunk with these versions and these keys of the service `a`.
fn chunk(versions: &[u64], keys: &[&'static str]) -> Bytes {
    let versions = versions.iter().map(|version| Op::put("paxos", version.to_string(), "v"));
    let keys = keys.iter().map(|key| match key.split_once(':') {
        Some((prefix, key)) => Op::put(prefix, key, "v"),
        None => Op::put("a", *key, "v"),
    });
    Transaction::new(versions.chain(keys).collect()).to_bytes(Features::PACIFIC)
}

mod v2_requester {
    use super::*;

    type R = Rig<v2::Requester>;

    fn message(op: v2::Op, cookie: u64, last_committed: u64, chunk: Bytes) -> v2::RequesterInput {
        let message = v2::Message {
            op,
            cookie: v2::Cookie(cookie),
            last_committed: Version(last_committed),
            last_key: StoreKey::default(),
            chunk,
            reply_to: EntityInst::default(),
        };
        v2::RequesterInput::Message(wire(message.to_bytes(Features::PACIFIC)))
    }

    fn wire(front: Bytes) -> cuttlebone_wire::Message {
        let (version, compat_version) = (2, 2);
        cuttlebone_wire::Message { kind: MESSAGE_TYPE, version, compat_version, front, ..Default::default() }
    }

    fn asked() -> R {
        let config = v2::RequesterConfig {
            pace: v2::PaceConfig { window_start: 2, window_max: 2, ..v2::PaceConfig::default() },
            ..v2::RequesterConfig::default()
        };
        Rig::new(v2::Requester::new(Instant::ZERO, config, SyncKind::Full))
    }

    fn pulling() -> R {
        asked().tell(message(v2::Op::Cookie, 7, 3, Bytes::new()))
    }

    fn nothing_outstanding() -> R {
        let rig = pulling().tell(message(v2::Op::Chunk, 7, 3, chunk(&[], &["1"])));
        rig.tell(message(v2::Op::Chunk, 7, 3, chunk(&[], &["2"])))
    }

    fn draining() -> R {
        pulling().tell(message(v2::Op::LastChunk, 7, 4, chunk(&[4], &["paxos:3"])))
    }

    fn last_op(rig: &R) -> OpId {
        let ops = rig.seen.iter().filter_map(|output| match output {
            v2::RequesterOutput::Apply { op, .. } => Some(*op),
            _ => None,
        });
        ops.last().unwrap_or_else(|| {
            // In a state without effects, that of another machine will do: it is a misuse there.
            let other = pulling();
            let v2::RequesterOutput::Apply { op, .. } = other.seen[2] else { unreachable!() };
            op
        })
    }

    #[test]
    fn every_state_takes_every_input() {
        let states: [State<v2::Requester>; 8] = [
            ("waiting for a cookie", asked),
            ("waiting for a cookie, connection lost", || asked().tell(v2::RequesterInput::Disconnected)),
            ("pulling, two outstanding", pulling),
            ("pulling, nothing outstanding, store behind", nothing_outstanding),
            ("pulling, connection lost with two outstanding", || {
                pulling().tell(v2::RequesterInput::Disconnected)
            }),
            ("pulling, connection lost with nothing outstanding", || {
                nothing_outstanding().tell(v2::RequesterInput::Disconnected)
            }),
            ("finishing, one to drain", draining),
            ("ended", || pulling().tell(v2::RequesterInput::ApplyFailed)),
        ];
        let inputs: [(&str, Step<v2::Requester>); 15] = [
            ("cookie 7 at 3", |rig| rig.tell(message(v2::Op::Cookie, 7, 3, Bytes::new()))),
            ("chunk", |rig| rig.tell(message(v2::Op::Chunk, 7, 3, chunk(&[], &["9"])))),
            ("chunk of another cookie", |rig| rig.tell(message(v2::Op::Chunk, 8, 3, chunk(&[], &["9"])))),
            ("chunk with version 4", |rig| rig.tell(message(v2::Op::Chunk, 7, 4, chunk(&[4], &[])))),
            ("last chunk", |rig| rig.tell(message(v2::Op::LastChunk, 7, 3, chunk(&[], &["paxos:3"])))),
            ("no_cookie 0", |rig| rig.tell(message(v2::Op::NoCookie, 0, 0, Bytes::new()))),
            ("no_cookie 7", |rig| rig.tell(message(v2::Op::NoCookie, 7, 0, Bytes::new()))),
            ("a question", |rig| rig.tell(message(v2::Op::GetChunk, 7, 0, Bytes::new()))),
            ("bytes that are no message", |rig| rig.tell(v2::RequesterInput::Message(wire(Bytes::new())))),
            ("applied up to the last effect", |rig| {
                let op = last_op(&rig);
                rig.tell(v2::RequesterInput::Applied(op))
            }),
            ("not applied", |rig| rig.tell(v2::RequesterInput::ApplyFailed)),
            ("disconnected", |rig| rig.tell(v2::RequesterInput::Disconnected)),
            ("resumed", |rig| rig.tell(v2::RequesterInput::Resumed)),
            ("reconnected", |rig| rig.tell(v2::RequesterInput::Reconnected)),
            ("the next timer", Rig::time),
        ];
        check("v2_requester.txt", &states, &inputs, |machine| machine.state_name().into());
    }
}

/// What a store answers to the last thing it was asked.
fn opened(asks: &[Ask]) -> Option<Answer> {
    let window = Window { first: Version(1), last: Version(3) };
    asks.iter().rev().find_map(|ask| match ask {
        Ask::Open { op, .. } => Some(Answer::Opened { op: *op, window }),
        _ => None,
    })
}

fn page(asks: &[Ask], at_end: bool) -> Option<Answer> {
    let window = Window { first: Version(1), last: Version(3) };
    let entry = Entry { key: StoreKey::new("a", "1"), value: Bytes::from_static(b"v") };
    asks.iter().rev().find_map(|ask| match ask {
        Ask::Read(Read { op, .. }) => {
            let page = Page { window, versions: Vec::new(), entries: vec![entry.clone()], at_end };
            Some(Answer::Page { op: *op, page })
        }
        _ => None,
    })
}

fn failed(asks: &[Ask]) -> Option<Answer> {
    asks.iter().rev().find_map(|ask| match ask {
        Ask::Read(Read { op, .. }) | Ask::Open { op, .. } => Some(Answer::Failed { op: *op }),
        Ask::Release { .. } => None,
    })
}

mod v2_provider {
    use super::*;

    type P = Rig<v2::Provider<SplitMix>>;
    const PEER: PeerId = PeerId(1);

    fn ask(rig: P, request: v2::Request) -> P {
        rig.tell(v2::ProviderInput::Message { from: PEER, message: request.to_message(Features::PACIFIC) })
    }

    fn fresh() -> P {
        let config =
            v2::ProviderConfig { cookies_per_peer_max: 1, waiting_max: 2, ..v2::ProviderConfig::default() };
        Rig::new(v2::Provider::new(config, SplitMix::new(1)))
    }

    fn opening() -> P {
        ask(fresh(), v2::Request::GetCookie(SyncKind::Full))
    }

    fn reading() -> P {
        store(opening(), opened)
    }

    fn ready() -> P {
        store(reading(), |asks| page(asks, false))
    }

    fn ready_with_the_last() -> P {
        store(reading(), |asks| page(asks, true))
    }

    fn store(rig: P, answer: impl FnOnce(&[Ask]) -> Option<Answer>) -> P {
        let asks = rig.seen.iter().filter_map(|output| match output {
            v2::ProviderOutput::Store(ask) => Some(ask.clone()),
            _ => None,
        });
        let asks: Vec<_> = asks.collect();
        match answer(&asks) {
            Some(answer) => rig.tell(v2::ProviderInput::Store(answer)),
            None => rig,
        }
    }

    fn get_chunk(rig: P) -> P {
        // The first cookie that the seeded chance gives out.
        let mut first = SplitMix::new(1);
        let cookie = v2::Cookie(cuttlebone_machine::Entropy::non_zero(&mut first));
        ask(rig, v2::Request::GetChunk(cookie))
    }

    #[test]
    fn every_state_takes_every_input() {
        let states: [State<v2::Provider<SplitMix>>; 8] = [
            ("no cookie", fresh),
            ("opening", opening),
            ("reading ahead", reading),
            ("a chunk ready", ready),
            ("the last chunk ready", ready_with_the_last),
            ("reading, one waiting", || get_chunk(reading())),
            ("reading, two waiting", || get_chunk(get_chunk(reading()))),
            ("suspended", || fresh().tell(v2::ProviderInput::Suspend)),
        ];
        let inputs: [(&str, Step<v2::Provider<SplitMix>>); 14] = [
            ("get_cookie_full", |rig| ask(rig, v2::Request::GetCookie(SyncKind::Full))),
            ("get_cookie_recent after 2", |rig| {
                ask(rig, v2::Request::GetCookie(SyncKind::Recent { after: Version(2) }))
            }),
            ("get_chunk", get_chunk),
            ("get_chunk of an unknown cookie", |rig| ask(rig, v2::Request::GetChunk(v2::Cookie(9)))),
            ("an answer", |rig| {
                let bytes = [&[8, 0, 0, 0][..], &[0; 173]].concat();
                let message = cuttlebone_wire::Message {
                    kind: MESSAGE_TYPE,
                    version: 2,
                    compat_version: 2,
                    front: bytes.into(),
                    ..Default::default()
                };
                rig.tell(v2::ProviderInput::Message { from: PEER, message })
            }),
            ("opened", |rig| store(rig, opened)),
            ("page", |rig| store(rig, |asks| page(asks, false))),
            ("last page", |rig| store(rig, |asks| page(asks, true))),
            ("page, versions trimmed", |rig| {
                store(rig, |asks| {
                    let Some(Answer::Page { op, mut page }) = page(asks, false) else { return None };
                    page.window = Window { first: Version(9), last: Version(9) };
                    Some(Answer::Page { op, page })
                })
            }),
            ("store failed", |rig| store(rig, failed)),
            ("gone", |rig| rig.tell(v2::ProviderInput::Gone(PEER))),
            ("suspend", |rig| rig.tell(v2::ProviderInput::Suspend)),
            ("resume", |rig| rig.tell(v2::ProviderInput::Resume)),
            ("the next timer", Rig::time),
        ];
        check("v2_provider.txt", &states, &inputs, |machine| format!("{} copies", machine.copies()));
    }
}

fn inst(num: i64) -> EntityInst {
    EntityInst { name: EntityNum::new(EntityType::MON, num), addr: EntityAddr::default() }
}

mod v1_requester {
    use super::*;

    type R = Rig<v1::Requester<SplitMix>>;

    fn from(rig: R, num: i64, message: v1::Message) -> R {
        rig.tell(v1::RequesterInput::Message { from: inst(num), message })
    }

    fn starting() -> R {
        let others = vec![inst(0), inst(1), inst(2)];
        let config = v1::RequesterConfig::default();
        Rig::new(v1::Requester::new(Instant::ZERO, config, inst(1), others, SplitMix::new(1)))
    }

    fn granted() -> v1::Message {
        v1::Message::new(v1::Op::StartReply).with_reply_to(inst(2))
    }

    fn retry() -> v1::Message {
        v1::Message::new(v1::Op::StartReply).with_flags(v1::Flags::RETRY)
    }

    fn body(keys: &[&'static str], flags: v1::Flags) -> v1::Message {
        let chunk = chunk(&[], keys);
        v1::Message { chunk, version: Version(2), ..v1::Message::new(v1::Op::Chunk).with_flags(flags) }
    }

    const WHOLE: [&str; 3] = ["1", "paxos:1", "paxos:2"];

    fn pulling() -> R {
        from(starting(), 0, granted())
    }

    fn applying() -> R {
        from(pulling(), 2, body(&WHOLE, v1::Flags::NONE))
    }

    fn applied(rig: R) -> R {
        let op = rig.seen.iter().rev().find_map(|output| match output {
            v1::RequesterOutput::Apply { op, .. } => Some(*op),
            _ => None,
        });
        match op {
            Some(op) => rig.tell(v1::RequesterInput::Applied(op)),
            None => rig,
        }
    }

    fn applying_last() -> R {
        from(applied(applying()), 2, body(&WHOLE[1..], v1::Flags::LAST))
    }

    fn finishing() -> R {
        applied(applying_last())
    }

    #[test]
    fn every_state_takes_every_input() {
        let states: [State<v1::Requester<SplitMix>>; 8] = [
            ("asking for permission", starting),
            ("waiting to ask again", || from(starting(), 0, retry())),
            ("pulling, chunk asked for", pulling),
            ("pulling, chunk in the store", applying),
            ("pulling, last chunk in the store", applying_last),
            ("finishing, nothing heard", finishing),
            ("finishing, heard, store busy", || from(finishing(), 0, v1::Message::new(v1::Op::FinishReply))),
            ("ended", || pulling().tell(v1::RequesterInput::ApplyFailed)),
        ];
        let inputs: [(&str, Step<v1::Requester<SplitMix>>); 12] = [
            ("start_reply from mon.0, provider mon.2", |rig| from(rig, 0, granted())),
            ("start_reply+RETRY", |rig| from(rig, 0, retry())),
            ("heartbeat_reply from the leader", |rig| from(rig, 0, v1::Message::new(v1::Op::HeartbeatReply))),
            ("chunk from the provider", |rig| from(rig, 2, body(&["3"], v1::Flags::NONE))),
            ("chunk from somebody else", |rig| from(rig, 1, body(&["3"], v1::Flags::NONE))),
            ("last chunk from the provider", |rig| from(rig, 2, body(&WHOLE[1..], v1::Flags::LAST))),
            ("finish_reply from the leader", |rig| from(rig, 0, v1::Message::new(v1::Op::FinishReply))),
            ("abort from the leader", |rig| from(rig, 0, v1::Message::new(v1::Op::Abort))),
            ("abort from somebody else", |rig| from(rig, 3, v1::Message::new(v1::Op::Abort))),
            ("applied up to the last effect", applied),
            ("not applied", |rig| rig.tell(v1::RequesterInput::ApplyFailed)),
            ("the next timer", Rig::time),
        ];
        check("v1_requester.txt", &states, &inputs, |machine| machine.state_name().into());
    }
}

mod v1_leader {
    use super::*;

    type L = Rig<v1::Leader<SplitMix>>;

    fn from(rig: L, num: i64, message: v1::Message) -> L {
        rig.tell(v1::LeaderInput::Message { from: inst(num), message })
    }

    fn fresh() -> L {
        Rig::new(v1::Leader::new(v1::LeaderConfig::default(), inst(0), SplitMix::new(1)))
    }

    fn start() -> v1::Message {
        v1::Message::new(v1::Op::Start)
    }

    fn lead(rig: L) -> L {
        let quorum = vec![inst(0), inst(1), inst(2)];
        rig.tell(v1::LeaderInput::Standing(v1::Standing::Leader { quorum }))
    }

    fn follow(rig: L) -> L {
        rig.tell(v1::LeaderInput::Standing(v1::Standing::Peon { leader: inst(1) }))
    }

    fn holding() -> L {
        from(lead(fresh()), 5, start())
    }

    fn cooling() -> L {
        from(holding(), 5, v1::Message::new(v1::Op::Finish))
    }

    #[test]
    fn every_state_takes_every_input() {
        let states: [State<v1::Leader<SplitMix>>; 7] = [
            ("no quorum", fresh),
            ("leader", || lead(fresh())),
            ("leader, trim due", || lead(fresh()).tell(v1::LeaderInput::TrimDue(v1::Trim::Now))),
            ("holding for mon.5", holding),
            ("cooling", cooling),
            ("peon", || follow(fresh())),
            ("synchronizing under mon.1", || {
                let leader = Some(inst(1));
                fresh().tell(v1::LeaderInput::Standing(v1::Standing::Synchronizing { leader }))
            }),
        ];
        let inputs: [(&str, Step<v1::Leader<SplitMix>>); 11] = [
            ("start from mon.5", |rig| from(rig, 5, start())),
            ("start from mon.6", |rig| from(rig, 6, start())),
            ("start of mon.6 forwarded by mon.2", |rig| from(rig, 2, start().with_reply_to(inst(6)))),
            ("start from mon.2 of the quorum", |rig| from(rig, 2, start())),
            ("start of our own forwarded by mon.1", |rig| from(rig, 1, start().with_reply_to(inst(0)))),
            ("heartbeat from mon.5", |rig| from(rig, 5, v1::Message::new(v1::Op::Heartbeat))),
            ("finish from mon.5", |rig| from(rig, 5, v1::Message::new(v1::Op::Finish))),
            ("abort from mon.5", |rig| from(rig, 5, v1::Message::new(v1::Op::Abort))),
            ("it leads", lead),
            ("mon.1 leads", follow),
            ("the next timer", Rig::time),
        ];
        check("v1_leader.txt", &states, &inputs, |machine| format!("{} requesters", machine.requesters()));
    }
}

mod v1_provider {
    use super::*;

    type P = Rig<v1::Provider>;

    fn from(rig: P, message: v1::Message) -> P {
        rig.tell(v1::ProviderInput::Message { from: inst(5), message })
    }

    fn store(rig: P, answer: impl FnOnce(&[Ask]) -> Option<Answer>) -> P {
        let asks = rig.seen.iter().filter_map(|output| match output {
            v1::ProviderOutput::Store(ask) => Some(ask.clone()),
            v1::ProviderOutput::Send { .. } => None,
        });
        match answer(&asks.collect::<Vec<_>>()) {
            Some(answer) => rig.tell(v1::ProviderInput::Store(answer)),
            None => rig,
        }
    }

    fn fresh() -> P {
        Rig::new(v1::Provider::new(v1::ProviderConfig::default()))
    }

    fn start(rig: P) -> P {
        from(rig, v1::Message::new(v1::Op::StartChunks))
    }

    fn reply(rig: P) -> P {
        from(rig, v1::Message::new(v1::Op::ChunkReply))
    }

    fn reading() -> P {
        store(start(fresh()), opened)
    }

    fn middle() -> P {
        store(reading(), |asks| page(asks, false))
    }

    fn between() -> P {
        store(reading(), |asks| page(asks, true))
    }

    fn last() -> P {
        store(reply(between()), |asks| page(asks, true))
    }

    #[test]
    fn every_state_takes_every_input() {
        let states: [State<v1::Provider>; 6] = [
            ("nobody", fresh),
            ("opening", || start(fresh())),
            ("reading", reading),
            ("a chunk sent", middle),
            ("the last chunk of all keys sent", between),
            ("the last chunk sent", last),
        ];
        let inputs: [(&str, Step<v1::Provider>); 11] = [
            ("start_chunks", start),
            ("start_chunks behind b:2", |rig| {
                let last_key = StoreKey::new("b", "2");
                from(rig, v1::Message { last_key, ..v1::Message::new(v1::Op::StartChunks) })
            }),
            ("chunk_reply", reply),
            ("chunk_reply+LAST", |rig| {
                from(rig, v1::Message::new(v1::Op::ChunkReply).with_flags(v1::Flags::LAST))
            }),
            ("abort", |rig| from(rig, v1::Message::new(v1::Op::Abort))),
            ("opened", |rig| store(rig, opened)),
            ("page", |rig| store(rig, |asks| page(asks, false))),
            ("last page", |rig| store(rig, |asks| page(asks, true))),
            ("store failed", |rig| store(rig, failed)),
            ("suspend", |rig| rig.tell(v1::ProviderInput::Suspend)),
            ("the next timer", Rig::time),
        ];
        check("v1_provider.txt", &states, &inputs, |machine| format!("{} copies", machine.copies()));
    }
}
