//! The log of a generation: framed, checksummed records, only ever appended.

use std::sync::Arc;

use bytes::Bytes;
use cuttlebone_wire::crc32c;

use crate::appender::{Appender, bytes_to_block};
use crate::block::Slot;
use crate::disk::{Disk, Input};
use crate::limits::{BLOCK_BYTES, RECORD_BYTES_MAX};
use crate::{Corruption, Error};

/// Bytes of a record's header.
pub(crate) const HEADER_BYTES: usize = 32;
/// Version of the log's format, in its first record.
pub(crate) const LOG_VERSION: u32 = 1;
const MAGIC: u32 = u32::from_le_bytes(*b"CBLR");

/// What a record holds; `docs/store.md` has the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Header,
    Begin,
    Chunk,
    Replay,
    Changes,
    Point,
    Filler,
}

impl RecordKind {
    pub(crate) const ALL: [Self; 7] =
        [Self::Header, Self::Begin, Self::Chunk, Self::Replay, Self::Changes, Self::Point, Self::Filler];

    const fn number(self) -> u8 {
        match self {
            Self::Header => 1,
            Self::Begin => 2,
            Self::Chunk => 3,
            Self::Replay => 4,
            Self::Changes => 5,
            Self::Point => 6,
            Self::Filler => 7,
        }
    }
}

pub(crate) fn log_name(generation: u64) -> String {
    format!("g{generation:08}.log")
}

/// The end of a log that is being written.
#[derive(Debug)]
pub(crate) struct LogWriter {
    appender: Appender,
    generation: u64,
    name: String,
}

impl LogWriter {
    pub(crate) fn create(disk: &dyn Disk, generation: u64) -> Result<Self, Error> {
        let mut log = Self::create_empty(disk, generation)?;
        log.record(RecordKind::Header, &[&LOG_VERSION.to_le_bytes(), &generation.to_le_bytes()])?;
        Ok(log)
    }

    /// A log without its first record.
    pub(crate) fn create_empty(disk: &dyn Disk, generation: u64) -> Result<Self, Error> {
        let name = log_name(generation);
        let output = disk.create(&name).map_err(|source| Error::io("create", &name, source))?;
        Ok(Self { appender: Appender::new(output, 0), generation, name })
    }

    /// Continues after `len` bytes and forgets what is behind them.
    pub(crate) fn reopen(disk: &dyn Disk, generation: u64, len: u64) -> Result<Self, Error> {
        let name = log_name(generation);
        let output = disk.reopen(&name, len).map_err(|source| Error::io("reopen", &name, source))?;
        Ok(Self { appender: Appender::new(output, len), generation, name })
    }

    /// Appends a record and answers where its payload starts.
    pub(crate) fn record(&mut self, kind: RecordKind, payload: &[&[u8]]) -> Result<u64, Error> {
        let len = payload.iter().map(|part| part.len()).sum::<usize>();
        let Some(len) = u32::try_from(len).ok().filter(|_| len <= RECORD_BYTES_MAX) else {
            return Err(Error::Limit { what: "bytes in one record", max: RECORD_BYTES_MAX });
        };
        let crc = payload.iter().fold(0, |crc, part| crc32c(crc, part));
        let at = self.appender.position();
        let header = encode_header(kind, len, crc, at, self.generation);
        let write = |source| Error::io("write", &self.name, source);
        self.appender.append(&header).map_err(write)?;
        for part in payload {
            self.appender.append(part).map_err(write)?;
        }
        Ok(at + HEADER_BYTES as u64)
    }

    /// Fills the last block and hands everything to the file, so that it can be read back.
    pub(crate) fn flush(&mut self) -> Result<u64, Error> {
        let mut gap = bytes_to_block(self.appender.position());
        if gap > 0 {
            if gap < HEADER_BYTES {
                gap += BLOCK_BYTES;
            }
            let zeros = [0; 2 * BLOCK_BYTES];
            self.record(RecordKind::Filler, &[&zeros[..gap - HEADER_BYTES]])?;
        }
        self.appender.flush().map_err(|source| Error::io("write", &self.name, source))?;
        Ok(self.appender.position())
    }

    /// Makes everything durable and answers the log's length.
    pub(crate) fn sync(&mut self) -> Result<u64, Error> {
        let len = self.flush()?;
        self.appender.sync().map_err(|source| Error::io("sync", &self.name, source))?;
        Ok(len)
    }
}

fn encode_header(kind: RecordKind, len: u32, crc: u32, at: u64, generation: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    header[4] = kind.number();
    header[8..12].copy_from_slice(&len.to_le_bytes());
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    header[16..24].copy_from_slice(&at.to_le_bytes());
    header[24..28].copy_from_slice(&generation_mark(generation));
    let own = crc32c(!0, &header[..28]);
    header[28..32].copy_from_slice(&own.to_le_bytes());
    header
}

/// The low half of the generation's number: enough to tell a block of a file that had this place before.
fn generation_mark(generation: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = generation.to_le_bytes();
    [a, b, c, d]
}

/// A record's place in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) kind: RecordKind,
    /// Offset of the payload.
    pub(crate) at: u64,
    /// Bytes of the payload.
    pub(crate) len: usize,
    crc: u32,
}

