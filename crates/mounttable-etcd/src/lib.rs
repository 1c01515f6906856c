#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::as_conversions, clippy::indexing_slicing)]

mod key;
mod lease;
mod namespace;
mod read;

#[cfg(feature = "tls")]
pub use etcd_client::{Certificate, Identity, TlsOptions};

pub use namespace::{Config, EtcdNamespace};
pub use read::{Snapshot, Watch};
