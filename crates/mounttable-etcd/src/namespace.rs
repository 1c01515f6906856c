use core::fmt;
use core::time::Duration;

use cuttlebone_mounttable::{
    Before, Directory, Epoch, Failure, Found, Kept, Kind, Mount, Mounted, Name, Namespace, Pattern,
    Placement, Resolved, Revision, Server, Ttl, Upkeep, Withdrawal,
};
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, PutOptions, ResponseHeader, Txn, TxnOp,
    TxnOpResponse,
};
use futures::stream::{self, Stream, StreamExt};

use crate::key::Entry;
use crate::lease::Leases;
use crate::read::{Reader, Snapshot, Watch};

/// Operations in one transaction. Source: `etcd-io/etcd:embed/config.go`, DefaultMaxTxnOps.
pub(crate) const TXN_OPS_MAX: usize = 128;

/// Where etcd is and how to speak to it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// Its members, as `host:port`, `http://host:port` or `https://host:port`.
    pub endpoints: Vec<String>,
    /// The prefix of all keys, without a slash at its end.
    pub root: String,
    /// User and password, where etcd asks for them.
    pub user: Option<(String, String)>,
    /// After how long a request without an answer fails.
    pub timeout: Duration,
    /// TLS, where etcd wants it.
    #[cfg(feature = "tls")]
    pub tls: Option<etcd_client::TlsOptions>,
}

impl Config {
    /// Keys below `cuttlebone/mounts`, without authentication.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            root: "cuttlebone/mounts".into(),
            user: None,
            timeout: Duration::from_secs(5),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Keys below this prefix.
    #[must_use]
    pub fn with_root(self, root: impl Into<String>) -> Self {
        Self { root: root.into(), ..self }
    }

    /// As this user.
    #[must_use]
    pub fn with_user(self, name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: Some((name.into(), password.into())), ..self }
    }

    /// Over TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(self, tls: etcd_client::TlsOptions) -> Self {
        Self { tls: Some(tls), ..self }
    }

    fn options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_timeout(self.timeout)
            .with_connect_timeout(self.timeout)
            // A member that is gone without a word is noticed by its silence.
            .with_keep_alive(self.timeout, self.timeout)
            .with_keep_alive_while_idle(true)
            // A member without a leader says so at once instead of waiting for one.
            .with_require_leader(true);
        if let Some((name, password)) = &self.user {
            options = options.with_user(name, password).with_auto_token_refresh(true);
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            options = options.with_tls(tls.clone());
        }
        options
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|(name, _)| (name, "[redacted]"));
        f.debug_struct("Config")
            .field("endpoints", &self.endpoints)
            .field("root", &self.root)
            .field("user", &user)
            .finish_non_exhaustive()
    }
}

/// Entries in etcd, all on one lease.
///
/// Kinds are told to whoever resolves, but not enforced: two kinds on one name are for those who mounted them to sort
/// out. [`Placement::Replace`] is refused.
pub struct EtcdNamespace {
    reader: Reader,
    /// Tells the keys of this value from those of every other, whatever epochs they use.
    owner: u64,
    lease: Leases,
}

impl EtcdNamespace {
    /// Prepares connections, and authenticates if there is a user. No lease is begun before the first mount.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreachable`] for endpoints that are none, or etcd's refusal of the user.
    pub async fn connect(config: &Config) -> Result<Self, Failure> {
        let client = Client::connect(&config.endpoints, Some(config.options())).await.map_err(unreachable)?;
        let owner = getrandom::u64().map_err(|error| Failure::Unreachable { reason: error.to_string() })?;
        let reader = Reader { client, root: config.root.clone() };
        Ok(Self { reader, owner, lease: Leases::default() })
    }

    /// Every mount that matches, as of one revision.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreachable`]; also when the revision was compacted while the pages were read.
    pub async fn list(&self, pattern: &Pattern) -> Result<Snapshot, Failure> {
        self.reader.list(pattern).await
    }

    /// What is mounted on the names that match, then every change to them, without gap or repeat.
    ///
    /// etcd does not tell an entry that lapsed from one that was withdrawn: both are [`Event::Unmounted`](cuttlebone_mounttable::Event::Unmounted). An entry that
    /// another owner has under the same name and server is a change of its own.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreachable`]. The stream ends with one too, when etcd has compacted what comes next or the
    /// connection is lost; a new watch then begins with a new list.
    pub async fn watch(&self, pattern: Pattern) -> Result<Watch, Failure> {
        self.reader.watch(pattern).await
    }

    /// Every change to the names that match after a revision that a [`Snapshot`] or a change had.
    ///
    /// # Errors
    ///
    /// As [`EtcdNamespace::watch`]; a revision that was compacted ends the stream.
    pub async fn watch_from(&self, pattern: Pattern, after: Revision) -> Result<Watch, Failure> {
        self.reader.watch_from(pattern, after).await
    }

    /// Takes one server from a name, or all of them, whoever mounted them. A publisher that still wants its entry does
    /// not notice before it registers everything anew.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreachable`], or etcd's refusal.
    pub async fn remove(&self, name: &Name, server: Option<&Server>) -> Result<(), Failure> {
        self.reader.remove(name, server).await
    }

    fn entry(&self, name: &Name, server: &Server, epoch: Epoch, kind: Kind) -> Entry {
        Entry { name: name.clone(), server: server.clone(), epoch, owner: self.owner, kind }
    }

