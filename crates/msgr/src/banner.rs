use bytes::{Bytes, BytesMut};
use cuttlebone_wire::{Features, Reader, Writer};

use crate::Error;

/// Bytes of the banner up to and including the length of its payload.
const PREFIX_BYTES: usize = 10;
/// Bytes of the payload that we read; newer peers may append to it.
const PAYLOAD_BYTES: usize = 16;
/// Longest payload that we pass over, in bytes.
const PAYLOAD_BYTES_MAX: usize = 256;
/// Bytes of the banner that we send.
pub const BANNER_BYTES: usize = PREFIX_BYTES + PAYLOAD_BYTES;

/// What every messenger v2 connection starts with.
const MAGIC: &[u8; 8] = b"ceph v2\n";
/// Messenger feature: frames as in v2.1.
const REVISION_1: u64 = 1;

/// The messenger features that both sides announce before anything else; not the same set as [`Features`].
///
/// Source: `ceph/ceph:src/msg/async/ProtocolV2.cc`, `_banner_exchange`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the two words of the banner")]
pub struct Banner {
    /// What the sender can do.
    pub supported: u64,
    /// What the sender insists on.
    pub required: u64,
}

impl Banner {
    /// Ours: v2.1 and nothing older, as the kernel client has it.
    pub const OURS: Self = Self { supported: REVISION_1, required: REVISION_1 };

    /// The bytes to send.
    pub fn to_bytes(self) -> Bytes {
        let mut w = Writer::with_capacity(Features::PACIFIC, BANNER_BYTES);
        w.raw(MAGIC);
        w.u16(16);
        w.u64(self.supported);
        w.u64(self.required);
        w.into_bytes()
    }

    /// Takes a banner from the front of `inbound`, with the bytes it had; `None` while it is incomplete.
    ///
    /// # Errors
    ///
    /// [`Error::NotMessenger2`] as soon as a byte differs from the magic.
    pub fn take(inbound: &mut BytesMut) -> Result<Option<(Self, Bytes)>, Error> {
        let seen = inbound.len().min(MAGIC.len());
        if inbound.get(..seen) != MAGIC.get(..seen) {
            return Err(Error::NotMessenger2);
        }
        let Some(len) = inbound.get(MAGIC.len()..PREFIX_BYTES) else { return Ok(None) };
        let len = usize::from(len.first_chunk().copied().map_or(0, u16::from_le_bytes));
        if !(PAYLOAD_BYTES..=PAYLOAD_BYTES_MAX).contains(&len) {
            return Err(Error::NotMessenger2);
        }
        let whole = PREFIX_BYTES.saturating_add(len);
        if inbound.len() < whole {
            return Ok(None);
        }
        let raw = inbound.split_to(whole).freeze();
        let mut r = Reader::new(&raw);
        r.skip(PREFIX_BYTES, "banner")?;
        Ok(Some((Self { supported: r.u64("supported")?, required: r.u64("required")? }, raw)))
    }

    /// Checks that two peers with these banners can talk.
    ///
    /// # Errors
    ///
    /// [`Error::Revision`] if the peer has only v2.0, [`Error::UnknownMessengerFeatures`] if it asks for more than
    /// we have.
    pub const fn accept(self) -> Result<(), Error> {
        let unknown = self.required & !Self::OURS.supported;
        if self.supported & REVISION_1 == 0 {
            Err(Error::Revision)
        } else if unknown == 0 {
            Ok(())
        } else {
            Err(Error::UnknownMessengerFeatures(unknown))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(bytes: &[u8]) -> Result<Option<Banner>, Error> {
        Banner::take(&mut BytesMut::from(bytes)).map(|found| found.map(|(banner, _)| banner))
    }

    #[test]
    fn a_banner_may_arrive_byte_by_byte_and_may_be_longer_than_ours() {
        let mut bytes = Banner::OURS.to_bytes().to_vec();
        for end in 0..bytes.len() {
            assert_eq!(take(&bytes[..end]), Ok(None));
        }
        assert_eq!(take(&bytes), Ok(Some(Banner::OURS)));
        bytes[8] = 24;
        bytes.extend([9; 8]);
        assert_eq!(take(&bytes), Ok(Some(Banner::OURS)));
    }

    #[test]
    fn messenger_v1_and_anything_else_is_refused_at_its_first_wrong_byte() {
        assert_eq!(take(b"ceph v0"), Err(Error::NotMessenger2));
        assert_eq!(take(b"G"), Err(Error::NotMessenger2));
        assert_eq!(take(b"ceph v2\n\x0f\0"), Err(Error::NotMessenger2));
    }

    #[test]
    fn a_peer_of_v2_0_and_one_that_wants_compression_are_refused_by_name() {
        assert_eq!(Banner { supported: 0, required: 0 }.accept(), Err(Error::Revision));
        assert_eq!(Banner { supported: 3, required: 2 }.accept(), Err(Error::UnknownMessengerFeatures(2)));
        assert_eq!(Banner { supported: 3, required: 0 }.accept(), Ok(()));
    }
}
