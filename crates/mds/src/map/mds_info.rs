use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use cuttlebone_wire::{
    Decode, DecodeError, DecodeErrorKind, Encode, EntityAddrs, Features, Reader, WallTime, Writer,
};

use super::CompatSet;
use crate::limits::{MAP_MAX, NAME_BYTES_MAX};
use crate::{Fscid, Gid, Rank};

/// One run of a metadata server.
///
/// Source: `ceph/ceph:src/mds/MDSMap.cc`, `mds_info_t`; version 10 seen in 16.2.15, 9 in corpus objects of 16.2.0, 7
/// in those of 11.2.0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MdsInfo {
    /// Which run.
    pub gid: Gid,
    /// Its name: `a`.
    pub name: String,
    /// Its place; also set for one that follows the journal of another, whose state is then negative.
    pub rank: Rank,
    /// The epoch in which it got its place.
    #[cfg_attr(feature = "serde", serde(rename = "incarnation"))]
    pub inc: i32,
    /// What it does.
    pub state: MdsState,
    /// Counts its states.
    pub state_seq: u64,
    /// Where it listens.
    pub addrs: EntityAddrs,
    /// Since when the monitors have not heard of it; zero if they do.
    pub laggy_since: WallTime,
    /// The rank that it stands by for; legacy.
    pub standby_for_rank: Rank,
    /// The name that it stands by for; legacy.
    pub standby_for_name: String,
    /// Ranks to which it hands parts of the tree; from version 2 on.
    pub export_targets: Vec<Rank>,
    /// Its messenger's features; from version 5 on.
    pub features: u64,
    /// The filesystem that it prefers; from version 6 on.
    pub join_fscid: Fscid,
    /// Whether it follows another's journal; legacy, from version 7 on.
    pub standby_replay: bool,
    /// Bit 0: it is not to be given work; from version 9 on.
    pub flags: u64,
    /// What it can read from disk; from version 10 on.
    pub compat: CompatSet,
    /// The version that was read; 0 for the newest that the reader's features allow.
    #[cfg_attr(feature = "serde", serde(skip))]
    version: u8,
}

/// The newest version that we know.
const VERSION: u8 = 10;
/// The first version with an envelope, and the oldest that may read what we write.
const VERSION_ENVELOPE: u8 = 4;
/// The newest version for peers before Nautilus, with one address.
const VERSION_BEFORE_NAUTILUS: u8 = 7;

impl Default for MdsInfo {
    fn default() -> Self {
        Self {
            gid: Gid::default(),
            name: String::new(),
            rank: Rank::NONE,
            inc: 0,
            state: MdsState::STANDBY,
            state_seq: 0,
            addrs: EntityAddrs::default(),
            laggy_since: WallTime::default(),
            standby_for_rank: Rank::NONE,
            standby_for_name: String::new(),
            export_targets: Vec::new(),
            features: 0,
            join_fscid: Fscid::NONE,
            standby_replay: false,
            flags: 0,
            compat: CompatSet::default(),
            version: 0,
        }
    }
}

impl MdsInfo {
    /// Whether the monitors have lost sight of it.
    pub fn is_laggy(&self) -> bool {
        self.laggy_since != WallTime::default()
    }

    /// Forgets which version it was read in.
    pub const fn renew(&mut self) {
        self.version = 0;
    }

    fn version_for(&self, features: Features) -> u8 {
        let after = features.contains(Features::SERVER_NAUTILUS);
        match (after, self.version) {
            (true, 8..=VERSION) | (false, VERSION_ENVELOPE..=VERSION_BEFORE_NAUTILUS) => self.version,
            (true, _) => VERSION,
            (false, _) => VERSION_BEFORE_NAUTILUS,
        }
    }
}

