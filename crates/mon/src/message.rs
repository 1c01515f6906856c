mod command;
mod config;
mod map;
mod probe;
mod statfs;
mod subscribe;
mod version;

pub use cuttlebone_wire::Body;

pub use command::{Command, CommandAck, PaxosPrefix};
pub use config::Config;
pub use map::{EncodedMonMap, GetMap, Map};
pub use probe::{PaxosWindow, Probe, ProbeOp};
pub use statfs::{StatFs, StatFsReply};
pub use subscribe::{Subscribe, SubscribeAck, Subscription};
pub use version::{GetVersion, GetVersionReply};
