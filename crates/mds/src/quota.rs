use cuttlebone_wire::{Decode, DecodeError, Encode, Reader, Writer};

/// What a directory may hold; 0 for no limit.
///
/// Source: `ceph/ceph:src/mds/mdstypes.h`, `quota_info_t`; corpus objects of 11.2.0 and 16.2.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct Quota {
    /// Most bytes in all files below.
    pub max_bytes: i64,
    /// Most files and directories below, itself counted.
    pub max_files: i64,
}

impl Quota {
    /// Whether it limits anything.
    pub const fn is_set(&self) -> bool {
        self.max_bytes > 0 || self.max_files > 0
    }
}

impl Decode for Quota {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("quota_info_t", 1, |r, _| {
            Ok(Self { max_bytes: r.i64("max_bytes")?, max_files: r.i64("max_files")? })
        })
    }
}

impl Encode for Quota {
    fn encode(&self, w: &mut Writer) {
        w.versioned(1, 1, |w| {
            w.i64(self.max_bytes);
            w.i64(self.max_files);
        });
    }
}
