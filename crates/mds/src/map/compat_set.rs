use alloc::collections::BTreeMap;
use alloc::string::String;

use cuttlebone_wire::{Decode, DecodeError, Encode, Reader, Writer};

use crate::limits::{MAP_MAX, NAME_BYTES_MAX};

/// Features of what is on disk, by what somebody who lacks one of them may do.
///
/// Source: `ceph/ceph:src/include/CompatSet.h`, `CompatSet`; seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "three sets for ever")]
pub struct CompatSet {
    /// Anything.
    pub compat: CompatFeatures,
    /// Read.
    pub ro_compat: CompatFeatures,
    /// Nothing.
    pub incompat: CompatFeatures,
}

/// A set of such features: a mask as it is on the wire, which has no bit 0, and their names.
///
/// Source: `ceph/ceph:src/include/CompatSet.h`, `CompatSet::FeatureSet`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "two parts for ever")]
pub struct CompatFeatures {
    /// A bit for each.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub mask: u64,
    /// Their names by number.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub names: BTreeMap<u64, String>,
}

impl Decode for CompatFeatures {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut features = Self { mask: r.u64("feature mask")?, ..Self::default() };
        let count = r.count("feature names", MAP_MAX, 12)?;
        for _ in 0..count {
            let id = r.u64("feature id")?;
            features.names.insert(id, r.text("feature name", NAME_BYTES_MAX)?);
        }
        Ok(features)
    }
}

impl Encode for CompatFeatures {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.mask);
        w.list(&self.names, |w, (id, name)| {
            w.u64(*id);
            w.text(name);
        });
    }
}

impl Decode for CompatSet {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            compat: CompatFeatures::decode(r)?,
            ro_compat: CompatFeatures::decode(r)?,
            incompat: CompatFeatures::decode(r)?,
        })
    }
}

impl Encode for CompatSet {
    fn encode(&self, w: &mut Writer) {
        self.compat.encode(w);
        self.ro_compat.encode(w);
        self.incompat.encode(w);
    }
}
