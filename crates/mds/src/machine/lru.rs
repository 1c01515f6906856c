use alloc::collections::BTreeMap;

/// Keys in the order of their last use. The owner of a key keeps its [`Place`], so that no key is looked up.
#[derive(Clone, Debug)]
pub(super) struct Lru<K> {
    order: BTreeMap<u64, K>,
    last: u64,
}

/// Where a key stands in an [`Lru`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u64);

impl<K> Default for Lru<K> {
    fn default() -> Self {
        Self { order: BTreeMap::new(), last: 0 }
    }
}

impl<K> Lru<K> {
    /// Puts a key at the end, as the most recently used.
    pub(super) fn insert(&mut self, key: K) -> Place {
        // 2^64 uses take longer than any process lives.
        self.last = self.last.wrapping_add(1);
        self.order.insert(self.last, key);
        Place(self.last)
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, place: Place) -> Option<K> {
        self.order.remove(&place.0)
    }

    /// Moves a key to the end.
    pub(super) fn touch(&mut self, place: Place) -> Place {
        if place.0 == self.last {
            return place;
        }
        match self.order.remove(&place.0) {
            Some(key) => self.insert(key),
            None => place,
        }
    }

    /// The least recently used.
    pub(super) fn oldest(&self) -> Option<&K> {
        self.order.first_key_value().map(|(_, key)| key)
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_what_was_not_used_for_longest() {
        let mut lru = Lru::default();
        let a = lru.insert('a');
        let b = lru.insert('b');
        let a = lru.touch(a);
        assert_eq!(lru.oldest(), Some(&'b'));
        assert_eq!(lru.remove(b), Some('b'));
        assert_eq!(lru.oldest(), Some(&'a'));
        assert_eq!(lru.remove(a), Some('a'));
        assert_eq!((lru.len(), lru.remove(a)), (0, None));
    }
}
