//! What every engine has to do, whichever it is.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

use cuttlebone_bucket::engine::{Engine, Fault, LogEngine, MemoryEngine, RowAt, Rows, Snapshot, WriteBatch};

fn rows(snapshot: &impl Snapshot, from: u64) -> Vec<(RowAt, Vec<u8>)> {
    let mut all = Vec::new();
    let each = &mut |at: RowAt, row: &[u8]| {
        all.push((at, row.to_vec()));
        true
    };
    snapshot.rows(from, u64::MAX, each).unwrap();
    all
}

fn append(texts: &[&[u8]]) -> Rows {
    let mut rows = Rows::default();
    for text in texts {
        rows.push(text);
    }
    rows
}

/// Ten rows, then two, and the first five are given up.
fn conforms(engine: &impl Engine) -> Vec<RowAt> {
    let texts: Vec<Vec<u8>> = (0..10_u8).map(|number| vec![number; 1 + usize::from(number)]).collect();
    let batch = WriteBatch {
        append: append(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>()),
        documents: vec![(3, vec![1]), (1, vec![2]), (2, vec![3])],
        ..WriteBatch::default()
    };
    let base = engine.apply(&batch).unwrap();
    let mut places: Vec<_> = batch.append.places(base).collect();
    assert!(places.windows(2).all(|pair| pair[0].end() <= pair[1].address));
    let before = engine.snapshot().unwrap();
    let batch = WriteBatch {
        append: append(&[b"ten", b""]),
        remove_before: places[5].address,
        documents: vec![(1, Vec::new()), (2, vec![4])],
    };
    let base = engine.apply(&batch).unwrap();
    places.extend(batch.append.places(base));
    assert!(places[9].end() <= places[10].address);
    assert_eq!(engine.row(places[5]).unwrap(), Some(vec![5; 6]));
    assert_eq!(engine.row(places[11]).unwrap(), Some(vec![]));
    assert_eq!(before.row(places[0]).unwrap(), Some(vec![0]), "a snapshot does not change");
    assert_eq!(before.row(places[10]).unwrap(), None);
    assert_eq!(rows(&before, 0).len(), 10);
    let after = rows(&engine.snapshot().unwrap(), engine.span().start);
    assert!(after.len() >= 7, "what was not given up is there");
    assert_eq!(after.last(), Some(&(places[11], vec![])));
    assert!(engine.span().end >= places[11].end());
    assert_eq!(engine.documents().unwrap(), [(2, vec![4]), (3, vec![1])]);
    let mut seen = 0;
    let stop = &mut |_, _: &[u8]| {
        seen += 1;
        seen < 2
    };
    engine.snapshot().unwrap().rows(engine.span().start, u64::MAX, stop).unwrap();
    assert_eq!(seen, 2);
    places
}

/// Going on from where the last call ended brings every row once.
fn walks(engine: &impl Engine) {
    let (snapshot, span) = (engine.snapshot().unwrap(), engine.span());
    let all = rows(&snapshot, span.start);
    let (mut parts, mut at) = (Vec::new(), span.start);
    loop {
        let each = &mut |at: RowAt, row: &[u8]| {
            parts.push((at, row.to_vec()));
            true
        };
        let next = snapshot.rows(at, 1, each).unwrap();
        if next == at {
            break;
        }
        at = next;
    }
    assert_eq!(parts, all);
}

#[test]
fn rows_in_memory_conform() {
    let engine = MemoryEngine::default();
    let places = conforms(&engine);
    assert_eq!(engine.row(places[0]).unwrap(), None);
    walks(&engine);
}

#[test]
fn rows_in_a_log_conform_and_are_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(folder.path()).unwrap();
    let places = conforms(&engine);
    walks(&engine);
    let before = rows(&engine.snapshot().unwrap(), 0);
    drop(engine);
    let engine = LogEngine::open(folder.path()).unwrap();
    assert_eq!(engine.row(places[5]).unwrap(), Some(vec![5; 6]));
    assert_eq!(engine.documents().unwrap(), [(2, vec![4]), (3, vec![1])]);
    assert_eq!(rows(&engine.snapshot().unwrap(), 0), before);
    walks(&engine);
}

#[test]
fn an_injected_fault_happens_once_and_as_told() {
    let engine = MemoryEngine::default();
    let batch = WriteBatch { append: append(&[b"row"]), ..WriteBatch::default() };
    engine.fail_after(1, Fault::Nothing);
    assert!(engine.documents().is_ok());
    assert!(engine.apply(&batch).is_err());
    assert!(engine.is_empty());
    engine.fail_after(0, Fault::Done);
    assert!(engine.apply(&batch).is_err());
    assert_eq!(engine.len(), 1);
}
