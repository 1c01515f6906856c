#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::as_conversions, clippy::indexing_slicing)]

mod config;
mod lane;
mod machine;
mod runner;
mod slot;
mod status;

pub use config::{Config, ConfigError, TABLES_MAX};
pub use lane::CallId;
pub use machine::{Core, Input, Output, Work};
pub use runner::{Both, Changes, Clock, Driver, Pending, Published, Publisher, publisher};
pub use status::{Actual, Counters, Desired, EntryStatus, Refused, Report, Settled, SlotStatus, Ticket};
