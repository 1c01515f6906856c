use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::features::Features;

/// A value that can be read from bytes.
pub trait Decode: Sized {
    /// Reads one value and leaves the reader behind its last byte.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`] that names the field; the reader's position is then of no use any more.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// A bounded cursor over a frame.
///
/// It never reads beyond its end, never panics, and reserves nothing for a length that it has not checked against
/// the bytes that are left. Blobs share the frame's memory instead of copying it.
///
/// It also remembers which *forms* it met: a decoder that finds the encoding for peers without some feature says so
/// with [`without`](Self::without), and [`features_seen`](Self::features_seen) then lets a tool write the same form
/// again.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    source: &'a Bytes,
    at: usize,
    end: usize,
    seen: Features,
}

impl<'a> Reader<'a> {
    /// A reader over the whole of `source`.
    pub fn new(source: &'a Bytes) -> Self {
        Self { source, at: 0, end: source.len(), seen: Features::all_known() }
    }

    /// Offset of the next byte from the start of the frame.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Bytes left in the innermost structure.
    pub const fn remaining(&self) -> usize {
        self.end.saturating_sub(self.at)
    }

    /// Whether the innermost structure has been read to its end.
    pub const fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Notes that the bytes have the form written for peers without `features`.
    pub fn without(&mut self, features: Features) {
        self.seen.remove(features);
    }

    /// The features with which a writer produces the form that was read.
    pub const fn features_seen(&self) -> Features {
        self.seen
    }

    /// Takes back what was noted since `seen`, where the forms inside say nothing about the whole.
    pub(crate) const fn restore_features_seen(&mut self, seen: Features) {
        self.seen = seen;
    }

    /// An error at the current position.
    pub const fn error(&self, field: &'static str, kind: DecodeErrorKind) -> DecodeError {
        DecodeError::new(self.at, field, kind)
    }

