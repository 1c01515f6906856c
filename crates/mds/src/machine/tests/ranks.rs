use core::time::Duration;

use super::world::*;
use crate::*;

const OTHER: Rank = Rank(1);

/// Two ranks, with a session with the first.
fn two() -> World {
    let mut world = World::open();
    world.rank(OTHER, MdsState::ACTIVE, 1);
    world
}

fn forward(dest: Rank, forwards: u32) -> ClientRequestForward {
    ClientRequestForward { dest, forwards, must_resend: true }
}

#[test]
fn a_forward_is_followed_with_the_same_number() {
    let mut world = two();
    let tid = world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "a"), mode: 0o755 });
    world.sent(RANK);
    world.tell(RANK, &forward(OTHER, 1), tid.0);
    world.ready(OTHER);
    world.accept(OTHER);
    let sent = world.sent(OTHER);
    let message = sent.last().unwrap();
    assert_eq!(message.tid, tid.0);
    let (request, _) = <ClientRequest as cuttlebone_wire::Body>::decode(message).unwrap();
    assert_eq!((request.forwards, request.retries), (1, 0));
    // What the first rank still says is late.
    world.answer(RANK, tid, 0, true, &Trace::default());
    world.tell(RANK, &forward(RANK, 1), tid.0);
    assert_eq!(world.client.unfinished(), 1);
    world.answer(OTHER, tid, 0, true, &Trace::default());
    assert_eq!(world.client.unfinished(), 0);
}

#[test]
fn ranks_that_forward_in_a_circle_are_given_up() {
    let mut world = two();
    let tid = world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "a"), mode: 0o755 });
    world.tell(RANK, &forward(OTHER, 1), tid.0);
    world.ready(OTHER);
    world.accept(OTHER);
    for forwards in 2..=256 {
        let (from, to) = if forwards % 2 == 0 { (OTHER, RANK) } else { (RANK, OTHER) };
        world.tell(from, &forward(to, forwards), tid.0);
    }
    let events = world.events();
    let given_up = Err(Error::TooManyForwards(255));
    assert!(events.contains(&Event::Answer { tid, result: given_up, durability: Durability::Committed }));
}

#[test]
fn a_forward_to_a_rank_that_does_not_exist_is_not_waited_on() {
    let mut world = two();
    let tid = world.ask(Call::LookupIno { ino: Ino::ROOT, want: CapBits::PIN });
    world.sent(RANK);
    world.tell(RANK, &forward(Rank(77), 1), tid.0);
    assert_eq!(world.sent_of::<ClientRequest>(RANK).len(), 1, "back to who is known to serve it");
}

/// Tells of a fragment of the root with this authority and these replicas.
fn learn(world: &mut World, auth: Rank, replicas: &[Rank]) {
    let tid = world.ask(Call::Lookup { entry: entry(Ino::ROOT, "x"), want: CapBits::PIN });
    let root = inode(1, DIR_MODE, CapBits::STAT, 2);
    let mut dentry = dentry(root, "x", lease(1));
    dentry.frag = DirStat { auth, dist: replicas.to_vec(), ..DirStat::default() };
    world.answer(RANK, tid, -2, true, &Trace { dentry: Some(dentry), target: None });
    world.sent(RANK);
    world.events();
}

#[test]
fn a_change_goes_to_the_authority_and_a_question_to_any_replica() {
    let mut world = two();
    learn(&mut world, OTHER, &[RANK]);
    world.ask(Call::Lookup { entry: entry(Ino::ROOT, "b"), want: CapBits::PIN });
    assert_eq!(world.sent_of::<ClientRequest>(RANK).len(), 1);
    world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "a"), mode: 0o755 });
    assert!(world.sent(RANK).is_empty());
    assert_eq!(world.dialled.last().map(|(rank, _)| *rank), Some(OTHER));
}

