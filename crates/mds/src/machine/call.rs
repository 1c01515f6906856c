use alloc::vec::Vec;

use bytes::Bytes;
use cuttlebone_wire::WallTime;

use super::Name;
use crate::{CapBits, Frag, Ino};

/// On whose behalf a call is made, and when.
///
/// A server checks these only against the path and ids in the capabilities of the key we authenticated with; mode bits
/// are for the caller to check. New entries belong to `uid` and `gid`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// More groups of the user; most systems stop at 65,536.
    pub groups: Vec<u64>,
    /// The wall clock, from which new entries take their times.
    pub stamp: WallTime,
}

/// An inode as a server finds it: itself, something below it, or something in one of its snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(super) base: Ino,
    pub(super) snapshot: Option<Name>,
    pub(super) names: Vec<Name>,
}

impl Target {
    /// What is at these names below `base`, without following symbolic links: one in the middle is ENOTDIR.
    pub fn below(base: Ino, names: impl IntoIterator<Item = Name>) -> Self {
        Self { base, snapshot: None, names: names.into_iter().collect() }
    }

    /// What was at these names below directory `base` when the snapshot was made.
    pub fn in_snapshot(base: Ino, snapshot: Name, names: impl IntoIterator<Item = Name>) -> Self {
        Self { base, snapshot: Some(snapshot), names: names.into_iter().collect() }
    }

    /// The names with `/` between them; a snapshot is a name after an empty one.
    ///
    /// Source: `ceph/ceph:src/include/filepath.h`, `filepath`; seen in 16.2.15.
    pub(super) fn path(&self) -> Bytes {
        let mut path = Vec::new();
        if let Some(snapshot) = &self.snapshot {
            path.push(b'/');
            path.extend_from_slice(snapshot.as_bytes());
        }
        for name in &self.names {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
        }
        path.into()
    }

    /// The inode, if the target is simply one and not in a snapshot.
    pub(super) fn plain(&self) -> Option<Ino> {
        (self.snapshot.is_none() && self.names.is_empty()).then_some(self.base)
    }
}

impl From<Ino> for Target {
    fn from(base: Ino) -> Self {
        Self { base, snapshot: None, names: Vec::new() }
    }
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "a pair")]
pub struct Entry {
    /// The directory.
    pub dir: Ino,
    /// The name.
    pub name: Name,
}

impl Entry {
    /// The name `name` in directory `dir`.
    pub const fn new(dir: Ino, name: Name) -> Self {
        Self { dir, name }
    }
}

