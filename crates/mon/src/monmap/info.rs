use alloc::collections::BTreeMap;
use alloc::string::String;

use cuttlebone_wire::{
    AddrKind, Decode, DecodeError, Encode, EntityAddr, EntityAddrs, Features, Reader, Writer,
};

use super::NAME_BYTES_MAX;

/// One monitor in a map.
///
/// Source: `ceph/ceph:src/mon/MonMap.cc`, `mon_info_t::encode`; version 5 seen in 16.2.15, 1 in 11.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MonInfo {
    /// Its name: `a`.
    pub name: String,
    /// Where it listens.
    pub addrs: EntityAddrs,
    /// Clients prefer lower numbers.
    pub priority: u16,
    /// Among equal priorities, how often clients choose it.
    pub weight: u16,
    /// Where it stands, by type of place.
    pub crush_location: BTreeMap<String, String>,
    /// The version that was read; 0 for the newest that the reader's features allow.
    version: u8,
    /// Version 2 without weight and location behind it, as releases before Nautilus wrote it.
    bare: bool,
    /// The address in the map's own list, if it was read from a form that has one; it may differ from all of `addrs`.
    listed: Option<EntityAddr>,
}

/// The newest version that we know.
const VERSION: u8 = 5;
/// The newest version for peers before Nautilus.
const VERSION_BEFORE_NAUTILUS: u8 = 2;
/// The first version with a list of addresses.
const VERSION_ADDRS: u8 = 3;
/// Most parts of a location that we accept.
const LOCATION_PARTS_MAX: usize = 64;
/// Bytes of an empty location and a weight.
const WEIGHT_AND_LOCATION_BYTES_MIN: usize = 2 + 4;

impl MonInfo {
    /// A monitor without preferences.
    pub fn new(name: impl Into<String>, addrs: EntityAddrs) -> Self {
        Self { name: name.into(), addrs, ..Self::default() }
    }

    /// A monitor in a map that has one address for each.
    pub(super) fn from_single(name: String, addr: EntityAddr) -> Self {
        Self { listed: Some(addr.clone()), ..Self::new(name, addr.into()) }
    }

    /// Keeps the address that stood for this monitor in the map's own list, in the forms that have one.
    pub(super) fn set_listed(&mut self, addr: EntityAddr) {
        self.listed = Some(addr);
    }

    /// The one address that old forms have room for: that of messenger v1, blank if there is none.
    pub(super) fn legacy_addr(&self) -> EntityAddr {
        let legacy = || self.addrs.0.iter().find(|addr| addr.kind == AddrKind::LEGACY);
        self.listed.as_ref().or_else(legacy).cloned().unwrap_or_default()
    }

    /// The same for old forms of this structure: without a messenger v1 address, the first one dressed up as such,
    /// so that old readers get a map that looks valid.
    fn legacy_looking_addr(&self) -> EntityAddr {
        let first = self.addrs.0.first().cloned().unwrap_or_default();
        // What was read from such a form is written as it was.
        if matches!(self.version, 1..VERSION_ADDRS) || first == EntityAddr::BLANK {
            return first;
        }
        let legacy = self.addrs.0.iter().find(|addr| addr.kind == AddrKind::LEGACY);
        legacy.cloned().unwrap_or(EntityAddr { kind: AddrKind::LEGACY, ..first })
    }

    pub(super) fn renew(&mut self) {
        self.version = 0;
        self.bare = false;
        self.listed = None;
    }

    fn version_for(&self, features: Features) -> u8 {
        let after = features.contains(Features::SERVER_NAUTILUS);
        match (after, self.version) {
            (true, VERSION_ADDRS..=VERSION) | (false, 1..VERSION_ADDRS) => self.version,
            (true, _) => VERSION,
            (false, _) => VERSION_BEFORE_NAUTILUS,
        }
    }

    fn decode_weight(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        self.weight = r.u16("weight")?;
        Ok(())
    }

    fn decode_location(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let count = r.count("crush_loc", LOCATION_PARTS_MAX, 8)?;
        for _ in 0..count {
            let kind = r.text("crush_loc type", NAME_BYTES_MAX)?;
            self.crush_location.insert(kind, r.text("crush_loc name", NAME_BYTES_MAX)?);
        }
        Ok(())
    }
}

impl Decode for MonInfo {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("mon_info_t", VERSION, |r, version| {
            let name = r.text("mon name", NAME_BYTES_MAX)?;
            let mut mon = Self { addrs: EntityAddrs::decode(r)?, ..Self::new(name, EntityAddrs::default()) };
            mon.version = version.min(VERSION);
            if version >= 2 {
                mon.priority = r.u16("priority")?;
            }
            mon.bare = version == 2 && r.remaining() < WEIGHT_AND_LOCATION_BYTES_MIN;
            let appended = version == 2 && !mon.bare;
            if version >= 4 || appended {
                mon.decode_weight(r)?;
            }
            if version >= 5 || appended {
                mon.decode_location(r)?;
            }
            Ok(mon)
        })
    }
}

impl Encode for MonInfo {
    fn encode(&self, w: &mut Writer) {
        let version = self.version_for(w.features());
        let appended = version == 2 && !self.bare;
        w.versioned(version, 1, |w| {
            w.text(&self.name);
            if version < VERSION_ADDRS {
                self.legacy_looking_addr().encode(w);
            } else {
                self.addrs.encode(w);
            }
            if version >= 2 {
                w.u16(self.priority);
            }
            if version >= 4 || appended {
                w.u16(self.weight);
            }
            if version >= 5 || appended {
                w.list(&self.crush_location, |w, (kind, name)| {
                    w.text(kind);
                    w.text(name);
                });
            }
        });
    }
}
