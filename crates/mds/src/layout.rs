use bytes::Bytes;
use cuttlebone_wire::{Decode, DecodeError, Encode, Features, Reader, Writer};

use crate::limits::NAME_BYTES_MAX;

/// How a file's contents are spread over objects, or how those of new files in a directory will be.
///
/// All numbers zero means that a directory has no layout of its own.
///
/// Source: `ceph/ceph:src/common/fs_types.cc`, `file_layout_t`; corpus objects of 11.2.0 and 16.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FileLayout {
    /// Bytes on one object before the next is used.
    pub stripe_unit: u32,
    /// Objects that stripes go round.
    pub stripe_count: u32,
    /// Bytes of an object.
    pub object_size: u32,
    /// The pool of the objects; -1 for none.
    pub pool: i64,
    /// The namespace in that pool.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub pool_ns: Bytes,
    /// The fields of the legacy form that nobody uses any more, in case they come back.
    #[cfg_attr(feature = "serde", serde(skip))]
    unused: [u32; 3],
}

/// The first version with an envelope, and the newest that we know.
const VERSION: u8 = 2;

impl FileLayout {
    /// The same without the namespace, as it is part of other structures.
    pub fn legacy(&self) -> LegacyLayout {
        LegacyLayout {
            stripe_unit: self.stripe_unit,
            stripe_count: self.stripe_count,
            object_size: self.object_size,
            unused: self.unused,
            pool: u32::try_from(self.pool).unwrap_or_default(),
        }
    }
}

impl From<LegacyLayout> for FileLayout {
    fn from(legacy: LegacyLayout) -> Self {
        let LegacyLayout { stripe_unit, stripe_count, object_size, unused, pool } = legacy;
        let is_unset = (stripe_unit, stripe_count, object_size, pool) == (0, 0, 0, 0);
        let pool = if is_unset { -1 } else { i64::from(pool) };
        Self { stripe_unit, stripe_count, object_size, pool, pool_ns: Bytes::new(), unused }
    }
}

impl Decode for FileLayout {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // A stripe unit is a multiple of 64 KiB, so that its lowest byte tells the forms apart.
        if r.peek_u8() == Some(0) {
            r.without(Features::FILE_LAYOUT2);
            return LegacyLayout::decode(r).map(Self::from);
        }
        r.versioned("file_layout_t", VERSION, |r, _| {
            Ok(Self {
                stripe_unit: r.u32("stripe_unit")?,
                stripe_count: r.u32("stripe_count")?,
                object_size: r.u32("object_size")?,
                pool: r.i64("pool_id")?,
                pool_ns: r.blob("pool_ns", NAME_BYTES_MAX)?,
                unused: [0; 3],
            })
        })
    }
}

impl Encode for FileLayout {
    fn encode(&self, w: &mut Writer) {
        if !w.features().contains(Features::FILE_LAYOUT2) {
            return self.legacy().encode(w);
        }
        w.versioned(VERSION, VERSION, |w| {
            w.u32(self.stripe_unit);
            w.u32(self.stripe_count);
            w.u32(self.object_size);
            w.i64(self.pool);
            w.blob(&self.pool_ns);
        });
    }
}

/// The layout without a namespace, as requests, inodes and capabilities carry it: 28 bytes.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `struct ceph_file_layout`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "28 bytes for ever")]
pub struct LegacyLayout {
    /// Bytes on one object before the next is used.
    pub stripe_unit: u32,
    /// Objects that stripes go round.
    pub stripe_count: u32,
    /// Bytes of an object.
    pub object_size: u32,
    /// Three fields that were never used: a hash, a stripe unit inside objects, a preferred placement group.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub unused: [u32; 3],
    /// The pool of the objects; all ones for none.
    pub pool: u32,
}

impl Decode for LegacyLayout {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            stripe_unit: r.u32("stripe_unit")?,
            stripe_count: r.u32("stripe_count")?,
            object_size: r.u32("object_size")?,
            unused: [r.u32("cas_hash")?, r.u32("object_stripe_unit")?, r.u32("preferred pg")?],
            pool: r.u32("pool")?,
        })
    }
}

impl Encode for LegacyLayout {
    fn encode(&self, w: &mut Writer) {
        w.u32(self.stripe_unit);
        w.u32(self.stripe_count);
        w.u32(self.object_size);
        self.unused.iter().for_each(|word| w.u32(*word));
        w.u32(self.pool);
    }
}
