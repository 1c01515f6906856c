use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::record::{Record, Step};
use crate::tree::Acl;
use crate::{Name, NameError, Permissions, Principal, Version};

/// Bytes of one step in the journal.
pub const STEP_BYTES_MAX: usize = 1 << 20;
/// Bytes of a journal that is opened.
pub const JOURNAL_BYTES_MAX: u64 = 1 << 30;
/// Bytes appended before the journal wants to be written anew.
const COMPACT_AFTER_BYTES: u64 = 16 << 20;

/// Magic, then the version of the format, little-endian.
const HEADER: &[u8; 12] = b"CUTTLEMT\x01\0\0\0";
/// Length and CRC-32C of what follows, little-endian.
const FRAME_HEAD: usize = 8;

/// The file that permissions and deletions survive in.
///
/// A header, then steps: each with its length and checksum, written in one piece and synced before it counts. A
/// step that is torn at the end of the file never counted and is cut off; damage before the end is an error, since
/// what follows it did count. One process has a journal at a time.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    file: File,
    /// Bytes that are whole steps.
    len: u64,
    /// Length of the last compact copy.
    compact_len: u64,
    records: Vec<Record>,
    /// The end of the file could not be restored after a failed write; no further step may follow it.
    broken: bool,
    /// Held for as long as the journal is open; the journal file itself changes identity when it is written anew.
    _lock: File,
}

impl Journal {
    /// Opens the journal in `folder`, which is made (for its owner alone) if it is not there.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: the disk's, another process, a file that is no journal or is damaged.
    pub fn open(folder: &Path) -> Result<Self, JournalError> {
        make_folder(folder)?;
        let lock = private().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::Error(error) => JournalError::Disk(error),
            fs::TryLockError::WouldBlock => JournalError::InUse,
        })?;
        let path = folder.join(FILE);
        let mut file = private().create(true).truncate(false).read(true).write(true).open(&path)?;
        let bytes = read_all(&mut file)?;
        if bytes.len() < HEADER.len() {
            if !HEADER.starts_with(&bytes) {
                return Err(JournalError::Foreign);
            }
            // New, or torn while it was being made.
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(HEADER)?;
            file.sync_all()?;
            sync_folder(folder)?;
        }
        let (records, len) = if bytes.len() < HEADER.len() { (Vec::new(), 0) } else { replay(&bytes)? };
        let len = len.max(HEADER.len());
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        file.set_len(len)?;
        file.seek(SeekFrom::Start(len))?;
        Ok(Self { folder: folder.into(), file, len, compact_len: len, records, broken: false, _lock: lock })
    }

    /// What the journal held when it was opened; once.
    pub fn take_records(&mut self) -> Vec<Record> {
        core::mem::take(&mut self.records)
    }

    /// Appends one step; it is durable when this returns.
    ///
    /// # Errors
    ///
    /// The disk's, after which the step does not count, now or after a restart; [`JournalError::TooLarge`].
    pub fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        if self.broken {
            return Err(JournalError::Broken);
        }
        let frame = frame(records)?;
        match self.file.write_all(&frame).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.len += u64::try_from(frame.len()).unwrap_or(u64::MAX);
                Ok(())
            }
            Err(error) => {
                let restored =
                    self.file.set_len(self.len).and_then(|()| self.file.seek(SeekFrom::Start(self.len)));
                self.broken = restored.and_then(|_| self.file.sync_data()).is_err();
                Err(error.into())
            }
        }
    }

    /// Whether most of the journal may be history.
    pub fn wants_compaction(&self) -> bool {
        self.broken || self.len.saturating_sub(self.compact_len) > COMPACT_AFTER_BYTES.max(self.compact_len)
    }

    /// Puts a journal with `records` alone in the place of this one, in one step.
    ///
    /// # Errors
    ///
    /// The disk's; the old journal is in place then.
    pub fn compact(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let fresh = self.folder.join(FRESH);
        let mut file = private().create(true).truncate(true).read(true).write(true).open(&fresh)?;
        file.write_all(HEADER)?;
        for record in records {
            file.write_all(&frame(core::slice::from_ref(record))?)?;
        }
        file.sync_all()?;
        fs::rename(&fresh, self.folder.join(FILE))?;
        self.len = file.stream_position()?;
        self.compact_len = self.len;
        self.file = file;
        self.broken = false;
        sync_folder(&self.folder)?;
        Ok(())
    }
}

const FILE: &str = "mounts.journal";
const FRESH: &str = "mounts.journal.new";

