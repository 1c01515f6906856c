use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use cuttlebone_wire::{
    Decode, DecodeError, DecodeErrorKind, Encode, Message, MessageType, Priority, Reader, Uuid, Writer,
};

use super::Body;
use super::map::{EncodedMonMap, MAP_BYTES_MAX, decode_map, reencoded_for};

/// How monitors find each other, and learn who is ahead.
///
/// There are two ways to get one: to decode one, or to answer one with [`reply_as`](Self::reply_as). A monitor adds whoever
/// probes it to its peers, so nothing here asks the first question.
///
/// Source: `ceph/ceph:src/messages/MMonProbe.h`; version 8 seen in 16.2.15, version 6 in 11.2.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    fsid: Uuid,
    op: ProbeOp,
    name: String,
    quorum: Vec<i32>,
    has_ever_joined: bool,
    window: (u64, u64),
    required_features: u64,
    mon_release: u8,
    leader: i32,
}

/// What a probe wants.
///
/// A 16.2.15 monitor aborts on a number that it does not know, and crashes on a reply with an empty map. Neither can
/// be expressed here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProbeOp {
    /// Who are you?
    Probe {
        /// The map of who asks; empty in every release that was seen.
        map: Bytes,
    },
    /// This is me.
    Reply {
        /// The map of who answers.
        map: EncodedMonMap,
    },
    /// One of three that releases before 0.58 used: slurp, slurp latest, data.
    Historic {
        /// 3, 4 or 5.
        number: i32,
        /// The map of who sends it.
        map: Bytes,
    },
    /// You lack features that are required here.
    MissingFeatures {
        /// The map of who refuses; may be empty.
        map: Bytes,
    },
}

impl ProbeOp {
    const fn number(&self) -> i32 {
        match self {
            Self::Probe { .. } => 1,
            Self::Reply { .. } => 2,
            Self::Historic { number, .. } => *number,
            Self::MissingFeatures { .. } => 6,
        }
    }
}

/// The paxos versions that a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a range has two ends")]
pub struct PaxosWindow {
    /// The oldest version.
    pub first: u64,
    /// The newest version.
    pub last: u64,
}

/// Lowest first version that a reply shows: a peer that sees 1 would replay history instead of copying the store.
///
/// Source: `ceph/ceph:src/mon/Monitor.cc`, `handle_probe_reply`; seen in 16.2.15.
const FIRST_VERSION_MIN: u64 = 2;
/// Pacific, the release whose encodings we write.
const RELEASE: u8 = 16;
/// No leader.
const NO_LEADER: i32 = -1;
/// Longest name that we accept, in bytes.
const NAME_BYTES_MAX: usize = 4096;
/// Largest quorum that we accept.
const QUORUM_MAX: usize = 256;
/// Before this version the layout was another one.
const VERSION_MIN: u16 = 5;

impl Probe {
    /// The answer of a provider called `name`, with this map and these versions, to a monitor that asked; `None` if
    /// it did not ask, or belongs to another cluster.
    ///
    /// The provider shows itself as a monitor that has never joined, sees no quorum and follows nobody, so that
    /// its map is not adopted and it is never taken for a member.
    #[must_use]
    pub fn reply_as(&self, fsid: Uuid, name: &str, map: &EncodedMonMap, window: PaxosWindow) -> Option<Self> {
        if !matches!(self.op, ProbeOp::Probe { .. }) || self.fsid != fsid {
            return None;
        }
        let first = window.first.max(FIRST_VERSION_MIN);
        Some(Self {
            fsid,
            op: ProbeOp::Reply { map: map.clone() },
            name: name.into(),
            quorum: Vec::new(),
            has_ever_joined: false,
            window: (first, window.last.max(first)),
            required_features: 0,
            mon_release: RELEASE,
            leader: NO_LEADER,
        })
    }

    /// What it wants.
    pub fn op(&self) -> &ProbeOp {
        &self.op
    }

    /// The cluster of who sent it.
    pub fn fsid(&self) -> Uuid {
        self.fsid
    }

    /// The name of who sent it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ranks of the quorum that it sees.
    pub fn quorum(&self) -> &[i32] {
        &self.quorum
    }

    /// The rank of the leader that it follows, -1 for none.
    pub fn leader(&self) -> i32 {
        self.leader
    }

    /// Whether it has ever been in a quorum.
    pub fn has_ever_joined(&self) -> bool {
        self.has_ever_joined
    }

    /// The paxos versions that it holds.
    pub fn window(&self) -> PaxosWindow {
        PaxosWindow { first: self.window.0, last: self.window.1 }
    }
}

