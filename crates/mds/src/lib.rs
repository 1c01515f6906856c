#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
#![warn(clippy::as_conversions, clippy::indexing_slicing)]

extern crate alloc;

#[warn(clippy::arithmetic_side_effects)]
mod backtrace;
mod cap_bits;
#[warn(clippy::arithmetic_side_effects)]
mod client;
#[warn(clippy::arithmetic_side_effects)]
mod frag;
mod hash;
mod ids;
#[warn(clippy::arithmetic_side_effects)]
mod inode_stat;
#[cfg(feature = "serde")]
mod json;
#[warn(clippy::arithmetic_side_effects)]
mod layout;
mod limits;
mod machine;
#[warn(clippy::arithmetic_side_effects)]
mod map;
#[warn(clippy::arithmetic_side_effects)]
mod message;
mod pairs;
mod quota;
#[warn(clippy::arithmetic_side_effects)]
mod snap;

pub use backtrace::{Backpointer, Backtrace};
pub use cap_bits::CapBits;
pub use client::{ClientMetadata, MetricSpec, feature};
pub use frag::{DirFrag, Frag, FragTree};
pub use hash::NameHash;
pub use ids::{CapId, Fscid, Gid, Ino, Rank, SnapId};
pub use inode_stat::{CapGrant, DirLayout, InodeStat, ReplyForm};
pub use layout::{FileLayout, LegacyLayout};
pub use machine::{
    Answer, AttrChanges, Call, Caller, Change, Client, Config, Durability, Entry, Errno, Error, Event, Extra,
    Generations, Input, KnownName, Limits, LinkId, LinkNews, Lock, LockKind, LockRule, LossCause,
    NAME_BYTES_MAX, Name, NameError, Nonsense, NotTaken, Output, Remembered, Resize, SessionNews, Standing,
    SyncId, Target, Tid, Timing, XattrMode,
};
pub use map::{
    CompatFeatures, CompatSet, Filesystem, FsMap, FsMapUser, FsName, MdsInfo, MdsMap, MdsState, MirrorPeer,
};
pub use message::{
    CapOp, CapPeer, CapReconnect, CapRelease, ClientCapRelease, ClientCaps, ClientLease, ClientQuota,
    ClientReclaim, ClientReclaimReply, ClientReconnect, ClientReply, ClientRequest, ClientRequestForward,
    ClientSession, ClientSnap, Created, DelegatedInos, DirEntry, DirPage, DirStat, FileLock, FileLockArgs,
    FilePath, FsMapMessage, FsMapUserMessage, LayoutArgs, LeaseAction, LeaseStat, MdsMapMessage, Op,
    PageFlags, ReadDirArgs, RequestArgs, RequestFlags, RequestRelease, SessionOp, SessionRequest,
    SetAttrArgs, SnapOp, SnapRealmReconnect, Trace, TraceDentry,
};
pub use quota::Quota;
pub use snap::{SnapRealm, SnapRealmNew};