/// The steps of a journal, and how many of its bytes they are.
fn replay(bytes: &[u8]) -> Result<(Vec<Record>, usize), JournalError> {
    let mut rest = bytes.strip_prefix(HEADER).ok_or(JournalError::Foreign)?;
    let mut records = Vec::new();
    loop {
        let at = bytes.len() - rest.len();
        let damaged = JournalError::Damaged { at };
        let Some((head, body)) = rest.split_first_chunk::<FRAME_HEAD>() else { return Ok((records, at)) };
        let [l0, l1, l2, l3, c0, c1, c2, c3] = *head;
        let len = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let crc = u32::from_le_bytes([c0, c1, c2, c3]);
        let whole = body.get(..len).filter(|body| crc32c::crc32c(body) == crc && len > 0);
        let Some(payload) = whole else {
            // The last write may have reached the disk in parts: short, or of full length with holes in it.
            let torn = body.len() <= len || rest.iter().all(|byte| *byte == 0);
            return if torn { Ok((records, at)) } else { Err(damaged) };
        };
        let (steps, used): (Vec<Stored>, usize) = bincode::serde::decode_from_slice(payload, encoding())
            .map_err(|_| JournalError::Damaged { at })?;
        if used != len {
            return Err(damaged);
        }
        for step in steps {
            records.push(step.restore().map_err(|_| JournalError::Damaged { at })?);
        }
        rest = body.get(len..).unwrap_or_default();
    }
}

fn frame(records: &[Record]) -> Result<Vec<u8>, JournalError> {
    let stored: Vec<Stored> = records.iter().map(Stored::new).collect();
    let payload = bincode::serde::encode_to_vec(&stored, encoding()).map_err(|_| JournalError::TooLarge)?;
    let len = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= STEP_BYTES_MAX);
    let len = len.ok_or(JournalError::TooLarge)?;
    let mut frame = Vec::with_capacity(FRAME_HEAD + payload.len());
    frame.extend_from_slice(&len.to_le_bytes());
    frame.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
    frame.extend_from_slice(&payload);
    Ok(frame)
}

fn encoding() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<STEP_BYTES_MAX>()
}

/// A record in the form that format version 1 has it.
#[derive(Serialize, Deserialize)]
enum Stored {
    Node { name: String, creator: Option<String>, acl: Option<StoredAcl> },
    Delete { name: String },
}

#[derive(Serialize, Deserialize)]
struct StoredAcl {
    permissions: Permissions,
    version: Version,
    explicit: bool,
}

impl Stored {
    fn new(record: &Record) -> Self {
        match &record.0 {
            Step::Node { name, creator, acl } => Self::Node {
                name: name.as_str().into(),
                creator: creator.as_ref().map(|creator| creator.as_str().into()),
                acl: acl.as_ref().map(|acl| StoredAcl {
                    permissions: acl.permissions.clone(),
                    version: acl.version,
                    explicit: acl.explicit,
                }),
            },
            Step::Delete { name } => Self::Delete { name: name.as_str().into() },
        }
    }

    fn restore(self) -> Result<Record, NameError> {
        Ok(Record(match self {
            Self::Node { name, creator, acl } => Step::Node {
                name: Name::parse(&name)?,
                creator: creator.as_deref().map(Principal::new),
                acl: acl.map(|StoredAcl { permissions, version, explicit }| {
                    // The template is the configuration's, which is read at every start.
                    Arc::new(Acl { permissions, template: None, version, explicit })
                }),
            },
            Self::Delete { name } => Step::Delete { name: Name::parse(&name)? },
        }))
    }
}

fn read_all(file: &mut File) -> Result<Vec<u8>, JournalError> {
    if file.metadata()?.len() > JOURNAL_BYTES_MAX {
        return Err(JournalError::TooLarge);
    }
    let mut bytes = Vec::new();
    file.take(JOURNAL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Permissions say who may do what, so the file is for its owner alone.
fn private() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn make_folder(folder: &Path) -> io::Result<()> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes"))]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// An earlier write failed and could not be undone; a compact copy mends it.
    #[error("the journal's end is unknown after a failed write")]
    Broken,
    /// A step before the last one is damaged.
    #[error("the journal is damaged at byte {at}")]
    Damaged {
        /// Where the step begins.
        at: usize,
    },
    /// The disk's error.
    #[error("the disk failed")]
    Disk(#[from] io::Error),
    /// The file is something else, or of a later version.
    #[error("not a journal of a mount table, or of a later version")]
    Foreign,
    /// Another process has it open.
    #[error("another process uses this journal")]
    InUse,
    /// A step or the whole is beyond its limit.
    #[error("a step or the journal is too large")]
    TooLarge,
}
