#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]

extern crate alloc;

mod batch;
mod checkpoint;
mod cursor;
mod error;
mod fetch;
mod index;
mod item;
mod limits;
mod log;
mod memory;
mod persist;
mod recount;
mod register;
mod replica;
mod slots;
mod update;
mod values;

pub use batch::{Batch, Element, FetchLimit, Freed, SnapshotRange, Stop};
pub use cursor::{CursorId, CursorStatus, Droppable};
pub use error::Error;
pub use item::{Item, ItemError, KEY_BYTES_MAX, Marker, Op, VALUE_BYTES_MAX};
pub use limits::{CURSOR_NAME_BYTES_MAX, LimitError, Limits};
pub use log::ChangeLog;
pub use memory::Relief;
pub use persist::Flush;
pub use register::{Registered, Resume};
pub use update::{UpdateState, Window};
pub use values::{
    CheckpointId, CheckpointKind, CheckpointStatus, Durability, Effect, Queued, Role, Seqno, Start, Status,
};
