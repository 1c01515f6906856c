//! Maps as `ceph fs dump --format json` shows them.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{Filesystem, FsMap, MdsInfo, MdsMap};
use crate::{Fscid, Gid};

impl Serialize for MdsMap {
    /// The fields have the names that `ceph fs dump --format json` gives them.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("MDSMap", 27)?;
        object.serialize_field("epoch", &self.epoch)?;
        object.serialize_field("flags", &self.flags)?;
        object.serialize_field("ever_allowed_features", &self.ever_allowed_features)?;
        object.serialize_field("explicitly_allowed_features", &self.explicitly_allowed_features)?;
        object.serialize_field("created", &self.created)?;
        object.serialize_field("modified", &self.modified)?;
        object.serialize_field("tableserver", &self.tableserver)?;
        object.serialize_field("root", &self.root)?;
        object.serialize_field("session_timeout", &self.session_timeout_secs)?;
        object.serialize_field("session_autoclose", &self.session_autoclose_secs)?;
        object.serialize_field("required_client_features", &self.required_client_features)?;
        object.serialize_field("max_file_size", &self.max_file_size)?;
        object.serialize_field("last_failure", &self.last_failure)?;
        object.serialize_field("last_failure_osd_epoch", &self.last_failure_osd_epoch)?;
        object.serialize_field("compat", &self.compat)?;
        object.serialize_field("max_mds", &self.max_mds)?;
        object.serialize_field("in", &self.ranks)?;
        let up: BTreeMap<String, Gid> =
            self.up.iter().map(|(rank, gid)| (format!("mds_{}", rank.0), *gid)).collect();
        object.serialize_field("up", &up)?;
        object.serialize_field("failed", &self.failed)?;
        object.serialize_field("damaged", &self.damaged)?;
        object.serialize_field("stopped", &self.stopped)?;
        let info: BTreeMap<String, &MdsInfo> =
            self.info.iter().map(|(gid, info)| (format!("gid_{}", gid.0), info)).collect();
        object.serialize_field("info", &info)?;
        object.serialize_field("data_pools", &self.data_pools)?;
        object.serialize_field("metadata_pool", &self.metadata_pool)?;
        object.serialize_field("enabled", &self.enabled)?;
        object.serialize_field("fs_name", &self.fs_name)?;
        object.serialize_field("balancer", &self.balancer)?;
        object.serialize_field("standby_count_wanted", &self.standby_count_wanted.max(0))?;
        object.end()
    }
}

#[derive(serde::Serialize)]
struct Flags {
    enable_multiple: bool,
    ever_enabled_multiple: bool,
}

#[derive(serde::Serialize)]
struct Shown<'a> {
    mdsmap: &'a MdsMap,
    id: Fscid,
    mirrored: bool,
    peers: &'a [super::MirrorPeer],
}

impl Serialize for Filesystem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Shown { mdsmap: &self.map, id: self.fscid, mirrored: self.mirrored, peers: &self.peers }
            .serialize(serializer)
    }
}

impl Serialize for FsMap {
    /// The fields have the names that `ceph fs dump --format json` gives them.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("FSMap", 6)?;
        object.serialize_field("epoch", &self.epoch)?;
        object.serialize_field("default_fscid", &self.default_fscid)?;
        object.serialize_field("compat", &self.compat)?;
        let (enable_multiple, ever_enabled_multiple) = (self.enable_multiple, self.ever_enabled_multiple);
        object.serialize_field("feature_flags", &Flags { enable_multiple, ever_enabled_multiple })?;
        object.serialize_field("standbys", &self.standbys.values().collect::<Vec<_>>())?;
        object.serialize_field("filesystems", &self.filesystems)?;
        object.end()
    }
}
