use core::cell::{Cell, RefCell};
use std::sync::Barrier;

use super::*;
use crate::engine::Rows;

thread_local! {
    /// What the disk was told by this thread.
    static DONE: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn did(what: &'static str) {
    DONE.with_borrow_mut(|done| done.push(what));
}

fn done() -> Vec<&'static str> {
    DONE.take()
}

/// Lets one write fail.
#[derive(Debug, Default)]
pub(super) struct Faults(Cell<Option<Fault>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A full disk, after this many bytes.
    Full(usize),
    /// Everything was written, and the disk says that it could not keep it.
    Sync,
    /// None, but it takes its time: from the first to the second meeting at [`SLOW`].
    Slow,
}

static SLOW: Barrier = Barrier::new(2);

impl Fault {
    /// What is in the file then, without documents.
    fn leaves(self, frame: &Header, rows: &Rows) -> Vec<u8> {
        let mut bytes = [&frame.encode(), rows.as_bytes()].concat();
        if let Self::Full(kept) = self {
            bytes.truncate(kept);
        }
        bytes
    }
}

impl Faults {
    pub(super) fn meet(&self, segment: &Segment, frame: &Header, batch: &WriteBatch) -> Result<(), LogError> {
        let Some(fault) = self.0.take() else { return Ok(()) };
        if fault == Fault::Slow {
            SLOW.wait();
            SLOW.wait();
            return Ok(());
        }
        segment.litter(&fault.leaves(frame, &batch.append));
        Err(LogError::io("write", Path::new("disk"))(io::Error::from(io::ErrorKind::StorageFull)))
    }
}

fn rows(texts: &[&str]) -> Rows {
    let mut rows = Rows::default();
    for text in texts {
        rows.push(text.as_bytes());
    }
    rows
}

fn write(engine: &LogEngine, texts: &[&str]) -> Result<Vec<RowAt>, EngineError> {
    let batch = WriteBatch { append: rows(texts), ..WriteBatch::default() };
    let base = engine.apply(&batch)?;
    Ok(batch.append.places(base).collect())
}

fn all(engine: &LogEngine) -> Result<Vec<String>, EngineError> {
    let mut all = Vec::new();
    engine.snapshot()?.rows(engine.span().start, u64::MAX, &mut |at, row| {
        assert_eq!(engine.row(at).unwrap().as_deref(), Some(row));
        all.push(String::from_utf8_lossy(row).into_owned());
        true
    })?;
    Ok(all)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some()).collect();
    files.sort();
    files
}

#[test]
fn no_prefix_and_no_flipped_byte_of_a_segment_is_misread() {
    let sample = fuzzing::sample(0x1000, &[b"one", b"two", b"", b"three"], 2);
    for len in 0..=sample.len() {
        fuzzing::segment(&sample[..len]);
    }
    for at in 0..sample.len() {
        let mut damaged = sample.clone();
        damaged[at] = !damaged[at];
        fuzzing::segment(&damaged);
        let (frames, tail) = frame::scan(&damaged, 0x1000);
        assert!(tail != frame::Tail::Whole && frames.len() < 2, "byte {at}");
    }
}

/// Lengths that lie behind checksums that are right: only a defect of ours or an enemy with the salt writes these.
#[test]
fn lengths_that_lie_are_refused_without_being_believed() {
    let lies =
        [0_u64, 1, 5, 6, 39, 40, 41, 1 << 16, (1 << 32) - 1, 1 << 32, 1 << 62, u64::MAX - 40, u64::MAX];
    let bodies: [&[u8]; 5] =
        [b"", b"\xff\xff\xff\xff", b"\x03\0\xff\xff\xff\xff", b"\x01\0\0\0x\0\0\0\0", b"\x02\0\0\0x"];
    for documents in lies.into_iter().filter_map(|lie| u32::try_from(lie).ok()) {
        for rows in lies {
            for body in bodies {
                let header = Header { address: 0, salt: 1, documents, rows, body_crc: crc32c::crc32c(body) };
                let bytes = [&header.encode()[..], body].concat();
                let (frames, _) = frame::scan(&bytes, 0);
                let whole = u64::from(documents).checked_add(rows) == Some(body.len() as u64);
                assert_eq!(frames.len(), usize::from(whole), "{header:?} {body:?}");
                let folder = tempfile::tempdir().unwrap();
                std::fs::write(folder.path().join("0000000000000000.log"), &bytes).unwrap();
                // Whether it is an interruption or damage, it is not believed, and nothing panics.
                if let Ok(engine) = LogEngine::open(folder.path()) {
                    let _ = all(&engine);
                }
                // The same as a segment that others follow.
                let next = fuzzing::sample(bytes.len() as u64, &[b"row"], 1);
                std::fs::write(folder.path().join("0000000000000000.log"), &bytes).unwrap();
                std::fs::write(folder.path().join(format!("{:016x}.log", bytes.len())), next).unwrap();
                if let Ok(engine) = LogEngine::open(folder.path()) {
                    assert!(all(&engine).is_err() || whole, "{header:?} {body:?}");
                }
            }
        }
    }
}

