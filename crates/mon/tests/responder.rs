//! The side that is dialled: what it answers, and above all what it never sends.

use std::collections::BTreeMap;

use bytes::Bytes;
use cuttlebone_machine::{Instant, Machine};
use cuttlebone_mon::{
    Body, Command, CommandAck, EncodedMonMap, GetMap, GetVersion, GetVersionReply, Map, MonInfo, MonMap,
    PaxosWindow, Probe, ProbeOp, Request, Responder, ResponderConfig, ResponderOutput, Subscribe,
    Subscription,
};
use cuttlebone_wire::{EntityAddr, Features, Message, MessageType, Uuid, Writer};

const FSID: Uuid = Uuid([7; 16]);

fn config() -> ResponderConfig {
    let addr: EntityAddr = "v2:10.0.0.9:3300".parse().expect("address");
    let mut map = MonMap::default();
    map.fsid = FSID;
    map.epoch = 3;
    map.mons.insert("copy".into(), MonInfo::new("copy", addr.into()));
    map.ranks.push("copy".into());
    ResponderConfig {
        fsid: FSID,
        name: "copy".into(),
        map: EncodedMonMap::try_from(&map).expect("a map"),
        window: PaxosWindow { first: 1, last: 40 },
        config: BTreeMap::new(),
        versions: [("osdmap".into(), (1, 9))].into(),
    }
}

fn answers(message: Message) -> Vec<ResponderOutput> {
    let mut responder = Responder::new(config());
    responder.handle(Instant::ZERO, Request { features: Features::PACIFIC, message });
    core::iter::from_fn(|| responder.poll_output()).collect()
}

fn messages(message: Message) -> Vec<Message> {
    let send = |output| match output {
        ResponderOutput::Send(message) => message,
        ResponderOutput::Run(..) => panic!("unexpected {output:?}"),
    };
    answers(message).into_iter().map(send).collect()
}

/// A probe as a fresh monitor sends it, made by hand since nothing here can make one.
fn probe(op: i32, fsid: Uuid) -> Message {
    let mut w = Writer::new(Features::PACIFIC);
    w.raw(&fsid.0);
    w.i32(op);
    w.text("a");
    w.u32(0);
    let map = config().map;
    w.blob(if op == 2 { map.as_bytes() } else { &[] });
    w.u8(0);
    w.u64(0);
    w.u64(0);
    w.u64(0);
    w.u8(16);
    w.i32(-1);
    Message { kind: Probe::KIND, version: 8, compat_version: 5, front: w.into_bytes(), ..Message::default() }
}

#[test]
fn a_probe_is_answered_as_a_stranger_with_a_map_and_a_window() {
    let reply = messages(probe(1, FSID)).remove(0);
    assert_eq!((reply.kind, reply.version, reply.compat_version, reply.priority.0), (Probe::KIND, 8, 5, 196));
    let (reply, _) = Probe::decode(&reply).expect("a probe");
    assert_eq!((reply.name(), reply.fsid()), ("copy", FSID));
    assert_eq!((reply.quorum(), reply.leader(), reply.has_ever_joined()), (&[][..], -1, false));
    // A first version of 1 would make the monitor replay history instead of copying.
    assert_eq!(reply.window(), PaxosWindow { first: 2, last: 40 });
    assert!(matches!(reply.op(), ProbeOp::Reply { map } if !map.decode().mons.is_empty()));
}

#[test]
fn only_questions_of_the_own_cluster_are_answered() {
    for op in 2..=6 {
        assert_eq!(messages(probe(op, FSID)), [], "op {op}");
    }
    assert_eq!(messages(probe(1, Uuid([8; 16]))), []);
    for op in [-1, 0, 7, i32::MAX] {
        assert!(Probe::decode(&probe(op, FSID)).is_err(), "op {op}: a monitor aborts on it");
    }
}

#[test]
fn a_reply_without_a_map_cannot_even_be_read() {
    let mut reply = probe(1, FSID);
    let mut front = reply.front.to_vec();
    front[16] = 2;
    reply.front = front.into();
    assert!(Probe::decode(&reply).is_err());
    let mut older = probe(1, FSID);
    older.version = 4;
    assert!(Probe::decode(&older).is_err());
}

#[test]
fn maps_versions_and_subscriptions_are_answered_with_the_tid_of_the_question() {
    let map = messages(GetMap {}.message(Features::PACIFIC, 11)).remove(0);
    assert_eq!(map.tid, 11);
    assert_eq!(Map::decode(&map).expect("a map").0.map, config().map);

    let ask =
        |what: &str| messages(GetVersion { handle: 12, what: what.into() }.message(Features::PACIFIC, 12));
    let (reply, _) = GetVersionReply::decode(&ask("osdmap")[0]).expect("a reply");
    assert_eq!(reply, GetVersionReply { handle: 12, version: 9, oldest: 1 });
    assert_eq!(ask("unheard-of"), [], "as a monitor does it");

    let subscribe = |what: &str, start| {
        let what = [(String::from(what), Subscription { start, flags: 0 })].into();
        let message = Subscribe { what, host: String::new() }.message(Features::PACIFIC, 0);
        messages(message).iter().map(|message| message.kind.0).collect::<Vec<_>>()
    };
    assert_eq!(subscribe("monmap", 0), [4]);
    assert_eq!(subscribe("monmap", 4), [], "not before it changes");
    assert_eq!(subscribe("config", 0), [62]);
    assert_eq!(subscribe("osdmap", 0), []);
}

#[test]
fn a_command_is_the_caller_s_and_its_ack_carries_the_tid() {
    let command = Command { command: vec![Bytes::from_static(b"{}")], ..Command::default() };
    let outputs = answers(command.message(Features::PACIFIC, 13));
    let [ResponderOutput::Run(run, pending)] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(*run, command);
    let ack = Responder::ack(*pending, &CommandAck { result: -22, ..CommandAck::default() });
    assert_eq!((ack.kind, ack.tid), (CommandAck::KIND, 13));
}

#[test]
fn everything_else_is_dropped_mforward_above_all() {
    let answered = [GetMap::KIND, Subscribe::KIND, GetVersion::KIND, Command::KIND, Probe::KIND];
    let front = Command::default().message(Features::PACIFIC, 0).front;
    for number in 0..0x800 {
        let kind = MessageType(number);
        if !answered.contains(&kind) {
            let message =
                Message { kind, version: 1, compat_version: 1, front: front.clone(), ..Message::default() };
            assert_eq!(answers(message), [], "{kind}");
        }
    }
}

#[test]
fn nonsense_of_the_right_type_is_dropped_too() {
    for kind in [Subscribe::KIND, GetVersion::KIND, Command::KIND, Probe::KIND] {
        let front = Bytes::from_static(&[0xff; 7]);
        let message = Message { kind, version: 8, compat_version: 1, front, ..Message::default() };
        assert_eq!(answers(message), [], "{kind}");
    }
}