/// What a client can ask of a metadata server.
///
/// There is nothing in here that hurts a 16.2 server: no operation that it does not know, no name that it misreads.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_MDS_OP_*`; each seen in 16.2.15.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// The attributes of an inode. `want` are shared capability bits, and decides which attributes are made current;
    /// [`CapBits::STAT`] for all.
    GetAttr {
        /// Of what.
        target: Target,
        /// Which.
        want: CapBits,
    },
    /// What a name stands for; ENOENT if nothing, which is remembered as well.
    Lookup {
        /// The name.
        entry: Entry,
        /// Which attributes have to be current.
        want: CapBits,
    },
    /// An inode by number alone; ESTALE if there is none.
    LookupIno {
        /// The number.
        ino: Ino,
        /// Which attributes have to be current.
        want: CapBits,
    },
    /// The directory that an inode is in.
    LookupParent {
        /// The inode.
        ino: Ino,
    },
    /// Which name an inode has in a directory.
    LookupName {
        /// The inode.
        ino: Ino,
        /// The directory.
        dir: Ino,
    },
    /// A page of the entries of one fragment of a directory, in the order of their hashes.
    ReadDir {
        /// The directory.
        dir: Target,
        /// The fragment; [`Frag::WHOLE`] to begin with.
        frag: Frag,
        /// Continue after this name.
        after: Option<Name>,
        /// At most so many; 0 leaves it to the server.
        entries_max: u32,
        /// At most so many bytes; 0 leaves it to the server, which then takes 512 KiB.
        bytes_max: u32,
    },
    /// A virtual extended attribute that the server computes, such as `ceph.dir.pin`.
    GetVxattr {
        /// Of which inode.
        ino: Ino,
        /// Its name.
        name: Bytes,
    },
    /// A new directory.
    Mkdir {
        /// Its name.
        entry: Entry,
        /// Permission bits.
        mode: u32,
    },
    /// A new, empty file, which is not opened: the way to make one for who will not write it.
    MakeFile {
        /// Its name.
        entry: Entry,
        /// Permission bits.
        mode: u32,
    },
    /// A new entry of the type that is in `mode`: a device, a pipe or a socket. [`MakeFile`](Self::MakeFile) makes a file
    /// with less work for the server.
    Mknod {
        /// Its name.
        entry: Entry,
        /// Type and permission bits.
        mode: u32,
        /// Of a device: which.
        rdev: u32,
    },
    /// A new symbolic link.
    Symlink {
        /// Its name.
        entry: Entry,
        /// Where it points.
        target: Bytes,
    },
    /// Another name of a file.
    Link {
        /// The new name.
        entry: Entry,
        /// The file.
        target: Ino,
    },
    /// A name of a file goes.
    Unlink {
        /// The name.
        entry: Entry,
    },
    /// An empty directory goes.
    Rmdir {
        /// Its name.
        entry: Entry,
    },
    /// A name becomes another, atomically replacing what was there.
    ///
    /// **Not onto a directory that `from` is in**: 16.2.15 then waits for its own locks for ever, with both directories
    /// locked. Ask only after having looked, as `cuttlebone-fs` does; the machine does not know every directory above one.
    Rename {
        /// The old name.
        from: Entry,
        /// The new one.
        to: Entry,
    },
    /// Changes attributes.
    SetAttr {
        /// Of which inode.
        ino: Ino,
        /// How.
        changes: AttrChanges,
    },
    /// Sets an extended attribute.
    SetXattr {
        /// Of which inode.
        ino: Ino,
        /// Its name.
        name: Bytes,
        /// Its value.
        value: Bytes,
        /// What has to be there before.
        mode: XattrMode,
    },
    /// Removes an extended attribute.
    RemoveXattr {
        /// Of which inode.
        ino: Ino,
        /// Its name.
        name: Bytes,
    },
    /// Opens a file or directory, so that it outlives its names until [`Client::close_file`](super::Client::close_file).
    ///
    /// The server gives nothing for anything else, which is then not open: [`Client::times_open`](super::Client::times_open).
    Open {
        /// Which.
        ino: Ino,
    },
    /// Opens a file as [`Open`](Self::Open) does, in the same moment in which it is made.
    Create {
        /// Its name.
        entry: Entry,
        /// Permission bits.
        mode: u32,
        /// Whether an existing file is an error.
        exclusive: bool,
    },
    /// Takes or gives up a lock on a file that is open; closing it gives up all. One that waits cannot be taken back but by
    /// that.
    SetLock {
        /// Which file.
        ino: Ino,
        /// The lock.
        lock: Lock,
    },
    /// Asks who holds a lock that is in the way of this one.
    GetLock {
        /// Which file.
        ino: Ino,
        /// The lock.
        lock: Lock,
    },
    /// The snapshots of a directory, as entries.
    ListSnaps {
        /// The directory.
        dir: Ino,
        /// Continue after this name.
        after: Option<Name>,
    },
    /// A new snapshot of a directory.
    MakeSnap {
        /// Directory, and the name of the snapshot.
        snap: Entry,
    },
    /// A snapshot goes.
    RemoveSnap {
        /// Directory, and the name of the snapshot.
        snap: Entry,
    },
    /// A snapshot gets another name.
    RenameSnap {
        /// The directory.
        dir: Ino,
        /// The old name.
        from: Name,
        /// The new name.
        to: Name,
    },
}

/// What to change of an inode; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct AttrChanges {
    /// Permission bits.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// When it was last changed.
    pub mtime: Option<WallTime>,
    /// When it was last read.
    pub atime: Option<WallTime>,
    /// When it was made.
    pub btime: Option<WallTime>,
    /// The size in bytes, with the size that the caller believes it has.
    pub size: Option<Resize>,
}

/// A change of size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a pair")]
pub struct Resize {
    /// The size now, in bytes.
    pub from: u64,
    /// The new size, in bytes.
    pub to: u64,
}

/// What has to be there when an extended attribute is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all there can be")]
pub enum XattrMode {
    /// Nothing in particular.
    #[default]
    Either,
    /// It must be new.
    Create,
    /// It must exist.
    Replace,
}

/// A lock on the whole of a file.
///
/// Ranges are left out: where two of one owner touch, servers up to 16.2.15 at least compute their joint end with 32 bits,
/// and abort when ranges do not come out even.
///
/// Source: `ceph/ceph:src/mds/flock.cc`, `ceph_lock_state_t::adjust_locks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Lock {
    /// By which rules.
    pub rule: LockRule,
    /// Which kind, or that it is given up.
    pub kind: LockKind,
    /// Which of this client's owners holds it. With the highest bit set that is all that tells them apart; without it, the
    /// process counts, too.
    ///
    /// Source: `ceph/ceph:src/mds/flock.h`, `ceph_filelock_owner_equal`.
    pub owner: u64,
    /// The process, for people.
    pub pid: u64,
    /// Whether to wait until it is free.
    pub wait: bool,
}

/// By which rules a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all there can be")]
pub enum LockRule {
    /// Of processes.
    Fcntl,
    /// Of open files.
    Flock,
}

/// Which kind of lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all there can be")]
pub enum LockKind {
    /// Together with other readers.
    Shared,
    /// Alone.
    Exclusive,
    /// None: given up.
    Unlock,
}