#[test]
fn an_interrupted_commit_is_cut_off_wherever_it_was_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(folder.path()).unwrap();
    write(&engine, &["one", "two"]).unwrap();
    let whole = engine.span().end;
    let document =
        WriteBatch { append: rows(&["three"]), documents: vec![(7, vec![1])], ..WriteBatch::default() };
    engine.apply(&document).unwrap();
    drop(engine);
    let path = &files(folder.path())[0];
    let bytes = std::fs::read(path).unwrap();
    for len in usize::try_from(whole).unwrap()..bytes.len() {
        std::fs::write(path, &bytes[..len]).unwrap();
        let engine = LogEngine::open(folder.path()).unwrap();
        assert_eq!(all(&engine).unwrap(), ["one", "two"], "{len} bytes");
        assert_eq!((engine.documents().unwrap(), engine.span().end), (vec![], whole));
        assert_eq!(std::fs::metadata(path).unwrap().len(), whole, "nothing of it is left");
        write(&engine, &["four"]).unwrap();
        drop(engine);
        assert_eq!(all(&LogEngine::open(folder.path()).unwrap()).unwrap(), ["one", "two", "four"]);
    }
}

#[test]
fn a_flipped_bit_before_a_later_commit_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(folder.path()).unwrap();
    write(&engine, &["one", "two"]).unwrap();
    let first = usize::try_from(engine.span().end).unwrap();
    write(&engine, &["three"]).unwrap();
    drop(engine);
    let path = &files(folder.path())[0];
    let bytes = std::fs::read(path).unwrap();
    for bit in 0..first * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(path, &damaged).unwrap();
        let found = LogEngine::open(folder.path());
        assert!(matches!(found, Err(LogError::Damaged { address: 0, .. })), "bit {bit}: {found:?}");
    }
}

#[test]
fn a_flipped_bit_in_an_older_segment_is_found_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(folder.path()).unwrap();
    write(&engine, &["one"]).unwrap();
    let second = usize::try_from(engine.span().end).unwrap();
    write(&engine, &["two"]).unwrap();
    engine.writer().current = None;
    write(&engine, &["three"]).unwrap();
    drop(engine);
    let path = &files(folder.path())[0];
    let bytes = std::fs::read(path).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        std::fs::write(path, &damaged).unwrap();
        let read = LogEngine::open(folder.path()).map_err(EngineError::from).and_then(|engine| all(&engine));
        assert!(read.is_err(), "byte {at} of {}, the second commit begins at {second}", bytes.len());
    }
    std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(LogEngine::open(folder.path()), Err(LogError::Damaged { .. })), "it is too short");
    std::fs::remove_file(path).unwrap();
    let engine = LogEngine::open(folder.path()).unwrap();
    assert_eq!(all(&engine).unwrap(), ["three"], "a removed front is how a log gets shorter");
}

#[test]
fn a_missing_segment_between_others_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(folder.path()).unwrap();
    for text in ["one", "two", "three"] {
        write(&engine, &[text]).unwrap();
        engine.writer().current = None;
    }
    drop(engine);
    std::fs::remove_file(&files(folder.path())[1]).unwrap();
    assert!(matches!(LogEngine::open(folder.path()), Err(LogError::Damaged { .. })));
}

