use super::world::*;
use crate::*;

#[test]
fn a_recall_is_obeyed_at_once() {
    let mut world = World::open();
    for ino in 0..150 {
        world.mkdir("a", 0x1000 + ino, true);
    }
    world.events();
    world.sent(RANK);
    let mut recall = ClientSession::new(SessionOp::RecallState, 0);
    recall.max_caps = 100;
    world.tell(RANK, &recall, 0);
    assert_eq!(world.client.remembered().held, 100);
    let [release] = &world.sent_of::<ClientCapRelease>(RANK)[..] else { panic!("one batch") };
    assert_eq!(release.caps.len(), 51);
    assert_eq!(world.events(), [Event::Session(RANK, SessionNews::Recalled { caps_max: 100 })]);
}

#[test]
fn a_flush_is_acknowledged_behind_what_was_to_be_given_back() {
    let mut world = World::open();
    world.mkdir("a", 0x1000, true);
    world.client.forget(world.now, Ino(0x1000));
    world.drain();
    world.sent(RANK);
    world.session(RANK, SessionOp::FlushMsg, 6);
    let sent = world.sent(RANK);
    let kinds: alloc::vec::Vec<u16> = sent.iter().map(|message| message.kind.0).collect();
    assert_eq!(kinds, [0x313, 22]);
    let (ack, _) = <ClientSession as cuttlebone_wire::Body>::decode(&sent[1]).unwrap();
    assert_eq!((ack.op, ack.seq), (SessionOp::FlushMsgAck, 6));
}

#[test]
fn no_more_is_in_flight_than_the_window_admits() {
    let limits = Limits { in_flight_min: 1, in_flight_max: 8, ..Limits::default() };
    let mut world = World::open_with(Config { limits, ..Config::default() });
    let first = world.ask(Call::LookupIno { ino: Ino(5), want: CapBits::PIN });
    for ino in 0..20 {
        world.ask(Call::LookupIno { ino: Ino(0x1000 + ino), want: CapBits::PIN });
    }
    let window = world.client.window(RANK);
    assert_eq!(world.sent(RANK).len(), window);
    world.answer(RANK, first, -116, true, &Trace::default());
    assert_eq!(world.sent(RANK).len(), world.client.window(RANK) - (window - 1));
}

#[test]
fn a_lock_that_waits_does_not_keep_others_from_being_sent() {
    let limits = Limits { in_flight_min: 1, in_flight_max: 1, ..Limits::default() };
    let mut world = World::open_with(Config { limits, ..Config::default() });
    let lock = Lock { rule: LockRule::Fcntl, kind: LockKind::Exclusive, owner: 1, pid: 1, wait: true };
    let tid = world.ask(Call::Open { ino: Ino::ROOT });
    let root = inode(1, DIR_MODE, CapBits::STAT, 2);
    world.answer(RANK, tid, 0, true, &Trace { dentry: None, target: Some(root) });
    world.sent(RANK);
    for _ in 0..3 {
        world.ask(Call::SetLock { ino: Ino::ROOT, lock });
    }
    let read = world.ask(Call::LookupIno { ino: Ino(5), want: CapBits::PIN });
    let sent = world.sent_of::<ClientRequest>(RANK);
    assert_eq!(sent.len(), 4);
    assert_eq!(sent[3].oldest_client_tid, read.0, "nor the server from forgetting what is done");
}

#[test]
fn what_is_above_the_limits_is_refused() {
    let limits = Limits { requests_max: 2, syncs_max: 1, ..Limits::default() };
    let mut world = World::open_with(Config { limits, ..Config::default() });
    let call = || Call::LookupIno { ino: Ino(5), want: CapBits::PIN };
    world.ask(call());
    world.ask(call());
    assert_eq!(world.client.request(world.now, call(), Caller::default()), Err(NotTaken::Busy));

    let limits = Limits { request_bytes_max: 1000, ..Limits::default() };
    let mut world = World::open_with(Config { limits, ..Config::default() });
    let call = |len| Call::SetXattr {
        ino: Ino::ROOT,
        name: "user.x".into(),
        value: alloc::vec![0; len].into(),
        mode: XattrMode::Either,
    };
    let tid = world.ask(call(900));
    assert_eq!(world.client.request(world.now, call(900), Caller::default()), Err(NotTaken::Busy));
    world.answer(RANK, tid, 0, true, &Trace::default());
    world.ask(call(900));
}

