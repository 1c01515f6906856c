use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use core::fmt::Write as _;

use cuttlebone_wire::{EntityType, WallTime};

use super::*;
use crate::{AuthMethod, ClientIdent, Mode, Opening, OpeningReply, encode_control};
use cuttlebone_wire::Features;

fn addr() -> EntityAddr {
    "v2:127.0.0.1:3300/0".parse().unwrap()
}

/// One frame of every kind, well formed.
fn frames() -> [(Tag, Bytes); 20] {
    let request = AuthFrame::Request { method: AuthMethod(1), modes: vec![Mode::CRC], payload: Bytes::new() };
    let bad = AuthFrame::BadMethod { method: AuthMethod(1), result: -95, allowed: vec![], modes: vec![] };
    let done = AuthFrame::Done { global_id: 1, mode: Mode::CRC, payload: Bytes::new() };
    let ident = ClientIdent::between(addr().into(), addr(), 1, Features::PACIFIC);
    let reconnect = crate::Reconnect {
        addrs: addr().into(),
        client_cookie: 1,
        server_cookie: 2,
        global_seq: 1,
        connect_seq: 1,
        msg_seq: 0,
    };
    let granted = crate::ServerIdent {
        addrs: addr().into(),
        gid: 0,
        global_seq: 1,
        supported: Features::PACIFIC,
        required: Features::empty(),
        lossy: false,
        cookie: 1,
    };
    [
        (Tag::Hello, Hello::frame(Identity::Monitor, &addr())),
        (Tag::AuthRequest, request.to_bytes()),
        (Tag::AuthBadMethod, bad.to_bytes()),
        (Tag::AuthReplyMore, AuthFrame::ReplyMore(Bytes::new()).to_bytes()),
        (Tag::AuthRequestMore, AuthFrame::RequestMore(Bytes::new()).to_bytes()),
        (Tag::AuthDone, done.to_bytes()),
        (Tag::AuthSignature, Control::signature([0; 32])),
        (Tag::ClientIdent, Opening::New(ident).to_bytes()),
        (Tag::ServerIdent, OpeningReply::Granted(granted).to_bytes()),
        (Tag::IdentMissingFeatures, OpeningReply::MissingFeatures(Features(1)).to_bytes()),
        (Tag::SessionReconnect, Opening::Resumed(reconnect).to_bytes()),
        (Tag::SessionReset, OpeningReply::Reset { full: true }.to_bytes()),
        (Tag::SessionRetry, OpeningReply::Retry(1).to_bytes()),
        (Tag::SessionRetryGlobal, OpeningReply::RetryGlobal(1).to_bytes()),
        (Tag::SessionReconnectOk, OpeningReply::Resumed(1).to_bytes()),
        (Tag::Wait, OpeningReply::Wait.to_bytes()),
        (Tag::Message, encode_control(Tag::Message, |w| w.zeros(41))),
        (Tag::Keepalive2, Control::keepalive(WallTime::default())),
        (Tag::Keepalive2Ack, Control::keepalive_ack(WallTime::default())),
        (Tag::Ack, Control::ack(0)),
    ]
}

/// A handshake that has come as far as `stage` by legal steps.
fn at(side: Side, stage: Stage) -> Handshake {
    let mut handshake = match side {
        Side::Dialling => Handshake::dialling(Identity::Client, addr(), Limits::default()),
        Side::Accepting => Handshake::accepting(Identity::Monitor, addr(), Limits::default()),
    };
    let script: &[&dyn Fn(&mut Handshake)] = match side {
        Side::Dialling => &[
            &|h| receive(h, &Banner::OURS.to_bytes()),
            &|h| receive(h, &frames()[0].1),
            &|h| {
                let request = AuthFrame::RequestMore(Bytes::new());
                h.send_auth(&request).unwrap();
            },
            &|h| receive(h, &frames()[5].1),
            &|h| h.sign(Signatures { ours: [0; 32], theirs: [0; 32] }).unwrap(),
            &|h| receive(h, &frames()[6].1),
        ],
        Side::Accepting => &[
            &|h| receive(h, &Banner::OURS.to_bytes()),
            &|h| receive(h, &frames()[0].1),
            &|h| receive(h, &frames()[1].1),
            &|h| {
                let done = AuthFrame::Done { global_id: 1, mode: Mode::CRC, payload: Bytes::new() };
                h.send_auth(&done).unwrap();
            },
            &|h| h.sign(Signatures { ours: [0; 32], theirs: [0; 32] }).unwrap(),
            &|h| receive(h, &frames()[6].1),
        ],
    };
    for step in script {
        if handshake.stage == stage {
            return handshake;
        }
        step(&mut handshake);
    }
    assert_eq!(handshake.stage, stage);
    handshake
}

