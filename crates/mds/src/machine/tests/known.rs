use core::time::Duration;

use super::world::*;
use crate::*;

/// A root without the capability for its entries, and one name in it with a lease.
fn leased() -> World {
    let mut world = World::open();
    let tid = world.ask(Call::Lookup { entry: entry(Ino::ROOT, "a"), want: CapBits::STAT });
    let root = inode(1, DIR_MODE, CapBits::PIN, 2);
    let target = inode(0x1000, FILE_MODE, CapBits::STAT, 1);
    let trace = Trace { dentry: Some(dentry(root, "a", lease(3))), target: Some(target) };
    world.answer(RANK, tid, 0, true, &trace);
    world.sent(RANK);
    world.events();
    world
}

fn known(world: &mut World, text: &str) -> KnownName {
    let known = world.client.known_name(world.now, &entry(Ino::ROOT, text));
    world.drain();
    known
}

#[test]
fn a_lease_lasts_until_its_time_is_over() {
    let mut world = leased();
    assert_eq!(known(&mut world, "a"), KnownName::Taken(Ino(0x1000)));
    assert_eq!(known(&mut world, "b"), KnownName::Unknown);
    world.pass(Duration::from_secs(30));
    assert_eq!(known(&mut world, "a"), KnownName::Unknown);
}

#[test]
fn a_lease_that_is_used_is_renewed_in_its_second_half_and_only_once() {
    let mut world = leased();
    known(&mut world, "a");
    assert!(world.sent(RANK).is_empty());
    world.pass(Duration::from_secs(16));
    world.sent(RANK);
    known(&mut world, "a");
    known(&mut world, "a");
    let [renew] = &world.sent_of::<ClientLease>(RANK)[..] else { panic!("one renewal") };
    assert_eq!((renew.action, renew.seq, renew.ino), (LeaseAction::Renew, 3, Ino::ROOT));
    let mut granted = renew.clone();
    granted.seq = 4;
    granted.duration = Duration::from_secs(30);
    world.pass(Duration::from_secs(2));
    world.tell(RANK, &granted, 0);
    // It counts from when it was asked for, 16 s after the first.
    world.pass(Duration::from_secs(27));
    assert_eq!(known(&mut world, "a"), KnownName::Taken(Ino(0x1000)));
    world.pass(Duration::from_secs(1));
    assert_eq!(known(&mut world, "a"), KnownName::Unknown);
}

#[test]
fn a_lease_that_is_taken_back_is_acknowledged_also_if_it_is_not_known() {
    let mut world = leased();
    let mut revoke = ClientLease::new(LeaseAction::Revoke, Ino::ROOT, "a".into(), 2);
    world.tell(RANK, &revoke, 0);
    let [ack] = &world.sent_of::<ClientLease>(RANK)[..] else { panic!("one answer") };
    assert_eq!((ack.action, ack.seq), (LeaseAction::RevokeAck, 3), "ours is newer");
    assert_eq!(known(&mut world, "a"), KnownName::Unknown);
    revoke.dname = "nobody".into();
    world.tell(RANK, &revoke, 0);
    let [ack] = &world.sent_of::<ClientLease>(RANK)[..] else { panic!("one answer") };
    assert_eq!((ack.action, ack.seq, &ack.dname[..]), (LeaseAction::RevokeAck, 2, &b"nobody"[..]));
}

#[test]
fn a_lease_dies_with_the_server_that_gave_it() {
    let mut world = leased();
    world.rank(RANK, MdsState::RECONNECT, 2);
    world.ready(RANK);
    world.accept(RANK);
    assert_eq!(known(&mut world, "a"), KnownName::Unknown, "leases are not listed in a reconnect");
}

#[test]
fn a_lease_is_worth_nothing_beyond_the_life_of_its_session() {
    let mut world = leased();
    // 45 s after the last renewal that was answered.
    for _ in 0..3 {
        world.pass(Duration::from_secs(15));
    }
    let tid = world.ask(Call::Lookup { entry: entry(Ino::ROOT, "a"), want: CapBits::STAT });
    let root = inode(1, DIR_MODE, CapBits::PIN, 3);
    let target = inode(0x1000, FILE_MODE, CapBits::STAT, 2);
    let trace = Trace { dentry: Some(dentry(root, "a", lease(4))), target: Some(target) };
    world.answer(RANK, tid, 0, true, &trace);
    world.now = world.now + Duration::from_secs(14);
    assert_eq!(known(&mut world, "a"), KnownName::Taken(Ino(0x1000)));
    world.now = world.now + Duration::from_secs(1);
    assert_eq!(known(&mut world, "a"), KnownName::Unknown);
}

