use std::collections::VecDeque;

use bytes::BytesMut;

/// Bytes of a buffer for small frames.
const SMALL_BYTES: usize = 32 << 10;
/// Room for less than this is not worth a system call.
const READ_BYTES_MIN: usize = 4 << 10;
/// Most buffers kept, whatever their size.
const KEPT_MAX: usize = 64;

/// What was read and not consumed, in memory that is used again once nobody holds a slice of it.
///
/// A large frame gets a buffer of exactly its size, so that it is read in place and none of the next one has to be
/// moved. Small frames share buffers of [`SMALL_BYTES`].
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) bytes: BytesMut,
    /// Size of the allocation behind `bytes`.
    allocated: usize,
    /// Buffers whose contents are still in use somewhere, or no longer; oldest first.
    kept: VecDeque<(BytesMut, usize)>,
    kept_bytes: usize,
    kept_bytes_max: usize,
}

impl Inbound {
    pub(crate) fn new(kept_bytes_max: usize) -> Self {
        Self { bytes: BytesMut::new(), allocated: 0, kept: VecDeque::new(), kept_bytes: 0, kept_bytes_max }
    }

    /// Makes room for what the machine wants, counted from the front.
    pub(crate) fn prepare(&mut self, wanted: usize) {
        let len = self.bytes.len();
        let spare = self.bytes.capacity() - len;
        let large = wanted > SMALL_BYTES;
        let enough = if large { wanted.saturating_sub(len) } else { READ_BYTES_MIN };
        if spare >= enough.max(1) {
            return;
        }
        let size = if large { wanted.max(len + 1) } else { SMALL_BYTES.max(len + READ_BYTES_MIN) };
        let (mut next, allocated) = self.take(size, large);
        next.extend_from_slice(&self.bytes);
        let mut old = core::mem::replace(&mut self.bytes, next);
        let old_allocated = core::mem::replace(&mut self.allocated, allocated);
        old.clear();
        self.keep(old, old_allocated);
    }

    /// Forgets what was read: the connection it came from is gone.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// A kept buffer of the right size that nobody uses any more, or a new one.
    fn take(&mut self, size: usize, large: bool) -> (BytesMut, usize) {
        for index in 0..self.kept.len() {
            let Some((buffer, allocated)) = self.kept.get_mut(index) else { break };
            // A small frame in a large buffer would invite reading far into the next large one.
            let fits = *allocated >= size && (large || *allocated <= 2 * SMALL_BYTES);
            if fits
                && buffer.try_reclaim(size)
                && let Some((buffer, allocated)) = self.kept.remove(index)
            {
                self.kept_bytes -= allocated;
                return (buffer, allocated);
            }
        }
        let buffer = BytesMut::with_capacity(size);
        let allocated = buffer.capacity();
        (buffer, allocated)
    }

    fn keep(&mut self, buffer: BytesMut, allocated: usize) {
        if allocated == 0 || allocated > self.kept_bytes_max {
            return;
        }
        self.kept_bytes += allocated;
        self.kept.push_back((buffer, allocated));
        while self.kept_bytes > self.kept_bytes_max || self.kept.len() > KEPT_MAX {
            let Some((_, allocated)) = self.kept.pop_front() else { break };
            self.kept_bytes -= allocated;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_frame_gets_exactly_its_room_and_is_not_moved() {
        let mut inbound = Inbound::new(16 << 20);
        inbound.prepare(32);
        assert!(inbound.bytes.capacity() >= SMALL_BYTES);
        inbound.bytes.extend_from_slice(&[1; 100]);
        inbound.prepare(1 << 20);
        let start = inbound.bytes.as_ptr();
        assert_eq!(inbound.bytes.capacity(), 1 << 20);
        assert_eq!(&inbound.bytes[..], &[1; 100]);
        inbound.bytes.resize(1 << 19, 2);
        inbound.prepare(1 << 20);
        assert_eq!(inbound.bytes.as_ptr(), start);
    }

    #[test]
    fn a_buffer_is_used_again_when_its_frame_was_dropped_and_not_before() {
        let mut inbound = Inbound::new(16 << 20);
        inbound.prepare(1 << 20);
        inbound.bytes.resize(1 << 20, 1);
        let start = inbound.bytes.as_ptr();
        let frame = inbound.bytes.split().freeze();
        inbound.prepare(32);
        inbound.prepare(1 << 20);
        assert_ne!(inbound.bytes.as_ptr(), start);
        drop(frame);
        inbound.bytes.resize(1 << 20, 1);
        drop(inbound.bytes.split());
        inbound.prepare(32);
        inbound.prepare(1 << 20);
        assert_eq!(inbound.bytes.as_ptr(), start);
    }

    #[test]
    fn no_more_is_kept_than_the_limit_says() {
        let mut inbound = Inbound::new(3 << 20);
        for _ in 0..100 {
            inbound.prepare(1 << 20);
            inbound.bytes.resize(1 << 20, 1);
            core::mem::forget(inbound.bytes.split().freeze());
        }
        assert!(inbound.kept_bytes <= 3 << 20);
    }
}
