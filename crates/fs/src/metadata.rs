use std::collections::BTreeMap;

use bytes::Bytes;
use cuttlebone_mds::{FileLayout, Ino, InodeStat, Quota, Rank, SnapId};
use cuttlebone_wire::{Reader, WallTime};

/// What a file system knows of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// Its number.
    pub ino: Ino,
    /// Which version of it this is: the live one, or that of a snapshot.
    pub snap: SnapId,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky: at most 0o7777.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// How many names it has; for a directory always 1.
    pub nlink: u32,
    /// Bytes in a file, or of a link's target; 0 for a directory, whose sums are in `dir`.
    pub size: u64,
    /// Of a device: which.
    pub rdev: u32,
    /// When its contents changed last.
    pub mtime: WallTime,
    /// When it changed last in any way.
    pub ctime: WallTime,
    /// When it was read last, as far as clients tell.
    pub atime: WallTime,
    /// When it was made.
    pub btime: WallTime,
    /// Counts its changes.
    pub change: u64,
    /// Where a symbolic link points; empty for everything else.
    pub symlink: Bytes,
    /// Of a directory: what is in it and below.
    pub dir: Option<DirSums>,
    /// Its extended attributes; `None` if the server did not send them this time.
    pub xattrs: Option<BTreeMap<Bytes, Bytes>>,
    /// Where its data is, or will be.
    pub layout: FileLayout,
    /// What a directory may hold.
    pub quota: Quota,
    /// The rank that a directory is pinned to, if it is.
    pub pin: Option<Rank>,
}

/// What is in a directory, and below it.
///
/// The sums over the whole tree below are brought up to date by the servers on their own time: some seconds behind,
/// longer under load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirSums {
    /// Entries that are no directories.
    pub files: u64,
    /// Entries that are directories.
    pub subdirs: u64,
    /// Bytes in all files below.
    pub rbytes: u64,
    /// Everything below that is no directory.
    pub rfiles: u64,
    /// All directories below, itself included.
    pub rsubdirs: u64,
    /// All snapshots below.
    pub rsnaps: u64,
    /// The newest change of anything below.
    pub rctime: WallTime,
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A block device.
    Block,
    /// A character device.
    Char,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// Something that no system we know has, with its type bits.
    Other(u32),
}

/// The bits of a mode that tell the type.
///
/// Source: `torvalds/linux:include/uapi/linux/stat.h`, `S_IFMT`.
const TYPE_BITS: u32 = 0o170_000;
/// The others.
pub(crate) const PERMISSION_BITS: u32 = 0o7777;

impl Kind {
    /// What a mode says, as it is on the wire.
    pub const fn of_mode(mode: u32) -> Self {
        match mode & TYPE_BITS {
            0o040_000 => Self::Dir,
            0o100_000 => Self::File,
            0o120_000 => Self::Symlink,
            0o060_000 => Self::Block,
            0o020_000 => Self::Char,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            other => Self::Other(other),
        }
    }

    /// The type bits of a mode.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Dir => 0o040_000,
            Self::File => 0o100_000,
            Self::Symlink => 0o120_000,
            Self::Block => 0o060_000,
            Self::Char => 0o020_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
            Self::Other(bits) => bits,
        }
    }
}

impl Metadata {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind == Kind::Symlink
    }
}

impl From<InodeStat> for Metadata {
    fn from(stat: InodeStat) -> Self {
        let kind = Kind::of_mode(stat.mode);
        let dir = (kind == Kind::Dir).then_some(DirSums {
            files: stat.files,
            subdirs: stat.subdirs,
            rbytes: stat.rbytes,
            rfiles: stat.rfiles,
            rsubdirs: stat.rsubdirs,
            rsnaps: stat.rsnaps,
            rctime: stat.rctime,
        });
        let mut layout = FileLayout::from(stat.layout);
        layout.pool_ns = stat.pool_ns;
        Self {
            ino: stat.ino,
            snap: stat.snap,
            kind,
            mode: stat.mode & PERMISSION_BITS,
            uid: stat.uid,
            gid: stat.gid,
            nlink: stat.nlink,
            size: stat.size,
            rdev: stat.rdev,
            mtime: stat.mtime,
            ctime: stat.ctime,
            atime: stat.atime,
            btime: stat.btime,
            change: stat.change_attr,
            symlink: stat.symlink,
            dir,
            xattrs: xattrs(&stat.xattrs),
            layout,
            quota: stat.quota,
            pin: (stat.dir_pin.0 >= 0).then_some(stat.dir_pin),
        }
    }
}

/// Most attributes of one inode: a server limits their bytes to 64 KiB.
///
/// Source: `ceph/ceph:src/common/options.cc`, `mds_max_xattr_pairs_size`.
const XATTRS_MAX: usize = 65_536 / 8;
/// Longest name or value, in bytes.
const XATTR_BYTES_MAX: usize = 65_536;

/// The pairs in a blob of attributes; `None` for an empty blob, which says nothing, or one that makes no sense.
///
/// Source: `torvalds/linux:fs/ceph/xattr.c`, `__build_xattrs`; seen in 16.2.15.
fn xattrs(blob: &Bytes) -> Option<BTreeMap<Bytes, Bytes>> {
    if blob.is_empty() {
        return None;
    }
    let mut r = Reader::new(blob);
    let pair =
        |r: &mut Reader<'_>| Ok((r.blob("xattr", XATTR_BYTES_MAX)?, r.blob("xattr", XATTR_BYTES_MAX)?));
    Some(r.list("xattrs", XATTRS_MAX, 8, pair).ok()?.into_iter().collect())
}
