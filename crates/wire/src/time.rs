use core::fmt;

use crate::{Decode, DecodeError, Encode, Reader, Writer};

/// A stamp of somebody's wall clock: seconds and nanoseconds since 1970, 32 bits each on the wire.
///
/// Never compared with [monotonic time](https://docs.rs/cuttlebone-machine), and nanoseconds are kept as they came,
/// also above one second.
///
/// Source: `ceph/ceph:src/include/utime.h`, `utime_t`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "the wire has these two fields and no room for a third")]
pub struct WallTime {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub secs: u32,
    /// Nanoseconds.
    pub nanos: u32,
}

impl Decode for WallTime {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { secs: r.u32("secs")?, nanos: r.u32("nanos")? })
    }
}

impl Encode for WallTime {
    fn encode(&self, w: &mut Writer) {
        w.u32(self.secs);
        w.u32(self.nanos);
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.secs, self.nanos)
    }
}
