use core::time::Duration;

use super::world::*;
use crate::*;

#[test]
fn a_session_is_renewed_every_quarter_of_its_time() {
    let mut world = World::open();
    for seq in 2..=4 {
        world.pass(Duration::from_secs(15));
        let [renew] = &world.sent_of::<ClientSession>(RANK)[..] else { panic!("one renewal") };
        assert_eq!((renew.op, renew.seq), (SessionOp::RequestRenewCaps, seq));
    }
}

#[test]
fn only_the_answer_to_the_newest_renewal_counts_and_from_when_it_was_asked() {
    let mut world = World::open();
    let usable = |world: &World| world.client.caps(world.now, Ino::ROOT);
    world.pass(Duration::from_secs(15));
    world.pass(Duration::from_secs(15));
    world.session(RANK, SessionOp::RenewCaps, 2);
    world.now = world.now + Duration::from_secs(30);
    assert_eq!(usable(&world), CapBits::PIN, "60 s after the opening");
    world.session(RANK, SessionOp::RenewCaps, 3);
    assert_eq!(usable(&world), CapBits::STAT, "nothing was taken, so all of it counts again");
    assert_eq!(world.events(), [Event::Session(RANK, SessionNews::Renewed)]);
    world.now = world.now + Duration::from_secs(30);
    assert_eq!(usable(&world), CapBits::PIN, "60 s after the renewal was asked for");
}

#[test]
fn what_was_not_granted_again_after_going_stale_is_worth_its_pin() {
    let mut world = World::open();
    world.mkdir("a", 0x1000, true);
    world.events();
    world.session(RANK, SessionOp::Stale, 0);
    assert_eq!(world.events(), [Event::Session(RANK, SessionNews::Stale)]);
    let renewals = world.sent_of::<ClientSession>(RANK);
    let [renew] = &renewals[..] else { panic!("one renewal at once: {renewals:?}") };
    // The server gives back what nobody else needs before it confirms.
    let mut grant = ClientCaps::new(CapOp::Grant, Ino::ROOT);
    grant.cap_id = CapId(1);
    grant.caps = CapBits::STAT;
    world.tell(RANK, &grant, 0);
    assert_eq!(world.client.caps(world.now, Ino::ROOT), CapBits::PIN, "not before the renewal is confirmed");
    world.session(RANK, SessionOp::RenewCaps, renew.seq);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.client.caps(world.now, Ino::ROOT), CapBits::STAT);
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), CapBits::PIN);
}

#[test]
fn an_eviction_is_told_and_what_has_no_answer_starts_over() {
    let mut world = World::open();
    let tid = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    world.session(RANK, SessionOp::Close, 0);
    assert_eq!(world.events(), [Event::Session(RANK, SessionNews::Lost(LossCause::Closed))]);
    assert_eq!(world.client.caps(world.now, Ino::ROOT), CapBits::NONE);
    world.pass(Duration::from_millis(500));
    world.ready(RANK);
    world.accept(RANK);
    assert_eq!(world.sent(RANK).last().map(|message| message.tid), Some(tid.0));
}

#[test]
fn a_change_without_an_answer_is_asked_again_only_of_a_server_that_has_left_in_order() {
    for (state, may_have_been_done) in [(MdsState::ACTIVE, true), (MdsState::STOPPING, false)] {
        let mut world = World::open();
        let tid = world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "a"), mode: 0o755 });
        world.rank(RANK, state, 1);
        world.session(RANK, SessionOp::Close, 0);
        let lost = Error::Uncommitted { rank: RANK };
        let unknown = Event::Answer { tid, result: Err(lost), durability: Durability::Committed };
        assert_eq!(world.events().contains(&unknown), may_have_been_done, "{state}");
        assert_eq!(world.client.unfinished() == 0, may_have_been_done, "{state}");
    }
}

