use cuttlebone_wire::{Decode, DecodeError, Encode, Message, MessageType, Priority, Reader, Writer};

/// The first segment of a message frame.
///
/// There is no source in it: whom a message is from follows from the connection.
///
/// Source: `ceph/ceph:src/include/msgr.h`, `struct ceph_msg_header2`; 41 bytes, packed; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire has these fields and no version to add another")]
pub struct MessageHeader {
    /// Sequence number in this direction of the session; the first is 1.
    pub seq: u64,
    /// Transaction id.
    pub tid: u64,
    /// Message type.
    pub kind: MessageType,
    /// Priority.
    pub priority: Priority,
    /// Version of the encoding of the front.
    pub version: u16,
    /// Bytes before the data that only align it.
    pub data_pre_padding_len: u32,
    /// Where the data would like to lie in a page.
    pub data_off: u16,
    /// The sender has everything up to this sequence number.
    pub ack_seq: u64,
    /// Footer flags of messenger v1; 16.2 sends 3, and 0 is accepted.
    pub flags: u8,
    /// The oldest version whose readers understand the front.
    pub compat_version: u16,
    /// Unused.
    pub reserved: u16,
}

impl MessageHeader {
    /// Bytes on the wire.
    pub const BYTES: usize = 41;

    /// The header with which `message` goes out.
    pub const fn of(message: &Message, seq: u64, ack_seq: u64) -> Self {
        Self {
            seq,
            tid: message.tid,
            kind: message.kind,
            priority: message.priority,
            version: message.version,
            data_pre_padding_len: 0,
            data_off: 0,
            ack_seq,
            flags: 0,
            compat_version: message.compat_version,
            reserved: 0,
        }
    }
}

impl Decode for MessageHeader {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            seq: r.u64("seq")?,
            tid: r.u64("tid")?,
            kind: MessageType(r.u16("type")?),
            priority: Priority(r.u16("priority")?),
            version: r.u16("version")?,
            data_pre_padding_len: r.u32("data_pre_padding_len")?,
            data_off: r.u16("data_off")?,
            ack_seq: r.u64("ack_seq")?,
            flags: r.u8("flags")?,
            compat_version: r.u16("compat_version")?,
            reserved: r.u16("reserved")?,
        })
    }
}

impl Encode for MessageHeader {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.seq);
        w.u64(self.tid);
        w.u16(self.kind.0);
        w.u16(self.priority.0);
        w.u16(self.version);
        w.u32(self.data_pre_padding_len);
        w.u16(self.data_off);
        w.u64(self.ack_seq);
        w.u8(self.flags);
        w.u16(self.compat_version);
        w.u16(self.reserved);
    }
}
