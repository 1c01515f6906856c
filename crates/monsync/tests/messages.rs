//! Bytes on the wire: captured vectors, limits of what can be sent, and what comes back from hostile bytes.

#![expect(clippy::unwrap_used, reason = "test code, outside of test functions too")]

use bytes::Bytes;
use cuttlebone_monsync::v2::{Asked, Cookie, Message, Op, Position, Request};
use cuttlebone_monsync::{AnyMessage, Error, MESSAGE_TYPE, StoreKey, SyncKind, Version, v1};
use cuttlebone_wire::{Decode, Encode, Features, Op as StoreOp, Reader, Transaction};

fn wire(version: u16, front: impl Into<Bytes>) -> cuttlebone_wire::Message {
    let front = front.into();
    cuttlebone_wire::Message {
        kind: MESSAGE_TYPE,
        version,
        compat_version: version,
        front,
        ..Default::default()
    }
}

/// `get_cookie_full` in the shortest form that 16.2.15 accepts.
fn shortest(op: u8, cookie: [u8; 8]) -> Vec<u8> {
    let mut bytes = vec![op, 0, 0, 0];
    bytes.extend(cookie);
    bytes.extend([0; 8 + 4 + 4 + 4 + 1 + 8]);
    bytes.extend([1, 1, 1, 12, 0, 0, 0]);
    bytes.extend([0; 12]);
    bytes
}

#[test]
fn a_request_takes_the_bytes_of_16_2() {
    let message = Request::GetCookie(SyncKind::Full).to_message(Features::PACIFIC);
    assert_eq!((message.kind, message.version, message.compat_version), (MESSAGE_TYPE, 2, 2));
    assert_eq!(message.priority.0, 196);
    let mut expected = vec![1, 0, 0, 0];
    expected.extend([0; 8 + 8 + 4 + 4 + 4]);
    expected.extend([0; 9]);
    expected.extend([1, 1, 1, 40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0]);
    expected.extend([0; 28]);
    assert_eq!(message.front, expected);
    assert_eq!(expected.len(), 88);
}

#[test]
fn a_peer_without_addr2_is_sent_the_legacy_tail() {
    let mut features = Features::PACIFIC;
    features.remove(Features::ADDR2);
    let message = Request::GetChunk(Cookie(0x0300_0001)).to_message(features);
    assert_eq!(message.front.len(), 177);
    let (any, seen) = AnyMessage::from_message(&message).unwrap();
    assert_eq!(any.front(seen), message.front);
}

#[test]
fn the_shortest_form_is_read_and_written_again() {
    let bytes = Bytes::from(shortest(4, [1, 0, 0, 3, 0, 0, 0, 0]));
    assert_eq!(bytes.len(), 60);
    let message = Message::from_message(&wire(2, bytes.clone())).unwrap();
    assert_eq!((message.op, message.cookie), (Op::GetChunk, Cookie(0x0300_0001)));
    assert_eq!(message.to_bytes(Features::PACIFIC), bytes);
}

#[test]
fn the_first_dialect_takes_the_bytes_of_0_61() {
    let start = v1::Message::new(v1::Op::Start).to_message(Features::empty());
    let mut expected = vec![1, 0, 0, 0, 0];
    expected.extend([0; 8 + 4 + 4 + 4 + 4 + 145]);
    assert_eq!((start.version, start.compat_version, start.front.len()), (1, 1, 174));
    assert_eq!(start.front, expected);
    let reply =
        v1::Message::new(v1::Op::ChunkReply).with_flags(v1::Flags::LAST).to_message(Features::empty());
    expected[0] = 8;
    expected[4] = 1;
    assert_eq!(reply.front, expected);
}

#[test]
fn a_checksum_that_means_nothing_comes_back_all_the_same() {
    let message = v1::Message { crc: 0xdead_beef, ..v1::Message::new(v1::Op::Chunk) };
    let bytes = message.to_bytes(Features::empty());
    let decoded = v1::Message::decode(&mut Reader::new(&bytes)).unwrap();
    assert_eq!((decoded.crc, decoded.to_bytes(Features::empty())), (0xdead_beef, bytes));
}

