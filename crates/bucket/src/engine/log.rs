mod frame;
#[cfg(any(test, feature = "__fuzz"))]
pub(crate) mod fuzzing;
mod segment;
#[cfg(test)]
mod tests;

use core::fmt;
use core::ops::Range;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{Engine, EngineError, RowAt, Snapshot, WriteBatch};
use frame::{Header, encode_document};
use segment::{Segment, Segments};

/// A segment takes commits until it has the 32nd part of the log, within these bounds: the front goes by segments, each
/// has an open file, and the last one is read into memory at the start.
const SEGMENT_BYTES_MIN: u64 = 16 * 1024 * 1024;
const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;
const SEGMENTS_ABOUT: u64 = 32;

/// Why a log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file system says no.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was to be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is open in another process", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// What is there is not what was written, and it is not the end of a commit that was interrupted.
    #[error("{} is damaged at address {address}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        address: u64,
    },
}

impl LogError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

impl From<LogError> for EngineError {
    fn from(error: LogError) -> Self {
        Self::new(error)
    }
}

/// Rows in files that are written from the front to the end: three writes and one wait for the disk a commit, and no more
/// bytes than the rows have.
///
/// The folder holds segments, each named after the address at which it begins, and is readable by its owner alone. A
/// commit that was interrupted is cut off at the next start. After a failed write nothing more goes into its file: what a
/// disk does with pages that it could not write is not to be relied on. The next file begins where the acknowledged part
/// of this one ends, which makes the rest of it void. A reader waits for no writer.
pub struct LogEngine {
    folder: PathBuf,
    segments: RwLock<Segments>,
    writer: Mutex<Writer>,
    /// Held as long as this lives.
    _lock: File,
}

struct Writer {
    documents: BTreeMap<u16, Vec<u8>>,
    /// What takes the next commit; `None` after a failure.
    current: Option<Arc<Segment>>,
    /// The address of the next commit.
    end: u64,
    /// Everything before may go.
    remove_before: u64,
    #[cfg(test)]
    faults: tests::Faults,
}

impl fmt::Debug for LogEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogEngine").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl LogEngine {
    /// Opens the log in `folder`, or creates both.
    ///
    /// # Errors
    ///
    /// [`LogError::InUse`] if another process has it open, [`LogError::Damaged`] if what was acknowledged is not
    /// all there, [`LogError::Io`].
    pub fn open(folder: &Path) -> Result<Self, LogError> {
        if !folder.exists() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(folder).map_err(LogError::io("create", folder))?;
        }
        let lock = lock_file(folder)?;
        let (segments, documents) = segment::load(folder)?;
        let end = segments.end();
        let writer = Writer {
            documents,
            current: segments.list().last().map(Arc::clone),
            end,
            remove_before: 0,
            #[cfg(test)]
            faults: tests::Faults::default(),
        };
        Ok(Self {
            folder: folder.to_owned(),
            segments: RwLock::new(segments),
            writer: Mutex::new(writer),
            _lock: lock,
        })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segments(&self) -> Segments {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Appends to the segment, or begins another one. On failure nothing more goes into this one.
    fn append(&self, writer: &mut Writer, batch: &WriteBatch) -> Result<u64, LogError> {
        let start = self.span_start(writer);
        let limit = ((writer.end - start) / SEGMENTS_ABOUT).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        match writer.current.take().filter(|current| current.len() < limit) {
            Some(current) => {
                let mut documents = Vec::new();
                batch.documents.iter().for_each(|(id, bytes)| encode_document(&mut documents, *id, bytes));
                let frame = header(writer.end, current.salt(), &documents, batch);
                let written = writer.write(&current, &frame, &documents, batch);
                written.inspect_err(|_| current.cut())?;
                writer.current = Some(current);
                writer.end = frame.end();
                Ok(frame.rows_address())
            }
            None => self.begin(writer, batch),
        }
    }

    /// The first frame of a segment has the documents of all vbuckets, so that those before it can go.
    fn begin(&self, writer: &mut Writer, batch: &WriteBatch) -> Result<u64, LogError> {
        let mut all: BTreeMap<u16, &[u8]> =
            writer.documents.iter().map(|(id, bytes)| (*id, &bytes[..])).collect();
        all.extend(batch.documents.iter().map(|(id, bytes)| (*id, &bytes[..])));
        let mut documents = Vec::new();
        let kept = all.into_iter().filter(|(_, bytes)| !bytes.is_empty());
        kept.for_each(|(id, bytes)| encode_document(&mut documents, id, bytes));
        let segment = Arc::new(Segment::create(&self.folder, writer.end)?);
        let frame = header(writer.end, segment.salt(), &documents, batch);
        let written = writer.write(&segment, &frame, &documents, batch);
        written.and_then(|()| segment::sync_folder(&self.folder)).inspect_err(|_| drop(segment.remove()))?;
        self.segments.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&segment));
        writer.current = Some(segment);
        writer.end = frame.end();
        Ok(frame.rows_address())
    }

    fn span_start(&self, writer: &Writer) -> u64 {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.list().first().map_or(writer.end, |first| first.base())
    }

    /// Removes segments that nobody needs, oldest first and each for good before the next: a log without its middle would
    /// bring deleted keys back. What fails is tried again at the next commit.
    fn shorten(&self, before: u64) {
        while let [first, second, ..] = self.segments().list()
            && second.base() <= before
        {
            if first.remove().and_then(|()| segment::sync_folder(&self.folder)).is_err() {
                return;
            }
            self.segments.write().unwrap_or_else(PoisonError::into_inner).pop_front();
        }
    }
}

