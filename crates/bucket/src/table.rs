use core::hash::BuildHasher;
use core::num::NonZeroU32;
use std::collections::BTreeMap;

use cuttlebone_checkpoint::{Item, Op, Seqno};
use cuttlebone_machine::Instant;
use foldhash::quality::RandomState;
use hashbrown::HashTable;

use crate::engine::RowAt;

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

const _: () = assert!(size_of::<Entry>() <= 56, "a million keys are a million of these");

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

/// Every key of a vbucket. Entries change only through it, so that its sums stay right.
///
/// An entry's key is read through its item, so it is stored once.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: HashTable<Entry>,
    /// Seeded at random: clients choose the keys.
    hasher: RandomState,
    sums: Sums,
    /// The keys that have a time to live, by when it is over.
    due: BTreeMap<(u32, Seqno), Box<[u8]>>,
}

impl Table {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.find(self.hasher.hash_one(key), |entry| entry.key() == key)
    }

    /// Changes an entry in place.
    pub(crate) fn update<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let entry = self.entries.find_mut(self.hasher.hash_one(key), |entry| entry.key() == key)?;
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
        let hash = self.hasher.hash_one(item.key());
        let (due, now_due) = match self.entries.find_mut(hash, |entry| entry.key() == item.key()) {
            Some(entry) => {
                let due = entry.due();
                self.sums.remove(Sums::of(entry));
                *entry = Entry::new(item.clone(), entry.disk);
                self.sums.add(Sums::of(entry));
                (due, entry.due())
            }
            None => (None, self.insert_new(hash, Entry::new(item.clone(), None))),
        };
        if due != now_due {
            reschedule(&mut self.due, item.key(), due, now_due);
        }
    }

    fn insert_new(&mut self, hash: u64, entry: Entry) -> Option<(u32, Seqno)> {
        let due = entry.due();
        self.sums.add(Sums::of(&entry));
        let hasher = &self.hasher;
        self.entries.insert_unique(hash, entry, |entry| hasher.hash_one(entry.key()));
        due
    }

    /// Puts an entry in place of its key's.
    pub(crate) fn insert(&mut self, entry: Entry) {
        let key = entry.item.clone();
        self.remove(key.key());
        let due = self.insert_new(self.hasher.hash_one(key.key()), entry);
        reschedule(&mut self.due, key.key(), None, due);
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let found = self.entries.find_entry(self.hasher.hash_one(key), |entry| entry.key() == key);
        let (old, _) = found.ok()?.remove();
        self.sums.remove(Sums::of(&old));
        reschedule(&mut self.due, key, old.due(), None);
        Some(old)
    }

    /// The key whose time was over first, if that is before `unix`.
    pub(crate) fn overdue(&self, unix: u32) -> Option<&[u8]> {
        let ((expiry, _), key) = self.due.first_key_value()?;
        (*expiry < unix).then_some(key)
    }

    /// Gives up clean values until at most `goal` bytes are in memory.
    pub(crate) fn evict_to(&mut self, goal: usize) {
        for entry in &mut self.entries {
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

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.entries.iter().map(|entry| (entry.key(), entry))
    }

    pub(crate) const fn sums(&self) -> Sums {
        self.sums
    }

    /// Adds everything up again.
    pub(crate) fn recount(&self) -> Result<(), String> {
        let mut sums = Sums::default();
        self.entries.iter().for_each(|entry| sums.add(Sums::of(entry)));
        if sums != self.sums {
            return Err(format!("sums are {sums:?}, not {:?}", self.sums));
        }
        let timed = self.entries.iter().filter(|entry| entry.due().is_some()).count();
        let right = self.due.iter().all(|(due, key)| self.get(key).is_some_and(|at| at.due() == Some(*due)));
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
