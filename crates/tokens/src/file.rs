use alloc::boxed::Box;
use alloc::string::ToString;
use core::ops::Range;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::sync::{Mutex, lock};
use crate::{EpochStore, EpochStoreError, Reserving};

const MAGIC: &[u8; 8] = b"cbepochs";
const VERSION: u32 = 1;
/// Magic, version, the next free epoch, and the CRC-32C of those; integers are little-endian.
const RECORD_BYTES: usize = 24;

/// Epochs kept in one small file in a directory of its own.
///
/// Each block is written to a second file, synced, and moved over the first before it is used, so a crash loses at most
/// a block of numbers. A lock file keeps a second process out. A damaged record is an error and never a fresh start:
/// somebody has to decide, since a lower epoch would defeat every gate.
#[derive(Debug)]
pub struct FileEpochs {
    directory: PathBuf,
    next: Mutex<u64>,
    /// Held for the lock on it.
    _lock: File,
}

impl FileEpochs {
    /// Opens the store in `directory`, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// [`EpochStoreError::Locked`], [`Corrupt`](EpochStoreError::Corrupt), [`Unavailable`](EpochStoreError::Unavailable).
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, EpochStoreError> {
        let directory = directory.into();
        fs::create_dir_all(&directory).map_err(unavailable)?;
        let path = directory.join("lock");
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(unavailable)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => EpochStoreError::Locked,
            TryLockError::Error(error) => unavailable(error),
        })?;
        let next = read(&directory.join("epochs"))?;
        Ok(Self { directory, next: Mutex::new(next), _lock: lock })
    }

    fn reserve_now(&self, count: u64) -> Result<Range<u64>, EpochStoreError> {
        let mut next = lock(&self.next);
        let end = next.checked_add(count).ok_or(EpochStoreError::Exhausted)?;
        write(&self.directory, end).map_err(unavailable)?;
        let start = core::mem::replace(&mut *next, end);
        Ok(start..end)
    }
}

impl EpochStore for FileEpochs {
    /// Blocks for one small synced write, once per block.
    fn reserve(&self, count: u64) -> Reserving<'_> {
        Box::pin(async move { self.reserve_now(count) })
    }
}

fn read(path: &Path) -> Result<u64, EpochStoreError> {
    let mut bytes = alloc::vec::Vec::new();
    match File::open(path) {
        Ok(file) => file.take(RECORD_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unavailable)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(1),
        Err(error) => return Err(unavailable(error)),
    };
    parse_epoch_record(&bytes)
}

/// The next free epoch in a stored record; public so that it can be fuzzed and inspected.
///
/// # Errors
///
/// [`EpochStoreError::Corrupt`], and what is wrong with the record.
pub fn parse_epoch_record(bytes: &[u8]) -> Result<u64, EpochStoreError> {
    let corrupt = EpochStoreError::Corrupt;
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(corrupt("short"))?;
    let (version, rest) = rest.split_first_chunk::<4>().ok_or(corrupt("short"))?;
    let (next, rest) = rest.split_first_chunk::<8>().ok_or(corrupt("short"))?;
    let crc = <[u8; 4]>::try_from(rest).map_err(|_| corrupt("not 24 bytes long"))?;
    let body = bytes.get(..RECORD_BYTES - 4).ok_or(corrupt("short"))?;
    if magic != MAGIC {
        return Err(corrupt("magic"));
    }
    if crc32c::crc32c(body) != u32::from_le_bytes(crc) {
        return Err(corrupt("checksum"));
    }
    if u32::from_le_bytes(*version) != VERSION {
        return Err(corrupt("version of a newer release"));
    }
    match u64::from_le_bytes(*next) {
        0 => Err(corrupt("epoch 0 is never given out")),
        next => Ok(next),
    }
}

fn encode(next: u64) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(MAGIC);
    record[8..12].copy_from_slice(&VERSION.to_le_bytes());
    record[12..20].copy_from_slice(&next.to_le_bytes());
    let crc = crc32c::crc32c(&record[..20]);
    record[20..].copy_from_slice(&crc.to_le_bytes());
    record
}

fn write(directory: &Path, next: u64) -> io::Result<()> {
    let fresh = directory.join("epochs.new");
    let mut file = File::create(&fresh)?;
    file.write_all(&encode(next))?;
    file.sync_all()?;
    fs::rename(&fresh, directory.join("epochs"))?;
    File::open(directory)?.sync_all()
}

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn unavailable(error: io::Error) -> EpochStoreError {
    EpochStoreError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn what_is_written_is_read_and_every_other_bit_pattern_is_refused() {
        let record = encode(77);
        assert_eq!(parse_epoch_record(&record), Ok(77));
        for bit in 0..8 * RECORD_BYTES {
            let mut damaged = record;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_epoch_record(&damaged).is_err(), "bit {bit}");
        }
        for len in 0..RECORD_BYTES {
            assert!(parse_epoch_record(&record[..len]).is_err(), "{len} bytes");
        }
        let mut long: Vec<u8> = record.to_vec();
        long.extend(vec![0]);
        assert!(parse_epoch_record(&long).is_err());
    }

    #[test]
    fn a_block_is_never_given_out_twice_across_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let first = FileEpochs::open(directory.path()).unwrap().reserve_now(10).unwrap();
        let store = FileEpochs::open(directory.path()).unwrap();
        let second = store.reserve_now(10).unwrap();
        assert_eq!((first, second), (1..11, 11..21));
        // A crash between the write of the new file and the move leaves only the new file.
        fs::write(directory.path().join("epochs.new"), b"half").unwrap();
        drop(store);
        assert_eq!(FileEpochs::open(directory.path()).unwrap().reserve_now(1), Ok(21..22));
    }

    #[test]
    fn a_second_process_is_kept_out() {
        let directory = tempfile::tempdir().unwrap();
        let _open = FileEpochs::open(directory.path()).unwrap();
        assert_eq!(FileEpochs::open(directory.path()).unwrap_err(), EpochStoreError::Locked);
    }

    #[test]
    fn a_damaged_record_is_not_a_fresh_start() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("epochs"), b"").unwrap();
        assert_eq!(FileEpochs::open(directory.path()).unwrap_err(), EpochStoreError::Corrupt("short"));
    }

    #[test]
    fn a_reservation_that_cannot_be_written_gives_nothing_out() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileEpochs::open(directory.path()).unwrap();
        fs::create_dir(directory.path().join("epochs.new")).unwrap();
        assert!(matches!(store.reserve_now(5), Err(EpochStoreError::Unavailable(_))));
        fs::remove_dir(directory.path().join("epochs.new")).unwrap();
        assert_eq!(store.reserve_now(5), Ok(1..6));
    }

    #[test]
    fn epochs_are_refused_at_the_end_of_their_range() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("epochs"), encode(u64::MAX - 3)).unwrap();
        let store = FileEpochs::open(directory.path()).unwrap();
        assert_eq!(store.reserve_now(5), Err(EpochStoreError::Exhausted));
        assert_eq!(store.reserve_now(3), Ok(u64::MAX - 3..u64::MAX));
    }
}
