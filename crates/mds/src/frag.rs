use alloc::collections::BTreeMap;
use core::fmt;

use cuttlebone_wire::{Decode, DecodeError, DecodeErrorKind, Encode, Reader, Writer};

use crate::Ino;

/// A part of a directory: all names whose hash begins with certain bits. `*` is the whole, `0*` one half.
///
/// A number of bits in the top eight, the bits themselves left-aligned in the other twenty-four.
///
/// Source: `ceph/ceph:src/include/frag.h`, `frag_t`; `torvalds/linux:include/linux/ceph/ceph_frag.h`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct Frag(pub u32);

/// Bits that a fragment's value has room for.
const FRAG_BITS_MAX: u32 = 24;
const VALUE_MASK: u32 = (1 << FRAG_BITS_MAX) - 1;

impl Frag {
    /// The whole directory.
    pub const WHOLE: Self = Self(0);

    /// The fragment of `bits` bits that begins at `value`; what is beyond 24 bits, or not part of the prefix, is cut.
    pub const fn new(value: u32, bits: u32) -> Self {
        let bits = if bits > FRAG_BITS_MAX { FRAG_BITS_MAX } else { bits };
        Self(bits << FRAG_BITS_MAX | value & prefix_mask(bits))
    }

    /// How many bits of the hash it fixes; from the wire this may be more than there are, which is taken as all.
    pub const fn bits(self) -> u32 {
        let bits = self.0 >> FRAG_BITS_MAX;
        if bits > FRAG_BITS_MAX { FRAG_BITS_MAX } else { bits }
    }

    /// The lowest hash in it.
    pub const fn value(self) -> u32 {
        self.0 & VALUE_MASK
    }

    /// Whether a name with this hash is in it; only the low 24 bits count.
    pub const fn contains(self, hash: u32) -> bool {
        hash & prefix_mask(self.bits()) == self.value() & prefix_mask(self.bits())
    }

    /// Whether all of `other` is in it.
    pub const fn covers(self, other: Self) -> bool {
        other.bits() >= self.bits() && self.contains(other.value())
    }

    /// The `index`th of the 2^`by` parts that it can be split into; none if it cannot be split so finely.
    pub const fn child(self, by: u32, index: u32) -> Option<Self> {
        let bits = self.bits().saturating_add(by);
        if bits > FRAG_BITS_MAX || by >= u32::BITS || index >> by != 0 {
            return None;
        }
        // At most 24 bits wide, since `index` has `by` bits.
        Some(Self::new(self.value() | index << (FRAG_BITS_MAX.saturating_sub(bits)), bits))
    }

    /// The fragment that it is a half of; none for the whole.
    pub const fn parent(self) -> Option<Self> {
        match self.bits().checked_sub(1) {
            Some(bits) => Some(Self::new(self.value(), bits)),
            None => None,
        }
    }

    /// The fragment of the same size behind it; none behind the last.
    pub const fn next(self) -> Option<Self> {
        let width = 1 << (FRAG_BITS_MAX.saturating_sub(self.bits()));
        let value = (self.value() & prefix_mask(self.bits())).saturating_add(width);
        if value > VALUE_MASK { None } else { Some(Self::new(value, self.bits())) }
    }

    /// Whether no hash is above it.
    pub const fn is_rightmost(self) -> bool {
        self.next().is_none()
    }
}

/// The top `bits` of 24.
const fn prefix_mask(bits: u32) -> u32 {
    match bits {
        0 => 0,
        bits => VALUE_MASK & VALUE_MASK.wrapping_shl(FRAG_BITS_MAX.saturating_sub(bits)),
    }
}

impl fmt::Display for Frag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for bit in (0..FRAG_BITS_MAX).rev().take(usize::try_from(self.bits()).unwrap_or_default()) {
            f.write_str(if self.0 >> bit & 1 == 1 { "1" } else { "0" })?;
        }
        f.write_str("*")
    }
}

impl fmt::Debug for Frag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Decode for Frag {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.u32("frag").map(Self)
    }
}

impl Encode for Frag {
    fn encode(&self, w: &mut Writer) {
        w.u32(self.0);
    }
}

