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

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use super::*;
    use crate::slots::{Slot, Slots};
    use crate::{Item, Op};

    /// Keys in places, as in a checkpoint.
    #[derive(Default)]
    struct Bench {
        slots: Slots,
        expected: BTreeMap<Vec<u8>, Place>,
    }

    impl Bench {
        fn is_key(&self, key: &[u8]) -> impl Fn(Place) -> bool {
            move |at| matches!(self.slots.get(at), Some(Slot::Item(item)) if item.key() == key)
        }

        fn put(&mut self, index: &mut KeyIndex, key: &[u8]) {
            let place = self.slots.reserve();
            let old = index.put(key, place, self.is_key(key));
            self.slots.push(Slot::Item(Item::new(Op::Set, key, b"").unwrap()));
            assert_eq!(old, self.expected.insert(key.to_vec(), place));
        }

        fn agrees(&self, index: &KeyIndex) {
            assert_eq!(index.len(), self.expected.len());
            for (key, place) in &self.expected {
                assert_eq!(index.find(key, self.is_key(key)), Some(*place));
            }
            assert_eq!(index.find(b"never", self.is_key(b"never")), None);
        }
    }

    #[test]
    fn finds_every_key_while_it_grows_forgets_and_begins_again() {
        let (mut index, mut bench) = (KeyIndex::new(7), Bench::default());
        bench.agrees(&index);
        for number in 0..3000_u32 {
            bench.put(&mut index, &(number % 1000).to_le_bytes());
            if number % 500 == 499 {
                let old = bench.expected.values().copied().min().map(|oldest| oldest.next().next());
                bench.expected.retain(|_, place| Some(*place) >= old);
                index.forget_before(old.unwrap());
            }
            if number % 100 == 0 {
                bench.agrees(&index);
            }
        }
        let before = index.bytes();
        index.clear(1000);
        assert_eq!((index.len(), index.bytes()), (0, before), "as many are expected again");
        bench.expected.clear();
        bench.put(&mut index, b"one");
        bench.agrees(&index);
        index.clear(1);
        assert!(index.bytes() < before / 10, "no memory is kept for nothing");
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        let (mut index, mut bench) = (KeyIndex::new(7), Bench::default());
        // 200,000 keys have some four pairs of the same 32 bits, as is to be expected of 2^32.
        let mut hashes = BTreeMap::new();
        let mut pairs = 0;
        for number in 0..200_000_u32 {
            if let Some(twin) = hashes.insert(index.hash(&number.to_le_bytes()), number) {
                let (one, two) = (u32::to_le_bytes(twin), number.to_le_bytes());
                for key in [one, two, one, two] {
                    bench.put(&mut index, &key);
                }
                pairs += 1;
            }
        }
        assert!(pairs > 0);
        bench.agrees(&index);
    }
}
