//! What the test suites stand on: real daemons started for one test, a proxy that makes the network bad, and the
//! objects that real releases have written.
//!
//! Everything blocks and belongs to tests alone. Daemons listen on loopback, keep their data in a temporary
//! directory and end with the test, also when it panics or is killed.

mod cluster;
mod corpus;
mod daemon;
mod deadline;
mod filesystem;
mod fill;
mod mon;
mod ports;
mod process;
mod program;
mod proxy;
mod second;
mod tools;

pub use cluster::{Builder, Cluster};
pub use corpus::{Object, corpus, corpus_dir};
pub use daemon::Daemon;
pub use deadline::Deadline;
pub use filesystem::FsSpec;
pub use fill::Fill;
pub use mon::Mon;
pub use ports::free_port;
pub use process::Process;
pub use program::{Ended, Program, Running};
pub use proxy::{Flip, Proxy, ProxyConfig};
pub use second::SecondClient;
