use alloc::collections::BTreeMap;
use alloc::string::String;

use bytes::Bytes;
use cuttlebone_wire::{Decode, DecodeError, Encode, Features, Reader, WallTime, Writer};

use crate::limits::{BLOB_BYTES_MAX, NAME_BYTES_MAX};
use crate::{CapBits, CapId, FragTree, Ino, LegacyLayout, NameHash, Quota, Rank, SnapId, pairs};

/// An inode as replies carry it: its attributes, and the capability that comes with them.
///
/// Source: `ceph/ceph:src/messages/MClientReply.h`, `InodeStat`; version 6 seen in 16.2.15, the legacy form in
/// corpus objects of 11.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct InodeStat {
    /// Its number.
    pub ino: Ino,
    /// Which version of it: the live one, or that of a snapshot.
    pub snap: SnapId,
    /// Device numbers, for device files.
    pub rdev: u32,
    /// Counts its changes.
    pub version: u64,
    /// Counts changes of its extended attributes; 0 if they are not in here.
    pub xattr_version: u64,
    /// What the client was given; for snapshots only the bits have a meaning.
    pub cap: CapGrant,
    /// Where its contents are; all zero for a directory that inherits.
    pub layout: LegacyLayout,
    /// When attributes changed last.
    pub ctime: WallTime,
    /// When contents changed last.
    pub mtime: WallTime,
    /// When contents were read last.
    pub atime: WallTime,
    /// Counts times that were set backwards.
    pub time_warp_seq: u32,
    /// Bytes of contents; 0 for directories.
    pub size: u64,
    /// Up to where the client may write.
    pub max_size: u64,
    /// To which size it was cut last.
    pub truncate_size: u64,
    /// How often it was cut.
    pub truncate_seq: u32,
    /// Type and permissions.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Names that it has.
    pub nlink: u32,
    /// Entries of a directory that are not directories.
    pub files: u64,
    /// Entries of a directory that are.
    pub subdirs: u64,
    /// Bytes of all files below.
    pub rbytes: u64,
    /// Files below.
    pub rfiles: u64,
    /// Directories below, itself counted.
    pub rsubdirs: u64,
    /// The newest change below.
    pub rctime: WallTime,
    /// How a directory is divided.
    pub fragtree: FragTree,
    /// Where a symbolic link points.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub symlink: Bytes,
    /// How a directory hashes its names, and seven bytes that nobody uses.
    pub dir_layout: DirLayout,
    /// Extended attributes as they are encoded; empty if they are not in here, which is not the same as none.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::length"))]
    pub xattrs: Bytes,
    /// Version of contents that are kept in the inode; all ones for none.
    pub inline_version: u64,
    /// Such contents.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::length"))]
    pub inline_data: Bytes,
    /// What a directory may hold.
    pub quota: Quota,
    /// The namespace of its objects.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub pool_ns: Bytes,
    /// When it was made.
    pub btime: WallTime,
    /// Counts changes of anything that a stat shows.
    pub change_attr: u64,
    /// The rank that a directory is pinned to; from version 2 on.
    pub dir_pin: Rank,
    /// When the snapshot was made; from version 3 on.
    pub snap_btime: WallTime,
    /// Snapshots below; from version 4 on.
    pub rsnaps: u64,
    /// What was told about the snapshot; from version 5 on.
    pub snap_metadata: BTreeMap<String, String>,
    /// Whether its contents are encrypted by clients; from version 6 on.
    pub fscrypt: bool,
    /// The version that was read; 0 for the newest.
    #[cfg_attr(feature = "serde", serde(skip))]
    struct_version: u8,
}

/// The newest version that we know.
const VERSION: u8 = 6;

/// How structures in replies are written, which is agreed on when the session is opened and holds for all of it.
///
/// Source: `ceph/ceph:src/messages/MClientReply.h`, the `features` parameter of its structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the versioned form made further ones unnecessary")]
pub enum ReplyForm {
    /// Versioned: for clients that claim [`feature::REPLY_ENCODING`](crate::feature::REPLY_ENCODING).
    Versioned,
    /// Packed, with a tail that the features of the connection decide about.
    Legacy(Features),
}

/// Features that decide about the tail of the legacy form.
///
/// Source: `ceph/ceph:src/include/ceph_features.h`.
mod tail {
    use cuttlebone_wire::Features;

    pub(super) const DIR_LAYOUT: Features = Features(1 << 7);
    pub(super) const INLINE_DATA: Features = Features(1 << 40);
    pub(super) const QUOTA: Features = Features(1 << 47);
    pub(super) const POOL_NS: Features = Features::FILE_LAYOUT2;
    pub(super) const BTIME: Features = Features::BTIME;
}

