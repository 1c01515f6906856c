use alloc::vec::Vec;
use core::fmt;
use core::ops::{BitAnd, BitOr};

use bytes::Bytes;

use crate::{Decode, DecodeError, DecodeErrorKind, Encode, Reader, Writer};

/// The feature bits that two peers announce to each other; the intersection governs what either may send.
///
/// Bits are reused over the years in *incarnations*: a feature of the second counts only together with bit 57, one
/// of the third only with bits 57 and 28. [`contains`](Self::contains) on the constants here tests all of them,
/// since each constant carries its incarnation's bits. Unknown bits are kept.
///
/// Source: `ceph/ceph:src/include/ceph_features.h`; values seen in 16.2.15.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "sixty-four bits, all of them meaningful to somebody")]
pub struct Features(pub u64);

/// Marks features of the second incarnation.
const INCARNATION_2: u64 = 1 << 57;
/// Marks features of the third incarnation.
const INCARNATION_3: u64 = INCARNATION_2 | 1 << 28;

impl Features {
    /// Subscriptions carry a start epoch and flags.
    pub const SUBSCRIBE2: Self = Self(1 << 4);
    /// Monitor maps carry names.
    pub const MON_NAMES: Self = Self(1 << 5);
    /// Monitor maps are versioned structures.
    pub const MON_ENC: Self = Self(1 << 15);
    /// Messenger v1 signs messages.
    pub const MSG_AUTH: Self = Self(1 << 23);
    /// Keepalives carry a stamp and are answered.
    pub const KEEPALIVE2: Self = Self(1 << 42);
    /// Subscriptions need no renewal, and there is no MMonSubscribeAck.
    pub const MON_STATEFUL_SUB: Self = Self(1 << 57);
    /// File layouts have a version, and a namespace.
    pub const FILE_LAYOUT2: Self = Self(1 << 58);
    /// Requests and inodes have times of birth; the same bit as [`ADDR2`](Self::ADDR2).
    pub const BTIME: Self = Self(1 << 59);
    /// Addresses have a type and a length; mandatory on messenger v2.
    pub const ADDR2: Self = Self(1 << 59);
    /// The peer is of Luminous or later.
    pub const SERVER_LUMINOUS: Self = Self(1 << 21 | INCARNATION_2);
    /// The peer is of Nautilus or later: monitor maps hold several addresses for each monitor.
    pub const SERVER_NAUTILUS: Self = Self(1 << 2 | INCARNATION_3);
    /// The peer is of Octopus or later.
    pub const SERVER_OCTOPUS: Self = Self(1 << 16 | INCARNATION_3);
    /// The peer is of Pacific or later.
    pub const SERVER_PACIFIC: Self = Self(1 << 20 | INCARNATION_3);

    /// What every 16.2.15 daemon and tool announces, and so do we: monitors compute what they require from their
    /// OSD map at run time, so anything less would be refused by some cluster.
    pub const PACIFIC: Self = Self(0x3f01_cfbd_fffd_ffff);

    /// No feature at all.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Every bit, for writing and reading the newest form that we know of everything.
    pub const fn all_known() -> Self {
        Self(u64::MAX)
    }

    /// Whether all bits of `other` are here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of `other` that are missing here.
    #[must_use]
    pub const fn missing(self, other: Self) -> Self {
        Self(other.0 & !self.0)
    }

    /// Takes `other` out; the bits that mark its incarnation stay, since other features need them.
    pub const fn remove(&mut self, other: Self) {
        let own = other.0 & !INCARNATION_3;
        self.0 &= !(if own == 0 { other.0 } else { own });
    }

    /// Whether no bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitAnd for Features {
    type Output = Self;

    fn bitand(self, rhs: Self) -> Self {
        Self(self.0 & rhs.0)
    }
}

impl BitOr for Features {
    type Output = Self;

    fn bitor(self, rhs: Self) -> Self {
        Self(self.0 | rhs.0)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Features {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A bit set of any length, as metadata servers exchange it: a byte length, then blocks of 64 bits.
///
/// Source: `ceph/ceph:src/mds/mdstypes.h`, `feature_bitset_t`; corpus objects of 16.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureSet {
    blocks: Vec<u64>,
    /// Bytes behind the last whole block, which Ceph reads into one more block.
    tail: Bytes,
}

/// Longest set that we accept, in bytes: 8,192 features.
const FEATURE_SET_BYTES_MAX: usize = 1024;

impl FeatureSet {
    /// The set of these bit numbers.
    pub fn from_bits(bits: impl IntoIterator<Item = u16>) -> Self {
        let mut blocks = Vec::new();
        for bit in bits {
            let block = usize::from(bit / 64);
            if blocks.len() <= block {
                blocks.resize(block.saturating_add(1), 0);
            }
            if let Some(word) = blocks.get_mut(block) {
                *word |= 1 << (bit % 64);
            }
        }
        Self { blocks, tail: Bytes::new() }
    }

    /// Whether this bit is set.
    pub fn contains(&self, bit: u16) -> bool {
        let word = self.blocks.get(usize::from(bit / 64));
        word.is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// The numbers of the bits that are set, ascending.
    pub fn bits(&self) -> impl Iterator<Item = u16> + '_ {
        let last = u16::try_from(self.blocks.len().saturating_mul(64)).unwrap_or(u16::MAX);
        (0..last).filter(|bit| self.contains(*bit))
    }
}

impl Decode for FeatureSet {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = r.len("feature set", FEATURE_SET_BYTES_MAX)?;
        r.within(len, "feature set", |r| {
            let mut blocks = Vec::new();
            while r.remaining() >= 8 {
                blocks.push(r.u64("block")?);
            }
            if r.remaining() % 4 != 0 {
                return Err(r.error("feature set", DecodeErrorKind::Invalid("not a whole number of words")));
            }
            let tail = r.bytes(r.remaining(), "tail")?;
            Ok(Self { blocks, tail })
        })
    }
}

impl Encode for FeatureSet {
    fn encode(&self, w: &mut Writer) {
        w.sized(|w| {
            for block in &self.blocks {
                w.u64(*block);
            }
            w.raw(&self.tail);
        });
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for FeatureSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_counts_only_with_the_bits_of_its_incarnation() {
        assert!(Features::PACIFIC.contains(Features::SERVER_PACIFIC));
        let mut older = Features::PACIFIC;
        older.0 &= !(1 << 28);
        assert!(!older.contains(Features::SERVER_NAUTILUS));
        assert!(older.contains(Features::SERVER_LUMINOUS));
    }

    #[test]
    fn removing_a_feature_leaves_its_incarnation_to_the_others() {
        let mut features = Features::PACIFIC;
        features.remove(Features::SERVER_NAUTILUS);
        assert!(!features.contains(Features::SERVER_NAUTILUS));
        assert!(features.contains(Features::SERVER_PACIFIC));
        features.remove(Features::MON_STATEFUL_SUB);
        assert!(!features.contains(Features::SERVER_PACIFIC));
    }

    #[test]
    fn a_feature_set_lists_its_bits() {
        let set = FeatureSet::from_bits([0, 9, 70]);
        assert_eq!(set.bits().collect::<Vec<_>>(), [0, 9, 70]);
        assert!(!set.contains(1000));
    }
}
