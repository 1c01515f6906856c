use bytes::Bytes;
use cuttlebone_wire::{
    Decode, DecodeError, DecodeErrorKind, Encode, EntityNum, Message, MessageType, Priority, Reader, Writer,
    crc32c,
};
use serde_json::{Value, json};

/// A whole message as `ceph-dencoder` stores it: the header of messenger v1, its short footer, and the three parts,
/// each behind its length.
///
/// The checksums of the parts are checked as Ceph checks them, the header's own is not; all are computed anew when
/// the message is written.
///
/// Source: `ceph/ceph:src/msg/Message.cc`, `encode_message` and `decode_message`; corpus objects of 0.61 to 11.2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// The messenger's sequence number.
    pub seq: u64,
    /// Who sent it.
    pub source: EntityNum,
    /// The message.
    pub message: Message,
    data_offset: u16,
    reserved: u16,
    flags: u8,
    data_crc: u32,
}

/// Bytes of the header before its checksum.
const HEADER_BYTES: usize = 49;
/// In the footer's flags: the data's checksum was not computed.
///
/// Source: `ceph/ceph:src/include/msgr.h`, `CEPH_MSG_FOOTER_NOCRC`.
const FLAG_NO_CRC: u8 = 1 << 1;

/// What the header says about the three parts, to be compared with them.
struct Lengths {
    front: u32,
    middle: u32,
    data: u32,
}

impl Decode for Recorded {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut recorded = Self { seq: r.u64("seq")?, ..Self::default() };
        recorded.message.tid = r.u64("tid")?;
        recorded.message.kind = MessageType(r.u16("type")?);
        recorded.message.priority = Priority(r.u16("priority")?);
        recorded.message.version = r.u16("version")?;
        let lengths =
            Lengths { front: r.u32("front_len")?, middle: r.u32("middle_len")?, data: r.u32("data_len")? };
        recorded.data_offset = r.u16("data_off")?;
        recorded.source = EntityNum::decode(r)?;
        recorded.message.compat_version = r.u16("compat_version")?;
        recorded.reserved = r.u16("reserved")?;
        r.u32("header crc")?;
        let (front_crc, middle_crc) = (r.u32("front_crc")?, r.u32("middle_crc")?);
        recorded.data_crc = r.u32("data_crc")?;
        recorded.flags = r.u8("footer flags")?;
        recorded.message.front = part(r, "front", lengths.front, Some(front_crc))?;
        recorded.message.middle = part(r, "middle", lengths.middle, Some(middle_crc))?;
        let data_crc = (recorded.flags & FLAG_NO_CRC == 0).then_some(recorded.data_crc);
        recorded.message.data = part(r, "data", lengths.data, data_crc)?;
        Ok(recorded)
    }
}

impl Recorded {
    /// The header's fields, for people.
    pub(super) fn header(&self) -> Value {
        let message = &self.message;
        json!({
            "seq": self.seq,
            "tid": message.tid,
            "type": message.kind.0,
            "priority": message.priority.0,
            "version": message.version,
            "compat_version": message.compat_version,
            "source": self.source,
            "front_bytes": message.front.len(),
            "middle_bytes": message.middle.len(),
            "data_bytes": message.data.len(),
        })
    }
}

/// One part, which must be as long as the header says, and have this checksum.
fn part(r: &mut Reader<'_>, field: &'static str, len: u32, crc: Option<u32>) -> Result<Bytes, DecodeError> {
    let at = r.position();
    let part = r.blob(field, usize::MAX)?;
    if u32::try_from(part.len()) != Ok(len) {
        return Err(DecodeError::new(at, field, DecodeErrorKind::Invalid("not as long as the header says")));
    }
    if crc.is_some_and(|crc| crc != crc32c(0, &part)) {
        return Err(DecodeError::new(at, field, DecodeErrorKind::Invalid("its checksum is wrong")));
    }
    Ok(part)
}

impl Encode for Recorded {
    fn encode(&self, w: &mut Writer) {
        let message = &self.message;
        let mut header = Writer::with_capacity(w.features(), HEADER_BYTES);
        header.u64(self.seq);
        header.u64(message.tid);
        header.u16(message.kind.0);
        header.u16(message.priority.0);
        header.u16(message.version);
        header.count(message.front.len());
        header.count(message.middle.len());
        header.count(message.data.len());
        header.u16(self.data_offset);
        self.source.encode(&mut header);
        header.u16(message.compat_version);
        header.u16(self.reserved);
        w.raw(header.as_slice());
        w.u32(crc32c(0, header.as_slice()));
        w.u32(crc32c(0, &message.front));
        w.u32(crc32c(0, &message.middle));
        let computed = self.flags & FLAG_NO_CRC == 0;
        w.u32(if computed { crc32c(0, &message.data) } else { self.data_crc });
        w.u8(self.flags);
        w.blob(&message.front);
        w.blob(&message.middle);
        w.blob(&message.data);
    }
}
