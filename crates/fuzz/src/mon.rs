use core::fmt::Debug;
use core::time::Duration;
use std::collections::BTreeSet;

use bytes::Bytes;
use cuttlebone_machine::{Instant, Machine};
use cuttlebone_mon::{
    Body, Command, CommandAck, Config, Event, GetMap, GetVersion, GetVersionReply, Map, MonMap, Probe,
    Session, SessionConfig, SessionInput, SessionOutput, StatFs, StatFsReply, Subscribe, SubscribeAck,
    Subscription,
};
use cuttlebone_wire::{Decode, Encode, Features, Message, MessageType, Reader, Uuid};

/// A map comes back in the form that it had, and can be written in every other one.
pub(crate) fn map(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let mut r = Reader::new(&bytes);
    let Ok(mut map) = MonMap::decode(&mut r) else { return };
    let again = map.to_bytes(r.features_seen());
    let mut r = Reader::new(&again);
    let back = MonMap::decode(&mut r).expect("what we wrote must decode");
    assert_eq!(back.to_bytes(r.features_seen()), again);
    map.renew();
    for features in [Features::PACIFIC, Features::empty(), Features::MON_NAMES, Features::MON_ENC] {
        let bytes = map.to_bytes(features);
        MonMap::decode(&mut Reader::new(&bytes)).expect("what we wrote must decode");
    }
}

/// The first byte chooses the type, the second the version, the third how much of the rest is data.
pub(crate) fn message(data: &[u8]) {
    let [choice, version, split, rest @ ..] = data else { return };
    let (front, data) = rest.split_at(rest.len() * usize::from(*split) / 255);
    let message = Message {
        version: u16::from(*version % 10),
        front: Bytes::copy_from_slice(front),
        data: Bytes::copy_from_slice(data),
        ..Message::default()
    };
    let check = [
        settles::<Command>,
        settles::<CommandAck>,
        settles::<Config>,
        settles::<GetMap>,
        settles::<GetVersion>,
        settles::<GetVersionReply>,
        settles::<Map>,
        settles::<Probe>,
        settles::<Subscribe>,
        settles::<SubscribeAck>,
        settles::<StatFs>,
        settles::<StatFsReply>,
    ];
    check[usize::from(*choice) % check.len()](message);
}

fn settles<B: Body + PartialEq + Debug>(message: Message) {
    let message = Message { kind: B::KIND, ..message };
    if let Ok((body, features)) = B::decode(&message) {
        let again = body.message_like(&message, features);
        let (back, features) = B::decode(&again).expect("what we wrote must decode");
        assert_eq!(back, body);
        assert_eq!(back.message_like(&again, features), again);
    }
}

/// A list of operations on a session: whatever arrives, each request ends at most once, and what waits is limited.
pub(crate) fn session(mut data: &[u8]) {
    const REQUESTS_MAX: usize = 8;
    let config =
        SessionConfig { requests_max: REQUESTS_MAX, fsid: Uuid([7; 16]), ..SessionConfig::default() };
    let mut session = Session::new(config);
    let (mut now, mut open) = (Instant::ZERO, BTreeSet::new());
    let mut online = false;
    while let [op, argument, rest @ ..] = data {
        data = rest;
        match op % 8 {
            0 => {
                online = true;
                session.handle(now, SessionInput::Connected(Features(u64::MAX << (argument % 64))));
            }
            1 => {
                online = false;
                session.handle(now, SessionInput::Disconnected);
            }
            2 => open.extend(session.command(now, vec![*argument], "")),
            3 => open.extend(session.get_version(now, "osdmap")),
            4 => open.extend(session.get_map(now)),
            5 => {
                let subscription = Subscription { start: 0, flags: argument & 1 };
                let name = if argument & 2 == 0 { "monmap" } else { "config" };
                session.subscribe(name, subscription).expect("two are few");
            }
            6 => {
                now = now + Duration::from_secs(u64::from(*argument));
                session.handle_timeout(now);
            }
            _ => {
                let (front, behind) = data.split_at(data.len().min(usize::from(*argument)));
                data = behind;
                session.handle(now, SessionInput::Message(arbitrary(front)));
            }
        }
        while let Some(output) = session.poll_output() {
            match output {
                SessionOutput::Send(_) => assert!(online, "sent without a connection"),
                SessionOutput::Event(
                    Event::Map(Some(tid), _)
                    | Event::Version(tid, _)
                    | Event::Command(tid, _)
                    | Event::TimedOut(tid),
                ) => assert!(open.remove(&tid), "{tid:?} ended without having been asked"),
                SessionOutput::Event(_) => {}
            }
        }
        assert_eq!(session.unanswered(), open.len());
        assert!(open.len() <= REQUESTS_MAX);
    }
}

fn arbitrary(bytes: &[u8]) -> Message {
    let [kind, version, tid, front @ ..] = bytes else { return Message::default() };
    Message {
        kind: MessageType(u16::from(*kind)),
        version: u16::from(*version % 4),
        tid: u64::from(*tid),
        front: Bytes::copy_from_slice(front),
        ..Message::default()
    }
}
