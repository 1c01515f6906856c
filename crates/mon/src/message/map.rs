use bytes::Bytes;
use cuttlebone_wire::{
    Decode, DecodeError, DecodeErrorKind, Encode, Features, Message, MessageType, Priority, Reader, Writer,
};

use super::Body;
use crate::MonMap;

/// Asks for the monitor map; the answer is a [`Map`] and carries no tid.
///
/// Source: `ceph/ceph:src/messages/MMonGetMap.h`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "there is nothing in it")]
pub struct GetMap {}

impl Body for GetMap {
    const KIND: MessageType = MessageType(5);
    const NAME: &'static str = "MMonGetMap";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;

    fn decode_front(_r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        Ok(Self {})
    }

    fn encode_front(&self, _w: &mut Writer, _version: u16) {}
}

/// A monitor map as bytes that are known to decode to one with at least one monitor.
///
/// Monitors compare maps byte by byte, so a map that is passed on stays as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedMonMap(Bytes);

impl EncodedMonMap {
    /// Checks `bytes`, such as the value of a `monmap:<epoch>` key in a monitor's store.
    ///
    /// # Errors
    ///
    /// If they are not a monitor map, or one without monitors.
    pub fn new(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(&bytes);
        let map = MonMap::decode(&mut r)?;
        if map.mons.is_empty() {
            return Err(r.error("MonMap", DecodeErrorKind::Invalid("has no monitors")));
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The map.
    pub fn decode(&self) -> MonMap {
        // It has been decoded before; an empty map stands for what cannot happen.
        MonMap::decode(&mut Reader::new(&self.0)).unwrap_or_default()
    }

    /// The bytes for a peer with `features`: the same, unless the peer cannot read them.
    ///
    /// Source: `ceph/ceph:src/messages/MMonMap.h` and `MMonProbe.h`, `encode_payload`.
    pub(super) fn bytes_for(&self, features: Features) -> Bytes {
        reencoded_for(&self.0, features)
    }
}

/// The bytes of a map for a peer with `features`; what is empty or no map at all stays as it is.
pub(super) fn reencoded_for(bytes: &Bytes, features: Features) -> Bytes {
    if bytes.is_empty() || features.contains(Features::MON_ENC | Features::ADDR2) {
        return bytes.clone();
    }
    match MonMap::decode(&mut Reader::new(bytes)) {
        Ok(map) => map.to_bytes(features),
        Err(_) => bytes.clone(),
    }
}

impl TryFrom<&MonMap> for EncodedMonMap {
    type Error = DecodeError;

    fn try_from(map: &MonMap) -> Result<Self, DecodeError> {
        Self::new(map.to_bytes(Features::PACIFIC))
    }
}

/// A monitor map, asked for or subscribed to.
///
/// Source: `ceph/ceph:src/messages/MMonMap.h`; seen in 16.2.15, corpus objects of 11.2.0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the message has one field")]
pub struct Map {
    /// The map.
    pub map: EncodedMonMap,
}

/// Longest encoded map that we accept, in bytes; a monitor takes about a hundred.
pub(super) const MAP_BYTES_MAX: usize = 1024 * 1024;

impl Body for Map {
    const KIND: MessageType = MessageType(4);
    const NAME: &'static str = "MMonMap";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: Priority = Priority::HIGH;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        decode_map(r).map(|map| Self { map })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        w.blob(&self.map.bytes_for(w.features()));
    }
}

/// A blob with a map in it. An error's place is counted from the start of the message.
pub(super) fn decode_map(r: &mut Reader<'_>) -> Result<EncodedMonMap, DecodeError> {
    let len = r.len("monmap", MAP_BYTES_MAX)?;
    let start = r.position();
    let bytes = r.bytes(len, "monmap")?;
    EncodedMonMap::new(bytes)
        .map_err(|error| DecodeError::new(start.saturating_add(error.at), error.field, error.kind))
}

#[cfg(feature = "serde")]
mod json {
    use super::{EncodedMonMap, Map};
    use serde::ser::{Serialize, SerializeStruct, Serializer};

    impl Serialize for EncodedMonMap {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.decode().serialize(serializer)
        }
    }

    impl Serialize for Map {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut object = serializer.serialize_struct("Map", 1)?;
            object.serialize_field("monmap", &self.map)?;
            object.end()
        }
    }
}
