use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use cuttlebone_wire::{Decode, DecodeError, Encode, Reader, Writer};

use super::{CompatSet, MdsInfo, MdsMap};
use crate::limits::{BLOB_BYTES_MAX, MAP_MAX, NAME_BYTES_MAX};
use crate::{Fscid, Gid};

/// All filesystems of a cluster, and the metadata servers that stand by.
///
/// Source: `ceph/ceph:src/mds/FSMap.cc`, `FSMap`; corpus objects of 11.2.0 and 16.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FsMap {
    /// Counts changes.
    pub epoch: u32,
    /// The number that the next filesystem will have.
    pub next_fscid: u64,
    /// The filesystem that clients get who name none.
    pub default_fscid: Fscid,
    /// What new filesystems are made with.
    pub compat: CompatSet,
    /// Whether there may be more than one.
    pub enable_multiple: bool,
    /// The filesystems, in the order of their numbers.
    pub filesystems: Vec<Filesystem>,
    /// The filesystem that each metadata server works for; -1 for none.
    pub roles: BTreeMap<Gid, Fscid>,
    /// Those who stand by.
    pub standbys: BTreeMap<Gid, MdsInfo>,
    /// Since which epoch they do.
    pub standby_epochs: BTreeMap<Gid, u32>,
    /// Whether there ever could be more than one; from version 7 on.
    pub ever_enabled_multiple: bool,
    /// The version that was read; 0 for the newest.
    version: u8,
}

/// One filesystem in a map.
///
/// Source: `ceph/ceph:src/mds/FSMap.cc`, `Filesystem`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filesystem {
    /// Its number.
    pub fscid: Fscid,
    /// Its metadata servers.
    pub map: MdsMap,
    /// Whether it is copied elsewhere; from version 2 on.
    pub mirrored: bool,
    /// Where to; from version 2 on.
    pub peers: Vec<MirrorPeer>,
    /// The version that was read; 0 for the newest.
    version: u8,
}

/// Where a filesystem is copied to.
///
/// Source: `ceph/ceph:src/mds/FSMap.h`, `Peer` and `ClusterInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct MirrorPeer {
    /// Its identity.
    pub uuid: String,
    /// The entity that writes there.
    pub client_name: String,
    /// The cluster.
    pub cluster_name: String,
    /// The filesystem.
    pub fs_name: String,
}

/// The newest version of the map that we know.
const VERSION: u8 = 7;
/// The oldest that may read what we write, and that we read.
const VERSION_OLDEST: u8 = 6;
/// The newest version of a filesystem that we know.
const FILESYSTEM_VERSION: u8 = 2;

impl FsMap {
    /// The filesystem with this name.
    pub fn by_name(&self, name: &str) -> Option<&Filesystem> {
        self.filesystems.iter().find(|fs| fs.map.fs_name == name)
    }

    /// Forgets which version it was read in.
    pub fn renew(&mut self) {
        self.version = 0;
        self.standbys.values_mut().for_each(MdsInfo::renew);
        for fs in &mut self.filesystems {
            fs.version = 0;
            fs.map.renew();
        }
    }
}

impl Decode for FsMap {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("FSMap", VERSION, |r, version| {
            if version < VERSION_OLDEST {
                let kind = cuttlebone_wire::DecodeErrorKind::Unknown { value: version.into() };
                return Err(r.error("FSMap", kind));
            }
            Ok(Self {
                epoch: r.u32("epoch")?,
                next_fscid: r.u64("next_filesystem_id")?,
                default_fscid: Fscid(r.i32("legacy_client_fscid")?),
                compat: CompatSet::decode(r)?,
                enable_multiple: r.bool("enable_multiple")?,
                filesystems: r.list("filesystems", MAP_MAX, 14, Filesystem::decode)?,
                roles: by_gid(r, "mds_roles", 12, |r| r.i32("role").map(Fscid))?,
                standbys: by_gid(r, "standby_daemons", 14, MdsInfo::decode)?,
                standby_epochs: by_gid(r, "standby_epochs", 12, |r| r.u32("standby epoch"))?,
                ever_enabled_multiple: version >= 7 && r.bool("ever_enabled_multiple")?,
                version: version.min(VERSION),
            })
        })
    }
}