impl Record {
    /// Offset of the next record.
    pub(crate) fn end(&self) -> u64 {
        self.at + self.len as u64
    }
}

/// A log up to a length that the manifest vouches for.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    input: Arc<dyn Input>,
    generation: u64,
    end: u64,
    name: String,
}

impl Log {
    /// Opens a log that has to have at least `end` bytes.
    pub(crate) fn open(disk: &dyn Disk, generation: u64, end: u64) -> Result<Self, Error> {
        let name = log_name(generation);
        let input = disk.open(&name).map_err(|source| Error::io("open", &name, source))?;
        let len = input.len().map_err(|source| Error::io("measure", &name, source))?;
        if len < end {
            return Err(Corruption::new(name, len, "the log ends before its last point").into());
        }
        Ok(Self { input, generation, end, name })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The same file, vouched for up to `end`.
    pub(crate) fn extended(&self, end: u64) -> Self {
        Self { end, ..self.clone() }
    }

    pub(crate) fn corrupt(&self, at: u64, what: &'static str) -> Error {
        Corruption::new(&*self.name, at, what).into()
    }

    /// The record at `at`; its payload is not read yet. `None` at the end.
    pub(crate) fn record_at(&self, at: u64) -> Result<Option<Record>, Error> {
        if at == self.end {
            return Ok(None);
        }
        let header = self.bytes(at, HEADER_BYTES)?;
        self.parse_header(&header, at).map(Some)
    }

    fn parse_header(&self, header: &[u8], at: u64) -> Result<Record, Error> {
        let bad = |what| Err(self.corrupt(at, what));
        let word =
            |i: usize| header.get(i..).and_then(|rest| rest.first_chunk()).copied().map(u32::from_le_bytes);
        let (Some(magic), Some(len), Some(crc), Some(own)) = (word(0), word(8), word(12), word(28)) else {
            return bad("a record is cut off");
        };
        if crc32c(!0, &header[..28]) != own {
            return bad("a record's header does not match its checksum");
        }
        let kind = RecordKind::ALL.into_iter().find(|kind| kind.number() == header[4]);
        let (true, Some(kind)) = (magic == MAGIC, kind) else { return bad("no record known here") };
        if header[16..24] != at.to_le_bytes() || header[24..28] != generation_mark(self.generation) {
            return bad("a record of another place");
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let record = Record { kind, at: at + HEADER_BYTES as u64, len, crc };
        if len > RECORD_BYTES_MAX || record.end() > self.end {
            return bad("a record reaches beyond the log");
        }
        Ok(record)
    }

    /// A record's payload, checked.
    pub(crate) fn payload(&self, record: &Record) -> Result<Bytes, Error> {
        let bytes = self.bytes(record.at, record.len)?;
        if crc32c(0, &bytes) == record.crc {
            Ok(bytes)
        } else {
            Err(self.corrupt(record.at, "a record does not match its checksum"))
        }
    }

    /// The value of `key` at `slot`, checked.
    pub(crate) fn value(&self, key: &[u8], slot: Slot) -> Result<Bytes, Error> {
        let value = self.bytes(slot.at, slot.len.try_into().unwrap_or(usize::MAX))?;
        if crc32c(key_crc(key), &value) == slot.crc {
            Ok(value)
        } else {
            let what = "a value does not match its checksum";
            Err(Corruption::new(&*self.name, slot.at, what).of_key(key).into())
        }
    }

    /// Says that the log will be read from `at` on.
    pub(crate) fn will_need(&self, at: u64, len: u64) {
        self.input.will_need(at, len);
    }

    /// Reserves nothing before the length is known to be inside the log.
    fn bytes(&self, at: u64, len: usize) -> Result<Bytes, Error> {
        if at.checked_add(len as u64).is_none_or(|end| end > self.end) {
            return Err(self.corrupt(at, "a reference reaches beyond the log"));
        }
        let mut buffer = vec![0; len];
        self.input.read_at(&mut buffer, at).map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => self.corrupt(at, "the log was cut while it was read"),
            _ => Error::io("read", &self.name, source),
        })?;
        Ok(buffer.into())
    }
}

/// The crc of `prefix` and `key` without the NUL between them; the value's bytes continue it.
pub(crate) fn key_crc(combined: &[u8]) -> u32 {
    let (prefix, key) = split_key(combined);
    crc32c(crc32c(0, prefix), key)
}

/// Splits `prefix NUL key` at the first NUL.
pub(crate) fn split_key(combined: &[u8]) -> (&[u8], &[u8]) {
    let nul = combined.iter().position(|byte| *byte == 0).unwrap_or(combined.len());
    (&combined[..nul], combined.get(nul + 1..).unwrap_or_default())
}

/// Writes `prefix NUL key` into `combined`, and answers its crc as [`key_crc`] does.
pub(crate) fn join_key(combined: &mut Vec<u8>, prefix: &[u8], key: &[u8]) {
    combined.clear();
    combined.extend_from_slice(prefix);
    combined.push(0);
    combined.extend_from_slice(key);
}
