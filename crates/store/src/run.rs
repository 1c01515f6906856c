//! Runs: sorted, immutable files of index entries.
//!
//! A run is its blocks, the points it covers, a sparse index (where each block is and its last key), zeros up to the
//! next block of the file system, and a footer of one such block. The footer's checksum covers the checksums of the
//! two sections, the sparse index those of the blocks, and the manifest has the footer's: a file that was damaged or
//! exchanged is noticed wherever it is entered.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cuttlebone_wire::{Decode, Encode, Features, Reader, Writer, crc32c};

use crate::appender::Appender;
use crate::block::{BlockReader, BlockWriter, Change};
use crate::disk::{Disk, Input};
use crate::limits::{BLOCK_BYTES, KEY_BYTES_MAX, RUN_BLOCK_BYTES};
use crate::point::PlacedPoint;
use crate::{Corruption, Error};

const MAGIC: &[u8; 8] = b"CBLRUN\0\x01";
/// Smallest encoded point, for checking a count before reserving.
const POINT_BYTES_MIN: usize = 93;
/// Smallest encoded reference to a block.
const BLOCK_REF_BYTES: usize = 20;

pub(crate) fn run_name(generation: u64, id: u64) -> String {
    format!("g{generation:08}-{id:08}.run")
}

/// How the manifest names a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunMeta {
    pub(crate) id: u64,
    /// Length of the file in bytes.
    pub(crate) len: u64,
    /// Checksum in the footer.
    pub(crate) crc: u32,
}

/// A run being written.
#[derive(Debug)]
pub(crate) struct RunWriter {
    appender: Appender,
    name: String,
    id: u64,
    block: BlockWriter,
    sparse: Writer,
    blocks: u32,
    entries: u64,
}

impl RunWriter {
    pub(crate) fn create(disk: &dyn Disk, generation: u64, id: u64) -> Result<Self, Error> {
        let name = run_name(generation, id);
        let output = disk.create(&name).map_err(|source| Error::io("create", &name, source))?;
        Ok(Self {
            appender: Appender::new(output, 0),
            name,
            id,
            block: BlockWriter::default(),
            sparse: Writer::new(Features::empty()),
            blocks: 0,
            entries: 0,
        })
    }

    pub(crate) const fn entries(&self) -> u64 {
        self.entries
    }

    /// Appends an entry; keys ascend, and under one key points descend.
    pub(crate) fn push(&mut self, key: &[u8], point: u64, change: Change) -> Result<(), Error> {
        self.block.push(key, point, change);
        self.entries += 1;
        if self.block.bytes().len() >= RUN_BLOCK_BYTES { self.close_block() } else { Ok(()) }
    }

    /// Appends a block that need not be one, for fuzzing.
    #[cfg(any(test, feature = "__fuzz"))]
    pub(crate) fn push_raw_block(&mut self, bytes: &[u8], last_key: &[u8]) -> Result<(), Error> {
        self.sparse.u64(self.appender.position());
        self.sparse.count(bytes.len());
        self.sparse.u32(crc32c(0, bytes));
        self.sparse.blob(last_key);
        self.blocks += 1;
        self.appender.append(bytes).map_err(|source| Error::io("write", &self.name, source))
    }

    fn close_block(&mut self) -> Result<(), Error> {
        let bytes = self.block.bytes();
        self.sparse.u64(self.appender.position());
        self.sparse.count(bytes.len());
        self.sparse.u32(crc32c(0, bytes));
        self.sparse.blob(self.block.last_key());
        self.blocks += 1;
        self.appender.append(bytes).map_err(|source| Error::io("write", &self.name, source))?;
        self.block.clear();
        Ok(())
    }

    /// Completes the file and makes it durable; its name becomes so with the directory.
    pub(crate) fn finish(mut self, points: &[PlacedPoint]) -> Result<RunMeta, Error> {
        if !self.block.bytes().is_empty() {
            self.close_block()?;
        }
        let mut encoded = Writer::new(Features::empty());
        encoded.list(points, |w, point| point.encode(w));
        let mut footer = Writer::new(Features::empty());
        footer.raw(MAGIC);
        footer.u64(self.entries);
        footer.u32(self.blocks);
        let name = self.name;
        let write = |source| Error::io("write", &name, source);
        for section in [encoded.as_slice(), self.sparse.as_slice()] {
            footer.u64(self.appender.position());
            footer.u64(section.len() as u64);
            footer.u32(crc32c(0, section));
            self.appender.append(section).map_err(write)?;
        }
        self.appender.pad().map_err(write)?;
        footer.zeros(BLOCK_BYTES - 4 - footer.len());
        let crc = crc32c(!0, footer.as_slice());
        footer.u32(crc);
        self.appender.append(footer.as_slice()).map_err(write)?;
        self.appender.sync().map_err(|source| Error::io("sync", &name, source))?;
        Ok(RunMeta { id: self.id, len: self.appender.position(), crc })
    }
}

