//! Pulls as a monsync requester delivers them, and what readers see of them.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use core::sync::atomic::{AtomicBool, Ordering};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use bytes::Bytes;
use cuttlebone_store::{
    Difference, Error, Keep, Limits, NewPoint, Point, ProviderFault, Pull, Reader, Selector, Store, View,
    Writer, diff, export_trace, list_crc, verify,
};
use cuttlebone_wire::{Decode, Encode, Features, Op, Transaction, crc32c};

fn encoded(ops: Vec<Op>) -> Bytes {
    Transaction::new(ops).to_bytes(Features::PACIFIC)
}

fn decoded(raw: &Bytes) -> Transaction {
    Transaction::decode(&mut cuttlebone_wire::Reader::new(raw)).unwrap()
}

/// A store at version 10, with versions 11 and 12 committed while it was sent.
fn full_chunks() -> Vec<Bytes> {
    let version = |n: u64| {
        encoded(vec![
            Op::put("osdmap", n.to_string(), format!("map {n}")),
            Op::put("osdmap", "last_committed", n.to_le_bytes().to_vec()),
            Op::erase("logm", "8"),
            Op::erase_range("mgr", "2", "4"),
        ])
    };
    vec![
        encoded(vec![
            Op::put("auth", "1", "secret"),
            Op::put("logm", "8", "eight"),
            Op::put("logm", "9", "nine"),
        ]),
        encoded(vec![
            Op::put("paxos", "11", version(11)),
            Op::put("mgr", "1", "one"),
            Op::put("mgr", "2", "two"),
            Op::put("mgr", "3", "three"),
            Op::put("mgr", "4", "four"),
            Op::put("mgr_command_descs", "", "an empty key"),
        ]),
        encoded(vec![
            Op::put("paxos", "12", version(12)),
            Op::put("osdmap", "10", "map 10"),
            Op::put("osdmap", "last_committed", 10_u64.to_le_bytes().to_vec()),
            Op::put("paxos", "10", encoded(vec![Op::put("osdmap", "10", "map 10")])),
            Op::put("paxos", "last_committed", 10_u64.to_le_bytes().to_vec()),
        ]),
    ]
}

fn full_pull(writer: &mut Writer) -> Point {
    let mut pull = writer.begin(Pull::Full { start: 10 }).unwrap();
    for raw in full_chunks() {
        pull.append(&raw, &decoded(&raw)).unwrap();
    }
    pull.replay(10..=12).unwrap();
    pull.commit(NewPoint { last_committed: 12, ..NewPoint::default() }).unwrap()
}

fn recent_pull(writer: &mut Writer, version: u64) -> Point {
    let change = encoded(vec![
        Op::put("osdmap", version.to_string(), format!("map {version}")),
        Op::put("osdmap", "last_committed", version.to_le_bytes().to_vec()),
    ]);
    let raw = encoded(vec![Op::put("paxos", version.to_string(), change)]);
    let mut pull = writer.begin(Pull::Recent { from: version - 1 }).unwrap();
    pull.append(&raw, &decoded(&raw)).unwrap();
    pull.replay(version..=version).unwrap();
    pull.commit(NewPoint { last_committed: version, ..NewPoint::default() }).unwrap()
}

fn keys(view: &View) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    view.entries(None).unwrap().map(Result::unwrap).map(|e| text(e.prefix()) + ":" + &text(e.key())).collect()
}

fn latest(dir: &Path) -> View {
    Reader::open(dir).unwrap().at(Selector::Latest).unwrap()
}

