//! A client's session: what is sent, what is matched, what is given up.

use core::time::Duration;

use bytes::Bytes;
use cuttlebone_machine::{Instant, Machine};
use cuttlebone_mon::{
    Body, Busy, Command, CommandAck, EncodedMonMap, Event, GetVersion, GetVersionReply, Map, MonInfo, MonMap,
    Session, SessionConfig, SessionInput, SessionOutput, StatFs, StatFsReply, Subscribe, SubscribeAck,
    Subscription, Tid,
};
use cuttlebone_wire::{EntityAddr, Features, Message, MessageType, Uuid};

const FEATURES: Features = Features::PACIFIC;

fn at(secs: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(secs)
}

fn sent(session: &mut Session) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(output) = session.poll_output() {
        match output {
            SessionOutput::Send(message) => messages.push(message),
            SessionOutput::Event(event) => panic!("unexpected {event:?}"),
        }
    }
    messages
}

fn event(session: &mut Session) -> Option<Event> {
    match session.poll_output()? {
        SessionOutput::Event(event) => Some(event),
        SessionOutput::Send(message) => panic!("unexpected {message:?}"),
    }
}

fn config() -> SessionConfig {
    SessionConfig { fsid: Uuid([7; 16]), ..SessionConfig::default() }
}

fn online() -> Session {
    let mut session = Session::new(config());
    session.handle(at(0), SessionInput::Connected(FEATURES));
    session
}

fn receive(session: &mut Session, message: Message) {
    session.handle(at(1), SessionInput::Message(message));
}

fn monmap(epoch: u32) -> Map {
    let addr: EntityAddr = "v2:10.0.0.1:3300".parse().expect("address");
    let mut map = MonMap::default();
    map.epoch = epoch;
    map.fsid = Uuid([9; 16]);
    map.mons.insert("a".into(), MonInfo::new("a", addr.into()));
    map.ranks.push("a".into());
    Map { map: EncodedMonMap::try_from(&map).expect("a map") }
}

fn ack(tid: Tid) -> Message {
    CommandAck::default().message(FEATURES, tid.0)
}

#[test]
fn a_new_connection_gets_subscriptions_first_then_requests_with_their_old_tids() {
    let mut session = Session::new(SessionConfig { host: "here".into(), ..config() });
    let first = session.command(at(0), "{}", "input").expect("room");
    let second = session.get_version(at(0), "osdmap").expect("room");
    session.subscribe("config", Subscription::default()).expect("room");
    assert_eq!(sent(&mut session), []);
    for _ in 0..2 {
        session.handle(at(1), SessionInput::Connected(FEATURES));
        let messages = sent(&mut session);
        assert_eq!(
            messages.iter().map(|m| (m.kind.0, m.tid)).collect::<Vec<_>>(),
            [(15, 0), (50, 1), (19, 2)]
        );
        assert_eq!(Subscribe::decode(&messages[0]).expect("subscribe").0.host, "here");
        assert_eq!(Command::decode(&messages[1]).expect("command").0.input, "input");
        assert_eq!(GetVersion::decode(&messages[2]).expect("question").0.handle, second.0);
        session.handle(at(1), SessionInput::Disconnected);
    }
    assert_eq!((first, session.unanswered()), (Tid(1), 2));
}

#[test]
fn a_question_how_full_the_cluster_is_names_the_cluster_and_the_pool() {
    let mut session = Session::new(SessionConfig::default());
    session.handle(at(0), SessionInput::Connected(FEATURES));
    let tid = session.statfs(at(0), Some(3)).expect("room");
    // The map that tells the cluster comes first.
    assert_eq!(sent(&mut session).iter().map(|message| message.kind.0).collect::<Vec<_>>(), [5]);
    receive(&mut session, monmap(4).message(FEATURES, 0));
    let Some(SessionOutput::Send(message)) = session.poll_output() else { panic!("the question") };
    let (question, _) = StatFs::decode(&message).expect("statfs");
    assert_eq!((question.fsid, question.pool, message.tid), (Uuid([9; 16]), Some(3), tid.0));
    // 18 bytes of prefix, the cluster, a flag and the pool.
    assert_eq!((message.front.len(), message.version), (18 + 16 + 1 + 8, 2));
    while session.poll_output().is_some() {}
    let reply = StatFsReply { kib: 7, ..StatFsReply::default() };
    receive(&mut session, reply.message(FEATURES, tid.0));
    assert_eq!(event(&mut session), Some(Event::StatFs(tid, reply)));
}

#[test]
fn answers_are_matched_once_and_only_with_their_own_kind() {
    let mut session = online();
    let command = session.command(at(0), "{}", "").expect("room");
    let version = session.get_version(at(0), "monmap").expect("room");
    sent(&mut session);
    // The tid of one kind of request means nothing for the other.
    receive(&mut session, ack(version));
    receive(&mut session, GetVersionReply { handle: command.0, ..Default::default() }.message(FEATURES, 0));
    receive(&mut session, ack(Tid(99)));
    assert_eq!(event(&mut session), None);
    let reply = GetVersionReply { handle: version.0, version: 5, oldest: 2 };
    receive(&mut session, reply.message(FEATURES, 0));
    assert_eq!(event(&mut session), Some(Event::Version(version, reply)));
    receive(&mut session, ack(command));
    assert_eq!(event(&mut session), Some(Event::Command(command, CommandAck::default())));
    receive(&mut session, ack(command));
    assert_eq!((event(&mut session), session.unanswered()), (None, 0));
}

