use bytes::Bytes;
use cuttlebone_wire::{Decode, DecodeError, Encode, Features, Reader, WallTime, Writer};

use super::Op;
use crate::{CapBits, Frag, Ino, LegacyLayout, SnapId};

/// How to do an operation: 56 bytes that each operation reads in its own way.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `union ceph_mds_request_args`; seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum RequestArgs {
    /// Nothing to say.
    #[default]
    None,
    /// [`Op::LOOKUP`], [`Op::GETATTR`], [`Op::LOOKUPSNAP`].
    GetAttr {
        /// Capabilities that stand for the attributes that must be current.
        mask: CapBits,
    },
    /// [`Op::LOOKUPINO`], [`Op::LOOKUPHASH`], [`Op::LOOKUPPARENT`].
    LookupIno {
        /// Capabilities that stand for the attributes that must be current.
        mask: CapBits,
        /// The snapshot; 0 for none.
        snap: SnapId,
        /// The directory, if it is known.
        parent: Ino,
        /// The hash of the name there.
        hash: u32,
    },
    /// [`Op::SETATTR`].
    SetAttr(SetAttrArgs),
    /// [`Op::READDIR`], [`Op::LSSNAP`].
    ReadDir(ReadDirArgs),
    /// [`Op::MKNOD`].
    MkNod {
        /// Type and permissions.
        mode: u32,
        /// Device numbers.
        rdev: u32,
    },
    /// [`Op::MKDIR`].
    MkDir {
        /// Permissions.
        mode: u32,
    },
    /// [`Op::OPEN`], [`Op::CREATE`].
    Open {
        /// Flags of open(2) as x86 Linux numbers them.
        flags: u32,
        /// Permissions of what is created.
        mode: u32,
        /// The layout of what is created.
        layout: LayoutArgs,
        /// Capabilities that stand for the attributes that must be current.
        mask: CapBits,
        /// The size before it is cut.
        old_size: u64,
    },
    /// [`Op::SETXATTR`], [`Op::RMXATTR`].
    SetXattr {
        /// 1 must not exist yet, 2 must exist, the highest bit: remove.
        flags: u32,
        /// The object map that knows the pool that a layout names; 0 otherwise.
        osdmap_epoch: u32,
    },
    /// [`Op::SETLAYOUT`], [`Op::SETDIRLAYOUT`].
    SetLayout(LegacyLayout),
    /// [`Op::SETFILELOCK`], [`Op::GETFILELOCK`].
    FileLock(FileLockArgs),
    /// Of an operation that we do not know, or with bytes where there should be none.
    #[cfg_attr(feature = "serde", serde(serialize_with = "raw"))]
    Other([u8; ARGS_BYTES]),
}

/// Bytes of every request's arguments.
const ARGS_BYTES: usize = 56;
/// Bytes before version 4, when there was no time of birth to set.
const ARGS_BYTES_OLD: usize = 48;

/// What [`Op::SETATTR`] sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct SetAttrArgs {
    /// Permissions.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When contents changed.
    pub mtime: WallTime,
    /// When contents were read.
    pub atime: WallTime,
    /// The size.
    pub size: u64,
    /// The size before.
    pub old_size: u64,
    /// Which of them are set: [`SetAttrArgs::MODE`] and others.
    pub mask: u32,
    /// When it was made.
    pub btime: WallTime,
}

/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_SETATTR_*`.
impl SetAttrArgs {
    /// Permissions are set.
    pub const MODE: u32 = 1;
    /// The owner is set.
    pub const UID: u32 = 1 << 1;
    /// The group is set.
    pub const GID: u32 = 1 << 2;
    /// The time of change is set.
    pub const MTIME: u32 = 1 << 3;
    /// The time of reading is set.
    pub const ATIME: u32 = 1 << 4;
    /// The size is set.
    pub const SIZE: u32 = 1 << 5;
    /// The time of the attributes' change is set.
    pub const CTIME: u32 = 1 << 6;
    /// The time of change is set to that of the request.
    pub const MTIME_NOW: u32 = 1 << 7;
    /// The time of reading is set to that of the request.
    pub const ATIME_NOW: u32 = 1 << 8;
    /// The time of birth is set.
    pub const BTIME: u32 = 1 << 9;
    /// Bits that change the user are dropped.
    pub const KILL_SGUID: u32 = 1 << 10;
}

/// Which page of a directory is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct ReadDirArgs {
    /// The fragment.
    pub frag: Frag,
    /// Most entries; 0 for as many as fit.
    pub max_entries: u32,
    /// Most bytes; 0 for 512 KiB and room for attributes.
    pub max_bytes: u32,
    /// [`ReadDirArgs::REPLY_BITFLAGS`] or nothing.
    pub flags: u16,
    /// The hash behind which to go on, if there is no name to go on behind.
    pub offset_hash: u32,
}

impl ReadDirArgs {
    /// The page may say in which order it is.
    ///
    /// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_READDIR_REPLY_BITFLAGS`; seen in 16.2.15.
    pub const REPLY_BITFLAGS: u16 = 1;
}

