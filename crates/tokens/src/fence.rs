use core::fmt;
use core::str::FromStr;

use crate::{Epoch, Seq};

/// What a resource is shown: which name, which incarnation, which token.
///
/// The encoding is 24 bytes, big-endian, so that fences of one name compare as bytes; as text it is 48 hexadecimal
/// digits. The name is carried as a checksum. That tells a mix-up of resources; it is no secret and no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    tag: u64,
    epoch: Epoch,
    seq: Seq,
}

/// The bytes or digits are not a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FenceError {
    /// A fence has 24 bytes, or 48 digits as text.
    #[error("a fence has {expected} of them, not {got}")]
    Length {
        /// How many there should be.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// A character that is no hexadecimal digit.
    #[error("not a hexadecimal digit at {at}")]
    Digit {
        /// Its place, counted from 0.
        at: usize,
    },
}

impl Fence {
    /// How many bytes a fence takes.
    pub const BYTES: usize = 24;

    /// The fence of the token `seq`, granted to `epoch` of `name`.
    pub fn new(name: &str, epoch: Epoch, seq: Seq) -> Self {
        Self { tag: tag(name), epoch, seq }
    }

    /// The incarnation.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The token.
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// Whether it was made for `name`, as far as a checksum can tell.
    pub fn is_of(&self, name: &str) -> bool {
        self.tag == tag(name)
    }

    #[cfg(feature = "std")]
    pub(crate) const fn is_tagged(&self, tag: u64) -> bool {
        self.tag == tag
    }

    /// The 24 bytes.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (hole, part) in bytes.chunks_exact_mut(8).zip([self.tag, self.epoch.0, self.seq.0]) {
            hole.copy_from_slice(&part.to_be_bytes());
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    ///
    /// [`FenceError::Length`] if there are not exactly 24 bytes. Every 24 bytes are a fence.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FenceError> {
        let length = FenceError::Length { expected: Self::BYTES, got: bytes.len() };
        let (tag, rest) = bytes.split_first_chunk::<8>().ok_or(length)?;
        let (epoch, seq) = rest.split_first_chunk::<8>().ok_or(length)?;
        let seq = <[u8; 8]>::try_from(seq).map_err(|_| length)?;
        Ok(Self {
            tag: u64::from_be_bytes(*tag),
            epoch: Epoch(u64::from_be_bytes(*epoch)),
            seq: Seq(u64::from_be_bytes(seq)),
        })
    }
}

/// FNV-1a, 64 bits (Fowler, Noll and Vo): short, the same everywhere, and no promise against forgery.
pub(crate) fn tag(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}{:016x}", self.tag, self.epoch.0, self.seq.0)
    }
}

impl FromStr for Fence {
    type Err = FenceError;

    fn from_str(text: &str) -> Result<Self, FenceError> {
        let digits = text.as_bytes();
        if digits.len() != 2 * Self::BYTES {
            return Err(FenceError::Length { expected: 2 * Self::BYTES, got: digits.len() });
        }
        let mut bytes = [0u8; Self::BYTES];
        for (at, digit) in digits.iter().enumerate() {
            let value = char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
            let value = value.ok_or(FenceError::Digit { at })?;
            if let Some(byte) = bytes.get_mut(at / 2) {
                *byte = (*byte << 4) | value;
            }
        }
        Self::from_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn the_encoding_is_stable() {
        let fence = Fence::new("backup", Epoch(7), Seq(42));
        let text = "8f75c61dfd19093f0000000000000007000000000000002a";
        assert_eq!(fence.to_string(), text);
        assert_eq!(text.parse(), Ok(fence));
        assert_eq!(Fence::from_bytes(&fence.to_bytes()), Ok(fence));
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(tag(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(tag("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(tag("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn fences_of_one_name_compare_as_their_bytes_do() {
        let older = Fence::new("backup", Epoch(7), Seq(900));
        let newer = Fence::new("backup", Epoch(8), Seq(3));
        assert!(older < newer && older.to_bytes() < newer.to_bytes());
    }

    #[test]
    fn what_is_not_a_fence_is_an_error_with_a_place() {
        assert_eq!(Fence::from_bytes(&[0; 23]), Err(FenceError::Length { expected: 24, got: 23 }));
        assert_eq!(Fence::from_bytes(&[0; 25]), Err(FenceError::Length { expected: 24, got: 25 }));
        assert_eq!("".parse::<Fence>(), Err(FenceError::Length { expected: 48, got: 0 }));
        let text = "8f75c61dfd19093f000000000000000700000000000000z0";
        assert_eq!(text.parse::<Fence>(), Err(FenceError::Digit { at: 46 }));
        assert!("é".repeat(24).parse::<Fence>().is_err());
    }
}
