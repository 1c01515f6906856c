//! A monitor's store in memory: the source that machines read from, with its whole history, and the target that
//! they write to. Both keep to the contract of `Ask` and `Effect`, and nothing else.

#![allow(dead_code, unreachable_pub, reason = "several tests share this, and none uses all of it")]
#![allow(clippy::unwrap_used, reason = "this is test code, outside of test functions")]

use core::ops::Bound;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use cuttlebone_machine::{Entropy, SplitMix};
use cuttlebone_monsync::{
    Answer, Ask, Effect, Entry, PAXOS, Page, Read, Scope, SnapshotId, StoreKey, SyncKind, Version, Window,
};
use cuttlebone_wire::{Decode, Encode, Features, Op, OpKind, Reader, Transaction};

pub type Keys = BTreeMap<StoreKey, Bytes>;

const SERVICES: [&str; 4] = ["auth", "config", "mgr_command_descs", "osdmap"];

/// A store that keeps committing, and remembers what it was at each version.
#[derive(Clone, Debug)]
pub struct Source {
    keys: Rc<Keys>,
    pub window: Window,
    snapshots: BTreeMap<SnapshotId, Rc<Keys>>,
    /// What the services looked like at each version, from 0 on.
    points: Vec<u64>,
}

impl Source {
    /// A store with `versions` versions, each of a few operations.
    pub fn new(versions: u64, chance: &mut SplitMix) -> Self {
        let mut source = Self {
            keys: Rc::default(),
            window: Window::default(),
            snapshots: BTreeMap::new(),
            points: vec![digest(&Keys::new())],
        };
        for _ in 0..versions {
            source.commit(chance);
        }
        source
    }

    /// Commits a transaction of its own making.
    pub fn commit(&mut self, chance: &mut SplitMix) {
        let transaction = self.transaction(chance);
        let keys = Rc::make_mut(&mut self.keys);
        let version = self.window.last.next();
        self.window = Window { first: self.window.first.max(Version(1)), last: version };
        keys.insert(StoreKey::new(PAXOS, version.key()), transaction.to_bytes(Features::PACIFIC));
        keys.insert(StoreKey::new(PAXOS, "last_committed"), Bytes::copy_from_slice(&version.0.to_le_bytes()));
        keys.insert(
            StoreKey::new(PAXOS, "first_committed"),
            Bytes::copy_from_slice(&self.window.first.0.to_le_bytes()),
        );
        apply(keys, &transaction);
        self.points.push(digest(keys));
    }

    /// Accepts a value for the next version that is not committed, as a monitor does before it commits.
    pub fn propose(&mut self, chance: &mut SplitMix) {
        let transaction = self.transaction(chance);
        let key = StoreKey::new(PAXOS, self.window.last.next().key());
        Rc::make_mut(&mut self.keys).insert(key, transaction.to_bytes(Features::PACIFIC));
    }

    /// Takes a version over from a leader.
    pub fn follow(&mut self, leader: &Self) {
        let next = self.window.last.next();
        if let Some(value) = leader.keys.get(&StoreKey::new(PAXOS, next.key()))
            && next <= leader.window.last
        {
            let transaction = Transaction::decode(&mut Reader::new(value)).unwrap();
            let keys = Rc::make_mut(&mut self.keys);
            self.window = Window { first: self.window.first.max(Version(1)), last: next };
            keys.insert(StoreKey::new(PAXOS, next.key()), value.clone());
            keys.insert(
                StoreKey::new(PAXOS, "last_committed"),
                Bytes::copy_from_slice(&next.0.to_le_bytes()),
            );
            apply(keys, &transaction);
            self.points.extend(leader.point(next));
        }
    }

    fn transaction(&self, chance: &mut SplitMix) -> Transaction {
        let version = self.window.last.next().0;
        let ops = (0..=chance.below(3)).map(|_| {
            let index = chance.below(4);
            let service = SERVICES[usize::try_from(index).unwrap()];
            match (chance.below(8), index) {
                (_, 2) => Op::put(service, "", version.to_string()),
                (0, _) => Op::erase(service, chance.below(12).to_string()),
                (1, _) => {
                    let from = chance.below(10);
                    Op::erase_range(service, from.to_string(), (from + 2).to_string())
                }
                _ => {
                    let bytes = usize::try_from(1 + chance.below(90)).unwrap();
                    let value = vec![u8::try_from(version % 251).unwrap(); bytes];
                    Op::put(service, chance.below(12).to_string(), value)
                }
            }
        });
        Transaction::new(ops.collect())
    }

    /// Forgets all but the newest `keep` versions.
    pub fn trim(&mut self, keep: u64) {
        let first = Version(self.window.last.0.saturating_sub(keep) + 1).max(self.window.first);
        let keys = Rc::make_mut(&mut self.keys);
        for version in self.window.first.0..first.0 {
            keys.remove(&StoreKey::new(PAXOS, Version(version).key()));
        }
        self.window.first = first;
        keys.insert(StoreKey::new(PAXOS, "first_committed"), Bytes::copy_from_slice(&first.0.to_le_bytes()));
    }

    /// What the services looked like at `version`.
    pub fn point(&self, version: Version) -> Option<u64> {
        self.points.get(usize::try_from(version.0).unwrap()).copied()
    }

    /// The process died, and its snapshots with it.
    pub fn forget_snapshots(&mut self) {
        self.snapshots.clear();
    }

