#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backup;
mod builder;
mod client;
mod clock;
mod error;
mod keeper;
mod monitor;
mod provide;
mod pull;
mod quorum;
mod reading;
mod shelf;

pub use backup::{Backup, BackupConfig, BackupEvent, Extent, Outcome};
pub use builder::{Builder, MonSync, Node, NodeEvent, Provider};
pub use client::{Client, ClientConfig};
pub use cuttlebone_monsync::v2::{PaceConfig, Progress, ProviderConfig, RequesterConfig};
pub use error::Error;
pub use provide::{Provide, ProvideConfig, ProvideEvent};
