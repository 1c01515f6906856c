#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod engine;
mod error;
mod fair;
mod handle;
mod holds;
mod lock;
mod metadata;
mod monitors;
mod notice;
mod numbers;
mod open_file;
mod ops;
mod paging;
mod place;
mod read_dir;
mod snapshots;
mod vxattr;
mod watch;

pub use config::FsConfig;
pub use cuttlebone_mds::{
    AttrChanges, Errno, Error as MdsError, Ino, Limits, LockKind, LockRule, Rank, Resize, SnapId, XattrMode,
};
pub use cuttlebone_mon::StatFsReply;
pub use error::Error;
pub use handle::FileSystem;
pub use lock::LockHolder;
pub use metadata::{DirSums, Kind, Metadata};
pub use notice::{Notice, Notices};
pub use open_file::{OpenFile, OpenHow};
pub use place::Place;
pub use read_dir::{Entry, ReadDir};
pub use watch::{Change, Changes};
