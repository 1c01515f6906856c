//! Messages as a metadata server of 16.2.15 and a client of it exchanged them: they decode to what they meant, and
//! come back as the same bytes.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use cuttlebone_mds::{
    CapBits, CapOp, ClientCaps, ClientLease, ClientReconnect, ClientReply, ClientRequest,
    ClientRequestForward, ClientSession, ClientSnap, Created, DelegatedInos, FsMapUserMessage, Ino,
    InodeStat, LeaseAction, Op, Rank, ReplyForm, RequestArgs, RequestFlags, SessionOp, SessionRequest,
    SnapId,
};
use cuttlebone_wire::{Body, Decode, Encode, FeatureSet, Features, Message, Reader, WallTime};

/// Bytes in hexadecimal; blanks do not count, and `"text"` stands for itself.
fn bytes(text: &str) -> Bytes {
    let mut bytes = Vec::new();
    for (index, part) in text.split('"').enumerate() {
        if index % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<_> = part.chars().filter_map(|digit| digit.to_digit(16)).collect();
        assert_eq!(digits.len() % 2, 0, "{part}");
        bytes.extend(digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("two digits")));
    }
    bytes.into()
}

/// Decodes a front, and checks that it comes back.
fn check<B: Body>(version: u16, front: &str) -> B {
    comes_back(Message { version, front: bytes(front), ..Message::default() })
}

fn comes_back<B: Body>(message: Message) -> B {
    let message = Message { kind: B::KIND, ..message };
    let (body, features) = B::decode(&message).unwrap_or_else(|error| panic!("{}: {error}", B::NAME));
    assert_eq!(body.message_like(&message, features), message);
    for (part, whole) in [&message.front, &message.middle, &message.data].iter().enumerate() {
        for len in 0..whole.len() {
            let mut cut = message.clone();
            *[&mut cut.front, &mut cut.middle, &mut cut.data][part] = whole.slice(..len);
            assert!(B::decode(&cut).is_err(), "{} cut to {len} bytes", B::NAME);
        }
    }
    body
}

const REQUEST_OPEN: &str = r#"00000000 0000000000000000 0000000000000000 00000000 00000000 03000000
    09000000 "entity_id" 05000000 "admin" 08000000 "hostname" 09000000 "protohost" 04000000 "root" 01000000 "/"
    08000000 ffff010000000000 0101 0c000000 08000000 ff3f000000000000 00000000"#;

#[test]
fn a_session_is_opened() {
    let open: ClientSession = check(5, REQUEST_OPEN);
    let pairs = [("hostname", "protohost"), ("entity_id", "admin"), ("root", "/")];
    let metadata: BTreeMap<_, _> = pairs.map(|(key, value)| (key.into(), value.into())).into();
    let metric_spec = cuttlebone_mds::MetricSpec { metrics: FeatureSet::from_bits(0..14) };
    let features = FeatureSet::from_bits(0..17);
    let request = SessionRequest::Open { metadata, features, metric_spec };
    assert_eq!(ClientSession::from(request), open);
    let message = open.message(Features::PACIFIC, 0);
    assert_eq!((message.version, message.front.len()), (5, 126));
}

#[test]
fn a_session_message_that_says_little_is_of_the_first_version() {
    let front = "04000000 0100000000000000 0000000000000000 00000000 00000000";
    let renew: ClientSession = check(1, front);
    assert_eq!(renew, SessionRequest::RenewCaps { seq: 1 }.into());
    let message = renew.message(Features::PACIFIC, 0);
    assert_eq!((message.version, message.front), (1, bytes(front)));
}

#[test]
fn a_refusal_says_why() {
    let reject: ClientSession = check(
        5,
        r#"0b000000 0000000000000000 0000000000000000 00000000 00000000 01000000 0c000000 "error_string"
        19000000 "blocklisted (blacklisted)" 00000000 0101 04000000 00000000 01000000"#,
    );
    assert_eq!(reject.op, SessionOp::Reject);
    assert_eq!(reject.error_string(), Some("blocklisted (blacklisted)"));
    assert!(reject.is_blocklisted());
    let mut older = reject;
    older.flags = 0;
    assert!(older.is_blocklisted(), "older servers say it in words");
    assert!(!ClientSession::new(SessionOp::Reject, 0).is_blocklisted());
}

