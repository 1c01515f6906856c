use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;
use cuttlebone_wire::{
    Body, Decode, DecodeError, DecodeErrorKind, Encode, Features, Message, MessageType, Reader, Writer,
};

use crate::limits::{BLOB_BYTES_MAX, LIST_MAX, NAME_BYTES_MAX};
use crate::{CapBits, CapId, Ino};

/// Tells a restarted server what the client holds. A capability that is not in here is gone.
///
/// All of it is in the data part of the message; the front is empty.
///
/// Source: `ceph/ceph:src/messages/MClientReconnect.h`; version 5 seen in 16.2.15. Versions 1 and 2, of before 2012,
/// are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct ClientReconnect {
    /// What the client holds.
    pub caps: BTreeMap<Ino, CapReconnect>,
    /// The realms that it knows.
    pub realms: Vec<SnapRealmReconnect>,
    /// Whether another message follows, which only servers with
    /// [`feature::MULTI_RECONNECT`](crate::feature::MULTI_RECONNECT) understand; from version 5 on.
    pub more: bool,
}

/// One capability that the client holds, and where its inode was.
///
/// Source: `ceph/ceph:src/mds/mdstypes.cc`, `cap_reconnect_t`; corpus objects of 11.2.0 and 16.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CapReconnect {
    /// Where the inode is, from `path_base`; one name is enough.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub path: Bytes,
    /// Which capability of it.
    pub cap_id: CapId,
    /// What the client wants.
    #[cfg_attr(feature = "serde", serde(rename = "cap_wanted"))]
    pub wanted: CapBits,
    /// What it has.
    #[cfg_attr(feature = "serde", serde(rename = "cap_issued"))]
    pub issued: CapBits,
    /// The realm of the inode.
    #[cfg_attr(feature = "serde", serde(rename = "snaprealm"))]
    pub realm: Ino,
    /// The directory that `path` begins in; 0 for the root itself.
    #[cfg_attr(feature = "serde", serde(rename = "path base ino"))]
    pub path_base: Ino,
    /// Locks on the file as they are encoded; two counts of zero for none.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::length"))]
    pub flock: Bytes,
    /// The newest snapshot that what is written back is behind of; from version 2 on.
    pub snap_follows: u64,
    /// The version that was read; 0 for the newest.
    #[cfg_attr(feature = "serde", serde(skip))]
    version: u8,
}

/// The newest version that we know.
const CAP_VERSION: u8 = 2;
/// No locks of either kind.
const FLOCK_NONE: &[u8] = &[0; 8];

/// One realm that the client knows.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `struct ceph_mds_snaprealm_reconnect`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "24 bytes for ever")]
pub struct SnapRealmReconnect {
    /// The inode at its top.
    pub ino: Ino,
    /// The newest change that the client knows.
    pub seq: u64,
    /// The realm around it.
    pub parent: Ino,
}

impl CapReconnect {
    /// A capability without locks.
    pub fn new(cap_id: CapId, issued: CapBits, wanted: CapBits) -> Self {
        Self {
            cap_id,
            wanted,
            issued,
            realm: Ino::ROOT,
            flock: Bytes::from_static(FLOCK_NONE),
            ..Self::default()
        }
    }

    /// The same, with the inode at this path.
    #[must_use]
    pub fn at(mut self, base: Ino, path: Bytes) -> Self {
        self.path_base = base;
        self.path = path;
        self
    }

    /// Forgets which version it was read in.
    pub fn renew(&mut self) {
        self.version = 0;
    }
}

impl Decode for CapReconnect {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("cap_reconnect_t", CAP_VERSION, |r, version| {
            let mut cap = Self {
                path: r.blob("path", NAME_BYTES_MAX)?,
                cap_id: CapId(r.u64("cap_id")?),
                wanted: CapBits(r.u32("wanted")?),
                issued: CapBits(r.u32("issued")?),
                realm: Ino(r.u64("snaprealm")?),
                path_base: Ino(r.u64("pathbase")?),
                flock: r.blob("flock", BLOB_BYTES_MAX)?,
                snap_follows: 0,
                version: version.clamp(1, CAP_VERSION),
            };
            if version >= 2 {
                cap.snap_follows = r.u64("snap_follows")?;
            }
            Ok(cap)
        })
    }
}

