use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use cuttlebone_wire::{Features, Reader, Writer, crc32c};

use crate::{Error, Limits, Part};

/// Bytes of a preamble.
const PREAMBLE_BYTES: usize = 32;
/// Bytes of a preamble that its own checksum covers.
const PREAMBLE_CHECKED_BYTES: usize = 28;
/// Bytes of a checksum.
const CRC_BYTES: usize = 4;
/// Bytes of what follows the segments of a frame that has more than one.
const EPILOGUE_BYTES: usize = 13;
/// Most segments of a frame.
const SEGMENTS_MAX: usize = 4;
/// Register content with which a preamble's checksum starts.
const PREAMBLE_SEED: u32 = 0;
/// Register content with which a segment's checksum starts.
const SEGMENT_SEED: u32 = 0xffff_ffff;
/// Epilogue status of a frame that its sender finished.
const STATUS_COMPLETE: u8 = 0xe;
/// Epilogue status of a frame that its sender gave up.
const STATUS_ABORTED: u8 = 0x1;
/// Where control payloads, headers, fronts and middles would like to lie.
const ALIGN: u16 = 8;
/// Where message data would like to lie.
const ALIGN_DATA: u16 = 4096;
/// Segments up to this many bytes in sum are copied into one buffer with their preamble: below it, one more entry
/// in a vectored write costs more than the copy.
const INLINE_BYTES_MAX: usize = 1024;

/// What a frame is.
///
/// Source: `ceph/ceph:src/msg/async/frames_v2.h`, `Tag`; all but the compression frames seen in 16.2.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "an unknown tag is an error by the protocol")]
#[repr(u8)]
#[expect(missing_docs, reason = "each is described where its payload is")]
pub enum Tag {
    Hello = 1,
    AuthRequest = 2,
    AuthBadMethod = 3,
    AuthReplyMore = 4,
    AuthRequestMore = 5,
    AuthDone = 6,
    AuthSignature = 7,
    ClientIdent = 8,
    ServerIdent = 9,
    IdentMissingFeatures = 10,
    SessionReconnect = 11,
    SessionReset = 12,
    SessionRetry = 13,
    SessionRetryGlobal = 14,
    SessionReconnectOk = 15,
    Wait = 16,
    Message = 17,
    Keepalive2 = 18,
    Keepalive2Ack = 19,
    Ack = 20,
}

impl Tag {
    /// Every tag, in the order of their numbers.
    pub const ALL: [(Self, &'static str); 20] = [
        (Self::Hello, "HELLO"),
        (Self::AuthRequest, "AUTH_REQUEST"),
        (Self::AuthBadMethod, "AUTH_BAD_METHOD"),
        (Self::AuthReplyMore, "AUTH_REPLY_MORE"),
        (Self::AuthRequestMore, "AUTH_REQUEST_MORE"),
        (Self::AuthDone, "AUTH_DONE"),
        (Self::AuthSignature, "AUTH_SIGNATURE"),
        (Self::ClientIdent, "CLIENT_IDENT"),
        (Self::ServerIdent, "SERVER_IDENT"),
        (Self::IdentMissingFeatures, "IDENT_MISSING_FEATURES"),
        (Self::SessionReconnect, "SESSION_RECONNECT"),
        (Self::SessionReset, "SESSION_RESET"),
        (Self::SessionRetry, "SESSION_RETRY"),
        (Self::SessionRetryGlobal, "SESSION_RETRY_GLOBAL"),
        (Self::SessionReconnectOk, "SESSION_RECONNECT_OK"),
        (Self::Wait, "WAIT"),
        (Self::Message, "MESSAGE"),
        (Self::Keepalive2, "KEEPALIVE2"),
        (Self::Keepalive2Ack, "KEEPALIVE2_ACK"),
        (Self::Ack, "ACK"),
    ];

    /// The number on the wire.
    #[expect(clippy::as_conversions, reason = "the discriminants are the wire's numbers")]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Ceph's name for it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(tag, _)| *tag == self).map_or("", |(_, name)| name)
    }

    fn from_number(number: u8) -> Result<Self, Error> {
        let found = Self::ALL.iter().find(|(tag, _)| tag.number() == number);
        found.map(|(tag, _)| *tag).ok_or(Error::UnknownTag(number))
    }
}

/// The first 32 bytes of a frame: what it is and how long its segments are.
///
/// Source: `ceph/ceph:src/msg/async/frames_v2.h`, `preamble_block_t`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the fields of the block")]
pub struct Preamble {
    /// What the frame is.
    pub tag: Tag,
    /// How many segments follow, 1 to 4.
    pub segments: usize,
    /// Their lengths in bytes, zeros behind the last.
    pub lens: [usize; SEGMENTS_MAX],
}