impl InodeStat {
    /// Bytes of the shortest encoding, in any form.
    pub(crate) const BYTES_MIN: usize = 200;

    /// Reads one in the form that the session has.
    ///
    /// # Errors
    ///
    /// Which field does not follow the encoding.
    pub fn decode_as(r: &mut Reader<'_>, form: ReplyForm) -> Result<Self, DecodeError> {
        match form {
            ReplyForm::Versioned => Self::decode(r),
            ReplyForm::Legacy(features) => {
                let mut stat = Self::decode_fixed(r)?;
                stat.decode_tail(r, features)?;
                Ok(stat)
            }
        }
    }

    /// Writes it in the form that the session has.
    pub fn encode_as(&self, w: &mut Writer, form: ReplyForm) {
        match form {
            ReplyForm::Versioned => self.encode(w),
            ReplyForm::Legacy(features) => {
                self.encode_fixed(w);
                self.encode_tail(w, features);
            }
        }
    }

    /// Whether it is a directory.
    pub const fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    /// Whether it is a symbolic link.
    pub const fn is_symlink(&self) -> bool {
        self.mode & 0o170_000 == 0o120_000
    }

    /// Forgets which version it was read in.
    pub const fn renew(&mut self) {
        self.struct_version = 0;
    }

    fn decode_fixed(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            ino: Ino(r.u64("ino")?),
            snap: SnapId(r.u64("snapid")?),
            rdev: r.u32("rdev")?,
            version: r.u64("version")?,
            xattr_version: r.u64("xattr_version")?,
            cap: CapGrant::decode(r)?,
            layout: LegacyLayout::decode(r)?,
            ctime: WallTime::decode(r)?,
            mtime: WallTime::decode(r)?,
            atime: WallTime::decode(r)?,
            time_warp_seq: r.u32("time_warp_seq")?,
            size: r.u64("size")?,
            max_size: r.u64("max_size")?,
            truncate_size: r.u64("truncate_size")?,
            truncate_seq: r.u32("truncate_seq")?,
            mode: r.u32("mode")?,
            uid: r.u32("uid")?,
            gid: r.u32("gid")?,
            nlink: r.u32("nlink")?,
            files: r.u64("files")?,
            subdirs: r.u64("subdirs")?,
            rbytes: r.u64("rbytes")?,
            rfiles: r.u64("rfiles")?,
            rsubdirs: r.u64("rsubdirs")?,
            rctime: WallTime::decode(r)?,
            fragtree: FragTree::decode(r)?,
            symlink: r.blob("symlink", NAME_BYTES_MAX)?,
            ..Self::default()
        })
    }

    fn decode_tail(&mut self, r: &mut Reader<'_>, features: Features) -> Result<(), DecodeError> {
        if features.contains(tail::DIR_LAYOUT) {
            self.dir_layout = DirLayout::decode(r)?;
        }
        self.xattrs = r.blob("xattrs", BLOB_BYTES_MAX)?;
        if features.contains(tail::INLINE_DATA) {
            self.inline_version = r.u64("inline_version")?;
            self.inline_data = r.blob("inline_data", BLOB_BYTES_MAX)?;
        }
        if features.contains(tail::QUOTA) {
            self.quota = Quota::decode(r)?;
        }
        if features.contains(tail::POOL_NS) {
            self.pool_ns = r.blob("pool_ns", NAME_BYTES_MAX)?;
        }
        if features.contains(tail::BTIME) {
            self.btime = WallTime::decode(r)?;
            self.change_attr = r.u64("change_attr")?;
        }
        Ok(())
    }

    fn encode_fixed(&self, w: &mut Writer) {
        w.u64(self.ino.0);
        w.u64(self.snap.0);
        w.u32(self.rdev);
        w.u64(self.version);
        w.u64(self.xattr_version);
        self.cap.encode(w);
        self.layout.encode(w);
        self.ctime.encode(w);
        self.mtime.encode(w);
        self.atime.encode(w);
        w.u32(self.time_warp_seq);
        w.u64(self.size);
        w.u64(self.max_size);
        w.u64(self.truncate_size);
        w.u32(self.truncate_seq);
        w.u32(self.mode);
        w.u32(self.uid);
        w.u32(self.gid);
        w.u32(self.nlink);
        w.u64(self.files);
        w.u64(self.subdirs);
        w.u64(self.rbytes);
        w.u64(self.rfiles);
        w.u64(self.rsubdirs);
        self.rctime.encode(w);
        self.fragtree.encode(w);
        w.blob(&self.symlink);
    }

    fn encode_tail(&self, w: &mut Writer, features: Features) {
        if features.contains(tail::DIR_LAYOUT) {
            self.dir_layout.encode(w);
        }
        w.blob(&self.xattrs);
        if features.contains(tail::INLINE_DATA) {
            w.u64(self.inline_version);
            w.blob(&self.inline_data);
        }
        if features.contains(tail::QUOTA) {
            self.quota.encode(w);
        }
        if features.contains(tail::POOL_NS) {
            w.blob(&self.pool_ns);
        }
        if features.contains(tail::BTIME) {
            self.btime.encode(w);
            w.u64(self.change_attr);
        }
    }
}

