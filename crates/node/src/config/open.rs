//! From a configuration to a node.

use cuttlebone_bucket::engine::{LogEngine, LogError};
use cuttlebone_bucket::{Bucket, OpenError as BucketError};
use cuttlebone_driver::Clock;
use cuttlebone_fs::FsConfig;
use cuttlebone_http::mounts::{MountClient, Mounts, Principals};
use cuttlebone_http::reload::Outcome;
use cuttlebone_http::{Client, TokioClock};
use cuttlebone_mounttable::{Limits as TableLimits, Principal, SharedTable, Table};
use cuttlebone_tokens::{EpochStoreError, FileEpochs, Registry, Rules};

use super::{Config, EpochsConfig, PublishConfig, check};
use crate::bound::{BACKFILL, PROVIDE};
use crate::clock::now;
use crate::{
    BackupConfig, BuildError, Face, Follow, MdsTree, MonSync, Node, NodeBucket, PaceConfig, Provider,
    Publish, Replicas, RequesterConfig,
};

/// Why what a configuration names could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The bucket's disk.
    #[error("bucket.dir")]
    Disk(#[from] LogError),
    /// The bucket itself.
    #[error("bucket.dir")]
    Bucket(#[from] BucketError),
    /// The file of epochs.
    #[error("tokens.dir")]
    Tokens(#[from] EpochStoreError),
    /// Names cannot be announced in etcd.
    #[error("etcd.endpoints")]
    Etcd(#[source] cuttlebone_mounttable::Failure),
    /// A file for TLS, or a build that cannot speak to etcd.
    #[error("etcd: {0}")]
    Tls(String),
    /// The bearer token.
    #[error("bearer token: {0}")]
    Bearer(String),
    /// No randomness.
    #[error("the system has no randomness")]
    Random(#[source] getrandom::Error),
    /// A thread broke off.
    #[error("opening the bucket broke off")]
    BrokeOff,
    /// The parts do not fit together, which the configuration should have told.
    #[error("the parts do not fit together")]
    Build(#[from] BuildError),
}

impl Config {
    /// Opens what is on disk, and puts the node together; warm-up happens here. `reload` is what its HTTP face calls to
    /// have the configuration read anew.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what could not be opened. Nothing is bound or dialled yet.
    pub async fn open(
        &self,
        reload: Option<impl Fn() -> Outcome + Send + Sync + 'static>,
    ) -> Result<Node, OpenError> {
        let table = self.own_table();
        let mut builder = Node::builder().name(&self.name).deadlines(self.stop);
        if let Some(copy) = &self.copy {
            builder = builder.copy(copy);
        }
        if self.bucket.is_some() {
            builder = builder.bucket(self.open_bucket().await?);
        }
        builder = builder.tokens(self.open_registry().await?);
        if let Some(links) = &self.links {
            builder = builder.listen(links.listen);
            if let Some(addrs) = &links.advertise {
                builder = builder.advertise(addrs.clone());
            }
            if links.provide {
                builder = builder.sink(Provider::new().called(&self.name).copies_max(links.copies_max));
            }
            if links.replicas {
                builder = builder.sink(Replicas::new().backfills_max(links.backfills_max));
            }
        }
        if let Some(monsync) = &self.monsync {
            let monitors: Vec<_> = monsync.monitors.iter().cloned().map(Into::into).collect();
            let pace = PaceConfig { bytes_per_second: monsync.rate_bytes_max, ..PaceConfig::default() };
            let requester = RequesterConfig { pace, ..RequesterConfig::default() };
            let config = BackupConfig { requester, ..BackupConfig::new(monitors.clone(), "") };
            let source = MonSync::from(monitors).with_config(config);
            builder = builder.source(source.every(monsync.every).vbucket(monsync.vbucket));
        }
        if let Some(mds) = &self.mds {
            let monitors: Vec<_> = mds.monitors.iter().cloned().map(Into::into).collect();
            let mut fs = FsConfig::new(monitors.clone());
            fs.fs_name.clone_from(&mds.fs);
            fs.metadata.insert("hostname".into(), format!("cuttlebone node {}", self.name));
            let source = MdsTree::from(monitors).with_fs(fs).root(&mds.root).vbucket(mds.vbucket);
            builder = builder.source(source.with_limits(mds.limits.clone()));
        }
        if let Some(origin) = self.follow {
            builder = builder.source(Follow::node(origin));
        }
        if let Some(publish) = &self.publish {
            builder = builder.publish(self.publisher(publish, &table).await?);
        }
        if let Some(http) = &self.http {
            let bearer =
                http.bearer_file.as_deref().map(check::bearer).transpose().map_err(OpenError::Bearer)?;
            let (lease, connections_max) = (http.lease, http.connections_max);
            let config = cuttlebone_http::Config {
                lease,
                connections_max,
                bearer,
                ..cuttlebone_http::Config::default()
            };
            let mounts = Mounts::new(table, Principals::owner(Principal::new(&self.name)));
            let mut face = Face::listening(http.listen.clone()).with_config(config).with_mounts(mounts);
            if let Some(reload) = reload {
                face = face.with_reload(reload);
            }
            builder = builder.status(face);
        }
        Ok(builder.build()?)
    }

    async fn open_bucket(&self) -> Result<NodeBucket, OpenError> {
        let Some(bucket) = self.bucket.clone() else { return Err(OpenError::BrokeOff) };
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(OpenError::Random)?;
        let open = move || -> Result<NodeBucket, OpenError> {
            let disk = LogEngine::open(&bucket.dir)?;
            Ok(Bucket::open(disk, bucket.limits, now(&Clock::start()), u64::from_ne_bytes(seed))?)
        };
        tokio::task::spawn_blocking(open).await.map_err(|_| OpenError::BrokeOff)?
    }

    /// Without a directory epochs do not survive a restart; a node that nobody drives needs none.
    async fn open_registry(&self) -> Result<Registry, OpenError> {
        let Some(tokens) = &self.tokens else {
            return Ok(Registry::new(cuttlebone_tokens::Config::default(), TokioClock::new()));
        };
        let recovery = self.http.as_ref().map_or_else(Default::default, |http| http.lease);
        let rules = Rules { drain_max: tokens.drain, ..Rules::default() };
        // Those whom the node itself gives tokens end with it.
        let local_names = vec![BACKFILL.to_owned(), PROVIDE.to_owned()];
        let usual = cuttlebone_tokens::Config::default();
        let config = cuttlebone_tokens::Config { rules, recovery, local_names, ..usual };
        match &tokens.epochs {
            EpochsConfig::Dir(dir) => {
                Ok(Registry::open(config, TokioClock::new(), FileEpochs::open(dir)?).await?)
            }
            EpochsConfig::Etcd(key) => self.epochs_in_etcd(config, key).await,
        }
    }

    #[cfg(feature = "etcd")]
    async fn epochs_in_etcd(
        &self,
        config: cuttlebone_tokens::Config,
        key: &str,
    ) -> Result<Registry, OpenError> {
        let etcd = self.etcd.as_ref().ok_or_else(without_etcd)?.epochs(key).map_err(OpenError::Tls)?;
        let epochs = cuttlebone_tokens_etcd::EtcdEpochs::connect(&etcd).await?;
        Ok(Registry::open(config, TokioClock::new(), epochs).await?)
    }

    #[cfg(not(feature = "etcd"))]
    #[expect(clippy::unused_async, reason = "with the feature it waits for etcd")]
    async fn epochs_in_etcd(
        &self,
        _config: cuttlebone_tokens::Config,
        _key: &str,
    ) -> Result<Registry, OpenError> {
        Err(without_etcd())
    }

    #[cfg(feature = "etcd")]
    async fn publish_in_etcd(&self, prefix: &str) -> Result<Publish, OpenError> {
        let etcd = self.etcd.as_ref().ok_or_else(without_etcd)?.names(prefix).map_err(OpenError::Tls)?;
        let names = cuttlebone_mounttable_etcd::EtcdNamespace::connect(&etcd).await;
        Ok(Publish::to(names.map_err(OpenError::Etcd)?))
    }

    #[cfg(not(feature = "etcd"))]
    #[expect(clippy::unused_async, reason = "with the feature it waits for etcd")]
    async fn publish_in_etcd(&self, _prefix: &str) -> Result<Publish, OpenError> {
        Err(without_etcd())
    }

    /// What is announced, in the node's own table or in another one.
    async fn publisher(&self, publish: &PublishConfig, own: &SharedTable) -> Result<Publish, OpenError> {
        let mut config = cuttlebone_publisher::Config::default();
        config.period = publish.period;
        let table = match (&publish.table, &publish.etcd_prefix) {
            (_, Some(prefix)) => self.publish_in_etcd(prefix).await?,
            (None, None) => Publish::to(own.namespace(Principal::new(&self.name))),
            (Some(table), None) => {
                let bearer = publish.bearer_file.as_deref().map(check::bearer).transpose();
                let bearer = bearer.map_err(OpenError::Bearer)?;
                Publish::to(MountClient::new(Client::new(table.clone(), bearer)))
            }
        };
        let mut part = table.with_config(config);
        for name in &publish.names {
            part = part.name(name.clone());
        }
        if let Some(server) = &publish.server {
            part = part.server(server.clone());
        }
        Ok(part)
    }

    /// The node's own table, which its HTTP face serves.
    fn own_table(&self) -> SharedTable {
        let clock = Clock::start();
        let table = Table::new(TableLimits::private(), Principal::new(&self.name));
        SharedTable::new(table, move || clock.now())
    }
}

/// The configuration says so before.
fn without_etcd() -> OpenError {
    OpenError::Tls("this program was built without it".into())
}
