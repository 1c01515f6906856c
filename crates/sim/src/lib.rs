#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod disk;
mod link;
mod seeds;
mod world;

pub use disk::{Disk, Store};
pub use link::Network;
pub use seeds::for_each_seed;
pub use world::{Context, Event, Fault, Node, NodeId, World};
