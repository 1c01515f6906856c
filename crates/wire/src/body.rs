use bytes::Bytes;

use crate::{DecodeError, DecodeErrorKind, Features, Message, MessageType, Priority, Reader, Writer};

/// Most fronts fit into this many bytes, so that their buffer is made once.
const FRONT_BYTES_USUAL: usize = 256;

/// The body of one type of message.
///
/// The outermost level of a message has no envelope: its version is the header's, which is why it is a parameter
/// here. Bytes behind what a version holds are passed over, since newer writers append there.
pub trait Body: Sized {
    /// The type's number.
    const KIND: MessageType;
    /// The type's name in C++.
    const NAME: &'static str;
    /// The newest version that we know.
    const VERSION: u16;
    /// The oldest version whose readers understand what we write.
    const COMPAT: u16;
    /// How urgent it is.
    const PRIORITY: Priority = Priority::DEFAULT;

    /// Reads the front, `r`, as `version` has it; the few bodies that go on in another part find it in `message`.
    ///
    /// # Errors
    ///
    /// Which field does not follow the encoding.
    fn decode_front(r: &mut Reader<'_>, version: u16, message: &Message) -> Result<Self, DecodeError>;

    /// Writes the front as `version` has it, which is one that [`version_for`](Self::version_for) answered, or that
    /// was read.
    fn encode_front(&self, w: &mut Writer, version: u16);

    /// The second part.
    fn middle(&self) -> Bytes {
        Bytes::new()
    }

    /// The bulk part.
    fn data(&self) -> Bytes {
        Bytes::new()
    }

    /// The version and compatible version to write for a peer with `features`.
    fn version_for(_features: Features) -> (u16, u16) {
        (Self::VERSION, Self::COMPAT)
    }

    /// Reads a message, and answers the features whose forms it is in as well.
    ///
    /// # Errors
    ///
    /// If it is of another type or for newer readers only, or which field does not follow the encoding.
    fn decode(message: &Message) -> Result<(Self, Features), DecodeError> {
        let mut r = Reader::new(&message.front);
        if message.kind != Self::KIND {
            return Err(r.error(Self::NAME, DecodeErrorKind::Unknown { value: message.kind.0.into() }));
        }
        if message.compat_version > Self::VERSION {
            let byte = |version| u8::try_from(version).unwrap_or(u8::MAX);
            let kind =
                DecodeErrorKind::TooNew { compat: byte(message.compat_version), known: byte(Self::VERSION) };
            return Err(r.error(Self::NAME, kind));
        }
        let body = Self::decode_front(&mut r, message.version, message)?;
        Ok((body, r.features_seen()))
    }

    /// A message with this body for a peer with `features`.
    fn message(&self, features: Features, tid: u64) -> Message {
        let (version, compat_version) = Self::version_for(features);
        let head = Message { version, compat_version, tid, priority: Self::PRIORITY, ..Message::default() };
        self.message_like(&head, features)
    }

    /// A message with this body and the version, priority and tid of `head`; versions that we do not know become the
    /// newest that we do.
    fn message_like(&self, head: &Message, features: Features) -> Message {
        let known = head.version <= Self::VERSION;
        let (version, compat_version) =
            if known { (head.version, head.compat_version) } else { (Self::VERSION, Self::COMPAT) };
        let mut w = Writer::with_capacity(features, FRONT_BYTES_USUAL);
        self.encode_front(&mut w, version);
        Message {
            kind: Self::KIND,
            version,
            compat_version,
            front: w.into_bytes(),
            middle: self.middle(),
            data: self.data(),
            ..*head
        }
    }
}
