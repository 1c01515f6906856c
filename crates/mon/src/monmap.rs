use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use cuttlebone_wire::{
    Decode, DecodeError, DecodeErrorKind, Encode, EntityAddr, EntityAddrs, EntityInst, EntityNum, EntityType,
    Features, Reader, Uuid, WallTime, Writer,
};

mod info;
#[cfg(feature = "serde")]
mod json;

pub use info::MonInfo;

/// The monitors of a cluster, and what they agreed on about themselves.
///
/// It is written in the form that the reader's features ask for. The version it was read in is kept, so that
/// encoding it for the same features gives the same bytes; [`renew`](Self::renew) forgets it.
///
/// Source: `ceph/ceph:src/mon/MonMap.cc`, `MonMap::encode` and `decode`; all five forms seen in 16.2.15, version 5
/// also in corpus objects of 11.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MonMap {
    /// The cluster's identity.
    pub fsid: Uuid,
    /// Counts changes; 0 for a map that no quorum has agreed on.
    pub epoch: u32,
    /// When it changed last.
    pub last_changed: WallTime,
    /// When the cluster was made.
    pub created: WallTime,
    /// Features that every monitor must have for ever, by bit.
    pub persistent_features: u64,
    /// Features that can be switched off again, by bit.
    pub optional_features: u64,
    /// The monitors by name.
    pub mons: BTreeMap<String, MonInfo>,
    /// Their names; the index is the rank.
    pub ranks: Vec<String>,
    /// The oldest release that may join: 16 is Pacific; 0 if unknown.
    pub min_mon_release: u8,
    /// Ranks that were removed in the last change.
    pub removed_ranks: Vec<u32>,
    /// How leaders are chosen: 1 classic, 2 disallow, 3 connectivity; 0 in maps older than version 8.
    pub election_strategy: u8,
    /// Names of those who must not lead.
    pub disallowed_leaders: Vec<String>,
    /// Whether the cluster spans two sites and a tiebreaker.
    pub stretch_mode: bool,
    /// The name of the tiebreaker.
    pub tiebreaker: String,
    /// Monitors that the stretch mode counts as down.
    pub stretch_marked_down: Vec<String>,
    /// The version that was read; 0 for the newest that the reader's features allow.
    version: u8,
}

/// The newest version that we know, and write for peers of Nautilus and later.
const VERSION: u8 = 9;
/// The newest version for peers before Nautilus.
const VERSION_BEFORE_NAUTILUS: u8 = 5;
/// The first version with an envelope; before it there was a bare `u16`.
const VERSION_ENVELOPE: u8 = 3;
/// The first version that is unreadable to releases before Nautilus.
const VERSION_NAUTILUS: u8 = 6;
/// Most monitors that we accept in a map.
pub(crate) const MONS_MAX: usize = 256;
/// Longest name of a monitor that we accept, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 1024;
/// Most removed ranks that we accept.
const REMOVED_RANKS_MAX: usize = 4096;
/// Bytes of the shortest entry of a list or map of strings.
const TEXT_BYTES_MIN: usize = 4;

impl MonMap {
    /// The addresses of the monitor with this rank.
    pub fn addrs_of_rank(&self, rank: usize) -> Option<&EntityAddrs> {
        Some(&self.mons.get(self.ranks.get(rank)?)?.addrs)
    }

    /// The rank of the monitor called `name`.
    pub fn rank_of(&self, name: &str) -> Option<usize> {
        self.ranks.iter().position(|known| known == name)
    }

    /// Forgets which version it was read in: it will be written in the newest that the reader's features allow.
    ///
    /// Needed after a change of addresses, since old forms keep a second copy of them.
    pub fn renew(&mut self) {
        self.version = 0;
        self.mons.values_mut().for_each(MonInfo::renew);
    }

    /// The version to write for a peer with `features`.
    fn version_for(&self, features: Features) -> u8 {
        let newest = if !features.contains(Features::MON_NAMES) {
            1
        } else if !features.contains(Features::MON_ENC) {
            2
        } else if !features.contains(Features::SERVER_NAUTILUS) {
            VERSION_BEFORE_NAUTILUS
        } else {
            VERSION
        };
        let same_form = form(self.version) == form(newest);
        if same_form { self.version } else { newest }
    }

