use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use cuttlebone_wire::{
    Body, Decode, DecodeError, DecodeErrorKind, Encode, Features, Message, MessageType, Reader, WallTime,
    Writer,
};

use crate::limits::{BLOB_BYTES_MAX, NAME_BYTES_MAX};
use crate::{CapBits, CapId, Ino, LegacyLayout, Rank, SnapRealm};

/// Gives, takes, moves or writes back a capability; both sides send it.
///
/// The tid is that of a flush and its acknowledgement, and 0 otherwise.
///
/// Source: `ceph/ceph:src/messages/MClientCaps.h`; version 11 seen in 16.2.15, 10 in corpus objects of 11.2.0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClientCaps {
    /// What it is.
    pub op: CapOp,
    /// The inode.
    pub ino: Ino,
    /// Its realm.
    pub realm: Ino,
    /// Which capability of that inode.
    pub cap_id: CapId,
    /// Counts what was issued; from a client, the last that it has seen.
    pub seq: u32,
    /// The seq of the last reply that carried the capability.
    pub issue_seq: u32,
    /// What is issued, or kept.
    pub caps: CapBits,
    /// What the client wants.
    pub wanted: CapBits,
    /// What is written back, or has been.
    pub dirty: CapBits,
    /// Counts moves between ranks.
    pub mseq: u32,
    /// The newest snapshot that what is written back is behind of.
    pub snap_follows: u64,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Type and permissions.
    pub mode: u32,
    /// Names that it has.
    pub nlink: u32,
    /// Counts changes of its extended attributes; 0 if they are not in here.
    pub xattr_version: u64,
    /// Extended attributes as they are encoded.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::length"))]
    pub xattrs: Bytes,
    /// Bytes of contents.
    pub size: u64,
    /// Up to where the client may write.
    pub max_size: u64,
    /// To which size it was cut last.
    pub truncate_size: u64,
    /// How often it was cut.
    pub truncate_seq: u32,
    /// When contents changed.
    pub mtime: WallTime,
    /// When contents were read.
    pub atime: WallTime,
    /// When attributes changed.
    pub ctime: WallTime,
    /// Where contents are.
    pub layout: LegacyLayout,
    /// Counts times that were set backwards.
    pub time_warp_seq: u32,
    /// The chain of realms; empty if it has not changed.
    pub realms: Vec<SnapRealm>,
    /// Locks on the file as they are encoded; from version 2 on.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::length"))]
    pub flock: Bytes,
    /// The capability at the other rank, when it moves; that of an arrival from version 3 on.
    pub peer: CapPeer,
    /// Version of contents that are kept in the inode; from version 4 on.
    pub inline_version: u64,
    /// Such contents.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::length"))]
    pub inline_data: Bytes,
    /// The object map to have before objects are touched; from version 5 on.
    pub osd_epoch_barrier: u32,
    /// The lowest flush that the client still waits for; from version 6 on.
    pub oldest_flush_tid: u64,
    /// Who wrote what is written back; from version 7 on.
    pub caller_uid: u32,
    /// The group of whoever did.
    pub caller_gid: u32,
    /// The namespace of its objects; from version 8 on.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub pool_ns: Bytes,
    /// When it was made; from version 9 on.
    pub btime: WallTime,
    /// Counts changes of anything that a stat shows; from version 9 on.
    pub change_attr: u64,
    /// [`ClientCaps::SYNC`] and others; from version 10 on.
    pub flags: u32,
    /// Entries of a directory that are not directories, -1 for unknown; from version 11 on.
    pub files: i64,
    /// Entries of a directory that are, -1 for unknown; from version 11 on.
    pub subdirs: i64,
}

