use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::world::*;
use crate::*;

/// Takes a rank from one run to the next, up to the state in which clients reconnect.
fn restart(world: &mut World) {
    world.fail(RANK);
    world.rank(RANK, MdsState::REPLAY, 2);
    assert!(world.links.is_empty(), "nothing to say to a server that reads its journal");
    world.rank(RANK, MdsState::RECONNECT, 2);
    world.ready(RANK);
}

#[test]
fn a_successor_hears_replays_then_questions_then_what_we_hold() {
    let mut world = World::open();
    let made = world.mkdir("a", 0x1000, false);
    let asked = world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "b"), mode: 0o755 });
    world.events();
    restart(&mut world);
    let sent = world.sent(RANK);
    let [replay, again, reconnect] = &sent[..] else { panic!("three messages: {sent:?}") };

    assert_eq!(replay.tid, made.0);
    let (replay, _) = ClientRequest::decode(replay).unwrap();
    assert!(replay.flags.contains(RequestFlags::REPLAY));
    assert_eq!((replay.retries, replay.ino), (1, Ino(0x1000)), "the number that we showed");
    assert_eq!((replay.path.path.as_ref(), replay.releases.len()), (&b"a"[..], 0));

    assert_eq!(again.tid, asked.0);
    let (again, _) = ClientRequest::decode(again).unwrap();
    assert!(!again.flags.contains(RequestFlags::REPLAY));
    assert_eq!((again.retries, again.ino, again.releases.len()), (1, Ino::NONE, 0));
    assert_eq!(again.oldest_client_tid, made.0, "what may be replayed must not be forgotten");

    let (reconnect, _) = ClientReconnect::decode(reconnect).unwrap();
    let listed: Vec<_> = reconnect
        .caps
        .iter()
        .map(|(ino, cap)| (ino.0, cap.path_base.0, cap.path.to_vec(), cap.issued))
        .collect();
    let expected = [(1, 0, b"".to_vec(), CapBits::STAT), (0x1000, 1, b"a".to_vec(), CapBits::STAT)];
    // The second mkdir gave the shared bit of the root's entries back, since the server would have to take it.
    let without = CapBits::STAT.without(CapBits::FILE_SHARED);
    assert_eq!(listed[0], (1, 0, b"".to_vec(), without));
    assert_eq!(listed[1], expected[1]);
}

use cuttlebone_wire::Body;

#[test]
fn what_does_not_fit_one_reconnect_message_comes_in_several() {
    // What is told, and in which messages: inodes, realms, and whether there is more.
    let check = |reconnect_bytes_max, expected: &[(&[u64], usize, bool)]| {
        let limits = Limits { reconnect_bytes_max, ..Limits::default() };
        let mut world = World::open_with(Config { limits, ..Config::default() });
        world.tell(
            RANK,
            &ClientSnap::new(
                SnapOp::Update,
                vec![SnapRealm { ino: Ino::ROOT, seq: 1, ..SnapRealm::default() }],
            ),
            0,
        );
        world.mkdir("a", 0x1000, true);
        world.mkdir("b", 0x2000, true);
        world.sent(RANK);
        restart(&mut world);
        let told: Vec<_> = world
            .sent_of::<ClientReconnect>(RANK)
            .iter()
            .map(|part| (part.caps.keys().map(|ino| ino.0).collect::<Vec<_>>(), part.realms.len(), part.more))
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|(inos, realms, more)| (inos.to_vec(), *realms, *more)).collect();
        assert_eq!(told, expected, "with {reconnect_bytes_max} bytes");
    };
    // The root takes 70 bytes, each of the others one more for its name, and the realm 30.
    check(242, &[(&[1, 0x1000, 0x2000], 1, false)]);
    check(241, &[(&[1, 0x1000, 0x2000], 0, true), (&[], 1, false)]);
    check(211, &[(&[1, 0x1000], 0, true), (&[0x2000], 1, false)]);
    check(0, &[(&[1], 0, true), (&[0x1000], 0, true), (&[0x2000], 0, true), (&[], 1, false)]);
}

#[test]
fn a_reconnect_ends_with_commits_and_answers() {
    let mut world = World::open();
    let made = world.mkdir("a", 0x1000, false);
    let asked = world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "b"), mode: 0o755 });
    world.events();
    restart(&mut world);
    world.accept(RANK);
    assert_eq!(
        world.events(),
        [Event::Session(RANK, SessionNews::Down), Event::Session(RANK, SessionNews::Reconnected { caps: 2 })]
    );
    let later = world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "c"), mode: 0o755 });
    world.sent(RANK);
    world.rank(RANK, MdsState::REJOIN, 2);
    world.rank(RANK, MdsState::CLIENTREPLAY, 2);
    world.commit(RANK, made);
    assert_eq!(world.events(), [Event::Committed(made)]);
    assert!(world.sent_of::<ClientRequest>(RANK).is_empty(), "nothing new before the rank is active");
    world.rank(RANK, MdsState::ACTIVE, 2);
    let [request] = &world.sent(RANK)[..] else { panic!("the request that waited") };
    assert_eq!(request.tid, later.0);
    world.answer(RANK, asked, 0, true, &Trace::default());
    assert!(matches!(&world.events()[..], [Event::Answer { tid, .. }] if *tid == asked));
}

