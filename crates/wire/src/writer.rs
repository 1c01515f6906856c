use alloc::vec::Vec;

use bytes::Bytes;

use crate::features::Features;

/// A value that can be written as bytes.
pub trait Encode {
    /// Appends the value in the form that the writer's features ask for. Cannot fail.
    fn encode(&self, w: &mut Writer);

    /// The value alone, in the form that `features` ask for.
    fn to_bytes(&self, features: Features) -> Bytes {
        let mut w = Writer::new(features);
        self.encode(&mut w);
        w.into_bytes()
    }
}

/// A growing buffer and the features of the peer that will read it.
///
/// Lengths are filled in afterwards, so none is computed twice.
#[derive(Clone, Debug)]
pub struct Writer {
    buffer: Vec<u8>,
    features: Features,
}

impl Writer {
    /// An empty writer for a peer with `features`.
    pub const fn new(features: Features) -> Self {
        Self { buffer: Vec::new(), features }
    }

    /// An empty writer with room for `capacity` bytes.
    pub fn with_capacity(features: Features, capacity: usize) -> Self {
        Self { buffer: Vec::with_capacity(capacity), features }
    }

    /// What the reader of these bytes understands.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Bytes written so far.
    pub const fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing has been written yet.
    pub const fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The bytes written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.buffer
    }

    /// The finished bytes.
    pub fn into_bytes(self) -> Bytes {
        self.buffer.into()
    }

    /// Raw bytes, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// `count` zero bytes.
    pub fn zeros(&mut self, count: usize) {
        self.buffer.resize(self.buffer.len().saturating_add(count), 0);
    }

    /// A `u8`.
    pub fn u8(&mut self, value: u8) {
        self.buffer.push(value);
    }

    /// A little-endian `u16`.
    pub fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    /// A little-endian `u32`.
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    /// A little-endian `u64`.
    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    /// A little-endian `i16`.
    pub fn i16(&mut self, value: i16) {
        self.raw(&value.to_le_bytes());
    }

    /// A little-endian `i32`.
    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_le_bytes());
    }

    /// A little-endian `i64`.
    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_le_bytes());
    }

    /// A `bool`, as 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.u8(value.into());
    }

    /// A count or length, as `u32`.
    ///
    /// # Panics
    ///
    /// Above 4 Gi, which no buffer that fits a frame can hold: a caller's bug, and better loud than truncated.
    pub fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("no structure has 4 Gi elements"));
    }

    /// A blob or string: a `u32` length, then the bytes.
    pub fn blob(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    /// A string.
    pub fn text(&mut self, text: &str) {
        self.blob(text.as_bytes());
    }

    /// A list: a `u32` count, then the elements.
    pub fn list<T>(
        &mut self,
        elements: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
        mut element: impl FnMut(&mut Self, T),
    ) {
        let elements = elements.into_iter();
        self.count(elements.len());
        for value in elements {
            element(self, value);
        }
    }

    /// What `body` writes, preceded by its length as `u32`.
    ///
    /// # Panics
    ///
    /// Above 4 GiB, as [`count`](Self::count).
    pub fn sized(&mut self, body: impl FnOnce(&mut Self)) {
        let hole = self.buffer.len();
        self.u32(0);
        let start = self.buffer.len();
        body(self);
        let len = u32::try_from(self.buffer.len().saturating_sub(start)).expect("no structure has 4 GiB");
        if let Some(slot) = self.buffer.get_mut(hole..start) {
            slot.copy_from_slice(&len.to_le_bytes());
        }
    }

    /// A versioned structure: version, oldest compatible version, length, body.
    ///
    /// Source: `ceph/ceph:src/include/encoding.h`, `ENCODE_START`; seen in 16.2.15.
    pub fn versioned(&mut self, version: u8, compat: u8, body: impl FnOnce(&mut Self)) {
        self.u8(version);
        self.u8(compat);
        self.sized(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Reader;

    #[test]
    fn a_versioned_structure_bounds_its_reader_and_hides_what_was_appended() {
        let mut w = Writer::new(Features::empty());
        w.versioned(3, 1, |w| {
            w.u32(7);
            w.text("of a newer version");
        });
        w.u8(0xee);
        let bytes = w.into_bytes();
        let mut r = Reader::new(&bytes);
        let value = r.versioned("outer", 2, |r, version| {
            assert_eq!(version, 3);
            r.u32("value")
        });
        assert_eq!(value, Ok(7));
        assert_eq!(r.u8("after"), Ok(0xee));
        assert_eq!(r.finish("all"), Ok(()));
    }

    #[test]
    fn a_structure_that_only_newer_readers_understand_is_refused() {
        let mut w = Writer::new(Features::empty());
        w.versioned(9, 9, |_| {});
        let bytes = w.into_bytes();
        let error = Reader::new(&bytes).versioned("outer", 2, |_, _| Ok(())).unwrap_err();
        assert_eq!(
            alloc::string::ToString::to_string(&error),
            "outer at byte 2: can be read from version 9 on, and we know version 2"
        );
    }

    #[test]
    fn a_count_that_cannot_fit_reserves_nothing() {
        let bytes = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 1, 2]);
        let mut r = Reader::new(&bytes);
        assert!(r.list("elements", usize::MAX, 2, |r| r.u16("element")).is_err());
    }
}