impl Writer {
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests let it fail"))]
    fn write(
        &self,
        segment: &Segment,
        frame: &Header,
        documents: &[u8],
        batch: &WriteBatch,
    ) -> Result<(), LogError> {
        #[cfg(test)]
        self.faults.meet(segment, frame, batch)?;
        segment.append(&[&frame.encode(), documents, batch.append.as_bytes()])
    }
}

fn header(address: u64, salt: u64, documents: &[u8], batch: &WriteBatch) -> Header {
    let rows = batch.append.as_bytes();
    Header {
        address,
        salt,
        // 65,536 documents of a few kilobytes at most.
        documents: u32::try_from(documents.len()).unwrap_or(u32::MAX),
        rows: rows.len() as u64,
        body_crc: crc32c::crc32c_append(crc32c::crc32c(documents), rows),
    }
}

impl Engine for LogEngine {
    type Snapshot = LogSnapshot;

    fn apply(&self, batch: &WriteBatch) -> Result<u64, EngineError> {
        let mut writer = self.writer();
        let address = self.append(&mut writer, batch)?;
        for (id, document) in &batch.documents {
            if document.is_empty() {
                writer.documents.remove(id);
            } else {
                writer.documents.insert(*id, document.clone());
            }
        }
        writer.remove_before = writer.remove_before.max(batch.remove_before);
        self.shorten(writer.remove_before);
        Ok(address)
    }

    fn row(&self, at: RowAt) -> Result<Option<Vec<u8>>, EngineError> {
        let segment = {
            let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
            segments.find(at.address).map(Arc::clone)
        };
        Ok(segment.map(|segment| segment.row(at)).transpose()?.flatten())
    }

    fn snapshot(&self) -> Result<LogSnapshot, EngineError> {
        let segments = self.segments();
        Ok(LogSnapshot { end: segments.end(), segments })
    }

    fn documents(&self) -> Result<Vec<(u16, Vec<u8>)>, EngineError> {
        Ok(self.writer().documents.iter().map(|(id, bytes)| (*id, bytes.clone())).collect())
    }

    fn span(&self) -> Range<u64> {
        let writer = self.writer();
        self.span_start(&writer)..writer.end
    }
}

/// The rows of a log at one moment. Files that are removed meanwhile stay readable through it.
#[derive(Clone, Debug)]
pub struct LogSnapshot {
    segments: Segments,
    /// What came later is not seen.
    end: u64,
}

impl Snapshot for LogSnapshot {
    fn row(&self, at: RowAt) -> Result<Option<Vec<u8>>, EngineError> {
        let segment = self.segments.find(at.address).filter(|_| at.end() <= self.end);
        Ok(segment.map(|segment| segment.row(at)).transpose()?.flatten())
    }

    fn rows(
        &self,
        from: u64,
        limit: u64,
        each: &mut dyn FnMut(RowAt, &[u8]) -> bool,
    ) -> Result<u64, EngineError> {
        Ok(self.segments.rows(from, limit, self.end, each)?)
    }
}

fn lock_file(folder: &Path) -> Result<File, LogError> {
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(LogError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse { path: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(LogError::io("lock", &path)(error)),
    }
}
