use core::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as TableEntry;

use crate::slots::{Moved, Place};

/// Where the live element of each key is, in the open checkpoint only.
///
/// An entry is a hash and a place: the key itself is read through the place, so it is stored once. The hash saves
/// both the look at keys that differ and hashing again when the table grows.
#[derive(Debug)]
pub(crate) struct KeyIndex {
    table: HashTable<Entry>,
    hasher: FixedState,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    place: Place,
}

/// Spreads a 32-bit hash over the bits that the table looks at: the lowest and the seven highest.
const fn spread(hash: u32) -> u64 {
    (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl KeyIndex {
    /// An empty index. The seed keeps clients from choosing keys that collide.
    pub(crate) fn new(seed: u64) -> Self {
        Self { table: HashTable::new(), hasher: FixedState::with_seed(seed) }
    }

    fn hash(&self, key: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        let hash = hasher.finish();
        // Both halves take part: which bits are best differs between hashers.
        u32::try_from((hash ^ (hash >> 32)) & 0xffff_ffff).unwrap_or_default()
    }

    /// Points `key` to `place`, and tells where it pointed before.
    pub(crate) fn put(&mut self, key: &[u8], place: Place, is_key: impl Fn(Place) -> bool) -> Option<Place> {
        let hash = self.hash(key);
        let eq = |entry: &Entry| entry.hash == hash && is_key(entry.place);
        match self.table.entry(spread(hash), eq, |entry| spread(entry.hash)) {
            TableEntry::Occupied(mut entry) => Some(core::mem::replace(&mut entry.get_mut().place, place)),
            TableEntry::Vacant(entry) => {
                entry.insert(Entry { hash, place });
                None
            }
        }
    }

    /// Where `key` points, if anywhere.
    pub(crate) fn find(&self, key: &[u8], is_key: impl Fn(Place) -> bool) -> Option<Place> {
        let hash = self.hash(key);
        self.table
            .find(spread(hash), |entry| entry.hash == hash && is_key(entry.place))
            .map(|entry| entry.place)
    }

    /// Follows the places to where they went.
    pub(crate) fn follow(&mut self, moved: &Moved) {
        for entry in &mut self.table {
            entry.place = moved.to(entry.place);
        }
    }

    /// Forgets the keys whose element was before `place`.
    pub(crate) fn forget_before(&mut self, place: Place) {
        self.table.retain(|entry| entry.place >= place);
    }

    /// Forgets everything, and gives memory back if it has more than twice what `expected` keys need.
    pub(crate) fn clear(&mut self, expected: usize) {
        self.table.clear();
        if self.table.capacity() / 2 > expected {
            self.table.shrink_to(expected, |entry| spread(entry.hash));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.table.allocation_size()
    }
}
