use core::fmt;
use std::collections::BTreeMap;

use bytes::Bytes;
use cuttlebone_wire::{Decode, DecodeError, DecodeErrorKind, Encode, Reader, Uuid, WallTime, Writer};

use crate::Error;
use crate::block::Slot;
use crate::limits::{KEY_BYTES_MAX, PREFIXES_MAX, PROVIDER_BYTES_MAX};
use crate::log::split_key;

/// Number of a point; grows by one with every point of a copy and is never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number with a name")]
pub struct PointId(pub u64);

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a point came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PointKind {
    /// A full pull: every key was sent.
    Full,
    /// A recent pull: only new versions were sent.
    Recent,
    /// Nothing was pulled: an earlier point was written anew, to leave its history behind.
    Rebase,
    /// Transactions applied directly, through the [`Store`](crate::Store) trait.
    Batch,
}

impl PointKind {
    const ALL: [Self; 4] = [Self::Full, Self::Recent, Self::Rebase, Self::Batch];

    /// Whether it starts a generation.
    pub(crate) const fn is_base(self) -> bool {
        matches!(self, Self::Full | Self::Rebase)
    }

    const fn number(self) -> u8 {
        match self {
            Self::Full => 1,
            Self::Recent => 2,
            Self::Rebase => 3,
            Self::Batch => 4,
        }
    }

    /// One lower-case word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Recent => "recent",
            Self::Rebase => "rebase",
            Self::Batch => "batch",
        }
    }
}

impl fmt::Display for PointKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Decode for PointKind {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = r.u8("kind of point")?;
        let unknown = DecodeErrorKind::Unknown { value: number.into() };
        let kind = Self::ALL.into_iter().find(|kind| kind.number() == number);
        kind.ok_or_else(|| r.error("kind of point", unknown))
    }
}

impl Encode for PointKind {
    fn encode(&self, w: &mut Writer) {
        w.u8(self.number());
    }
}

/// Where a copy came from, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that callers build")]
pub struct Origin {
    /// The cluster; nil if unknown.
    pub fsid: Uuid,
    /// Name or address of the monitor that sent it; at most 1,024 bytes are kept.
    pub provider: String,
}

/// What the caller knows about a point that is about to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that callers build")]
pub struct NewPoint {
    /// The paxos version at which the copy is consistent.
    pub last_committed: u64,
    /// When, by the caller's wall clock.
    pub time: WallTime,
    /// From where.
    pub origin: Origin,
}

/// A moment at which the copy is consistent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Point {
    /// Its number.
    pub id: PointId,
    /// How it came about.
    pub kind: PointKind,
    /// When it was made.
    pub time: WallTime,
    /// The paxos version at which it is consistent.
    pub last_committed: u64,
    /// Keys in all.
    pub keys: u64,
    /// Bytes of all values.
    pub bytes: u64,
    /// Sum over the content; equal for equal content.
    pub digest: Digest,
    /// Where it came from.
    pub origin: Origin,
    /// Which generation holds it.
    pub generation: u64,
}

impl Decode for Point {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: PointId(r.u64("point id")?),
            kind: PointKind::decode(r)?,
            time: WallTime::decode(r)?,
            last_committed: r.u64("last committed")?,
            keys: r.u64("keys")?,
            bytes: r.u64("bytes")?,
            digest: Digest(u128::from_le_bytes(r.array("digest")?)),
            origin: Origin { fsid: Uuid::decode(r)?, provider: r.text("provider", PROVIDER_BYTES_MAX)? },
            generation: r.u64("generation")?,
        })
    }
}

impl Encode for Point {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.id.0);
        self.kind.encode(w);
        self.time.encode(w);
        w.u64(self.last_committed);
        w.u64(self.keys);
        w.u64(self.bytes);
        w.raw(&self.digest.0.to_le_bytes());
        self.origin.fsid.encode(w);
        w.text(&self.origin.provider);
        w.u64(self.generation);
    }
}

