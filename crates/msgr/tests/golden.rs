//! Bytes captured from 16.2.15 and from a client that it accepted: they read as what they are, and we write the
//! same. Addresses are on loopback, authentication is AUTH_NONE.

use bytes::{Bytes, BytesMut};
use cuttlebone_msgr::{
    AuthFrame, AuthMethod, Banner, ClientIdent, Control, Frame, FrameDecoder, Handshake, HandshakeEvent,
    Identity, Limits, MessageHeader, Mode, Opening, OpeningReply, ServerIdent, Signatures, Tag, encode_frame,
};
use cuttlebone_wire::{
    Decode, Encode, EntityAddr, EntityAddrs, Features, MessageType, Priority, Reader, WallTime,
};

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> =
        text.bytes().filter(u8::is_ascii_hexdigit).map(|digit| digit.to_ascii_lowercase()).collect();
    let value = |digit: u8| if digit < b'a' { digit - b'0' } else { digit - b'a' + 10 };
    digits.chunks(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

const UNUSED: &str = "000000000000000000000000000000000000 0000";

fn preamble(tag_count: &str, segments: &str, crc: &str) -> String {
    let unused = &UNUSED.replace(' ', "")[segments.replace(' ', "").len() - 12..];
    format!("{tag_count}{segments}{unused}{crc}")
}

fn frame(bytes: &Bytes) -> Frame {
    let mut decoder = FrameDecoder::new(Limits::default());
    decoder.allow_messages();
    let mut inbound = BytesMut::from(&bytes[..]);
    let frame = decoder.decode(&mut inbound).expect("a good frame").expect("a whole frame");
    assert!(inbound.is_empty());
    assert_eq!(frame.raw, bytes);
    frame
}

fn control(bytes: &Bytes) -> Control {
    Control::read(&frame(bytes)).expect("a good payload")
}

fn mon_addr() -> EntityAddr {
    "v2:127.0.0.1:3300/0".parse().expect("an address")
}

const MON_ADDR: &str = "01 01 01 1c000000 02000000 00000000 10000000 0200 0ce4 7f000001 0000000000000000";

fn client_hello() -> Bytes {
    hex(&format!("{} 08 {MON_ADDR} 7d883e07", preamble("0101", "24000000 0800", "3fbd6b06")))
}

fn client_request() -> Bytes {
    hex(&format!(
        "{} 01000000 02000000 01000000 02000000 16000000 0a 08000000 05000000 61646d696e 0000000000000000 a39ed582",
        preamble("0201", "2a000000 0800", "3918c660")
    ))
}

fn auth_done() -> Bytes {
    hex(&format!(
        "{} 8a10000000000000 01000000 00000000 d6f91549",
        preamble("0601", "10000000 0800", "5b0630a6")
    ))
}

fn signature() -> Bytes {
    hex(&format!("{} {} 55c96e75", preamble("0701", "20000000 0800", "a80c9872"), "00".repeat(32)))
}

fn client_ident() -> Bytes {
    hex(&format!(
        "{} 02 01000000 01 01 01 1c000000 02000000 44332211 10000000 0200 0000 7f000001 0000000000000000 \
         {MON_ADDR} 8a10000000000000 0100000000000000 fffffdffbdcf013f 0000000000000000 \
         0100000000000000 0000000000000000 c49a76cc",
        preamble("0801", "7b000000 0800", "738a9895")
    ))
}

#[test]
fn the_banner_has_the_bytes_that_real_peers_accept() {
    let captured = hex("63657068 2076320a 1000 0100000000000000 0000000000000000");
    let (banner, raw) = Banner::take(&mut BytesMut::from(&captured[..])).unwrap().unwrap();
    assert_eq!((banner, raw), (Banner { supported: 1, required: 0 }, captured.clone()));
    assert_eq!(banner.to_bytes(), captured);
}

#[test]
fn a_whole_handshake_of_a_client_is_written_byte_by_byte_as_captured() {
    let mut client = Handshake::dialling(Identity::Client, mon_addr(), Limits::default());
    let mut server = Handshake::accepting(Identity::Monitor, mon_addr(), Limits::default());
    assert_eq!(client.poll_transmit(), Some(Banner::OURS.to_bytes()));
    let mut inbound = BytesMut::from(&server.poll_transmit().unwrap()[..]);
    assert_eq!(client.handle_bytes(&mut inbound), Ok(None));
    assert_eq!(client.poll_transmit(), Some(client_hello()));

    let mut inbound = BytesMut::from(&Banner::OURS.to_bytes()[..]);
    assert_eq!(server.handle_bytes(&mut inbound), Ok(None));
    let mut inbound = BytesMut::from(&server.poll_transmit().unwrap()[..]);
    assert!(matches!(client.handle_bytes(&mut inbound), Ok(Some(HandshakeEvent::Hello(_)))));
    let payload = hex("0a 08000000 05000000 61646d696e 0000000000000000");
    let modes = vec![Mode::CRC, Mode::SECURE];
    client.send_auth(&AuthFrame::Request { method: AuthMethod(1), modes, payload }).unwrap();
    assert_eq!(client.poll_transmit(), Some(client_request()));
    let mut inbound = BytesMut::from(&auth_done()[..]);
    let done = AuthFrame::Done { global_id: 0x108a, mode: Mode::CRC, payload: Bytes::new() };
    assert_eq!(client.handle_bytes(&mut inbound), Ok(Some(HandshakeEvent::Auth(done.clone()))));
    assert_eq!(done.to_bytes(), auth_done());
    client.sign(Signatures { ours: [0; 32], theirs: [0; 32] }).unwrap();
    assert_eq!(client.poll_transmit(), Some(signature()));
    let mut inbound = BytesMut::from(&signature()[..]);
    assert_eq!(client.handle_bytes(&mut inbound), Ok(Some(HandshakeEvent::Signed)));
}

#[test]
fn a_client_ident_reads_and_writes_as_captured() {
    let Control::Opening(opening) = control(&client_ident()) else { panic!("an opening") };
    let expected = ClientIdent {
        gid: 0x108a,
        global_seq: 1,
        required: Features::empty(),
        lossy: true,
        ..ClientIdent::between(
            EntityAddr { nonce: 0x1122_3344, ..EntityAddr::v2("127.0.0.1:0".parse().unwrap()) }.into(),
            mon_addr(),
            0,
            Features::PACIFIC,
        )
    };
    assert_eq!(opening, Opening::New(expected));
    assert_eq!(opening.to_bytes(), client_ident());
}

#[test]
fn a_server_ident_of_a_monitor_carries_the_checksum_that_was_captured() {
    let ident = ServerIdent {
        addrs: EntityAddrs(vec![mon_addr(), "v1:127.0.0.1:6789/0".parse().unwrap()]),
        gid: 0,
        global_seq: 0x8b,
        supported: Features::PACIFIC,
        required: Features(0x010c_0200_0204_0000),
        lossy: true,
        cookie: 0,
    };
    let reply = OpeningReply::Granted(ident);
    let bytes = reply.to_bytes();
    assert_eq!(control(&bytes), Control::Reply(reply));
    assert_eq!(bytes.len(), 32 + 5 + 2 * 35 + 48 + 4);
}

#[test]
fn a_client_with_an_ipv6_address_reads_as_captured_from_the_real_command() {
    let addrs = hex("02 01000000 01 01 01 28000000 03000000 e20febae 1c000000 0a00 0000 00000000 \
         00000000000000000000000000000001 00000000");
    let addrs = EntityAddrs::decode(&mut Reader::new(&addrs)).unwrap();
    assert_eq!(addrs.to_string(), "any:[::1]:0/2934640610");
}

#[test]
fn a_message_with_an_empty_front_is_one_segment_and_has_no_epilogue() {
    let captured = hex(&format!(
        "{} 0100000000000000 0000000000000000 0500 7f00 0000 00000000 0000 0000000000000000 00 0000 0000 a65c99d8",
        preamble("1101", "29000000 0800", "af9604f0")
    ));
    let frame = frame(&captured);
    let header = MessageHeader::decode(&mut Reader::new(frame.payload())).unwrap();
    let expected =
        MessageHeader { seq: 1, kind: MessageType(5), priority: Priority(127), ..MessageHeader::default() };
    assert_eq!(header, expected);
    assert_eq!(written(Tag::Message, frame.segments), captured);
}

/// The front of a monitor map, as a monitor answered.
const MON_MAP: &str = "c9000000 09 06 c3000000 a0a0a0a0000040008000000000000001 01000000 19feff6a e0a2ce37 19feff6a e0a2ce37 \
    01 01 08000000 ff00000000000000 01 01 08000000 0000000000000000 01000000 01000000 61 05 01 58000000 \
    01000000 61 02 02000000 01 01 01 1c000000 02000000 00000000 10000000 0200 0ce4 7f000001 0000000000000000 \
    01 01 01 1c000000 01000000 00000000 10000000 0200 1a85 7f000001 0000000000000000 0000 0000 00000000 \
    01000000 01000000 61 10 00000000 01 00000000 00 00000000 00000000";

#[test]
fn a_message_with_a_front_has_its_checksum_in_the_epilogue() {
    let front = hex(MON_MAP);
    assert_eq!(front.len(), 205);
    let captured = hex(&format!(
        "{} 0100000000000000 0000000000000000 0400 c400 0100 00000000 0000 0100000000000000 03 0100 0000 c7f01883 \
         {MON_MAP} 0e 16973825 00000000 00000000",
        preamble("1102", "29000000 0800 cd000000 0800", "ce84b5fd")
    ));
    let frame = frame(&captured);
    assert_eq!(frame.segments[1], front);
    let header = MessageHeader::decode(&mut Reader::new(frame.payload())).unwrap();
    assert_eq!((header.seq, header.ack_seq, header.flags), (1, 1, 3));
    assert_eq!(header.to_bytes(Features::PACIFIC), frame.segments[0]);
    assert_eq!(written(Tag::Message, frame.segments), captured);
}

#[test]
fn acks_and_keepalives_have_the_captured_bytes() {
    let ack = hex(&format!("{} 0100000000000000 5230eb3a", preamble("1401", "08000000 0800", "7374bc5b")));
    assert_eq!(control(&ack), Control::Ack(1));
    assert_eq!(Control::ack(1), ack);
    let stamp = WallTime { secs: 1234, nanos: 5678 };
    let keepalive = Control::keepalive_ack(stamp);
    assert_eq!(frame(&keepalive).payload(), &hex("d2040000 2e160000"));
    assert_eq!(control(&Control::keepalive(stamp)), Control::Keepalive(stamp));
    assert_eq!(control(&keepalive), Control::KeepaliveAck(stamp));
}

/// The parts of a frame, one behind the other.
fn written(tag: Tag, segments: [Bytes; 4]) -> Bytes {
    let mut bytes = Vec::new();
    encode_frame(tag, segments, |part| bytes.extend_from_slice(&part));
    bytes.into()
}