impl Body for Probe {
    const KIND: MessageType = MessageType(67);
    const NAME: &'static str = "MMonProbe";
    const VERSION: u16 = 8;
    const COMPAT: u16 = 5;
    const PRIORITY: Priority = Priority::HIGH;

    fn decode_front(r: &mut Reader<'_>, version: u16, _message: &Message) -> Result<Self, DecodeError> {
        if version < VERSION_MIN {
            return Err(
                r.error(Self::NAME, DecodeErrorKind::Invalid("version 4 and older have another layout"))
            );
        }
        let fsid = Uuid::decode(r)?;
        let number = r.i32("op")?;
        if !(1..=6).contains(&number) {
            let value = u64::from(number.cast_unsigned());
            return Err(r.error("op", DecodeErrorKind::Unknown { value }));
        }
        let name = r.text("name", NAME_BYTES_MAX)?;
        let quorum: Vec<i32> = r.list("quorum", QUORUM_MAX, 4, |r| r.i32("quorum member"))?;
        let op = match number {
            2 => ProbeOp::Reply { map: decode_map(r)? },
            1 => ProbeOp::Probe { map: r.blob("monmap", MAP_BYTES_MAX)? },
            6 => ProbeOp::MissingFeatures { map: r.blob("monmap", MAP_BYTES_MAX)? },
            number => ProbeOp::Historic { number, map: r.blob("monmap", MAP_BYTES_MAX)? },
        };
        let has_ever_joined = r.bool("has_ever_joined")?;
        let window = (r.u64("paxos_first_version")?, r.u64("paxos_last_version")?);
        let required_features = if version >= 6 { r.u64("required_features")? } else { 0 };
        let mon_release = if version >= 7 { r.u8("mon_release")? } else { 0 };
        let leader =
            if version >= 8 { r.i32("leader")? } else { quorum.iter().min().copied().unwrap_or(NO_LEADER) };
        Ok(Self { fsid, op, name, quorum, has_ever_joined, window, required_features, mon_release, leader })
    }

    fn encode_front(&self, w: &mut Writer, version: u16) {
        self.fsid.encode(w);
        w.i32(self.op.number());
        w.text(&self.name);
        w.list(&self.quorum, |w, rank| w.i32(*rank));
        match &self.op {
            ProbeOp::Reply { map } => w.blob(&map.bytes_for(w.features())),
            ProbeOp::Probe { map } | ProbeOp::Historic { map, .. } | ProbeOp::MissingFeatures { map } => {
                w.blob(&reencoded_for(map, w.features()));
            }
        }
        w.bool(self.has_ever_joined);
        w.u64(self.window.0);
        w.u64(self.window.1);
        if version >= 6 {
            w.u64(self.required_features);
        }
        if version >= 7 {
            w.u8(self.mon_release);
        }
        if version >= 8 {
            w.i32(self.leader);
        }
    }
}

#[cfg(feature = "serde")]
mod json {
    use super::{Probe, ProbeOp};
    use crate::MonMap;
    use bytes::Bytes;
    use cuttlebone_wire::{Decode, Reader};
    use serde::ser::{Serialize, SerializeStruct, Serializer};

    impl Serialize for Probe {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let decoded = |bytes: &Bytes| MonMap::decode(&mut Reader::new(bytes)).ok();
            let (op, map) = match &self.op {
                ProbeOp::Probe { map } => ("probe", decoded(map)),
                ProbeOp::Reply { map } => ("reply", Some(map.decode())),
                ProbeOp::Historic { number: 3, map } => ("slurp", decoded(map)),
                ProbeOp::Historic { number: 4, map } => ("slurp_latest", decoded(map)),
                ProbeOp::Historic { map, .. } => ("data", decoded(map)),
                ProbeOp::MissingFeatures { map } => ("missing_features", decoded(map)),
            };
            let mut object = serializer.serialize_struct("Probe", 11)?;
            object.serialize_field("op", op)?;
            object.serialize_field("fsid", &self.fsid)?;
            object.serialize_field("name", &self.name)?;
            object.serialize_field("quorum", &self.quorum)?;
            object.serialize_field("leader", &self.leader)?;
            object.serialize_field("monmap", &map)?;
            object.serialize_field("paxos_first_version", &self.window.0)?;
            object.serialize_field("paxos_last_version", &self.window.1)?;
            object.serialize_field("has_ever_joined", &self.has_ever_joined)?;
            object.serialize_field("required_features", &self.required_features)?;
            object.serialize_field("mon_release", &self.mon_release)?;
            object.end()
        }
    }
}
