use core::fmt;

/// The number of an inode.
///
/// Source: `ceph/ceph:src/include/types.h`, `inodeno_t`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct Ino(pub u64);

impl Ino {
    /// No inode: what a path that needs none starts from.
    pub const NONE: Self = Self(0);
    /// The root directory.
    pub const ROOT: Self = Self(1);

    /// Whether it is one of the inodes that servers keep for themselves: the root of all snapshots, and each rank's own
    /// directories, journals and what was removed and is still in use.
    ///
    /// No request is made of them: servers before 16.2.5 did not survive some.
    ///
    /// Source: `ceph/ceph:src/mds/mdstypes.h`, `MDS_IS_PRIVATE_INO`; `src/include/ceph_fs.h`,
    /// `CEPH_INO_GLOBAL_SNAPREALM`; `ceph/ceph` pull request 40389.
    pub const fn is_servers_own(self) -> bool {
        matches!(self.0, 3 | 0x100..0x1000)
    }
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which version of an inode: a snapshot's number, or one of two marks.
///
/// Source: `ceph/ceph:src/include/rados.h`, `CEPH_NOSNAP` and `CEPH_SNAPDIR`; seen in 16.2.15.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct SnapId(pub u64);

impl SnapId {
    /// The live version.
    pub const HEAD: Self = Self(u64::MAX - 1);
    /// The directory that lists the snapshots.
    pub const DIR: Self = Self(u64::MAX);

    /// Whether this is the live version.
    pub const fn is_head(self) -> bool {
        self.0 == Self::HEAD.0
    }
}

impl Default for SnapId {
    fn default() -> Self {
        Self::HEAD
    }
}

impl fmt::Display for SnapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::HEAD => f.write_str("head"),
            Self::DIR => f.write_str("snapdir"),
            Self(id) => write!(f, "{id:#x}"),
        }
    }
}

impl fmt::Debug for SnapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place among the active metadata servers of a filesystem; -1 for none.
///
/// Source: `ceph/ceph:src/include/cephfs/types.h`, `mds_rank_t`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct Rank(pub i32);

impl Rank {
    /// No rank: a standby, or a capability that went nowhere.
    pub const NONE: Self = Self(-1);
}

impl Default for Rank {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mds.{}", self.0)
    }
}

impl fmt::Debug for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One run of a metadata server: the global id that its monitor session got.
///
/// Source: `ceph/ceph:src/include/cephfs/types.h`, `mds_gid_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct Gid(pub u64);

/// A filesystem of the cluster; -1 for none.
///
/// Source: `ceph/ceph:src/include/cephfs/types.h`, `fs_cluster_id_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct Fscid(pub i32);

impl Fscid {
    /// No filesystem.
    pub const NONE: Self = Self(-1);
}

impl Default for Fscid {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Display for Fscid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Which capability of an inode: a new one each time that the server makes one, unique for the inode only.
///
/// Source: `ceph/ceph:src/mds/Capability.h`, `cap_id`; every new inode came with 1 in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct CapId(pub u64);
