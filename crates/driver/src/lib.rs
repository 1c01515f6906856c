#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod buffer;
mod clock;
mod connection;
mod entropy;
mod limits;
mod listener;
mod run;

pub use clock::Clock;
pub use connection::{Closed, Connection, Inbox, NotSent, Outbox, dial};
pub use entropy::{OsEntropy, nonce};
pub use limits::DriverLimits;
pub use listener::{Listener, Peers};
pub use run::{Handed, Settled, Sockets, run};
