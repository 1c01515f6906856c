#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
#![warn(clippy::as_conversions, clippy::indexing_slicing)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod access;
mod change;
#[cfg(feature = "std")]
mod directory;
mod error;
mod glob;
#[cfg(feature = "std")]
mod journal;
mod limits;
mod mount;
mod name;
mod namespace;
mod pattern;
mod record;
#[cfg(feature = "std")]
mod replicated;
#[cfg(feature = "std")]
mod resolver;
mod server;
#[cfg(feature = "std")]
mod shared;
mod table;
mod tree;

pub use access::{PATTERNS_MAX, Permissions, Principal, Tag, Version};
pub use change::{Change, Event, Lagged, Revision};
#[cfg(feature = "std")]
pub use directory::{Dial, Directory};
pub use error::Error;
pub use glob::Glob;
#[cfg(feature = "std")]
pub use journal::{JOURNAL_BYTES_MAX, Journal, JournalError, STEP_BYTES_MAX};
pub use limits::Limits;
pub use mount::{
    Before, Epoch, Found, Kind, Lease, Live, Mount, Mounted, Place, Placement, Resolved, Ttl, Which,
};
pub use name::{
    ELEMENT_BYTES_MAX, ELEMENTS_MAX, NAME_BYTES_MAX, Name, NameError, escape_element, unescape_element,
};
pub use namespace::{Failure, Kept, Namespace, Upkeep, Withdrawal};
pub use pattern::{Pattern, PatternError, Tail};
pub use record::Record;
#[cfg(feature = "std")]
pub use replicated::Replicated;
#[cfg(feature = "std")]
pub use resolver::{DEPTH_MAX, GLOB_DEPTH_MAX, GLOB_TABLES_MAX, Resolver, Responsible, Unseen};
pub use server::{ADDRESS_BYTES_MAX, Server, ServerError};
#[cfg(feature = "std")]
pub use shared::{GlobStream, LocalNamespace, SharedError, SharedTable, Watch, Watched};
pub use table::{Counters, Subtree, Table};