#[test]
fn a_directory_is_asked_for() {
    let mkdir: ClientRequest = check(
        5,
        r#"0100 0000000000000000 0a000000 02000000 00 00 0000 20120000 00000000 00000000 0000000000000000
        ed010000 0000000000000000000000000000000000000000000000000000
        0000000000000000000000000000000000000000000000000000
        01 0100000000000000 08000000 "t8395051" 01 0000000000000000 00000000
        8f02006b 11eecb3a 00000000 00000000"#,
    );
    assert_eq!((mkdir.op, mkdir.mdsmap_epoch), (Op::MKDIR, 10));
    assert_eq!(mkdir.flags, RequestFlags::WANT_DENTRY);
    assert_eq!(mkdir.args, RequestArgs::MkDir { mode: 0o755 });
    assert_eq!((mkdir.path.ino, &mkdir.path.path[..]), (Ino::ROOT, &b"t8395051"[..]));
    assert_eq!(mkdir.stamp, WallTime { secs: 0x6b00_028f, nanos: 0x3acb_ee11 });
    let message = mkdir.message(Features::PACIFIC, 1);
    assert_eq!((message.version, message.compat_version), (5, 1));
}

#[test]
fn a_change_becomes_safe() {
    let reply: ClientReply = check(1, "01130000 00000000 09000000 01 00 00 00000000 00000000 00000000");
    assert_eq!((reply.op, reply.result, reply.safe), (Op::CREATE, 0, true));
    let trace = reply.trace(ReplyForm::Versioned).unwrap();
    assert_eq!((trace.dentry, trace.target), (None, None));
    assert_eq!(reply.created(), Ok(None));
    assert_eq!(reply.realms(), Ok(Vec::new()));
}

/// The root directory of a new filesystem, as it is the first part of the reply to the request above.
const ROOT: &str = r"06 01 40010000 0100000000000000 feffffffffffffff 00000000
    1700000000000000 0100000000000000
    55000000 00000000 0500000000000000 01000000 00000000 0100000000000000 01
    00004000 01000000 00004000 00000000 00000000 00000000 02000000
    8f02006b11eecb3a 8f02006b11eecb3a 0000000000000000 00000000
    0000000000000000 0000000000000000 ffffffffffffffff 00000000
    ed410000 00000000 00000000 01000000
    0000000000000000 0300000000000000 0000000000000000 0b00000000000000 0400000000000000 8f02006b11eecb3a
    00000000 00000000 0200000000000000 04000000 00000000 0100000000000000 00000000
    01 01 10000000 00000000000000000000000000000000 00000000
    2100006b eb345c39 0300000000000000 ffffffff 0000000000000000 0100000000000000 00000000 00";

#[test]
fn an_inode_has_every_attribute() {
    let bytes = bytes(ROOT);
    assert_eq!(bytes.len(), 326);
    let mut r = Reader::new(&bytes);
    let root = InodeStat::decode(&mut r).unwrap();
    r.finish("inode").unwrap();
    assert_eq!((root.ino, root.snap, root.mode), (Ino::ROOT, SnapId::HEAD, 0o040_755));
    assert_eq!((root.cap.caps, root.cap.cap_id.0, root.cap.realm), (CapBits(0x55), 5, Ino::ROOT));
    assert_eq!((root.subdirs, root.rfiles, root.rsubdirs, root.rsnaps), (3, 11, 4, 1));
    assert_eq!((root.dir_pin, root.change_attr, root.inline_version), (Rank::NONE, 3, 1));
    assert_eq!(&root.xattrs[..], [0; 4], "no attributes, which is not the same as not sent");
    assert!(root.is_dir() && !root.fscrypt);
    assert_eq!(root.to_bytes(Features::PACIFIC), bytes);
    for len in 0..bytes.len() {
        assert!(InodeStat::decode(&mut Reader::new(&bytes.slice(..len))).is_err());
    }
}