#[test]
fn questions_are_spread_over_the_replicas() {
    let mut world = two();
    learn(&mut world, RANK, &[RANK, OTHER]);
    world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "a"), mode: 0o755 });
    for at in 0..100 {
        let text = alloc::format!("name{at}");
        world.ask(Call::Lookup { entry: entry(Ino::ROOT, &text), want: CapBits::PIN });
    }
    world.ready(OTHER);
    world.accept(OTHER);
    let (first, second) =
        (world.sent_of::<ClientRequest>(RANK).len(), world.sent_of::<ClientRequest>(OTHER).len());
    assert_eq!(first + second, 101);
    assert!(first > 20 && second > 20, "{first} {second}");
}

#[test]
fn what_waits_for_a_rank_that_was_stopped_goes_elsewhere() {
    let mut world = two();
    learn(&mut world, OTHER, &[]);
    let tid = world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "a"), mode: 0o755 });
    world.map.ranks.retain(|rank| *rank != OTHER);
    world.map.stopped.push(OTHER);
    world.fail(OTHER);
    let sent = world.sent(RANK);
    assert_eq!(sent.last().map(|message| message.tid), Some(tid.0));
    assert_eq!(world.client.session_state(OTHER), "closed");
}

#[test]
fn without_a_rank_that_serves_everything_waits_for_a_map() {
    let mut world = World::new(Config::default());
    world.rank(RANK, MdsState::REPLAY, 2);
    world.ask(Call::LookupIno { ino: Ino(5), want: CapBits::PIN });
    assert!(world.dialled.is_empty());
    world.rank(RANK, MdsState::ACTIVE, 2);
    assert_eq!(world.dialled.len(), 1);
}

#[test]
fn an_old_map_changes_nothing() {
    let mut world = two();
    let newest = world.map.clone();
    world.fail(RANK);
    world.events();
    world.map = newest;
    world.tell_map();
    assert!(!world.links.contains_key(&RANK), "rank 0 is still nobody's");
}

/// A directory that rank 0 gave, on its way to rank 1.
fn moving() -> World {
    let mut world = two();
    world.mkdir("a", 0x1000, true);
    world.sent(RANK);
    world.events();
    world
}

fn export() -> ClientCaps {
    let mut export = ClientCaps::new(CapOp::Export, Ino(0x1000));
    export.cap_id = CapId(1);
    export.peer = CapPeer { cap_id: CapId(3), seq: 1, mseq: 1, rank: OTHER, flags: 0 };
    export
}

fn import(caps: CapBits) -> ClientCaps {
    let mut import = ClientCaps::new(CapOp::Import, Ino(0x1000));
    import.cap_id = CapId(3);
    import.caps = caps;
    import.seq = 1;
    import.mseq = 1;
    import.realm = Ino::ROOT;
    import.peer = CapPeer { cap_id: CapId(1), seq: 1, mseq: 0, rank: RANK, flags: CapGrant::RELEASE };
    import
}

#[test]
fn a_capability_moves_whichever_rank_tells_first() {
    let caps = CapBits::STAT;
    // As seen: the export opens the session, and the import comes in it.
    let mut world = moving();
    world.tell(RANK, &export(), 0);
    assert_eq!(world.dialled.last().map(|(rank, _)| *rank), Some(OTHER));
    world.ready(OTHER);
    world.accept(OTHER);
    world.tell(OTHER, &import(caps), 0);
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), caps);
    assert!(world.client.generations(RANK, Ino(0x1000)).is_none());
    world.pass(Duration::from_secs(1));
    assert!(world.sent_of::<ClientCapRelease>(RANK).is_empty(), "what was exported is not released");

    // The other way round.
    let mut world = moving();
    world.client.watch(world.now, Ino(0x1000)).unwrap();
    let tid = world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "b"), mode: 0o755 });
    world.tell(RANK, &forward(OTHER, 1), tid.0);
    world.ready(OTHER);
    world.accept(OTHER);
    world.sent(RANK);
    world.tell(OTHER, &import(caps), 0);
    assert!(world.client.generations(RANK, Ino(0x1000)).is_none());
    world.tell(RANK, &export(), 0);
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), caps);
    let [update] = &world.sent_of::<ClientCaps>(OTHER)[..] else { panic!("what is wanted is told") };
    assert_eq!(update.wanted, CapBits::STAT);
}

