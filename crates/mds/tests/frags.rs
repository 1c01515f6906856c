//! Fragments of directories: that they divide the hashes among them, whatever a server says about them.

use bytes::Bytes;
use cuttlebone_mds::{Frag, FragTree};
use cuttlebone_wire::{Decode, Encode, Features, Reader, Writer};
use proptest::prelude::*;

const HASHES: u32 = 1 << 24;

fn frag(value: u32, bits: u32) -> Frag {
    Frag::new(value, bits)
}

#[test]
fn fragments_are_written_as_ceph_writes_them() {
    let check = |frag: Frag, raw, text: &str| assert_eq!((frag.0, frag.to_string()), (raw, text.into()));
    check(Frag::WHOLE, 0, "*");
    check(frag(0, 1), 0x0100_0000, "0*");
    check(frag(0x80_0000, 1), 0x0180_0000, "1*");
    check(frag(0xff_ffff, 3), 0x03e0_0000, "111*");
    check(frag(0x12_3456, 24), 0x1812_3456, "000100100011010001010110*");
}

#[test]
fn the_next_fragment_begins_where_this_one_ends() {
    assert_eq!(Frag::WHOLE.next(), None);
    assert!(Frag::WHOLE.is_rightmost());
    assert_eq!(frag(0, 1).next(), Some(frag(0x80_0000, 1)));
    assert_eq!(frag(0x80_0000, 1).next(), None);
    assert_eq!(frag(HASHES - 1, 24).next(), None);
    assert_eq!(frag(5, 24).next(), Some(frag(6, 24)));
}

#[test]
fn a_tree_is_walked_down_to_the_undivided_fragment() {
    let mut tree = FragTree::new();
    assert_eq!(tree.leaf(0x12_3456), Frag::WHOLE);
    tree.split(Frag::WHOLE, 3);
    assert_eq!(tree.leaf(0x12_3456), frag(0, 3));
    tree.split(frag(0x40_0000, 3), 1);
    assert_eq!(tree.leaf(0x4f_ffff), frag(0x40_0000, 4));
    assert_eq!(tree.leaf(0x50_0000), frag(0x50_0000, 4));
    let leaves: Vec<_> = tree.leaves().map(|leaf| leaf.to_string()).collect();
    assert_eq!(leaves, ["000*", "001*", "0100*", "0101*", "011*", "100*", "101*", "110*", "111*"]);
}

#[test]
fn hashes_of_more_than_24_bits_count_by_the_lower_ones() {
    let mut tree = FragTree::new();
    tree.split(Frag::WHOLE, 1);
    assert_eq!(tree.leaf(0xff00_0000), frag(0, 1));
    assert!(frag(0, 1).contains(0xff7f_ffff));
}

/// A tree of splits as a server could send them, sense or no sense.
fn any_tree() -> impl Strategy<Value = FragTree> {
    let frag = (0..26_u32, any::<u32>()).prop_map(|(bits, value)| bits << 24 | value >> 8);
    prop::collection::btree_map(frag, -3..27_i32, 0..40).prop_map(|splits| {
        let mut w = Writer::new(Features::all_known());
        w.list(splits, |w, (frag, by)| {
            w.u32(frag);
            w.i32(by);
        });
        let bytes = w.into_bytes();
        FragTree::decode(&mut Reader::new(&bytes)).expect("splits, each once")
    })
}

/// A tree that makes sense: the undivided fragments of these hashes were divided.
fn sound_tree() -> impl Strategy<Value = FragTree> {
    prop::collection::vec((any::<u32>(), 1..5_u32), 0..40).prop_map(|splits| {
        let mut tree = FragTree::new();
        for (hash, by) in splits {
            let leaf = tree.leaf(hash);
            tree.split(leaf, by);
        }
        tree
    })
}

proptest! {
    #[test]
    fn children_divide_their_parent(value in 0..HASHES, bits in 0..24_u32, by in 1..6_u32, hash in 0..HASHES) {
        let parent = frag(value, bits);
        let children: Vec<_> = (0..1 << by).filter_map(|index| parent.child(by, index)).collect();
        prop_assert_eq!(children.len(), if bits + by <= 24 { 1 << by } else { 0 });
        let holders = children.iter().filter(|child| child.contains(hash)).count();
        prop_assert_eq!(holders, usize::from(!children.is_empty() && parent.contains(hash)));
        for (child, behind) in children.iter().zip(children.iter().skip(1)) {
            prop_assert_eq!(child.next(), Some(*behind));
        }
        for child in children {
            prop_assert!(parent.covers(child));
            prop_assert_eq!((0..by).try_fold(child, |frag, _| frag.parent()), Some(parent));
        }
    }

    #[test]
    fn the_fragment_of_a_hash_contains_it(tree in any_tree(), hash in any::<u32>()) {
        prop_assert!(tree.leaf(hash).contains(hash));
    }

    #[test]
    fn leaves_divide_the_hashes(tree in sound_tree()) {
        let mut next = 0;
        for leaf in tree.leaves() {
            prop_assert_eq!(leaf.value(), next);
            next += 1 << (24 - leaf.bits());
        }
        prop_assert_eq!(next, HASHES);
    }

    #[test]
    fn a_tree_comes_back(tree in any_tree()) {
        let bytes: Bytes = tree.to_bytes(Features::all_known());
        let mut r = Reader::new(&bytes);
        prop_assert_eq!(FragTree::decode(&mut r), Ok(tree));
        prop_assert!(r.is_empty());
    }
}
