use alloc::vec;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use core::mem::replace;

use foldhash::fast::FixedState;

use crate::slots::{Moved, Place};

/// Entries of the smallest table that is not empty.
const TABLE_LEN_MIN: usize = 16;
/// One entry in so many stays free, so that a search ends soon.
const FREE_PART: usize = 5;

/// Where the live element of each key is, in the open checkpoint only.
///
/// An entry is a hash and a place: the key itself is read through the place, so it is stored once. The hash saves
/// both the look at keys that differ and hashing again when the table grows.
///
/// A search goes from where the hash says to the next free entry: that is one line of the cache, where a table that has its
/// tags apart needs two. No entry is ever removed alone, which keeps this simple.
#[derive(Debug)]
pub(crate) struct KeyIndex {
    /// None, or a power of two of them.
    table: Vec<Entry>,
    len: usize,
    hasher: FixedState,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    hash: u32,
    place: Option<Place>,
}

const _: () = assert!(size_of::<Entry>() == 8, "eight entries share a line of the cache");

impl KeyIndex {
    /// An empty index. The seed keeps clients from choosing keys that collide.
    pub(crate) fn new(seed: u64) -> Self {
        Self { table: Vec::new(), len: 0, hasher: FixedState::with_seed(seed) }
    }

    fn hash(&self, key: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        let hash = hasher.finish();
        // Both halves take part: which bits are best differs between hashers.
        u32::try_from((hash ^ (hash >> 32)) & 0xffff_ffff).unwrap_or_default()
    }

    /// Where the search for a hash begins.
    fn home(&self, hash: u32) -> usize {
        let spread = u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The highest bits of the product are its best; as many as number the table.
        let bits = self.table.len().trailing_zeros();
        usize::try_from(spread.checked_shr(u64::BITS - bits).unwrap_or_default()).unwrap_or_default()
    }

    /// The entry of a key, or the free one that ends the search for it. The table must have a free one.
    fn search(&self, hash: u32, is_key: impl Fn(Place) -> bool) -> usize {
        let mask = self.table.len() - 1;
        let mut at = self.home(hash);
        while let Some(Entry { hash: here, place: Some(place) }) = self.table.get(at)
            && !(*here == hash && is_key(*place))
        {
            at = (at + 1) & mask;
        }
        at
    }

    /// Points `key` to `place`, and tells where it pointed before.
    pub(crate) fn put(&mut self, key: &[u8], place: Place, is_key: impl Fn(Place) -> bool) -> Option<Place> {
        if self.len >= capacity(self.table.len()) {
            self.rebuild((self.table.len() * 2).max(TABLE_LEN_MIN), |_| true);
        }
        let hash = self.hash(key);
        let at = self.search(hash, is_key);
        let old = replace(self.table.get_mut(at)?, Entry { hash, place: Some(place) });
        self.len += usize::from(old.place.is_none());
        old.place
    }

    /// Where `key` points, if anywhere.
    pub(crate) fn find(&self, key: &[u8], is_key: impl Fn(Place) -> bool) -> Option<Place> {
        if self.table.is_empty() {
            return None;
        }
        self.table.get(self.search(self.hash(key), is_key))?.place
    }

    /// Follows the places to where they went.
    pub(crate) fn follow(&mut self, moved: &Moved) {
        for place in self.table.iter_mut().filter_map(|entry| entry.place.as_mut()) {
            *place = moved.to(*place);
        }
    }

    /// Forgets the keys whose element was before `place`.
    pub(crate) fn forget_before(&mut self, place: Place) {
        self.rebuild(self.table.len(), |at| at >= place);
    }

    /// Forgets everything, and gives memory back if it has more than four times what `expected` keys need.
    pub(crate) fn clear(&mut self, expected: usize) {
        self.len = 0;
        if capacity(self.table.len()) / 4 > expected {
            self.table = Vec::new();
        } else {
            self.table.fill(Entry::default());
        }
    }

    /// Moves the entries that are to be kept into a table of `len`, which has room for them.
    fn rebuild(&mut self, len: usize, keep: impl Fn(Place) -> bool) {
        let old = replace(&mut self.table, vec![Entry::default(); len]);
        self.len = 0;
        for entry in old.into_iter().filter(|entry| entry.place.is_some_and(&keep)) {
            // No two entries are of one key.
            let free = self.search(entry.hash, |_| false);
            if let Some(free) = self.table.get_mut(free) {
                *free = entry;
                self.len += 1;
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> usize {
        self.table.capacity() * size_of::<Entry>()
    }
}

/// How many keys a table of `len` entries takes.
const fn capacity(len: usize) -> usize {
    len - len.div_ceil(FREE_PART)
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

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
        assert_eq!(index.bytes(), 0, "no memory is kept for nothing");
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
