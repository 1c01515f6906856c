//! Whichever table the command line names.

use anyhow::Result;
use cuttlebone_http::mounts::{HttpTables, MountClient, Watching};
use cuttlebone_http::{Address, Client};
use cuttlebone_mounttable::{
    Dial, Directory, Epoch, Failure, Found, Kept, Mount, Mounted, Name, Namespace, Pattern, Resolved, Server,
    Upkeep, Watched, Withdrawal,
};
#[cfg(feature = "etcd")]
use cuttlebone_mounttable_etcd::EtcdNamespace;
use futures::stream::{BoxStream, Stream, StreamExt};

use crate::exit::{Exit, Failed};
use crate::token::SecretArgs;

/// A mount table behind HTTP or in etcd.
pub(super) enum AnyTable {
    Http(MountClient),
    #[cfg(feature = "etcd")]
    Etcd(Box<EtcdNamespace>),
}

impl AnyTable {
    pub(super) async fn open(url: &str, secret: &SecretArgs) -> Result<Self> {
        if let Some(endpoints) = url.strip_prefix("etcd://") {
            return Self::open_etcd(endpoints, secret).await;
        }
        let address: Address = url.parse()?;
        Ok(Self::Http(MountClient::new(Client::new(address, secret.bearer()?))))
    }

    #[cfg(feature = "etcd")]
    async fn open_etcd(url: &str, secret: &SecretArgs) -> Result<Self> {
        let (endpoints, root) = url.split_once('/').map_or((url, ""), |(endpoints, root)| (endpoints, root));
        let mut config = cuttlebone_mounttable_etcd::Config::new(endpoints.split(','));
        let root = root.trim_end_matches('/');
        if !root.is_empty() {
            config = config.with_root(root);
        }
        if let Some(secret) = secret.text()? {
            let Some((user, password)) = secret.trim().split_once(':') else {
                return Err(Failed::new(Exit::Usage, "for etcd the secret is USER:PASSWORD").into());
            };
            config = config.with_user(user, password);
        }
        Ok(Self::Etcd(Box::new(EtcdNamespace::connect(&config).await?)))
    }

    #[cfg(not(feature = "etcd"))]
    #[expect(clippy::unused_async, reason = "with the feature it waits for etcd")]
    async fn open_etcd(_url: &str, _secret: &SecretArgs) -> Result<Self> {
        let message =
            "this binary was built without etcd; build it with: cargo install cuttlebone-cli --features etcd";
        Err(Failed::new(Exit::Usage, message).into())
    }

    /// Takes one server from a name, or all, whoever mounted them.
    pub(super) async fn remove(&self, name: &Name, server: Option<&Server>) -> Result<()> {
        match (self, server) {
            (Self::Http(table), None) => table.unmount_all(name).await?,
            (Self::Http(table), Some(server)) => {
                let any = Withdrawal::new(name.clone(), server.clone(), Epoch(u64::MAX));
                table.unmount(vec![any]).await.into_iter().collect::<Result<(), Failure>>()?;
            }
            #[cfg(feature = "etcd")]
            (Self::Etcd(table), server) => table.remove(name, server).await?,
        }
        Ok(())
    }

    pub(super) async fn watch(&self, pattern: &Pattern) -> Result<Watch> {
        Ok(match self {
            Self::Http(table) => Watch::Http(Box::new(table.watch(&Name::root(), pattern).await?)),
            #[cfg(feature = "etcd")]
            Self::Etcd(table) => Watch::Etcd(table.watch(pattern.clone()).await?),
        })
    }
}

/// A watch of either kind.
pub(super) enum Watch {
    Http(Box<Watching>),
    #[cfg(feature = "etcd")]
    Etcd(cuttlebone_mounttable_etcd::Watch),
}

impl Watch {
    /// The next item; the end of a watch is a failure.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Watched> {
        match self {
            Self::Http(watch) => Ok(watch.next().await??),
            #[cfg(feature = "etcd")]
            Self::Etcd(watch) => match watch.next().await {
                Some(item) => Ok(item?),
                None => Err(Failed::new(Exit::Unreachable, "the watch has ended").into()),
            },
        }
    }
}

/// Does the same with whichever table it is.
macro_rules! each {
    ($self:ident, $table:ident => $do:expr) => {
        match $self {
            Self::Http($table) => $do,
            #[cfg(feature = "etcd")]
            Self::Etcd($table) => $do,
        }
    };
}

impl Namespace for AnyTable {
    fn upkeep(&self) -> Upkeep {
        each!(self, table => table.upkeep())
    }

    fn batch_max(&self) -> usize {
        each!(self, table => table.batch_max())
    }

    async fn mount(&self, batch: Vec<Mount>) -> Vec<Result<Mounted, Failure>> {
        each!(self, table => table.mount(batch).await)
    }

    async fn unmount(&self, batch: Vec<Withdrawal>) -> Vec<Result<(), Failure>> {
        each!(self, table => table.unmount(batch).await)
    }

    async fn keep(&self) -> Result<Kept, Failure> {
        each!(self, table => table.keep().await)
    }

    async fn release(&self) -> Result<(), Failure> {
        each!(self, table => table.release().await)
    }

    async fn resolve(&self, name: Name) -> Result<Resolved, Failure> {
        each!(self, table => table.resolve(name).await)
    }
}

impl Directory for AnyTable {
    fn glob(
        &self,
        base: Name,
        pattern: Pattern,
    ) -> impl Stream<Item = Result<Found, Failure>> + Send + 'static {
        let found: BoxStream<'static, _> = each!(self, table => table.glob(base, pattern).boxed());
        found
    }
}

/// Opens tables that are mounted in others: by HTTP, and without a secret, since anybody may have named them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables(HttpTables);

impl Dial for Tables {
    type Table = AnyTable;

    fn dial(&self, address: &str) -> Result<AnyTable, Failure> {
        Ok(AnyTable::Http(self.0.dial(address)?))
    }
}