    /// Checks that nothing is left over.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Trailing`] if something is.
    pub fn finish(&self, field: &'static str) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.error(field, DecodeErrorKind::Trailing { left })),
        }
    }

    /// The next byte, without taking it.
    pub fn peek_u8(&self) -> Option<u8> {
        if self.is_empty() { None } else { self.source.get(self.at).copied() }
    }

    /// Takes `len` bytes as a slice of the frame.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Short`] if there are fewer.
    pub fn slice(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let short = DecodeErrorKind::Short { needed: len, left: self.remaining() };
        let stop = self.at.checked_add(len).filter(|stop| *stop <= self.end);
        let source: &'a [u8] = self.source;
        match stop.and_then(|stop| Some((stop, source.get(self.at..stop)?))) {
            Some((stop, slice)) => {
                self.at = stop;
                Ok(slice)
            }
            None => Err(self.error(field, short)),
        }
    }

    /// Takes `len` bytes as a value that shares the frame's memory.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Short`] if there are fewer.
    pub fn bytes(&mut self, len: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        let start = self.at;
        self.slice(len, field)?;
        Ok(self.source.slice(start..self.at))
    }

    /// Passes over `len` bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Short`] if there are fewer.
    pub fn skip(&mut self, len: usize, field: &'static str) -> Result<(), DecodeError> {
        self.slice(len, field).map(|_| ())
    }

    /// Takes `N` bytes by value.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Short`] if there are fewer.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let slice = self.slice(N, field)?;
        slice.first_chunk().copied().ok_or_else(|| self.error(field, DecodeErrorKind::Invalid("length")))
    }

    /// A `u8`.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Short`] at the end.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(u8::from_le_bytes)
    }

    /// A little-endian `u16`.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Short`] at the end.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// A little-endian `u32`.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Short`] at the end.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// A little-endian `u64`.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Short`] at the end.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A little-endian `i16`.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Short`] at the end.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.array(field).map(i16::from_le_bytes)
    }

    /// A little-endian `i32`.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Short`] at the end.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_le_bytes)
    }

    /// A little-endian `i64`.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Short`] at the end.
    pub fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_le_bytes)
    }

    /// A `bool`: zero is false, everything else true, as Ceph reads it.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Short`] at the end.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        self.u8(field).map(|byte| byte != 0)
    }

    /// A length in bytes: a `u32` that is at most `max` and at most what is left.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::TooLong`] above `max`, [`DecodeErrorKind::Short`] above what is left.
    pub fn len(&mut self, field: &'static str, max: usize) -> Result<usize, DecodeError> {
        self.count(field, max, 1)
    }

    /// A number of elements of at least `element_bytes_min` bytes each, checked as [`len`](Self::len) does.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::TooLong`] above `max`, [`DecodeErrorKind::Short`] if so many cannot follow.
    pub fn count(
        &mut self,
        field: &'static str,
        max: usize,
        element_bytes_min: usize,
    ) -> Result<usize, DecodeError> {
        let raw = self.u32(field)?;
        let count = usize::try_from(raw).unwrap_or(usize::MAX);
        let needed = count.saturating_mul(element_bytes_min);
        if count > max {
            Err(self.error(field, DecodeErrorKind::TooLong { len: count, max }))
        } else if needed > self.remaining() {
            Err(self.error(field, DecodeErrorKind::Short { needed, left: self.remaining() }))
        } else {
            Ok(count)
        }
    }

    /// A blob: a `u32` length, then as many bytes, which share the frame's memory.
    ///
    /// # Errors
    ///
    /// As [`len`](Self::len).
    pub fn blob(&mut self, field: &'static str, max: usize) -> Result<Bytes, DecodeError> {
        let len = self.len(field, max)?;
        self.bytes(len, field)
    }

    /// A string: encoded like a blob, copied, and required to be UTF-8.
    ///
    /// # Errors
    ///
    /// As [`len`](Self::len), and [`DecodeErrorKind::NotUtf8`].
    pub fn text(&mut self, field: &'static str, max: usize) -> Result<String, DecodeError> {
        let len = self.len(field, max)?;
        let start = self.at;
        let slice = self.slice(len, field)?;
        match core::str::from_utf8(slice) {
            Ok(text) => Ok(text.into()),
            Err(_) => Err(DecodeError::new(start, field, DecodeErrorKind::NotUtf8)),
        }
    }

    /// A list: a `u32` count, then the elements.
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count), and what `element` answers.
    pub fn list<T>(
        &mut self,
        field: &'static str,
        max: usize,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(field, max, element_bytes_min)?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// Runs `body` on exactly the next `len` bytes and passes over what it leaves.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::Short`] if there are fewer than `len`, and what `body` answers.
    pub fn within<T>(
        &mut self,
        len: usize,
        field: &'static str,
        body: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let outer = self.end;
        let Some(end) = self.at.checked_add(len).filter(|end| *end <= outer) else {
            return Err(self.error(field, DecodeErrorKind::Short { needed: len, left: self.remaining() }));
        };
        self.end = end;
        let value = body(self);
        self.end = outer;
        let value = value?;
        self.at = end;
        Ok(value)
    }

    /// A versioned structure: version, oldest compatible version, length, body.
    ///
    /// `body` is told the version that was written and cannot read beyond the structure; what a newer writer
    /// appended is passed over. `known` is the newest version that `body` understands.
    ///
    /// Source: `ceph/ceph:src/include/encoding.h`, `DECODE_START`; seen in 16.2.15.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::TooNew`] if the writer rules `known` out, [`DecodeErrorKind::Short`] if the structure is
    /// longer than what is left, and what `body` answers.
    pub fn versioned<T>(
        &mut self,
        field: &'static str,
        known: u8,
        body: impl FnOnce(&mut Self, u8) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let version = self.u8(field)?;
        self.versioned_after(field, known, version, body)
    }

    /// The rest of a versioned structure whose version byte has been taken already, as legacy forms require.
    ///
    /// # Errors
    ///
    /// As [`versioned`](Self::versioned).
    pub fn versioned_after<T>(
        &mut self,
        field: &'static str,
        known: u8,
        version: u8,
        body: impl FnOnce(&mut Self, u8) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let compat = self.u8(field)?;
        if compat > known {
            return Err(self.error(field, DecodeErrorKind::TooNew { compat, known }));
        }
        let len = self.u32(field)?;
        self.within(usize::try_from(len).unwrap_or(usize::MAX), field, |r| body(r, version))
    }
}
