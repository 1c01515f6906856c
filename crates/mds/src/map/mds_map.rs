use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use cuttlebone_wire::{Decode, DecodeError, DecodeErrorKind, Encode, FeatureSet, Reader, WallTime, Writer};

use super::{CompatSet, MdsInfo, MdsState};
use crate::limits::{MAP_MAX, NAME_BYTES_MAX};
use crate::{Gid, Rank};

/// The metadata servers of one filesystem, and which of its ranks each serves.
///
/// Source: `ceph/ceph:src/mds/MDSMap.cc`, `MDSMap`; extended version 16 seen in 16.2.15, older ones in corpus objects
/// of 11.2.0 and 16.2.0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MdsMap {
    /// Counts changes.
    pub epoch: u32,
    /// [`MdsMap::NOT_JOINABLE`] and others.
    pub flags: u32,
    /// The epoch of the last failure.
    pub last_failure: u32,
    /// The rank that has the root.
    pub root: Rank,
    /// After how many seconds without renewal a session may go stale.
    pub session_timeout_secs: u32,
    /// After how many seconds without renewal a session is ended.
    pub session_autoclose_secs: u32,
    /// The largest file, in bytes.
    pub max_file_size: u64,
    /// How many ranks there are to be.
    pub max_mds: i32,
    /// Those who serve, and those who follow them.
    pub info: BTreeMap<Gid, MdsInfo>,
    /// Pools for contents; the first is used where nothing else is said.
    pub data_pools: Vec<i64>,
    /// A pool that was never used.
    pub cas_pool: i64,
    /// What is on disk; from extended version 3 on.
    pub compat: CompatSet,
    /// The pool for metadata.
    pub metadata_pool: i64,
    /// When the filesystem was made.
    pub created: WallTime,
    /// When the map changed last.
    pub modified: WallTime,
    /// The rank that hands out numbers.
    pub tableserver: Rank,
    /// Ranks that are.
    pub ranks: Vec<Rank>,
    /// The epoch in which each rank began; legacy.
    pub inc: BTreeMap<Rank, i32>,
    /// Ranks that somebody serves.
    pub up: BTreeMap<Rank, Gid>,
    /// Ranks that nobody serves.
    pub failed: Vec<Rank>,
    /// Ranks that were.
    pub stopped: Vec<Rank>,
    /// The object map that shuts out whoever failed last; from extended version 4 on.
    pub last_failure_osd_epoch: u32,
    /// Features that were ever switched on; from extended version 6 on.
    pub ever_allowed_features: u8,
    /// Features that were switched on by hand; from extended version 6 on.
    pub explicitly_allowed_features: u8,
    /// Whether small contents are kept in inodes; from extended version 7 on.
    pub inline_data_enabled: bool,
    /// Whether the filesystem may be used; from extended version 8 on.
    pub enabled: bool,
    /// Its name; from extended version 8 on.
    pub fs_name: String,
    /// Ranks whose metadata is damaged; from extended version 9 on.
    pub damaged: Vec<Rank>,
    /// The script that balances; from extended version 11 on.
    pub balancer: String,
    /// How many are to stand by; from extended version 12 on.
    pub standby_count_wanted: i32,
    /// How many ranks there were before the filesystem was taken down; from extended version 13 on.
    pub old_max_mds: i32,
    /// The oldest release that a client may be of; legacy, from extended version 14 on.
    pub min_compat_client: u8,
    /// [`feature`](crate::feature)s without which a client is refused; from extended version 16 on.
    pub required_client_features: FeatureSet,
    /// The extended version that was read; 0 for the newest.
    extended: u16,
}

/// The version of the envelope that we write, and the newest that we read.
const VERSION: u8 = 5;
/// The oldest version with an envelope.
const VERSION_ENVELOPE: u8 = 4;
/// The newest extended version that we know.
const EXTENDED: u16 = 16;
/// The oldest that we read: of 2012.
const EXTENDED_OLDEST: u16 = 5;