fn receive(handshake: &mut Handshake, bytes: &Bytes) {
    handshake.handle_bytes(&mut BytesMut::from(&bytes[..])).unwrap();
}

const STAGES: [Stage; 7] = [
    Stage::Banner,
    Stage::Hello,
    Stage::Ours,
    Stage::Theirs,
    Stage::Concluded,
    Stage::Signature,
    Stage::Done,
];

/// What a handshake at `stage` makes of a frame, and where it stands then.
fn outcome(side: Side, stage: Stage, bytes: &Bytes) -> String {
    let mut handshake = at(side, stage);
    let mut inbound = BytesMut::from(&bytes[..]);
    let answer = match handshake.handle_bytes(&mut inbound) {
        Ok(None) if !inbound.is_empty() => "left for later",
        Ok(None) => "taken",
        Ok(Some(_)) => "event",
        Err(Error::NotMessenger2) => return "not a banner".into(),
        Err(Error::Unexpected { .. }) => return "refused".into(),
        Err(_) => return "error".into(),
    };
    alloc::format!("{answer} -> {:?}", handshake.stage)
}

/// Every stage × every frame, as a text that is reviewed.
#[test]
fn every_stage_knows_what_to_make_of_every_frame() {
    let mut table = String::new();
    for (side, stage) in
        [Side::Dialling, Side::Accepting].into_iter().flat_map(|side| STAGES.map(|stage| (side, stage)))
    {
        let mut outcomes = BTreeMap::<String, Vec<&str>>::new();
        for (tag, bytes) in frames() {
            outcomes.entry(outcome(side, stage, &bytes)).or_default().push(tag.name());
        }
        for (outcome, tags) in outcomes {
            let tags = match tags.len() {
                20 => "every frame".into(),
                10.. => "every other frame".into(),
                _ => tags.join(", "),
            };
            writeln!(table, "{side:?} {stage:?}: {tags}: {outcome}").unwrap();
        }
    }
    let expected = include_str!("../../tests/handshake_table.txt");
    assert_eq!(table, expected, "the table has changed:\n{table}");
}

/// A keyed checksum in place of a real signature: enough to see that both sides sign the same bytes.
fn toy_signature(transcript: &[u8]) -> [u8; 32] {
    let mut signature = [0_u8; 32];
    for (index, byte) in transcript.iter().enumerate() {
        let slot = &mut signature[index % 32];
        *slot = slot.rotate_left(3) ^ byte ^ 0x5a;
    }
    signature
}

