use super::world::*;
use crate::*;

const FILE: Ino = Ino(0x2000);
/// What a server gives to the only one who uses a file.
const ALL: CapBits = CapBits(CapBits::STAT.0 | CapBits::EXCL.0 | 0x3c00);

/// An answer that opens the file, with everything that a server gives to the first who does.
fn opened(world: &mut World, tid: Tid, mode: u32, seq: u32) {
    let mut file = inode(FILE.0, mode, ALL, seq);
    file.cap.wanted = CapBits::PIN | CapBits::FILE_SHARED | CapBits::FILE_READ | CapBits::FILE_CACHE;
    world.answer(RANK, tid, 0, true, &Trace { dentry: None, target: Some(file) });
}

fn open(world: &mut World, seq: u32) {
    let tid = world.ask(Call::Open { ino: FILE });
    opened(world, tid, FILE_MODE, seq);
}

#[test]
fn of_an_open_file_nothing_is_wanted_but_that_it_stays() {
    let mut world = World::open();
    let tid = world.ask(Call::Open { ino: FILE });
    let [request] = &world.sent_of::<ClientRequest>(RANK)[..] else { panic!("one request") };
    assert_eq!(request.flags, RequestFlags::NONE, "a server aborts if it is to tell the name of a number");
    opened(&mut world, tid, FILE_MODE, 1);
    let [update] = &world.sent_of::<ClientCaps>(RANK)[..] else { panic!("one update") };
    assert_eq!((update.op, update.caps, update.wanted), (CapOp::Update, CapBits::STAT, CapBits::PIN));
    assert_eq!(update.seq, 1);
    assert_eq!(world.client.times_open(FILE), 1);
    // Neither a trim nor the user makes it go.
    world.client.forget(world.now, FILE);
    assert_eq!(world.client.times_open(FILE), 1);
}

#[test]
fn it_goes_back_when_it_was_closed_as_often_as_it_was_opened() {
    let mut world = World::open();
    open(&mut world, 1);
    open(&mut world, 2);
    world.sent(RANK);
    world.client.close_file(world.now, FILE);
    world.drain();
    world.pass(core::time::Duration::from_secs(1));
    assert_eq!(world.sent_of::<ClientCapRelease>(RANK), []);
    world.client.close_file(world.now, FILE);
    world.drain();
    world.pass(core::time::Duration::from_secs(1));
    let [release] = &world.sent_of::<ClientCapRelease>(RANK)[..] else { panic!("one release") };
    assert_eq!((release.caps[0].ino, release.caps[0].issue_seq), (FILE, 2));
    // Once more is no harm.
    world.client.close_file(world.now, FILE);
    assert_eq!(world.client.times_open(FILE), 0);
}

#[test]
fn what_has_no_name_is_kept_only_while_it_is_open() {
    let mut world = World::open();
    let look = |world: &mut World, seq| {
        let tid = world.ask(Call::GetAttr { target: FILE.into(), want: CapBits::STAT });
        let mut file = inode(FILE.0, FILE_MODE, CapBits::STAT, seq);
        file.nlink = 0;
        world.answer(RANK, tid, 0, true, &Trace { dentry: None, target: Some(file) });
        world.client.caps(world.now, FILE)
    };
    assert_eq!(look(&mut world, 1), CapBits::NONE);
    open(&mut world, 2);
    assert_eq!(look(&mut world, 3), CapBits::STAT);
}

#[test]
fn a_link_is_not_open_whatever_is_answered() {
    let mut world = World::open();
    let tid = world.ask(Call::Open { ino: FILE });
    let link = inode(FILE.0, 0o120_777, CapBits::NONE, 0);
    world.answer(RANK, tid, 0, true, &Trace { dentry: None, target: Some(link) });
    assert_eq!(world.client.times_open(FILE), 0);
}

#[test]
fn it_is_listed_in_a_reconnect_and_lost_with_the_session() {
    let mut world = World::open();
    open(&mut world, 1);
    world.fail(RANK);
    world.rank(RANK, MdsState::RECONNECT, 2);
    world.ready(RANK);
    let [reconnect] = &world.sent_of::<ClientReconnect>(RANK)[..] else { panic!("one message") };
    assert_eq!((reconnect.caps[&FILE].issued, reconnect.caps[&FILE].wanted), (CapBits::STAT, CapBits::PIN));
    world.accept(RANK);
    world.rank(RANK, MdsState::ACTIVE, 2);
    assert_eq!(world.client.times_open(FILE), 1);
    world.events();
    world.session(RANK, SessionOp::Close, 0);
    assert!(world.events().contains(&Event::FileLost(FILE)));
    assert_eq!(world.client.times_open(FILE), 0);
}

#[test]
fn only_what_is_open_is_locked_and_closing_it_gives_up_the_locks() {
    let mut world = World::open();
    let (rule, kind) = (LockRule::Flock, LockKind::Exclusive);
    let lock = Lock { rule, kind, owner: 1, pid: 1, wait: false };
    let call = Call::SetLock { ino: FILE, lock };
    let refused = world.client.request(world.now, call.clone(), Caller::default());
    assert!(matches!(refused, Err(NotTaken::Misuse(_))));
    open(&mut world, 1);
    let tid = world.ask(call);
    world.answer(RANK, tid, 0, true, &Trace::default());
    world.sent(RANK);
    world.client.close_file(world.now, FILE);
    world.drain();
    world.pass(core::time::Duration::from_secs(1));
    let [release] = &world.sent_of::<ClientCapRelease>(RANK)[..] else { panic!("one release") };
    assert_eq!(release.caps[0].ino, FILE);
}

#[test]
fn more_than_the_limit_is_an_error_that_delays_nobody() {
    let limits = Limits { pins_max: 1, ..Limits::default() };
    let mut world = World::open_with(Config { limits, ..Config::default() });
    open(&mut world, 1);
    world.events();
    for call in [
        Call::Open { ino: Ino(0x3000) },
        Call::Create { entry: entry(Ino::ROOT, "f"), mode: 0o644, exclusive: true },
    ] {
        world.ask(call);
        let refused = Error::Refused(Errno::EMFILE);
        assert!(
            matches!(&world.events()[..], [Event::Answer { result: Err(error), .. }] if *error == refused)
        );
    }
    // What is open already takes no more room.
    open(&mut world, 2);
    assert_eq!(world.client.times_open(FILE), 2);
}
