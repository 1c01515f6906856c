use core::fmt;
use core::str::FromStr;

use crate::{Decode, DecodeError, Encode, Reader, Writer};

/// A cluster's identity (fsid): sixteen bytes in the order in which they are written as text.
///
/// Source: `ceph/ceph:src/include/uuid.h`, `uuid_d`; seen in 16.2.15.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a uuid is its bytes")]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// All zero, which stands for "not known yet".
    pub const NIL: Self = Self([0; 16]);

    /// Whether every byte is zero.
    pub fn is_nil(&self) -> bool {
        *self == Self::NIL
    }
}

impl Decode for Uuid {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array("uuid").map(Self)
    }
}

impl Encode for Uuid {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.0);
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not a uuid; it has to be 32 hexadecimal digits, grouped by dashes or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a uuid is 32 hexadecimal digits, as in a0a0a0a0-0000-4000-8000-000000000001")]
#[non_exhaustive]
pub struct ParseUuidError;

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, ParseUuidError> {
        let mut digits = text.chars().filter(|c| *c != '-').map(|c| c.to_digit(16));
        let mut bytes = [0; 16];
        for byte in &mut bytes {
            let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else {
                return Err(ParseUuidError);
            };
            *byte = u8::try_from((high << 4) | low).map_err(|_| ParseUuidError)?;
        }
        if digits.next().is_some() { Err(ParseUuidError) } else { Ok(Self(bytes)) }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Uuid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn text_and_bytes_agree() {
        let text = "a0a0a0a0-0000-4000-8000-000000000001";
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.0[..5], [0xa0, 0xa0, 0xa0, 0xa0, 0]);
        assert_eq!(uuid.to_string(), text);
        assert_eq!("a0".parse::<Uuid>(), Err(ParseUuidError));
        assert_eq!(alloc::format!("{text}0").parse::<Uuid>(), Err(ParseUuidError));
    }
}
