use alloc::vec::Vec;
use core::mem;

/// Above this many entries an empty slab gives its memory back.
const KEEP_MAX: usize = 1_024;

/// The end of a list of free entries.
const NONE: u32 = u32::MAX;

/// Values under small reusable keys: O(1) to insert, find and remove, one allocation for all.
///
/// A key says nothing about which value was there before; whoever may come late compares a number inside the value.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: u32,
    len: usize,
}

#[derive(Clone, Debug)]
enum Entry<T> {
    Free { next: u32 },
    Full(T),
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: NONE, len: 0 }
    }
}

impl<T> Slab<T> {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The caller has checked a limit that fits 32 bits.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(entry) = self.entries.get_mut(self.free as usize)
            && let Entry::Free { next } = *entry
        {
            *entry = Entry::Full(value);
            return mem::replace(&mut self.free, next);
        }
        let key = u32::try_from(self.entries.len()).expect("limits are 32-bit numbers");
        self.entries.push(Entry::Full(value));
        key
    }

    pub(crate) fn get(&self, key: u32) -> Option<&T> {
        match self.entries.get(key as usize) {
            Some(Entry::Full(value)) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        match self.entries.get_mut(key as usize) {
            Some(Entry::Full(value)) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, key: u32) -> Option<T> {
        let entry = self.entries.get_mut(key as usize)?;
        if matches!(entry, Entry::Free { .. }) {
            return None;
        }
        let Entry::Full(value) = mem::replace(entry, Entry::Free { next: self.free }) else { return None };
        self.free = key;
        self.len -= 1;
        if self.len == 0 && self.entries.capacity() > KEEP_MAX {
            *self = Self::default();
        }
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.entries).filter_map(|(key, entry)| match entry {
            Entry::Full(value) => Some((key, value)),
            Entry::Free { .. } => None,
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        (0..).zip(&mut self.entries).filter_map(|(key, entry)| match entry {
            Entry::Full(value) => Some((key, value)),
            Entry::Free { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_key_is_used_again_and_a_second_removal_finds_nothing() {
        let mut slab = Slab::default();
        let a = slab.insert('a');
        let b = slab.insert('b');
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.insert('c'), a);
        assert_eq!(slab.iter().map(|(_, value)| *value).collect::<Vec<_>>(), ['c', 'b']);
        assert_eq!((slab.get(b), slab.len()), (Some(&'b'), 2));
    }

    #[test]
    fn an_empty_slab_that_was_large_gives_its_memory_back() {
        let mut slab = Slab::default();
        let keys: Vec<_> = (0..2 * KEEP_MAX).map(|value| slab.insert(value)).collect();
        for key in keys {
            slab.remove(key);
        }
        assert_eq!((slab.entries.capacity(), slab.is_empty()), (0, true));
        assert_eq!(slab.insert(7), 0);
    }
}
