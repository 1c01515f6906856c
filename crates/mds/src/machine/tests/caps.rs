use alloc::vec::Vec;

use super::world::*;
use crate::*;

const X: CapBits = CapBits::EXCL;

/// A message about the capability of an inode.
fn caps(op: CapOp, ino: u64, bits: CapBits, seq: u32) -> ClientCaps {
    let mut caps = ClientCaps::new(op, Ino(ino));
    caps.cap_id = CapId(1);
    caps.caps = bits;
    caps.seq = seq;
    caps.mode = 0o700;
    caps
}

#[test]
fn a_revoke_is_answered_at_once_whatever_else_waits() {
    let mut world = World::open();
    world.mkdir("a", 0x1000, true);
    world.ask(Call::Mkdir { entry: entry(Ino(0x1000), "b"), mode: 0o755 });
    world.sent(RANK);
    let kept = CapBits::PIN | CapBits::LINK_SHARED;
    world.tell(RANK, &caps(CapOp::Revoke, 0x1000, kept, 5), 0);
    let [update] = &world.sent_of::<ClientCaps>(RANK)[..] else { panic!("one answer") };
    assert_eq!((update.op, update.ino, update.caps), (CapOp::Update, Ino(0x1000), kept));
    assert_eq!((update.seq, update.issue_seq, update.wanted), (5, 1, CapBits::NONE));
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), kept);
}

#[test]
fn a_revoke_that_takes_nothing_is_answered_too() {
    let mut world = World::open();
    world.tell(RANK, &caps(CapOp::Revoke, 1, CapBits::STAT, 9), 0);
    let [update] = &world.sent_of::<ClientCaps>(RANK)[..] else { panic!("one answer") };
    assert_eq!((update.caps, update.seq), (CapBits::STAT, 9));
}

#[test]
fn a_revoke_of_what_we_do_not_have_is_answered_with_nothing_kept() {
    let mut world = World::open();
    world.tell(RANK, &caps(CapOp::Revoke, 0x77, CapBits::STAT, 3), 0);
    let [update] = &world.sent_of::<ClientCaps>(RANK)[..] else { panic!("one answer") };
    assert_eq!((update.caps, update.seq), (CapBits::PIN, 3));
}

#[test]
fn a_grant_is_taken_in_and_not_answered() {
    let mut world = World::open();
    world.tell(RANK, &caps(CapOp::Grant, 1, CapBits::STAT | X, 4), 0);
    assert!(world.sent(RANK).is_empty());
    assert_eq!(world.client.caps(world.now, Ino::ROOT), CapBits::STAT | X);
    let known = world.client.known_attributes(world.now, Ino::ROOT, CapBits::AUTH_SHARED).unwrap();
    assert_eq!(known.mode, 0o040_700, "the type stays");
}

#[test]
fn a_message_about_an_older_incarnation_changes_nothing() {
    let mut world = World::open();
    let mut old = caps(CapOp::Revoke, 1, CapBits::PIN, 9);
    old.cap_id = CapId(7);
    world.tell(RANK, &old, 0);
    assert_eq!(world.client.caps(world.now, Ino::ROOT), CapBits::STAT);
    let [update] = &world.sent_of::<ClientCaps>(RANK)[..] else { panic!("one answer") };
    assert_eq!(update.cap_id, CapId(7));
}

/// What a call gives back of the root, which is held with `held`.
fn check(held: CapBits, call: &Call, expected: Option<CapBits>) {
    let mut world = World::open();
    world.tell(RANK, &caps(CapOp::Grant, 1, held, 4), 0);
    world.ask(call.clone());
    let [request] = &world.sent_of::<ClientRequest>(RANK)[..] else { panic!("one request") };
    let kept: Vec<CapBits> = request.releases.iter().map(|release| release.caps).collect();
    assert_eq!(kept.first().copied(), expected, "{call:?} with {held}");
    assert_eq!(world.client.caps(world.now, Ino::ROOT), expected.unwrap_or(held));
}