    /// One transaction of puts; one answer for all of them, since they are done together.
    async fn put_all(&self, batch: &[Mount]) -> Result<Vec<Mounted>, Failure> {
        let longest = batch.iter().map(|mount| mount.ttl).max().unwrap_or(Ttl::FOREVER);
        let lease = self.lease.ensure(&self.reader.client, longest).await?;
        let put = |mount: &Mount| {
            let entry = self.entry(&mount.name, &mount.server, mount.epoch, mount.kind);
            let options = PutOptions::new().with_lease(lease.id).with_prev_key();
            TxnOp::put(entry.key(&self.reader.root), entry.value(), Some(options))
        };
        let txn = Txn::new().and_then(batch.iter().map(put).collect::<Vec<_>>());
        let answer = match self.reader.client.kv_client().txn(txn).await {
            Ok(answer) => answer,
            Err(error) if is_lease_not_found(&error) => {
                self.lease.lost(lease.id).await;
                return Err(Failure::LeaseLost { lease: lease.number });
            }
            Err(error) => return Err(unreachable(error)),
        };
        let ttl = Ttl::new(lease.ttl).unwrap_or(Ttl::FOREVER);
        let answers = answer.op_responses().into_iter().map(|answer| {
            let present = matches!(&answer, TxnOpResponse::Put(put) if put.prev_key().is_some());
            let before = if present { Before::Present } else { Before::Absent };
            Mounted::new(ttl, before).with_lease(lease.number)
        });
        Ok(answers.collect())
    }

    /// Deletes keys as they are now. A request that is delivered late finds a key that was put again meanwhile to be
    /// newer, and leaves it.
    async fn delete_all(&self, batch: &[Withdrawal]) -> Result<(), Failure> {
        let mut client = self.reader.client.kv_client();
        let glance = GetOptions::new().with_count_only();
        let seen = client.get(self.reader.root.as_str(), Some(glance)).await.map_err(unreachable)?;
        let seen = seen.header().map_or(0, ResponseHeader::revision);
        let delete = |gone: &Withdrawal| {
            let entry = self.entry(&gone.name, &gone.server, gone.epoch, Kind::Server);
            let key = entry.key(&self.reader.root);
            let is_not_newer = Compare::mod_revision(key.clone(), CompareOp::Less, seen.saturating_add(1));
            TxnOp::txn(Txn::new().when([is_not_newer]).and_then([TxnOp::delete(key, None)]))
        };
        let txn = Txn::new().and_then(batch.iter().map(delete).collect::<Vec<_>>());
        client.txn(txn).await.map(drop).map_err(unreachable)
    }
}

impl Namespace for EtcdNamespace {
    fn upkeep(&self) -> Upkeep {
        Upkeep::Lease
    }

    fn batch_max(&self) -> usize {
        TXN_OPS_MAX
    }

    async fn mount(&self, batch: Vec<Mount>) -> Vec<Result<Mounted, Failure>> {
        let mut answers = Vec::with_capacity(batch.len());
        for part in batch.chunks(TXN_OPS_MAX) {
            let done = if part.iter().any(|mount| mount.placement == Placement::Replace) {
                Err(Failure::Foreign { reason: "a mount on etcd does not replace others".into() })
            } else {
                self.put_all(part).await
            };
            match done {
                Ok(done) => answers.extend(done.into_iter().map(Ok)),
                Err(failure) => answers.extend(part.iter().map(|_| Err(failure.clone()))),
            }
        }
        answers
    }

    async fn unmount(&self, batch: Vec<Withdrawal>) -> Vec<Result<(), Failure>> {
        let mut answers = Vec::with_capacity(batch.len());
        for part in batch.chunks(TXN_OPS_MAX) {
            let done = self.delete_all(part).await;
            answers.extend(part.iter().map(|_| done.clone()));
        }
        answers
    }

    async fn keep(&self) -> Result<Kept, Failure> {
        self.lease.keep(&self.reader.client).await
    }

    async fn release(&self) -> Result<(), Failure> {
        self.lease.release(&self.reader.client).await
    }

    async fn resolve(&self, name: Name) -> Result<Resolved, Failure> {
        self.reader.resolve(&name).await
    }
}

impl Directory for EtcdNamespace {
    /// Names without servers are none in etcd, so there are no inner ones among the results.
    fn glob(
        &self,
        base: Name,
        pattern: Pattern,
    ) -> impl Stream<Item = Result<Found, Failure>> + Send + 'static {
        let reader = self.reader.clone();
        let found = async move {
            match reader.glob(&base, &pattern).await {
                Ok(found) => stream::iter(found).map(Ok).boxed(),
                Err(failure) => stream::iter([Err(failure)]).boxed(),
            }
        };
        stream::once(found).flatten()
    }
}

impl fmt::Debug for EtcdNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdNamespace")
            .field("root", &self.reader.root)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// Source: `etcd-io/etcd:etcdserver/api/v3rpc/rpctypes/error.go`, ErrGRPCLeaseNotFound; the client's own words for the
/// first answer of a keep-alive stream.
pub(crate) fn is_lease_not_found(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(status) => status.message().contains("requested lease not found"),
        Error::LeaseKeepAliveError(text) => text == "lease not found",
        _ => false,
    }
}

/// Whether etcd did what was asked is not known, unless it says that it refuses.
///
/// Source: `etcd-io/etcd:etcdserver/api/v3rpc/rpctypes/error.go`; these are answered before anything is proposed.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
pub(crate) fn unreachable(error: Error) -> Failure {
    let forbidden =
        ["permission denied", "authentication failed", "user name is empty", "invalid auth token"];
    let refused = ["too many operations", "duplicate key", "request is too large"];
    let reason = match &error {
        Error::GRpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    };
    let says = |words: &[&str]| words.iter().any(|text| reason.contains(text));
    match () {
        () if says(&forbidden) => Failure::Forbidden { reason },
        () if says(&refused) => Failure::Foreign { reason },
        () => Failure::Unreachable { reason },
    }
}