    pub fn open_snapshots(&self) -> usize {
        self.snapshots.len()
    }

    /// Does what a provider asks.
    pub fn ask(&mut self, ask: Ask) -> Option<Answer> {
        match ask {
            Ask::Open { op, snapshot } => {
                assert!(
                    self.snapshots.insert(snapshot, Rc::clone(&self.keys)).is_none(),
                    "{snapshot:?} twice"
                );
                Some(Answer::Opened { op, window: self.window })
            }
            Ask::Read(read) => Some(Answer::Page { op: read.op, page: self.read(&read) }),
            Ask::Release { snapshot } => {
                assert!(self.snapshots.remove(&snapshot).is_some(), "{snapshot:?} is not open");
                None
            }
        }
    }

    fn read(&self, read: &Read) -> Page {
        let mut budget = read.budget;
        let mut page = Page { window: self.window, ..Page::default() };
        if let Some(after) = read.versions_after
            && self.window.reaches_back_to(after)
        {
            for version in after.0 + 1..=self.window.last.0 {
                let value = &self.keys[&StoreKey::new(PAXOS, Version(version).key())];
                if !budget.take(value.len(), page.versions.is_empty()) {
                    return page;
                }
                page.versions.push(value.clone());
            }
        }
        if let Some(scan) = &read.scan {
            let keys = &self.snapshots[&scan.snapshot];
            let start = scan.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
            let wanted = |key: &StoreKey| scan.scope == Scope::Targets || key.prefix == PAXOS;
            for (key, value) in keys.range((start, Bound::Unbounded)).filter(|(key, _)| wanted(key)) {
                let bytes = key.prefix.len() + key.key.len() + value.len();
                let first = page.versions.is_empty() && page.entries.is_empty();
                if !budget.take(bytes, first) {
                    return page;
                }
                page.entries.push(Entry { key: key.clone(), value: value.clone() });
            }
            page.at_end = true;
        }
        page
    }
}

/// What a requester writes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    pub keys: Keys,
    pub status: Status,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    #[default]
    Empty,
    Incomplete,
    Complete(Version),
}

impl Target {
    pub fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Begin { kind, .. } => {
                if *kind == SyncKind::Full {
                    self.keys.clear();
                }
                self.status = Status::Incomplete;
            }
            Effect::Chunk { raw, transaction } => {
                assert_eq!(Transaction::decode(&mut Reader::new(raw)).as_ref(), Ok(transaction));
                assert!(transaction.ops.iter().all(|op| op.kind == OpKind::Put));
                let range = raw.as_ptr_range();
                let inside = |op: &Op| op.value.is_empty() || range.contains(&op.value.as_ptr());
                assert!(transaction.ops.iter().all(inside), "values lie in the bytes that a store keeps");
                apply(&mut self.keys, transaction);
            }
            Effect::Replay { first, last } => {
                for version in first.0..=last.0 {
                    let key = StoreKey::new(PAXOS, Version(version).key());
                    let value = self.keys.get(&key).unwrap_or_else(|| panic!("version {version} is missing"));
                    let transaction = Transaction::decode(&mut Reader::new(value)).unwrap();
                    apply(&mut self.keys, &transaction);
                }
            }
            Effect::Commit { last_committed } => {
                let key = StoreKey::new(PAXOS, "last_committed");
                self.keys.insert(key, Bytes::copy_from_slice(&last_committed.0.to_le_bytes()));
                self.status = Status::Complete(*last_committed);
            }
        }
    }

    /// The target is a point of the source's history, or says that it is none.
    pub fn check(&self, source: &Source) -> Status {
        if let Status::Complete(version) = self.status {
            assert_eq!(
                Some(digest(&self.keys)),
                source.point(version),
                "not what the source was at {version}"
            );
            for (key, value) in self.keys.iter().filter(|(key, _)| key.prefix == PAXOS) {
                if let Some(number) = Version::from_key(&key.key) {
                    assert!(number <= version, "{number} lies beyond {version}");
                    let original = source.keys.get(key);
                    assert!(original.is_none_or(|original| original == value), "{number} differs");
                }
            }
        }
        self.status
    }
}

/// Applies a transaction as a monitor's store does.
pub fn apply(keys: &mut Keys, transaction: &Transaction) {
    for op in &transaction.ops {
        let key = StoreKey { prefix: op.prefix.clone(), key: op.key.clone() };
        match op.kind {
            OpKind::Put => {
                keys.insert(key, op.value.clone());
            }
            OpKind::Erase => {
                keys.remove(&key);
            }
            OpKind::EraseRange => {
                let end = StoreKey { prefix: op.prefix.clone(), key: op.end_key.clone() };
                keys.retain(|other, _| *other < key || *other >= end);
            }
            OpKind::Compact => {}
        }
    }
}

/// A number that stands for everything outside the log.
fn digest(keys: &Keys) -> u64 {
    keys.iter().filter(|(key, _)| key.prefix != PAXOS).fold(0, |sum, (key, value)| {
        let crc = |seed, bytes: &[u8]| cuttlebone_wire::crc32c(seed, bytes);
        let name = crc(crc(1, &key.prefix), &[b"\0", &key.key[..]].concat());
        // A sum, since it does not matter in which order keys are visited; two numbers, since it does which is whose.
        u64::wrapping_add(sum, u64::from(name) << 32 | u64::from(crc(name, value)))
    })
}