#[test]
fn both_sides_sign_what_the_other_has_sent() {
    let mut client = Handshake::dialling(Identity::Client, addr(), Limits::default());
    let mut server = Handshake::accepting(Identity::Monitor, addr(), Limits::default());
    let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
    let mut signed = 0;
    for _ in 0..20 {
        while let Some(bytes) = client.poll_transmit() {
            to_server.extend_from_slice(&bytes);
        }
        while let Some(bytes) = server.poll_transmit() {
            to_client.extend_from_slice(&bytes);
        }
        for (side, inbound) in [(&mut client, &mut to_client), (&mut server, &mut to_server)] {
            while let Some(event) = side.handle_bytes(inbound).unwrap() {
                match event {
                    HandshakeEvent::Hello(hello) if hello.entity_type == EntityType::MON => {
                        let payload = Bytes::from_static(b"claim");
                        let modes = vec![Mode::CRC];
                        side.send_auth(&AuthFrame::Request { method: AuthMethod(2), modes, payload })
                            .unwrap();
                    }
                    HandshakeEvent::Hello(_) => {}
                    HandshakeEvent::Auth(AuthFrame::Request { .. }) => {
                        side.send_auth(&AuthFrame::ReplyMore(Bytes::from_static(b"question"))).unwrap();
                    }
                    HandshakeEvent::Auth(AuthFrame::ReplyMore(_)) => {
                        side.send_auth(&AuthFrame::RequestMore(Bytes::from_static(b"answer"))).unwrap();
                    }
                    HandshakeEvent::Auth(AuthFrame::RequestMore(_)) => {
                        let done = AuthFrame::Done { global_id: 1, mode: Mode::CRC, payload: Bytes::new() };
                        side.send_auth(&done).unwrap();
                        sign(side);
                    }
                    HandshakeEvent::Auth(AuthFrame::Done { .. }) => sign(side),
                    HandshakeEvent::Auth(AuthFrame::BadMethod { .. }) => panic!("nobody refuses"),
                    HandshakeEvent::Signed => signed += 1,
                }
            }
        }
    }
    assert_eq!(signed, 2);
}

fn sign(side: &mut Handshake) {
    assert!(side.received().starts_with(b"ceph v2\n") && side.sent().starts_with(b"ceph v2\n"));
    let signatures = Signatures { ours: toy_signature(side.received()), theirs: toy_signature(side.sent()) };
    side.sign(signatures).unwrap();
}

#[test]
fn a_wrong_signature_ends_the_handshake() {
    let mut handshake = at(Side::Dialling, Stage::Concluded);
    handshake.sign(Signatures { ours: [0; 32], theirs: [1; 32] }).unwrap();
    let mut inbound = BytesMut::from(&frames()[6].1[..]);
    assert_eq!(handshake.handle_bytes(&mut inbound), Err(Error::Signature));
}

#[test]
fn a_handshake_that_grows_without_end_is_given_up() {
    let limits = Limits { handshake_bytes_max: 10_000, ..Limits::default() };
    let mut handshake = Handshake::dialling(Identity::Client, addr(), limits);
    receive(&mut handshake, &Banner::OURS.to_bytes());
    receive(&mut handshake, &frames()[0].1);
    let question = AuthFrame::ReplyMore(Bytes::from(vec![0; 1000])).to_bytes();
    let error = loop {
        handshake.send_auth(&AuthFrame::RequestMore(Bytes::new())).unwrap();
        if let Err(error) = handshake.handle_bytes(&mut BytesMut::from(&question[..])) {
            break error;
        }
    };
    assert!(matches!(error, Error::TooLarge { max: 10_000, .. }));
}

#[test]
fn a_side_cannot_speak_out_of_turn_or_for_the_other() {
    let done = AuthFrame::Done { global_id: 1, mode: Mode::CRC, payload: Bytes::new() };
    assert!(at(Side::Dialling, Stage::Ours).send_auth(&done).is_err());
    assert!(at(Side::Accepting, Stage::Hello).send_auth(&done).is_err());
    assert!(at(Side::Accepting, Stage::Ours).sign(Signatures { ours: [0; 32], theirs: [0; 32] }).is_err());
}

#[test]
fn nothing_that_we_can_say_is_a_hello_of_an_osd_or_a_metadata_server() {
    // Exhaustive: a new identity does not compile here until somebody has thought about it.
    for identity in [Identity::Client, Identity::Monitor] {
        let expected = match identity {
            Identity::Client => EntityType::CLIENT,
            Identity::Monitor => EntityType::MON,
        };
        let frame = FrameDecoder::new(Limits::default())
            .decode(&mut BytesMut::from(&Hello::frame(identity, &addr())[..]))
            .unwrap()
            .unwrap();
        let Ok(Control::Hello(hello)) = Control::read(&frame) else { panic!("a HELLO") };
        assert_eq!(hello.entity_type, expected);
        assert_ne!(hello.entity_type, EntityType::OSD);
    }
}