#[test]
fn a_full_pull_is_what_its_replay_makes_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), Limits::default()).unwrap();
    let point = full_pull(&mut writer);
    let view = latest(dir.path());
    assert_eq!(view.point(), &point);
    assert_eq!(
        keys(&view),
        [
            "auth:1",
            "logm:9",
            "mgr:1",
            "mgr:4",
            "mgr_command_descs:",
            "osdmap:10",
            "osdmap:11",
            "osdmap:12",
            "osdmap:last_committed",
            "paxos:10",
            "paxos:11",
            "paxos:12",
            "paxos:last_committed",
        ]
    );
    assert_eq!(point.keys, 13);
    assert_eq!(view.get(b"osdmap", b"12").unwrap().unwrap(), "map 12");
    assert_eq!(view.get(b"paxos", b"last_committed").unwrap().unwrap(), 12_u64.to_le_bytes()[..]);
    assert_eq!(view.get(b"logm", b"8").unwrap(), None);
    let mut lines = Vec::new();
    list_crc(&view, Some(b"auth"), &mut lines).unwrap();
    assert_eq!(lines, format!("auth\t1\t{}\n", crc32c(0, b"auth1secret")).into_bytes());
}

#[test]
fn every_point_stays_readable_while_later_ones_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut limits = Limits::default();
    limits.tail_points_max = 3;
    limits.runs_max = 2;
    let mut writer = Writer::open(dir.path(), limits).unwrap();
    let mut seen = Vec::new();
    full_pull(&mut writer);
    seen.push(keys(&latest(dir.path())));
    for version in 13..60 {
        recent_pull(&mut writer, version);
        seen.push(keys(&latest(dir.path())));
    }
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.points().count(), seen.len());
    for (point, seen) in reader.points().zip(&seen) {
        let view = reader.at(Selector::Id(point.id)).unwrap();
        assert_eq!(&keys(&view), seen);
        assert_eq!(view.point().keys, seen.len() as u64);
    }
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(names.len() < 10, "{names:?}");
}

#[test]
fn pulls_too_large_to_stay_inline_do_not_pile_up_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut limits = Limits::default();
    limits.inline_entries_max = 0;
    let mut writer = Writer::open(dir.path(), limits).unwrap();
    full_pull(&mut writer);
    for version in 13..60 {
        recent_pull(&mut writer, version);
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        // Lock, manifest, log, and runs: those before a merge, and the one that a pull adds.
        assert!(files <= 3 + Limits::default().runs_max + 1, "{files} files");
    }
    let view = latest(dir.path());
    assert_eq!(keys(&view).len() as u64, view.point().keys);
    assert!(verify(dir.path()).unwrap().is_sound());
}

#[test]
fn a_pull_that_is_dropped_leaves_the_point_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), Limits::default()).unwrap();
    let point = full_pull(&mut writer);
    for pull in [Pull::Full { start: 10 }, Pull::Recent { from: 12 }] {
        let mut pull = writer.begin(pull).unwrap();
        let raw = full_chunks().remove(0);
        pull.append(&raw, &decoded(&raw)).unwrap();
        drop(pull);
        assert_eq!(latest(dir.path()).point(), &point);
    }
    drop(writer);
    let mut writer = Writer::open(dir.path(), Limits::default()).unwrap();
    assert_eq!(writer.latest(), Some(&point));
    assert_eq!(recent_pull(&mut writer, 13).last_committed, 13);
    assert_eq!(Reader::open(dir.path()).unwrap().points().count(), 2);
}

#[test]
fn equal_content_has_an_equal_digest_whatever_its_history() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), Limits::default()).unwrap();
    let first = full_pull(&mut writer);
    let recent = recent_pull(&mut writer, 13);
    assert_ne!(first.digest, recent.digest);
    let rebased = writer.rebase().unwrap().unwrap();
    assert_eq!((rebased.digest, rebased.keys, rebased.bytes), (recent.digest, recent.keys, recent.bytes));
    assert_eq!(rebased.generation, recent.generation + 1);
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(
        keys(&reader.at(Selector::Id(recent.id)).unwrap()),
        keys(&reader.at(Selector::Id(rebased.id)).unwrap())
    );
    writer.prune(Keep::Points(1)).unwrap();
    assert_eq!(Reader::open(dir.path()).unwrap().points().count(), 1);
    assert_eq!(keys(&latest(dir.path())), keys(&reader.at(Selector::Id(recent.id)).unwrap()));
}

