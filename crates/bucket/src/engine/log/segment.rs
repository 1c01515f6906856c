use core::fmt;
use core::hash::{BuildHasher, Hasher};
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::hash::RandomState;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{Frame, HEADER_BYTES, Header, Tail, scan};
use super::{LogError, RowAt};

/// One file of a log.
pub(crate) struct Segment {
    base: u64,
    salt: u64,
    path: PathBuf,
    file: File,
    /// How many bytes are acknowledged.
    len: AtomicU64,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("base", &self.base).field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Tells a test what the disk was told: nothing else shows that a commit waits for it.
#[cfg_attr(not(test), expect(clippy::missing_const_for_fn, reason = "tests take notes"))]
fn did(what: &'static str, outcome: io::Result<()>) -> io::Result<()> {
    #[cfg(test)]
    super::tests::did(what);
    #[cfg(not(test))]
    let _ = what;
    outcome
}

/// Greatest address at which a segment may begin: no disk is so large, and what is added to it fits.
const ADDRESS_MAX: u64 = u64::MAX / 2;

fn file_name(base: u64) -> String {
    format!("{base:016x}.log")
}

impl Segment {
    /// An empty one. What a failed attempt has left under its name is gone.
    pub(crate) fn create(folder: &Path, base: u64) -> Result<Self, LogError> {
        let path = folder.join(file_name(base));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path).map_err(LogError::io("create", &path))?;
        // Nobody has to guess it, it has to be another one each time.
        let salt = RandomState::new().build_hasher().finish();
        Ok(Self { base, salt, path, file, len: AtomicU64::new(0) })
    }

    pub(crate) const fn base(&self) -> u64 {
        self.base
    }

    pub(crate) const fn salt(&self) -> u64 {
        self.salt
    }

    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Writes the parts after what is acknowledged, and waits for the disk.
    pub(crate) fn append(&self, parts: &[&[u8]]) -> Result<(), LogError> {
        let mut at = self.len();
        for part in parts {
            did("write", self.file.write_all_at(part, at)).map_err(LogError::io("write", &self.path))?;
            at += part.len() as u64;
        }
        did("sync", self.file.sync_data()).map_err(LogError::io("sync", &self.path))?;
        self.len.store(at, Ordering::Release);
        Ok(())
    }

    /// Leaves what a failed write leaves when even cutting it off fails.
    #[cfg(test)]
    pub(super) fn litter(&self, bytes: &[u8]) {
        self.file.write_all_at(bytes, self.len()).expect("the real disk works");
    }

    /// Gives back what a failed write has taken, if the file system lets us. If not, the next segment says that it is void.
    pub(crate) fn cut(&self) {
        let _ = self.file.set_len(self.len());
    }