    /// Ranks of maps that do not say them: by address as C compares the structure, then by name.
    fn sorted_ranks(mons: &BTreeMap<String, MonInfo>) -> Vec<String> {
        let mut ranks: Vec<_> =
            mons.values().map(|mon| (legacy_or_first(&mon.addrs), mon.name.clone())).collect();
        ranks.sort();
        ranks.into_iter().map(|(_, name)| name).collect()
    }

    fn decode_fields(r: &mut Reader<'_>, version: u8) -> Result<Self, DecodeError> {
        let mut map = Self { version, fsid: Uuid::decode(r)?, epoch: r.u32("epoch")?, ..Self::default() };
        let addrs = match version {
            0 | 1 => Self::decode_instances(r)?,
            2..VERSION_NAUTILUS => Self::decode_addrs(r)?,
            _ => Vec::new(),
        };
        map.last_changed = WallTime::decode(r)?;
        map.created = WallTime::decode(r)?;
        if version >= 4 {
            map.persistent_features = decode_features(r, "persistent features")?;
            map.optional_features = decode_features(r, "optional features")?;
        }
        if version >= 5 {
            let count = r.count("mon_info", MONS_MAX, TEXT_BYTES_MIN)?;
            for _ in 0..count {
                let name = r.text("mon name", NAME_BYTES_MAX)?;
                map.mons.insert(name, MonInfo::decode(r)?);
            }
            for (name, addr) in addrs {
                if let Some(mon) = map.mons.get_mut(&name) {
                    mon.set_listed(addr);
                }
            }
        } else {
            map.ranks = addrs.iter().map(|(name, _)| name.clone()).collect();
            let info = |(name, addr): (String, EntityAddr)| (name.clone(), MonInfo::from_single(name, addr));
            map.mons = addrs.into_iter().map(info).collect();
        }
        match version {
            0 | 1 => {}
            2..VERSION_NAUTILUS => map.ranks = Self::sorted_ranks(&map.mons),
            _ => map.ranks = names(r, "ranks")?,
        }
        map.min_mon_release =
            if version >= 7 { r.u8("min_mon_release")? } else { release(map.persistent_features) };
        if version >= 8 {
            map.removed_ranks = r.list("removed_ranks", REMOVED_RANKS_MAX, 4, |r| r.u32("removed rank"))?;
            map.election_strategy = r.u8("election strategy")?;
            map.disallowed_leaders = names(r, "disallowed_leaders")?;
        }
        if version >= 9 {
            map.stretch_mode = r.bool("stretch_mode_enabled")?;
            map.tiebreaker = r.text("tiebreaker_mon", NAME_BYTES_MAX)?;
            map.stretch_marked_down = names(r, "stretch_marked_down_mons")?;
        }
        Ok(map)
    }

    /// Version 1: addresses by rank; the names are the ranks.
    fn decode_instances(r: &mut Reader<'_>) -> Result<Vec<(String, EntityAddr)>, DecodeError> {
        let instances = r.list("mon_inst", MONS_MAX, 28, EntityInst::decode)?;
        Ok(instances.into_iter().enumerate().map(|(rank, inst)| (rank.to_string(), inst.addr)).collect())
    }

    /// Versions 2 to 5: addresses by name.
    fn decode_addrs(r: &mut Reader<'_>) -> Result<Vec<(String, EntityAddr)>, DecodeError> {
        r.list("mon_addr", MONS_MAX, 23, |r| {
            Ok((r.text("mon name", NAME_BYTES_MAX)?, EntityAddr::decode(r)?))
        })
    }

