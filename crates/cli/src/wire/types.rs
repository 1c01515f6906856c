use bytes::Bytes;
use cuttlebone_wire::{
    Decode, DecodeError, Encode, EntityAddr, EntityAddrs, EntityInst, EntityName, EntityNum, FeatureSet,
    Features, Op, Reader, Transaction,
};
use serde::Serialize;
use serde_json::{Value, json};

/// A type that can be decoded and encoded.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Type {
    /// Its name in C++.
    pub name: &'static str,
    /// What it is, for people.
    pub what: &'static str,
    codec: fn(&Bytes, Option<Features>) -> Result<Decoded, DecodeError>,
}

/// An object in all its forms.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Decoded {
    /// Its fields.
    pub value: Value,
    /// The features whose form it was read in, or was asked for in.
    pub features: Features,
    /// Its bytes, written again.
    pub encoded: Bytes,
    /// How many bytes were read.
    pub read_bytes: usize,
}

/// Every type, sorted.
pub const TYPES: &[Type] = &[
    structure::<EntityName>("EntityName", "an entity as authentication names it"),
    structure::<Op>("MonitorDBStore::Op", "one operation on a monitor's store"),
    structure::<Transaction>("MonitorDBStore::Transaction", "operations on a monitor's store"),
    structure::<EntityAddr>("entity_addr_t", "one address"),
    structure::<EntityAddrs>("entity_addrvec_t", "all addresses of an entity"),
    structure::<EntityInst>("entity_inst_t", "an entity and one address"),
    structure::<EntityNum>("entity_name_t", "an entity as maps number it"),
    structure::<FeatureSet>("feature_bitset_t", "feature bits of a metadata server's client"),
];

impl Type {
    /// Decodes one object, which has to take all the bytes, and encodes it again: in the form and version that it
    /// had, or, with `features`, as for a peer that has these.
    ///
    /// # Errors
    ///
    /// Which field at which byte does not follow the encoding.
    pub fn decode(&self, bytes: &Bytes, features: Option<Features>) -> Result<Decoded, DecodeError> {
        (self.codec)(bytes, features)
    }
}

const fn structure<T: Decode + Encode + Serialize>(name: &'static str, what: &'static str) -> Type {
    Type { name, what, codec: structure_codec::<T> }
}

fn structure_codec<T: Decode + Encode + Serialize>(
    bytes: &Bytes,
    features: Option<Features>,
) -> Result<Decoded, DecodeError> {
    let mut r = Reader::new(bytes);
    let value = T::decode(&mut r)?;
    r.finish("end of the object")?;
    let features = features.unwrap_or(r.features_seen());
    Ok(Decoded { value: dump(&value), features, encoded: value.to_bytes(features), read_bytes: bytes.len() })
}

/// The value's fields. Serialisation of plain records into memory cannot fail; if it ever does, the reason is shown.
fn dump(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| json!({"error": error.to_string()}))
}