impl Decode for MdsInfo {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("mds_info_t", VERSION, |r, version| {
            if version < VERSION_ENVELOPE {
                return Err(r.error("mds_info_t", DecodeErrorKind::Unknown { value: version.into() }));
            }
            if version <= VERSION_BEFORE_NAUTILUS {
                r.without(Features::SERVER_NAUTILUS);
            }
            let mut info = Self {
                gid: Gid(r.u64("gid")?),
                name: r.text("name", NAME_BYTES_MAX)?,
                rank: Rank(r.i32("rank")?),
                inc: r.i32("inc")?,
                state: MdsState(r.i32("state")?),
                state_seq: r.u64("state_seq")?,
                addrs: EntityAddrs::decode(r)?,
                laggy_since: WallTime::decode(r)?,
                standby_for_rank: Rank(r.i32("standby_for_rank")?),
                standby_for_name: r.text("standby_for_name", NAME_BYTES_MAX)?,
                export_targets: r.list("export_targets", MAP_MAX, 4, |r| r.i32("export target").map(Rank))?,
                version: version.min(VERSION),
                ..Self::default()
            };
            if version >= 5 {
                info.features = r.u64("mds_features")?;
            }
            if version >= 6 {
                info.join_fscid = Fscid(r.i32("join_fscid")?);
            }
            if version >= 7 {
                info.standby_replay = r.bool("standby_replay")?;
            }
            if version >= 9 {
                info.flags = r.u64("flags")?;
            }
            if version >= 10 {
                info.compat = CompatSet::decode(r)?;
            }
            Ok(info)
        })
    }
}

impl Encode for MdsInfo {
    fn encode(&self, w: &mut Writer) {
        let version = self.version_for(w.features());
        w.versioned(version, VERSION_ENVELOPE, |w| {
            w.u64(self.gid.0);
            w.text(&self.name);
            w.i32(self.rank.0);
            w.i32(self.inc);
            w.i32(self.state.0);
            w.u64(self.state_seq);
            if version <= VERSION_BEFORE_NAUTILUS {
                self.addrs.legacy_or_first().encode(w);
            } else {
                self.addrs.encode(w);
            }
            self.laggy_since.encode(w);
            w.i32(self.standby_for_rank.0);
            w.text(&self.standby_for_name);
            w.list(&self.export_targets, |w, rank| w.i32(rank.0));
            if version >= 5 {
                w.u64(self.features);
            }
            if version >= 6 {
                w.i32(self.join_fscid.0);
            }
            if version >= 7 {
                w.bool(self.standby_replay);
            }
            if version >= 9 {
                w.u64(self.flags);
            }
            if version >= 10 {
                self.compat.encode(w);
            }
        });
    }
}

/// What a metadata server does; states from 8 on are steps towards serving, and later ones are higher.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_MDS_STATE_*`; seen in 16.2.15.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct MdsState(pub i32);

impl MdsState {
    /// There is none.
    pub const NULL: Self = Self(0);
    /// Its rank is no more.
    pub const STOPPED: Self = Self(-1);
    /// It has just started.
    pub const BOOT: Self = Self(-4);
    /// It waits for a rank.
    pub const STANDBY: Self = Self(-5);
    /// It makes a rank that never was.
    pub const CREATING: Self = Self(-6);
    /// It starts a rank that was stopped.
    pub const STARTING: Self = Self(-7);
    /// It follows the journal of another.
    pub const STANDBY_REPLAY: Self = Self(-8);
    /// It reads the journal.
    pub const REPLAY: Self = Self(8);
    /// It settles with the other ranks what was under way.
    pub const RESOLVE: Self = Self(9);
    /// It waits for clients to reconnect.
    pub const RECONNECT: Self = Self(10);
    /// It settles with the other ranks who caches what.
    pub const REJOIN: Self = Self(11);
    /// It does what clients replayed.
    pub const CLIENTREPLAY: Self = Self(12);
    /// It serves.
    pub const ACTIVE: Self = Self(13);
    /// It gives up its rank.
    pub const STOPPING: Self = Self(14);

    const NAMES: [(Self, &'static str); 14] = [
        (Self::NULL, "down:dne"),
        (Self::STOPPED, "down:stopped"),
        (Self::BOOT, "up:boot"),
        (Self::STANDBY, "up:standby"),
        (Self::CREATING, "up:creating"),
        (Self::STARTING, "up:starting"),
        (Self::STANDBY_REPLAY, "up:standby-replay"),
        (Self::REPLAY, "up:replay"),
        (Self::RESOLVE, "up:resolve"),
        (Self::RECONNECT, "up:reconnect"),
        (Self::REJOIN, "up:rejoin"),
        (Self::CLIENTREPLAY, "up:clientreplay"),
        (Self::ACTIVE, "up:active"),
        (Self::STOPPING, "up:stopping"),
    ];

    /// Whether it answers requests of sessions that are open.
    pub fn is_serving(self) -> bool {
        matches!(self, Self::ACTIVE | Self::STOPPING)
    }
}

impl fmt::Display for MdsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(state, _)| state == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "state{}", self.0),
        }
    }
}

impl fmt::Debug for MdsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for MdsState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
