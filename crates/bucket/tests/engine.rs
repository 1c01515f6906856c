//! What every engine has to do, whichever it is.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

use cuttlebone_bucket::engine::{Engine, Fault, MemoryEngine, RedbEngine, Snapshot, WriteBatch};

fn rows(snapshot: &impl Snapshot, range: core::ops::Range<u64>) -> Vec<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    snapshot
        .rows(range, &mut |number, row| {
            all.push((number, row.to_vec()));
            true
        })
        .unwrap();
    all
}

fn conforms(engine: &impl Engine) {
    let batch = WriteBatch {
        append: (0..10).map(|number| (number, vec![u8::try_from(number).unwrap()])).collect(),
        documents: vec![(3, vec![1]), (1, vec![2]), (2, vec![3])],
        ..WriteBatch::default()
    };
    engine.apply(&batch).unwrap();
    let before = engine.snapshot().unwrap();
    let batch = WriteBatch {
        append: vec![(10, vec![10]), (u64::MAX - 1, vec![])],
        remove: 0..5,
        documents: vec![(1, Vec::new()), (2, vec![4])],
    };
    engine.apply(&batch).unwrap();
    assert_eq!(engine.row(0).unwrap(), None);
    assert_eq!(engine.row(5).unwrap(), Some(vec![5]));
    assert_eq!(before.row(0).unwrap(), Some(vec![0]), "a snapshot does not change");
    assert_eq!(before.row(10).unwrap(), None);
    assert_eq!(rows(&before, 3..6).len(), 3);
    assert_eq!(rows(&engine.snapshot().unwrap(), 0..u64::MAX).len(), 7);
    assert_eq!(engine.documents().unwrap(), [(2, vec![4]), (3, vec![1])]);
    let mut seen = 0;
    let stop = &mut |_, _: &[u8]| {
        seen += 1;
        seen < 2
    };
    engine.snapshot().unwrap().rows(0..u64::MAX, stop).unwrap();
    assert_eq!(seen, 2);
}

#[test]
fn rows_in_memory_conform() {
    conforms(&MemoryEngine::default());
}

#[test]
fn rows_in_redb_conform_and_are_there_when_it_is_opened_again() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    conforms(&RedbEngine::open(&inner).unwrap());
    let engine = RedbEngine::open(&inner).unwrap();
    assert_eq!(engine.row(5).unwrap(), Some(vec![5]));
    assert!(RedbEngine::open(&inner).is_err(), "one process at a time");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&inner.join("bucket.redb"))), (0o700, 0o600));
}

#[test]
fn an_injected_fault_happens_once_and_as_told() {
    let engine = MemoryEngine::default();
    let batch = WriteBatch { append: vec![(1, vec![1])], ..WriteBatch::default() };
    engine.fail_after(1, Fault::Nothing);
    assert!(engine.documents().is_ok());
    assert!(engine.apply(&batch).is_err());
    assert!(engine.is_empty());
    engine.fail_after(0, Fault::Done);
    assert!(engine.apply(&batch).is_err());
    assert_eq!(engine.len(), 1);
}