#[test]
fn what_a_server_would_not_take_well_is_refused() {
    let mut world = World::open();
    let mut check = |call: Call| {
        let refused = world.client.request(world.now, call.clone(), Caller::default());
        assert!(matches!(refused, Err(NotTaken::Misuse(_))), "{call:?}");
    };
    check(Call::Symlink { entry: entry(Ino::ROOT, "s"), target: "".into() });
    check(Call::RemoveXattr { ino: Ino::ROOT, name: "".into() });
    check(Call::GetVxattr { ino: Ino::ROOT, name: "a\0b".into() });
    check(Call::SetAttr { ino: Ino::ROOT, changes: AttrChanges::default() });
}

#[test]
fn what_servers_keep_for_themselves_is_not_asked_for() {
    let mut world = World::open();
    for ino in [0x3, 0x100, 0x200, 0x600, 0xfff].map(Ino) {
        let from = entry(ino, "a");
        for call in [
            Call::GetAttr { target: ino.into(), want: CapBits::STAT },
            Call::LookupIno { ino, want: CapBits::STAT },
            Call::LookupParent { ino },
            Call::LookupName { ino: Ino(0x1000), dir: ino },
            Call::Mkdir { entry: entry(ino, "a"), mode: 0o755 },
            Call::Rename { from, to: entry(Ino::ROOT, "a") },
            Call::Link { entry: entry(Ino::ROOT, "a"), target: ino },
        ] {
            world.ask(call);
        }
    }
    assert!(world.sent(RANK).is_empty());
    let stale = Err(Error::Refused(Errno::ESTALE));
    assert!(
        world.events().iter().all(|event| matches!(event, Event::Answer { result, .. } if *result == stale))
    );
}

#[test]
fn a_request_that_was_not_sent_can_be_taken_back() {
    let mut world = World::new(Config::default());
    let tid = world.ask(Call::LookupIno { ino: Ino(5), want: CapBits::PIN });
    assert!(world.client.cancel(tid));
    world.ready(RANK);
    world.accept(RANK);
    assert!(world.sent_of::<ClientRequest>(RANK).is_empty());
    let tid = world.ask(Call::LookupIno { ino: Ino(5), want: CapBits::PIN });
    assert!(!world.client.cancel(tid), "the server may have done it");
}

#[test]
fn a_full_quota_is_kept_to_by_the_client() {
    let mut world = World::open();
    let quota = Quota { max_bytes: 0, max_files: 6 };
    let full = ClientQuota { ino: Ino::ROOT, rfiles: 4, rsubdirs: 2, quota, ..ClientQuota::default() };
    world.tell(RANK, &full, 0);
    let tid = world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "a"), mode: 0o755 });
    let refused = Error::Refused(Errno::EDQUOT);
    assert!(
        matches!(&world.events()[..], [Event::Answer { tid: t, result: Err(e), .. }] if *t == tid && *e == refused)
    );
    let room = ClientQuota { rfiles: 3, ..full };
    world.tell(RANK, &room, 0);
    world.ask(Call::Mkdir { entry: entry(Ino::ROOT, "a"), mode: 0o755 });
    assert_eq!(world.events(), []);
}

/// A directory below the root under a quota, and a file in it.
fn under_quota(quota: Quota) -> World {
    let mut world = World::open();
    world.mkdir("a", 0x1000, true);
    let told = ClientQuota { ino: Ino(0x1000), rbytes: 900, rsubdirs: 1, quota, ..ClientQuota::default() };
    world.tell(RANK, &told, 0);
    let tid = world.ask(Call::Lookup { entry: entry(Ino(0x1000), "f"), want: CapBits::STAT });
    let mut dir = inode(0x1000, DIR_MODE, CapBits::STAT, 2);
    dir.quota = quota;
    dir.rbytes = 900;
    let trace = Trace {
        dentry: Some(dentry(dir, "f", lease(1))),
        target: Some(inode(0x2000, FILE_MODE, CapBits::STAT, 1)),
    };
    world.answer(RANK, tid, 0, true, &trace);
    world.events();
    world
}

