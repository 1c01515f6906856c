use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use cuttlebone_wire::{Decode, DecodeError, Encode, Reader, Writer};

use crate::limits::{MAP_MAX, NAME_BYTES_MAX};
use crate::{Frag, InodeStat, Rank, ReplyForm};

/// What a request touched: perhaps a name in a directory, perhaps an inode.
///
/// A name without an inode is a name that does not exist, which may be remembered as long as its lease lasts.
///
/// Source: `ceph/ceph:src/mds/Server.cc`, `set_trace_dist`; seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "two parts for ever")]
pub struct Trace {
    /// A name, and the directory that it is in.
    pub dentry: Option<TraceDentry>,
    /// The inode.
    pub target: Option<InodeStat>,
}

/// A name in a directory, with what is known about both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "four parts for ever")]
pub struct TraceDentry {
    /// The directory.
    pub dir: InodeStat,
    /// The fragment of it that the name is in.
    pub frag: DirStat,
    /// The name.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub dname: Bytes,
    /// For how long the name may be trusted.
    pub lease: LeaseStat,
}

impl Trace {
    /// Reads a trace with these parts; an empty one has none, whatever the reply says.
    pub(super) fn decode(
        bytes: &Bytes,
        is_dentry: bool,
        is_target: bool,
        form: ReplyForm,
    ) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if r.is_empty() {
            return Ok(Self::default());
        }
        let dentry = if is_dentry { Some(TraceDentry::decode_as(&mut r, form)?) } else { None };
        let target = if is_target { Some(InodeStat::decode_as(&mut r, form)?) } else { None };
        r.finish("trace")?;
        Ok(Self { dentry, target })
    }

    /// Writes its parts.
    pub fn encode(&self, w: &mut Writer, form: ReplyForm) {
        if let Some(dentry) = &self.dentry {
            dentry.dir.encode_as(w, form);
            dentry.frag.encode_as(w, form);
            w.blob(&dentry.dname);
            dentry.lease.encode_as(w, form);
        }
        if let Some(target) = &self.target {
            target.encode_as(w, form);
        }
    }
}

impl TraceDentry {
    fn decode_as(r: &mut Reader<'_>, form: ReplyForm) -> Result<Self, DecodeError> {
        Ok(Self {
            dir: InodeStat::decode_as(r, form)?,
            frag: DirStat::decode_as(r, form)?,
            dname: r.blob("dname", NAME_BYTES_MAX)?,
            lease: LeaseStat::decode_as(r, form)?,
        })
    }
}

/// Who serves a fragment of a directory.
///
/// Source: `ceph/ceph:src/messages/MClientReply.h`, `DirStat`; seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct DirStat {
    /// The fragment.
    pub frag: Frag,
    /// The rank that has authority over it; [`DirStat::AUTH_PARENT`] if it is the directory's.
    pub auth: Rank,
    /// Ranks that have copies and can be asked as well.
    pub dist: Vec<Rank>,
}

impl DirStat {
    /// Whoever has authority over the directory's inode.
    ///
    /// Source: `ceph/ceph:src/include/ceph_fs.h`, `CDIR_AUTH_PARENT` as it is on the wire.
    pub const AUTH_PARENT: Rank = Rank(-1);
    /// Nobody knows.
    pub const AUTH_UNKNOWN: Rank = Rank(-2);

    /// Reads one in the form that the session has.
    ///
    /// # Errors
    ///
    /// Which field does not follow the encoding.
    pub fn decode_as(r: &mut Reader<'_>, form: ReplyForm) -> Result<Self, DecodeError> {
        match form {
            ReplyForm::Versioned => r.versioned("DirStat", 1, |r, _| Self::decode_fields(r)),
            ReplyForm::Legacy(_) => Self::decode_fields(r),
        }
    }

    /// Writes it in the form that the session has.
    pub fn encode_as(&self, w: &mut Writer, form: ReplyForm) {
        match form {
            ReplyForm::Versioned => w.versioned(1, 1, |w| self.encode_fields(w)),
            ReplyForm::Legacy(_) => self.encode_fields(w),
        }
    }

    fn decode_fields(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            frag: Frag::decode(r)?,
            auth: Rank(r.i32("auth")?),
            dist: r.list("dist", MAP_MAX, 4, |r| r.i32("replica").map(Rank))?,
        })
    }

    fn encode_fields(&self, w: &mut Writer) {
        self.frag.encode(w);
        w.i32(self.auth.0);
        w.list(&self.dist, |w, rank| w.i32(rank.0));
    }
}

/// For how long a name may be trusted without asking again.
///
/// Source: `ceph/ceph:src/messages/MClientReply.h`, `LeaseStat`; version 2 seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LeaseStat {
    /// [`LeaseStat::VALID`] and [`LeaseStat::PRIMARY_LINK`].
    pub mask: u16,
    /// How long, from when the request was sent; zero for no lease.
    pub duration: Duration,
    /// Counts the leases of this name.
    pub seq: u32,
    /// The name in full, where it is a shortened one; from version 2 on.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub alternate_name: Bytes,
    /// The version that was read; 0 for the newest.
    #[cfg_attr(feature = "serde", serde(skip))]
    version: u8,
}

/// The newest version that we know.
const LEASE_VERSION: u8 = 2;

impl LeaseStat {
    /// There is a lease.
    ///
    /// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_LEASE_VALID`; 3 seen in 16.2.15.
    pub const VALID: u16 = 1 | 2;
    /// The inode belongs to this name, and not to another one that it is linked to.
    ///
    /// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_LEASE_PRIMARY_LINK`; seen in 16.2.15.
    pub const PRIMARY_LINK: u16 = 4;

    /// A lease with these bits for this long.
    pub fn new(mask: u16, duration: Duration, seq: u32) -> Self {
        Self { mask, duration, seq, ..Self::default() }
    }

    /// Reads one in the form that the session has.
    ///
    /// # Errors
    ///
    /// Which field does not follow the encoding.
    pub fn decode_as(r: &mut Reader<'_>, form: ReplyForm) -> Result<Self, DecodeError> {
        match form {
            ReplyForm::Legacy(_) => Self::decode_fields(r),
            ReplyForm::Versioned => r.versioned("LeaseStat", LEASE_VERSION, |r, version| {
                let mut lease = Self::decode_fields(r)?;
                lease.version = version.clamp(1, LEASE_VERSION);
                if version >= 2 {
                    lease.alternate_name = r.blob("alternate_name", NAME_BYTES_MAX)?;
                }
                Ok(lease)
            }),
        }
    }

    /// Writes it in the form that the session has.
    pub fn encode_as(&self, w: &mut Writer, form: ReplyForm) {
        let version = if self.version == 0 { LEASE_VERSION } else { self.version };
        match form {
            ReplyForm::Legacy(_) => self.encode_fields(w),
            ReplyForm::Versioned => w.versioned(version, 1, |w| {
                self.encode_fields(w);
                if version >= 2 {
                    w.blob(&self.alternate_name);
                }
            }),
        }
    }

    fn decode_fields(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mask = r.u16("lease mask")?;
        let duration = Duration::from_millis(r.u32("duration_ms")?.into());
        Ok(Self::new(mask, duration, r.u32("lease seq")?))
    }

    fn encode_fields(&self, w: &mut Writer) {
        w.u16(self.mask);
        w.u32(u32::try_from(self.duration.as_millis()).unwrap_or(u32::MAX));
        w.u32(self.seq);
    }
}