#[test]
fn a_lease_dies_when_the_session_goes_stale() {
    let mut world = leased();
    world.session(RANK, SessionOp::Stale, 0);
    let seq = world.sent_of::<ClientSession>(RANK)[0].seq;
    world.session(RANK, SessionOp::RenewCaps, seq);
    assert_eq!(known(&mut world, "a"), KnownName::Unknown);
}

#[test]
fn a_name_that_is_free_is_known_to_be_so() {
    let mut world = World::open();
    let tid = world.ask(Call::Lookup { entry: entry(Ino::ROOT, "no"), want: CapBits::STAT });
    let root = inode(1, DIR_MODE, CapBits::PIN, 2);
    let trace = Trace { dentry: Some(dentry(root, "no", lease(1))), target: None };
    world.answer(RANK, tid, -2, true, &trace);
    assert_eq!(known(&mut world, "no"), KnownName::Free);
}

#[test]
fn the_capability_of_a_directory_covers_its_names_until_it_is_lost() {
    let mut world = World::open();
    let tid = world.ask(Call::Lookup { entry: entry(Ino::ROOT, "a"), want: CapBits::STAT });
    let root = inode(1, DIR_MODE, CapBits::STAT, 2);
    let target = inode(0x1000, FILE_MODE, CapBits::STAT, 1);
    let trace = Trace { dentry: Some(dentry(root, "a", LeaseStat::default())), target: Some(target) };
    world.answer(RANK, tid, 0, true, &trace);
    assert_eq!(known(&mut world, "a"), KnownName::Taken(Ino(0x1000)));
    let mut caps = ClientCaps::new(CapOp::Revoke, Ino::ROOT);
    caps.cap_id = CapId(1);
    caps.caps = CapBits::PIN;
    world.tell(RANK, &caps, 0);
    assert_eq!(known(&mut world, "a"), KnownName::Unknown);
    // Regained, it covers what is learnt from now on.
    caps.op = CapOp::Grant;
    caps.caps = CapBits::STAT;
    world.tell(RANK, &caps, 0);
    assert_eq!(known(&mut world, "a"), KnownName::Unknown);
}

#[test]
fn a_name_is_worth_nothing_without_a_capability_of_what_it_stands_for() {
    let mut world = leased();
    world.client.forget(world.now, Ino(0x1000));
    assert_eq!(known(&mut world, "a"), KnownName::Unknown);
}

#[test]
fn attributes_are_known_as_far_as_their_capabilities_are_held() {
    let mut world = leased();
    let now = world.now;
    assert!(world.client.known_attributes(now, Ino(0x1000), CapBits::STAT).is_some());
    assert!(world.client.known_attributes(now, Ino::ROOT, CapBits::STAT).is_none());
    assert!(world.client.known_attributes(now, Ino::ROOT, CapBits::PIN).is_some());
    // Nothing is known for sure when the session has not been renewed in time.
    world.now = world.now + Duration::from_secs(61);
    assert!(world.client.known_attributes(world.now, Ino(0x1000), CapBits::STAT).is_none());
}

#[test]
fn a_name_that_we_renamed_is_forgotten() {
    let mut world = leased();
    let tid = world.ask(Call::Rename { from: entry(Ino::ROOT, "a"), to: entry(Ino::ROOT, "b") });
    let root = inode(1, DIR_MODE, CapBits::PIN, 3);
    let target = inode(0x1000, FILE_MODE, CapBits::STAT, 2);
    let trace = Trace { dentry: Some(dentry(root, "b", lease(1))), target: Some(target) };
    world.answer(RANK, tid, 0, false, &trace);
    assert_eq!(known(&mut world, "a"), KnownName::Unknown);
    assert_eq!(known(&mut world, "b"), KnownName::Taken(Ino(0x1000)));
}

#[test]
fn what_was_done_without_telling_is_not_trusted() {
    let mut world = leased();
    let changes = AttrChanges { mode: Some(0o600), ..AttrChanges::default() };
    let tid = world.ask(Call::SetAttr { ino: Ino(0x1000), changes });
    world.answer(RANK, tid, 0, true, &Trace::default());
    assert!(world.client.known_attributes(world.now, Ino(0x1000), CapBits::PIN).is_none());
}
