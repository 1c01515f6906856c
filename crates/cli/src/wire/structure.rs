use cuttlebone_mds::{
    Backtrace, CapReconnect, ClientMetadata, DirFrag, FileLayout, Frag, FragTree, FsMap, FsMapUser,
    InodeStat, MdsInfo, MdsMap, MetricSpec, Quota, RequestRelease, SnapRealm, SnapRealmNew,
};
use cuttlebone_mon::MonMap;
use cuttlebone_wire::{
    Decode, Encode, EntityAddr, EntityAddrs, EntityInst, EntityName, EntityNum, FeatureSet, Transaction,
};
use serde::Serialize;

use super::stored_op::StoredOp;

/// A value that is encoded by itself.
pub(super) trait Structure: Decode + Encode + Serialize {
    /// Forgets which version it was read in.
    fn renew(self) -> Self {
        self
    }
}

impl Structure for DirFrag {}
impl Structure for EntityAddr {}
impl Structure for EntityAddrs {}
impl Structure for EntityInst {}
impl Structure for EntityName {}
impl Structure for EntityNum {}
impl Structure for FeatureSet {}
impl Structure for FileLayout {}
impl Structure for Frag {}
impl Structure for FragTree {}
impl Structure for FsMapUser {}
impl Structure for MetricSpec {}
impl Structure for Quota {}
impl Structure for RequestRelease {}
impl Structure for SnapRealm {}
impl Structure for SnapRealmNew {}

impl Structure for StoredOp {
    fn renew(self) -> Self {
        StoredOp::renew(self)
    }
}

impl Structure for Transaction {
    fn renew(self) -> Self {
        Self::new(self.ops)
    }
}

macro_rules! renewable {
    ($($name:ident),*) => {$(
        impl Structure for $name {
            fn renew(mut self) -> Self {
                $name::renew(&mut self);
                self
            }
        }
    )*};
}

renewable!(Backtrace, CapReconnect, ClientMetadata, FsMap, InodeStat, MdsInfo, MdsMap, MonMap);
