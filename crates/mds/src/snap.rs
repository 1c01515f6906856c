use alloc::vec::Vec;

use cuttlebone_wire::{Decode, DecodeError, Encode, Reader, WallTime, Writer};

use crate::limits::LIST_MAX;
use crate::{Ino, SnapId};

/// A part of the tree with snapshots of its own. Replies and pushes carry a chain of them, innermost first, up to
/// the root.
///
/// Source: `ceph/ceph:src/mds/mdstypes.h`, `SnapRealmInfo`; corpus objects of 11.2.0 and 16.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct SnapRealm {
    /// The inode at its top.
    pub ino: Ino,
    /// The snapshot at which it became a realm.
    pub created: u64,
    /// The realm around it; 0 for none.
    pub parent: Ino,
    /// The snapshot since which that has been so.
    pub parent_since: u64,
    /// The newest change that it knows of.
    pub seq: u64,
    /// Its own snapshots, newest first.
    pub snaps: Vec<SnapId>,
    /// Snapshots of realms that were around it before.
    pub prior_parent_snaps: Vec<SnapId>,
}

impl SnapRealm {
    /// Reads realms to the end of the bytes, as chains are written.
    ///
    /// # Errors
    ///
    /// Which field does not follow the encoding.
    pub fn decode_chain(r: &mut Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        let mut realms = Vec::new();
        while !r.is_empty() {
            realms.push(Self::decode(r)?);
        }
        Ok(realms)
    }

    /// Writes realms one behind the other.
    pub fn encode_chain(realms: &[Self], w: &mut Writer) {
        for realm in realms {
            realm.encode(w);
        }
    }
}

impl Decode for SnapRealm {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut realm = Self {
            ino: Ino(r.u64("realm ino")?),
            created: r.u64("created")?,
            parent: Ino(r.u64("parent")?),
            parent_since: r.u64("parent_since")?,
            seq: r.u64("seq")?,
            ..Self::default()
        };
        let snaps = r.count("num_snaps", LIST_MAX, 0)?;
        let prior = r.count("num_prior_parent_snaps", LIST_MAX, 0)?;
        realm.snaps = decode_snaps(r, "snaps", snaps)?;
        realm.prior_parent_snaps = decode_snaps(r, "prior_parent_snaps", prior)?;
        Ok(realm)
    }
}

/// The list grows as it is read: its count stands before another list, so that nothing can be checked at once.
fn decode_snaps(r: &mut Reader<'_>, field: &'static str, count: usize) -> Result<Vec<SnapId>, DecodeError> {
    let bytes = count.saturating_mul(8);
    r.within(bytes, field, |r| (0..count).map(|_| r.u64(field).map(SnapId)).collect())
}

impl Encode for SnapRealm {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.ino.0);
        w.u64(self.created);
        w.u64(self.parent.0);
        w.u64(self.parent_since);
        w.u64(self.seq);
        w.count(self.snaps.len());
        w.count(self.prior_parent_snaps.len());
        for snap in self.snaps.iter().chain(&self.prior_parent_snaps) {
            w.u64(snap.0);
        }
    }
}

/// A realm as servers of Quincy and later send it to clients that claim the feature for it.
///
/// Source: `ceph/ceph:src/mds/mdstypes.cc`, `SnapRealmInfoNew`; not seen on a wire yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with `..Default::default()`")]
pub struct SnapRealmNew {
    /// What older clients are told as well.
    pub info: SnapRealm,
    /// When its snapshots changed last.
    pub last_modified: WallTime,
    /// Counts those changes.
    pub change_attr: u64,
}

impl Decode for SnapRealmNew {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("SnapRealmInfoNew", 1, |r, _| {
            Ok(Self {
                info: SnapRealm::decode(r)?,
                last_modified: WallTime::decode(r)?,
                change_attr: r.u64("change_attr")?,
            })
        })
    }
}

impl Encode for SnapRealmNew {
    fn encode(&self, w: &mut Writer) {
        w.versioned(1, 1, |w| {
            self.info.encode(w);
            self.last_modified.encode(w);
            w.u64(self.change_attr);
        });
    }
}
