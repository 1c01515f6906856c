//! What the test suites stand on: real daemons started for one test, a proxy that makes the network bad, and the
//! objects that real releases have written.
//!
//! Everything blocks and belongs to tests alone. Daemons listen on loopback, keep their data in a temporary
//! directory and end with the test, also when it panics or is killed.

mod cluster;
mod corpus;
mod daemon;
mod deadline;
mod fill;
mod mon;
mod ports;
mod program;
mod proxy;
mod tools;

pub use cluster::{Builder, Cluster};
pub use corpus::{Object, corpus, corpus_dir};
pub use daemon::Daemon;
pub use deadline::Deadline;
pub use fill::Fill;
pub use mon::Mon;
pub use ports::free_port;
pub use program::{Ended, Program, Running};
pub use proxy::{Flip, Proxy, ProxyConfig};
