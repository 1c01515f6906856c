use bytes::Bytes;
use cuttlebone_wire::{Decode, Encode, EntityAddrs, EntityInst, EntityName, Reader, Transaction};

/// What decodes must encode to bytes that decode to the same value: the second encoding is a fixed point.
fn settles<T: Decode + Encode + PartialEq + core::fmt::Debug>(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let mut r = Reader::new(&bytes);
    if let Ok(value) = T::decode(&mut r) {
        let again = value.to_bytes(r.features_seen());
        let mut r = Reader::new(&again);
        let back = T::decode(&mut r).expect("what we wrote must decode");
        assert_eq!(back, value);
        assert_eq!(back.to_bytes(r.features_seen()), again);
    }
}

pub(crate) fn addr(data: &[u8]) {
    settles::<EntityAddrs>(data);
}

pub(crate) fn name(data: &[u8]) {
    settles::<EntityName>(data);
    settles::<EntityInst>(data);
}

pub(crate) fn transaction(data: &[u8]) {
    settles::<Transaction>(data);
}
