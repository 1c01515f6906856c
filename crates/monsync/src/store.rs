use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use cuttlebone_wire::Transaction;

/// A version of the replicated log: the number behind `paxos:` in a store, and what `last_committed` counts.
///
/// 0 stands for a store that has none yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct Version(pub u64);

impl Version {
    /// The one after it. Saturates, which no history reaches.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The key under which a store keeps it in the prefix [`PAXOS`]: plain decimal, without padding.
    pub fn key(self) -> Bytes {
        self.0.to_string().into()
    }

    /// The version that a key of the prefix [`PAXOS`] names; `None` for `last_committed` and its kin.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(key).ok()?;
        let padded = text.len() > 1 && text.starts_with('0');
        // `parse` would accept a plus sign.
        if padded || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        text.parse().ok().map(Self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The prefix under which a monitor keeps its replicated log.
///
/// Source: `ceph/ceph:src/mon/Monitor.cc`, `Monitor::Monitor`, the name given to `Paxos`; seen in 16.2.15.
pub const PAXOS: &[u8] = b"paxos";

/// A key of a monitor's store, ordered as the store orders it.
///
/// A store keeps `prefix NUL key`. No prefix holds a NUL byte, so comparing the parts gives the same order.
///
/// Source: `ceph/ceph:src/kv/RocksDBStore.cc`, `combine_strings`; empty keys seen in 16.2.15.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "the wire has these two parts and no version to add a third")]
pub struct StoreKey {
    /// The service it belongs to.
    pub prefix: Bytes,
    /// What the service calls it. May be empty and may hold any byte.
    pub key: Bytes,
}

impl StoreKey {
    /// The key `key` of `prefix`.
    pub fn new(prefix: impl Into<Bytes>, key: impl Into<Bytes>) -> Self {
        Self { prefix: prefix.into(), key: key.into() }
    }

    /// The same key in memory of its own, so that it does not hold on to the frame it came in.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { prefix: Bytes::copy_from_slice(&self.prefix), key: Bytes::copy_from_slice(&self.key) }
    }

    /// Whether both parts are empty, which stands for "no key" on the wire.
    pub fn is_empty(&self) -> bool {
        self.prefix.is_empty() && self.key.is_empty()
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.prefix.escape_ascii(), self.key.escape_ascii())
    }
}

/// Names one thing asked of a store until the store has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(u64);

/// Gives out ids, none twice.
#[derive(Debug, Default)]
pub(crate) struct OpIds(u64);

impl OpIds {
    pub(crate) fn next(&mut self) -> OpId {
        self.0 = self.0.saturating_add(1);
        OpId(self.0)
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op {}", self.0)
    }
}

/// How much of a store one synchronisation copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has two, and every match has to choose")]
pub enum SyncKind {
    /// Everything.
    Full,
    /// The versions after this one, while the provider still has them.
    Recent {
        /// The last version that the requester has.
        after: Version,
    },
}

/// What a requester asks its store to do. Effects are carried out in the order in which they were given.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a store has to carry out every one of them")]
pub enum Effect {
    /// Mark the target as incomplete; for a full copy, also forget what an earlier attempt left behind.
    ///
    /// Until [`Effect::Commit`] is durable, a reader must be given the last complete point or none.
    Begin {
        /// What follows.
        kind: SyncKind,
        /// The version that the first chunk builds on.
        start: Version,
    },
    /// Add what one chunk carries: nothing but puts, checked.
    Chunk {
        /// The transaction as it came, for a store that keeps it so.
        raw: Bytes,
        /// The same, decoded; its values share the memory of `raw`.
        transaction: Transaction,
    },
    /// Apply the transactions that the values of `paxos:first` to `paxos:last` hold, in order. All are there.
    Replay {
        /// The first.
        first: Version,
        /// The last, included.
        last: Version,
    },
    /// Set `paxos:last_committed` and mark the target as complete, both or neither.
    Commit {
        /// The version that the target now has.
        last_committed: Version,
    },
}

impl fmt::Debug for Effect {
    /// Shows sizes only: a store holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin { kind, start } => write!(f, "Begin({kind:?} from {start})"),
            Self::Chunk { raw, transaction } => {
                write!(f, "Chunk({} keys, {} bytes)", transaction.ops.len(), raw.len())
            }
            Self::Replay { first, last } => write!(f, "Replay({first} to {last})"),
            Self::Commit { last_committed } => write!(f, "Commit({last_committed})"),
        }
    }
}

/// The versions that a store still holds, both ends included. Both are 0 in a store that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Window {
    /// The oldest.
    pub first: Version,
    /// The newest.
    pub last: Version,
}

impl Window {
    /// Whether every version after `version` is still there.
    pub fn reaches_back_to(self, version: Version) -> bool {
        self.first <= version.next()
    }
}

