use core::fmt;

/// The number of an operation. Unknown numbers are kept.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_MDS_OP_*`; most of them answered by 16.2.15.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct Op(pub u32);

/// Marks operations that change something.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_MDS_OP_WRITE`.
const WRITE: u32 = 0x1000;

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl Op {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            const NAMES: &[(Self, &str)] = &[$((Self::$name, $text)),*];
        }
    };
}

ops! {
    /// Finds a name in a directory.
    LOOKUP = 0x100, "lookup";
    /// Reads attributes.
    GETATTR = 0x101, "getattr";
    /// Finds an inode by its number; an old name of [`Op::LOOKUPINO`].
    LOOKUPHASH = 0x102, "lookuphash";
    /// Finds the directory that an inode is in.
    LOOKUPPARENT = 0x103, "lookupparent";
    /// Finds an inode by its number.
    LOOKUPINO = 0x104, "lookupino";
    /// Finds the name that an inode has in a directory.
    LOOKUPNAME = 0x105, "lookupname";
    /// Reads a virtual attribute; only for servers with
    /// [`feature::OP_GETVXATTR`](crate::feature::OP_GETVXATTR).
    GETVXATTR = 0x106, "getvxattr";
    /// Asks who holds a lock.
    GETFILELOCK = 0x110, "getfilelock";
    /// Opens what exists; a change if it also cuts or creates.
    OPEN = 0x302, "open";
    /// Reads a page of a directory.
    READDIR = 0x305, "readdir";
    /// Finds a snapshot.
    LOOKUPSNAP = 0x400, "lookupsnap";
    /// Lists snapshots.
    LSSNAP = 0x402, "lssnap";
    /// Sets an extended or virtual attribute.
    SETXATTR = 0x1105, "setxattr";
    /// Removes an extended attribute.
    RMXATTR = 0x1106, "rmxattr";
    /// Sets a file's layout.
    SETLAYOUT = 0x1107, "setlayout";
    /// Sets attributes, size included.
    SETATTR = 0x1108, "setattr";
    /// Takes or gives back a lock.
    SETFILELOCK = 0x1109, "setfilelock";
    /// Sets the layout of files to come.
    SETDIRLAYOUT = 0x110a, "setdirlayout";
    /// Makes a file of any type but directory, without opening it.
    MKNOD = 0x1201, "mknod";
    /// Gives an inode another name.
    LINK = 0x1202, "link";
    /// Takes a name away.
    UNLINK = 0x1203, "unlink";
    /// Moves a name.
    RENAME = 0x1204, "rename";
    /// Makes a directory.
    MKDIR = 0x1220, "mkdir";
    /// Removes an empty directory.
    RMDIR = 0x1221, "rmdir";
    /// Makes a symbolic link.
    SYMLINK = 0x1222, "symlink";
    /// Makes a file and opens it.
    CREATE = 0x1301, "create";
    /// Makes a snapshot.
    MKSNAP = 0x1400, "mksnap";
    /// Removes a snapshot.
    RMSNAP = 0x1401, "rmsnap";
    /// Renames a snapshot.
    RENAMESNAP = 0x1403, "renamesnap";
}

impl Op {
    /// Whether its number says that it changes something.
    pub const fn is_write(self) -> bool {
        self.0 & WRITE != 0
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(op, _)| op == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "op{:#x}", self.0),
        }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Op {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
