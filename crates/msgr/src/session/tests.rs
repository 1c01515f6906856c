use cuttlebone_machine::SplitMix;
use cuttlebone_wire::MessageType;

use super::*;

fn message(tid: u64) -> Message {
    Message { kind: MessageType(1), tid, ..Message::default() }
}

fn ident() -> ClientIdent {
    let target: EntityAddr = "v2:10.0.0.1:3300/0".parse().unwrap();
    let addr: EntityAddr = "any:10.0.0.2:0/77".parse().unwrap();
    ClientIdent::between(addr.into(), target, -1, Features::PACIFIC)
}

fn granted(cookie: u64) -> OpeningReply {
    OpeningReply::Granted(ServerIdent {
        addrs: ident().target.into(),
        gid: 0,
        global_seq: 9,
        supported: Features::PACIFIC,
        required: Features::ADDR2,
        lossy: cookie == 0,
        cookie,
    })
}

fn reply(session: &mut Session, reply: &OpeningReply) -> Result<Progress, Error> {
    session.on_reply(reply, &ident(), &mut SplitMix::new(5))
}

/// A lossless session that is open for the first time.
fn open() -> Session {
    let mut session = Session::dialling(Policy::Lossless, Limits::default(), &mut SplitMix::new(1));
    session.begin_attempt();
    assert_eq!(reply(&mut session, &granted(42)), Ok(Progress::Open(Start::Fresh)));
    session
}

fn sent(session: &mut Session) -> alloc::vec::Vec<(u64, u64)> {
    core::iter::from_fn(|| session.pop()).map(|(header, message)| (header.seq, message.tid)).collect()
}

fn reconnect(session: &Session) -> Reconnect {
    match session.opening(&ident()) {
        Opening::Resumed(reconnect) => reconnect,
        Opening::New(_) => panic!("a session that exists is resumed"),
    }
}

fn fresh(session: &Session) -> ClientIdent {
    match session.opening(&ident()) {
        Opening::New(ident) => ident,
        Opening::Resumed(_) => panic!("a session that does not exist is asked for"),
    }
}

#[test]
fn a_reconnect_carries_both_cookies_and_counts_attempts() {
    let mut session = open();
    session.begin_attempt();
    session.begin_attempt();
    let reconnect = reconnect(&session);
    assert_eq!((reconnect.server_cookie, reconnect.connect_seq, reconnect.global_seq), (42, 2, 3));
    assert_ne!(reconnect.client_cookie, 0);
}

