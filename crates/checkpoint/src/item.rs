use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use cuttlebone_machine::Instant;

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
    /// Stamps, key, value.
    body: Arc<[u8]>,
}

// Where the stamps lie at the front of the allocation, little-endian.
const SEQNO: usize = 0;
const CAS: usize = 8;
const REVISION: usize = 16;
const QUEUED_AT: usize = 24;
const FLAGS: usize = 32;
const EXPIRY: usize = 36;
const KEY_LEN: usize = 40;
const OP: usize = 42;
const STAMPS_BYTES: usize = 43;

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
        Ok(Self { body: joined(op, key_len, key, value) })
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
        self.put(CAS, cas.to_le_bytes());
        self
    }

    /// The same with flags, which mean something to the client only.
    #[must_use]
    pub fn with_flags(mut self, flags: u32) -> Self {
        self.put(FLAGS, flags.to_le_bytes());
        self
    }

    /// The same with the wall-clock second after which the key counts as gone; 0 for never.
    #[must_use]
    pub fn with_expiry(mut self, expiry: u32) -> Self {
        self.put(EXPIRY, expiry.to_le_bytes());
        self
    }

    /// The same with the revision of its key: how many mutations the key has had.
    #[must_use]
    pub fn with_revision(mut self, revision: u64) -> Self {
        self.put(REVISION, revision.to_le_bytes());
        self
    }

    /// The same with a seqno that a producer gave it; for replicas and for stores that read items back.
    #[must_use]
    pub fn with_seqno(mut self, seqno: Seqno) -> Self {
        self.put(SEQNO, seqno.0.to_le_bytes());
        self
    }

    /// Whether it sets or deletes.
    pub fn op(&self) -> Op {
        if self.body.get(OP) == Some(&0) { Op::Set } else { Op::Delete }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.body.get(STAMPS_BYTES..STAMPS_BYTES + self.key_len()).unwrap_or_default()
    }

    /// The value; empty for a deletion.
    pub fn value(&self) -> &[u8] {
        self.body.get(STAMPS_BYTES + self.key_len()..).unwrap_or_default()
    }

    /// Its place in the order of the partition; 0 before it is queued.
    pub fn seqno(&self) -> Seqno {
        Seqno(u64::from_le_bytes(self.at(SEQNO)))
    }

    /// The compare-and-swap stamp.
    pub fn cas(&self) -> u64 {
        u64::from_le_bytes(self.at(CAS))
    }

    /// The revision of its key.
    pub fn revision(&self) -> u64 {
        u64::from_le_bytes(self.at(REVISION))
    }

    /// The client's flags.
    pub fn flags(&self) -> u32 {
        u32::from_le_bytes(self.at(FLAGS))
    }

    /// The wall-clock second after which the key counts as gone; 0 for never.
    pub fn expiry(&self) -> u32 {
        u32::from_le_bytes(self.at(EXPIRY))
    }

    /// Since when the key waits for persistence: an overwrite of an item that has not been persisted inherits it.
    pub fn queued_at(&self) -> Instant {
        Instant::from_nanos(u64::from_le_bytes(self.at(QUEUED_AT)))
    }

    fn key_len(&self) -> usize {
        usize::from(u16::from_le_bytes(self.at(KEY_LEN)))
    }

    /// Every body has its stamps, so this finds them.
    fn at<const N: usize>(&self, offset: usize) -> [u8; N] {
        self.body.get(offset..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) {
        if let Some(field) = Arc::make_mut(&mut self.body).get_mut(offset..offset + N) {
            field.copy_from_slice(&bytes);
        }
    }

    /// Bytes of the shared allocation, reference counts included.
    pub fn body_bytes(&self) -> usize {
        self.body.len() + ARC_HEADER_BYTES
    }

    pub(crate) fn stamp(&mut self, seqno: Seqno, queued_at: Instant) {
        let body = Arc::make_mut(&mut self.body);
        for (offset, stamp) in [(SEQNO, seqno.0), (QUEUED_AT, queued_at.as_nanos())] {
            if let Some(field) = body.get_mut(offset..offset + 8) {
                field.copy_from_slice(&stamp.to_le_bytes());
            }
        }
    }

    /// Inherits the time since when its key waits.
    pub(crate) fn inherit(&mut self, queued_at: Instant) {
        self.put(QUEUED_AT, queued_at.as_nanos().to_le_bytes());
    }
}

/// The two counts in front of what an `Arc` shares.
const ARC_HEADER_BYTES: usize = 16;

fn joined(op: Op, key_len: u16, key: &[u8], value: &[u8]) -> Arc<[u8]> {
    let mut stamps = [0; STAMPS_BYTES];
    let [low, high] = key_len.to_le_bytes();
    (stamps[KEY_LEN], stamps[KEY_LEN + 1], stamps[OP]) = (low, high, u8::from(op == Op::Delete));
    let len = STAMPS_BYTES + key.len() + value.len();
    let mut stack = [0; STACK_BODY_BYTES];
    if let Some(body) = stack.get_mut(..len) {
        let (head, rest) = body.split_at_mut(STAMPS_BYTES);
        let (middle, tail) = rest.split_at_mut(key.len());
        head.copy_from_slice(&stamps);
        middle.copy_from_slice(key);
        tail.copy_from_slice(value);
        return Arc::from(&*body);
    }
    let mut body = Vec::with_capacity(len);
    body.extend_from_slice(&stamps);
    body.extend_from_slice(key);
    body.extend_from_slice(value);
    Arc::from(body)
}

/// Two items are equal when a consumer could not tell them apart; when they were queued does not count.
impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.body.get(..QUEUED_AT) == other.body.get(..QUEUED_AT)
            && self.body.get(FLAGS..) == other.body.get(FLAGS..)
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
    State(Arc<[u8]>),
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
