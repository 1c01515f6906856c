//! Maps of strings, which three structures carry.

use alloc::collections::BTreeMap;
use alloc::string::String;

use cuttlebone_wire::{DecodeError, Reader, Writer};

use crate::limits::{NAME_BYTES_MAX, PAIRS_MAX};

pub(crate) fn decode(
    r: &mut Reader<'_>,
    field: &'static str,
) -> Result<BTreeMap<String, String>, DecodeError> {
    let count = r.count(field, PAIRS_MAX, 8)?;
    let mut pairs = BTreeMap::new();
    for _ in 0..count {
        let name = r.text(field, NAME_BYTES_MAX)?;
        pairs.insert(name, r.text(field, NAME_BYTES_MAX)?);
    }
    Ok(pairs)
}

pub(crate) fn encode(pairs: &BTreeMap<String, String>, w: &mut Writer) {
    w.list(pairs, |w, (name, value)| {
        w.text(name);
        w.text(value);
    });
}