/// Every request, and every reply to every request, for peers of every age.
fn everything_that_can_be_sent() -> Vec<cuttlebone_wire::Message> {
    let mut old = Features::PACIFIC;
    old.remove(Features::ADDR2);
    let numbers = [0, 1, 0x0300_0001, u64::MAX];
    let mut sent = Vec::new();
    for features in [Features::PACIFIC, old, Features::empty()] {
        let mut requests = vec![Request::GetCookie(SyncKind::Full)];
        requests.extend(numbers.map(|n| Request::GetCookie(SyncKind::Recent { after: Version(n) })));
        requests.extend(numbers.map(|n| Request::GetChunk(Cookie(n))));
        for request in requests {
            let message = request.to_message(features);
            let ask = || Message::from_message(&message).unwrap().into_asked().unwrap();
            let replies = match ask() {
                Asked::Cookie(first) => {
                    let Asked::Cookie(second) = ask() else { unreachable!() };
                    vec![first.grant(Cookie(5), Version(9)), second.refuse()]
                }
                Asked::Chunk(first) => {
                    let more = || match ask() {
                        Asked::Chunk(asked) => asked,
                        Asked::Cookie(_) => unreachable!(),
                    };
                    let transaction = Transaction::new(vec![StoreOp::put("paxos", "1", "x")]);
                    vec![
                        first.chunk(Position::Middle, Version(1), transaction),
                        more().chunk(Position::Last, Version(1), Transaction::default()),
                        more().no_cookie(),
                    ]
                }
            };
            sent.extend(replies.into_iter().map(|reply| reply.into_message(features)));
            sent.push(message);
        }
    }
    sent
}

#[test]
fn nothing_that_can_be_sent_carries_an_operation_that_kills_a_monitor() {
    let sent = everything_that_can_be_sent();
    assert!(sent.len() > 80);
    let mut seen = [false; 9];
    for message in &sent {
        let number = usize::from(message.front[0]);
        assert_eq!(message.front[1..4], [0; 3]);
        assert!(matches!(number, 1..=6 | 8), "operation {number}");
        seen[number] = true;
        assert!(Message::from_message(message).unwrap().reply_to.addr.is_blank());
    }
    assert_eq!(seen.iter().filter(|seen| **seen).count(), 7, "the list above misses an operation");
    for op in Op::ALL {
        assert!(matches!(op.number(), 1..=6 | 8));
    }
}

#[test]
fn a_chunk_reply_is_written_without_growing_twice() {
    let request = Request::GetChunk(Cookie(1)).to_message(Features::PACIFIC);
    let Some(Asked::Chunk(asked)) = Message::from_message(&request).unwrap().into_asked() else { panic!() };
    let transaction = Transaction::new(vec![StoreOp::put("osdmap", "full_12", vec![7; 5000])]);
    let reply =
        asked.chunk(Position::Middle, Version(3), transaction.clone()).into_message(Features::PACIFIC);
    let message = Message::from_message(&reply).unwrap();
    assert_eq!(message.last_key, StoreKey::new("osdmap", "full_12"));
    assert_eq!(Transaction::decode(&mut Reader::new(&message.chunk)), Ok(transaction));
}

#[test]
fn unknown_operations_and_foreign_headers_are_errors() {
    for op in [0, 7, 9, 255] {
        assert!(matches!(Message::from_message(&wire(2, shortest(op, [0; 8]))), Err(Error::Malformed(_))));
    }
    let good = || wire(2, shortest(1, [0; 8]));
    assert!(Message::from_message(&good()).is_ok());
    let newer = cuttlebone_wire::Message { version: 3, ..good() };
    assert!(Message::from_message(&newer).is_ok());
    for bad in [
        cuttlebone_wire::Message { kind: cuttlebone_wire::MessageType(67), ..good() },
        cuttlebone_wire::Message { version: 3, compat_version: 3, ..good() },
        cuttlebone_wire::Message { version: 1, compat_version: 1, ..good() },
        cuttlebone_wire::Message { version: 0, compat_version: 0, ..good() },
    ] {
        assert!(Message::from_message(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn no_prefix_of_a_message_decodes() {
    for message in everything_that_can_be_sent() {
        for end in 0..message.front.len() {
            assert!(Message::from_message(&wire(2, message.front.slice(..end))).is_err());
        }
    }
}

proptest::proptest! {
    #[test]
    fn flipped_bits_never_panic_and_never_change_what_is_written_again(
        index in 0_usize..1000, bit in 0_u8..8, version in 1_u16..3,
    ) {
        for message in everything_that_can_be_sent().into_iter().step_by(7) {
            let mut front = message.front.to_vec();
            let at = index % front.len();
            front[at] ^= 1 << bit;
            let front = Bytes::from(front);
            if let Ok((any, features)) = AnyMessage::from_message(&wire(version, front.clone())) {
                let again = any.front(features);
                let (back, _) = AnyMessage::from_message(&wire(version, again)).unwrap();
                proptest::prop_assert_eq!(back, any);
            }
        }
    }
}