#[derive(Debug)]
struct BlockRef {
    at: u64,
    len: usize,
    crc: u32,
    last_key: Box<[u8]>,
}

/// An open run.
#[derive(Debug)]
pub(crate) struct Run {
    input: Arc<dyn Input>,
    name: String,
    meta: RunMeta,
    blocks: Vec<BlockRef>,
    points: Vec<PlacedPoint>,
    /// The block that a lookup used last: sorted lookups meet it again and again.
    recent: Mutex<Option<(usize, Bytes)>>,
}

impl Run {
    pub(crate) fn open(disk: &dyn Disk, generation: u64, meta: RunMeta) -> Result<Self, Error> {
        let name = run_name(generation, meta.id);
        let input = disk.open(&name).map_err(|source| Error::io("open", &name, source))?;
        let len = input.len().map_err(|source| Error::io("measure", &name, source))?;
        if len != meta.len || len < BLOCK_BYTES as u64 {
            return Err(
                Corruption::new(name, len, "the run has another length than the manifest says").into()
            );
        }
        let mut run =
            Self { input, name, meta, blocks: Vec::new(), points: Vec::new(), recent: Mutex::default() };
        run.read_sections()?;
        Ok(run)
    }

    fn read_sections(&mut self) -> Result<(), Error> {
        let footer_at = self.meta.len - BLOCK_BYTES as u64;
        let footer = self.bytes(footer_at, BLOCK_BYTES)?;
        let (body, crc) = footer.split_at(BLOCK_BYTES - 4);
        if crc32c(!0, body) != self.meta.crc || crc != self.meta.crc.to_le_bytes() {
            return Err(self.corrupt(footer_at, "the footer does not match the manifest"));
        }
        let mut r = Reader::new(&footer);
        let malformed = |_| self.corrupt(footer_at, "the footer is malformed");
        if r.array("magic").map_err(malformed)? != *MAGIC {
            return Err(self.corrupt(footer_at, "no run known here"));
        }
        r.u64("entries").map_err(malformed)?;
        let blocks = r.u32("blocks").map_err(malformed)?;
        let mut sections = [Bytes::new(), Bytes::new()];
        for section in &mut sections {
            let at = r.u64("section offset").map_err(malformed)?;
            let len = r.u64("section length").map_err(malformed)?;
            let crc = r.u32("section crc").map_err(malformed)?;
            *section = self.bytes(at, usize::try_from(len).unwrap_or(usize::MAX))?;
            if crc32c(0, section) != crc {
                return Err(self.corrupt(at, "a section does not match its checksum"));
            }
        }
        let [points, sparse] = sections;
        self.points = Reader::new(&points)
            .list("points", usize::MAX, POINT_BYTES_MIN, PlacedPoint::decode)
            .map_err(|_| self.corrupt(footer_at, "the points are malformed"))?;
        self.blocks = self.parse_sparse(&sparse, blocks)?;
        Ok(())
    }

    fn parse_sparse(&self, sparse: &Bytes, count: u32) -> Result<Vec<BlockRef>, Error> {
        let malformed = |_| self.corrupt(0, "the sparse index is malformed");
        let mut r = Reader::new(sparse);
        // The count is checked by reading: nothing is reserved for it, and each block takes some bytes.
        let mut blocks = Vec::with_capacity(sparse.len() / (2 * BLOCK_REF_BYTES));
        for _ in 0..count {
            blocks.push(BlockRef {
                at: r.u64("block offset").map_err(malformed)?,
                len: usize::try_from(r.u32("block length").map_err(malformed)?).unwrap_or(usize::MAX),
                crc: r.u32("block crc").map_err(malformed)?,
                last_key: r.blob("last key", KEY_BYTES_MAX).map_err(malformed)?[..].into(),
            });
        }
        r.finish("sparse index").map_err(malformed)?;
        Ok(blocks)
    }

    pub(crate) const fn meta(&self) -> RunMeta {
        self.meta
    }

    pub(crate) fn points(&self) -> &[PlacedPoint] {
        &self.points
    }

    fn corrupt(&self, at: u64, what: &'static str) -> Error {
        Corruption::new(&*self.name, at, what).into()
    }