/// One fragment of one directory.
///
/// Source: `ceph/ceph:src/mds/mdstypes.h`, `dirfrag_t`; corpus objects of 11.2.0 and 16.2.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "the wire has these two fields and no version to add a third")]
pub struct DirFrag {
    /// The directory.
    pub ino: Ino,
    /// The part of it.
    pub frag: Frag,
}

impl Decode for DirFrag {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { ino: Ino(r.u64("ino")?), frag: Frag::decode(r)? })
    }
}

impl Encode for DirFrag {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.ino.0);
        self.frag.encode(w);
    }
}

/// How a directory is divided: which fragments are split, and into how many parts, as a power of two.
///
/// Source: `ceph/ceph:src/include/frag.h`, `fragtree_t`; corpus objects of 11.2.0 and 16.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FragTree {
    splits: BTreeMap<Frag, i32>,
}

/// Most splits that we accept: every one of the finest fragments could be reached through fewer.
const SPLITS_MAX: usize = 1 << 20;

impl FragTree {
    /// The undivided directory.
    pub const fn new() -> Self {
        Self { splits: BTreeMap::new() }
    }

    /// Divides `frag` into 2^`by` parts; nothing happens if it cannot be divided so finely.
    pub fn split(&mut self, frag: Frag, by: u32) {
        if by > 0 && frag.child(by, 0).is_some() {
            self.splits.insert(frag, i32::try_from(by).unwrap_or_default());
        }
    }

    /// The fragments that are divided, each with the power of two of its parts.
    pub fn splits(&self) -> impl ExactSizeIterator<Item = (Frag, i32)> + '_ {
        self.splits.iter().map(|(frag, by)| (*frag, *by))
    }

    /// The undivided fragment that a name with this hash is in.
    pub fn leaf(&self, hash: u32) -> Frag {
        let mut frag = Frag::WHOLE;
        // Every step adds bits, of which there are 24.
        while let Some(child) = self.child_with(frag, hash) {
            frag = child;
        }
        frag
    }

    /// The part of `frag` that holds `hash`, if it is divided in a way that has a meaning.
    fn child_with(&self, frag: Frag, hash: u32) -> Option<Frag> {
        let by = u32::try_from(*self.splits.get(&frag)?).ok().filter(|by| *by > 0)?;
        let bits = frag.bits().checked_add(by).filter(|bits| *bits <= FRAG_BITS_MAX)?;
        Some(Frag::new(hash & VALUE_MASK, bits))
    }

    /// Every undivided fragment, in the order of their hashes.
    pub fn leaves(&self) -> impl Iterator<Item = Frag> + '_ {
        let mut next = Some(self.leaf(0));
        core::iter::from_fn(move || {
            let frag = next?;
            next = frag.next().map(|behind| self.leaf(behind.value()));
            Some(frag)
        })
    }
}

impl Decode for FragTree {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = r.count("splits", SPLITS_MAX, 8)?;
        let mut splits = BTreeMap::new();
        for _ in 0..count {
            let frag = Frag::decode(r)?;
            if splits.insert(frag, r.i32("split bits")?).is_some() {
                return Err(r.error("splits", DecodeErrorKind::Invalid("a fragment is split twice")));
            }
        }
        Ok(Self { splits })
    }
}

impl Encode for FragTree {
    fn encode(&self, w: &mut Writer) {
        w.list(&self.splits, |w, (frag, by)| {
            frag.encode(w);
            w.i32(*by);
        });
    }
}

#[cfg(feature = "serde")]
mod json {
    use super::{Frag, FragTree};
    use alloc::vec::Vec;
    use serde::ser::{Serialize, SerializeStruct, Serializer};

    impl Serialize for Frag {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut object = serializer.serialize_struct("frag_t", 2)?;
            object.serialize_field("value", &self.value())?;
            object.serialize_field("bits", &(self.0 >> super::FRAG_BITS_MAX))?;
            object.end()
        }
    }

    #[derive(serde::Serialize)]
    struct Split {
        frag: alloc::string::String,
        children: i32,
    }

    impl Serialize for FragTree {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let split = |(frag, children)| Split { frag: alloc::format!("{frag}"), children };
            let mut object = serializer.serialize_struct("fragtree_t", 1)?;
            object.serialize_field("splits", &self.splits().map(split).collect::<Vec<_>>())?;
            object.end()
        }
    }
}