#[test]
fn what_the_server_would_take_goes_with_the_request() {
    let mkdir = || Call::Mkdir { entry: entry(Ino::ROOT, "x"), mode: 0o755 };
    let readdir = || Call::ReadDir {
        dir: Ino::ROOT.into(),
        frag: Frag::WHOLE,
        after: None,
        entries_max: 0,
        bytes_max: 0,
    };
    let chmod = || Call::SetAttr {
        ino: Ino::ROOT,
        changes: AttrChanges { mode: Some(0o700), ..AttrChanges::default() },
    };
    let all = CapBits::STAT | X;
    // As captured: those of its entries stay, since nobody else has them.
    check(all, &mkdir(), Some(CapBits::STAT | CapBits::FILE_EXCL));
    check(CapBits::STAT | CapBits::FILE_EXCL, &mkdir(), None);
    check(CapBits::STAT, &mkdir(), Some(CapBits::STAT.without(CapBits::FILE_SHARED)));
    check(CapBits::PIN, &mkdir(), None);
    check(all, &readdir(), Some(all.without(CapBits::FILE_EXCL)));
    check(CapBits::STAT, &readdir(), None);
    check(all, &chmod(), Some(all.without(CapBits::AUTH_SHARED | CapBits::AUTH_EXCL)));
    check(all, &Call::GetAttr { target: Ino::ROOT.into(), want: CapBits::STAT }, None);
}

#[test]
fn a_release_quotes_the_numbers_of_the_capability() {
    let mut world = World::open();
    world.tell(RANK, &caps(CapOp::Grant, 1, CapBits::STAT | X, 4), 0);
    world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "x"), mode: 0o755 });
    let [request] = &world.sent_of::<ClientRequest>(RANK)[..] else { panic!("one request") };
    let [release] = &request.releases[..] else { panic!("one release") };
    assert_eq!(
        (release.seq, release.issue_seq, release.mseq),
        (4, 1, 0),
        "the newest, and that of the last reply"
    );
}

#[test]
fn a_lease_goes_with_the_request_that_changes_its_name() {
    let mut world = World::open();
    world.mkdir("a", 0x1000, true);
    world.sent(RANK);
    world.ask(Call::Rmdir { entry: entry(Ino::ROOT, "a") });
    let [request] = &world.sent_of::<ClientRequest>(RANK)[..] else { panic!("one request") };
    let told: Vec<_> =
        request.releases.iter().map(|release| (release.ino.0, release.dname.to_vec())).collect();
    assert_eq!(told, [(1, b"a".to_vec()), (0x1000, Vec::new())]);
    assert_eq!(request.releases[0].dname_seq, 1);
    assert_eq!(request.releases[1].caps, CapBits::STAT.without(CapBits::LINK_SHARED));
}

#[test]
fn what_is_above_the_budget_goes_back_in_batches() {
    let limits = Limits { caps_max: 10, ..Limits::default() };
    let mut world = World::open_with(Config { limits, ..Config::default() });
    for ino in 0..30 {
        world.mkdir("a", 0x1000 + ino, true);
    }
    assert_eq!(world.client.remembered().held, 10);
    world.sent(RANK);
    world.pass(core::time::Duration::from_millis(100));
    let [release] = &world.sent_of::<ClientCapRelease>(RANK)[..] else { panic!("one batch") };
    // The root is used by every call and stays; the oldest of the others go.
    assert_eq!(release.caps.len(), 21);
    assert_eq!((release.caps[0].ino, release.caps[0].issue_seq), (Ino(0x1000), 1));
}

#[test]
fn what_is_unlinked_is_not_held_on_to() {
    let mut world = World::open();
    world.mkdir("a", 0x1000, true);
    let tid = world.ask(Call::Rmdir { entry: entry(Ino::ROOT, "a") });
    let root = inode(1, DIR_MODE, CapBits::STAT, 3);
    let trace = Trace { dentry: Some(dentry(root, "a", lease(2))), target: None };
    world.answer(RANK, tid, 0, false, &trace);
    assert_eq!(world.client.caps(world.now, Ino(0x1000)), CapBits::NONE);
    world.sent(RANK);
    world.pass(core::time::Duration::from_millis(100));
    let [release] = &world.sent_of::<ClientCapRelease>(RANK)[..] else { panic!("one batch") };
    assert_eq!(release.caps[0].ino, Ino(0x1000));
}