/// What a message about a capability is.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_CAP_OP_*`; all but the legacy ones and TRUNC seen in 16.2.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CapOp {
    /// The server gives.
    Grant,
    /// The server takes back, and waits for the answer.
    Revoke,
    /// The server cuts the file.
    Trunc,
    /// The capability goes to another rank.
    Export,
    /// It has arrived there.
    Import,
    /// The client says what it keeps and wants.
    Update,
    /// Legacy.
    Drop,
    /// The client writes back.
    Flush,
    /// That is on disk.
    FlushAck,
    /// The client writes back what a snapshot is to hold.
    FlushSnap,
    /// That is on disk.
    FlushSnapAck,
    /// Legacy.
    Release,
    /// Legacy.
    Renew,
}

/// Numbers and names, in the order of the numbers.
const OPS: [(CapOp, &str); 13] = [
    (CapOp::Grant, "grant"),
    (CapOp::Revoke, "revoke"),
    (CapOp::Trunc, "trunc"),
    (CapOp::Export, "export"),
    (CapOp::Import, "import"),
    (CapOp::Update, "update"),
    (CapOp::Drop, "drop"),
    (CapOp::Flush, "flush"),
    (CapOp::FlushAck, "flush_ack"),
    (CapOp::FlushSnap, "flushsnap"),
    (CapOp::FlushSnapAck, "flushsnap_ack"),
    (CapOp::Release, "release"),
    (CapOp::Renew, "renew"),
];

impl fmt::Display for CapOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = OPS.iter().find(|(op, _)| op == self).map(|(_, name)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for CapOp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Decode for CapOp {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let value = r.u32("cap op")?;
        let known = usize::try_from(value).ok().and_then(|index| OPS.get(index));
        let unknown = || r.error("cap op", DecodeErrorKind::Unknown { value: value.into() });
        known.map(|(op, _)| *op).ok_or_else(unknown)
    }
}

impl Encode for CapOp {
    fn encode(&self, w: &mut Writer) {
        w.count(OPS.iter().position(|(op, _)| op == self).unwrap_or_default());
    }
}

/// The other end of a move between ranks.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `struct ceph_mds_cap_peer`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "21 bytes for ever")]
pub struct CapPeer {
    /// The capability there.
    pub cap_id: CapId,
    /// Its seq.
    pub seq: u32,
    /// How often it has moved.
    pub mseq: u32,
    /// The rank; -1 for none.
    pub rank: Rank,
    /// [`CapGrant::AUTH`](crate::CapGrant::AUTH) and others.
    pub flags: u8,
}

impl Decode for CapPeer {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            cap_id: CapId(r.u64("peer cap_id")?),
            seq: r.u32("peer seq")?,
            mseq: r.u32("peer mseq")?,
            rank: Rank(r.i32("peer mds")?),
            flags: r.u8("peer flags")?,
        })
    }
}

impl Encode for CapPeer {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.cap_id.0);
        w.u32(self.seq);
        w.u32(self.mseq);
        w.i32(self.rank.0);
        w.u8(self.flags);
    }
}

/// Bytes of the part that is an inode's attributes or, when the capability leaves, the other end.
const BODY_BYTES: usize = 84;
/// Bytes of the other end.
const PEER_BYTES: usize = 21;
/// In place of a version of contents: there are none in the inode.
const INLINE_NONE: u64 = u64::MAX;

impl ClientCaps {
    /// What is written back is to be on disk at once.
    ///
    /// Source: `ceph/ceph:src/messages/MClientCaps.h`, `FLAG_SYNC`.
    pub const SYNC: u32 = 1;
    /// More that belongs to a snapshot follows.
    ///
    /// Source: `ceph/ceph:src/messages/MClientCaps.h`, `FLAG_PENDING_CAPSNAP`.
    pub const PENDING_CAPSNAP: u32 = 4;