#[test]
fn what_was_exported_is_used_only_when_its_new_rank_has_told_of_it() {
    let mut world = moving();
    world.tell(RANK, &export(), 0);
    world.ready(OTHER);
    world.accept(OTHER);
    // The export may be so late that the other rank was replaced since, and has never heard of it.
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), CapBits::PIN);
    world.tell(OTHER, &import(CapBits::STAT), 0);
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), CapBits::STAT);
}

#[test]
fn when_a_rank_is_gone_the_others_are_asked_whether_it_gave_them_anything_of_ours() {
    let mut world = two();
    world.mkdir("a", 0x1000, true);
    assert_eq!(world.client.session_state(OTHER), "closed");
    world.fail(RANK);
    // It may have opened a session by force; this takes it up, or opens one that costs next to nothing.
    world.ready(OTHER);
    let [open] = &world.sent_of::<ClientSession>(OTHER)[..] else { panic!("one opening") };
    assert_eq!(open.op, SessionOp::RequestOpen);
    world.accept(OTHER);
    assert_eq!(world.client.session_state(OTHER), "open");
}

#[test]
fn an_import_of_what_we_gave_up_goes_back() {
    let mut world = moving();
    world.tell(RANK, &export(), 0);
    world.ready(OTHER);
    world.accept(OTHER);
    world.client.forget(world.now, Ino(0x1000));
    world.sent(OTHER);
    world.tell(OTHER, &import(CapBits::STAT), 0);
    let releases = world.sent_of::<ClientCapRelease>(OTHER);
    assert_eq!(releases.last().map(|release| release.caps[0].cap_id), Some(CapId(3)));
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), CapBits::NONE);
}

/// A rank that is about to hand a directory over gives nothing of it any more with its replies (chaos seed 9907).
#[test]
fn a_late_reply_that_gives_nothing_leaves_nothing_behind_when_the_import_went_back() {
    let mut world = two();
    let get = |world: &mut World| {
        world.ask(Call::GetAttr { target: Ino(0x1000).into(), want: CapBits::AUTH_SHARED })
    };
    let told = |inode| Trace { dentry: None, target: Some(inode) };
    let tid = get(&mut world);
    world.answer(RANK, tid, 0, true, &told(inode(0x1000, FILE_MODE, CapBits::STAT, 1)));
    let tid = get(&mut world);
    world.client.forget(world.now, Ino(0x1000));
    world.rank(OTHER, MdsState::ACTIVE, 2);
    let elsewhere = get(&mut world);
    world.tell(RANK, &forward(OTHER, 1), elsewhere.0);
    world.ready(OTHER);
    world.accept(OTHER);
    world.sent(OTHER);
    // The import overtakes what the first rank says, and is declined.
    world.tell(OTHER, &import(CapBits::STAT), 0);
    let releases = world.sent_of::<ClientCapRelease>(OTHER);
    assert_eq!(releases.last().map(|release| release.caps[0].cap_id), Some(CapId(3)));
    world.answer(RANK, tid, 0, true, &told(inode(0x1000, FILE_MODE, CapBits::NONE, 0)));
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), CapBits::NONE);
    world.tell(RANK, &export(), 0);
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), CapBits::NONE);
    assert!(world.client.generations(OTHER, Ino(0x1000)).is_none(), "no placeholder for what went back");
}

#[test]
fn a_request_below_a_moved_directory_goes_to_its_new_rank() {
    let mut world = moving();
    world.tell(RANK, &export(), 0);
    world.ready(OTHER);
    world.accept(OTHER);
    world.tell(OTHER, &import(CapBits::STAT), 0);
    world.sent(OTHER);
    world.ask(Call::Mkdir { entry: entry(Ino(0x1000), "below"), mode: 0o755 });
    assert_eq!(world.sent_of::<ClientRequest>(OTHER).len(), 1);
}