impl Preamble {
    /// Reads and checks the block. Nothing in it is believed before its checksum.
    fn parse(raw: &[u8; PREAMBLE_BYTES]) -> Result<Self, Error> {
        let (checked, crc) = raw.split_at(PREAMBLE_CHECKED_BYTES);
        if crc != crc32c(PREAMBLE_SEED, checked).to_le_bytes() {
            return Err(Error::Checksum(Part::Preamble));
        }
        let bytes = Bytes::copy_from_slice(checked);
        let mut r = Reader::new(&bytes);
        let tag = Tag::from_number(r.u8("tag")?)?;
        let segments = usize::from(r.u8("segment count")?);
        let mut lens = [0; SEGMENTS_MAX];
        for len in &mut lens {
            *len = usize::try_from(r.u32("segment length")?).unwrap_or(usize::MAX);
            r.skip(2, "alignment")?;
        }
        if r.u8("flags")? != 0 {
            return Err(Error::Preamble("flags of a feature that was not negotiated"));
        }
        match segments {
            1 => {}
            2..=SEGMENTS_MAX if lens.get(segments.saturating_sub(1)).is_some_and(|len| *len > 0) => {}
            2..=SEGMENTS_MAX => return Err(Error::Preamble("the last segment is empty")),
            _ => return Err(Error::Preamble("the number of segments is not 1 to 4")),
        }
        if lens.iter().skip(segments).any(|len| *len > 0) {
            return Err(Error::Preamble("a segment beyond the number of segments"));
        }
        if tag != Tag::Message && segments != 1 {
            return Err(Error::Preamble("a control frame with more than one segment"));
        }
        Ok(Self { tag, segments, lens })
    }

    fn payload_bytes(&self) -> usize {
        self.lens.iter().fold(0, |sum, len| sum.saturating_add(*len))
    }

    /// Bytes that follow the preamble.
    fn body_bytes(&self) -> usize {
        let inline_crc = if self.lens.first() == Some(&0) { 0 } else { CRC_BYTES };
        let epilogue = if self.segments > 1 { EPILOGUE_BYTES } else { 0 };
        self.payload_bytes().saturating_add(inline_crc).saturating_add(epilogue)
    }
}

/// One frame as it came, its segments sharing the memory it was read into.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a frame has these parts")]
pub struct Frame {
    /// What it is.
    pub tag: Tag,
    /// Its segments; those behind the last are empty.
    pub segments: [Bytes; SEGMENTS_MAX],
    /// All its bytes, for the signature of the handshake.
    pub raw: Bytes,
}

impl Frame {
    /// The only segment of a control frame.
    pub const fn payload(&self) -> &Bytes {
        let [payload, ..] = &self.segments;
        payload
    }
}

/// Cuts a byte stream into frames of messenger v2.1 in crc mode.
///
/// Source: `ceph/ceph:src/msg/async/frames_v2.cc`, `FrameAssembler`; seen in 16.2.15.
#[derive(Clone, Debug)]
pub struct FrameDecoder {
    limits: Limits,
    /// Before the session is open a message frame is refused at its preamble, so that nobody unknown makes us hold
    /// more than a control frame.
    messages_allowed: bool,
    preamble: Option<Preamble>,
}

impl FrameDecoder {
    /// A decoder that takes control frames only.
    pub const fn new(limits: Limits) -> Self {
        Self { limits, messages_allowed: false, preamble: None }
    }

    /// From now on message frames are welcome.
    pub const fn allow_messages(&mut self) {
        self.messages_allowed = true;
    }

    /// How many bytes from the front of the buffer the next frame needs, as far as is known.
    pub fn wanted(&self) -> usize {
        PREAMBLE_BYTES.saturating_add(self.preamble.map_or(0, |preamble| preamble.body_bytes()))
    }

    /// Takes the next frame from the front of `inbound`; `None` while it is incomplete. Aborted frames are passed
    /// over.
    ///
    /// # Errors
    ///
    /// [`Error::Checksum`], [`Error::Preamble`], [`Error::UnknownTag`] and [`Error::TooLarge`]; the stream is of no
    /// use any more after each of them.
    pub fn decode(&mut self, inbound: &mut BytesMut) -> Result<Option<Frame>, Error> {
        loop {
            let preamble = match self.preamble {
                Some(preamble) => preamble,
                None => match inbound.first_chunk() {
                    Some(raw) => self.admit(Preamble::parse(raw)?)?,
                    None => return Ok(None),
                },
            };
            self.preamble = Some(preamble);
            let whole = self.wanted();
            if inbound.len() < whole {
                return Ok(None);
            }
            self.preamble = None;
            if let Some(frame) = cut(&preamble, inbound.split_to(whole).freeze())? {
                return Ok(Some(frame));
            }
        }
    }

    fn admit(&self, preamble: Preamble) -> Result<Preamble, Error> {
        let max = match preamble.tag {
            Tag::Message if self.messages_allowed => self.limits.message_bytes_max,
            Tag::Message => {
                return Err(Error::Unexpected { stage: "the session is not open", got: "MESSAGE" });
            }
            _ => self.limits.control_bytes_max,
        };
        let bytes = preamble.payload_bytes();
        if bytes > max { Err(Error::TooLarge { bytes, max }) } else { Ok(preamble) }
    }
}

