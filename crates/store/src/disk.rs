//! The few things asked of a file system, so that tests can put one underneath that fails and forgets.

mod os;
#[cfg(any(test, feature = "__fuzz"))]
pub(crate) mod sim;

use core::fmt::Debug;
use std::io;
use std::sync::Arc;

pub(crate) use os::{LOCK_FILE, Lock, OsDisk, close_to_others, create_private_dir};

/// One directory. Names are plain file names; everything created is private to the user.
pub(crate) trait Disk: Debug + Send + Sync {
    /// Opens a file for reading.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Input>>;
    /// Creates an empty file, or empties the one that is there.
    fn create(&self, name: &str) -> io::Result<Box<dyn Output>>;
    /// Opens a file for writing and cuts it to `len` bytes.
    fn reopen(&self, name: &str, len: u64) -> io::Result<Box<dyn Output>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names of all files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Makes creations, renames and removals durable.
    fn sync(&self) -> io::Result<()>;
}

/// A file being written.
pub(crate) trait Output: Debug + Send {
    /// Writes all of `bytes`. Offset and length are multiples of the block, except in a file's last write.
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Makes what has been written durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file being read.
pub(crate) trait Input: Debug + Send + Sync {
    /// Fills `buffer`.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Says that this part will be read soon. A hint: nothing depends on it.
    fn will_need(&self, _at: u64, _len: u64) {}
}