#[test]
fn after_a_failed_write_the_next_commit_goes_elsewhere_and_nothing_acknowledged_is_lost() {
    let texts = ["a row of some length", "and another one"];
    let len = rows(&texts).as_bytes().len() + frame::HEADER_BYTES;
    for fault in (0..len).map(Fault::Full).chain([Fault::Sync]) {
        for (retry, is_cut) in [(true, true), (true, false), (false, true), (false, false)] {
            let folder = tempfile::tempdir().unwrap();
            let engine = LogEngine::open(folder.path()).unwrap();
            let before = write(&engine, &["one"]).unwrap();
            engine.writer().faults.0.set(Some(fault));
            assert!(write(&engine, &texts).is_err());
            if !is_cut {
                // The file could not be cut either.
                let segment = Arc::clone(engine.segments().list().last().unwrap());
                let batch = WriteBatch { append: rows(&texts), ..WriteBatch::default() };
                let frame = header(engine.span().end, segment.salt(), &[], &batch);
                segment.litter(&fault.leaves(&frame, &batch.append));
            }
            assert_eq!(all(&engine).unwrap(), ["one"]);
            if retry {
                let after = write(&engine, &["two"]).unwrap();
                assert!(after[0] > before[0]);
                assert_eq!(files(folder.path()).len(), 2, "{fault:?}");
                assert_eq!(all(&engine).unwrap(), ["one", "two"]);
            }
            drop(engine);
            let engine = LogEngine::open(folder.path()).unwrap();
            let mut expected = vec!["one"];
            match (retry, fault) {
                (true, _) => expected.push("two"),
                // Nobody was told that it is there, and it is: so be it.
                (false, Fault::Sync) if !is_cut => expected.extend(texts),
                (false, _) => {}
            }
            assert_eq!(all(&engine).unwrap(), expected, "{fault:?}");
        }
    }
}

#[test]
fn a_segment_that_could_not_be_created_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(folder.path()).unwrap();
    for kept in [0, 10, 45] {
        engine.writer().faults.0.set(Some(Fault::Full(kept)));
        assert!(write(&engine, &["row"]).is_err());
        assert_eq!(files(folder.path()).len(), 0);
    }
    // And if the process ended before it could be removed.
    std::fs::write(folder.path().join("0000000000000000.log"), [1, 2, 3]).unwrap();
    drop(engine);
    let engine = LogEngine::open(folder.path()).unwrap();
    write(&engine, &["one"]).unwrap();
    assert_eq!(all(&engine).unwrap(), ["one"]);
}

#[test]
fn a_value_that_looks_like_a_frame_is_none() {
    let forged = fuzzing::sample(0, &[b"forged"], 1);
    let folder = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(folder.path()).unwrap();
    let mut batch = WriteBatch::default();
    batch.append.push(b"one");
    engine.apply(&batch).unwrap();
    let end = engine.span().end;
    // Its header says exactly where it will lie; only the salt is not known to whoever sent it.
    batch.append.clear();
    let at = end + frame::HEADER_BYTES as u64 + 4;
    let forged = fuzzing::sample(at, &[&forged], 1);
    batch.append.push(&forged);
    engine.apply(&batch).unwrap();
    drop(engine);
    let path = &files(folder.path())[0];
    let bytes = std::fs::read(path).unwrap();
    let mut torn = bytes;
    torn[usize::try_from(end).unwrap()] ^= 1;
    std::fs::write(path, &torn).unwrap();
    let engine = LogEngine::open(folder.path()).unwrap();
    assert_eq!(all(&engine).unwrap(), ["one"], "an interrupted commit, and not damage before a later one");
}

#[test]
fn the_front_goes_by_whole_segments_and_documents_stay() {
    let folder = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(folder.path()).unwrap();
    let document = vec![(1, vec![1]), (2, vec![2])];
    engine.apply(&WriteBatch { documents: document, ..WriteBatch::default() }).unwrap();
    let mut places = Vec::new();
    for text in ["one", "two", "three"] {
        engine.writer().current = None;
        places.push(write(&engine, &[text]).unwrap()[0]);
    }
    let snapshot = engine.snapshot().unwrap();
    let last = places[2].address;
    engine.writer().current = None;
    let batch = WriteBatch { remove_before: last, documents: vec![(1, vec![])], ..WriteBatch::default() };
    engine.apply(&batch).unwrap();
    assert_eq!(all(&engine).unwrap(), ["three"]);
    assert_eq!(engine.row(places[0]).unwrap(), None);
    assert_eq!(snapshot.row(places[0]).unwrap().as_deref(), Some(&b"one"[..]), "a snapshot stays");
    assert_eq!(files(folder.path()).len(), 2);
    drop(engine);
    let engine = LogEngine::open(folder.path()).unwrap();
    assert_eq!(engine.documents().unwrap(), [(2, vec![2])]);
    assert_eq!(all(&engine).unwrap(), ["three"]);
}