#[test]
fn what_was_not_acknowledged_goes_out_again_with_its_number() {
    let mut session = open();
    (1..=5).for_each(|tid| session.push(message(tid)));
    assert_eq!(sent(&mut session), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
    session.on_ack(2).unwrap();
    session.push(message(6));
    session.begin_attempt();
    assert_eq!(reply(&mut session, &OpeningReply::Resumed(3)), Ok(Progress::Open(Start::Resumed)));
    assert_eq!(sent(&mut session), [(4, 4), (5, 5), (6, 6)]);
    session.on_ack(6).unwrap();
    assert!(session.is_drained());
}

#[test]
fn a_replay_that_is_cut_short_starts_over() {
    let mut session = open();
    (1..=3).for_each(|tid| session.push(message(tid)));
    sent(&mut session);
    for _ in 0..3 {
        session.begin_attempt();
        reply(&mut session, &OpeningReply::Resumed(0)).unwrap();
        assert_eq!(session.pop().unwrap().0.seq, 1);
    }
    session.begin_attempt();
    reply(&mut session, &OpeningReply::Resumed(1)).unwrap();
    assert_eq!(sent(&mut session), [(2, 2), (3, 3)]);
}

#[test]
fn an_ack_in_the_middle_of_a_replay_does_not_skip_anything() {
    let mut session = open();
    (1..=4).for_each(|tid| session.push(message(tid)));
    sent(&mut session);
    session.begin_attempt();
    reply(&mut session, &OpeningReply::Resumed(0)).unwrap();
    assert_eq!(session.pop().unwrap().0.seq, 1);
    session.on_ack(1).unwrap();
    assert_eq!(sent(&mut session), [(2, 2), (3, 3), (4, 4)]);
}

#[test]
fn a_full_reset_forgets_everything_and_takes_a_new_cookie() {
    let mut session = open();
    session.push(message(1));
    session.begin_attempt();
    let before = reconnect(&session).client_cookie;
    assert_eq!(reply(&mut session, &OpeningReply::Reset { full: true }), Ok(Progress::Again));
    let cookie = fresh(&session).cookie;
    assert_ne!(cookie, before);
    assert_eq!(reply(&mut session, &granted(43)), Ok(Progress::Forgotten));
    assert!(session.is_drained());
    session.begin_attempt();
    let now = reconnect(&session);
    assert_eq!((now.client_cookie, now.server_cookie, now.connect_seq), (cookie, 43, 1));
}

#[test]
fn a_reset_by_somebody_who_grants_nothing_is_not_believed() {
    let mut session = open();
    (1..=2).for_each(|tid| session.push(message(tid)));
    sent(&mut session);
    session.begin_attempt();
    let before = reconnect(&session);
    // As a daemon does that was started anew at the same port: it knows no session, and it is not who is asked for.
    assert_eq!(reply(&mut session, &OpeningReply::Reset { full: true }), Ok(Progress::Again));
    session.begin_attempt();
    let again = reconnect(&session);
    assert_eq!((again.client_cookie, again.server_cookie), (before.client_cookie, before.server_cookie));
    assert_eq!(reply(&mut session, &OpeningReply::Resumed(1)), Ok(Progress::Open(Start::Resumed)));
    assert_eq!(sent(&mut session), [(2, 2)]);
}

#[test]
fn a_reset_that_is_not_full_keeps_cookie_and_queue_and_numbers_anew() {
    let mut session = open();
    (1..=3).for_each(|tid| session.push(message(tid)));
    sent(&mut session);
    session.on_ack(1).unwrap();
    session.begin_attempt();
    let before = reconnect(&session).client_cookie;
    assert_eq!(reply(&mut session, &OpeningReply::Reset { full: false }), Ok(Progress::Again));
    assert_eq!(fresh(&session).cookie, before);
    assert_eq!(reply(&mut session, &granted(43)), Ok(Progress::Open(Start::Fresh)));
    assert_eq!(sent(&mut session), [(1, 2), (2, 3)]);
}

#[test]
fn retries_raise_the_count_that_the_server_asked_for_and_no_other() {
    let mut session = open();
    session.begin_attempt();
    assert_eq!(reply(&mut session, &OpeningReply::Retry(20)), Ok(Progress::Again));
    assert_eq!((reconnect(&session).connect_seq, reconnect(&session).global_seq), (21, 2));
    assert_eq!(reply(&mut session, &OpeningReply::RetryGlobal(100)), Ok(Progress::Again));
    assert_eq!((reconnect(&session).connect_seq, reconnect(&session).global_seq), (21, 101));
}

#[test]
fn a_server_that_never_settles_is_given_up() {
    let mut session = open();
    session.begin_attempt();
    for _ in 0..Limits::default().opening_retries_max {
        assert_eq!(reply(&mut session, &OpeningReply::Retry(1)), Ok(Progress::Again));
    }
    assert_eq!(reply(&mut session, &OpeningReply::Retry(1)), Err(Error::Unsettled(8)));
}

#[test]
fn an_answer_to_something_else_is_an_error() {
    for wrong in [granted(1), OpeningReply::MissingFeatures(Features(1))] {
        let mut session = open();
        session.begin_attempt();
        assert!(matches!(reply(&mut session, &wrong), Err(Error::Unexpected { .. })));
    }
    for wrong in [
        OpeningReply::Resumed(0),
        OpeningReply::Reset { full: true },
        OpeningReply::Reset { full: false },
        OpeningReply::Retry(1),
        OpeningReply::RetryGlobal(1),
    ] {
        let mut session = Session::dialling(Policy::Lossless, Limits::default(), &mut SplitMix::new(1));
        session.begin_attempt();
        assert!(matches!(reply(&mut session, &wrong), Err(Error::Unexpected { .. })));
    }
}

#[test]
fn the_server_decides_that_a_session_is_lossy() {
    let mut session = Session::dialling(Policy::Lossless, Limits::default(), &mut SplitMix::new(1));
    session.begin_attempt();
    assert_eq!(reply(&mut session, &granted(0)), Ok(Progress::Open(Start::Fresh)));
    assert_eq!(session.policy(), Policy::Lossy);
    session.push(message(1));
    sent(&mut session);
    assert!(session.is_drained());
}

#[test]
fn a_server_that_denies_the_address_or_asks_for_more_is_refused() {
    let mut session = Session::dialling(Policy::Lossy, Limits::default(), &mut SplitMix::new(1));
    session.begin_attempt();
    let OpeningReply::Granted(server) = granted(0) else { unreachable!() };
    let elsewhere = ServerIdent { addrs: EntityAddrs::default(), ..server.clone() };
    let refused = reply(&mut session, &OpeningReply::Granted(elsewhere));
    assert!(matches!(refused, Err(Error::NotItsAddress(_))));
    let picky = ServerIdent { required: Features(1 << 62), ..server.clone() };
    let refused = reply(&mut session, &OpeningReply::Granted(picky));
    assert_eq!(refused, Err(Error::MissingFeatures(Features(1 << 62))));
    let ancient = ServerIdent { supported: Features::empty(), ..server };
    let refused = reply(&mut session, &OpeningReply::Granted(ancient));
    assert_eq!(refused, Err(Error::MissingFeatures(Features::ADDR2)));
}

#[test]
fn old_messages_are_dropped_and_a_gap_is_an_error() {
    let mut session = open();
    let arrive =
        |session: &mut Session, seq| session.on_message(&MessageHeader { seq, ..MessageHeader::default() });
    assert_eq!(arrive(&mut session, 1), Ok(Received::New));
    assert_eq!(arrive(&mut session, 1), Ok(Received::Old));
    assert_eq!(arrive(&mut session, 0), Ok(Received::Old));
    assert_eq!(arrive(&mut session, 3), Err(Error::Gap { expected: 2, got: 3 }));
    assert_eq!(arrive(&mut session, 2), Ok(Received::New));
}

#[test]
fn a_peer_cannot_acknowledge_what_was_not_sent_or_forget_what_it_acknowledged() {
    let mut session = open();
    (1..=3).for_each(|tid| session.push(message(tid)));
    sent(&mut session);
    assert_eq!(session.on_ack(4), Err(Error::AckedUnsent { acked: 4, sent: 3 }));
    session.on_ack(2).unwrap();
    session.begin_attempt();
    let refused = reply(&mut session, &OpeningReply::Resumed(1));
    assert_eq!(refused, Err(Error::Gap { expected: 3, got: 1 }));
}

#[test]
fn an_ack_is_due_once_and_only_if_no_message_carried_it() {
    let mut session = open();
    let header = |seq| MessageHeader { seq, ..MessageHeader::default() };
    session.on_message(&header(1)).unwrap();
    session.on_message(&header(2)).unwrap();
    assert_eq!(session.due_ack(), Some(2));
    assert_eq!(session.due_ack(), None);
    session.on_message(&header(3)).unwrap();
    session.push(message(1));
    assert_eq!(session.pop().unwrap().0.ack_seq, 3);
    assert_eq!(session.due_ack(), None);
}

#[test]
fn the_queue_is_full_at_its_limits_and_has_room_again_after_an_ack() {
    let limits = Limits { queue_messages_max: 2, queue_bytes_max: 100, ..Limits::default() };
    let mut session = Session::accepting(Policy::Lossless, 7, limits, &mut SplitMix::new(1));
    let big = Message { front: bytes::Bytes::from_static(&[0; 200]), ..Message::default() };
    session.push(big);
    assert!(!session.has_room(), "bytes");
    sent(&mut session);
    assert!(!session.has_room(), "sent is not acknowledged");
    session.on_ack(1).unwrap();
    assert!(session.has_room());
    (0..2).for_each(|tid| session.push(message(tid)));
    assert!(!session.has_room(), "messages");
}
