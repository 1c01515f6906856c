use core::time::Duration;

use cuttlebone_machine::Machine;

use super::world::*;
use crate::*;

fn ops(world: &mut World) -> alloc::vec::Vec<(SessionOp, u64)> {
    let sent = world.sent_of::<ClientSession>(RANK);
    sent.iter().map(|session| (session.op, session.seq)).collect()
}

#[test]
fn closing_counts_the_pushes_and_repeats_itself_with_each() {
    let mut world = World::open();
    world.tell(RANK, &ClientCaps::new(CapOp::Grant, Ino(0x77)), 0);
    world.tell(RANK, &ClientLease::new(LeaseAction::Revoke, Ino::ROOT, "x".into(), 1), 0);
    world.tell(RANK, &ClientSnap::new(SnapOp::Update, alloc::vec![]), 0);
    world.tell(RANK, &ClientQuota::default(), 0);
    world.session(RANK, SessionOp::RenewCaps, 9);
    world.sent(RANK);
    world.client.close(world.now);
    world.drain();
    assert_eq!(ops(&mut world), [(SessionOp::RequestClose, 4)]);
    world.tell(RANK, &ClientCaps::new(CapOp::Grant, Ino(0x77)), 0);
    assert_eq!(ops(&mut world), [(SessionOp::RequestClose, 5)]);
    world.session(RANK, SessionOp::Close, 0);
    assert_eq!(world.events(), [Event::Session(RANK, SessionNews::Closed), Event::Closed { clean: true }]);
    assert!(world.links.is_empty());
    assert_eq!(world.client.poll_timeout(), None);
}

#[test]
fn a_push_that_cannot_be_read_counts_as_well() {
    let mut world = World::open();
    let message = cuttlebone_wire::Message {
        kind: <ClientCaps as cuttlebone_wire::Body>::KIND,
        version: 11,
        ..cuttlebone_wire::Message::default()
    };
    world.link(RANK, LinkNews::Message(message));
    assert!(matches!(&world.events()[..], [Event::Nonsense(RANK, Nonsense::Malformed(_))]));
    world.client.close(world.now);
    world.drain();
    assert_eq!(ops(&mut world), [(SessionOp::RequestClose, 1)]);
}

#[test]
fn closing_gives_everything_back_and_waits_for_commits() {
    let mut world = World::open();
    let made = world.mkdir("a", 0x1000, false);
    let waiting = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    world.sent(RANK);
    world.events();
    world.client.close(world.now);
    world.drain();
    assert_eq!(ops(&mut world), [(SessionOp::RequestFlushMdLog, 0)]);
    world.commit(RANK, made);
    assert_eq!(ops(&mut world), [], "an answer is still under way");
    world.answer(RANK, waiting, -2, true, &Trace::default());
    let sent = world.sent(RANK);
    let kinds: alloc::vec::Vec<u16> = sent.iter().map(|message| message.kind.0).collect();
    assert_eq!(kinds, [0x313, 22], "capabilities, then the request to close");
    assert!(matches!(
        world.client.request(world.now, Call::LookupParent { ino: Ino(1) }, Caller::default()),
        Err(NotTaken::Closed)
    ));
}

#[test]
fn what_was_not_sent_is_refused_when_the_client_closes() {
    let mut world = World::new(Config::default());
    let tid = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    world.client.close(world.now);
    world.drain();
    let events = world.events();
    let refused = Event::Answer { tid, result: Err(Error::Closed), durability: Durability::Committed };
    assert_eq!(events, [refused, Event::Closed { clean: true }]);
}

#[test]
fn a_server_that_does_not_close_is_left_to_its_own_time_out() {
    let mut world = World::open();
    world.client.close(world.now);
    world.drain();
    world.pass(Duration::from_secs(9));
    assert_eq!(world.events(), []);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.events(), [Event::Closed { clean: false }]);
    assert!(world.links.is_empty());
}

#[test]
fn a_server_that_is_replaced_while_closing_is_told_so() {
    let mut world = World::open();
    world.client.close(world.now);
    world.drain();
    world.rank(RANK, MdsState::RECONNECT, 2);
    world.ready(RANK);
    world.accept(RANK);
    // It would wait for us through the whole of its window otherwise, and everybody else with it.
    assert_eq!(ops(&mut world), [(SessionOp::RequestClose, 0)]);
    world.session(RANK, SessionOp::Close, 0);
    assert_eq!(world.events().last(), Some(&Event::Closed { clean: true }));
}

#[test]
fn a_session_that_outlived_its_line_is_ended_before_another_begins() {
    let mut world = World::open();
    let change = world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "a"), mode: 0o755 });
    let tid = world.ask(Call::LookupIno { ino: Ino(5), want: CapBits::PIN });
    world.link(RANK, LinkNews::Reset);
    let result = Err(Error::Uncommitted { rank: RANK });
    let told = Event::Answer { tid: change, result, durability: Durability::Committed };
    assert!(world.events().contains(&told), "asking again could do it twice");
    world.ready(RANK);
    world.sent(RANK);
    let mut open = ClientSession::new(SessionOp::Open, 7);
    open.features = cuttlebone_wire::FeatureSet::from_bits(0..=18);
    world.tell(RANK, &open, 0);
    // It pushed seven times, and what of that was lost nobody knows: perhaps a revoke that it waits for.
    assert_eq!(ops(&mut world), [(SessionOp::RequestClose, 7)]);
    world.session(RANK, SessionOp::Close, 0);
    world.ready(RANK);
    assert_eq!(ops(&mut world), [(SessionOp::RequestOpen, 0)]);
    world.accept(RANK);
    assert_eq!(world.sent(RANK).last().map(|message| message.tid), Some(tid.0));
}

#[test]
fn an_idle_session_whose_line_was_lost_is_not_left_to_its_time_out() {
    let mut world = World::open();
    world.link(RANK, LinkNews::Reset);
    world.ready(RANK);
    world.client.close(world.now);
    world.drain();
    assert_eq!(world.events().last(), Some(&Event::Session(RANK, SessionNews::Lost(LossCause::Reset))));
    world.sent(RANK);
    world.accept(RANK);
    assert_eq!(ops(&mut world), [(SessionOp::RequestClose, 0)]);
    world.session(RANK, SessionOp::Close, 0);
    assert_eq!(world.events().last(), Some(&Event::Closed { clean: true }));
}