impl Encode for CapReconnect {
    fn encode(&self, w: &mut Writer) {
        let version = if self.version == 0 { CAP_VERSION } else { self.version };
        w.versioned(version, 1, |w| {
            w.blob(&self.path);
            w.u64(self.cap_id.0);
            w.u32(self.wanted.0);
            w.u32(self.issued.0);
            w.u64(self.realm.0);
            w.u64(self.path_base.0);
            w.blob(&self.flock);
            if version >= 2 {
                w.u64(self.snap_follows);
            }
        });
    }
}

impl SnapRealmReconnect {
    fn decode_fields(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            ino: Ino(r.u64("realm ino")?),
            seq: r.u64("realm seq")?,
            parent: Ino(r.u64("realm parent")?),
        })
    }

    fn encode_fields(&self, w: &mut Writer) {
        w.u64(self.ino.0);
        w.u64(self.seq);
        w.u64(self.parent.0);
    }
}

impl Decode for SnapRealmReconnect {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("snaprealm_reconnect_t", 1, |r, _| Self::decode_fields(r))
    }
}

impl Encode for SnapRealmReconnect {
    fn encode(&self, w: &mut Writer) {
        w.versioned(1, 1, |w| self.encode_fields(w));
    }
}

/// The oldest version that we read.
const VERSION_OLDEST: u16 = 3;
/// The first whose realms are counted and have envelopes.
const VERSION_REALMS: u16 = 4;
/// Bytes of the shortest capability with its inode's number.
const CAP_BYTES_MIN: usize = 8 + 6 + 40;

impl ClientReconnect {
    fn encode_parts(&self, w: &mut Writer, version: u16) {
        w.list(&self.caps, |w, (ino, cap)| {
            w.u64(ino.0);
            cap.encode(w);
        });
        if version < VERSION_REALMS {
            self.realms.iter().for_each(|realm| realm.encode_fields(w));
        } else {
            w.list(&self.realms, |w, realm| realm.encode(w));
        }
        if version >= Self::VERSION {
            w.bool(self.more);
        }
    }
}

impl Body for ClientReconnect {
    const KIND: MessageType = MessageType(23);
    const NAME: &'static str = "MClientReconnect";
    const VERSION: u16 = 5;
    const COMPAT: u16 = 4;

    fn decode_front(_r: &mut Reader<'_>, version: u16, message: &Message) -> Result<Self, DecodeError> {
        let mut r = Reader::new(&message.data);
        if version < VERSION_OLDEST {
            return Err(r.error(Self::NAME, DecodeErrorKind::Unknown { value: version.into() }));
        }
        let mut reconnect = Self::default();
        let count = r.count("caps", LIST_MAX, CAP_BYTES_MIN)?;
        for _ in 0..count {
            let ino = Ino(r.u64("ino")?);
            reconnect.caps.insert(ino, CapReconnect::decode(&mut r)?);
        }
        if version < VERSION_REALMS {
            while !r.is_empty() {
                reconnect.realms.push(SnapRealmReconnect::decode_fields(&mut r)?);
            }
        } else {
            reconnect.realms = r.list("realms", LIST_MAX, 30, SnapRealmReconnect::decode)?;
        }
        if version >= Self::VERSION {
            reconnect.more = r.bool("more")?;
        }
        Ok(reconnect)
    }

    fn encode_front(&self, _w: &mut Writer, _version: u16) {}

    /// The parts in version 5; [`message_like`](Self::message_like) writes the others.
    fn data(&self) -> Bytes {
        let mut w = Writer::new(Features::all_known());
        self.encode_parts(&mut w, Self::VERSION);
        w.into_bytes()
    }

    fn message_like(&self, head: &Message, _features: Features) -> Message {
        let known = (VERSION_OLDEST..=Self::VERSION).contains(&head.version);
        let (version, compat_version) =
            if known { (head.version, head.compat_version) } else { (Self::VERSION, Self::COMPAT) };
        let mut w = Writer::new(Features::all_known());
        self.encode_parts(&mut w, version);
        let (front, middle, data) = (Bytes::new(), Bytes::new(), w.into_bytes());
        Message { kind: Self::KIND, version, compat_version, front, middle, data, ..*head }
    }
}