    /// A message with nothing but what it is, and about which inode.
    pub fn new(op: CapOp, ino: Ino) -> Self {
        Self {
            op,
            ino,
            realm: Ino::ROOT,
            cap_id: CapId(0),
            seq: 0,
            issue_seq: 0,
            caps: CapBits::NONE,
            wanted: CapBits::NONE,
            dirty: CapBits::NONE,
            mseq: 0,
            snap_follows: 0,
            uid: 0,
            gid: 0,
            mode: 0,
            nlink: 0,
            xattr_version: 0,
            xattrs: Bytes::new(),
            size: 0,
            max_size: 0,
            truncate_size: 0,
            truncate_seq: 0,
            mtime: WallTime::default(),
            atime: WallTime::default(),
            ctime: WallTime::default(),
            layout: LegacyLayout::default(),
            time_warp_seq: 0,
            realms: Vec::new(),
            flock: Bytes::new(),
            peer: CapPeer::default(),
            inline_version: INLINE_NONE,
            inline_data: Bytes::new(),
            osd_epoch_barrier: 0,
            oldest_flush_tid: 0,
            caller_uid: 0,
            caller_gid: 0,
            pool_ns: Bytes::new(),
            btime: WallTime::default(),
            change_attr: 0,
            flags: 0,
            files: -1,
            subdirs: -1,
        }
    }

    fn decode_head(r: &mut Reader<'_>) -> Result<(Self, usize, usize), DecodeError> {
        let op = CapOp::decode(r)?;
        let mut caps = Self::new(op, Ino(r.u64("ino")?));
        caps.realm = Ino(r.u64("realm")?);
        caps.cap_id = CapId(r.u64("cap_id")?);
        caps.seq = r.u32("seq")?;
        caps.issue_seq = r.u32("issue_seq")?;
        caps.caps = CapBits(r.u32("caps")?);
        caps.wanted = CapBits(r.u32("wanted")?);
        caps.dirty = CapBits(r.u32("dirty")?);
        caps.mseq = r.u32("migrate_seq")?;
        caps.snap_follows = r.u64("snap_follows")?;
        let trace_bytes = r.len("snap_trace_len", usize::MAX)?;
        caps.uid = r.u32("uid")?;
        caps.gid = r.u32("gid")?;
        caps.mode = r.u32("mode")?;
        caps.nlink = r.u32("nlink")?;
        let xattr_bytes = usize::try_from(r.u32("xattr_len")?).unwrap_or(usize::MAX);
        caps.xattr_version = r.u64("xattr_version")?;
        Ok((caps, trace_bytes, xattr_bytes))
    }

    fn encode_head(&self, w: &mut Writer, trace_bytes: usize) {
        self.op.encode(w);
        w.u64(self.ino.0);
        w.u64(self.realm.0);
        w.u64(self.cap_id.0);
        w.u32(self.seq);
        w.u32(self.issue_seq);
        w.u32(self.caps.0);
        w.u32(self.wanted.0);
        w.u32(self.dirty.0);
        w.u32(self.mseq);
        w.u64(self.snap_follows);
        w.count(trace_bytes);
        w.u32(self.uid);
        w.u32(self.gid);
        w.u32(self.mode);
        w.u32(self.nlink);
        w.count(self.xattrs.len());
        w.u64(self.xattr_version);
    }

    fn decode_attributes(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        self.size = r.u64("size")?;
        self.max_size = r.u64("max_size")?;
        self.truncate_size = r.u64("truncate_size")?;
        self.truncate_seq = r.u32("truncate_seq")?;
        self.mtime = WallTime::decode(r)?;
        self.atime = WallTime::decode(r)?;
        self.ctime = WallTime::decode(r)?;
        self.layout = LegacyLayout::decode(r)?;
        self.time_warp_seq = r.u32("time_warp_seq")?;
        Ok(())
    }

    fn encode_attributes(&self, w: &mut Writer) {
        w.u64(self.size);
        w.u64(self.max_size);
        w.u64(self.truncate_size);
        w.u32(self.truncate_seq);
        self.mtime.encode(w);
        self.atime.encode(w);
        self.ctime.encode(w);
        self.layout.encode(w);
        w.u32(self.time_warp_seq);
    }

