#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod epochs;

#[cfg(feature = "tls")]
pub use etcd_client::{Certificate, Identity, TlsOptions};

pub use config::Config;
pub use epochs::EtcdEpochs;
