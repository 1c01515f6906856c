use alloc::vec::Vec;

use bytes::Bytes;
use cuttlebone_wire::{Decode, DecodeError, DecodeErrorKind, Encode, Reader, Writer};

use crate::Ino;
use crate::limits::{LIST_MAX, NAME_BYTES_MAX};

/// Where an inode was when it was last written: kept beside its data, so that it can be found by its number alone.
///
/// Source: `ceph/ceph:src/mds/inode_backtrace.cc`, `inode_backtrace_t`; corpus objects of 11.2.0 and 16.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Backtrace {
    /// The inode.
    pub ino: Ino,
    /// The directories above it, nearest first.
    pub ancestors: Vec<Backpointer>,
    /// The pool of its data.
    pub pool: i64,
    /// Pools that its data has been in.
    pub old_pools: Vec<i64>,
    /// The version that was read; 0 for the newest.
    #[cfg_attr(feature = "serde", serde(skip))]
    version: u8,
}

/// One step of a backtrace.
///
/// Source: `ceph/ceph:src/mds/inode_backtrace.cc`, `inode_backpointer_t`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct Backpointer {
    /// The directory.
    #[cfg_attr(feature = "serde", serde(rename = "dirino"))]
    pub dir: Ino,
    /// The name in it.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub dname: Bytes,
    /// The version of the directory in which that was so.
    pub version: u64,
}

/// The newest version that we know.
const VERSION: u8 = 5;
/// The oldest that says anything.
const VERSION_OLDEST: u8 = 4;
/// The only version of a step that has an envelope.
const BACKPOINTER_VERSION: u8 = 2;

impl Backtrace {
    /// Forgets which version it was read in.
    pub fn renew(&mut self) {
        self.version = 0;
    }
}

impl Decode for Backtrace {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("inode_backtrace_t", VERSION, |r, version| {
            if version < VERSION_OLDEST {
                return Err(r.error("inode_backtrace_t", DecodeErrorKind::Unknown { value: version.into() }));
            }
            let mut trace =
                Self { ino: Ino(r.u64("ino")?), version: version.min(VERSION), ..Self::default() };
            trace.ancestors = r.list("ancestors", LIST_MAX, 26, Backpointer::decode)?;
            if version >= 5 {
                trace.pool = r.i64("pool")?;
                trace.old_pools = r.list("old_pools", LIST_MAX, 8, |r| r.i64("old pool"))?;
            }
            Ok(trace)
        })
    }
}

impl Encode for Backtrace {
    fn encode(&self, w: &mut Writer) {
        let version = if self.version == 0 { VERSION } else { self.version };
        w.versioned(version, VERSION_OLDEST, |w| {
            w.u64(self.ino.0);
            w.list(&self.ancestors, |w, step| step.encode(w));
            if version >= 5 {
                w.i64(self.pool);
                w.list(&self.old_pools, |w, pool| w.i64(*pool));
            }
        });
    }
}

impl Decode for Backpointer {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("inode_backpointer_t", BACKPOINTER_VERSION, |r, _| {
            Ok(Self {
                dir: Ino(r.u64("dirino")?),
                dname: r.blob("dname", NAME_BYTES_MAX)?,
                version: r.u64("version")?,
            })
        })
    }
}

impl Encode for Backpointer {
    fn encode(&self, w: &mut Writer) {
        w.versioned(BACKPOINTER_VERSION, BACKPOINTER_VERSION, |w| {
            w.u64(self.dir.0);
            w.blob(&self.dname);
            w.u64(self.version);
        });
    }
}
