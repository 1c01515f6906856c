//! The tree as the bucket has it: an item per inode, and which inodes each directory has.

use core::ops::Bound;
use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use cuttlebone_checkpoint::CheckpointId;
use cuttlebone_fs::{Entry, Metadata};
use cuttlebone_wire::Uuid;
use serde::{Deserialize, Serialize};

use super::record::{
    InodeNumber, InodeRecord, NAMES_MAX, NameRecord, PREFIX, Stamp, TEXT_BYTES_MAX, Text, Time,
};
use crate::Error;
use crate::filling::Filling;

/// Where it is kept which tree this is; no key of an inode begins so.
const POSITION: &[u8] = b"\0cuttlebone\0mds";

/// A tree of directories in one vbucket. Its methods wait for room in memory, and read the disk.
#[derive(Debug)]
pub(super) struct Tree {
    filling: Filling,
    root: InodeNumber,
    inodes_max: usize,
    /// The last revert that `below` knows of.
    reverted: Option<CheckpointId>,
    /// Which inodes have a name in each directory, as their items say.
    below: HashMap<InodeNumber, HashSet<InodeNumber>>,
    inodes: usize,
    /// Inodes that have vanished from where they were. Their items stay until they are found elsewhere or settled.
    missing: HashSet<InodeNumber>,
}

/// Which tree it is, and when all of it was looked at last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    v: u32,
    /// The cluster.
    fsid: String,
    root: InodeNumber,
    /// When the root was made, which tells file systems of one cluster apart.
    btime: Time,
    /// Seconds since 1970.
    pub(super) walked: u32,
}

impl Position {
    pub(super) fn new(fsid: Uuid, root: &Metadata) -> Self {
        Self { v: 1, fsid: fsid.to_string(), root: root.ino.into(), btime: Time(root.btime), walked: 0 }
    }

    fn is_of(&self, other: &Self) -> bool {
        Self { walked: other.walked, ..self.clone() } == *other
    }
}

/// What one directory was seen to have while it was listed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// With the names of those that may have several.
    inodes: HashMap<InodeNumber, BTreeSet<Text>>,
    /// Entries that no record can have.
    pub(super) passed_over: u64,
}

/// Where a round looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looking {
    /// Where something has changed, as far as the sums tell.
    WhereChanged,
    /// In every directory.
    Everywhere,
}

/// What a page of a listing has told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Directories that are not as they were when they were complete.
    pub(super) changed: Vec<(InodeNumber, Stamp)>,
    /// Something else than the sums of a directory has changed.
    pub(super) is_news: bool,
    /// Items that were written.
    pub(super) written: u64,
    /// Bytes of their values.
    pub(super) bytes: u64,
}

impl Told {
    pub(super) fn add(&mut self, more: Self) {
        self.changed.extend(more.changed);
        self.is_news |= more.is_news;
        self.written += more.written;
        self.bytes += more.bytes;
    }
}

impl Tree {
    /// Reads what the bucket has. Answers when all of it was looked at last; 0 if that has never been, or if not
    /// everything could be read.
    pub(super) fn open(
        filling: Filling,
        position: &Position,
        inodes_max: usize,
    ) -> Result<(Self, u32), Error> {
        let root = position.root;
        let (below, missing) = (HashMap::new(), HashSet::new());
        let mut tree = Self { filling, root, inodes_max, reverted: None, below, inodes: 0, missing };
        let walked = match tree.position()? {
            Some(known) if known.is_of(position) => known.walked,
            Some(_) => return Err(Error::OtherTree),
            None => {
                tree.filling.put(POSITION, &encode(position))?;
                0
            }
        };
        let is_whole = tree.load()?;
        Ok((tree, if is_whole { walked } else { 0 }))
    }