/// The layout of a file that is created; zeros and -1 inherit that of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct LayoutArgs {
    /// Bytes on one object before the next is used.
    pub stripe_unit: u32,
    /// Objects that stripes go round.
    pub stripe_count: u32,
    /// Bytes of an object.
    pub object_size: u32,
    /// The pool of the objects.
    pub pool: i32,
}

impl Default for LayoutArgs {
    fn default() -> Self {
        Self { stripe_unit: 0, stripe_count: 0, object_size: 0, pool: -1 }
    }
}

/// A lock to take, to give back or to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "35 bytes for ever")]
pub struct FileLockArgs {
    /// 1 as fcntl(2), 2 as flock(2), 3 and 4 to stop waiting for either.
    pub rule: u8,
    /// 1 shared, 2 exclusive, 4 none.
    pub kind: u8,
    /// Which owner at this client.
    pub owner: u64,
    /// Which process here.
    pub pid: u64,
    /// The first byte.
    pub start: u64,
    /// How many bytes; 0 for all behind the first.
    pub length: u64,
    /// Whether to wait until it is free.
    pub wait: u8,
}

impl RequestArgs {
    pub(super) fn decode(r: &mut Reader<'_>, op: Op) -> Result<Self, DecodeError> {
        let raw = r.array::<ARGS_BYTES>("args")?;
        Ok(Self::from_raw(raw, op))
    }

    /// The shorter form, which lacks the last field of the longest variant.
    pub(super) fn decode_old(r: &mut Reader<'_>, op: Op) -> Result<Self, DecodeError> {
        let old = r.array::<ARGS_BYTES_OLD>("args")?;
        let mut raw = [0; ARGS_BYTES];
        raw.iter_mut().zip(old).for_each(|(slot, byte)| *slot = byte);
        Ok(Self::from_raw(raw, op))
    }

    /// What the bytes mean for `op`, unless that would lose some of them.
    fn from_raw(raw: [u8; ARGS_BYTES], op: Op) -> Self {
        let bytes = Bytes::copy_from_slice(&raw);
        let typed = Self::decode_fields(&mut Reader::new(&bytes), op).unwrap_or_default();
        if typed.to_bytes(Features::all_known()) == bytes { typed } else { Self::Other(raw) }
    }

