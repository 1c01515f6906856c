#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]

mod entropy;
mod machine;
mod stream;
mod time;

pub use entropy::{Entropy, SplitMix};
pub use machine::Machine;
pub use stream::{StreamMachine, StreamOutput};
pub use time::{Instant, Timer};
