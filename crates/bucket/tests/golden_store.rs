//! A store that an earlier version has written opens, and holds what it held.
//!
//! `CUTTLEBONE_BLESS=1` records one more, named after the version; those that are there are never rewritten.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

use std::fs;
use std::path::{Path, PathBuf};

use cuttlebone_bucket::engine::LogEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Mode, Now, VbucketState};
use cuttlebone_checkpoint::{Item, Limits, Seqno};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn open(folder: &Path) -> Bucket<LogEngine> {
    let limits =
        BucketLimits { log: Limits { items_max: 10, ..Limits::default() }, ..BucketLimits::default() };
    Bucket::open(LogEngine::open(folder).unwrap(), limits, Now::default(), 1).unwrap()
}

/// Keys of every kind in two vbuckets, a deletion, a window that was reverted, and one that was left open.
fn write(bucket: &Bucket<LogEngine>) {
    let now = Now::default();
    let set = |id, item: Item| {
        bucket.set(id, now, item, Mode::Set).unwrap();
    };
    bucket.create(0, now, VbucketState::Active).unwrap();
    bucket.create(7, now, VbucketState::Active).unwrap();
    for number in 0..25_u32 {
        let value = vec![b'x'; 100 * number as usize];
        set(0, Item::set(format!("key{number}").as_bytes(), &value).unwrap().with_flags(number));
    }
    set(7, Item::set(b"seven", b"before").unwrap().with_expiry(4_000_000_000));
    bucket.delete(0, now, b"key3", None).unwrap();
    bucket.flush_all().unwrap();
    bucket.start_update(now).unwrap();
    set(7, Item::set(b"seven", b"window").unwrap());
    bucket.revert_update(now, || now).unwrap();
    set(7, Item::set(b"another", b"after").unwrap());
    bucket.flush_all().unwrap();
    bucket.start_update(now).unwrap();
    set(0, Item::set(b"key1", b"never persisted").unwrap());
    bucket.flush_all().unwrap();
}

fn holds(bucket: &Bucket<LogEngine>, name: &str) {
    let get = |id, key: &str| bucket.get(id, Now::default(), key.as_bytes()).ok().map(|found| found.item);
    for number in (0..25_u32).filter(|number| *number != 3) {
        let item = get(0, &format!("key{number}")).unwrap_or_else(|| panic!("{name}: key{number}"));
        assert_eq!(
            (item.value().len(), item.flags(), item.seqno()),
            (100 * number as usize, number, Seqno(u64::from(number) + 1)),
            "{name}: key{number}"
        );
    }
    assert_eq!(get(0, "key3"), None, "{name}");
    let seven = get(7, "seven").unwrap();
    assert_eq!((seven.value(), seven.expiry()), (&b"before"[..], 4_000_000_000), "{name}");
    assert_eq!(get(7, "another").unwrap().value(), b"after", "{name}");
    let status = bucket.status(7).unwrap();
    assert_eq!((status.items, status.state), (2, VbucketState::Active), "{name}");
    assert_eq!(status.reverted.map(|(_, first, last)| (first, last)), Some((Seqno(2), Seqno(2))), "{name}");
    assert!(!status.in_window, "{name}");
    bucket.recount().unwrap();
}

fn copied(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

#[test]
fn stores_of_every_version_open() {
    let current = folder().join(env!("CARGO_PKG_VERSION"));
    if std::env::var_os("CUTTLEBONE_BLESS").is_some() && !current.exists() {
        fs::create_dir_all(&current).unwrap();
        write(&open(&current));
        fs::remove_file(current.join("lock")).unwrap();
    }
    let mut versions = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let recorded = entry.unwrap().path();
        let copy = copied(&recorded);
        let name = recorded.display().to_string();
        holds(&open(copy.path()), &name);
        // What today's version has added at the start is read again, too.
        holds(&open(copy.path()), &name);
        versions += 1;
    }
    assert!(versions > 0 && current.exists(), "nothing is recorded; run with CUTTLEBONE_BLESS=1");
}

#[test]
fn a_recorded_store_with_any_byte_changed_is_refused_or_says_what_was_there() {
    let recorded = folder().join(env!("CARGO_PKG_VERSION"));
    let copy = copied(&recorded);
    let file = fs::read_dir(copy.path()).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&file).unwrap();
    let step = (bytes.len() / 200).max(1);
    for at in (0..bytes.len()).step_by(step) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, &damaged).unwrap();
        // Only what was written last can be taken for a commit that was interrupted, and nobody can tell.
        if let Ok(engine) = LogEngine::open(copy.path()) {
            let opened = Bucket::open(engine, BucketLimits::default(), Now::default(), 1);
            assert!(opened.is_err() || at > bytes.len() / 2, "byte {at} of {}", bytes.len());
        }
    }
}
