//! What survives: restarts twice in a row, torn ends, damage, full disks, two processes.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::fs;
use std::path::Path;

use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{
    Journal, JournalError, Limits, Permissions, Principal, SharedTable, Subtree, Table, Tag,
};
use support::{name, who};

fn table() -> Table {
    let root =
        Permissions::none().allow(Tag::Admin, "root").allow(Tag::Create, "...").allow(Tag::Read, "...");
    let config =
        [(String::new(), root), ("given/by/config".into(), Permissions::none().allow(Tag::Admin, "root"))];
    Table::with_permissions(Limits::default(), &who("service"), &config.into_iter().collect()).unwrap()
}

fn open(folder: &Path) -> SharedTable {
    SharedTable::with_journal(table(), Journal::open(folder).unwrap(), || Instant::ZERO).unwrap()
}

fn allow(table: &SharedTable, user: &str, at: &str) {
    table.set_permissions(&who(user), &name(at), &Permissions::none().allow(Tag::Read, "bob"), None).unwrap();
}

/// The permissions of every name there is, as its admin sees them.
fn picture(table: &SharedTable) -> Vec<(String, String)> {
    let root = Principal::new("root");
    let mut seen = Vec::new();
    for at in ["", "a", "a/b", "a/b/c", "d", "e/f/g", "e", "e/f", "given", "given/by", "given/by/config"] {
        let text = format!("{:?}", table.permissions(&root, &name(at)));
        seen.push((at.to_owned(), text));
    }
    seen
}

#[test]
fn s50_permissions_survive_a_restart_and_a_second_one() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    for (user, at) in [("ann", "a"), ("ann", "a/b"), ("ann", "a/b/c"), ("bob", "d"), ("bob", "e/f/g")] {
        allow(&first, user, at);
    }
    first.delete(&who("ann"), &name("a/b"), Subtree::Delete).unwrap();
    first.delete(&who("root"), &name("given/by"), Subtree::Delete).unwrap();
    allow(&first, "ann", "a");
    let before = picture(&first);
    drop(first);
    // The compaction at a start once kept one child of each node only, which showed at the start after it.
    for restart in 1..=3 {
        let again = open(folder.path());
        assert_eq!(picture(&again), before, "restart {restart}");
    }
    assert!(before.iter().any(|(at, text)| at == "e/f/g" && text.contains("bob")));
    assert!(before.iter().any(|(at, text)| at == "a/b" && text.contains("NoSuchName")));
    assert!(before.iter().any(|(at, text)| at == "given/by/config" && text.contains("NoSuchName")));
}

#[test]
fn a_torn_end_at_any_byte_costs_at_most_the_step_that_was_never_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let table = open(folder.path());
    allow(&table, "ann", "a");
    let one = picture(&table);
    let file = folder.path().join("mounts.journal");
    let whole_before = fs::read(&file).unwrap().len();
    allow(&table, "bob", "d");
    let two = picture(&table);
    drop(table);
    let bytes = fs::read(&file).unwrap();
    for end in whole_before..=bytes.len() {
        fs::write(&file, &bytes[..end]).unwrap();
        let expected = if end == bytes.len() { &two } else { &one };
        assert_eq!(&picture(&open(folder.path())), expected, "cut at {end}");
        // A hole instead of a cut: the length reached the disk, the content did not.
        let mut hole = bytes.clone();
        hole[end..].fill(0);
        fs::write(&file, &hole).unwrap();
        assert_eq!(&picture(&open(folder.path())), expected, "zeros from {end}");
    }
}

#[test]
fn damage_before_the_end_is_an_error_and_not_a_loss() {
    let folder = tempfile::tempdir().unwrap();
    let table = open(folder.path());
    allow(&table, "ann", "a");
    let middle = fs::read(folder.path().join("mounts.journal")).unwrap().len() - 3;
    allow(&table, "bob", "d");
    drop(table);
    let file = folder.path().join("mounts.journal");
    let mut bytes = fs::read(&file).unwrap();
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert!(matches!(Journal::open(folder.path()), Err(JournalError::Damaged { .. })));
    fs::write(&file, b"something else entirely").unwrap();
    assert!(matches!(Journal::open(folder.path()), Err(JournalError::Foreign)));
    assert_eq!(fs::read(&file).unwrap(), b"something else entirely", "untouched");
}

#[test]
fn a_compact_copy_that_was_never_put_in_place_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let table = open(folder.path());
    allow(&table, "ann", "a");
    let before = picture(&table);
    drop(table);
    fs::write(folder.path().join("mounts.journal.new"), b"half a copy").unwrap();
    assert_eq!(picture(&open(folder.path())), before);
}

#[test]
fn a_journal_has_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let held = Journal::open(folder.path()).unwrap();
    assert!(matches!(Journal::open(folder.path()), Err(JournalError::InUse)));
    drop(held);
    Journal::open(folder.path()).unwrap();
}

#[cfg(unix)]
#[test]
fn permissions_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("new");
    let table = open(&folder);
    allow(&table, "ann", "a");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("mounts.journal")), 0o600);
}

#[test]
fn a_step_that_does_not_fit_is_refused_and_nothing_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let table = open(folder.path());
    let before = picture(&table);
    let mut large = Permissions::none();
    for at in 0..1000 {
        let pattern = format!("{at}:{}", "x".repeat(500));
        for tag in [Tag::Read, Tag::Mount, Tag::Create] {
            large = large.allow(tag, &pattern);
        }
    }
    assert!(table.set_permissions(&who("ann"), &name("a"), &large, None).is_err());
    assert_eq!(picture(&table), before);
    allow(&table, "ann", "a");
    assert_ne!(picture(&table), before);
}
