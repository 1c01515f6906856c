#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
#![warn(clippy::as_conversions, clippy::indexing_slicing)]

extern crate alloc;

mod config;
#[warn(clippy::arithmetic_side_effects)]
mod message;
#[warn(clippy::arithmetic_side_effects)]
mod monmap;
mod responder;
mod session;

pub use config::{ResponderConfig, SessionConfig};
pub use message::{
    Body, Command, CommandAck, Config, EncodedMonMap, GetMap, GetVersion, GetVersionReply, Map, PaxosPrefix,
    PaxosWindow, Probe, ProbeOp, StatFs, StatFsReply, Subscribe, SubscribeAck, Subscription,
};
pub use monmap::{MonInfo, MonMap};
pub use responder::{PendingCommand, Request, Responder, ResponderOutput};
pub use session::{Busy, Event, Session, SessionInput, SessionOutput, Tid};
