use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use cuttlebone_wire::{EntityAddrs, WallTime};
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

/// A stamp as text: RFC 3339 in UTC.
fn rfc3339(time: WallTime) -> String {
    let secs = u64::from(time.secs).saturating_add(u64::from(time.nanos / 1_000_000_000));
    let (mut days, second) = (secs / 86_400, secs % 86_400);
    let mut year = 1970;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_of = |year| if is_leap(year) { 366 } else { 365 };
    while days >= days_of(year) {
        days = days.saturating_sub(days_of(year));
        year = year.saturating_add(1);
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1_u32;
    for days_of_month in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < days_of_month {
            break;
        }
        days = days.saturating_sub(days_of_month);
        month = month.saturating_add(1);
    }
    let (day, hour, minute) = (days.saturating_add(1), second / 3600, second / 60 % 60);
    let (second, nanos) = (second % 60, time.nanos % 1_000_000_000);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
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
        let addr = legacy.socket_addr().map_or("-".into(), |addr| format!("{addr}/{}", legacy.nonce));
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
        object.serialize_field("modified", &rfc3339(self.last_changed))?;
        object.serialize_field("created", &rfc3339(self.created))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_those_of_date() {
        let check = |secs, nanos, text: &str| assert_eq!(rfc3339(WallTime { secs, nanos }), text);
        check(0, 0, "1970-01-01T00:00:00.000000000Z");
        check(951_782_400, 5, "2000-02-29T00:00:00.000000005Z");
        check(1_795_161_625, 0, "2026-11-20T08:00:25.000000000Z");
        check(4_107_542_399, 999_999_999, "2100-02-28T23:59:59.999999999Z");
        check(4_107_542_399, 1_000_000_000, "2100-03-01T00:00:00.000000000Z");
    }
}
