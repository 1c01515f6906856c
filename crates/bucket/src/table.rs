use core::fmt;
use core::hash::BuildHasher;
use core::num::NonZeroU32;
use std::collections::BTreeMap;

use cuttlebone_checkpoint::{Item, Op, Seqno};
use cuttlebone_machine::Instant;
use foldhash::quality::RandomState;
use hashbrown::HashTable;

use crate::engine::RowAt;
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// What is known of a key without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Whether the key has a value; else it is a remembered deletion.
    pub(crate) live: bool,
    pub(crate) seqno: Seqno,
    pub(crate) cas: u64,
    pub(crate) revision: u64,
    pub(crate) flags: u32,
    pub(crate) expiry: u32,
}

impl Meta {
    pub(crate) fn of(item: &Item) -> Self {
        Self {
            live: item.op() == Op::Set,
            seqno: item.seqno(),
            cas: item.cas(),
            revision: item.revision(),
            flags: item.flags(),
            expiry: item.expiry(),
        }
    }
}

/// The newest row of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) seqno: Seqno,
    address: u64,
    /// No row is empty, which makes "none" cost nothing.
    bytes: NonZeroU32,
}

impl Disk {
    pub(crate) const fn new(row: RowAt, seqno: Seqno) -> Self {
        let bytes = match NonZeroU32::new(row.bytes) {
            Some(bytes) => bytes,
            None => NonZeroU32::MIN,
        };
        Self { seqno, address: row.address, bytes }
    }

    pub(crate) const fn row(self) -> RowAt {
        RowAt { address: self.address, bytes: self.bytes.get() }
    }
}

const _: () = assert!(size_of::<Entry>() <= 48, "a million keys are a million of these");

/// A key as it is now.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its newest mutation, whose bytes the log shares; without the value if that was given up.
    item: Item,
    has_value: bool,
    /// What is on the disk; also while hot reload holds something newer back.
    pub(crate) disk: Option<Disk>,
    /// Who holds the key, or held it last. Few keys ever are, so the rest pay for a pointer only.
    pub(crate) hold: Option<Box<Hold>>,
}

/// Somebody's right to be the only one who changes a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) until: Instant,
    /// The stamp that came with it. It stays the key's when the time is over; the disk has never seen it.
    pub(crate) cas: u64,
}

impl Entry {
    pub(crate) fn new(item: Item, disk: Option<Disk>) -> Self {
        let has_value = item.op() == Op::Set;
        Self { item, has_value, disk, hold: None }
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.item.key()
    }

    pub(crate) fn meta(&self) -> Meta {
        Meta::of(&self.item)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.item.op() == Op::Set
    }

    pub(crate) fn seqno(&self) -> Seqno {
        self.item.seqno()
    }

    /// The mutation with its value, unless the key is deleted or its value is on the disk only.
    pub(crate) fn value(&self) -> Option<&Item> {
        self.has_value.then_some(&self.item)
    }

    /// The value came from the disk.
    pub(crate) fn give(&mut self, item: Item) {
        if item.seqno() == self.seqno() && self.is_live() {
            (self.item, self.has_value) = (item, true);
        }
    }

    /// Keeps all but the value.
    pub(crate) fn give_up_value(&mut self) {
        let meta = self.meta();
        self.restore(meta);
    }

    /// The key is what `meta` says, and its value is on the disk only.
    pub(crate) fn restore(&mut self, meta: Meta) {
        let op = if meta.live { Op::Set } else { Op::Delete };
        // A key that was an item's is one's again.
        if let Ok(item) = Item::new(op, self.item.key(), &[]) {
            let item = item.with_seqno(meta.seqno).with_cas(meta.cas).with_revision(meta.revision);
            self.item = item.with_flags(meta.flags).with_expiry(meta.expiry);
            self.has_value = false;
        }
    }

    /// The stamp that a client has to show.
    pub(crate) fn cas(&self) -> u64 {
        self.hold.as_ref().map_or_else(|| self.item.cas(), |hold| hold.cas)
    }

    /// When the key is out of time: a second on the wall clock, and its place among those of the same second.
    fn due(&self) -> Option<(u32, Seqno)> {
        let expiry = self.item.expiry();
        (expiry != 0 && self.is_live()).then_some((expiry, self.seqno()))
    }