#[test]
fn a_session_that_was_opened_by_force_is_used() {
    let mut world = two();
    world.tell(RANK, &forward(OTHER, 1), 0);
    learn(&mut world, OTHER, &[]);
    // The rank is not active for us yet, so that we have not asked; but it says OPEN.
    world.rank(OTHER, MdsState::REJOIN, 1);
    world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "a"), mode: 0o755 });
    assert!(!world.links.contains_key(&OTHER));
    world.rank(OTHER, MdsState::ACTIVE, 1);
    world.ready(OTHER);
    world.accept(OTHER);
    world.accept(OTHER);
    assert_eq!(world.sent_of::<ClientRequest>(OTHER).len(), 1);
}

#[test]
fn a_forward_that_counts_no_further_is_an_echo() {
    let mut world = two();
    let tid = world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "a"), mode: 0o755 });
    world.tell(RANK, &forward(OTHER, 1), tid.0);
    world.ready(OTHER);
    world.accept(OTHER);
    world.sent(RANK);
    world.tell(OTHER, &forward(RANK, 1), tid.0);
    assert!(world.sent_of::<ClientRequest>(RANK).is_empty());
    world.answer(OTHER, tid, 0, true, &Trace::default());
    assert_eq!(world.client.unfinished(), 0, "it is still with the other rank");
}

#[test]
fn a_map_of_an_epoch_that_is_known_says_nothing_new() {
    let mut world = two();
    let gid = world.map.up.remove(&RANK).unwrap();
    world.map.info.remove(&gid);
    world.tell_map();
    assert_eq!(world.client.session_state(RANK), "open");
}

#[test]
fn a_lease_is_taken_back_by_the_rank_that_gave_it() {
    let mut world = two();
    world.mkdir("a", 0x1000, true);
    learn(&mut world, OTHER, &[]);
    world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "b"), mode: 0o755 });
    world.ready(OTHER);
    world.accept(OTHER);
    world.sent(OTHER);
    let mut drop_cover = ClientCaps::new(CapOp::Revoke, Ino::ROOT);
    drop_cover.cap_id = CapId(1);
    drop_cover.caps = CapBits::PIN;
    world.tell(RANK, &drop_cover, 0);
    let revoke = ClientLease::new(LeaseAction::Revoke, Ino::ROOT, "a".into(), 9);
    world.tell(OTHER, &revoke, 0);
    let [ack] = &world.sent_of::<ClientLease>(OTHER)[..] else { panic!("one answer") };
    assert_eq!((ack.action, ack.seq), (LeaseAction::RevokeAck, 9));
    let known = world.client.known_name(world.now, &entry(Ino::ROOT, "a"));
    assert_eq!(known, KnownName::Taken(Ino(0x1000)));
    world.tell(RANK, &revoke, 0);
    assert_eq!(world.client.known_name(world.now, &entry(Ino::ROOT, "a")), KnownName::Unknown);
}

#[test]
fn an_export_sets_nothing_back_that_its_import_has_told() {
    let mut world = moving();
    let tid = world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "b"), mode: 0o755 });
    world.tell(RANK, &forward(OTHER, 1), tid.0);
    world.ready(OTHER);
    world.accept(OTHER);
    // It names another capability than the one that we have from the first rank, which stays until the export.
    let mut told = import(CapBits::STAT);
    told.peer.cap_id = CapId(7);
    world.tell(OTHER, &told, 0);
    world.tell(RANK, &export(), 0);
    assert!(world.client.generations(RANK, Ino(0x1000)).is_none());
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), CapBits::STAT);
    world.sent(OTHER);
    world.client.forget(world.now, Ino(0x1000));
    world.pass(Timing::default().release_delay);
    let releases = world.sent_of::<ClientCapRelease>(OTHER);
    assert_eq!(releases.last().map(|release| release.caps[0].issue_seq), Some(1), "that of the import");
}
