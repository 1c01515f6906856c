use std::collections::{BTreeMap, HashMap};

use cuttlebone_checkpoint::{Item, Op, Seqno};
use cuttlebone_machine::Instant;

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
    pub(crate) row: u64,
    pub(crate) seqno: Seqno,
}

/// A key as it is now.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) meta: Meta,
    /// The value, unless it was given up or the key is deleted. Shares its bytes with the log.
    pub(crate) value: Option<Item>,
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
    pub(crate) fn new(item: &Item, disk: Option<Disk>) -> Self {
        let meta = Meta::of(item);
        Self { meta, value: meta.live.then(|| item.clone()), disk, hold: None }
    }

    /// The stamp that a client has to show.
    pub(crate) fn cas(&self) -> u64 {
        self.hold.as_ref().map_or(self.meta.cas, |hold| hold.cas)
    }

    /// When the key is out of time: a second on the wall clock, and its place among those of the same second.
    fn due(&self) -> Option<(u32, Seqno)> {
        (self.meta.live && self.meta.expiry != 0).then_some((self.meta.expiry, self.meta.seqno))
    }

    /// Whether the disk has exactly this.
    pub(crate) fn is_clean(&self) -> bool {
        self.disk.is_some_and(|disk| disk.seqno == self.meta.seqno)
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
    /// Keys with a row.
    pub(crate) on_disk: usize,
}

impl Sums {
    fn of(entry: &Entry) -> Self {
        Self {
            live: usize::from(entry.meta.live),
            evicted: usize::from(entry.meta.live && entry.value.is_none()),
            resident_bytes: entry.value.as_ref().map_or(0, Item::body_bytes),
            on_disk: usize::from(entry.disk.is_some()),
        }
    }

    fn add(&mut self, other: Self) {
        self.live += other.live;
        self.evicted += other.evicted;
        self.resident_bytes += other.resident_bytes;
        self.on_disk += other.on_disk;
    }

    fn remove(&mut self, other: Self) {
        self.live -= other.live;
        self.evicted -= other.evicted;
        self.resident_bytes -= other.resident_bytes;
        self.on_disk -= other.on_disk;
    }
}

/// Every key of a vbucket. Entries change only through it, so that its sums stay right.
#[derive(Debug, Default)]
pub(crate) struct Table {
    // The standard hasher: clients choose the keys.
    entries: HashMap<Box<[u8]>, Entry>,
    sums: Sums,
    /// The keys that have a time to live, by when it is over.
    due: BTreeMap<(u32, Seqno), Box<[u8]>>,
}

impl Table {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Changes an entry in place.
    pub(crate) fn update<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let entry = self.entries.get_mut(key)?;
        let (sums, due) = (Sums::of(entry), entry.due());
        let answer = change(entry);
        self.sums.remove(sums);
        self.sums.add(Sums::of(entry));
        if due != entry.due() {
            reschedule(&mut self.due, key, due, entry.due());
        }
        Some(answer)
    }

    /// Puts what `item` says into its key's entry, and keeps what the disk has.
    pub(crate) fn put(&mut self, item: &Item) {
        let known = self.update(item.key(), |entry| *entry = Entry::new(item, entry.disk));
        if known.is_none() {
            self.insert(item.key(), Entry::new(item, None));
        }
    }

    pub(crate) fn insert(&mut self, key: &[u8], entry: Entry) {
        let (sums, due) = (Sums::of(&entry), entry.due());
        let old = self.entries.insert(key.into(), entry);
        self.sums.add(sums);
        reschedule(&mut self.due, key, old.as_ref().and_then(Entry::due), due);
        if let Some(old) = old {
            self.sums.remove(Sums::of(&old));
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let old = self.entries.remove(key)?;
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
    #[expect(clippy::iter_over_hash_type, reason = "which values go does not matter")]
    pub(crate) fn evict_to(&mut self, goal: usize) {
        for entry in self.entries.values_mut() {
            if self.sums.resident_bytes <= goal {
                return;
            }
            if entry.is_clean() && entry.value.is_some() {
                self.sums.remove(Sums::of(entry));
                entry.value = None;
                self.sums.add(Sums::of(entry));
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.entries.iter().map(|(key, entry)| (&**key, entry))
    }

    pub(crate) const fn sums(&self) -> Sums {
        self.sums
    }

    /// Adds everything up again.
    pub(crate) fn recount(&self) -> Result<(), String> {
        let mut sums = Sums::default();
        self.entries.values().for_each(|entry| sums.add(Sums::of(entry)));
        if sums != self.sums {
            return Err(format!("sums are {sums:?}, not {:?}", self.sums));
        }
        let timed = self.entries.values().filter(|entry| entry.due().is_some()).count();
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
