#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
#![warn(clippy::as_conversions, clippy::indexing_slicing)]

extern crate alloc;

mod acceptor;
mod backoff;
mod config;
mod dialler;
mod error;
mod event;
mod incoming;
mod link;
mod timers;

pub use acceptor::{AcceptConfig, Acceptor, Verdict};
pub use backoff::Backoff;
pub use config::{DialConfig, Identity, Timing};
pub use cuttlebone_msgr::{Limits, Policy, SessionKey, Start};
pub use error::Error;
pub use event::{Adoption, Command, Event, Ready};
pub use incoming::{Arrival, Incoming};
pub use link::Link;