#[test]
fn snapshots_give_no_capability_whatever_stands_there() {
    let mut world = World::open();
    let tid = world
        .ask(Call::GetAttr { target: Target::in_snapshot(Ino::ROOT, name("s"), []), want: CapBits::STAT });
    let mut target = inode(0x1000, DIR_MODE, CapBits::STAT, 1);
    target.snap = SnapId(7);
    target.cap.cap_id = CapId(0x7fff_dead_beef);
    world.answer(RANK, tid, 0, true, &Trace { dentry: None, target: Some(target) });
    assert!(world.events().iter().any(|event| matches!(event, Event::Answer { result: Ok(_), .. })));
    assert_eq!(world.client.remembered().held, 1, "the root alone");
}

#[test]
fn a_watched_directory_tells_when_others_change_it() {
    let mut world = World::open();
    world.client.watch(world.now, Ino::ROOT).unwrap();
    world.drain();
    let [update] = &world.sent_of::<ClientCaps>(RANK)[..] else { panic!("one message") };
    assert_eq!((update.op, update.wanted), (CapOp::Update, CapBits::STAT));
    world.tell(RANK, &caps(CapOp::Revoke, 1, CapBits::STAT.without(CapBits::FILE_SHARED), 5), 0);
    let change = Change::Revoked(CapBits::FILE_SHARED);
    assert_eq!(world.events(), [Event::Changed { ino: Ino::ROOT, change }]);
    world.tell(RANK, &caps(CapOp::Grant, 1, CapBits::STAT, 6), 0);
    assert_eq!(world.events(), [Event::Changed { ino: Ino::ROOT, change: Change::Attributes }]);
}

#[test]
fn a_file_that_was_made_is_given_back_at_once() {
    let mut world = World::open();
    let tid = world.ask(Call::MakeFile { entry: entry(Ino::ROOT, "f"), mode: 0o640 });
    let [request] = &world.sent_of::<ClientRequest>(RANK)[..] else { panic!("one request") };
    assert_eq!(request.op, Op::CREATE);
    let RequestArgs::Open { flags, mode, .. } = request.args else { panic!("{:?}", request.args) };
    assert_eq!((flags, mode), (0o300, 0o640), "to read, create, exclusive");
    let mut file = inode(0x2000, FILE_MODE, CapBits::STAT, 1);
    file.cap.wanted = CapBits::FILE_READ;
    let dir = inode(1, DIR_MODE, CapBits::STAT, 2);
    let trace = Trace { dentry: Some(dentry(dir, "f", lease(1))), target: Some(file) };
    world.answer(RANK, tid, 0, false, &trace);
    world.pass(Timing::default().release_delay);
    let [release] = &world.sent_of::<ClientCapRelease>(RANK)[..] else { panic!("one message") };
    let [cap] = release.caps[..] else { panic!("one capability") };
    assert_eq!((cap.ino, cap.issue_seq), (Ino(0x2000), 1));
}

#[test]
fn what_goes_back_quotes_the_number_of_the_last_answer_and_not_the_newest() {
    let mut world = World::open();
    world.mkdir("a", 0x1000, true);
    world.tell(RANK, &caps(CapOp::Grant, 0x1000, CapBits::STAT | X, 9), 0);
    world.client.forget(world.now, Ino(0x1000));
    world.pass(Timing::default().release_delay);
    let [release] = &world.sent_of::<ClientCapRelease>(RANK)[..] else { panic!("one message") };
    assert_eq!((release.caps[0].ino, release.caps[0].issue_seq), (Ino(0x1000), 1), "9 would be ignored");
}