impl Default for MdsMap {
    fn default() -> Self {
        Self {
            epoch: 0,
            flags: 0,
            last_failure: 0,
            root: Rank(0),
            session_timeout_secs: 60,
            session_autoclose_secs: 300,
            max_file_size: 1 << 40,
            max_mds: 1,
            info: BTreeMap::new(),
            data_pools: Vec::new(),
            cas_pool: -1,
            compat: CompatSet::default(),
            metadata_pool: -1,
            created: WallTime::default(),
            modified: WallTime::default(),
            tableserver: Rank(0),
            ranks: Vec::new(),
            inc: BTreeMap::new(),
            up: BTreeMap::new(),
            failed: Vec::new(),
            stopped: Vec::new(),
            last_failure_osd_epoch: 0,
            ever_allowed_features: 0,
            explicitly_allowed_features: 0,
            inline_data_enabled: false,
            enabled: true,
            fs_name: String::new(),
            damaged: Vec::new(),
            balancer: String::new(),
            standby_count_wanted: -1,
            old_max_mds: 0,
            min_compat_client: 0,
            required_client_features: FeatureSet::default(),
            extended: 0,
        }
    }
}

impl MdsMap {
    /// In [`flags`](Self::flags): nobody who stands by is to be given a rank.
    ///
    /// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_MDSMAP_NOT_JOINABLE`.
    pub const NOT_JOINABLE: u32 = 1;

    /// Whoever serves this rank. Those who follow its journal do not.
    pub fn serving(&self, rank: Rank) -> Option<&MdsInfo> {
        self.info.get(self.up.get(&rank)?)
    }

    /// What is happening to this rank.
    pub fn state(&self, rank: Rank) -> MdsState {
        self.serving(rank).map_or(MdsState::NULL, |info| info.state)
    }

    /// Forgets which version it was read in.
    pub fn renew(&mut self) {
        self.extended = 0;
        self.info.values_mut().for_each(MdsInfo::renew);
    }

    fn decode_fields(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = Self {
            epoch: r.u32("epoch")?,
            flags: r.u32("flags")?,
            last_failure: r.u32("last_failure")?,
            root: Rank(r.i32("root")?),
            session_timeout_secs: r.u32("session_timeout")?,
            session_autoclose_secs: r.u32("session_autoclose")?,
            max_file_size: r.u64("max_file_size")?,
            max_mds: r.i32("max_mds")?,
            ..Self::default()
        };
        let count = r.count("mds_info", MAP_MAX, 14)?;
        for _ in 0..count {
            let gid = Gid(r.u64("gid")?);
            map.info.insert(gid, MdsInfo::decode(r)?);
        }
        map.data_pools = r.list("data_pools", MAP_MAX, 8, |r| r.i64("data pool"))?;
        map.cas_pool = r.i64("cas_pool")?;
        let extended = r.u16("extended version")?;
        if extended < EXTENDED_OLDEST {
            return Err(r.error("extended version", DecodeErrorKind::Unknown { value: extended.into() }));
        }
        map.extended = extended.min(EXTENDED);
        map.decode_extended(r)?;
        Ok(map)
    }

    fn decode_extended(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        self.compat = CompatSet::decode(r)?;
        self.metadata_pool = r.i64("metadata_pool")?;
        self.created = WallTime::decode(r)?;
        self.modified = WallTime::decode(r)?;
        self.tableserver = Rank(r.i32("tableserver")?);
        self.ranks = ranks(r, "in")?;
        self.inc = by_rank(r, "inc", |r| r.i32("inc"))?;
        self.up = by_rank(r, "up", |r| r.u64("up").map(Gid))?;
        self.failed = ranks(r, "failed")?;
        self.stopped = ranks(r, "stopped")?;
        self.last_failure_osd_epoch = r.u32("last_failure_osd_epoch")?;
        if self.extended >= 6 {
            self.ever_allowed_features = r.u8("ever_allowed_features")?;
            self.explicitly_allowed_features = r.u8("explicitly_allowed_features")?;
        }
        if self.extended >= 7 {
            self.inline_data_enabled = r.bool("inline_data_enabled")?;
        }
        if self.extended >= 8 {
            self.enabled = r.bool("enabled")?;
            self.fs_name = r.text("fs_name", NAME_BYTES_MAX)?;
        }
        if self.extended >= 9 {
            self.damaged = ranks(r, "damaged")?;
        }
        if self.extended >= 11 {
            self.balancer = r.text("balancer", NAME_BYTES_MAX)?;
        }
        if self.extended >= 12 {
            self.standby_count_wanted = r.i32("standby_count_wanted")?;
        }
        if self.extended >= 13 {
            self.old_max_mds = r.i32("old_max_mds")?;
        }
        if self.extended >= 14 {
            self.min_compat_client = r.u8("min_compat_client")?;
        }
        if self.extended >= 16 {
            self.required_client_features = FeatureSet::decode(r)?;
        }
        Ok(())
    }

