//! The format of a log: frames, one for each commit.
//!
//! ```text
//!   header, 40 bytes, little-endian               body
//!   magic     4  "CBL1"                            documents: vbucket u16, length u32, bytes; …
//!   address   8  where this header lies            rows:      length u32, bytes; …
//!   salt      8  the same in all of a segment
//!   documents 4  bytes of them
//!   rows      8  bytes of them
//!   body      4  CRC-32C of the body
//!   check     4  CRC-32C of the header so far
//! ```
//!
//! Address and salt tell a frame from anything else that may lie in a file: a client's value that looks like one, or a
//! block that a disk has brought back from an earlier life.

use crate::engine::RowAt;

const MAGIC: [u8; 4] = *b"CBL1";
pub(crate) const HEADER_BYTES: usize = 40;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) address: u64,
    pub(crate) salt: u64,
    pub(crate) documents: u32,
    pub(crate) rows: u64,
    pub(crate) body_crc: u32,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.address.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.documents.to_le_bytes());
        bytes.extend_from_slice(&self.rows.to_le_bytes());
        bytes.extend_from_slice(&self.body_crc.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.first_chunk().copied().unwrap_or([0; HEADER_BYTES])
    }

    /// The header at the front of `bytes`; `None` if there is none.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest: &[u8] = bytes.first_chunk::<HEADER_BYTES>()?;
        let crc = crc32c::crc32c(rest.get(..HEADER_BYTES - 4)?);
        let magic: [u8; 4] = take(&mut rest)?;
        let header = Self {
            address: u64::from_le_bytes(take(&mut rest)?),
            salt: u64::from_le_bytes(take(&mut rest)?),
            documents: u32::from_le_bytes(take(&mut rest)?),
            rows: u64::from_le_bytes(take(&mut rest)?),
            body_crc: u32::from_le_bytes(take(&mut rest)?),
        };
        (magic == MAGIC && crc == u32::from_le_bytes(take(&mut rest)?)).then_some(header)
    }

    /// Bytes of the body; `None` if no memory could hold them.
    pub(crate) fn body_bytes(&self) -> Option<usize> {
        usize::try_from(self.rows).ok()?.checked_add(usize::try_from(self.documents).ok()?)
    }

    /// Where the rows lie.
    pub(crate) fn rows_address(&self) -> u64 {
        self.address + HEADER_BYTES as u64 + u64::from(self.documents)
    }

    /// Where the next frame lies.
    pub(crate) fn end(&self) -> u64 {
        self.rows_address() + self.rows
    }
}

/// A frame that is whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) header: Header,
    documents: &'a [u8],
    rows: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame of `header` if `body` is its body.
    pub(crate) fn new(header: Header, body: &'a [u8]) -> Option<Self> {
        let (documents, rows) = body.split_at_checked(usize::try_from(header.documents).ok()?)?;
        let whole = header.body_bytes() == Some(body.len()) && crc32c::crc32c(body) == header.body_crc;
        whole.then_some(Self { header, documents, rows })
    }

    /// The documents; `None` at what is none.
    pub(crate) fn documents(&self) -> impl Iterator<Item = Option<(u16, &'a [u8])>> {
        let mut rest = self.documents;
        pieces(move || {
            let id = u16::from_le_bytes(take(&mut rest)?);
            let len = u32::from_le_bytes(take(&mut rest)?);
            let (document, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            rest = after;
            Some(((id, document), rest.is_empty()))
        })
        .take(if self.documents.is_empty() { 0 } else { usize::MAX })
    }

    /// The rows, each with its address; `None` at what is none.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Option<(RowAt, &'a [u8])>> {
        let mut rest = self.rows;
        let end = self.header.end();
        pieces(move || {
            let bytes = u32::from_le_bytes(take(&mut rest)?);
            let address = end - rest.len() as u64;
            let (row, after) = rest.split_at_checked(usize::try_from(bytes).ok()?)?;
            rest = after;
            Some(((RowAt { address, bytes }, row), rest.is_empty()))
        })
        .take(if self.rows.is_empty() { 0 } else { usize::MAX })
    }
}

/// What `next` brings until it says that this was the last, or fails.
fn pieces<T>(mut next: impl FnMut() -> Option<(T, bool)>) -> impl Iterator<Item = Option<T>> {
    let mut done = false;
    core::iter::from_fn(move || {
        if done {
            return None;
        }
        let piece = next();
        done = piece.as_ref().is_none_or(|(_, last)| *last);
        Some(piece.map(|(piece, _)| piece))
    })
}

pub(crate) fn encode_document(section: &mut Vec<u8>, id: u16, document: &[u8]) {
    section.extend_from_slice(&id.to_le_bytes());
    // A document has at most a few kilobytes.
    section.extend_from_slice(&u32::try_from(document.len()).unwrap_or(u32::MAX).to_le_bytes());
    section.extend_from_slice(document);
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// With a whole frame.
    Whole,
    /// With a commit that was interrupted: its address.
    Torn(u64),
    /// With a frame that is not what was written although a later one is whole: its address.
    Damaged(u64),
}

/// The whole frames of a segment that begins at `base`, until the end or what is not whole.
pub(crate) fn scan(bytes: &[u8], base: u64) -> (Vec<Frame<'_>>, Tail) {
    let (mut frames, mut rest, mut at, mut salt) = (Vec::new(), bytes, base, None);
    while !rest.is_empty() {
        let Some(frame) = frame_at(rest, at, salt) else {
            let later = later_frame(rest, at, salt);
            return (frames, if later { Tail::Damaged(at) } else { Tail::Torn(at) });
        };
        salt = Some(frame.header.salt);
        let len = usize::try_from(frame.header.end() - at).unwrap_or(usize::MAX);
        rest = rest.get(len..).unwrap_or_default();
        at = frame.header.end();
        frames.push(frame);
    }
    (frames, Tail::Whole)
}

fn header_at(bytes: &[u8], address: u64, salt: Option<u64>) -> Option<Header> {
    Header::decode(bytes)
        .filter(|header| header.address == address && salt.is_none_or(|salt| salt == header.salt))
}

fn frame_at(bytes: &[u8], address: u64, salt: Option<u64>) -> Option<Frame<'_>> {
    let header = header_at(bytes, address, salt)?;
    let (_, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    Frame::new(header, rest.get(..header.body_bytes()?)?)
}

/// Whether a frame begins anywhere after the front of `bytes`. A commit that was interrupted is the last of its log.
fn later_frame(bytes: &[u8], address: u64, salt: Option<u64>) -> bool {
    let windows = bytes.windows(MAGIC.len()).enumerate().skip(1);
    let mut found = windows.filter(|(_, window)| *window == MAGIC);
    found.any(|(at, _)| {
        bytes.get(at..).is_some_and(|rest| header_at(rest, address + at as u64, salt).is_some())
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}
