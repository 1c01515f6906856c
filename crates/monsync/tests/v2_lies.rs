//! Providers that lie: each lie is a typed error, and the target never says that it is complete.

#![expect(clippy::unwrap_used, reason = "test code, outside of test functions too")]

mod model;

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use cuttlebone_machine::{Instant, Machine, SplitMix};
use cuttlebone_monsync::v2::{
    Cookie, Message, Op, PeerId, Provider, ProviderConfig, ProviderInput, ProviderOutput, Requester,
    RequesterConfig, RequesterInput, RequesterOutput,
};
use cuttlebone_monsync::{Budget, ChunkError, Error, MESSAGE_TYPE, StoreKey, SyncKind, Version};
use cuttlebone_wire::{Decode, Encode, EntityInst, Features, Op as StoreOp, Reader, Transaction};
use model::{Source, Status, Target};

/// Pulls a full copy of 30 versions while `lie` may change each answer, and says how it ended.
fn pull(config: RequesterConfig, mut lie: impl FnMut(usize, &mut Message)) -> Error {
    let budget = Budget { bytes: 300, keys: 4 };
    let mut provider =
        Provider::new(ProviderConfig { budget, ..ProviderConfig::default() }, SplitMix::new(3));
    let mut source = Source::new(30, &mut SplitMix::new(1));
    let mut target = Target::default();
    let mut requester = Requester::new(Instant::ZERO, config, SyncKind::Full);
    let mut inputs = VecDeque::new();
    let mut answers = 0;
    for _ in 0..5000 {
        while let Some(output) = requester.poll_output() {
            match output {
                RequesterOutput::Send(request) => {
                    let message = request.to_message(Features::PACIFIC);
                    provider.handle(Instant::ZERO, ProviderInput::Message { from: PeerId(1), message });
                }
                RequesterOutput::Apply { op, effect } => {
                    target.apply(&effect);
                    inputs.push_back(RequesterInput::Applied(op));
                }
                RequesterOutput::Started { .. } | RequesterOutput::Progress(_) => {}
                RequesterOutput::Done(summary) => panic!("a lie was believed: {summary:?}"),
                RequesterOutput::Failed(error) => {
                    assert!(!matches!(target.status, Status::Complete(_)));
                    assert_eq!((requester.poll_output(), requester.poll_timeout()), (None, None));
                    return error;
                }
            }
        }
        while let Some(output) = provider.poll_output() {
            match output {
                ProviderOutput::Store(ask) => {
                    if let Some(answer) = source.ask(ask) {
                        provider.handle(Instant::ZERO, ProviderInput::Store(answer));
                    }
                }
                ProviderOutput::Send { reply, .. } => {
                    let reply = reply.into_message(Features::PACIFIC);
                    let mut message = Message::from_message(&reply).unwrap();
                    lie(answers, &mut message);
                    answers += 1;
                    let front = message.to_bytes(Features::PACIFIC);
                    inputs.push_back(RequesterInput::Message(cuttlebone_wire::Message { front, ..reply }));
                }
                ProviderOutput::Dropped { why, .. } => panic!("{why:?}"),
            }
        }
        if let Some(input) = inputs.pop_front() {
            requester.handle(Instant::ZERO, input);
        }
    }
    panic!("no end: {}", requester.state_name());
}

/// What is wrong with a copy whose third answer, a chunk, was changed.
fn third(change: impl Fn(&mut Message)) -> Error {
    pull(RequesterConfig::default(), |answer, message| {
        if answer == 3 {
            assert_eq!(message.op, Op::Chunk);
            change(message);
        }
    })
}

fn rewrite(message: &mut Message, change: impl FnOnce(&mut Vec<StoreOp>)) {
    let mut transaction = Transaction::decode(&mut Reader::new(&message.chunk)).unwrap();
    change(&mut transaction.ops);
    message.chunk = Transaction::new(transaction.ops).to_bytes(Features::PACIFIC);
}

#[test]
fn an_answer_for_another_cookie_is_refused() {
    let error = third(|message| message.cookie.0 ^= 1);
    assert!(matches!(error, Error::WrongCookie { .. }), "{error}");
}

#[test]
fn a_cookie_of_zero_is_refused() {
    let error = pull(RequesterConfig::default(), |_, message| message.cookie = Cookie(0));
    assert!(matches!(error, Error::Unexpected { got: "cookie 0", .. }), "{error}");
}

#[test]
fn a_second_cookie_is_refused() {
    let error = third(|message| message.op = Op::Cookie);
    assert!(matches!(error, Error::Unexpected { got: "cookie", .. }), "{error}");
}

#[test]
fn a_copy_that_the_provider_forgets_is_lost() {
    assert_eq!(third(|message| message.op = Op::NoCookie), Error::CookieLost);
}

#[test]
fn a_version_that_is_skipped_is_a_gap() {
    let error = third(|message| message.last_committed = Version(31));
    assert_eq!(error, Error::Chunk(ChunkError::Gap { expected: Version(31) }));
    let error = third(|message| message.last_committed = Version(u64::MAX));
    assert_eq!(error, Error::Chunk(ChunkError::Gap { expected: Version(31) }));
}

#[test]
fn a_last_committed_that_goes_back_is_refused() {
    let error = third(|message| message.last_committed = Version(29));
    assert_eq!(error, Error::Chunk(ChunkError::Backwards { from: Version(30), to: Version(29) }));
}

#[test]
fn a_copy_that_ends_before_the_version_it_starts_from_is_a_gap() {
    let error = third(|message| message.op = Op::LastChunk);
    assert_eq!(error, Error::Chunk(ChunkError::Gap { expected: Version(30) }));
}

