use core::fmt;

use cuttlebone_machine::Instant;
use triomphe::{Arc, ThinArc};

use crate::{CheckpointId, Seqno};

/// Longest key of an item, in bytes.
pub const KEY_BYTES_MAX: usize = 65_535;
/// Longest value of an item, in bytes: 20 MiB, the ancestor's limit.
pub const VALUE_BYTES_MAX: usize = 20 * 1024 * 1024;

/// What a mutation does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a consumer has to apply every one of them")]
pub enum Op {
    /// The key has this value now.
    Set,
    /// The key is gone. The value is empty unless the owner keeps something about the deletion.
    Delete,
}

/// One mutation of one key.
///
/// Stamps, key and value lie in one allocation that every clone shares, so cloning costs a reference count. Changing a
/// stamp of an item that has clones copies it.
#[derive(Clone)]
pub struct Item {
    /// Stamps, then key and value.
    body: ThinArc<Stamps, u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamps {
    seqno: Seqno,
    cas: u64,
    revision: u64,
    queued_at: Instant,
    flags: u32,
    expiry: u32,
    key_len: u16,
    op: Op,
}

/// A key or a value that no item can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ItemError {
    /// The key has more than [`KEY_BYTES_MAX`] bytes.
    #[error("key of {bytes} bytes, the limit is {KEY_BYTES_MAX}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The value has more than [`VALUE_BYTES_MAX`] bytes.
    #[error("value of {bytes} bytes, the limit is {VALUE_BYTES_MAX}")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Bodies up to this many bytes are put together on the stack, which saves an allocation.
const STACK_BODY_BYTES: usize = 256;

impl Item {
    /// A mutation that has no seqno yet; [`ChangeLog::queue`](crate::ChangeLog::queue) gives it one.
    ///
    /// Call this before taking a lock: it allocates and copies.
    ///
    /// # Errors
    ///
    /// If the key or the value is longer than its limit.
    pub fn new(op: Op, key: &[u8], value: &[u8]) -> Result<Self, ItemError> {
        let key_len = u16::try_from(key.len()).map_err(|_| ItemError::KeyTooLong { bytes: key.len() })?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(ItemError::ValueTooLong { bytes: value.len() });
        }
        let stamps = Stamps {
            seqno: Seqno(0),
            cas: 0,
            revision: 0,
            queued_at: Instant::ZERO,
            flags: 0,
            expiry: 0,
            key_len,
            op,
        };
        Ok(Self { body: joined(stamps, key, value) })
    }

    /// A mutation that gives `key` a value.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn set(key: &[u8], value: &[u8]) -> Result<Self, ItemError> {
        Self::new(Op::Set, key, value)
    }

    /// A mutation that removes `key`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn delete(key: &[u8]) -> Result<Self, ItemError> {
        Self::new(Op::Delete, key, &[])
    }

    /// The same with a compare-and-swap stamp.
    #[must_use]
    pub fn with_cas(mut self, cas: u64) -> Self {
        self.change(|stamps| stamps.cas = cas);
        self
    }

    /// The same with flags, which mean something to the client only.
    #[must_use]
    pub fn with_flags(mut self, flags: u32) -> Self {
        self.change(|stamps| stamps.flags = flags);
        self
    }

    /// The same with the wall-clock second after which the key counts as gone; 0 for never.
    #[must_use]
    pub fn with_expiry(mut self, expiry: u32) -> Self {
        self.change(|stamps| stamps.expiry = expiry);
        self
    }

    /// The same with the revision of its key: how many mutations the key has had.
    #[must_use]
    pub fn with_revision(mut self, revision: u64) -> Self {
        self.change(|stamps| stamps.revision = revision);
        self
    }

    /// The same with a seqno that a producer gave it; for replicas and for stores that read items back.
    #[must_use]
    pub fn with_seqno(mut self, seqno: Seqno) -> Self {
        self.change(|stamps| stamps.seqno = seqno);
        self
    }

    /// Whether it sets or deletes.
    pub fn op(&self) -> Op {
        self.stamps().op
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.body.slice.get(..self.key_len()).unwrap_or_default()
    }

    /// The value; empty for a deletion.
    pub fn value(&self) -> &[u8] {
        self.body.slice.get(self.key_len()..).unwrap_or_default()
    }

    /// Its place in the order of the partition; 0 before it is queued.
    pub fn seqno(&self) -> Seqno {
        self.stamps().seqno
    }

    /// The compare-and-swap stamp.
    pub fn cas(&self) -> u64 {
        self.stamps().cas
    }

    /// The revision of its key.
    pub fn revision(&self) -> u64 {
        self.stamps().revision
    }

    /// The client's flags.
    pub fn flags(&self) -> u32 {
        self.stamps().flags
    }

    /// The wall-clock second after which the key counts as gone; 0 for never.
    pub fn expiry(&self) -> u32 {
        self.stamps().expiry
    }

    /// Since when the key waits for persistence: an overwrite of an item that has not been persisted inherits it.
    pub fn queued_at(&self) -> Instant {
        self.stamps().queued_at
    }

    fn stamps(&self) -> &Stamps {
        &self.body.header.header
    }

    fn key_len(&self) -> usize {
        usize::from(self.stamps().key_len)
    }

    fn change(&mut self, change: impl FnOnce(&mut Stamps)) {
        let mut stamps = *self.stamps();
        change(&mut stamps);
        let changed = self
            .body
            .with_arc_mut(|body| Arc::get_mut(body).map(|body| *body.header_mut() = stamps).is_some());
        if !changed {
            self.body = ThinArc::from_header_and_slice(stamps, &self.body.slice);
        }
    }

    /// Bytes of the shared allocation, with its count of references.
    pub fn body_bytes(&self) -> usize {
        HEAD_BYTES + self.body.slice.len()
    }

    pub(crate) fn stamp(&mut self, seqno: Seqno, queued_at: Instant) {
        self.change(|stamps| (stamps.seqno, stamps.queued_at) = (seqno, queued_at));
    }
}

