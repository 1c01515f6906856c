//! What the machine says, byte for byte beside what was captured.

use alloc::vec::Vec;

use cuttlebone_wire::{Body, Features, WallTime};

use super::world::*;
use crate::*;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|d| u8::try_from(d).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Captured from a session with 16.2.15.
#[test]
fn a_mkdir_is_as_captured() {
    let mut world = World::open();
    for _ in 0..9 {
        world.rank(RANK, MdsState::ACTIVE, 1);
    }
    let stamp = WallTime { secs: 0x6b00_028f, nanos: 0x3acb_ee11 };
    let call = Call::Mkdir { entry: entry(Ino::ROOT, "t8395051"), mode: 0o755 };
    let caller = Caller { stamp, ..Caller::default() };
    world.client.request(world.now, call, caller).unwrap();
    world.drain();
    let sent = world.sent(RANK);
    let (mut request, _) = ClientRequest::decode(&sent[0]).unwrap();
    // The capture is of a first request, of a client that gave nothing back.
    request.oldest_client_tid = 0;
    request.releases.clear();
    let expected = [
        "0100 0000000000000000 0a000000 02000000 00 00 0000 20120000 00000000 00000000 0000000000000000 ed010000",
        &"00".repeat(52),
        "01 0100000000000000 08000000 7438333935303531 01 0000000000000000 00000000 8f02006b 11eecb3a",
        "00000000 00000000",
    ];
    let expected = unhex(&expected.concat());
    assert_eq!(request.message(Features::PACIFIC, 1).front, expected);
}

/// Captured from a session with 16.2.15.
#[test]
fn a_renewal_is_as_captured() {
    let mut world = World::new(Config::default());
    world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    world.ready(RANK);
    let mut open = ClientSession::new(SessionOp::Open, 0);
    open.features = cuttlebone_wire::FeatureSet::from_bits(0..=18);
    world.sent(RANK);
    world.tell(RANK, &open, 0);
    let sent = world.sent(RANK);
    let [renewal, _] = &sent[..] else { panic!("a renewal, and the request") };
    assert_eq!(renewal.version, 1);
    assert_eq!(renewal.front, unhex("04000000 0100000000000000 0000000000000000 00000000 00000000"));
}

/// Captured from a session with 16.2.15.
#[test]
fn a_lease_is_given_back_as_captured() {
    let revoke = "01 0100 0100000000000000 0200000000000000 feffffffffffffff 03000000 00000000 07000000 74353233313731";
    let mut world = World::open();
    let message = cuttlebone_wire::Message {
        kind: ClientLease::KIND,
        version: 1,
        front: unhex(revoke).into(),
        ..cuttlebone_wire::Message::default()
    };
    world.link(RANK, LinkNews::Message(message));
    let sent = world.sent(RANK);
    let [ack] = &sent[..] else { panic!("one answer") };
    assert_eq!(ack.front, unhex(&revoke.replacen("01", "04", 1)));
}

/// The part of the capture that begins with the root: one capability and its realm.
///
/// Captured from a reconnection with 16.2.15.
#[test]
fn a_reconnect_is_as_captured() {
    let mut world = World::open();
    let realm = SnapRealm { ino: Ino::ROOT, seq: 1, parent_since: 1, ..SnapRealm::default() };
    world.tell(RANK, &ClientSnap::new(SnapOp::Update, alloc::vec![realm]), 0);
    let mut caps = ClientCaps::new(CapOp::Grant, Ino::ROOT);
    caps.cap_id = CapId(1);
    caps.caps = CapBits(0x55);
    world.tell(RANK, &caps, 0);
    world.rank(RANK, MdsState::RECONNECT, 2);
    world.ready(RANK);
    let sent = world.sent(RANK);
    let [reconnect] = &sent[..] else { panic!("one message") };
    assert!(reconnect.front.is_empty());
    let expected = [
        "01000000 0100000000000000 02 01 38000000 00000000 0100000000000000 00000000 55000000",
        "0100000000000000 0000000000000000 08000000 0000000000000000 0000000000000000",
        "01000000 01 01 18000000 0100000000000000 0100000000000000 0000000000000000 00",
    ];
    assert_eq!(reconnect.data, unhex(&expected.concat()));
}

#[test]
fn what_we_open_a_session_with_is_what_we_can_do() {
    let mut world = World::new(Config::default());
    world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    world.ready(RANK);
    let sent = world.sent(RANK);
    let [open] = &sent[..] else { panic!("one message") };
    let (open, _) = ClientSession::decode(open).unwrap();
    assert_eq!((open.op, open.seq), (SessionOp::RequestOpen, 0));
    let claimed: Vec<u16> = open.features.bits().collect();
    assert_eq!(claimed, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17]);
    assert!(!open.metadata.contains_key("timeout") && !open.metadata.contains_key("uuid"));
}