#[test]
fn what_was_moved_into_a_session_that_is_being_closed_goes_with_it() {
    let mut world = World::open();
    world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    world.link(RANK, LinkNews::Reset);
    world.ready(RANK);
    // The session from which messages were lost, taken up again only to be closed.
    world.accept(RANK);
    let closing = world.sent_of::<ClientSession>(RANK);
    assert_eq!(closing.last().map(|session| session.op), Some(SessionOp::RequestClose));
    let mut import = ClientCaps::new(CapOp::Import, Ino::ROOT);
    import.cap_id = CapId(9);
    import.caps = CapBits::STAT;
    world.tell(RANK, &import, 0);
    world.session(RANK, SessionOp::Close, 0);
    world.ready(RANK);
    world.accept(RANK);
    assert_eq!(world.client.session_state(RANK), "open");
    assert_eq!(world.client.caps(world.now, Ino::ROOT), CapBits::NONE);
}

#[test]
fn an_idle_session_that_was_lost_is_not_opened_again() {
    let mut world = World::open();
    world.session(RANK, SessionOp::Close, 0);
    assert!(world.links.is_empty());
    assert_eq!(world.dialled.len(), 1);
}

fn reject(reason: &str, flags: u32) -> ClientSession {
    let mut reject = ClientSession::new(SessionOp::Reject, 0);
    reject.metadata.insert("error_string".into(), reason.into());
    reject.flags = flags;
    reject
}

#[test]
fn a_blocklisted_client_says_so_to_everybody_and_for_ever() {
    for (reason, flags) in [("blocklisted (blacklisted)", 1), ("session is blacklisted", 0)] {
        let mut world = World::new(Config::default());
        let first = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
        world.ready(RANK);
        world.tell(RANK, &reject(reason, flags), 0);
        let refused =
            |tid| Event::Answer { tid, result: Err(Error::Blocklisted), durability: Durability::Committed };
        assert_eq!(world.events(), [Event::Session(RANK, SessionNews::Blocklisted), refused(first)]);
        let second = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
        assert_eq!(world.events(), [refused(second)]);
        assert!(world.client.is_blocklisted() && world.links.is_empty());
    }
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_server_until_the_rank_moves() {
    let mut world = World::new(Config::default());
    let tid = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    world.ready(RANK);
    world.tell(RANK, &reject("invalue root 'x'", 0), 0);
    let error = Error::Rejected { rank: RANK, reason: "invalue root 'x'".into() };
    let refused = |tid| Event::Answer { tid, result: Err(error.clone()), durability: Durability::Committed };
    assert!(world.events().contains(&refused(tid)));
    let again = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    assert_eq!(world.events(), [refused(again)]);
    world.rank(RANK, MdsState::ACTIVE, 2);
    world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    assert_eq!(world.dialled.len(), 2);
}

#[test]
fn a_server_without_versioned_replies_is_refused() {
    let mut world = World::new(Config::default());
    let tid = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    world.ready(RANK);
    world.session(RANK, SessionOp::Open, 0);
    let error = Error::TooOld { rank: RANK };
    let refused = Event::Answer { tid, result: Err(error), durability: Durability::Committed };
    assert_eq!(world.events(), [refused]);
}

#[test]
fn a_read_only_server_still_reads() {
    let mut world = World::open();
    world.session(RANK, SessionOp::ForceReadOnly, 0);
    assert_eq!(world.events(), [Event::Session(RANK, SessionNews::ReadOnly)]);
    let tid = world.ask(Call::Unlink { entry: entry(Ino::ROOT, "a") });
    let refused = Event::Answer { tid, result: Err(Error::ReadOnly), durability: Durability::Committed };
    assert_eq!(world.events(), [refused]);
    world.sent(RANK);
    world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    assert_eq!(world.sent(RANK).len(), 1);
}

#[test]
fn a_malformed_answer_fails_its_request_and_nothing_else() {
    let mut world = World::open();
    let bad = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    let good = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    let reply = ClientReply { safe: true, is_target: true, trace: "short".into(), ..ClientReply::default() };
    world.tell(RANK, &reply, bad.0);
    let events = world.events();
    assert!(
        matches!(&events[..], [Event::Answer { tid, result: Err(Error::Malformed(_)), .. }] if *tid == bad),
        "{events:?}"
    );
    world.answer(RANK, good, 0, true, &Trace::default());
    assert!(matches!(&world.events()[..], [Event::Answer { tid, result: Ok(_), .. }] if *tid == good));
}

#[test]
fn messages_that_only_clients_send_are_nonsense() {
    let mut world = World::open();
    world.session(RANK, SessionOp::RequestOpen, 0);
    world.tell(RANK, &ClientCaps::new(CapOp::Flush, Ino::ROOT), 0);
    world.tell(RANK, &ClientLease::new(LeaseAction::Release, Ino::ROOT, "a".into(), 1), 0);
    let events = world.events();
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| matches!(event, Event::Nonsense(RANK, Nonsense::Unexpected(_)))));
    assert!(world.sent(RANK).is_empty());
}

