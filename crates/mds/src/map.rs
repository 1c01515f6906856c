mod compat_set;
mod fs_map;
mod fs_map_user;
#[cfg(feature = "serde")]
mod json;
mod mds_info;
mod mds_map;

pub use compat_set::{CompatFeatures, CompatSet};
pub use fs_map::{Filesystem, FsMap, MirrorPeer};
pub use fs_map_user::{FsMapUser, FsName};
pub use mds_info::{MdsInfo, MdsState};
pub use mds_map::MdsMap;
