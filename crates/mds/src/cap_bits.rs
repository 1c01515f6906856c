use core::fmt;
use core::ops::{BitAnd, BitOr, BitOrAssign, Not};

/// A set of capability bits: `pAsLsXsFscr`.
///
/// `A` is mode and owner, `L` the link count, `X` the extended attributes, `F` size, times and contents. In each
/// group `s` lets the client keep the value, `x` change it before the server knows.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_CAP_*`; seen in 16.2.15.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "thirty-two bits, all of which are kept")]
pub struct CapBits(pub u32);

impl CapBits {
    /// None.
    pub const NONE: Self = Self(0);
    /// The inode exists, and keeps its number and type.
    pub const PIN: Self = Self(1);
    /// Mode and owner may be kept.
    pub const AUTH_SHARED: Self = Self(1 << 2);
    /// Mode and owner may be changed.
    pub const AUTH_EXCL: Self = Self(1 << 3);
    /// The link count may be kept.
    pub const LINK_SHARED: Self = Self(1 << 4);
    /// The link count may be changed.
    pub const LINK_EXCL: Self = Self(1 << 5);
    /// Extended attributes may be kept.
    pub const XATTR_SHARED: Self = Self(1 << 6);
    /// Extended attributes may be changed.
    pub const XATTR_EXCL: Self = Self(1 << 7);
    /// Size and times, or a directory's entries, may be kept.
    pub const FILE_SHARED: Self = Self(1 << 8);
    /// Size and times may be changed; on a directory: nobody else uses it.
    pub const FILE_EXCL: Self = Self(1 << 9);
    /// Reads may be served from a cache; on a directory: files may be created before the server knows.
    pub const FILE_CACHE: Self = Self(1 << 10);
    /// May read; on a directory: files may be removed before the server knows.
    pub const FILE_READ: Self = Self(1 << 11);
    /// May write.
    pub const FILE_WRITE: Self = Self(1 << 12);
    /// Writes may be held back.
    pub const FILE_BUFFER: Self = Self(1 << 13);
    /// May append; in the mask of a request: recursive statistics are wanted.
    pub const FILE_EXTEND: Self = Self(1 << 14);
    /// Others may read and write at the same time.
    pub const FILE_LAZY: Self = Self(1 << 15);

    /// Every shared bit, which is what all attributes of a stat need.
    pub const STAT: Self = Self(
        Self::PIN.0 | Self::AUTH_SHARED.0 | Self::LINK_SHARED.0 | Self::XATTR_SHARED.0 | Self::FILE_SHARED.0,
    );
    /// Every exclusive bit.
    pub const EXCL: Self =
        Self(Self::AUTH_EXCL.0 | Self::LINK_EXCL.0 | Self::XATTR_EXCL.0 | Self::FILE_EXCL.0);
    /// Every bit of the file group.
    pub const FILE: Self = Self(0xff << 8);

    /// Whether all bits of `other` are here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether some bit of `other` is here.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether no bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitAnd for CapBits {
    type Output = Self;

    fn bitand(self, rhs: Self) -> Self {
        Self(self.0 & rhs.0)
    }
}

impl BitOr for CapBits {
    type Output = Self;

    fn bitor(self, rhs: Self) -> Self {
        Self(self.0 | rhs.0)
    }
}

impl BitOrAssign for CapBits {
    fn bitor_assign(&mut self, rhs: Self) {
        self.0 |= rhs.0;
    }
}

impl Not for CapBits {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0)
    }
}

/// The groups behind the pin: letter, first bit, letters of their bits.
const GROUPS: [(char, u8, &str); 4] = [('A', 2, "sx"), ('L', 4, "sx"), ('X', 6, "sx"), ('F', 8, "sxcrwbal")];

impl fmt::Display for CapBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bit = |bit: u8| self.0 >> bit & 1 == 1;
        let mut named = Self::PIN.0;
        if self.contains(Self::PIN) {
            f.write_str("p")?;
        }
        for (group, first, letters) in GROUPS {
            let mut begun = false;
            for (at, letter) in (first..).zip(letters.chars()) {
                named |= 1 << at;
                if bit(at) {
                    if !begun {
                        write!(f, "{group}")?;
                        begun = true;
                    }
                    write!(f, "{letter}")?;
                }
            }
        }
        match self.0 & !named {
            0 if self.is_empty() => f.write_str("-"),
            0 => Ok(()),
            rest => write!(f, "+{rest:#x}"),
        }
    }
}

impl fmt::Debug for CapBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for CapBits {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn bits_are_written_as_ceph_writes_them() {
        let check = |bits, text: &str| assert_eq!(CapBits(bits).to_string(), text);
        check(0, "-");
        check(0x55, "pAsLsXs");
        check(0x155, "pAsLsXsFs");
        check(0x3dd, "pAsxLsXsxFsx");
        check(0x3fdd, "pAsxLsXsxFsxcrwb");
        check(1 << 20, "+0x100000");
    }
}