#[test]
fn a_truncated_transaction_is_malformed() {
    let error = third(|message| message.chunk = message.chunk.slice(..message.chunk.len() - 1));
    assert!(matches!(error, Error::Chunk(ChunkError::Malformed(_))), "{error}");
    let error = third(|message| message.chunk = Bytes::new());
    assert!(matches!(error, Error::Chunk(ChunkError::Malformed(_))), "{error}");
}

#[test]
fn bytes_behind_a_transaction_are_malformed() {
    let error = third(|message| message.chunk = [&message.chunk[..], b"x"].concat().into());
    assert!(matches!(error, Error::Chunk(ChunkError::Malformed(_))), "{error}");
}

#[test]
fn a_count_that_promises_four_billion_operations_reserves_nothing() {
    let error = third(|message| {
        let mut bytes = message.chunk.to_vec();
        bytes[6..10].fill(0xff);
        message.chunk = bytes.into();
    });
    assert!(matches!(error, Error::Chunk(ChunkError::Malformed(_))), "{error}");
}

#[test]
fn an_operation_that_nobody_knows_is_malformed() {
    let error = third(|message| {
        let mut bytes = message.chunk.to_vec();
        bytes[16] = 9;
        message.chunk = bytes.into();
    });
    assert!(matches!(error, Error::Chunk(ChunkError::Malformed(_))), "{error}");
}

#[test]
fn an_operation_that_is_no_put_is_refused() {
    let error = third(|message| rewrite(message, |ops| ops.push(StoreOp::erase("zz", "z"))));
    assert_eq!(error, Error::Chunk(ChunkError::NotAPut));
}

#[test]
fn keys_that_no_store_can_hold_are_refused() {
    for prefix in ["", "a\0b"] {
        let error = third(|message| rewrite(message, |ops| ops.push(StoreOp::put(prefix, "z", "v"))));
        assert_eq!(error, Error::Chunk(ChunkError::BadKey));
    }
}

#[test]
fn a_chunk_that_comes_twice_is_out_of_order() {
    let mut earlier = None;
    let error = pull(RequesterConfig::default(), |answer, message| match answer {
        2 => earlier = Some(message.chunk.clone()),
        3 => message.chunk = earlier.clone().unwrap(),
        _ => {}
    });
    assert_eq!(error, Error::Chunk(ChunkError::OutOfOrder));
}

#[test]
fn versions_beyond_last_committed_are_refused() {
    let error = third(|message| rewrite(message, |ops| ops.push(StoreOp::put("paxos", "77", "v"))));
    let expected = ChunkError::Beyond { version: Version(77), last_committed: Version(30) };
    assert_eq!(error, Error::Chunk(expected));
}

#[test]
fn endless_empty_chunks_end() {
    let error = pull(RequesterConfig::default(), |answer, message| {
        if answer > 0 {
            message.op = Op::Chunk;
            message.chunk = Transaction::default().to_bytes(Features::PACIFIC);
        }
    });
    assert_eq!(error, Error::Chunk(ChunkError::Empty { chunks: 17 }));
}

#[test]
fn chunks_and_copies_above_their_limits_are_refused() {
    let config = RequesterConfig { chunk_bytes_max: 100, ..RequesterConfig::default() };
    let error = pull(config, |_, _| {});
    assert!(matches!(error, Error::Chunk(ChunkError::TooLarge { max: 100, .. })), "{error}");
    let config = RequesterConfig { copy_bytes_max: 1000, ..RequesterConfig::default() };
    let error = pull(config, |_, _| {});
    assert!(matches!(error, Error::Chunk(ChunkError::TooLarge { max: 1000, .. })), "{error}");
}

#[test]
fn bytes_that_are_no_message_are_malformed() {
    let mut requester = Requester::new(Instant::ZERO, RequesterConfig::default(), SyncKind::Full);
    while requester.poll_output().is_some() {}
    let front = Bytes::from_static(&[3, 0, 0, 0, 1]);
    let message = cuttlebone_wire::Message {
        kind: MESSAGE_TYPE,
        version: 2,
        compat_version: 2,
        front,
        ..Default::default()
    };
    requester.handle(Instant::ZERO, RequesterInput::Message(message));
    assert!(matches!(requester.poll_output(), Some(RequesterOutput::Failed(Error::Malformed(_)))));
}

#[test]
fn a_connection_that_comes_back_again_and_again_and_brings_nothing_ends() {
    let config = RequesterConfig { idle_timeout: Duration::from_secs(60), ..RequesterConfig::default() };
    let mut requester = Requester::new(Instant::ZERO, config, SyncKind::Full);
    while requester.poll_output().is_some() {}
    let cookie = Message {
        op: Op::Cookie,
        cookie: Cookie(1),
        last_committed: Version(1),
        last_key: StoreKey::default(),
        chunk: Bytes::new(),
        reply_to: EntityInst::default(),
    };
    let message = cuttlebone_wire::Message {
        kind: MESSAGE_TYPE,
        version: 2,
        compat_version: 2,
        front: cookie.to_bytes(Features::PACIFIC),
        ..Default::default()
    };
    requester.handle(Instant::ZERO, RequesterInput::Message(message));
    while requester.poll_output().is_some() {}
    for second in (0..120).step_by(10) {
        let now = Instant::ZERO + Duration::from_secs(second);
        requester.handle(now, RequesterInput::Disconnected);
        requester.handle(now + Duration::from_secs(1), RequesterInput::Resumed);
        let due = requester.poll_timeout().filter(|due| *due <= now + Duration::from_secs(10));
        let Some(due) = due else { continue };
        requester.handle_timeout(due);
        let error = core::iter::from_fn(|| requester.poll_output()).last();
        assert!(matches!(error, Some(RequesterOutput::Failed(Error::TimedOut { .. }))), "{error:?}");
        return;
    }
    panic!("two minutes without a chunk, and still {}", requester.state_name());
}