    /// Removes the file, if it is still there. One that was not acknowledged and stays is written over.
    pub(crate) fn remove(&self) -> Result<(), LogError> {
        match did("remove", fs::remove_file(&self.path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(LogError::io("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn row(&self, at: RowAt) -> Result<Option<Vec<u8>>, LogError> {
        let Some(offset) = at.address.checked_sub(self.base).filter(|_| at.end() <= self.base + self.len())
        else {
            return Ok(None);
        };
        self.read(offset, at.bytes as usize).map(Some)
    }

    /// `bytes` are at most what is acknowledged.
    fn read(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, LogError> {
        let mut buffer = vec![0; bytes];
        self.file.read_exact_at(&mut buffer, offset).map_err(LogError::io("read", &self.path))?;
        Ok(buffer)
    }

    fn damaged(&self, address: u64) -> LogError {
        LogError::Damaged { path: self.path.clone(), address }
    }

    /// The header at `address`, which lies before the end.
    fn header(&self, address: u64) -> Result<Header, LogError> {
        let end = self.base + self.len();
        let damaged = || self.damaged(address);
        if end - address < HEADER_BYTES as u64 {
            return Err(damaged());
        }
        let header = Header::decode(&self.read(address - self.base, HEADER_BYTES)?).ok_or_else(damaged)?;
        let room = end - address - HEADER_BYTES as u64;
        let fits = header.body_bytes().is_some_and(|bytes| bytes as u64 <= room);
        if header.address == address && header.salt == self.salt && fits {
            Ok(header)
        } else {
            Err(damaged())
        }
    }
}

/// The files of a log, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segments {
    list: Vec<Arc<Segment>>,
}

impl Segments {
    pub(crate) fn list(&self) -> &[Arc<Segment>] {
        &self.list
    }

    pub(crate) fn push(&mut self, segment: Arc<Segment>) {
        self.list.push(segment);
    }

    pub(crate) fn pop_front(&mut self) {
        self.list.drain(..1.min(self.list.len()));
    }

    /// The segment in which an address is, if it is not before all of them.
    pub(crate) fn find(&self, address: u64) -> Option<&Arc<Segment>> {
        let after = self.list.partition_point(|segment| segment.base <= address);
        self.list.get(after.checked_sub(1)?)
    }

    /// Where what is acknowledged ends.
    pub(crate) fn end(&self) -> u64 {
        self.list.last().map_or(0, |last| last.base + last.len())
    }

    /// See [`Snapshot::rows`](super::Snapshot::rows); nothing from `end` on.
    pub(crate) fn rows(
        &self,
        from: u64,
        limit: u64,
        end: u64,
        each: &mut dyn FnMut(RowAt, &[u8]) -> bool,
    ) -> Result<u64, LogError> {
        let mut at = from.max(self.list.first().map_or(from, |first| first.base));
        let stop = at.saturating_add(limit).min(end);
        let first = self.list.partition_point(|segment| segment.base + segment.len() <= at);
        for segment in self.list.iter().skip(first) {
            at = at.max(segment.base);
            while at < segment.base + segment.len() {
                if at >= stop {
                    return Ok(at);
                }
                let header = segment.header(at)?;
                let offset = at - segment.base + HEADER_BYTES as u64;
                let body = segment.read(offset, header.body_bytes().unwrap_or_default())?;
                let frame = Frame::new(header, &body).ok_or_else(|| segment.damaged(at))?;
                at = header.end();
                for row in frame.rows() {
                    let (place, row) = row.ok_or_else(|| segment.damaged(header.address))?;
                    if !each(place, row) {
                        return Ok(at);
                    }
                }
            }
        }
        Ok(at)
    }
}

pub(crate) fn sync_folder(folder: &Path) -> Result<(), LogError> {
    let file = File::open(folder).map_err(LogError::io("open", folder))?;
    did("sync folder", file.sync_all()).map_err(LogError::io("sync", folder))
}

/// Opens what is in `folder`, cuts off a commit that was interrupted, and finds the documents.
pub(crate) fn load(folder: &Path) -> Result<(Segments, BTreeMap<u16, Vec<u8>>), LogError> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(folder).map_err(LogError::io("read", folder))? {
        let name = entry.map_err(LogError::io("read", folder))?.file_name();
        let base = name.to_str().and_then(|name| name.strip_suffix(".log"));
        let base = base.and_then(|base| u64::from_str_radix(base, 16).ok());
        // Somebody else's file may have a name that only looks like one of ours.
        bases.extend(base.filter(|base| name == *file_name(*base) && *base <= ADDRESS_MAX));
    }
    bases.sort_unstable();
    let (mut list, mut documents) = (Vec::new(), BTreeMap::new());
    // From the end: a segment ends where the next one begins.
    while let Some(base) = bases.pop() {
        let (path, next) = (folder.join(file_name(base)), list.last().map(|next: &Arc<Segment>| next.base));
        let segment = match next {
            Some(end) => Some(open(path, base, end)?),
            None => open_last(path, base, &mut documents)?,
        };
        list.extend(segment.map(Arc::new));
    }
    list.reverse();
    Ok((Segments { list }, documents))
}

fn open_file(path: &Path) -> Result<File, LogError> {
    OpenOptions::new().read(true).write(true).open(path).map_err(LogError::io("open", path))
}

/// A segment that ends at `end`. Its frames are read when its rows are.
fn open(path: PathBuf, base: u64, end: u64) -> Result<Segment, LogError> {
    let file = open_file(&path)?;
    let there = file.metadata().map_err(LogError::io("read", &path))?.len();
    if there < end - base {
        return Err(LogError::Damaged { path, address: base + there });
    }
    let mut head = [0; HEADER_BYTES];
    let read = file.read_exact_at(&mut head, 0);
    let Some(header) = read.ok().and_then(|()| Header::decode(&head)) else {
        return Err(LogError::Damaged { path, address: base });
    };
    Ok(Segment { base, salt: header.salt, path, file, len: AtomicU64::new(end - base) })
}

/// The last segment; `None` if it was being created when the process ended, so that nothing in it was acknowledged.
fn open_last(
    path: PathBuf,
    base: u64,
    documents: &mut BTreeMap<u16, Vec<u8>>,
) -> Result<Option<Segment>, LogError> {
    let bytes = fs::read(&path).map_err(LogError::io("read", &path))?;
    let (frames, tail) = scan(&bytes, base);
    if let Tail::Damaged(address) = tail {
        return Err(LogError::Damaged { path, address });
    }
    let Some(last) = frames.last() else {
        fs::remove_file(&path).map_err(LogError::io("remove", &path))?;
        return Ok(None);
    };
    for frame in &frames {
        for document in frame.documents() {
            let Some((id, document)) = document else {
                return Err(LogError::Damaged { path, address: frame.header.address });
            };
            if document.is_empty() {
                documents.remove(&id);
            } else {
                documents.insert(id, document.to_vec());
            }
        }
    }
    let len = last.header.end() - base;
    let file = open_file(&path)?;
    did("cut", file.set_len(len)).map_err(LogError::io("cut", &path))?;
    // What was written may never have been waited for; from now on it counts as acknowledged.
    did("sync", file.sync_all()).map_err(LogError::io("sync", &path))?;
    Ok(Some(Segment { base, salt: last.header.salt, path, file, len: AtomicU64::new(len) }))
}