/// Checks a whole frame and cuts it into its segments; `None` if its sender gave it up.
fn cut(preamble: &Preamble, raw: Bytes) -> Result<Option<Frame>, Error> {
    let mut r = Reader::new(&raw);
    r.skip(PREAMBLE_BYTES, "preamble")?;
    let mut segments = [const { Bytes::new() }; SEGMENTS_MAX];
    let mut crcs = [SEGMENT_SEED; SEGMENTS_MAX];
    for (index, ((segment, crc), len)) in segments.iter_mut().zip(&mut crcs).zip(preamble.lens).enumerate() {
        *segment = r.bytes(len, "segment")?;
        if index == 0 && len > 0 {
            *crc = r.u32("segment crc")?;
        }
    }
    if preamble.segments > 1 {
        // The upper half is reserved; real receivers mask it.
        match r.u8("late status")? & 0xf {
            STATUS_COMPLETE => {}
            STATUS_ABORTED => return Ok(None),
            _ => return Err(Error::Preamble("unknown status in the epilogue")),
        }
        for crc in crcs.iter_mut().take(preamble.segments).skip(1) {
            *crc = r.u32("segment crc")?;
        }
    }
    for (index, (segment, crc)) in segments.iter().zip(crcs).take(preamble.segments).enumerate() {
        if crc32c(SEGMENT_SEED, segment) != crc {
            return Err(Error::Checksum(Part::Segment(index)));
        }
    }
    Ok(Some(Frame { tag: preamble.tag, segments, raw }))
}

/// What frame payloads are written with, whatever is negotiated for messages.
///
/// Source: `ceph/ceph:src/msg/async/frames_v2.h`, `ControlFrame`.
pub(crate) const FRAME_FEATURES: Features = Features::PACIFIC;

/// The bytes of a control frame whose payload `body` writes.
pub fn encode_control(tag: Tag, body: impl FnOnce(&mut Writer)) -> Bytes {
    let mut w = Writer::new(FRAME_FEATURES);
    body(&mut w);
    let mut out = None;
    encode_frame(tag, [w.into_bytes(), Bytes::new(), Bytes::new(), Bytes::new()], |part| out = Some(part));
    out.unwrap_or_default()
}

/// Writes a frame as parts to be sent one behind the other. Large segments are handed on as they are, so that a
/// vectored write needs no copy of them; a small frame is one part.
pub fn encode_frame(tag: Tag, segments: [Bytes; SEGMENTS_MAX], mut part: impl FnMut(Bytes)) {
    let last = segments.iter().rposition(|segment| !segment.is_empty()).unwrap_or(0);
    let count = last.saturating_add(1);
    let payload = segments.iter().map(Bytes::len).fold(0, usize::saturating_add);
    let overhead = PREAMBLE_BYTES.saturating_add(CRC_BYTES).saturating_add(EPILOGUE_BYTES);
    let inline = payload <= INLINE_BYTES_MAX;
    let capacity = overhead.saturating_add(if inline { payload } else { INLINE_BYTES_MAX });
    let mut w = Writer::with_capacity(FRAME_FEATURES, capacity);
    encode_preamble(&mut w, tag, count, &segments);
    let mut epilogue = Vec::with_capacity(EPILOGUE_BYTES);
    epilogue.push(STATUS_COMPLETE);
    for (index, segment) in segments.into_iter().enumerate() {
        let crc = if index < count { crc32c(SEGMENT_SEED, &segment) } else { 0 };
        if index > 0 {
            epilogue.extend(crc.to_le_bytes());
        }
        if segment.is_empty() {
            continue;
        }
        if inline || segment.len() <= INLINE_BYTES_MAX {
            w.raw(&segment);
        } else {
            let before = core::mem::replace(&mut w, Writer::new(FRAME_FEATURES));
            if !before.is_empty() {
                part(before.into_bytes());
            }
            part(segment);
        }
        if index == 0 {
            w.u32(crc);
        }
    }
    if count > 1 {
        w.raw(&epilogue);
    }
    if !w.is_empty() {
        part(w.into_bytes());
    }
}

fn encode_preamble(w: &mut Writer, tag: Tag, count: usize, segments: &[Bytes; SEGMENTS_MAX]) {
    w.u8(tag.number());
    w.u8(u8::try_from(count).unwrap_or(0));
    for (index, segment) in segments.iter().enumerate() {
        w.count(segment.len());
        let align = if index == 3 { ALIGN_DATA } else { ALIGN };
        w.u16(if index < count { align } else { 0 });
    }
    w.zeros(2);
    let crc = crc32c(PREAMBLE_SEED, w.as_slice());
    w.u32(crc);
}

#[cfg(test)]
mod tests;