    fn bytes(&self, at: u64, len: usize) -> Result<Bytes, Error> {
        if at.checked_add(len as u64).is_none_or(|end| end > self.meta.len) {
            return Err(self.corrupt(at, "a reference reaches beyond the run"));
        }
        let mut buffer = vec![0; len];
        self.input.read_at(&mut buffer, at).map_err(|source| Error::io("read", &self.name, source))?;
        Ok(buffer.into())
    }

    fn block(&self, index: usize) -> Result<Option<BlockReader>, Error> {
        let Some(block) = self.blocks.get(index) else { return Ok(None) };
        let bytes = self.bytes(block.at, block.len)?;
        if crc32c(0, &bytes) != block.crc {
            return Err(self.corrupt(block.at, "a block does not match its checksum"));
        }
        Ok(Some(BlockReader::new(bytes)))
    }

    fn recent_block(&self, index: usize) -> Result<Option<BlockReader>, Error> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, bytes)) = &*recent
            && *at == index
        {
            return Ok(Some(BlockReader::new(bytes.clone())));
        }
        let Some(block) = self.block(index)? else { return Ok(None) };
        *recent = Some((index, block.whole()));
        Ok(Some(block))
    }

    /// Index of the first block that can hold `key` or a later one.
    fn block_of(&self, key: &[u8]) -> usize {
        self.blocks.partition_point(|block| *block.last_key < *key)
    }

    /// The newest entry of `key` that is not newer than `point`.
    pub(crate) fn get(&self, key: &[u8], point: u64) -> Result<Option<(u64, Change)>, Error> {
        let mut index = self.block_of(key);
        while let Some(mut block) = self.recent_block(index)? {
            while self.advance(&mut block, index)? {
                if block.key() == key && block.point() <= point {
                    return Ok(Some((block.point(), block.change())));
                }
                if block.key() > key {
                    return Ok(None);
                }
            }
            // Entries of one key may go on in the next block.
            index += 1;
        }
        Ok(None)
    }

    fn advance(&self, block: &mut BlockReader, index: usize) -> Result<bool, Error> {
        block.advance().map_err(|bad| {
            let at = self.blocks.get(index).map(|block| block.at);
            Corruption::new(&*self.name, at, bad.0).into()
        })
    }

    /// The last key and the bytes of every block, for fuzzing.
    #[cfg(any(test, feature = "__fuzz"))]
    pub(crate) fn raw_blocks(&self) -> Result<Vec<(Vec<u8>, Bytes)>, Error> {
        self.blocks
            .iter()
            .map(|block| Ok((block.last_key.to_vec(), self.bytes(block.at, block.len)?)))
            .collect()
    }

    /// Whether what lies between the sections and the footer is zero, as it was written.
    pub(crate) fn check_padding(&self) -> Result<(), Error> {
        let footer_at = self.meta.len - BLOCK_BYTES as u64;
        let footer = self.bytes(footer_at, BLOCK_BYTES)?;
        let mut r = Reader::new(&footer);
        let mut end = || {
            r.skip(8 + 8 + 4 + 20, "start of footer").ok()?;
            r.u64("sparse offset").ok()?.checked_add(r.u64("sparse length").ok()?)
        };
        let end = end().filter(|end| *end <= footer_at).unwrap_or(footer_at);
        let padding = self.bytes(end, usize::try_from(footer_at - end).unwrap_or(usize::MAX))?;
        match padding.iter().position(|byte| *byte != 0) {
            None => Ok(()),
            Some(at) => Err(self.corrupt(end + at as u64, "padding is not zero")),
        }
    }
}

/// Walks through a run from some key on.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    run: Arc<Run>,
    index: usize,
    block: Option<BlockReader>,
}

impl Cursor {
    /// A cursor on the first entry whose key is not below `from`.
    pub(crate) fn seek(run: &Arc<Run>, from: &[u8]) -> Result<Self, Error> {
        let index = run.block_of(from);
        let mut cursor = Self { run: Arc::clone(run), index, block: run.block(index)? };
        cursor.advance()?;
        while cursor.entry().is_some_and(|block| block.key() < from) {
            cursor.advance()?;
        }
        Ok(cursor)
    }

    /// The entry it stands on; `None` behind the last.
    pub(crate) fn entry(&self) -> Option<&BlockReader> {
        self.block.as_ref()
    }

    pub(crate) fn advance(&mut self) -> Result<(), Error> {
        while let Some(block) = &mut self.block {
            if self.run.advance(block, self.index)? {
                return Ok(());
            }
            self.index += 1;
            self.block = self.run.block(self.index)?;
        }
        Ok(())
    }
}