    /// Whether the disk has exactly this.
    pub(crate) fn is_clean(&self) -> bool {
        self.disk.is_some_and(|disk| disk.seqno == self.seqno())
    }
}

/// What the entries of a table add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Keys with a value.
    pub(crate) live: usize,
    /// Those of them whose value is on the disk only.
    pub(crate) evicted: usize,
    /// Bytes of values in memory.
    pub(crate) resident_bytes: usize,
    /// Bytes of the keys' rows.
    pub(crate) disk_bytes: u64,
}

impl Sums {
    fn of(entry: &Entry) -> Self {
        Self {
            live: usize::from(entry.is_live()),
            evicted: usize::from(entry.is_live() && !entry.has_value),
            resident_bytes: entry.value().map_or(0, Item::body_bytes),
            disk_bytes: entry.disk.map_or(0, |disk| disk.row().span()),
        }
    }

    fn add(&mut self, other: Self) {
        self.live += other.live;
        self.evicted += other.evicted;
        self.resident_bytes += other.resident_bytes;
        self.disk_bytes += other.disk_bytes;
    }

    fn remove(&mut self, other: Self) {
        self.live -= other.live;
        self.evicted -= other.evicted;
        self.resident_bytes -= other.resident_bytes;
        self.disk_bytes -= other.disk_bytes;
    }
}

/// Parts of a table. A reader and a writer meet at one key in so many, and a part that grows holds up its readers only for
/// as long as it takes to move a few thousand entries.
const PARTS: usize = 64;

/// The entries of a table, in parts with a lock each.
///
/// Whoever changes one holds the vbucket's lock, too. Whoever only wants a value does without that.
pub(crate) struct Parts {
    list: Vec<Mutex<HashTable<Entry>>>,
    /// Seeded at random: clients choose the keys.
    hasher: RandomState,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl Default for Parts {
    fn default() -> Self {
        let list = (0..PARTS).map(|_| Mutex::new(HashTable::new())).collect();
        Self { list, hasher: RandomState::default() }
    }
}

impl Parts {
    fn of(&self, hash: u64) -> MutexGuard<'_, HashTable<Entry>> {
        // The table looks at the lowest bits and the seven highest.
        let number = usize::try_from(hash >> 40).unwrap_or_default() % PARTS;
        lock(&self.list[number])
    }

    fn look<R>(&self, key: &[u8], look: impl FnOnce(&Entry) -> R) -> Option<R> {
        let hash = self.hasher.hash_one(key);
        self.of(hash).find(hash, |entry| entry.key() == key).map(look)
    }

    /// The value of a key and its stamp, if both are here, its time is not over, and nobody has held it.
    pub(crate) fn value(&self, key: &[u8], unix: u32) -> Option<(Item, u64)> {
        let is_plain = |entry: &Entry| {
            let expiry = entry.item.expiry();
            entry.has_value && entry.hold.is_none() && (expiry == 0 || expiry >= unix)
        };
        self.look(key, |entry| is_plain(entry).then(|| (entry.item.clone(), entry.item.cas())))?
    }
}

/// Every key of a vbucket. Entries change only through it, so that its sums stay right.
///
/// An entry's key is read through its item, so it is stored once.
#[derive(Debug, Default)]
pub(crate) struct Table {
    parts: Arc<Parts>,
    sums: Sums,
    /// The keys that have a time to live, by when it is over.
    due: BTreeMap<(u32, Seqno), Box<[u8]>>,
}

impl Table {
    /// The entries, for readers.
    pub(crate) fn parts(&self) -> Arc<Parts> {
        Arc::clone(&self.parts)
    }

    /// Looks at an entry.
    pub(crate) fn look<R>(&self, key: &[u8], look: impl FnOnce(&Entry) -> R) -> Option<R> {
        self.parts.look(key, look)
    }