#[test]
fn a_creation_may_hand_out_numbers() {
    let reply = |extra| ClientReply { extra: bytes(extra), ..ClientReply::default() };
    let delegating = reply("01 01 1c000000 0200000000010000 01000000 0300000000010000 f401000000000000");
    let range = DelegatedInos { start: Ino(0x100_0000_0003), len: 500 };
    let created = Created { ino: Ino(0x100_0000_0002), delegated: Some(vec![range]) };
    assert_eq!(delegating.created(), Ok(Some(created.clone())));
    assert_eq!(ClientReply::default().with_created(&created), delegating);
    let bare = Created { ino: Ino(0x100_0000_0008), delegated: None };
    assert_eq!(reply("0800000000010000").created(), Ok(Some(bare)));
    assert_eq!(&reply(r#"01 01 06000000 02000000 "-1""#).vxattr().unwrap()[..], b"-1");
}

#[test]
fn a_lock_says_who_holds_it() {
    let extra =
        bytes("0000000000000000 6400000000000000 4b38000000000000 4d00000000000000 7b00000000000000 02");
    let lock = ClientReply { extra: extra.clone(), ..ClientReply::default() }.file_lock().unwrap();
    assert_eq!((lock.start, lock.length, lock.client), (0, 100, 0x384b));
    assert_eq!((lock.owner, lock.pid, lock.kind), (77, 123, 2));
    assert_eq!(lock.to_bytes(Features::PACIFIC), extra);
}

#[test]
fn a_request_is_passed_on() {
    let forward: ClientRequestForward = check(1, "01000000 01000000 01");
    assert_eq!((forward.dest, forward.forwards, forward.must_resend), (Rank(1), 1, true));
}

#[test]
fn a_lease_is_taken_back_and_the_answer_is_the_same_with_another_action() {
    let text =
        r#"01 0100 0100000000000000 0200000000000000 feffffffffffffff 03000000 00000000 07000000 "t523171""#;
    let revoke: ClientLease = check(1, text);
    assert_eq!((revoke.action, revoke.ino, revoke.seq), (LeaseAction::Revoke, Ino::ROOT, 3));
    let answer = revoke.revoke_ack(None).message(Features::PACIFIC, 0).front;
    assert_eq!((answer[0], &answer[1..]), (4, &bytes(text)[1..]));
    assert_eq!(revoke.revoke_ack(Some(4)).seq, 4);
    assert_eq!(revoke.revoke_ack(Some(2)).seq, 3);
    assert_eq!(revoke.duration, Duration::ZERO);
}

#[test]
fn attributes_are_written_back() {
    let flush: ClientCaps = check(
        11,
        r"07000000 0700000000010000 0100000000000000 0100000000000000 01000000 01000000 dd3f0000 00000000 08000000
        00000000 0000000000000000 00000000 05000000 06000000 a0810000 01000000 00000000 0000000000000000
        0000000000000000 0000000000000000 ffffffffffffffff 01000000 0000000000000000 0000000000000000
        8f02006b11eecb3a 00004000 01000000 00004000 00000000 00000000 00000000 02000000 00000000
        00000000 ffffffffffffffff 00000000 00000000 0700000000000000 05000000 06000000 00000000
        0000000000000000 0100000000000000 00000000 ffffffffffffffff ffffffffffffffff",
    );
    assert_eq!((flush.op, flush.dirty, flush.mode), (CapOp::Flush, CapBits::AUTH_EXCL, 0o100_640));
    assert_eq!((flush.oldest_flush_tid, flush.caller_uid, flush.files), (7, 5, -1));
    assert_eq!(flush.message(Features::PACIFIC, 7).front.len(), 252);
}

#[test]
fn a_realm_is_split_off() {
    let snap: ClientSnap = check(
        1,
        r"00000000 0300000000000000 00000000 00000000 40000000
        0300000000000000 0000000000000000 0000000000000000 0000000000000000 0300000000000000
        02000000 00000000 0300000000000000 0200000000000000",
    );
    assert_eq!((snap.realms[0].ino, snap.realms[0].seq), (Ino(3), 3));
    assert_eq!(snap.realms[0].snaps, [SnapId(3), SnapId(2)]);
}

#[test]
fn a_client_says_what_it_holds() {
    let data = bytes(
        r#"02000000
        0100000000000000 02 01 38000000 00000000 0100000000000000 00000000 55000000 0100000000000000
        0000000000000000 08000000 00000000 00000000 0000000000000000
        a400000000010000 02 01 41000000 09000000 "r15044343" 0100000000000000 00000000 55000000 0100000000000000
        0100000000000000 08000000 00000000 00000000 0000000000000000
        01000000 01 01 18000000 0100000000000000 0100000000000000 0000000000000000 00"#,
    );
    let reconnect: ClientReconnect =
        comes_back(Message { version: 5, compat_version: 4, data, ..Message::default() });
    assert_eq!(reconnect.caps[&Ino::ROOT].issued, CapBits(0x55));
    let name = &reconnect.caps[&Ino(0x100_0000_00a4)];
    assert_eq!((&name.path[..], name.path_base), (&b"r15044343"[..], Ino::ROOT));
    assert_eq!((reconnect.realms[0].seq, reconnect.more), (1, false));
    assert!(reconnect.message(Features::PACIFIC, 0).front.is_empty());
}

#[test]
fn filesystems_have_names() {
    let map: FsMapUserMessage = check(
        1,
        r#"0a000000 01 01 20000000 0a000000 01000000 01000000 01 01 0e000000 01000000 06000000 "cephfs""#,
    );
    assert_eq!((map.epoch, map.map.default_fscid.0, &map.map.filesystems[0].name[..]), (10, 1, "cephfs"));
}
