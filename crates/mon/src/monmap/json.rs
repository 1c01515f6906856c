use alloc::string::{String, ToString};
use alloc::vec::Vec;

use cuttlebone_wire::EntityAddrs;
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::{MonInfo, MonMap};

/// Names of the bits of monitor features.
///
/// Source: `ceph/ceph:src/mon/mon_types.h`, `ceph::features::mon`.
const FEATURES: [(u8, &str); 11] = [
    (0, "kraken"),
    (1, "luminous"),
    (2, "mimic"),
    (3, "osdmap-prune"),
    (4, "nautilus"),
    (5, "octopus"),
    (6, "pacific"),
    (7, "elector-pinging"),
    (8, "quincy"),
    (9, "reef"),
    (10, "squid"),
];

/// Names of the releases, from the ninth on.
const RELEASES: [&str; 12] = [
    "infernalis",
    "jewel",
    "kraken",
    "luminous",
    "mimic",
    "nautilus",
    "octopus",
    "pacific",
    "quincy",
    "reef",
    "squid",
    "tentacle",
];

fn feature_names(bits: u64) -> Vec<String> {
    let name =
        |bit: u8| FEATURES.iter().find(|(known, _)| *known == bit).map(|(_, name)| (*name).to_string());
    (0..64_u8)
        .filter(|bit| bits >> bit & 1 == 1)
        .map(|bit| name(bit).unwrap_or_else(|| bit.to_string()))
        .collect()
}

fn release_name(release: u8) -> &'static str {
    release.checked_sub(9).and_then(|index| RELEASES.get(usize::from(index)).copied()).unwrap_or("unknown")
}

/// One monitor with its rank, with the field names of `ceph mon dump --format json`.
#[derive(Serialize)]
struct Mon<'a> {
    rank: usize,
    name: &'a str,
    public_addrs: Addrs<'a>,
    addr: String,
    public_addr: String,
    priority: u16,
    weight: u16,
    crush_location: &'a alloc::collections::BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Addrs<'a> {
    addrvec: &'a EntityAddrs,
}

#[derive(Serialize)]
struct FeatureNames {
    persistent: Vec<String>,
    optional: Vec<String>,
}

impl<'a> Mon<'a> {
    fn new(rank: usize, mon: &'a MonInfo) -> Self {
        let legacy = mon.addrs.legacy_or_first();
        let addr = legacy.socket_addr().map_or("-".into(), |addr| alloc::format!("{addr}/{}", legacy.nonce));
        Self {
            rank,
            name: &mon.name,
            public_addrs: Addrs { addrvec: &mon.addrs },
            public_addr: addr.clone(),
            addr,
            priority: mon.priority,
            weight: mon.weight,
            crush_location: &mon.crush_location,
        }
    }
}

impl Serialize for MonMap {
    /// The fields have the names that `ceph mon dump --format json` gives them.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("MonMap", 13)?;
        object.serialize_field("epoch", &self.epoch)?;
        object.serialize_field("fsid", &self.fsid)?;
        object.serialize_field("modified", &self.last_changed)?;
        object.serialize_field("created", &self.created)?;
        object.serialize_field("min_mon_release", &self.min_mon_release)?;
        object.serialize_field("min_mon_release_name", release_name(self.min_mon_release))?;
        object.serialize_field("election_strategy", &self.election_strategy)?;
        object.serialize_field("disallowed_leaders", &self.disallowed_leaders)?;
        object.serialize_field("stretch_mode", &self.stretch_mode)?;
        object.serialize_field("tiebreaker_mon", &self.tiebreaker)?;
        object.serialize_field("stretch_marked_down_mons", &self.stretch_marked_down)?;
        object.serialize_field("removed_ranks", &self.removed_ranks)?;
        let persistent = feature_names(self.persistent_features);
        let optional = feature_names(self.optional_features);
        object.serialize_field("features", &FeatureNames { persistent, optional })?;
        let ranked = self.ranks.iter().enumerate();
        let mons: Vec<_> =
            ranked.filter_map(|(rank, name)| Some(Mon::new(rank, self.mons.get(name)?))).collect();
        object.serialize_field("mons", &mons)?;
        object.end()
    }
}