impl Encode for FsMap {
    fn encode(&self, w: &mut Writer) {
        let version = if self.version == 0 { VERSION } else { self.version };
        w.versioned(version, VERSION_OLDEST, |w| {
            w.u32(self.epoch);
            w.u64(self.next_fscid);
            w.i32(self.default_fscid.0);
            self.compat.encode(w);
            w.bool(self.enable_multiple);
            w.list(&self.filesystems, |w, fs| fs.encode(w));
            write_by_gid(w, &self.roles, |w, fscid| w.i32(fscid.0));
            write_by_gid(w, &self.standbys, |w, info| info.encode(w));
            write_by_gid(w, &self.standby_epochs, |w, epoch| w.u32(*epoch));
            if version >= 7 {
                w.bool(self.ever_enabled_multiple);
            }
        });
    }
}

impl Decode for Filesystem {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("Filesystem", FILESYSTEM_VERSION, |r, version| {
            let fscid = Fscid(r.i32("fscid")?);
            let len = r.len("mdsmap", BLOB_BYTES_MAX)?;
            let map = r.within(len, "mdsmap", MdsMap::decode)?;
            let version = version.clamp(1, FILESYSTEM_VERSION);
            let mut fs = Self { fscid, map, version, ..Self::default() };
            if version >= 2 {
                (fs.mirrored, fs.peers) = r.versioned("mirror_info", 1, |r, _| {
                    Ok((r.bool("mirrored")?, r.list("peers", MAP_MAX, 10, MirrorPeer::decode)?))
                })?;
            }
            Ok(fs)
        })
    }
}

impl Encode for Filesystem {
    fn encode(&self, w: &mut Writer) {
        let version = if self.version == 0 { FILESYSTEM_VERSION } else { self.version };
        w.versioned(version, 1, |w| {
            w.i32(self.fscid.0);
            w.sized(|w| self.map.encode(w));
            if version >= 2 {
                w.versioned(1, 1, |w| {
                    w.bool(self.mirrored);
                    w.list(&self.peers, |w, peer| peer.encode(w));
                });
            }
        });
    }
}

impl Decode for MirrorPeer {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("Peer", 1, |r, _| {
            let uuid = r.text("uuid", NAME_BYTES_MAX)?;
            r.versioned("ClusterInfo", 1, |r, _| {
                Ok(Self {
                    uuid,
                    client_name: r.text("client_name", NAME_BYTES_MAX)?,
                    cluster_name: r.text("cluster_name", NAME_BYTES_MAX)?,
                    fs_name: r.text("fs_name", NAME_BYTES_MAX)?,
                })
            })
        })
    }
}

impl Encode for MirrorPeer {
    fn encode(&self, w: &mut Writer) {
        w.versioned(1, 1, |w| {
            w.text(&self.uuid);
            w.versioned(1, 1, |w| {
                w.text(&self.client_name);
                w.text(&self.cluster_name);
                w.text(&self.fs_name);
            });
        });
    }
}

fn by_gid<T>(
    r: &mut Reader<'_>,
    field: &'static str,
    bytes_min: usize,
    mut value: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<BTreeMap<Gid, T>, DecodeError> {
    let count = r.count(field, MAP_MAX, bytes_min)?;
    let mut map = BTreeMap::new();
    for _ in 0..count {
        let gid = Gid(r.u64(field)?);
        map.insert(gid, value(r)?);
    }
    Ok(map)
}

fn write_by_gid<T>(w: &mut Writer, map: &BTreeMap<Gid, T>, mut value: impl FnMut(&mut Writer, &T)) {
    w.list(map, |w, (gid, of)| {
        w.u64(gid.0);
        value(w, of);
    });
}
