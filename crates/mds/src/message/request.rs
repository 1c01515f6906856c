use alloc::vec::Vec;

use bytes::Bytes;
use cuttlebone_wire::{
    Body, Decode, DecodeError, DecodeErrorKind, Encode, Features, Message, MessageType, Reader, WallTime,
    Writer,
};

use crate::limits::{LIST_MAX, NAME_BYTES_MAX};
use crate::{CapBits, CapId, Ino};

mod args;
mod op;

pub use args::{FileLockArgs, LayoutArgs, ReadDirArgs, RequestArgs, SetAttrArgs};
pub use op::Op;

/// Asks for one operation; its tid is unique for the client and never used again.
///
/// Source: `ceph/ceph:src/messages/MClientRequest.h`; version 5 seen in 16.2.15, 4 in corpus objects of 11.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClientRequest {
    /// The lowest tid that the client still waits for, unsafe ones counted; 0 for unknown. The server forgets what it
    /// knows of lower ones.
    pub oldest_client_tid: u64,
    /// The map that the client knows.
    pub mdsmap_epoch: u32,
    /// What kind of attempt this is, and what the reply is to carry.
    pub flags: RequestFlags,
    /// How often it was sent to this server before; above 255 only the wide head says it in full.
    pub retries: u32,
    /// How often a server passed it on; above 255 only the wide head says it in full.
    pub forwards: u32,
    /// What to do.
    pub op: Op,
    /// Who asks, and owns what is created.
    pub caller_uid: u32,
    /// The group of whoever asks.
    pub caller_gid: u32,
    /// The number that a replayed creation has been given already; 0 otherwise.
    pub ino: Ino,
    /// How to do it.
    pub args: RequestArgs,
    /// What to do it to.
    pub path: FilePath,
    /// The other path, name or target of operations that have two.
    pub path2: FilePath,
    /// Capabilities and leases that the client gives back with the request.
    pub releases: Vec<RequestRelease>,
    /// When the caller asked; becomes the time of changes.
    pub stamp: WallTime,
    /// Further groups of the caller; from version 4 on.
    pub gids: Vec<u64>,
    /// The name in full, where the path has a shortened one; from version 5 on.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub alternate_name: Bytes,
    /// The value of an extended attribute, or what to tell about a snapshot.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::length"))]
    pub data: Bytes,
    /// Whether the head has counters of 32 bits, which only servers with
    /// [`feature::RETRY_FWD_32BITS`](crate::feature::RETRY_FWD_32BITS) understand.
    pub wide_head: bool,
}

/// The first version whose head says its own version.
const VERSION_HEAD: u16 = 4;
/// Versions of the head that we know.
const HEAD_NARROW: u16 = 1;
const HEAD_WIDE: u16 = 2;

impl ClientRequest {
    /// A request for `op` on `path`.
    pub fn new(op: Op, path: FilePath, args: RequestArgs) -> Self {
        Self { op, args, path, ..Self::default() }
    }
}

impl Body for ClientRequest {
    const KIND: MessageType = MessageType(24);
    const NAME: &'static str = "MClientRequest";
    const VERSION: u16 = 5;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, version: u16, message: &Message) -> Result<Self, DecodeError> {
        let head = if version >= VERSION_HEAD { r.u16("head version")? } else { HEAD_NARROW };
        if !(HEAD_NARROW..=HEAD_WIDE).contains(&head) {
            return Err(r.error("head version", DecodeErrorKind::Unknown { value: head.into() }));
        }
        let mut request = Self {
            oldest_client_tid: r.u64("oldest_client_tid")?,
            mdsmap_epoch: r.u32("mdsmap_epoch")?,
            flags: RequestFlags(r.u32("flags")?),
            retries: r.u8("num_retry")?.into(),
            forwards: r.u8("num_fwd")?.into(),
            data: message.data.clone(),
            wide_head: head >= HEAD_WIDE,
            ..Self::default()
        };
        let releases = r.u16("num_releases")?;
        request.op = Op(r.u32("op")?);
        request.caller_uid = r.u32("caller_uid")?;
        request.caller_gid = r.u32("caller_gid")?;
        request.ino = Ino(r.u64("ino")?);
        request.args = if version >= VERSION_HEAD {
            RequestArgs::decode(r, request.op)?
        } else {
            r.without(Features::BTIME);
            RequestArgs::decode_old(r, request.op)?
        };
        if request.wide_head {
            request.retries = r.u32("ext_num_retry")?;
            request.forwards = r.u32("ext_num_fwd")?;
        }
        request.path = FilePath::decode(r)?;
        request.path2 = FilePath::decode(r)?;
        for _ in 0..releases {
            request.releases.push(RequestRelease::decode(r)?);
        }
        if version >= 2 {
            request.stamp = WallTime::decode(r)?;
        }
        if version >= 4 {
            request.gids = r.list("gid_list", LIST_MAX, 8, |r| r.u64("gid"))?;
        }
        if version >= 5 {
            request.alternate_name = r.blob("alternate_name", NAME_BYTES_MAX)?;
        }
        Ok(request)
    }

    /// # Panics
    ///
    /// With more than 65,535 releases: a caller's bug.
    fn encode_front(&self, w: &mut Writer, version: u16) {
        let with_head = version >= VERSION_HEAD;
        let wide = with_head && self.wide_head;
        if with_head {
            w.u16(if wide { HEAD_WIDE } else { HEAD_NARROW });
        }
        w.u64(self.oldest_client_tid);
        w.u32(self.mdsmap_epoch);
        w.u32(self.flags.0);
        w.u8(u8::try_from(self.retries).unwrap_or(u8::MAX));
        w.u8(u8::try_from(self.forwards).unwrap_or(u8::MAX));
        w.u16(u16::try_from(self.releases.len()).expect("no request has 64 Ki releases"));
        w.u32(self.op.0);
        w.u32(self.caller_uid);
        w.u32(self.caller_gid);
        w.u64(self.ino.0);
        if with_head {
            self.args.encode(w);
        } else {
            self.args.encode_old(w);
        }
        if wide {
            w.u32(self.retries);
            w.u32(self.forwards);
        }
        self.path.encode(w);
        self.path2.encode(w);
        self.releases.iter().for_each(|release| release.encode(w));
        if version >= 2 {
            self.stamp.encode(w);
        }
        if version >= 4 {
            w.list(&self.gids, |w, gid| w.u64(*gid));
        }
        if version >= 5 {
            w.blob(&self.alternate_name);
        }
    }

    fn data(&self) -> Bytes {
        self.data.clone()
    }

    fn version_for(features: Features) -> (u16, u16) {
        let version = if features.contains(Features::BTIME) { Self::VERSION } else { VERSION_HEAD - 1 };
        (version, Self::COMPAT)
    }
}