    fn decode_tail(&mut self, r: &mut Reader<'_>, version: u16) -> Result<(), DecodeError> {
        if version >= 2 {
            self.flock = r.blob("flock", BLOB_BYTES_MAX)?;
        }
        if version >= 3 && self.op == CapOp::Import {
            self.peer = CapPeer::decode(r)?;
        }
        if version >= 4 {
            self.inline_version = r.u64("inline_version")?;
            self.inline_data = r.blob("inline_data", BLOB_BYTES_MAX)?;
        }
        if version >= 5 {
            self.osd_epoch_barrier = r.u32("osd_epoch_barrier")?;
        }
        if version >= 6 {
            self.oldest_flush_tid = r.u64("oldest_flush_tid")?;
        }
        if version >= 7 {
            self.caller_uid = r.u32("caller_uid")?;
            self.caller_gid = r.u32("caller_gid")?;
        }
        if version >= 8 {
            self.pool_ns = r.blob("pool_ns", NAME_BYTES_MAX)?;
        }
        if version >= 9 {
            self.btime = WallTime::decode(r)?;
            self.change_attr = r.u64("change_attr")?;
        }
        if version >= 10 {
            self.flags = r.u32("flags")?;
        }
        if version >= 11 {
            self.files = r.i64("nfiles")?;
            self.subdirs = r.i64("nsubdirs")?;
        }
        Ok(())
    }

    fn encode_tail(&self, w: &mut Writer, version: u16) {
        if version >= 2 {
            w.blob(&self.flock);
        }
        if version >= 3 && self.op == CapOp::Import {
            self.peer.encode(w);
        }
        if version >= 4 {
            w.u64(self.inline_version);
            w.blob(&self.inline_data);
        }
        if version >= 5 {
            w.u32(self.osd_epoch_barrier);
        }
        if version >= 6 {
            w.u64(self.oldest_flush_tid);
        }
        if version >= 7 {
            w.u32(self.caller_uid);
            w.u32(self.caller_gid);
        }
        if version >= 8 {
            w.blob(&self.pool_ns);
        }
        if version >= 9 {
            self.btime.encode(w);
            w.u64(self.change_attr);
        }
        if version >= 10 {
            w.u32(self.flags);
        }
        if version >= 11 {
            w.i64(self.files);
            w.i64(self.subdirs);
        }
    }
}

impl Body for ClientCaps {
    const KIND: MessageType = MessageType(0x310);
    const NAME: &'static str = "MClientCaps";
    const VERSION: u16 = 11;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, version: u16, message: &Message) -> Result<Self, DecodeError> {
        let (mut caps, trace_bytes, xattr_bytes) = Self::decode_head(r)?;
        if xattr_bytes > message.middle.len() {
            let needed = DecodeErrorKind::Short { needed: xattr_bytes, left: message.middle.len() };
            return Err(r.error("xattrs", needed));
        }
        caps.xattrs = message.middle.slice(..xattr_bytes);
        r.within(BODY_BYTES, "caps body", |r| {
            if caps.op == CapOp::Export {
                caps.peer = CapPeer::decode(r)?;
                Ok(())
            } else {
                caps.decode_attributes(r)
            }
        })?;
        caps.realms = r.within(trace_bytes, "snap trace", SnapRealm::decode_chain)?;
        caps.decode_tail(r, version)?;
        Ok(caps)
    }

    fn encode_front(&self, w: &mut Writer, version: u16) {
        let mut trace = Writer::new(Features::all_known());
        SnapRealm::encode_chain(&self.realms, &mut trace);
        self.encode_head(w, trace.len());
        if self.op == CapOp::Export {
            self.peer.encode(w);
            w.zeros(BODY_BYTES - PEER_BYTES);
        } else {
            self.encode_attributes(w);
        }
        w.raw(trace.as_slice());
        self.encode_tail(w, version);
    }

    fn middle(&self) -> Bytes {
        self.xattrs.clone()
    }
}
