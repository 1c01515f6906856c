use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cuttlebone_monsync::{
    Answer, Ask, Entry, PAXOS, Page, Read, Scan, Scope, SnapshotId, StoreKey, Version, Window,
};
use cuttlebone_store::{Error, Reader, Selector, View};

/// Prefixes that belong to one monitor and are never synchronised.
///
/// Source: `ceph/ceph:src/mon/Monitor.cc`, `Monitor::get_sync_targets_names`, which leaves them out; the list of
/// those that are synchronised was seen in 16.2.15 and grows from release to release, so it is told by what is not.
const PRIVATE: [&[u8]; 4] = [b"mkfs", b"mon_sync", b"monitor", b"monitor_store"];

/// How far a scan reads ahead on disk, in bytes: several chunks, so that the disk works while a requester does.
const READ_AHEAD_BYTES: u64 = 8 * 1024 * 1024;

/// What a provider reads from: the latest point of a copy, and the points that its copies in progress have pinned.
///
/// It waits for the disk, so it lives on a thread of its own.
#[derive(Debug)]
pub(crate) struct Shelf {
    dir: PathBuf,
    latest: View,
    snapshots: BTreeMap<SnapshotId, View>,
}

impl Shelf {
    /// Opens the copy in `dir`, which must have a point.
    pub(crate) fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        let dir = dir.into();
        let latest = latest(&dir)?;
        Ok(Self { dir, latest, snapshots: BTreeMap::new() })
    }

    /// The latest point, as of the last time anybody asked for a copy.
    pub(crate) fn latest(&self) -> &View {
        &self.latest
    }

    /// Looks whether a writer has made a newer point meanwhile.
    pub(crate) fn refresh(&mut self) -> Result<(), Error> {
        self.latest = latest(&self.dir)?;
        Ok(())
    }

    /// Carries one ask out; a release has no answer. An error is told beside the answer, for the log.
    pub(crate) fn carry_out(&mut self, ask: Ask) -> (Option<Answer>, Option<Error>) {
        let (op, result) = match ask {
            Ask::Open { op, snapshot } => {
                (op, self.pin(snapshot).map(|window| Answer::Opened { op, window }))
            }
            Ask::Read(read) => (read.op, self.read(&read).map(|page| Answer::Page { op: read.op, page })),
            Ask::Release { snapshot } => {
                self.snapshots.remove(&snapshot);
                return (None, None);
            }
        };
        match result {
            Ok(answer) => (Some(answer), None),
            Err(error) => (Some(Answer::Failed { op }), Some(error)),
        }
    }

    fn pin(&mut self, snapshot: SnapshotId) -> Result<Window, Error> {
        self.refresh()?;
        self.snapshots.insert(snapshot, self.latest.clone());
        window(&self.latest)
    }

    fn read(&self, read: &Read) -> Result<Page, Error> {
        let mut page = Page { window: window(&self.latest)?, ..Page::default() };
        let mut budget = read.budget;
        if let Some(after) = read.versions_after
            && page.window.reaches_back_to(after)
        {
            let mut version = after.next();
            while version <= page.window.last {
                let value = self.latest.get(PAXOS, &version.key())?;
                let value =
                    value.ok_or(Error::Misuse("a version inside the copy's own window is missing"))?;
                if !budget.take(value.len(), page.versions.is_empty()) {
                    return Ok(page);
                }
                page.versions.push(value);
                version = version.next();
            }
        }
        match &read.scan {
            Some(scan) => self.scan(scan, budget, page),
            None => Ok(page),
        }
    }

    fn scan(
        &self,
        scan: &Scan,
        mut budget: cuttlebone_monsync::Budget,
        mut page: Page,
    ) -> Result<Page, Error> {
        let Some(view) = self.snapshots.get(&scan.snapshot) else {
            return Err(Error::Misuse("a snapshot was read after its release"));
        };
        let after = scan.after.as_ref().map(|after| (&after.prefix[..], &after.key[..]));
        let mut first = true;
        for entry in view.entries_after(after)? {
            let entry = entry?;
            if core::mem::take(&mut first) {
                view.will_read(&entry, READ_AHEAD_BYTES);
            }
            let wanted = match scan.scope {
                Scope::Targets => !PRIVATE.contains(&entry.prefix()),
                Scope::Paxos => entry.prefix() == PAXOS,
            };
            if !wanted {
                continue;
            }
            let bytes =
                entry.combined().len().saturating_add(usize::try_from(entry.len()).unwrap_or(usize::MAX));
            if !budget.take(bytes, page.versions.is_empty() && page.entries.is_empty()) {
                return Ok(page);
            }
            let key =
                StoreKey::new(Bytes::copy_from_slice(entry.prefix()), Bytes::copy_from_slice(entry.key()));
            page.entries.push(Entry { key, value: view.value(&entry)? });
        }
        page.at_end = true;
        Ok(page)
    }
}

fn latest(dir: &Path) -> Result<View, Error> {
    Reader::open(dir)?.at(Selector::Latest)
}

/// The versions that a view holds, as its own counters say.
fn window(view: &View) -> Result<Window, Error> {
    let counter = |name: &[u8]| -> Result<Version, Error> {
        let value = view.get(PAXOS, name)?;
        let number = value.as_deref().and_then(<[u8]>::first_chunk).copied().map(u64::from_le_bytes);
        Ok(Version(number.unwrap_or(0)))
    };
    Ok(Window { first: counter(b"first_committed")?, last: counter(b"last_committed")? })
}
