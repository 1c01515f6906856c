//! What fuzz targets reach. Not part of the API.

use cuttlebone_checkpoint::Item;

use crate::document::Document;
use crate::{engine, record};

/// Reads any bytes as a segment of a log.
pub fn segment(bytes: &[u8]) {
    engine::fuzzing::segment(bytes);
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

/// Reads any bytes as a document. What is taken for one comes back when it is written and read.
pub fn document(bytes: &[u8]) {
    if let Some(document) = Document::decode(bytes) {
        assert_eq!(Document::decode(&document.encode()), Some(document));
    }
}

/// What to begin with, for each target.
pub fn seeds() -> [(&'static str, Vec<u8>); 3] {
    let mut row = Vec::new();
    if let Ok(item) = Item::set(b"key", b"value") {
        record::encode(&mut row, 3, 5, &item.with_flags(7).with_expiry(9).with_cas(11));
    }
    let segment = engine::fuzzing::sample(0x1000, &[&row, b"", &row], 2);
    [("bucket_document", Document::sample().encode()), ("bucket_row", row), ("bucket_segment", segment)]
}
