//! What fuzz targets reach. Not part of the API.

use crate::{engine, record};

/// Reads any bytes as a segment of a log.
pub fn segment(bytes: &[u8]) {
    engine::fuzzing::segment(bytes);
}

/// A segment to begin with.
pub fn segment_seed() -> Vec<u8> {
    engine::fuzzing::sample(0x1000, &[&row_seed(), b"", &row_seed()], 2)
}

/// A row to begin with.
pub fn row_seed() -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(item) = cuttlebone_checkpoint::Item::set(b"key", b"value") {
        record::encode(&mut bytes, 3, 5, &item.with_flags(7).with_expiry(9).with_cas(11));
    }
    bytes
}

/// Reads any bytes as a row. What is taken for one is written the same way again.
pub fn row(bytes: &[u8]) {
    let owner = record::owner(bytes);
    if let Some(record) = record::decode(bytes) {
        assert_eq!(owner, Some((record.vbucket, record.generation, record.item.key())));
        let mut again = Vec::new();
        record::encode(&mut again, record.vbucket, record.generation, &record.item);
        assert_eq!(again, bytes);
    }
}