impl Decode for InodeStat {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("InodeStat", VERSION, |r, version| {
            let mut stat = Self::decode_fixed(r)?;
            stat.struct_version = version.clamp(1, VERSION);
            stat.decode_tail(r, Features::all_known())?;
            if version >= 2 {
                stat.dir_pin = Rank(r.i32("dir_pin")?);
            }
            if version >= 3 {
                stat.snap_btime = WallTime::decode(r)?;
            }
            if version >= 4 {
                stat.rsnaps = r.u64("rsnaps")?;
            }
            if version >= 5 {
                stat.snap_metadata = pairs::decode(r, "snap_metadata")?;
            }
            if version >= 6 {
                stat.fscrypt = r.bool("fscrypt")?;
            }
            Ok(stat)
        })
    }
}

impl Encode for InodeStat {
    fn encode(&self, w: &mut Writer) {
        let version = if self.struct_version == 0 { VERSION } else { self.struct_version };
        w.versioned(version, 1, |w| {
            self.encode_fixed(w);
            self.encode_tail(w, Features::all_known());
            if version >= 2 {
                w.i32(self.dir_pin.0);
            }
            if version >= 3 {
                self.snap_btime.encode(w);
            }
            if version >= 4 {
                w.u64(self.rsnaps);
            }
            if version >= 5 {
                pairs::encode(&self.snap_metadata, w);
            }
            if version >= 6 {
                w.bool(self.fscrypt);
            }
        });
    }
}

/// The capability that comes with an inode.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `struct ceph_mds_reply_cap`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "33 bytes for ever")]
pub struct CapGrant {
    /// What was issued.
    pub caps: CapBits,
    /// What the server believes that the client wants.
    pub wanted: CapBits,
    /// Which capability this is; 0 with no bits means that none was issued.
    pub cap_id: CapId,
    /// Counts what was issued.
    pub seq: u32,
    /// Counts its moves between ranks.
    pub mseq: u32,
    /// The realm of the inode.
    pub realm: Ino,
    /// [`CapGrant::AUTH`] and others.
    pub flags: u8,
}

impl CapGrant {
    /// Issued by the rank that has authority over the inode.
    ///
    /// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_CAP_FLAG_AUTH`.
    pub const AUTH: u8 = 1;
    /// The old holder is to release its own.
    ///
    /// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_CAP_FLAG_RELEASE`.
    pub const RELEASE: u8 = 2;

    /// Whether a capability was issued at all.
    pub const fn is_issued(&self) -> bool {
        self.cap_id.0 != 0
    }
}

impl Decode for CapGrant {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            caps: CapBits(r.u32("caps")?),
            wanted: CapBits(r.u32("wanted")?),
            cap_id: CapId(r.u64("cap_id")?),
            seq: r.u32("seq")?,
            mseq: r.u32("mseq")?,
            realm: Ino(r.u64("realm")?),
            flags: r.u8("cap flags")?,
        })
    }
}

impl Encode for CapGrant {
    fn encode(&self, w: &mut Writer) {
        w.u32(self.caps.0);
        w.u32(self.wanted.0);
        w.u64(self.cap_id.0);
        w.u32(self.seq);
        w.u32(self.mseq);
        w.u64(self.realm.0);
        w.u8(self.flags);
    }
}

/// How a directory hashes the names in it.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `struct ceph_dir_layout`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "eight bytes for ever")]
pub struct DirLayout {
    /// The function.
    pub hash: NameHash,
    /// Bytes that nobody uses.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub unused: [u8; 7],
}

impl Decode for DirLayout {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { hash: NameHash(r.u8("dir hash")?), unused: r.array("dir layout")? })
    }
}

impl Encode for DirLayout {
    fn encode(&self, w: &mut Writer) {
        w.u8(self.hash.0);
        w.raw(&self.unused);
    }
}
