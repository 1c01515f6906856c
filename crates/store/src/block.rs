//! Sorted entries of an index, packed: the unit that is read, checked and searched.

use bytes::Bytes;

use crate::limits::KEY_BYTES_MAX;

/// Where a value lies in its generation's log, and what its bytes must add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Offset in the log, in bytes.
    pub(crate) at: u64,
    /// Length in bytes.
    pub(crate) len: u32,
    /// As `list-crc` computes it: seed 0, over prefix, key and value.
    pub(crate) crc: u32,
}

/// What became of a key; `None` means that it was erased.
pub(crate) type Change = Option<Slot>;

/// Packs entries that arrive in order: keys ascending, and under one key points descending.
///
/// An entry is: bytes shared with the key before, bytes of its own, those bytes, point, length plus one (0: erased),
/// and for a value its offset and, in four bytes, its crc. All numbers but the crc are little-endian base 128.
#[derive(Debug, Default)]
pub(crate) struct BlockWriter {
    bytes: Vec<u8>,
    key: Vec<u8>,
}

impl BlockWriter {
    pub(crate) fn push(&mut self, key: &[u8], point: u64, change: Change) {
        let shared = shared_bytes(&self.key, key);
        let own = &key[shared..];
        self.number(shared as u64);
        self.number(own.len() as u64);
        self.bytes.extend_from_slice(own);
        self.number(point);
        match change {
            None => self.number(0),
            Some(slot) => {
                self.number(u64::from(slot.len) + 1);
                self.number(slot.at);
                self.bytes.extend_from_slice(&slot.crc.to_le_bytes());
            }
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(own);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key that was pushed last.
    pub(crate) fn last_key(&self) -> &[u8] {
        &self.key
    }

    /// Starts the next block; the first key of a block shares nothing.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.key.clear();
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.bytes.push(value.to_le_bytes()[0]);
    }
}

fn shared_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Reads a block entry by entry, and trusts nothing in it.
#[derive(Clone, Debug)]
pub(crate) struct BlockReader {
    bytes: Bytes,
    at: usize,
    key: Vec<u8>,
    point: u64,
    change: Change,
    fresh: bool,
}

/// The bytes are no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadBlock(pub(crate) &'static str);

impl BlockReader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0, key: Vec::new(), point: 0, change: None, fresh: true }
    }

    /// Goes to the next entry; `false` at the end.
    pub(crate) fn advance(&mut self) -> Result<bool, BadBlock> {
        if self.at == self.bytes.len() {
            return Ok(false);
        }
        let shared = self.length()?;
        let own = self.length()?;
        let before = (core::mem::take(&mut self.fresh), self.point);
        let Some(own) = self.at.checked_add(own).and_then(|end| self.bytes.get(self.at..end)) else {
            return Err(BadBlock("a key is cut off"));
        };
        let Some(replaced) = self.key.get(shared..) else {
            return Err(BadBlock("a key shares more than there is"));
        };
        if shared + own.len() > KEY_BYTES_MAX {
            return Err(BadBlock("a key is too long"));
        }
        let same_key = replaced == own;
        if !before.0 && own < replaced {
            return Err(BadBlock("keys are out of order"));
        }
        self.at += own.len();
        self.key.truncate(shared);
        self.key.extend_from_slice(own);
        self.point = self.number()?;
        if !before.0 && same_key && self.point >= before.1 {
            return Err(BadBlock("points are out of order"));
        }
        self.change = match self.number()?.checked_sub(1) {
            None => None,
            Some(len) => {
                let len = u32::try_from(len).map_err(|_| BadBlock("a value is too long"))?;
                let at = self.number()?;
                let crc = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk());
                let crc = u32::from_le_bytes(*crc.ok_or(BadBlock("an entry is cut off"))?);
                self.at += 4;
                Some(Slot { at, len, crc })
            }
        };
        Ok(true)
    }

    /// The whole block, whatever has been read of it.
    pub(crate) fn whole(&self) -> Bytes {
        self.bytes.clone()
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(crate) fn point(&self) -> u64 {
        self.point
    }

    pub(crate) fn change(&self) -> Change {
        self.change
    }

    fn length(&mut self) -> Result<usize, BadBlock> {
        usize::try_from(self.number()?).map_err(|_| BadBlock("a length is too large"))
    }

    fn number(&mut self) -> Result<u64, BadBlock> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(BadBlock("a number is cut off"))?;
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(BadBlock("a number is too large"))
    }
}