    fn decode_fields(r: &mut Reader<'_>, op: Op) -> Result<Self, DecodeError> {
        Ok(match op {
            Op::LOOKUP | Op::GETATTR | Op::LOOKUPSNAP => Self::GetAttr { mask: CapBits(r.u32("mask")?) },
            Op::LOOKUPINO | Op::LOOKUPHASH | Op::LOOKUPPARENT => Self::LookupIno {
                mask: CapBits(r.u32("mask")?),
                snap: SnapId(r.u64("snapid")?),
                parent: Ino(r.u64("parent")?),
                hash: r.u32("hash")?,
            },
            Op::SETATTR => Self::SetAttr(SetAttrArgs {
                mode: r.u32("mode")?,
                uid: r.u32("uid")?,
                gid: r.u32("gid")?,
                mtime: WallTime::decode(r)?,
                atime: WallTime::decode(r)?,
                size: r.u64("size")?,
                old_size: r.u64("old_size")?,
                mask: r.u32("mask")?,
                btime: WallTime::decode(r)?,
            }),
            Op::READDIR | Op::LSSNAP => Self::ReadDir(ReadDirArgs {
                frag: Frag::decode(r)?,
                max_entries: r.u32("max_entries")?,
                max_bytes: r.u32("max_bytes")?,
                flags: r.u16("flags")?,
                offset_hash: r.u32("offset_hash")?,
            }),
            Op::MKNOD => Self::MkNod { mode: r.u32("mode")?, rdev: r.u32("rdev")? },
            Op::MKDIR => Self::MkDir { mode: r.u32("mode")? },
            Op::OPEN | Op::CREATE => Self::Open {
                flags: r.u32("flags")?,
                mode: r.u32("mode")?,
                layout: LayoutArgs {
                    stripe_unit: r.u32("stripe_unit")?,
                    stripe_count: r.u32("stripe_count")?,
                    object_size: r.u32("object_size")?,
                    pool: r.i32("pool")?,
                },
                mask: CapBits(r.u32("mask")?),
                old_size: r.u64("old_size")?,
            },
            Op::SETXATTR | Op::RMXATTR => {
                Self::SetXattr { flags: r.u32("flags")?, osdmap_epoch: r.u32("osdmap_epoch")? }
            }
            Op::SETLAYOUT | Op::SETDIRLAYOUT => Self::SetLayout(LegacyLayout::decode(r)?),
            Op::SETFILELOCK | Op::GETFILELOCK => Self::FileLock(FileLockArgs {
                rule: r.u8("rule")?,
                kind: r.u8("type")?,
                owner: r.u64("owner")?,
                pid: r.u64("pid")?,
                start: r.u64("start")?,
                length: r.u64("length")?,
                wait: r.u8("wait")?,
            }),
            _ => Self::None,
        })
    }

    fn encode_fields(&self, w: &mut Writer) {
        match self {
            Self::None => {}
            Self::GetAttr { mask } => w.u32(mask.0),
            Self::LookupIno { mask, snap, parent, hash } => {
                w.u32(mask.0);
                w.u64(snap.0);
                w.u64(parent.0);
                w.u32(*hash);
            }
            Self::SetAttr(set) => {
                w.u32(set.mode);
                w.u32(set.uid);
                w.u32(set.gid);
                set.mtime.encode(w);
                set.atime.encode(w);
                w.u64(set.size);
                w.u64(set.old_size);
                w.u32(set.mask);
                set.btime.encode(w);
            }
            Self::ReadDir(page) => {
                page.frag.encode(w);
                w.u32(page.max_entries);
                w.u32(page.max_bytes);
                w.u16(page.flags);
                w.u32(page.offset_hash);
            }
            Self::MkNod { mode, rdev } => {
                w.u32(*mode);
                w.u32(*rdev);
            }
            Self::MkDir { mode } => w.u32(*mode),
            Self::Open { flags, mode, layout, mask, old_size } => {
                w.u32(*flags);
                w.u32(*mode);
                w.u32(layout.stripe_unit);
                w.u32(layout.stripe_count);
                w.u32(layout.object_size);
                w.i32(layout.pool);
                w.u32(mask.0);
                w.u64(*old_size);
            }
            Self::SetXattr { flags, osdmap_epoch } => {
                w.u32(*flags);
                w.u32(*osdmap_epoch);
            }
            Self::SetLayout(layout) => layout.encode(w),
            Self::FileLock(lock) => {
                w.u8(lock.rule);
                w.u8(lock.kind);
                w.u64(lock.owner);
                w.u64(lock.pid);
                w.u64(lock.start);
                w.u64(lock.length);
                w.u8(lock.wait);
            }
            Self::Other(raw) => w.raw(raw),
        }
    }

    /// Writes the shorter form; a time of birth is lost.
    pub(super) fn encode_old(&self, w: &mut Writer) {
        let bytes = self.to_bytes(w.features());
        w.raw(bytes.get(..ARGS_BYTES_OLD).unwrap_or_default());
    }
}

impl Encode for RequestArgs {
    fn encode(&self, w: &mut Writer) {
        let start = w.len();
        self.encode_fields(w);
        // No variant is longer, and shorter ones are padded.
        let written = w.len().saturating_sub(start);
        w.zeros(ARGS_BYTES.saturating_sub(written));
    }
}

#[cfg(feature = "serde")]
fn raw<S: serde::Serializer>(raw: &[u8; ARGS_BYTES], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(raw)
}
