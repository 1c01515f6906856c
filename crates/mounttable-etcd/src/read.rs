//! Resolving, listing and watching.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::{BTreeMap, VecDeque};

use cuttlebone_mounttable::{
    Change, Error, Event, Failure, Found, Kind, Name, Pattern, Place, Resolved, Revision, Server, Watched,
};
use etcd_client::{
    EventType, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchResponse, WatchStream,
};
use futures::{Stream, StreamExt};

use crate::EtcdNamespace;
use crate::key::{Entry, below_prefix, servers_prefix};
use crate::namespace::unreachable;

/// Servers of one name that a resolution reads.
const SERVERS_MAX: i64 = 1024;
/// Keys that a listing reads at a time.
const PAGE_KEYS: i64 = 1000;

/// What was mounted at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The mounts that match, by name.
    pub found: Vec<Found>,
    /// When; a watch can go on from here.
    pub revision: Revision,
}

impl EtcdNamespace {
    /// Reads the servers of the name and of every name above it in one transaction, and takes the first mount on the
    /// path, as a table does.
    pub(crate) async fn resolve_name(&self, name: &Name) -> Result<Resolved, Failure> {
        let path: Vec<Name> = name.prefixes().skip(1).collect();
        if path.is_empty() {
            return Err(Failure::Refused(Error::Root));
        }
        let options = || GetOptions::new().with_prefix().with_limit(SERVERS_MAX);
        let reads = path.iter().map(|name| TxnOp::get(servers_prefix(&self.root, name), Some(options())));
        let txn = Txn::new().and_then(reads.collect::<Vec<_>>());
        let answer = self.client.kv_client().txn(txn).await.map_err(unreachable)?;
        for (mount, answer) in path.into_iter().zip(answer.op_responses()) {
            let TxnOpResponse::Get(read) = answer else { continue };
            let found = merge(&self.root, read.kvs());
            if let Some(found) = found.into_iter().next() {
                let suffix = name.strip_prefix(&mount).unwrap_or_else(Name::root);
                return Ok(Resolved::new(mount, suffix, found.kind, found.servers));
            }
        }
        Err(Failure::Refused(Error::NoSuchName))
    }

    /// Every mount that matches, as of one revision.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreachable`]; also when the revision was compacted while the pages were read.
    pub async fn list(&self, pattern: &Pattern) -> Result<Snapshot, Failure> {
        let prefix = below_prefix(&self.root, &pattern.fixed_prefix());
        let end = end_of(&prefix);
        let (mut start, mut revision, mut found) = (prefix.into_bytes(), 0, Vec::new());
        loop {
            let options =
                GetOptions::new().with_range(end.clone()).with_limit(PAGE_KEYS).with_revision(revision);
            let page =
                self.client.kv_client().get(start.clone(), Some(options)).await.map_err(unreachable)?;
            if revision == 0 {
                revision = page.header().map_or(0, etcd_client::ResponseHeader::revision);
            }
            found.extend_from_slice(page.kvs());
            match page.kvs().last() {
                Some(last) if page.more() => {
                    start = last.key().to_vec();
                    start.push(0);
                }
                _ => break,
            }
        }
        let mut found = merge(&self.root, &found);
        found.retain(|found| pattern.matches(&found.name));
        Ok(Snapshot { found, revision: Revision(u64::try_from(revision).unwrap_or(0)) })
    }

    /// What is mounted on the names that match, then every change to them, without gap or repeat.
    ///
    /// etcd does not tell an entry that lapsed from one that was withdrawn: both are [`Event::Unmounted`]. An entry that
    /// another owner has under the same name and server is a change of its own.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreachable`]. The stream ends with one too, when etcd has compacted what comes next or the
    /// connection is lost; a new watch then begins with a new list.
    pub async fn watch(&self, pattern: Pattern) -> Result<Watch, Failure> {
        let snapshot = self.list(&pattern).await?;
        let mut watch = self.watch_from(pattern, snapshot.revision).await?;
        watch.ready = snapshot.found.into_iter().map(|found| Ok(Watched::Present(found))).collect();
        watch.ready.push_back(Ok(Watched::Listed(snapshot.revision)));
        Ok(watch)
    }

    /// Every change to the names that match after a revision that a [`Snapshot`] or a change had.
    ///
    /// # Errors
    ///
    /// As [`EtcdNamespace::watch`]; a revision that was compacted ends the stream.
    pub async fn watch_from(&self, pattern: Pattern, after: Revision) -> Result<Watch, Failure> {
        let prefix = below_prefix(&self.root, &pattern.fixed_prefix());
        let from = i64::try_from(after.0).unwrap_or(i64::MAX).saturating_add(1);
        let options = WatchOptions::new().with_range(end_of(&prefix)).with_start_revision(from);
        let stream = self.client.watch_client().watch(prefix, Some(options)).await.map_err(unreachable)?;
        Ok(Watch { stream, root: self.root.clone(), pattern, ready: VecDeque::new(), over: false })
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

/// A stream of what is mounted and of every change to it; see [`EtcdNamespace::watch`].
pub struct Watch {
    stream: WatchStream,
    root: String,
    pattern: Pattern,
    ready: VecDeque<Result<Watched, Failure>>,
    over: bool,
}

impl Watch {
    fn take(&mut self, response: &WatchResponse) {
        if response.canceled() {
            let reason = if response.compact_revision() > 0 {
                format!("etcd has compacted what is before revision {}", response.compact_revision())
            } else {
                format!("etcd has ended the watch: {}", response.cancel_reason())
            };
            self.end(reason);
            return;
        }
        for event in response.events() {
            let Some(kv) = event.kv() else { continue };
            let (entry, event) = match event.event_type() {
                EventType::Put => {
                    let Some(entry) = Entry::read(&self.root, kv.key(), kv.value()) else { continue };
                    let event = Event::Mounted { kind: entry.kind, epoch: entry.epoch };
                    (entry, event)
                }
                EventType::Delete => {
                    let Some(entry) = Entry::read_key(&self.root, kv.key()) else { continue };
                    (entry, Event::Unmounted)
                }
            };
            if self.pattern.matches(&entry.name) {
                let revision = Revision(u64::try_from(kv.mod_revision()).unwrap_or(0));
                let change = Change::new(revision, entry.name, entry.server, event);
                self.ready.push_back(Ok(Watched::Change(change)));
            }
        }
    }

    fn end(&mut self, reason: String) {
        self.over = true;
        self.ready.push_back(Err(Failure::Unreachable { reason }));
    }
}

impl Stream for Watch {
    type Item = Result<Watched, Failure>;

    /// # Cancel safety
    ///
    /// No change is lost between two polls.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(item) = this.ready.pop_front() {
                return Poll::Ready(Some(item));
            }
            if this.over {
                return Poll::Ready(None);
            }
            match this.stream.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(response))) => this.take(&response),
                Poll::Ready(Some(Err(error))) => this.end(error.to_string()),
                Poll::Ready(None) => this.end("the watch has ended".into()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("root", &self.root)
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}
