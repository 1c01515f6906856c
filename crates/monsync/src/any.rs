use bytes::Bytes;
use cuttlebone_wire::{DecodeError, DecodeErrorKind, Encode, Features, MessageType, Reader};

use crate::{Error, v1, v2};

/// The number of the message type, the same in both dialects.
///
/// Source: `ceph/ceph:src/msg/Message.h`, `MSG_MON_SYNC`; seen in 16.2.15.
pub const MESSAGE_TYPE: MessageType = MessageType(69);

/// A message of either dialect, told apart by the version of its encoding.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "no third dialect was ever released")]
pub enum AnyMessage {
    /// Releases 0.59 to 0.66.
    V1(v1::Message),
    /// 0.67 and later.
    V2(v2::Message),
}

impl AnyMessage {
    /// Reads a message, and tells the features with which [`front`](Self::front) writes the same form again.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if it is of another type, or of a version that we cannot read, or does not follow the
    /// encoding.
    pub fn from_message(message: &cuttlebone_wire::Message) -> Result<(Self, Features), Error> {
        use cuttlebone_wire::Decode as _;

        let mut r = Reader::new(&message.front);
        let any = if message.version == v1::message::VERSION {
            check_header(message, v1::message::VERSION)?;
            Self::V1(v1::Message::decode(&mut r)?)
        } else {
            check_header(message, v2::message::VERSION)?;
            Self::V2(v2::Message::decode(&mut r)?)
        };
        Ok((any, r.features_seen()))
    }

    /// The body, in the form that `features` ask for.
    pub fn front(&self, features: Features) -> Bytes {
        match self {
            Self::V1(message) => message.to_bytes(features),
            Self::V2(message) => message.to_bytes(features),
        }
    }
}

/// Refuses messages of another type, and those that readers of `known` cannot understand.
pub(crate) fn check_header(message: &cuttlebone_wire::Message, known: u16) -> Result<(), Error> {
    let refused = |field, value: u16| {
        Err(Error::Malformed(DecodeError::new(0, field, DecodeErrorKind::Unknown { value: value.into() })))
    };
    if message.kind != MESSAGE_TYPE {
        refused("message type", message.kind.0)
    } else if message.compat_version > known {
        refused("compat version", message.compat_version)
    } else if message.version < known || (known == v1::message::VERSION && message.version != known) {
        refused("version", message.version)
    } else {
        Ok(())
    }
}
