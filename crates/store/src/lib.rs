#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod appender;
mod block;
mod builder;
#[cfg(test)]
mod conformance;
mod diff;
mod disk;
mod error;
mod export;
#[cfg(test)]
mod faults;
#[cfg(any(test, feature = "__fuzz"))]
#[doc(hidden)]
pub mod fuzzing;
mod generation;
mod ingest;
mod layers;
mod limits;
mod list;
mod log;
mod manifest;
mod point;
mod reader;
mod run;
mod store;
mod verify;
mod view;
mod windows;
mod writer;

pub use diff::{Difference, Differences, diff};
pub use error::{Corruption, Error, ProviderFault};
pub use export::{Exported, LOCAL_PREFIXES, export_trace};
pub use ingest::{Ingest, Pull};
pub use limits::Limits;
pub use list::{ListError, escape, list, list_crc};
pub use point::{Digest, NewPoint, Origin, Point, PointId, PointKind, PrefixTotals};
pub use reader::{ParseSelectorError, Reader, Selector};
pub use store::{MemorySnapshot, MemoryStore, Snapshot, Store};
pub use verify::{Problem, Report, verify};
pub use view::{Entries, Entry, Transactions, View};
pub use windows::Window;
pub use writer::{Keep, Maintained, Pruned, Writer};