    fn encode_fields(&self, w: &mut Writer, version: u8) {
        self.fsid.encode(w);
        w.u32(self.epoch);
        match version {
            1 => w.list(self.ranks.iter().enumerate(), |w, (rank, name)| {
                let num = EntityNum::new(EntityType::MON, i64::try_from(rank).unwrap_or(-1));
                num.encode(w);
                self.mons.get(name).map(MonInfo::legacy_addr).unwrap_or_default().encode(w);
            }),
            2..VERSION_NAUTILUS => w.list(&self.mons, |w, (name, mon)| {
                w.text(name);
                mon.legacy_addr().encode(w);
            }),
            _ => {}
        }
        self.last_changed.encode(w);
        self.created.encode(w);
        if version >= 4 {
            for features in [self.persistent_features, self.optional_features] {
                w.versioned(1, 1, |w| w.u64(features));
            }
        }
        if version >= 5 {
            w.list(&self.mons, |w, (name, mon)| {
                w.text(name);
                mon.encode(w);
            });
        }
        if version >= 6 {
            w.list(&self.ranks, |w, name| w.text(name));
        }
        if version >= 7 {
            w.u8(self.min_mon_release);
        }
        if version >= 8 {
            w.list(&self.removed_ranks, |w, rank| w.u32(*rank));
            w.u8(self.election_strategy);
            w.list(&self.disallowed_leaders, |w, name| w.text(name));
        }
        if version >= 9 {
            w.bool(self.stretch_mode);
            w.text(&self.tiebreaker);
            w.list(&self.stretch_marked_down, |w, name| w.text(name));
        }
    }
}

/// Which of the four families of versions this is: only inside one may the features choose freely.
const fn form(version: u8) -> u8 {
    match version {
        0 => 0,
        1 => 1,
        2 => 2,
        VERSION_ENVELOPE..VERSION_NAUTILUS => 3,
        _ => 4,
    }
}

impl Decode for MonMap {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = r.u8("MonMap")?;
        let before_nautilus = Features::SERVER_NAUTILUS;
        match form(version) {
            0 | 1 => r.without(Features::MON_NAMES | Features::MON_ENC | before_nautilus),
            2 => r.without(Features::MON_ENC | before_nautilus),
            3 => r.without(before_nautilus),
            _ => {}
        }
        if version < VERSION_ENVELOPE {
            // The second half of a u16.
            return match r.u8("MonMap")? {
                0 => Self::decode_fields(r, version.max(1)),
                high => Err(r.error("MonMap", DecodeErrorKind::Unknown { value: high.into() })),
            };
        }
        r.versioned_after("MonMap", VERSION, version, |r, version| {
            Self::decode_fields(r, version.min(VERSION))
        })
    }
}

impl Encode for MonMap {
    fn encode(&self, w: &mut Writer) {
        let version = self.version_for(w.features());
        match version {
            0..VERSION_ENVELOPE => {
                w.u16(version.into());
                self.encode_fields(w, version);
            }
            VERSION_ENVELOPE..VERSION_NAUTILUS => {
                w.versioned(version, VERSION_ENVELOPE, |w| self.encode_fields(w, version));
            }
            _ => w.versioned(version, VERSION_NAUTILUS, |w| self.encode_fields(w, version)),
        }
    }
}

fn names(r: &mut Reader<'_>, field: &'static str) -> Result<Vec<String>, DecodeError> {
    r.list(field, MONS_MAX, TEXT_BYTES_MIN, |r| r.text(field, NAME_BYTES_MAX))
}

/// Source: `ceph/ceph:src/mon/mon_types.h`, `mon_feature_t`.
fn decode_features(r: &mut Reader<'_>, field: &'static str) -> Result<u64, DecodeError> {
    r.versioned(field, 1, |r, _| r.u64(field))
}

/// The bytes of an address in the order in which Ceph compares them, of the address that stands for a monitor.
///
/// Source: `ceph/ceph:src/msg/msg_types.h`, `operator<` of `entity_addr_t`, which is a `memcmp`.
fn legacy_or_first(addrs: &EntityAddrs) -> (Vec<u8>, Vec<u8>) {
    let bytes = addrs.legacy_or_first().to_bytes(Features::all_known());
    // Marker and envelope are 7 bytes; then kind and nonce; then the length of what follows.
    let part = |range: Range<usize>| bytes.get(range).unwrap_or_default().to_owned();
    (part(7..15), part(19..bytes.len()))
}

/// The release that follows from the features, for maps that do not say it.
///
/// Source: `ceph/ceph:src/mon/mon_types.h`, `infer_ceph_release_from_mon_features`.
fn release(persistent_features: u64) -> u8 {
    // Bit of each release's feature, newest first; bit 3 is not a release's.
    [(6, 16), (5, 15), (4, 14), (2, 13), (1, 12), (0, 11)]
        .into_iter()
        .find(|(bit, _)| persistent_features >> bit & 1 == 1)
        .map_or(0, |(_, release)| release)
}