#[test]
fn a_segment_that_cannot_be_removed_keeps_those_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(folder.path()).unwrap();
    for text in ["one", "two", "three"] {
        write(&engine, &[text]).unwrap();
        engine.writer().current = None;
    }
    let (file, aside) = (files(folder.path())[0].clone(), folder.path().join("aside"));
    // A folder of that name that is not empty is nothing that a file's removal could remove.
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir_all(file.join("full")).unwrap();
    let remove_before = engine.span().end;
    engine.apply(&WriteBatch { remove_before, ..WriteBatch::default() }).unwrap();
    assert_eq!((all(&engine).unwrap().len(), files(folder.path()).len()), (3, 4));
    std::fs::remove_dir_all(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    write(&engine, &["four"]).unwrap();
    assert_eq!(all(&engine).unwrap(), ["four"]);
    drop(engine);
    assert_eq!(all(&LogEngine::open(folder.path()).unwrap()).unwrap(), ["four"]);
}

#[test]
fn rows_are_read_frame_by_frame_from_where_the_last_call_ended() {
    let folder = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(folder.path()).unwrap();
    for number in 0..10 {
        if number == 5 {
            engine.writer().current = None;
        }
        write(&engine, &[&number.to_string(), "x"]).unwrap();
    }
    let (snapshot, mut at, mut seen) = (engine.snapshot().unwrap(), engine.span().start, 0);
    for calls in 1.. {
        let next = snapshot.rows(at, 1, &mut |_, _| {
            seen += 1;
            true
        });
        if next.as_ref().is_ok_and(|next| *next == at) {
            assert_eq!((calls, seen, at), (11, 20, engine.span().end));
            return;
        }
        at = next.unwrap();
    }
}

#[test]
fn a_second_process_is_refused_and_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    let engine = LogEngine::open(&inner).unwrap();
    write(&engine, &["secret"]).unwrap();
    assert!(matches!(LogEngine::open(&inner), Err(LogError::InUse { .. })));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&files(&inner)[0])), (0o700, 0o600));
}

#[test]
fn a_reader_waits_for_no_write() {
    let folder = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(folder.path()).unwrap();
    let places = write(&engine, &["one", "two"]).unwrap();
    engine.writer().faults.0.set(Some(Fault::Slow));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&engine, &["three"]).unwrap());
        SLOW.wait();
        assert_eq!(engine.row(places[1]).unwrap().unwrap(), b"two");
        let mut seen = 0;
        let count = &mut |_, _: &[u8]| {
            seen += 1;
            true
        };
        engine.snapshot().unwrap().rows(0, u64::MAX, count).unwrap();
        assert_eq!(seen, 2);
        SLOW.wait();
        writer.join().unwrap();
    });
    assert_eq!(all(&engine).unwrap(), ["one", "two", "three"]);
}

#[test]
fn nothing_is_acknowledged_before_the_disk_has_been_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(folder.path()).unwrap();
    assert_eq!(done(), [""; 0]);
    write(&engine, &["one"]).unwrap();
    assert_eq!(done(), ["write", "write", "write", "sync", "sync folder"], "a new file, and its name");
    write(&engine, &["two"]).unwrap();
    assert_eq!(done(), ["write", "write", "write", "sync"]);
    for text in ["three", "four"] {
        engine.writer().current = None;
        write(&engine, &[text]).unwrap();
        assert_eq!(done(), ["write", "write", "write", "sync", "sync folder"]);
    }
    let before = engine.span().end;
    engine
        .apply(&WriteBatch { append: rows(&["five"]), remove_before: before, ..WriteBatch::default() })
        .unwrap();
    let removed = ["remove", "sync folder"];
    assert_eq!(
        done(),
        [&["write", "write", "write", "sync"][..], &removed, &removed].concat(),
        "each for good before the next"
    );
    drop(engine);
    drop(LogEngine::open(folder.path()).unwrap());
    assert_eq!(done(), ["cut", "sync"], "what is there counts from now on");
}