    /// A position that cannot be read counts as none: then everything is looked at.
    fn position(&self) -> Result<Option<Position>, Error> {
        let value = self.filling.value(POSITION)?;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// Learns from the items which inode is where. Whether all of them could be read; those that could not are erased, and
    /// so are those that cannot be reached from the root.
    fn load(&mut self) -> Result<bool, Error> {
        // In this order: a revert between the two is found out by the number.
        self.reverted = self.filling.last_revert()?;
        (self.below, self.missing, self.inodes) = (HashMap::new(), HashSet::new(), 0);
        let (mut is_whole, mut all) = (true, Vec::new());
        let Filling { bucket, vbucket, .. } = &self.filling;
        for key in bucket.keys(*vbucket, (Bound::Included(PREFIX), Bound::Excluded(b"inode\x01")))? {
            let number = InodeNumber::of_key(&key);
            let Some((number, record)) = number.and_then(|it| Some((it, self.record(it).ok()??))) else {
                is_whole = false;
                self.filling.erase(&key)?;
                continue;
            };
            for name in &record.names {
                self.below.entry(name.dir).or_default().insert(number);
            }
            all.push(number);
        }
        self.inodes = all.len();
        let mut reached = HashSet::from([self.root]);
        let mut waiting = vec![self.root];
        while let Some(dir) = waiting.pop() {
            let below = self.below.get(&dir).into_iter().flatten();
            waiting.extend(below.filter(|inode| reached.insert(**inode)));
        }
        for lost in all.into_iter().filter(|inode| !reached.contains(inode)) {
            self.filling.erase(&lost.key())?;
            self.inodes -= 1;
        }
        self.below.retain(|dir, _| reached.contains(dir));
        Ok(is_whole)
    }

    /// Has to be called before each round: what a revert of hot reload has undone is learnt anew. Whether all is known.
    pub(super) fn begin(&mut self) -> Result<bool, Error> {
        // What an earlier round has not settled is still in its directory, whose completion was not written.
        self.missing.clear();
        if self.filling.last_revert()? == self.reverted { Ok(true) } else { self.load() }
    }

    /// Whether everything was brought once.
    pub(super) fn is_complete(&self) -> bool {
        self.record(self.root).is_ok_and(|root| root.is_some_and(|root| root.complete.is_some()))
    }

    pub(super) fn record(&self, inode: InodeNumber) -> Result<Option<InodeRecord>, Error> {
        let value = self.filling.value(&inode.key())?;
        let record = value.map(|value| InodeRecord::decode(&value)).transpose();
        record.map_err(|_| Error::Damaged("record of an inode"))
    }

    /// A directory as it is now, looked at by itself: the root, or one that is watched. Its stamp, if it is not as it was
    /// when it was complete; one of which there is no item is nobody's any more.
    pub(super) fn dir(&mut self, metadata: &Metadata, how: Looking) -> Result<Told, Error> {
        let mut told = Told::default();
        let number = InodeNumber::from(metadata.ino);
        let Some(stamp) = Stamp::of(metadata) else { return Ok(told) };
        let old = self.record(number)?;
        if old.is_none() && number != self.root {
            return Ok(told);
        }
        let (names, complete) = old.clone().map_or_else(Default::default, |old| (old.names, old.complete));
        let record = InodeRecord { names, complete, ..InodeRecord::of(metadata) };
        self.write(number, old.as_ref(), &record, &mut told)?;
        if how == Looking::Everywhere || complete != Some(stamp) {
            told.changed.push((number, stamp));
        }
        Ok(told)
    }

    /// A page of the listing of `dir`.
    pub(super) fn page(
        &mut self,
        dir: InodeNumber,
        entries: &[Entry],
        seen: &mut Seen,
        how: Looking,
    ) -> Result<Told, Error> {
        let mut told = Told::default();
        for Entry { name, metadata, .. } in entries {
            if name.len() > TEXT_BYTES_MAX {
                seen.passed_over += 1;
                continue;
            }
            let number = InodeNumber::from(metadata.ino);
            let name = NameRecord { dir, name: Text(Bytes::copy_from_slice(name)) };
            let old = self.record(number)?;
            let mut record = InodeRecord::of(metadata);
            let names = seen.inodes.entry(number).or_default();
            if metadata.is_dir() || metadata.nlink <= 1 {
                record.names.push(name);
            } else {
                names.insert(name.name.clone());
                let was_missing = self.missing.contains(&number);
                let old = old.iter().flat_map(|old| &old.names).filter(|_| !was_missing).cloned();
                record.names = old.filter(|old| *old != name).take(NAMES_MAX - 1).collect();
                record.names.push(name);
                record.names.sort();
            }
            self.missing.remove(&number);
            if let Some(stamp) = Stamp::of(metadata) {
                record.complete = old.as_ref().and_then(|old| old.complete);
                if how == Looking::Everywhere || record.complete != Some(stamp) {
                    told.changed.push((number, stamp));
                }
            }
            let is_new = old.is_none() || !metadata.is_dir();
            let before = told.written;
            self.write(number, old.as_ref(), &record, &mut told)?;
            told.is_news |= is_new && told.written > before;
        }
        Ok(told)
    }

    /// The listing of `dir` is at its end: what is not in it any more has vanished. Whether something has that may be found
    /// elsewhere.
    pub(super) fn listed(&mut self, dir: InodeNumber, seen: &Seen) -> Result<bool, Error> {
        let mut told = Told::default();
        let known: Vec<_> = self.below.get(&dir).into_iter().flatten().copied().collect();
        let mut is_held = false;
        for number in known {
            let Some(old) = self.record(number)? else { continue };
            let names = seen.inodes.get(&number);
            // Of one that has a single name, the page has said all.
            if names.is_some_and(BTreeSet::is_empty) {
                continue;
            }
            let mut record = old.clone();
            record
                .names
                .retain(|name| name.dir != dir || names.is_some_and(|names| names.contains(&name.name)));
            if record.names.is_empty() {
                self.missing.insert(number);
                is_held = true;
            } else {
                self.write(number, Some(&old), &record, &mut told)?;
            }
        }
        Ok(is_held)
    }

    /// Directories that have vanished and have something in them: they may have been moved.
    pub(super) fn missing_dirs(&self) -> Vec<InodeNumber> {
        let has_something =
            |inode: &&InodeNumber| self.below.get(inode).is_some_and(|below| !below.is_empty());
        self.missing.iter().filter(has_something).copied().collect()
    }

    /// Erases what has vanished and was found nowhere else, with everything below it.
    pub(super) fn settle(&mut self) -> Result<u64, Error> {
        let mut erased = 0;
        let mut gone: Vec<_> = self.missing.drain().collect();
        while let Some(number) = gone.pop() {
            let Some(old) = self.record(number)? else { continue };
            for name in &old.names {
                self.leave(name.dir, number);
            }
            // First the directory: whoever looks for what cannot be reached finds the rest.
            self.filling.erase(&number.key())?;
            self.inodes = self.inodes.saturating_sub(1);
            erased += 1;
            for below in self.below.remove(&number).into_iter().flatten() {
                let Some(old) = self.record(below)? else { continue };
                let mut record = old.clone();
                record.names.retain(|name| name.dir != number);
                if record.names.is_empty() {
                    gone.push(below);
                } else {
                    self.write(below, Some(&old), &record, &mut Told::default())?;
                }
            }
        }
        Ok(erased)
    }

    /// Everything in `dir` and below, as it was when its stamp was taken, is in the bucket.
    pub(super) fn complete(&mut self, dir: InodeNumber, stamp: Stamp) -> Result<(), Error> {
        // One that is gone again is complete in any case.
        let Some(mut record) = self.record(dir)? else { return Ok(()) };
        if record.complete == Some(stamp) {
            return self.unreverted();
        }
        record.complete = Some(stamp);
        self.filling.conclude(&dir.key(), &record.encode(), self.reverted)
    }

    /// All of the tree was looked at.
    pub(super) fn walked(&self, position: &Position) -> Result<(), Error> {
        self.filling.conclude(POSITION, &encode(position), self.reverted)
    }

    fn unreverted(&self) -> Result<(), Error> {
        if self.filling.last_revert()? == self.reverted { Ok(()) } else { Err(Error::Reverted) }
    }

    fn write(
        &mut self,
        number: InodeNumber,
        old: Option<&InodeRecord>,
        record: &InodeRecord,
        told: &mut Told,
    ) -> Result<(), Error> {
        if old == Some(record) {
            return Ok(());
        }
        if old.is_none() && self.inodes >= self.inodes_max {
            return Err(Error::TreeTooLarge { inodes_max: self.inodes_max });
        }
        let value = record.encode();
        self.filling.put(&number.key(), &value)?;
        told.written += 1;
        told.bytes += value.len() as u64;
        self.inodes += usize::from(old.is_none());
        let dirs: BTreeSet<_> = record.names.iter().map(|name| name.dir).collect();
        for name in old.iter().flat_map(|old| &old.names).filter(|name| !dirs.contains(&name.dir)) {
            self.leave(name.dir, number);
        }
        for dir in dirs {
            self.below.entry(dir).or_default().insert(number);
        }
        Ok(())
    }

    fn leave(&mut self, dir: InodeNumber, number: InodeNumber) {
        if let Some(below) = self.below.get_mut(&dir) {
            below.remove(&number);
            if below.is_empty() {
                self.below.remove(&dir);
            }
        }
    }
}

fn encode(position: &Position) -> Vec<u8> {
    serde_json::to_vec(position).expect("numbers and text can be said in JSON")
}