#[test]
fn what_a_provider_must_not_send_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), Limits::default()).unwrap();
    full_pull(&mut writer);
    let mut refuse = |ops: Vec<Op>, replay: Option<u64>, committed: u64| {
        let mut pull = writer.begin(Pull::Recent { from: 12 }).unwrap();
        let raw = encoded(ops);
        pull.append(&raw, &decoded(&raw))?;
        if let Some(version) = replay {
            pull.replay(13..=version)?;
        }
        pull.commit(NewPoint { last_committed: committed, ..NewPoint::default() })
    };
    let mut fault = |ops, replay, committed| match refuse(ops, replay, committed) {
        Err(Error::Provider(fault)) => fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(vec![Op::put("a\0b", "k", "v")], None, 12), ProviderFault::NulInPrefix);
    assert_eq!(fault(vec![], Some(13), 13), ProviderFault::MissingVersion(13));
    assert!(matches!(
        fault(vec![Op::put("paxos", "13", "no transaction")], Some(13), 13),
        ProviderFault::Malformed { version: 13, .. }
    ));
    assert_eq!(
        fault(vec![Op::put("osdmap", "1", "")], None, 13),
        ProviderFault::LastCommitted { expected: 13, found: Some(12) }
    );
    assert_eq!(latest(dir.path()).point().last_committed, 12);
}

#[test]
fn a_second_writer_is_told_who_holds_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let _writer = Writer::open(dir.path(), Limits::default()).unwrap();
    match Writer::open(dir.path(), Limits::default()) {
        Err(Error::Locked { pid }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_else_can_read_what_is_written() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/b");
    let mut writer = Writer::open(&dir, Limits::default()).unwrap();
    full_pull(&mut writer);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_directory_without_a_copy_is_told_from_a_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Reader::open(dir.path()), Err(Error::NotAStore { .. })));
    assert!(matches!(Reader::open(dir.path().join("absent")), Err(Error::NotAStore { .. })));
    let mut writer = Writer::open(dir.path(), Limits::default()).unwrap();
    full_pull(&mut writer);
    drop(writer);
    std::fs::remove_file(dir.path().join("manifest")).unwrap();
    assert!(Reader::open(dir.path()).unwrap_err().is_corruption());
    assert!(Writer::open(dir.path(), Limits::default()).unwrap_err().is_corruption());
}

#[test]
fn a_directory_in_use_by_others_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("passwd"), "root").unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open.clone()).unwrap();
    assert!(matches!(Writer::open(dir.path(), Limits::default()), Err(Error::ForeignDirectory { .. })));
    assert_eq!(std::fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, open.mode());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn readers_never_see_anything_but_whole_points() {
    let dir = tempfile::tempdir().unwrap();
    let mut limits = Limits::default();
    limits.tail_points_max = 2;
    limits.runs_max = 2;
    let mut writer = Writer::open(dir.path(), limits).unwrap();
    full_pull(&mut writer);
    let done = AtomicBool::new(false);
    let looks = thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut looks, mut last) = (0, 0);
                    while !done.load(Ordering::Relaxed) {
                        let view = latest(dir.path());
                        let version = view.point().last_committed;
                        assert!(version >= last, "the latest point went back from {last} to {version}");
                        let keys = keys(&view);
                        assert_eq!(keys.len() as u64, view.point().keys);
                        assert!(keys.contains(&format!("osdmap:{version}")));
                        assert!(!keys.contains(&format!("osdmap:{}", version + 1)));
                        (looks, last) = (looks + 1, version);
                    }
                    looks
                })
            })
            .collect();
        for version in 13..80 {
            recent_pull(&mut writer, version);
            if version.is_multiple_of(20) {
                writer.rebase().unwrap();
                writer.prune(Keep::Points(1)).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
    });
    assert!(looks > 2, "only {looks} looks");
    assert!(verify(dir.path()).unwrap().is_sound());
}

