use core::fmt;

use bytes::Bytes;

/// The number of a message type. Unknown numbers are kept.
///
/// Source: `ceph/ceph:src/msg/Message.h`, `MSG_*` and `CEPH_MSG_*`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct MessageType(pub u16);

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message type {}", self.0)
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How urgent a message is to its sender; higher goes first.
///
/// Source: `ceph/ceph:src/include/msgr.h`, `CEPH_MSG_PRIO_*`; 127 and 196 seen in 16.2.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct Priority(pub u16);

impl Priority {
    /// Of most messages.
    pub const DEFAULT: Self = Self(127);
    /// Of a monitor's replies and of store synchronisation.
    pub const HIGH: Self = Self(196);
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// One message between two entities, whatever messenger carries it.
///
/// This is what the messenger hands up and takes down; the crates above give `front`, `middle` and `data` their
/// meaning. Sequence numbers and acknowledgements are the messenger's own and not in here.
#[derive(Clone, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct Message {
    /// What it is.
    pub kind: MessageType,
    /// Version of its encoding.
    pub version: u16,
    /// The oldest version whose readers understand it.
    pub compat_version: u16,
    /// How urgent it is.
    pub priority: Priority,
    /// Chosen by whoever asks, copied into the answer; 0 where nobody matches answers.
    pub tid: u64,
    /// The body.
    pub front: Bytes,
    /// A second part, which few types have.
    pub middle: Bytes,
    /// Bulk data.
    pub data: Bytes,
}

impl fmt::Debug for Message {
    /// Shows sizes only: messages carry keys and stores.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("version", &self.version)
            .field("tid", &self.tid)
            .field("front_bytes", &self.front.len())
            .field("middle_bytes", &self.middle.len())
            .field("data_bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

impl Message {
    /// Bytes of payload in all three parts.
    pub fn payload_bytes(&self) -> usize {
        self.front.len().saturating_add(self.middle.len()).saturating_add(self.data.len())
    }
}