    /// Changes an entry in place.
    pub(crate) fn update<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let hash = self.parts.hasher.hash_one(key);
        let mut part = self.parts.of(hash);
        let entry = part.find_mut(hash, |entry| entry.key() == key)?;
        let (sums, due) = (Sums::of(entry), entry.due());
        let answer = change(entry);
        self.sums.remove(sums);
        self.sums.add(Sums::of(entry));
        let now_due = entry.due();
        if due != now_due {
            reschedule(&mut self.due, key, due, now_due);
        }
        Some(answer)
    }

    /// Puts what `item` says into its key's entry, and keeps what the disk has.
    pub(crate) fn put(&mut self, item: &Item) {
        let hash = self.parts.hasher.hash_one(item.key());
        let mut part = self.parts.of(hash);
        let found = part.find_mut(hash, |entry| entry.key() == item.key());
        let Some(entry) = found else {
            drop(part);
            let due = self.insert_new(hash, Entry::new(item.clone(), None));
            return reschedule(&mut self.due, item.key(), None, due);
        };
        let old = core::mem::replace(entry, Entry::new(item.clone(), entry.disk));
        self.sums.remove(Sums::of(&old));
        self.sums.add(Sums::of(entry));
        let (due, now_due) = (old.due(), entry.due());
        // What it frees is freed without the part's lock.
        drop(part);
        drop(old);
        if due != now_due {
            reschedule(&mut self.due, item.key(), due, now_due);
        }
    }

    fn insert_new(&mut self, hash: u64, entry: Entry) -> Option<(u32, Seqno)> {
        let due = entry.due();
        self.sums.add(Sums::of(&entry));
        let hasher = &self.parts.hasher;
        self.parts.of(hash).insert_unique(hash, entry, |entry| hasher.hash_one(entry.key()));
        due
    }

    /// Puts an entry in place of its key's.
    pub(crate) fn insert(&mut self, entry: Entry) {
        let key = entry.item.clone();
        self.remove(key.key());
        let due = self.insert_new(self.parts.hasher.hash_one(key.key()), entry);
        reschedule(&mut self.due, key.key(), None, due);
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let hash = self.parts.hasher.hash_one(key);
        let mut part = self.parts.of(hash);
        let (old, _) = part.find_entry(hash, |entry| entry.key() == key).ok()?.remove();
        drop(part);
        self.sums.remove(Sums::of(&old));
        reschedule(&mut self.due, key, old.due(), None);
        Some(old)
    }

    /// Removes every key.
    pub(crate) fn clear(&mut self) {
        for part in &self.parts.list {
            let old = core::mem::take(&mut *lock(part));
            drop(old);
        }
        self.sums = Sums::default();
        self.due.clear();
    }

    /// The key whose time was over first, if that is before `unix`.
    pub(crate) fn overdue(&self, unix: u32) -> Option<&[u8]> {
        let ((expiry, _), key) = self.due.first_key_value()?;
        (*expiry < unix).then_some(key)
    }

    /// Gives up clean values until at most `goal` bytes are in memory.
    pub(crate) fn evict_to(&mut self, goal: usize) {
        for part in &self.parts.list {
            for entry in &mut *lock(part) {
                if self.sums.resident_bytes <= goal {
                    return;
                }
                if entry.is_clean() && entry.has_value {
                    self.sums.remove(Sums::of(entry));
                    entry.give_up_value();
                    self.sums.add(Sums::of(entry));
                }
            }
        }
    }

    /// Looks at every entry, in no order.
    pub(crate) fn for_each(&self, mut look: impl FnMut(&Entry)) {
        for part in &self.parts.list {
            lock(part).iter().for_each(&mut look);
        }
    }

    pub(crate) const fn sums(&self) -> Sums {
        self.sums
    }

    /// Adds everything up again.
    pub(crate) fn recount(&self) -> Result<(), String> {
        let (mut sums, mut timed) = (Sums::default(), 0);
        self.for_each(|entry| {
            sums.add(Sums::of(entry));
            timed += usize::from(entry.due().is_some());
        });
        if sums != self.sums {
            return Err(format!("sums are {sums:?}, not {:?}", self.sums));
        }
        let right = self.due.iter().all(|(due, key)| self.look(key, Entry::due) == Some(Some(*due)));
        if timed != self.due.len() || !right {
            return Err(format!("{timed} keys have a time to live, and {} are scheduled", self.due.len()));
        }
        Ok(())
    }
}

fn reschedule(
    due: &mut BTreeMap<(u32, Seqno), Box<[u8]>>,
    key: &[u8],
    from: Option<(u32, Seqno)>,
    to: Option<(u32, Seqno)>,
) {
    if let Some(from) = from {
        due.remove(&from);
    }
    if let Some(to) = to {
        due.insert(to, key.into());
    }
}
