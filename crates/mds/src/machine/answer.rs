use bytes::Bytes;

use crate::message::{DirPage, FileLock, TraceDentry};
use crate::{Ino, InodeStat};

/// What came of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct Answer {
    /// The name that was asked about or changed, and its directory.
    pub entry: Option<TraceDentry>,
    /// The inode that was asked about, changed or made.
    ///
    /// It may be missing from the answer to a change that succeeded: when the server had done it before it was replaced,
    /// and only says so. Ask for the attributes then.
    pub target: Option<InodeStat>,
    /// What only this kind of request is told.
    pub extra: Extra,
}

/// What only one kind of request is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the wire has no more")]
pub enum Extra {
    /// Nothing.
    #[default]
    None,
    /// Entries of a directory, or snapshots.
    Page(DirPage),
    /// The inode was made by this very request.
    Created(Ino),
    /// The value of a virtual attribute.
    Vxattr(Bytes),
    /// A lock that is in the way; kind 4 if none is.
    Lock(FileLock),
}