#[test]
fn a_copy_that_outgrows_its_limits_starts_anew_and_keeps_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut limits = Limits::default();
    limits.generation_points_max = 5;
    let mut writer = Writer::open(dir.path(), limits).unwrap();
    full_pull(&mut writer);
    let mut rebases = 0;
    for version in 13..60 {
        recent_pull(&mut writer, version);
        rebases += u32::from(writer.maintain(Keep::Points(8)).unwrap().rebased.is_some());
        let points = Reader::open(dir.path()).unwrap().points().count();
        assert!(points <= 8 + 7, "{points} points");
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        assert!(files < 24, "{files} files");
    }
    assert!(rebases >= 8, "{rebases} rebases");
    assert_eq!(latest(dir.path()).point().last_committed, 59);
    assert!(verify(dir.path()).unwrap().is_sound());
}

#[test]
fn no_value_appears_in_debug_output_or_errors() {
    let secret = "AQBsecretkey==";
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), Limits::default()).unwrap();
    let raw = encoded(vec![Op::put("auth", "client.admin", secret), Op::put("paxos", "1", encoded(vec![]))]);
    let mut pull = writer.begin(Pull::Full { start: 1 }).unwrap();
    pull.append(&raw, &decoded(&raw)).unwrap();
    let mut texts = vec![format!("{pull:?}")];
    pull.replay(1..=1).unwrap();
    pull.commit(NewPoint { last_committed: 1, ..NewPoint::default() }).unwrap();
    let view = latest(dir.path());
    let mut transactions = view.transactions(&[]).unwrap();
    transactions.next_batch().unwrap();
    let entry = view.find(b"auth", b"client.admin").unwrap().unwrap();
    texts.push(format!("{writer:?} {view:?} {entry:?} {transactions:?} {:?}", view.entries(None).unwrap()));

    let log = dir.path().join("g00000001.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let at = bytes.windows(secret.len()).position(|window| window == secret.as_bytes()).unwrap();
    bytes[at + 3] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let error = view.value(&entry).unwrap_err();
    assert!(format!("{error:?}").contains("auth:client.admin"));
    texts.push(format!("{error:?} {:?}", verify(dir.path()).unwrap()));
    for text in texts {
        // As text, and as the list of numbers that a slice of bytes prints.
        assert!(!text.contains("secretkey") && !text.contains("115, 101, 99, 114, 101, 116"), "{text}");
    }
}

#[test]
fn a_difference_is_named_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), Limits::default()).unwrap();
    writer
        .apply(&Transaction::new(vec![
            Op::put("a", "1", "x"),
            Op::put("a", "2", "x"),
            Op::put("a", "3", "x"),
        ]))
        .unwrap();
    let before = writer.view().unwrap();
    writer
        .apply(&Transaction::new(vec![Op::erase("a", "1"), Op::put("a", "2", "y"), Op::put("b", "", "x")]))
        .unwrap();
    let after = writer.view().unwrap();
    let found: Vec<String> = diff(&before, &after)
        .unwrap()
        .map(|difference| match difference.unwrap() {
            Difference::Added(entry) => format!("+{}", entry.prefix().escape_ascii()),
            Difference::Changed { after, .. } => format!("~{}", after.key().escape_ascii()),
            Difference::Removed(entry) => format!("-{}", entry.key().escape_ascii()),
        })
        .collect();
    assert_eq!(found, ["-1", "~2", "+b"]);
    assert_eq!(diff(&after, &after).unwrap().count(), 0);
    assert_eq!(before.get(b"a", b"1").unwrap().as_deref(), Some(&b"x"[..]), "a view stays as it was");
}