#[test]
fn a_request_without_an_answer_ends_and_its_late_answer_is_dropped() {
    let mut session = online();
    let tid = session.command(at(0), "{}", "").expect("room");
    sent(&mut session);
    assert_eq!(session.poll_timeout(), Some(at(30)));
    session.handle_timeout(at(29));
    assert_eq!(event(&mut session), None);
    session.handle_timeout(at(30));
    assert_eq!(event(&mut session), Some(Event::TimedOut(tid)));
    receive(&mut session, ack(tid));
    assert_eq!((event(&mut session), session.poll_timeout()), (None, None));
    session.handle(at(31), SessionInput::Connected(FEATURES));
    assert_eq!(sent(&mut session), []);
}

#[test]
fn what_may_wait_is_limited_in_number_and_bytes() {
    let config = SessionConfig { requests_max: 2, request_bytes_max: 10, ..config() };
    let mut session = Session::new(config);
    assert_eq!(session.command(at(0), "{}", vec![0; 9]), Err(Busy));
    let tid = session.command(at(0), "{}", vec![0; 8]).expect("room");
    assert_eq!(session.get_version(at(0), "x"), Err(Busy));
    session.get_map(at(0)).expect("a question for the map has no bytes");
    assert_eq!(session.get_map(at(0)), Err(Busy));
    session.forget(tid);
    session.get_version(at(0), "osdmap").expect("room again");
}

#[test]
fn a_map_answers_the_question_and_moves_the_subscription() {
    let mut session = online();
    let tid = session.get_map(at(0)).expect("room");
    session.subscribe("monmap", Subscription::default()).expect("room");
    sent(&mut session);
    receive(&mut session, monmap(3).message(FEATURES, 0));
    assert_eq!(event(&mut session), Some(Event::Map(Some(tid), monmap(3))));
    receive(&mut session, monmap(4).message(FEATURES, 0));
    assert_eq!(event(&mut session), Some(Event::Map(None, monmap(4))));
    session.handle(at(2), SessionInput::Disconnected);
    session.handle(at(3), SessionInput::Connected(FEATURES));
    let what = Subscribe::decode(&sent(&mut session)[0]).expect("subscribe").0.what;
    assert_eq!(what["monmap"].start, 5);
}

#[test]
fn commands_wait_for_the_map_that_tells_whose_they_are() {
    let mut session = Session::new(SessionConfig::default());
    session.handle(at(0), SessionInput::Connected(FEATURES));
    session.command(at(0), "{}", "").expect("room");
    session.command(at(0), "{}", "").expect("room");
    for _ in 0..2 {
        // The map is asked for once on each connection.
        let kinds: Vec<_> = sent(&mut session).iter().map(|message| message.kind.0).collect();
        assert_eq!(kinds, [5]);
        session.handle(at(1), SessionInput::Connected(FEATURES));
    }
    sent(&mut session);
    receive(&mut session, monmap(3).message(FEATURES, 0));
    let commands: Vec<_> = core::iter::from_fn(|| match session.poll_output() {
        Some(SessionOutput::Send(message)) => Some(Command::decode(&message).expect("command").0.fsid),
        _ => None,
    })
    .collect();
    assert_eq!(commands, [Uuid([9; 16]); 2]);
}

#[test]
fn subscriptions_to_other_maps_follow_what_the_caller_has() {
    let mut session = online();
    session.subscribe("osdmap", Subscription { start: 0, flags: Subscription::ONE_TIME }).expect("room");
    session.subscribe("fsmap", Subscription::default()).expect("room");
    sent(&mut session);
    let fsmap = Message { kind: MessageType(45), ..Message::default() };
    receive(&mut session, fsmap.clone());
    assert_eq!(event(&mut session), Some(Event::Other(fsmap)));
    session.has("fsmap", 7);
    session.has("osdmap", 9);
    session.handle(at(2), SessionInput::Connected(FEATURES));
    let what = Subscribe::decode(&sent(&mut session)[0]).expect("subscribe").0.what;
    assert_eq!(what.iter().map(|(name, s)| (name.as_str(), s.start)).collect::<Vec<_>>(), [("fsmap", 8)]);
}

#[test]
fn an_old_monitor_s_subscriptions_are_renewed_at_half_their_time() {
    let mut session = online();
    session.subscribe("config", Subscription::default()).expect("room");
    sent(&mut session);
    receive(&mut session, SubscribeAck { interval_secs: 100, ..Default::default() }.message(FEATURES, 0));
    assert_eq!((event(&mut session), session.poll_timeout()), (None, Some(at(51))));
    session.handle_timeout(at(51));
    assert_eq!(sent(&mut session).len(), 1);
    receive(&mut session, SubscribeAck::default().message(FEATURES, 0));
    assert_eq!(session.poll_timeout(), Some(at(2)), "not without pause, whatever the monitor says");
    session.handle(at(2), SessionInput::Disconnected);
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn nonsense_is_an_event_and_messages_behind_a_lost_connection_are_nothing() {
    let mut session = online();
    let nonsense =
        Message { kind: Map::KIND, front: Bytes::from_static(b"\x01\0\0\0"), ..Message::default() };
    receive(&mut session, nonsense.clone());
    assert!(matches!(event(&mut session), Some(Event::Malformed(_))));
    let newer = Message { kind: CommandAck::KIND, version: 9, compat_version: 9, ..Message::default() };
    receive(&mut session, newer);
    assert!(matches!(event(&mut session), Some(Event::Malformed(_))));
    session.handle(at(1), SessionInput::Disconnected);
    receive(&mut session, nonsense);
    assert_eq!(event(&mut session), None);
}
