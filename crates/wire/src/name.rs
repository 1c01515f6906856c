use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use crate::{Decode, DecodeError, Encode, Reader, Writer};

/// What kind of entity somebody is. Unknown kinds are kept.
///
/// Source: `ceph/ceph:src/include/msgr.h`, `CEPH_ENTITY_TYPE_*`; seen in 16.2.15.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct EntityType(pub u32);

impl EntityType {
    /// A monitor.
    pub const MON: Self = Self(0x01);
    /// A metadata server.
    pub const MDS: Self = Self(0x02);
    /// An object storage daemon.
    pub const OSD: Self = Self(0x04);
    /// A client.
    pub const CLIENT: Self = Self(0x08);
    /// A manager.
    pub const MGR: Self = Self(0x10);
    /// The authentication service, in tickets only.
    pub const AUTH: Self = Self(0x20);

    const NAMES: [(Self, &'static str); 6] = [
        (Self::MON, "mon"),
        (Self::MDS, "mds"),
        (Self::OSD, "osd"),
        (Self::CLIENT, "client"),
        (Self::MGR, "mgr"),
        (Self::AUTH, "auth"),
    ];
}

impl fmt::Display for EntityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(kind, _)| kind == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "type{:#x}", self.0),
        }
    }
}

impl fmt::Debug for EntityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not an entity's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entity name is a type, a dot and an id, as in client.admin or mon.a")]
#[non_exhaustive]
pub struct ParseNameError;

impl FromStr for EntityType {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        Self::NAMES.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind).ok_or(ParseNameError)
    }
}

/// An entity as authentication names it: `client.admin`, `mon.a`.
///
/// Source: `ceph/ceph:src/common/entity_name.h`, `EntityName`; seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "the wire has these two fields and no version to add a third")]
pub struct EntityName {
    /// What it is.
    pub kind: EntityType,
    /// Which one.
    pub id: String,
}

/// Longest id that we accept, in bytes.
const ID_BYTES_MAX: usize = 4096;

impl EntityName {
    /// The entity `kind.id`.
    pub fn new(kind: EntityType, id: impl Into<String>) -> Self {
        Self { kind, id: id.into() }
    }
}

impl Decode for EntityName {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { kind: EntityType(r.u32("entity type")?), id: r.text("entity id", ID_BYTES_MAX)? })
    }
}

impl Encode for EntityName {
    fn encode(&self, w: &mut Writer) {
        w.u32(self.kind.0);
        w.text(&self.id);
    }
}

impl fmt::Display for EntityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind, self.id)
    }
}

impl FromStr for EntityName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let (kind, id) = text.split_once('.').ok_or(ParseNameError)?;
        Ok(Self { kind: kind.parse()?, id: id.into() })
    }
}

/// An entity as maps and messages number it: `mon.0`, `client.4107`.
///
/// Source: `ceph/ceph:src/msg/msg_types.h`, `entity_name_t`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "the wire has these two fields and no version to add a third")]
pub struct EntityNum {
    /// What it is. On the wire this takes one byte here.
    pub kind: u8,
    /// Rank, id or global id; -1 while there is none.
    pub num: i64,
}

impl EntityNum {
    /// The entity of `kind` numbered `num`; kinds above 255 have no such number and become 0.
    pub fn new(kind: EntityType, num: i64) -> Self {
        Self { kind: u8::try_from(kind.0).unwrap_or(0), num }
    }

    /// What it is.
    pub fn entity_type(self) -> EntityType {
        EntityType(self.kind.into())
    }
}

impl Decode for EntityNum {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { kind: r.u8("entity type")?, num: r.i64("entity number")? })
    }
}

impl Encode for EntityNum {
    fn encode(&self, w: &mut Writer) {
        w.u8(self.kind);
        w.i64(self.num);
    }
}

impl fmt::Display for EntityNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.num < 0 {
            write!(f, "{}.?", self.entity_type())
        } else {
            write!(f, "{}.{}", self.entity_type(), self.num)
        }
    }
}

#[cfg(feature = "serde")]
mod json {
    use super::{EntityName, EntityNum, EntityType};
    use serde::ser::{Serialize, SerializeStruct, Serializer};

    impl Serialize for EntityType {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    impl Serialize for EntityName {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    impl Serialize for EntityNum {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut object = serializer.serialize_struct("EntityNum", 2)?;
            object.serialize_field("type", &self.entity_type())?;
            object.serialize_field("num", &self.num)?;
            object.end()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Features;
    use alloc::string::ToString;

    #[test]
    fn names_read_as_they_are_written() {
        let name: EntityName = "client.admin".parse().unwrap();
        assert_eq!(name, EntityName::new(EntityType::CLIENT, "admin"));
        assert_eq!(name.to_string(), "client.admin");
        assert_eq!("mon.".parse(), Ok(EntityName::new(EntityType::MON, "")));
        assert_eq!("admin".parse::<EntityName>(), Err(ParseNameError));
        assert_eq!(EntityNum::new(EntityType::CLIENT, -1).to_string(), "client.?");
    }

    #[test]
    fn a_name_takes_the_bytes_that_a_monitor_sends() {
        let name = EntityName::new(EntityType::MON, "a");
        assert_eq!(&name.to_bytes(Features::PACIFIC)[..], b"\x01\0\0\0\x01\0\0\0a");
    }
}