    fn encode_fields(&self, w: &mut Writer, extended: u16) {
        w.u32(self.epoch);
        w.u32(self.flags);
        w.u32(self.last_failure);
        w.i32(self.root.0);
        w.u32(self.session_timeout_secs);
        w.u32(self.session_autoclose_secs);
        w.u64(self.max_file_size);
        w.i32(self.max_mds);
        w.list(&self.info, |w, (gid, info)| {
            w.u64(gid.0);
            info.encode(w);
        });
        w.list(&self.data_pools, |w, pool| w.i64(*pool));
        w.i64(self.cas_pool);
        w.u16(extended);
        self.encode_extended(w, extended);
    }

    fn encode_extended(&self, w: &mut Writer, extended: u16) {
        self.compat.encode(w);
        w.i64(self.metadata_pool);
        self.created.encode(w);
        self.modified.encode(w);
        w.i32(self.tableserver.0);
        write_ranks(w, &self.ranks);
        w.list(&self.inc, |w, (rank, inc)| {
            w.i32(rank.0);
            w.i32(*inc);
        });
        w.list(&self.up, |w, (rank, gid)| {
            w.i32(rank.0);
            w.u64(gid.0);
        });
        write_ranks(w, &self.failed);
        write_ranks(w, &self.stopped);
        w.u32(self.last_failure_osd_epoch);
        if extended >= 6 {
            w.u8(self.ever_allowed_features);
            w.u8(self.explicitly_allowed_features);
        }
        if extended >= 7 {
            w.bool(self.inline_data_enabled);
        }
        if extended >= 8 {
            w.bool(self.enabled);
            w.text(&self.fs_name);
        }
        if extended >= 9 {
            write_ranks(w, &self.damaged);
        }
        if extended >= 11 {
            w.text(&self.balancer);
        }
        if extended >= 12 {
            w.i32(self.standby_count_wanted);
        }
        if extended >= 13 {
            w.i32(self.old_max_mds);
        }
        if extended >= 14 {
            w.u8(self.min_compat_client);
        }
        if extended >= 16 {
            self.required_client_features.encode(w);
        }
    }
}

impl Decode for MdsMap {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = r.u8("MDSMap")?;
        if version < VERSION_ENVELOPE {
            return Err(r.error("MDSMap", DecodeErrorKind::Unknown { value: version.into() }));
        }
        r.versioned_after("MDSMap", VERSION, version, |r, _| Self::decode_fields(r))
    }
}

impl Encode for MdsMap {
    fn encode(&self, w: &mut Writer) {
        let extended = if self.extended == 0 { EXTENDED } else { self.extended };
        w.versioned(VERSION, VERSION_ENVELOPE, |w| self.encode_fields(w, extended));
    }
}

fn ranks(r: &mut Reader<'_>, field: &'static str) -> Result<Vec<Rank>, DecodeError> {
    r.list(field, MAP_MAX, 4, |r| r.i32(field).map(Rank))
}

fn write_ranks(w: &mut Writer, ranks: &[Rank]) {
    w.list(ranks, |w, rank| w.i32(rank.0));
}

fn by_rank<T>(
    r: &mut Reader<'_>,
    field: &'static str,
    mut value: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<BTreeMap<Rank, T>, DecodeError> {
    let count = r.count(field, MAP_MAX, 8)?;
    let mut map = BTreeMap::new();
    for _ in 0..count {
        let rank = Rank(r.i32(field)?);
        map.insert(rank, value(r)?);
    }
    Ok(map)
}
