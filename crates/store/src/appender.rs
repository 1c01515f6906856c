use core::fmt;
use std::io;

use crate::disk::Output;
use crate::limits::{BLOCK_BYTES, STAGING_BYTES};

/// Writes a file from front to back in large aligned pieces.
///
/// O_DIRECT wants the memory aligned as well: the buffer is one block longer than needed and used from its first
/// aligned byte on, which needs no unsafe code.
pub(crate) struct Appender {
    output: Box<dyn Output>,
    memory: Vec<u8>,
    start: usize,
    filled: usize,
    written: u64,
}

impl fmt::Debug for Appender {
    /// Says how far it is, and nothing of what it holds: those are values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Appender");
        debug.field("written", &self.written).field("filled", &self.filled).finish_non_exhaustive()
    }
}

impl Appender {
    /// Continues `output` at `written`, a multiple of the block.
    pub(crate) fn new(output: Box<dyn Output>, written: u64) -> Self {
        let memory = vec![0; STAGING_BYTES + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        Self { output, memory, start, filled: 0, written }
    }

    /// Offset of the next byte.
    pub(crate) fn position(&self) -> u64 {
        self.written + self.filled as u64
    }

    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let from = self.start + self.filled;
            let (now, later) = bytes.split_at(bytes.len().min(STAGING_BYTES - self.filled));
            self.memory[from..from + now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == STAGING_BYTES {
                self.write_out()?;
            }
        }
        Ok(())
    }

    /// Zeros up to the next block.
    pub(crate) fn pad(&mut self) -> io::Result<()> {
        let zeros = [0; BLOCK_BYTES];
        self.append(&zeros[..bytes_to_block(self.position())])
    }

    /// Hands everything to the file. The position has to be a multiple of the block.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        debug_assert!(self.filled.is_multiple_of(BLOCK_BYTES), "pad before flushing");
        if self.filled > 0 { self.write_out() } else { Ok(()) }
    }

    /// Hands everything to the file and makes it durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.output.sync()
    }

    fn write_out(&mut self) -> io::Result<()> {
        let staged = &self.memory[self.start..self.start + self.filled];
        self.output.write_at(staged, self.written)?;
        self.written += self.filled as u64;
        self.filled = 0;
        Ok(())
    }
}

/// Bytes from `at` to the next multiple of the block.
pub(crate) fn bytes_to_block(at: u64) -> usize {
    let block = BLOCK_BYTES as u64;
    // Less than a block, so it fits.
    usize::try_from(at.next_multiple_of(block) - at).unwrap_or(0)
}
