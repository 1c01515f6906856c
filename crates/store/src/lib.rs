#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod appender;
mod block;
mod builder;
mod disk;
mod error;
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
mod view;
mod writer;

pub use error::{Corruption, Error, ProviderFault};
pub use ingest::{Ingest, Pull};
pub use limits::Limits;
pub use list::{ListError, escape, list, list_crc};
pub use point::{Digest, NewPoint, Origin, Point, PointId, PointKind, PrefixTotals};
pub use reader::{ParseSelectorError, Reader, Selector};
pub use view::{Entries, Entry, Transactions, View};
pub use writer::{Keep, Maintained, Pruned, Writer};
