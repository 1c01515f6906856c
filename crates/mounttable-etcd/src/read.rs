//! Resolving, listing and watching.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::BTreeMap;

use cuttlebone_mounttable::{
    Change, Error, Event, Failure, Found, Kind, Name, Pattern, Place, Resolved, Revision, Server, Watched,
};
use etcd_client::{
    Client, DeleteOptions, EventType, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse, WatchOptions,
    WatchResponse,
};
use futures::stream::{self, BoxStream, Stream, StreamExt};

use crate::key::{Entry, below_prefix, servers_prefix};
use crate::namespace::{TXN_OPS_MAX, unreachable};

/// Servers of one name that a resolution reads.
const SERVERS_MAX: i64 = 1024;
/// Keys that a listing reads at a time.
const PAGE_KEYS: i64 = 1000;
/// Keys that one listing holds in memory.
const LIST_KEYS_MAX: usize = 1_000_000;

/// What was mounted at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The mounts that match, by name.
    pub found: Vec<Found>,
    /// When; a watch can go on from here.
    pub revision: Revision,
}

/// What is asked of etcd without a lease.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) client: Client,
    /// The prefix of all keys.
    pub(crate) root: String,
}

impl Reader {
    pub(crate) async fn resolve(&self, name: &Name) -> Result<Resolved, Failure> {
        if name.is_root() {
            return Err(Failure::Refused(Error::Root));
        }
        let first = self.first_on(name).await?.ok_or(Failure::Refused(Error::NoSuchName))?;
        let suffix = name.strip_prefix(&first.name).unwrap_or_else(Name::root);
        Ok(Resolved::new(first.name, suffix, first.kind, first.servers))
    }

    /// The first mount on the way to `name`, which for a table answers for everything below: the servers of the name
    /// and of every name above it, read in one transaction.
    async fn first_on(&self, name: &Name) -> Result<Option<Found>, Failure> {
        let options = || GetOptions::new().with_prefix().with_limit(SERVERS_MAX);
        let read = |name: Name| TxnOp::get(servers_prefix(&self.root, &name), Some(options()));
        let reads: Vec<TxnOp> = name.prefixes().skip(1).map(read).collect();
        if reads.is_empty() {
            return Ok(None);
        }
        let answer = self.client.kv_client().txn(Txn::new().and_then(reads)).await.map_err(unreachable)?;
        let answers = answer.op_responses();
        Ok(answers.iter().find_map(|answer| match answer {
            TxnOpResponse::Get(read) => merge(&self.root, read.kvs()).into_iter().next(),
            _ => None,
        }))
    }

    pub(crate) async fn list(&self, pattern: &Pattern) -> Result<Snapshot, Failure> {
        self.read_all(&pattern.fixed_prefix(), |name| pattern.matches(name)).await
    }

    /// What matches below `base`, and the mounts on the way to what might, by names relative to `base`.
    pub(crate) async fn glob(&self, base: &Name, pattern: &Pattern) -> Result<Vec<Found>, Failure> {
        let whole = pattern.below(base).map_err(|error| Failure::Foreign { reason: error.to_string() })?;
        let prefix = whole.fixed_prefix();
        let mut found = match self.first_on(&prefix).await? {
            Some(first) => vec![first],
            None => {
                self.read_all(&prefix, |name| whole.matches(name) || whole.leads_through(name)).await?.found
            }
        };
        for found in &mut found {
            if let Some(below) = found.name.strip_prefix(base) {
                found.name = below;
            } else {
                // The glob begins below a mount: its servers answer for what is left of the name.
                let rest = base.strip_prefix(&found.name).unwrap_or_else(Name::root);
                found
                    .servers
                    .retain_mut(|live| live.server.join(&rest).map(|server| live.server = server).is_ok());
                found.name = Name::root();
            }
        }
        Ok(found)
    }

    /// Every mount at or below a name that `wanted` says yes to, as of one revision.
    async fn read_all(&self, below: &Name, wanted: impl Fn(&Name) -> bool) -> Result<Snapshot, Failure> {
        let prefix = below_prefix(&self.root, below);
        let end = end_of(&prefix);
        let (mut start, mut revision, mut keys) = (prefix.into_bytes(), 0, Vec::new());
        loop {
            let options =
                GetOptions::new().with_range(end.clone()).with_limit(PAGE_KEYS).with_revision(revision);
            let page =
                self.client.kv_client().get(start.clone(), Some(options)).await.map_err(unreachable)?;
            if revision == 0 {
                revision = page.header().map_or(0, etcd_client::ResponseHeader::revision);
            }
            keys.extend_from_slice(page.kvs());
            if keys.len() > LIST_KEYS_MAX {
                return Err(Failure::Refused(Error::Full { limit: "keys in a listing", max: LIST_KEYS_MAX }));
            }
            match page.kvs().last() {
                Some(last) if page.more() => {
                    start = last.key().to_vec();
                    start.push(0);
                }
                _ => break,
            }
        }
        let mut found = merge(&self.root, &keys);
        found.retain(|found| wanted(&found.name));
        Ok(Snapshot { found, revision: Revision(u64::try_from(revision).unwrap_or(0)) })
    }

    pub(crate) async fn watch(&self, pattern: Pattern) -> Result<Watch, Failure> {
        let snapshot = self.list(&pattern).await?;
        let present = snapshot.found.into_iter().map(Watched::Present);
        let listed = present.chain([Watched::Listed(snapshot.revision)]).map(Ok);
        let changes = self.watch_from(pattern, snapshot.revision).await?;
        Ok(Watch(stream::iter(listed).chain(changes).boxed()))
    }