/// Names one snapshot of a provider's store, from `Open` to `Release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub(crate) u64);

/// What a provider asks of its store. A store carries the asks out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a store has to carry out every one of them")]
pub enum Ask {
    /// Pin the store as it is now; answered by [`Answer::Opened`].
    Open {
        /// What the answer refers to.
        op: OpId,
        /// What later reads call it.
        snapshot: SnapshotId,
    },
    /// Read the next part; answered by [`Answer::Page`].
    Read(Read),
    /// Let go of a snapshot. Not answered.
    Release {
        /// Which one.
        snapshot: SnapshotId,
    },
}

/// One part of a store to read: versions first, then keys, until the budget is used up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record, made by the providers here alone")]
pub struct Read {
    /// What the answer refers to.
    pub op: OpId,
    /// Read the versions after this one, from the store as it is now.
    pub versions_after: Option<Version>,
    /// Then read keys, from a snapshot.
    pub scan: Option<Scan>,
    /// How much to read. The very first item is read whatever its size.
    pub budget: Budget,
}

/// Which keys of a snapshot to read, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record, made by the providers here alone")]
pub struct Scan {
    /// Which snapshot.
    pub snapshot: SnapshotId,
    /// All that is synchronised, or the log alone.
    pub scope: Scope,
    /// The last key that has been read; `None` at the start.
    pub after: Option<StoreKey>,
}

/// Which keys belong to a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has two")]
pub enum Scope {
    /// Every key that is synchronised.
    Targets,
    /// The keys of [`PAXOS`].
    Paxos,
}

/// How much one chunk may hold. A single item that is larger travels alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Budget {
    /// Most bytes of prefixes, keys and values.
    pub bytes: usize,
    /// Most keys.
    pub keys: usize,
}

impl Budget {
    /// Takes an item of `bytes` off, or says that it does not fit. `first` items always fit.
    ///
    /// Stores share this, so that all of them cut chunks alike.
    #[must_use]
    pub fn take(&mut self, bytes: usize, first: bool) -> bool {
        if !first && (bytes > self.bytes || self.keys == 0) {
            return false;
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        self.keys = self.keys.saturating_sub(1);
        true
    }
}

/// A key with its value.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Entry {
    /// The key.
    pub key: StoreKey,
    /// Its value.
    pub value: Bytes,
}

impl fmt::Debug for Entry {
    /// Shows the size of the value only: a store holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({} bytes)", self.key, self.value.len())
    }
}

/// What a provider's store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the providers here match every one of them")]
pub enum Answer {
    /// The snapshot is pinned.
    Opened {
        /// The one that was asked for.
        op: OpId,
        /// The versions at that moment.
        window: Window,
    },
    /// The part that was asked for.
    Page {
        /// The one that was asked for.
        op: OpId,
        /// What was read.
        page: Page,
    },
    /// The store could not do it.
    Failed {
        /// The one that was asked for.
        op: OpId,
    },
}

/// A part of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record, made by stores")]
pub struct Page {
    /// The versions that the store has while this is read; a scan without versions leaves it alone.
    pub window: Window,
    /// The values of the versions asked for, from the one after `versions_after` on, without a gap.
    ///
    /// Empty if that one is not there any more; `window` then says so.
    pub versions: Vec<Bytes>,
    /// The keys asked for, ascending.
    pub entries: Vec<Entry>,
    /// Whether the scan is known to have no key behind these. False when no scan was asked for.
    pub at_end: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_decimal_keys_name_versions() {
        assert_eq!(Version::from_key(b"10"), Some(Version(10)));
        assert_eq!(Version::from_key(b"0"), Some(Version(0)));
        for other in [&b"last_committed"[..], b"", b"+7", b"007", b"18446744073709551616", b"1 ", b"\xff"] {
            assert_eq!(Version::from_key(other), None);
        }
    }

    #[test]
    fn keys_are_ordered_as_the_backing_store_orders_them() {
        let combined = |key: &StoreKey| [&key.prefix[..], b"\0", &key.key[..]].concat();
        let keys = [("a", ""), ("a", "\x7f"), ("ab", ""), ("mgr", "x"), ("mgr_metadata", ""), ("mgr", "\0")];
        let keys: Vec<_> = keys.into_iter().map(|(prefix, key)| StoreKey::new(prefix, key)).collect();
        for left in &keys {
            for right in &keys {
                assert_eq!(left.cmp(right), combined(left).cmp(&combined(right)));
            }
        }
    }

    #[test]
    fn a_budget_lets_the_first_item_through_whatever_its_size() {
        let mut budget = Budget { bytes: 10, keys: 2 };
        assert!(budget.take(11, true));
        assert!(!budget.take(1, false));
        let mut budget = Budget { bytes: 10, keys: 1 };
        assert!(budget.take(4, false));
        assert!(!budget.take(4, false));
    }
}