/// Why the client itself refuses a call.
fn refusal(world: &mut World, call: Call) -> Option<Errno> {
    world.ask(call);
    match &world.events()[..] {
        [] => None,
        [Event::Answer { result: Err(Error::Refused(errno)), .. }] => Some(*errno),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_does_not_grow_beyond_a_quota_of_bytes() {
    let mut world = under_quota(Quota { max_bytes: 1000, max_files: 0 });
    let resize = |from, to| Call::SetAttr {
        ino: Ino(0x2000),
        changes: AttrChanges { size: Some(Resize { from, to }), ..AttrChanges::default() },
    };
    assert_eq!(refusal(&mut world, resize(0, 101)), Some(Errno::EDQUOT));
    assert_eq!(refusal(&mut world, resize(0, 100)), None);
    assert_eq!(refusal(&mut world, resize(5000, 4000)), None, "smaller is always possible");
}

#[test]
fn nothing_moves_from_under_one_quota_to_under_another() {
    let rename = |from, to| Call::Rename { from: entry(Ino(from), "f"), to: entry(Ino(to), "g") };
    let mut world = under_quota(Quota { max_bytes: 1000, max_files: 0 });
    assert_eq!(refusal(&mut world, rename(0x1000, 1)), Some(Errno::EXDEV));
    assert_eq!(refusal(&mut world, rename(1, 0x1000)), Some(Errno::EXDEV));
    assert_eq!(refusal(&mut world, rename(0x1000, 0x1000)), None);
    let mut world = under_quota(Quota::default());
    assert_eq!(refusal(&mut world, rename(0x1000, 1)), None);
}

#[test]
fn an_old_server_is_not_asked_for_virtual_attributes() {
    let mut world = World::new(Config::default());
    let tid = world.ask(Call::GetVxattr { ino: Ino::ROOT, name: "ceph.dir.pin".into() });
    world.ready(RANK);
    let mut open = ClientSession::new(SessionOp::Open, 0);
    open.features = cuttlebone_wire::FeatureSet::from_bits(0..=13);
    world.tell(RANK, &open, 0);
    assert!(world.sent_of::<ClientRequest>(RANK).is_empty());
    let refused = Err(Error::Refused(Errno::EOPNOTSUPP));
    assert!(world.events().contains(&Event::Answer {
        tid,
        result: refused,
        durability: Durability::Committed
    }));
}

#[test]
fn a_lying_server_cannot_make_us_remember_without_end() {
    let limits = Limits {
        caps_max: 16,
        inodes_max: 16,
        dentries_max: 16,
        realms_max: 16,
        fragments_max: 4,
        ..Limits::default()
    };
    let mut world = World::open_with(Config { limits, ..Config::default() });
    for round in 0..100_u64 {
        let tid = world.ask(Call::LookupIno { ino: Ino(5), want: CapBits::PIN });
        let bits = if round % 2 == 0 { CapBits::STAT } else { CapBits::NONE };
        let dir = inode(0x10_000 + round, DIR_MODE, bits, 1);
        let text = alloc::format!("name{round}");
        let trace = Trace { dentry: Some(dentry(dir, &text, lease(1))), target: None };
        let realm = SnapRealm { ino: Ino(0x20_000 + round), ..SnapRealm::default() };
        let reply = ClientReply { safe: true, ..ClientReply::default() };
        let reply = reply.with_trace(&trace, ReplyForm::Versioned).with_realms(&[realm]);
        world.tell(RANK, &reply, tid.0);
    }
    let remembered = world.client.remembered();
    assert!(remembered.inodes <= 32 && remembered.held <= 16, "{remembered:?}");
    assert!(remembered.names <= 16 && remembered.realms <= 17, "{remembered:?}");
}

#[test]
fn a_listing_displaces_nothing() {
    let limits = Limits { caps_max: 8, ..Limits::default() };
    let mut world = World::open_with(Config { limits, ..Config::default() });
    world.mkdir("mine", 0x1000, true);
    let call =
        Call::ReadDir { dir: Ino::ROOT.into(), frag: Frag::WHOLE, after: None, entries_max: 0, bytes_max: 0 };
    let tid = world.ask(call);
    let entries = (0..100_u64).map(|at| {
        let name = alloc::format!("file{at}").into_bytes().into();
        DirEntry { name, lease: LeaseStat::default(), inode: inode(0x2000 + at, FILE_MODE, CapBits::STAT, 7) }
    });
    let page = DirPage { entries: entries.collect(), ..DirPage::default() };
    let root = Trace { dentry: None, target: Some(inode(1, DIR_MODE, CapBits::STAT, 3)) };
    let reply = ClientReply { safe: true, ..ClientReply::default() };
    let reply = reply.with_trace(&root, ReplyForm::Versioned).with_dir_page(&page, ReplyForm::Versioned);
    world.sent(RANK);
    world.tell(RANK, &reply, tid.0);
    assert_eq!(world.client.remembered().held, 8);
    assert_eq!(
        world.client.caps(world.now, Ino(0x1000)),
        CapBits::STAT,
        "what was used before is still there"
    );
    // What did not fit goes back with the number that it came with.
    world.pass(core::time::Duration::from_millis(100));
    let [release] = &world.sent_of::<ClientCapRelease>(RANK)[..] else { panic!("one batch") };
    assert_eq!(release.caps.len(), 94);
    assert!(release.caps.iter().all(|cap| cap.issue_seq == 7 && cap.cap_id == CapId(1)));
}
