//! The configuration of a node: one TOML file, each key overridden by the environment and by flags, checked as a whole.
//!
//! `docs/node.md` has every key. Everything that is wrong is found at once, each as one line with where it is, the key,
//! and what to do; nothing is opened, bound or dialled for it but what [`Config::check`] tries and lets go again.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cuttlebone_bucket::BucketLimits;
use cuttlebone_http::Address;
use cuttlebone_mounttable::{Name, Server};
use cuttlebone_wire::{EntityAddr, EntityAddrs};

use crate::Deadlines;
use crate::mds::MdsLimits;

mod check;
mod document;
mod etcd;
mod open;
mod schema;

pub use document::Override;
pub use etcd::EtcdConfig;
pub use open::OpenError;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// Where it is: file and line, a variable, a flag.
    pub at: String,
    /// The key, as in `bucket.dir`; empty if the file itself is at fault.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, key, what, hint } = self;
        write!(f, "{at}: ")?;
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        write!(f, "{what}")?;
        if hint.is_empty() { Ok(()) } else { write!(f, " ({hint})") }
    }
}

/// A configuration that makes sense in itself.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// `node.name`.
    pub name: String,
    /// `[links]`.
    pub links: Option<Links>,
    /// `copy.dir`.
    pub copy: Option<PathBuf>,
    /// `[bucket]`.
    pub bucket: Option<BucketConfig>,
    /// `[source.monsync]`.
    pub monsync: Option<MonSyncConfig>,
    /// `[source.mds]`.
    pub mds: Option<MdsConfig>,
    /// `source.follow.origin`.
    pub follow: Option<SocketAddr>,
    /// `[http]`.
    pub http: Option<HttpConfig>,
    /// `[tokens]`.
    pub tokens: Option<TokensConfig>,
    /// `[etcd]`.
    pub etcd: Option<EtcdConfig>,
    /// `[publish]`.
    pub publish: Option<PublishConfig>,
    /// `[stop]`.
    pub stop: Deadlines,
    /// `log.level`: what `RUST_LOG` understands.
    pub log_level: String,
    /// Every key with its value as text, for the difference between two.
    values: BTreeMap<String, String>,
    /// Where each key was set, for faults that are found later.
    places: BTreeMap<String, String>,
}

/// Where monitors and other nodes dial.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Links {
    /// `links.listen`.
    pub listen: SocketAddr,
    /// `links.advertise`.
    pub advertise: Option<EntityAddrs>,
    /// `links.replicas`: nodes may follow the bucket.
    pub replicas: bool,
    /// `links.provide`: fresh monitors may synchronise from the copy.
    pub provide: bool,
    /// `links.backfills_max`: for how many replicas the disk is read at once.
    pub backfills_max: u32,
    /// `links.copies_max`: how many monitors synchronise at once.
    pub copies_max: u32,
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketConfig {
    /// `bucket.dir`.
    pub dir: PathBuf,
    /// The rest.
    pub limits: BucketLimits,
}

/// The monitors that are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MonSyncConfig {
    /// `source.monsync.monitors`.
    pub monitors: Vec<EntityAddr>,
    /// `source.monsync.every_ms`.
    pub every: Duration,
    /// `source.monsync.rate_bytes_max`.
    pub rate_bytes_max: Option<u64>,
    /// `source.monsync.vbucket`.
    pub vbucket: u16,
}

/// The tree that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MdsConfig {
    /// `source.mds.monitors`.
    pub monitors: Vec<EntityAddr>,
    /// `source.mds.fs`; without it the cluster's default.
    pub fs: Option<String>,
    /// `source.mds.root`.
    pub root: String,
    /// `source.mds.vbucket`.
    pub vbucket: u16,
    /// `source.mds.every_ms`, `.walk_every_s`, `.rate_entries_max`, `.watched_max`, `.inodes_max`.
    pub limits: MdsLimits,
}

/// The HTTP face.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpConfig {
    /// `http.listen`.
    pub listen: Address,
    /// `http.bearer_file`.
    pub bearer_file: Option<PathBuf>,
    /// `http.lease_s`.
    pub lease: Duration,
    /// `http.connections_max`.
    pub connections_max: usize,
}

/// The token registry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokensConfig {
    /// Where epochs survive a restart.
    pub epochs: EpochsConfig,
    /// `tokens.drain_s`.
    pub drain: Duration,
}

/// Where epochs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EpochsConfig {
    /// `tokens.dir`: in a file there, for this node alone.
    Dir(PathBuf),
    /// `tokens.etcd_key`: in etcd under this key, in one order for all nodes that have it.
    Etcd(String),
}

/// What is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishConfig {
    /// `publish.names`.
    pub names: Vec<Name>,
    /// `publish.table`; without it the node's own.
    pub table: Option<Address>,
    /// `publish.etcd_prefix`: in etcd below it, instead of a table.
    pub etcd_prefix: Option<String>,
    /// `publish.bearer_file`: what is shown to that table.
    pub bearer_file: Option<PathBuf>,
    /// `publish.server`; without it where the node accepts links.
    pub server: Option<Server>,
    /// `publish.period_s`.
    pub period: Duration,
}

/// One key that differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The key.
    pub key: String,
    /// What it was; `None` if it was not set.
    pub from: Option<String>,
    /// What it is; `None` if it is not set any more.
    pub to: Option<String>,
    /// Whether it can change while the node runs.
    pub live: bool,
}

/// Keys that can change while a node runs; those that begin so.
const LIVE: [&str; 2] = ["log.", "stop."];

impl Config {
    /// Reads `file`, and lets `overrides` have the last word, the later ones over the earlier.
    ///
    /// # Errors
    ///
    /// Everything that is wrong.
    pub fn read(file: &Path, overrides: &[Override]) -> Result<Self, Vec<Fault>> {
        let text = document::text(file).map_err(|fault| vec![fault])?;
        Self::parse(&text, &file.display().to_string(), overrides)
    }

    /// As [`read`](Self::read), of text that is called `name`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn parse(text: &str, name: &str, overrides: &[Override]) -> Result<Self, Vec<Fault>> {
        let mut document = document::Document::parse(text, name, overrides).map_err(|fault| vec![fault])?;
        let config = schema::config(&mut document);
        let (faults, values, places) = document.finish();
        if faults.is_empty() { Ok(Self { values, places, ..config }) } else { Err(faults) }
    }

    /// What is different in `new`, by key.
    pub fn difference(&self, new: &Self) -> Vec<Difference> {
        let keys = self.values.keys().chain(new.values.keys());
        let keys: std::collections::BTreeSet<_> = keys.collect();
        let changed = keys.into_iter().filter(|key| self.values.get(*key) != new.values.get(*key));
        let difference = |key: &String| Difference {
            key: key.clone(),
            from: self.values.get(key).cloned(),
            to: new.values.get(key).cloned(),
            live: LIVE.iter().any(|prefix| key.starts_with(prefix)),
        };
        changed.map(difference).collect()
    }

    /// Where a key was set, for what is found to be wrong with it later.
    fn place(&self, key: &str) -> String {
        self.places.get(key).cloned().unwrap_or_else(|| "default".into())
    }
}
