use std::collections::VecDeque;

use bytes::Bytes;
use cuttlebone_mds::{DirEntry, DirPage, Frag, Name, NameHash, PageFlags};

use crate::Entry;

/// The part of a name's hash that orders a directory.
///
/// Source: `torvalds/linux:include/linux/ceph/ceph_frag.h`, `ceph_frag_value`.
const HASH_MASK: u32 = 0xff_ffff;

/// How far a listing is: where the next page begins, and the entries that nobody has taken yet.
///
/// A server sorts a fragment by hash and name, and fragments follow each other by hash. So whatever happens to the
/// fragments between two pages, an entry that is not behind the last one has been listed before.
#[derive(Debug)]
pub(crate) struct Paging {
    /// The fragment to ask for.
    pub(crate) frag: Frag,
    /// The name behind which to go on in it.
    pub(crate) after: Option<Name>,
    /// What was listed and not taken.
    pub(crate) entries: VecDeque<Entry>,
    /// Whether there is nothing more to ask for.
    pub(crate) is_done: bool,
    /// Where the last entry stands in the order of the whole directory.
    position: Option<(u32, Bytes)>,
}

impl Paging {
    pub(crate) const fn new() -> Self {
        let entries = VecDeque::new();
        Self { frag: Frag::WHOLE, after: None, entries, is_done: false, position: None }
    }

    /// Takes a page in, of a directory with this hash.
    ///
    /// # Errors
    ///
    /// What about it would lead nowhere, or go on for ever.
    pub(crate) fn take(&mut self, page: DirPage, hash: NameHash) -> Result<(), &'static str> {
        let DirPage { frag, flags, entries } = page;
        let is_ordered = flags.contains(PageFlags::HASH_ORDER);
        let position_of = |name: &Bytes| (hash.of(name) & HASH_MASK, name.clone());
        let last = entries.last().map(|entry| position_of(&entry.name));
        for DirEntry { name, inode, .. } in entries {
            let position = position_of(&name);
            if is_ordered && self.position.as_ref() >= Some(&position) {
                continue;
            }
            self.position = Some(position);
            self.entries.push_back(Entry { name, metadata: inode.into() });
        }
        if flags.contains(PageFlags::END) {
            let Some(next) = frag.frag.next() else {
                self.is_done = true;
                return Ok(());
            };
            if next.value() <= self.frag.value() {
                return Err("fragments go back");
            }
            (self.frag, self.after) = (next, None);
            return Ok(());
        }
        // A page may hold only what was listed before the directory was divided; but it has to be a page further.
        let last = last.ok_or("a page leads nowhere")?;
        let after = self.after.as_ref().map(|name| position_of(name.as_bytes()));
        if after.is_some_and(|after| after == last || is_ordered && after > last) {
            return Err("a page leads nowhere");
        }
        self.after = Some(Name::new(last.1).map_err(|_| "an entry has no name")?);
        self.frag = frag.frag;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cuttlebone_mds::{DirStat, FragTree};

    use super::*;

    const HASH: NameHash = NameHash::RJENKINS;

    /// A directory that answers as a server does, in whatever fragments it has at the moment.
    struct Dir {
        names: Vec<(u32, Bytes)>,
        tree: FragTree,
    }

    impl Dir {
        fn new(count: u32) -> Self {
            let name = |i| Bytes::from(format!("name{i}"));
            let mut names: Vec<_> =
                (0..count).map(name).map(|name| (HASH.of(&name) & HASH_MASK, name)).collect();
            names.sort();
            Self { names, tree: FragTree::new() }
        }

        fn page(&self, asked: &Paging, entries_max: usize) -> DirPage {
            let frag = self.tree.leaf(asked.frag.value());
            let after = asked
                .after
                .as_ref()
                .map(|name| (HASH.of(name.as_bytes()) & HASH_MASK, name.as_bytes().clone()));
            let inside =
                self.names.iter().filter(|name| frag.contains(name.0) && after.as_ref() < Some(*name));
            let all: Vec<_> = inside.cloned().collect();
            let mut flags = PageFlags::HASH_ORDER.0;
            if all.len() <= entries_max {
                flags |= PageFlags::END.0;
            }
            let entry = |(_, name)| DirEntry { name, ..DirEntry::default() };
            DirPage {
                frag: DirStat { frag, ..DirStat::default() },
                flags: PageFlags(flags),
                entries: all.into_iter().take(entries_max).map(entry).collect(),
            }
        }

        /// Lists everything; `between` may change the fragments before each page.
        fn list(&mut self, entries_max: usize, mut between: impl FnMut(usize, &mut FragTree)) -> Vec<Bytes> {
            let (mut paging, mut pages) = (Paging::new(), 0);
            while !paging.is_done {
                between(pages, &mut self.tree);
                let page = self.page(&paging, entries_max);
                paging.take(page, HASH).expect("an honest server");
                pages += 1;
                assert!(pages < 1_000, "a listing ends");
            }
            paging.entries.into_iter().map(|entry| entry.name).collect()
        }

        fn check(&mut self, entries_max: usize, between: impl FnMut(usize, &mut FragTree)) {
            let listed = self.list(entries_max, between);
            let expected: BTreeSet<_> = self.names.iter().map(|(_, name)| name.clone()).collect();
            assert_eq!(listed.len(), expected.len());
            assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }

    #[test]
    fn every_entry_comes_once_at_any_page_size() {
        for entries_max in [1, 7, 100, 1_000] {
            Dir::new(100).check(entries_max, |_, _| {});
        }
    }

    #[test]
    fn a_directory_that_is_split_and_merged_between_pages_is_listed_once() {
        let quarters = |tree: &mut FragTree| tree.split(Frag::WHOLE, 2);
        for at in 0..20 {
            Dir::new(200).check(10, |page, tree| {
                if page == at {
                    quarters(tree);
                }
            });
            let mut dir = Dir::new(200);
            quarters(&mut dir.tree);
            dir.check(10, |page, tree| {
                if page == at {
                    *tree = FragTree::new();
                }
            });
        }
    }

    #[test]
    fn a_server_that_would_keep_us_listing_for_ever_is_found_out() {
        let page = |flags: PageFlags, frag: Frag, names: &[&'static str]| DirPage {
            frag: DirStat { frag, ..DirStat::default() },
            flags: PageFlags(flags.0 | PageFlags::HASH_ORDER.0),
            entries: names
                .iter()
                .map(|name| DirEntry { name: Bytes::from_static(name.as_bytes()), ..DirEntry::default() })
                .collect(),
        };
        let mut paging = Paging::new();
        assert_eq!(paging.take(page(PageFlags::default(), Frag::WHOLE, &["a"]), HASH), Ok(()));
        assert!(
            paging.take(page(PageFlags::default(), Frag::WHOLE, &["a"]), HASH).is_err(),
            "the same again"
        );
        assert!(paging.take(page(PageFlags::default(), Frag::WHOLE, &[]), HASH).is_err(), "nothing");
        let mut paging = Paging::new();
        paging.frag = Frag::new(0x80_0000, 1);
        let back = page(PageFlags::END, Frag::new(0, 1), &[]);
        assert!(paging.take(back, HASH).is_err(), "back to the first half");
    }
}
