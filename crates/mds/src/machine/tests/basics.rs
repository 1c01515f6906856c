use alloc::vec;

use super::world::*;
use crate::*;

#[test]
fn a_request_opens_a_session_and_waits_until_it_is_open() {
    let mut world = World::new(Config::default());
    assert!(world.dialled.is_empty(), "no session without a request");
    let tid = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    assert_eq!(world.dialled, [(RANK, addrs(6800, 1))]);
    world.ready(RANK);
    let sent = world.sent(RANK);
    assert_eq!(sent.len(), 1, "what is asked before the session is open vanishes");
    world.accept(RANK);
    let [request] = &world.sent_of::<ClientRequest>(RANK)[..] else { panic!("one request") };
    assert_eq!((request.op, request.path.ino, request.oldest_client_tid), (Op::GETATTR, Ino::ROOT, tid.0));
    assert_eq!(world.events(), [Event::Session(RANK, SessionNews::Opened)]);
    let root = inode(1, DIR_MODE, CapBits::STAT, 1);
    world.answer(RANK, tid, 0, true, &Trace { dentry: None, target: Some(root.clone()) });
    let [Event::Answer { tid: answered, result: Ok(answer), durability }] = &world.events()[..] else {
        panic!("one answer")
    };
    assert_eq!((*answered, *durability), (tid, Durability::Committed));
    assert_eq!(answer.target.as_ref().map(|target| target.ino), Some(Ino::ROOT));
    assert_eq!(world.client.caps(world.now, Ino::ROOT), CapBits::STAT);
}

#[test]
fn a_change_is_answered_when_it_is_applied_and_again_when_it_is_committed() {
    let mut world = World::open();
    let tid = world.mkdir("a", 0x1000, false);
    let events = world.events();
    assert!(matches!(&events[..], [Event::Answer { durability: Durability::Applied, .. }]), "{events:?}");
    world.commit(RANK, tid);
    assert_eq!(world.events(), [Event::Committed(tid)]);
    assert_eq!(world.client.unfinished(), 0);
}

#[test]
fn a_change_may_be_committed_at_once() {
    let mut world = World::open();
    world.mkdir("a", 0x1000, true);
    let events = world.events();
    assert!(matches!(&events[..], [Event::Answer { durability: Durability::Committed, .. }]), "{events:?}");
    assert_eq!(world.client.unfinished(), 0);
}

#[test]
fn replies_that_nobody_waits_for_are_passed_over() {
    let mut world = World::open();
    let tid = world.mkdir("a", 0x1000, false);
    world.events();
    world.answer(RANK, tid, 0, false, &Trace::default());
    world.answer(RANK, Tid(99), 0, true, &Trace::default());
    assert_eq!(world.events(), vec![]);
    world.commit(RANK, tid);
    world.commit(RANK, tid);
    assert_eq!(world.events(), [Event::Committed(tid)]);
}
