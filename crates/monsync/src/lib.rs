#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
#![warn(clippy::as_conversions, clippy::indexing_slicing)]

extern crate alloc;

mod any;
mod error;
mod store;
pub mod v1;
pub mod v2;

pub use any::{AnyMessage, MESSAGE_TYPE};
pub use error::{ChunkError, Error};
pub use store::{
    Answer, Ask, Budget, Effect, Entry, OpId, PAXOS, Page, Read, Scan, Scope, SnapshotId, StoreKey, SyncKind,
    Version, Window,
};