/// What kind of attempt a request is, and what its reply is to carry.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_MDS_FLAG_*`; the first two seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "thirty-two bits, all of which are kept")]
pub struct RequestFlags(pub u32);

impl RequestFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// It was done before the server failed, and is to be done again in the same way.
    pub const REPLAY: Self = Self(1);
    /// The reply is to carry the directory and the name.
    pub const WANT_DENTRY: Self = Self(2);
    /// The client has acted on it already.
    pub const ASYNC: Self = Self(4);

    /// Whether all bits of `other` are here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A path that begins at an inode. An empty part behind a name stands for its directory of snapshots.
///
/// Source: `ceph/ceph:src/include/filepath.h`, `filepath`; seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "the wire has these two fields")]
pub struct FilePath {
    /// Where it begins; 0 if the text is not a path at all.
    pub ino: Ino,
    /// Names with slashes between them; empty for the inode itself.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub path: Bytes,
}

/// The version that every path begins with.
const PATH_VERSION: u8 = 1;

impl FilePath {
    /// The path `path` from `ino`.
    pub fn new(ino: Ino, path: impl Into<Bytes>) -> Self {
        Self { ino, path: path.into() }
    }

    /// The inode itself.
    pub const fn of(ino: Ino) -> Self {
        Self { ino, path: Bytes::new() }
    }
}

impl Decode for FilePath {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.skip(1, "path version")?;
        Ok(Self { ino: Ino(r.u64("path base")?), path: r.blob("path", NAME_BYTES_MAX)? })
    }
}

impl Encode for FilePath {
    fn encode(&self, w: &mut Writer) {
        w.u8(PATH_VERSION);
        w.u64(self.ino.0);
        w.blob(&self.path);
    }
}

/// A capability, and perhaps a lease, that is given back in the same instant as a request is made.
///
/// Source: `ceph/ceph:src/messages/MClientRequest.h`, `MClientRequest::Release`; corpus objects of 11.2.0 and 16.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct RequestRelease {
    /// The inode; with a name, the directory.
    pub ino: Ino,
    /// The capability.
    pub cap_id: CapId,
    /// What the client keeps.
    pub caps: CapBits,
    /// What the client wants from now on.
    pub wanted: CapBits,
    /// The last seq that it has seen.
    pub seq: u32,
    /// The seq of the last reply that carried it.
    pub issue_seq: u32,
    /// How often it has moved.
    pub mseq: u32,
    /// The seq of the lease.
    pub dname_seq: u32,
    /// The name whose lease is given back; empty for none.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub dname: Bytes,
}

impl Decode for RequestRelease {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            ino: Ino(r.u64("release ino")?),
            cap_id: CapId(r.u64("cap_id")?),
            caps: CapBits(r.u32("caps")?),
            wanted: CapBits(r.u32("wanted")?),
            seq: r.u32("seq")?,
            issue_seq: r.u32("issue_seq")?,
            mseq: r.u32("mseq")?,
            dname_seq: r.u32("dname_seq")?,
            dname: r.blob("dname", NAME_BYTES_MAX)?,
        })
    }
}

impl Encode for RequestRelease {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.ino.0);
        w.u64(self.cap_id.0);
        w.u32(self.caps.0);
        w.u32(self.wanted.0);
        w.u32(self.seq);
        w.u32(self.issue_seq);
        w.u32(self.mseq);
        w.u32(self.dname_seq);
        w.blob(&self.dname);
    }
}
