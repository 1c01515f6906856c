use cuttlebone_wire::{Body, DecodeError, Message, MessageType, Reader, Writer};

use crate::Rank;

/// Passes a request on: the sender did not do it, and the client is to ask elsewhere. The tid is that of the request.
///
/// Source: `ceph/ceph:src/messages/MClientRequestForward.h`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct ClientRequestForward {
    /// Whom to ask.
    pub dest: Rank,
    /// How often it was passed on by now; not above what the client knows means that the message is late.
    pub forwards: u32,
    /// Whether the client has to send it again, which is always so today.
    pub must_resend: bool,
}

impl Body for ClientRequestForward {
    const KIND: MessageType = MessageType(25);
    const NAME: &'static str = "MClientRequestForward";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        Ok(Self {
            dest: Rank(r.i32("dest_mds")?),
            forwards: r.u32("num_fwd")?,
            must_resend: r.bool("client_must_resend")?,
        })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        w.i32(self.dest.0);
        w.u32(self.forwards);
        w.bool(self.must_resend);
    }
}