/// Sum over all entries of a point; `docs/store.md` says what it is good for and what not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number with a name")]
pub struct Digest(pub u128);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Digest {
    fn of_entry(key: &[u8], slot: Slot) -> u128 {
        let mut hash = mix(key.len() as u64);
        for word in key.chunks(8) {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            hash = mix(hash ^ u64::from_le_bytes(bytes));
        }
        let high = mix(hash ^ (u64::from(slot.len) << 32 | u64::from(slot.crc)));
        u128::from(high) << 64 | u128::from(mix(high ^ hash.rotate_left(32)))
    }
}

/// The finaliser of SplitMix64: every bit of the input moves every bit of the output.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Keys and bytes under one prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "two counts")]
pub struct PrefixTotals {
    /// Number of keys.
    pub keys: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

/// Totals of a point, kept up to date one change at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    prefixes: BTreeMap<Bytes, PrefixTotals>,
    pub(crate) digest: Digest,
}

impl Summary {
    pub(crate) fn prefixes(&self) -> &BTreeMap<Bytes, PrefixTotals> {
        &self.prefixes
    }

    pub(crate) fn totals(&self) -> PrefixTotals {
        // Saturating: a damaged point may say anything.
        self.prefixes.values().fold(PrefixTotals::default(), |sum, of| PrefixTotals {
            keys: sum.keys.saturating_add(of.keys),
            bytes: sum.bytes.saturating_add(of.bytes),
        })
    }

    /// Counts an entry that is there now.
    pub(crate) fn add(&mut self, key: &[u8], slot: Slot) -> Result<(), Error> {
        let prefix = split_key(key).0;
        if !self.prefixes.contains_key(prefix) {
            if self.prefixes.len() == PREFIXES_MAX {
                return Err(Error::Limit { what: "prefixes in one copy", max: PREFIXES_MAX });
            }
            self.prefixes.insert(Bytes::copy_from_slice(prefix), PrefixTotals::default());
        }
        if let Some(totals) = self.prefixes.get_mut(prefix) {
            totals.keys = totals.keys.saturating_add(1);
            totals.bytes = totals.bytes.saturating_add(slot.len.into());
        }
        self.digest.0 = self.digest.0.wrapping_add(Digest::of_entry(key, slot));
        Ok(())
    }

    /// Counts an entry out again. What was never added, because a damaged index answered for it, changes nothing
    /// below zero.
    pub(crate) fn sub(&mut self, key: &[u8], slot: Slot) {
        let prefix = split_key(key).0;
        if let Some(totals) = self.prefixes.get_mut(prefix) {
            totals.keys = totals.keys.saturating_sub(1);
            totals.bytes = totals.bytes.saturating_sub(slot.len.into());
            if totals.keys == 0 {
                self.prefixes.remove(prefix);
            }
        }
        self.digest.0 = self.digest.0.wrapping_sub(Digest::of_entry(key, slot));
    }
}

impl Decode for Summary {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let digest = Digest(u128::from_le_bytes(r.array("digest")?));
        let prefixes = r.list("prefixes", PREFIXES_MAX, 20, |r| {
            let prefix = r.blob("prefix", KEY_BYTES_MAX)?;
            // A copy: the record that this is a part of should not live as long as the summary does.
            Ok((
                Bytes::copy_from_slice(&prefix),
                PrefixTotals { keys: r.u64("keys")?, bytes: r.u64("bytes")? },
            ))
        })?;
        Ok(Self { prefixes: prefixes.into_iter().collect(), digest })
    }
}

impl Encode for Summary {
    fn encode(&self, w: &mut Writer) {
        w.raw(&self.digest.0.to_le_bytes());
        w.list(&self.prefixes, |w, (prefix, totals)| {
            w.blob(prefix);
            w.u64(totals.keys);
            w.u64(totals.bytes);
        });
    }
}

/// A point, and where in the log its record lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlacedPoint {
    pub(crate) point: Point,
    /// Offset of the record's header.
    pub(crate) record_at: u64,
}

impl Decode for PlacedPoint {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { point: Point::decode(r)?, record_at: r.u64("record offset")? })
    }
}

impl Encode for PlacedPoint {
    fn encode(&self, w: &mut Writer) {
        self.point.encode(w);
        w.u64(self.record_at);
    }
}
