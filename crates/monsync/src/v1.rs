//! The first dialect: requester, leader and provider, spoken by 0.59 to 0.66.
//!
//! No release that speaks it is around to be tested against. What is here follows the sources of the time, eight
//! stored messages, and simulation between our own machines. A node that has several roles routes by
//! [`Op::role`]; an abort goes to all of them.

mod config;
mod leader;
pub(crate) mod message;
mod phase;
mod provider;
mod requester;

pub use config::{Checksums, LeaderConfig, ProviderConfig, RequesterConfig};
pub use leader::{Leader, LeaderInput, LeaderOutput, Standing, Trim};
pub use message::{Flags, Message, Op, Role};
pub use provider::{Provider, ProviderInput, ProviderOutput};
pub use requester::{Requester, RequesterInput, RequesterOutput};
