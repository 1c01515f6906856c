//! What a client and a metadata server tell each other about themselves.

use alloc::collections::BTreeMap;
use alloc::string::String;

use cuttlebone_wire::{Decode, DecodeError, Encode, FeatureSet, Reader, Writer};

use crate::pairs;

/// Bits of the feature set that a client and a metadata server exchange when a session is opened.
///
/// Source: `ceph/ceph:src/mds/cephfs_features.h`, `CEPHFS_FEATURE_*`; 0 to 18 seen in 16.2.15.
pub mod feature {
    /// The client is of Jewel or later.
    pub const JEWEL: u16 = 5;
    /// The client is of Kraken or later.
    pub const KRAKEN: u16 = 6;
    /// The client is of Luminous or later.
    pub const LUMINOUS: u16 = 7;
    /// Answers to opening say why, and which features the server has.
    pub const MIMIC: u16 = 8;
    /// Inodes, fragments and leases in replies are versioned structures.
    pub const REPLY_ENCODING: u16 = 9;
    /// The client can take over what another instance left behind.
    pub const RECLAIM_CLIENT: u16 = 10;
    /// What a client wants may be left unsaid while what it has suffices.
    pub const LAZY_CAP_WANTED: u16 = 11;
    /// Reconnection may take several messages.
    pub const MULTI_RECONNECT: u16 = 12;
    /// Replies to a creation may hand out inode numbers for later ones.
    pub const DELEG_INO: u16 = 13;
    /// The client sends metrics.
    pub const METRIC_COLLECT: u16 = 14;
    /// Requests and leases carry an alternate name.
    pub const ALTERNATE_NAME: u16 = 15;
    /// A session that is opened twice is answered twice.
    pub const NOTIFY_SESSION_STATE: u16 = 16;
    /// There is a request for virtual attributes.
    pub const OP_GETVXATTR: u16 = 17;
    /// Attempts and forwards are counted in 32 bits.
    pub const RETRY_FWD_32BITS: u16 = 18;
    /// Realms come as versioned structures.
    pub const NEW_SNAPREALM_INFO: u16 = 19;
}

/// Which metrics a client can send.
///
/// Source: `ceph/ceph:src/mds/mdstypes.h`, `metric_spec_t`; corpus objects of 16.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct MetricSpec {
    /// Numbers of the metrics.
    #[cfg_attr(feature = "serde", serde(rename = "metric_flags"))]
    pub metrics: FeatureSet,
}

impl Decode for MetricSpec {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("metric_spec_t", 1, |r, _| Ok(Self { metrics: FeatureSet::decode(r)? }))
    }
}

impl Encode for MetricSpec {
    fn encode(&self, w: &mut Writer) {
        w.versioned(1, 1, |w| self.metrics.encode(w));
    }
}

/// What a metadata server remembers of a client, also through a restart.
///
/// Source: `ceph/ceph:src/mds/mdstypes.cc`, `client_metadata_t`; corpus objects of 16.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClientMetadata {
    /// What the client says of itself: host name, mount point, version.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub pairs: BTreeMap<String, String>,
    /// Its features; from version 2 on.
    #[cfg_attr(feature = "serde", serde(rename = "client_features"))]
    pub features: FeatureSet,
    /// Its metrics; from version 3 on.
    pub metric_spec: MetricSpec,
    /// The version that was read; 0 for the newest.
    #[cfg_attr(feature = "serde", serde(skip))]
    version: u8,
}

/// The newest version that we know.
const VERSION: u8 = 3;

impl ClientMetadata {
    /// Forgets which version it was read in.
    pub fn renew(&mut self) {
        self.version = 0;
    }
}

impl Decode for ClientMetadata {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("client_metadata_t", VERSION, |r, version| {
            let mut metadata = Self { pairs: pairs::decode(r, "metadata")?, ..Self::default() };
            metadata.version = version.clamp(1, VERSION);
            if version >= 2 {
                metadata.features = FeatureSet::decode(r)?;
            }
            if version >= 3 {
                metadata.metric_spec = MetricSpec::decode(r)?;
            }
            Ok(metadata)
        })
    }
}

impl Encode for ClientMetadata {
    fn encode(&self, w: &mut Writer) {
        let version = if self.version == 0 { VERSION } else { self.version };
        w.versioned(version, 1, |w| {
            pairs::encode(&self.pairs, w);
            if version >= 2 {
                self.features.encode(w);
            }
            if version >= 3 {
                self.metric_spec.encode(w);
            }
        });
    }
}
