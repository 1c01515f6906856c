#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod announce;
mod backup;
mod bound;
mod builder;
mod client;
mod clock;
pub mod config;
mod door;
mod error;
mod face;
mod filling;
mod gather;
mod ground;
mod hunt;
mod keeper;
pub mod mds;
mod monitor;
mod monsync;
mod node;
mod part;
mod provide;
mod provider;
mod pull;
mod quorum;
mod reading;
mod replication;
mod report;
mod shelf;

pub use announce::Publish;
pub use backup::{Backup, BackupConfig, BackupEvent, Extent, Outcome};
pub use builder::{BuildError, Builder, Deadlines};
pub use client::{Client, ClientConfig};
pub use config::Config;
pub use cuttlebone_monsync::v2::{PaceConfig, Progress, ProviderConfig, RequesterConfig};
pub use error::Error;
pub use face::Face;
pub use ground::{Ground, Shown};
pub use mds::MdsTree;
pub use monsync::MonSync;
pub use node::{Handle, Node};
pub use part::{Callers, Guest, Guests, Phase, Plan, Running, Service, Sink, Source};
pub use provide::{Provide, ProvideConfig, ProvideEvent};
pub use provider::Provider;
pub use replication::{Follow, Replicas};

/// The disk of a node's bucket.
pub type NodeDisk = cuttlebone_bucket::engine::LogEngine;

/// The bucket of a node: on a disk.
pub type NodeBucket = cuttlebone_bucket::Bucket<NodeDisk>;
