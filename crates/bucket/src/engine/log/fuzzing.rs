//! What fuzz targets reach.

use super::frame::{HEADER_BYTES, Header, Tail, encode_document, scan};
use crate::engine::Rows;

/// Reads any bytes as a segment. What counts as whole has to lie where it says, and nothing after it may count.
pub(crate) fn segment(bytes: &[u8]) {
    let base = 0x1000;
    let (frames, tail) = scan(bytes, base);
    let mut at = base;
    for frame in &frames {
        assert_eq!(frame.header.address, at);
        at = frame.header.end();
        let documents = frame.documents().map_while(|piece| piece).count();
        assert!(documents <= bytes.len());
        for (place, row) in frame.rows().map_while(|piece| piece) {
            let start = usize::try_from(place.address - base).unwrap_or(usize::MAX);
            assert_eq!(bytes.get(start..start + row.len()), Some(row));
            assert_eq!(row.len(), place.bytes as usize);
        }
    }
    let read = usize::try_from(at - base).unwrap_or(usize::MAX);
    match tail {
        Tail::Whole => assert_eq!(read, bytes.len()),
        Tail::Torn(address) | Tail::Damaged(address) => {
            assert!(address == at && read < bytes.len());
        }
    }
}

/// A segment with these rows in frames of `per_frame`, for corpora and tests.
pub(crate) fn sample(base: u64, rows: &[&[u8]], per_frame: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in rows.chunks(per_frame) {
        let (mut documents, mut all) = (Vec::new(), Rows::default());
        encode_document(&mut documents, 3, b"document");
        for row in chunk {
            all.push(row);
        }
        let header = Header {
            address: base + bytes.len() as u64,
            salt: 0x5a17,
            documents: u32::try_from(documents.len()).unwrap_or(u32::MAX),
            rows: all.as_bytes().len() as u64,
            body_crc: crc32c::crc32c_append(crc32c::crc32c(&documents), all.as_bytes()),
        };
        assert_eq!(header.encode().len(), HEADER_BYTES);
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(&documents);
        bytes.extend_from_slice(all.as_bytes());
    }
    bytes
}
