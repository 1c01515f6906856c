use alloc::string::String;
use alloc::vec::Vec;

use cuttlebone_wire::{Decode, DecodeError, Encode, Reader, Writer};

use crate::Fscid;
use crate::limits::{MAP_MAX, NAME_BYTES_MAX};

/// The names and numbers of all filesystems.
///
/// Source: `ceph/ceph:src/mds/FSMapUser.cc`, `FSMapUser`; seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct FsMapUser {
    /// Counts changes.
    pub epoch: u32,
    /// The filesystem that clients get who name none.
    pub default_fscid: Fscid,
    /// The filesystems.
    pub filesystems: Vec<FsName>,
}

/// A filesystem's name.
///
/// Source: `ceph/ceph:src/mds/FSMapUser.cc`, `FSMapUser::fs_info_t`; seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct FsName {
    /// Its number.
    pub fscid: Fscid,
    /// Its name.
    pub name: String,
}

impl Decode for FsMapUser {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("FSMapUser", 1, |r, _| {
            Ok(Self {
                epoch: r.u32("epoch")?,
                default_fscid: Fscid(r.i32("legacy_client_fscid")?),
                filesystems: r.list("filesystems", MAP_MAX, 14, FsName::decode)?,
            })
        })
    }
}

impl Encode for FsMapUser {
    fn encode(&self, w: &mut Writer) {
        w.versioned(1, 1, |w| {
            w.u32(self.epoch);
            w.i32(self.default_fscid.0);
            w.list(&self.filesystems, |w, fs| fs.encode(w));
        });
    }
}

impl Decode for FsName {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("fs_info_t", 1, |r, _| {
            Ok(Self { fscid: Fscid(r.i32("cid")?), name: r.text("name", NAME_BYTES_MAX)? })
        })
    }
}

impl Encode for FsName {
    fn encode(&self, w: &mut Writer) {
        w.versioned(1, 1, |w| {
            w.i32(self.fscid.0);
            w.text(&self.name);
        });
    }
}