#[test]
fn verify_names_versions_that_a_service_lacks_or_should_not_have() {
    let number = |n: u64| n.to_le_bytes().to_vec();
    let check = |ops: Vec<Op>, expected: Option<&str>| {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path(), Limits::default()).unwrap();
        writer.apply(&Transaction::new(ops)).unwrap();
        let problems = verify(dir.path()).unwrap().problems;
        assert_eq!(problems.first().map(ToString::to_string).as_deref(), expected);
    };
    let window = |prefix: &'static str, first, last| {
        vec![
            Op::put(prefix, "first_committed", number(first)),
            Op::put(prefix, "last_committed", number(last)),
        ]
    };
    let with = |mut ops: Vec<Op>, prefix: &'static str, versions: &[u64]| {
        ops.extend(versions.iter().map(|version| Op::put(prefix, version.to_string(), "map")));
        ops
    };
    check(with(window("osdmap", 8, 11), "osdmap", &[8, 9, 10, 11]), None);
    // What trimming has left behind is of no concern.
    check(with(window("osdmap", 8, 11), "osdmap", &[7, 8, 9, 10, 11]), None);
    check(
        with(window("osdmap", 8, 11), "osdmap", &[8, 9, 11, 12]),
        Some("at point 1: osdmap has 1 versions missing ([10]) and 1 beyond 11 ([12])"),
    );
    check(
        window("monmap", 1, 1),
        Some("at point 1: monmap has 1 versions missing ([1]) and 0 beyond 1 ([])"),
    );
    // Two services count and keep nothing; a user's key may be called anything.
    check([window("config", 1, 7), window("health", 1, 9), window("mon_config_key", 5, 3)].concat(), None);
    // A leader's proposal lies one above.
    let mut paxos = with(window("paxos", 3, 4), "paxos", &[3, 4, 5]);
    check(paxos.clone(), Some("at point 1: paxos has 0 versions missing ([]) and 1 beyond 4 ([5])"));
    paxos.push(Op::put("paxos", "pending_v", number(5)));
    check(paxos, None);
    // A counter that lies costs no search as long as what it says.
    check(
        with(window("osdmap", 1, u64::MAX - 1), "osdmap", &[2]),
        Some(
            "at point 1: osdmap has 18446744073709551613 versions missing \
             ([1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]) and 0 beyond 18446744073709551614 ([])",
        ),
    );
}

#[test]
fn a_point_is_found_by_number_version_or_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), Limits::default()).unwrap();
    full_pull(&mut writer);
    recent_pull(&mut writer, 13);
    let reader = Reader::open(dir.path()).unwrap();
    let find = |text: &str| reader.at(text.parse().unwrap()).map(|view| view.point().id.0);
    assert_eq!(find("latest").unwrap(), 2);
    assert_eq!((find("1").unwrap(), find("id:2").unwrap()), (1, 2));
    assert_eq!((find("version:12").unwrap(), find("version:13").unwrap()), (1, 2));
    assert_eq!(find("time:0").unwrap(), 2);
    assert_eq!(find("version:99").unwrap_err().to_string(), "no point version:99");
    for text in ["", "newest", "id:", "version:-1", "time:99999999999", "x:1"] {
        assert!(text.parse::<Selector>().is_err(), "{text}");
    }
}

#[test]
fn an_export_that_cannot_be_written_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path().join("copy"), Limits::default()).unwrap();
    full_pull(&mut writer);
    let trace = dir.path().join("trace");
    export_trace(&writer.view().unwrap(), &trace).unwrap();
    let mode = std::fs::metadata(&trace).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let before = std::fs::read(&trace).unwrap();
    // A value that was damaged since stops the next export in the middle.
    let log = dir.path().join("copy/g00000001.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let at = bytes.windows(6).position(|window| window == b"secret").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    assert!(export_trace(&writer.view().unwrap(), &trace).unwrap_err().is_corruption());
    assert_eq!(std::fs::read(&trace).unwrap(), before);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "a temporary file was left behind");
}