#[test]
fn a_map_that_skips_states_is_enough() {
    let mut world = World::open();
    let made = world.mkdir("a", 0x1000, false);
    world.rank(RANK, MdsState::ACTIVE, 2);
    assert_eq!(world.dialled.last(), Some(&(RANK, addrs(6800, 2))));
    world.ready(RANK);
    let sent = world.sent(RANK);
    assert_eq!(sent.iter().map(|message| message.tid).collect::<Vec<_>>(), [made.0, 0]);
}

#[test]
fn coming_too_late_loses_what_was_not_committed_and_nothing_else() {
    let mut world = World::open();
    let made = world.mkdir("a", 0x1000, false);
    let change = world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "b"), mode: 0o755 });
    let look = world.ask(Call::Lookup { entry: entry(Ino::ROOT, "b"), want: CapBits::STAT });
    world.events();
    world.rank(RANK, MdsState::ACTIVE, 2);
    world.ready(RANK);
    world.session(RANK, SessionOp::Close, 0);
    let events = world.events();
    let lost = Error::Uncommitted { rank: RANK };
    assert!(
        events.contains(&Event::Session(RANK, SessionNews::Lost(LossCause::ReconnectDenied))),
        "{events:?}"
    );
    assert!(events.contains(&Event::Uncommitted(made, lost.clone())), "{events:?}");
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), CapBits::NONE);
    // The server may have made it, and does not know in a new session that it has: asked again, it would say that it exists.
    let unknown = Event::Answer { tid: change, result: Err(lost.clone()), durability: Durability::Committed };
    assert!(events.contains(&unknown), "{events:?}");
    // Looking again does no harm.
    world.pass(Duration::from_millis(500));
    world.ready(RANK);
    world.accept(RANK);
    let [request] = &world.sent_of::<ClientRequest>(RANK)[..] else { panic!("one request") };
    assert_eq!((request.op, request.path.path.as_ref()), (Op::LOOKUP, &b"b"[..]));
    world.answer(RANK, look, -2, true, &Trace::default());
    // Both the directory and what was made in it fail their next fsync, once.
    world.events();
    for ino in [Ino::ROOT, Ino(0x1000)] {
        let sync = world.client.fsync(ino).unwrap();
        world.drain();
        assert_eq!(world.events(), [Event::Synced(sync, Err(lost.clone()))]);
        let sync = world.client.fsync(ino).unwrap();
        world.drain();
        assert_eq!(world.events(), [Event::Synced(sync, Ok(()))]);
    }
}

#[test]
fn a_second_restart_during_the_first_replays_again() {
    let mut world = World::open();
    let made = world.mkdir("a", 0x1000, false);
    restart(&mut world);
    assert_eq!(world.sent(RANK).len(), 2);
    world.rank(RANK, MdsState::RECONNECT, 3);
    world.ready(RANK);
    let sent = world.sent(RANK);
    assert_eq!(sent.iter().map(|message| message.tid).collect::<Vec<_>>(), [made.0, 0]);
    let (replay, _) = ClientRequest::decode(&sent[0]).unwrap();
    assert_eq!(replay.retries, 2);
}

#[test]
fn a_capability_that_was_not_listed_is_dead_by_generation() {
    let mut world = World::open();
    world.mkdir("a", 0x1000, true);
    let (before, _) = world.client.generations(RANK, Ino(0x1000)).unwrap();
    restart(&mut world);
    world.accept(RANK);
    let (after, given) = world.client.generations(RANK, Ino(0x1000)).unwrap();
    assert_ne!(before.recon, after.recon);
    assert_eq!(after.standing(given), Standing::Valid, "it was listed");
    assert_eq!(after.standing(before), Standing::Dead);
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), CapBits::STAT);
}

#[test]
fn what_an_old_link_says_reaches_nobody() {
    let mut world = World::open();
    let made = world.mkdir("a", 0x1000, false);
    let old = world.links[&RANK];
    world.events();
    world.fail(RANK);
    let reply = ClientReply { safe: true, ..ClientReply::default() };
    let message = reply.message(cuttlebone_wire::Features::PACIFIC, made.0);
    world.handle(Input::Link(old, LinkNews::Message(message)));
    assert_eq!(world.events(), [Event::Session(RANK, SessionNews::Down)]);
    assert_eq!(world.client.unfinished(), 1);
}

#[test]
fn a_failed_replay_is_told() {
    let mut world = World::open();
    let made = world.mkdir("a", 0x1000, false);
    restart(&mut world);
    world.accept(RANK);
    world.events();
    world.answer(RANK, made, -5, true, &Trace::default());
    assert_eq!(world.events(), [Event::Uncommitted(made, Error::Refused(Errno::EIO))]);
}