/// What lies before key and value: the count of references, the stamps, the length of both.
const HEAD_BYTES: usize = size_of::<usize>() + size_of::<Stamps>() + size_of::<usize>();

fn joined(stamps: Stamps, key: &[u8], value: &[u8]) -> ThinArc<Stamps, u8> {
    let len = key.len() + value.len();
    let mut stack = [0; STACK_BODY_BYTES];
    if let Some(body) = stack.get_mut(..len) {
        let (head, tail) = body.split_at_mut(key.len());
        head.copy_from_slice(key);
        tail.copy_from_slice(value);
        return ThinArc::from_header_and_slice(stamps, body);
    }
    ThinArc::from_header_and_slice(stamps, &[key, value].concat())
}

/// Two items are equal when a consumer could not tell them apart; when they were queued does not count.
impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        let stamps = Stamps { queued_at: other.queued_at(), ..*self.stamps() };
        stamps == *other.stamps() && self.body.slice == other.body.slice
    }
}

impl Eq for Item {}

/// Keys and values belong to clients, so only their lengths are shown.
impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("op", &self.op())
            .field("seqno", &self.seqno())
            .field("cas", &self.cas())
            .field("key_bytes", &self.key().len())
            .field("value_bytes", &self.value().len())
            .finish_non_exhaustive()
    }
}

/// A meta-item: what travels in the same order as mutations without being one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Marker {
    /// The checkpoint begins.
    Start(CheckpointId),
    /// The checkpoint ends. Not delivered to a cursor that had read everything before the checkpoint was closed: for
    /// that one, the start of the next says so.
    End(CheckpointId),
    /// The state of the partition changed; the document is the owner's.
    State(alloc::sync::Arc<[u8]>),
    /// Hot reload was started; the checkpoint is the barrier.
    UpdateStart(CheckpointId),
    /// Hot reload with this barrier was completed: everything since is kept.
    UpdateComplete(CheckpointId),
    /// Hot reload was reverted: everything since the barrier is undone.
    UpdateRevert {
        /// The barrier that the start named.
        barrier: CheckpointId,
        /// The first seqno of the window.
        first: Seqno,
        /// The last seqno of the window; below `first` if nothing was written.
        last: Seqno,
    },
}

impl Marker {
    /// Whether a consumer misses something if it does not get it. Starts and ends only frame the rest.
    pub(crate) const fn is_content(&self) -> bool {
        !matches!(self, Self::Start(_) | Self::End(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_value_come_back_whatever_their_length() {
        for (key, value) in
            [(0, 0), (1, 0), (32, 100), (250, 6), (250, 7), (250, 1 << 20), (KEY_BYTES_MAX, 3)]
        {
            let (key, value) = (alloc::vec![b'k'; key], alloc::vec![b'v'; value]);
            let item = Item::set(&key, &value).unwrap();
            assert_eq!((item.key(), item.value()), (&key[..], &value[..]));
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let key = alloc::vec![0; KEY_BYTES_MAX + 1];
        assert_eq!(Item::delete(&key), Err(ItemError::KeyTooLong { bytes: KEY_BYTES_MAX + 1 }));
        let value = alloc::vec![0; VALUE_BYTES_MAX + 1];
        assert_eq!(Item::set(b"k", &value), Err(ItemError::ValueTooLong { bytes: VALUE_BYTES_MAX + 1 }));
    }

    #[test]
    fn debug_shows_no_byte_of_key_or_value() {
        let shown = alloc::format!("{:?}", Item::set(b"alice", b"secret").unwrap());
        assert!(!shown.contains("alice") && !shown.contains("secret"), "{shown}");
    }
}