#[test]
fn an_opening_by_force_says_nothing_of_how_long_it_is_ago() {
    let mut world = World::new(Config::default());
    let tid = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    world.ready(RANK);
    world.sent(RANK);
    let mut open = ClientSession::new(SessionOp::Open, 0);
    open.features = cuttlebone_wire::FeatureSet::from_bits(0..=18);
    world.tell(RANK, &open, 0);
    let root = inode(1, DIR_MODE, CapBits::STAT, 1);
    world.answer(RANK, tid, 0, true, &Trace { dentry: None, target: Some(root) });
    assert_eq!(world.client.caps(world.now, Ino::ROOT), CapBits::PIN, "not before a renewal is confirmed");
    let seq = world.sent_of::<ClientSession>(RANK)[0].seq;
    world.session(RANK, SessionOp::RenewCaps, seq);
    assert_eq!(world.client.caps(world.now, Ino::ROOT), CapBits::STAT);
}

#[test]
fn what_comes_while_a_wreck_is_cleared_away_is_worth_nothing_in_the_next_session() {
    let mut world = World::open();
    world.mkdir("a", 0x1000, true);
    world.link(RANK, LinkNews::Reset);
    world.ready(RANK);
    let mut import = ClientCaps::new(CapOp::Import, Ino(0x1000));
    import.cap_id = CapId(9);
    import.caps = CapBits::STAT;
    import.peer = CapPeer { rank: Rank(1), ..CapPeer::default() };
    world.tell(RANK, &import, 0);
    // Wanted again meanwhile, so that another session follows.
    let tid = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    world.accept(RANK);
    world.session(RANK, SessionOp::Close, 0);
    world.ready(RANK);
    world.accept(RANK);
    assert_eq!(world.sent(RANK).last().map(|message| message.tid), Some(tid.0), "there is a session");
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), CapBits::NONE);
}

#[test]
fn what_came_into_a_session_that_was_being_closed_is_not_listed_by_the_next() {
    let mut world = World::open();
    world.link(RANK, LinkNews::Reset);
    world.ready(RANK);
    world.accept(RANK);
    let mut import = ClientCaps::new(CapOp::Import, Ino::ROOT);
    import.cap_id = CapId(9);
    import.caps = CapBits::STAT;
    world.tell(RANK, &import, 0);
    world.session(RANK, SessionOp::Close, 0);
    assert_eq!(world.client.session_state(RANK), "closed");
    world.ask(Call::LookupIno { ino: Ino(5), want: CapBits::PIN });
    world.ready(RANK);
    world.accept(RANK);
    world.rank(RANK, MdsState::RECONNECT, 2);
    world.ready(RANK);
    let [reconnect] = &world.sent_of::<ClientReconnect>(RANK)[..] else { panic!("one message") };
    assert_eq!(reconnect.caps.len(), 0, "it went with the session that it came in");
}

#[test]
fn an_answer_to_a_question_ends_it_whatever_it_says_of_a_commit() {
    let mut world = World::open();
    let tid = world.ask(Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT });
    world.answer(RANK, tid, 0, false, &Trace::default());
    assert!(matches!(
        &world.events()[..],
        [Event::Answer { tid: answered, result: Ok(_), durability: Durability::Committed }] if *answered == tid
    ));
    assert_eq!(world.client.unfinished(), 0);
}