#[test]
fn fsync_waits_for_all_and_writes_the_journal_out_once() {
    let mut world = World::open();
    let a = world.mkdir("a", 0x1000, false);
    let b = world.mkdir("b", 0x1001, false);
    world.events();
    world.sent(RANK);
    let sync = world.client.fsync(Ino::ROOT).unwrap();
    let second = world.client.fsync(Ino::ROOT).unwrap();
    world.drain();
    let sent = world.sent_of::<ClientSession>(RANK);
    assert_eq!(sent.iter().map(|session| session.op).collect::<Vec<_>>(), [SessionOp::RequestFlushMdLog]);
    world.commit(RANK, a);
    assert_eq!(world.events(), [Event::Committed(a)]);
    world.commit(RANK, b);
    let synced = |id| Event::Synced(id, Ok(()));
    assert_eq!(world.events(), [Event::Committed(b), synced(sync), synced(second)]);
    let c = world.mkdir("c", 0x1002, false);
    let third = world.client.fsync(Ino(0x1002)).unwrap();
    world.drain();
    assert_eq!(world.sent_of::<ClientSession>(RANK).len(), 1, "what was applied since needs another one");
    world.events();
    world.commit(RANK, c);
    assert!(world.events().contains(&Event::Synced(third, Ok(()))));
}

#[test]
fn a_reset_loses_the_session_since_messages_are_lost_with_it() {
    let mut world = World::open();
    let made = world.mkdir("a", 0x1000, false);
    world.events();
    world.link(RANK, LinkNews::Reset);
    let events = world.events();
    assert_eq!(events[0], Event::Session(RANK, SessionNews::Lost(LossCause::Reset)));
    assert!(matches!(&events[1..], [Event::Uncommitted(tid, _)] if *tid == made), "{events:?}");
    assert_eq!(world.client.unfinished(), 0);
}

#[test]
fn a_link_that_is_resumed_costs_nothing() {
    let mut world = World::open();
    world.mkdir("a", 0x1000, false);
    world.events();
    world.sent(RANK);
    world.ready(RANK);
    assert!(world.sent(RANK).is_empty());
    assert!(world.events().is_empty());
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), CapBits::STAT);
}

#[test]
fn a_link_that_gives_up_is_dialled_again_after_a_pause() {
    let mut world = World::new(Config::default());
    world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    world.link(RANK, LinkNews::Closed);
    assert_eq!(world.dialled.len(), 1);
    world.pass(Duration::from_millis(499));
    assert_eq!(world.dialled.len(), 1);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.dialled.len(), 2);
}

#[test]
fn after_a_reconnect_a_capability_counts_from_zero_again() {
    let mut world = World::open();
    world.mkdir("a", 0x1000, true);
    restart(&mut world);
    world.accept(RANK);
    world.rank(RANK, MdsState::ACTIVE, 2);
    world.sent(RANK);
    world.client.watch(world.now, Ino(0x1000)).unwrap();
    world.drain();
    let [update] = &world.sent_of::<ClientCaps>(RANK)[..] else { panic!("one message") };
    assert_eq!((update.seq, update.issue_seq, update.mseq), (0, 0, 0));
    // With any other number the successor would not hear of it.
    world.client.unwatch(world.now, Ino(0x1000));
    world.client.forget(world.now, Ino(0x1000));
    world.pass(Timing::default().release_delay);
    let releases = world.sent_of::<ClientCapRelease>(RANK);
    let [cap] = releases.last().unwrap().caps[..] else { panic!("one capability") };
    assert_eq!((cap.ino, cap.issue_seq, cap.mseq), (Ino(0x1000), 0, 0));
}

#[test]
fn an_fsync_after_a_reconnect_asks_the_successor_for_its_journal() {
    let mut world = World::open();
    world.mkdir("a", 0x1000, false);
    world.client.fsync(Ino::ROOT).unwrap();
    world.drain();
    restart(&mut world);
    world.accept(RANK);
    world.sent(RANK);
    world.client.fsync(Ino::ROOT).unwrap();
    world.drain();
    let asked: Vec<_> = world.sent_of::<ClientSession>(RANK).iter().map(|session| session.op).collect();
    assert_eq!(asked, [SessionOp::RequestFlushMdLog]);
}

#[test]
fn what_was_to_be_given_back_is_not_given_to_the_successor() {
    let mut world = World::open();
    world.mkdir("a", 0x1000, true);
    world.client.forget(world.now, Ino(0x1000));
    world.drain();
    restart(&mut world);
    world.accept(RANK);
    let [reconnect] = &world.sent_of::<ClientReconnect>(RANK)[..] else { panic!("one message") };
    assert!(!reconnect.caps.contains_key(&Ino(0x1000)), "what is not listed is gone");
    world.pass(Timing::default().release_delay);
    assert!(world.sent_of::<ClientCapRelease>(RANK).is_empty());
}