    pub(crate) async fn watch_from(&self, pattern: Pattern, after: Revision) -> Result<Watch, Failure> {
        let prefix = below_prefix(&self.root, &pattern.fixed_prefix());
        let from = i64::try_from(after.0).unwrap_or(i64::MAX).saturating_add(1);
        let options = WatchOptions::new().with_range(end_of(&prefix)).with_start_revision(from);
        let answers = self.client.watch_client().watch(prefix, Some(options)).await.map_err(unreachable)?;
        let root = self.root.clone();
        // Every way in which the answers end is a failure, and the last item.
        let told = stream::unfold(Some(answers), move |answers| {
            let (root, pattern) = (root.clone(), pattern.clone());
            async move {
                let mut answers = answers?;
                let told = match answers.next().await {
                    Some(Ok(answer)) => changes(&root, &pattern, &answer),
                    Some(Err(error)) => Err(error.to_string()),
                    None => Err("the watch has ended".into()),
                };
                Some(match told {
                    Ok(changes) => (changes.into_iter().map(Ok).collect(), Some(answers)),
                    Err(reason) => (vec![Err(Failure::Unreachable { reason })], None),
                })
            }
        });
        Ok(Watch(told.flat_map(|items: Vec<Result<Watched, Failure>>| stream::iter(items)).boxed()))
    }

    /// Deletes the keys of one server of a name, or of all, whoever owns them.
    pub(crate) async fn remove(&self, name: &Name, server: Option<&Server>) -> Result<(), Failure> {
        let prefix = servers_prefix(&self.root, name);
        let mut client = self.client.kv_client();
        let Some(server) = server else {
            let options = DeleteOptions::new().with_prefix();
            return client.delete(prefix, Some(options)).await.map(drop).map_err(unreachable);
        };
        let options = GetOptions::new().with_prefix().with_limit(SERVERS_MAX);
        let present = client.get(prefix, Some(options)).await.map_err(unreachable)?;
        let is_its = |kv: &&KeyValue| {
            Entry::read_key(&self.root, kv.key()).is_some_and(|entry| entry.server == *server)
        };
        let gone: Vec<TxnOp> =
            present.kvs().iter().filter(is_its).map(|kv| TxnOp::delete(kv.key(), None)).collect();
        for part in gone.chunks(TXN_OPS_MAX) {
            client.txn(Txn::new().and_then(part)).await.map_err(unreachable)?;
        }
        Ok(())
    }
}

/// The first key after all that begin with `prefix`. Its last byte is ASCII here, so adding one does not carry.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

/// The entries of keys, by name, those of the same server merged; the most recently written is in front.
fn merge(root: &str, keys: &[KeyValue]) -> Vec<Found> {
    let mut names: BTreeMap<Name, BTreeMap<Server, (i64, Entry)>> = BTreeMap::new();
    for kv in keys {
        let Some(entry) = Entry::read(root, kv.key(), kv.value()) else { continue };
        let servers = names.entry(entry.name.clone()).or_default();
        let newer = servers.get(&entry.server).is_none_or(|(_, present)| present.epoch <= entry.epoch);
        if newer {
            servers.insert(entry.server.clone(), (kv.mod_revision(), entry));
        }
    }
    let found = |(name, servers): (Name, BTreeMap<Server, (i64, Entry)>)| {
        let mut servers: Vec<_> = servers.into_values().collect();
        servers.sort_by_key(|(revision, _)| core::cmp::Reverse(*revision));
        let kind = servers.first().map_or(Kind::Server, |(_, entry)| entry.kind);
        let live = servers.iter().map(|(_, entry)| entry.live()).collect();
        Found::new(name, live, kind, Place::MountPoint)
    };
    names.into_iter().map(found).collect()
}

/// The changes in one answer to a watch, or why it was the last one.
fn changes(root: &str, pattern: &Pattern, answer: &WatchResponse) -> Result<Vec<Watched>, String> {
    if answer.canceled() {
        return Err(if answer.compact_revision() > 0 {
            format!("etcd has compacted what is before revision {}", answer.compact_revision())
        } else {
            format!("etcd has ended the watch: {}", answer.cancel_reason())
        });
    }
    let change = |event: &etcd_client::Event| {
        let kv = event.kv()?;
        let (entry, event) = match event.event_type() {
            EventType::Put => {
                let entry = Entry::read(root, kv.key(), kv.value())?;
                let event = Event::Mounted { kind: entry.kind, epoch: entry.epoch };
                (entry, event)
            }
            EventType::Delete => (Entry::read_key(root, kv.key())?, Event::Unmounted),
        };
        let revision = Revision(u64::try_from(kv.mod_revision()).unwrap_or(0));
        pattern
            .matches(&entry.name)
            .then(|| Watched::Change(Change::new(revision, entry.name, entry.server, event)))
    };
    Ok(answer.events().iter().filter_map(change).collect())
}

/// A stream of what is mounted and of every change to it; see [`EtcdNamespace::watch`](crate::EtcdNamespace::watch).
pub struct Watch(BoxStream<'static, Result<Watched, Failure>>);

impl Stream for Watch {
    type Item = Result<Watched, Failure>;

    /// # Cancel safety
    ///
    /// No change is lost between two polls.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
