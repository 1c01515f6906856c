use bytes::Bytes;
use cuttlebone_wire::WallTime;

use crate::{DirSums, Kind, Metadata};

/// What attributes that an answer told say of one more.
pub(crate) enum Computed {
    /// Its value.
    Value(Bytes),
    /// This inode has none of that name.
    Absent,
    /// It is not one that follows from attributes.
    Unknown,
}

/// An attribute that Ceph computes, as far as it follows from what an answer told.
///
/// Source: `ceph/ceph:src/client/Client.cc`, `_vxattrcb_*`; compared with libcephfs 16.2.15.
pub(crate) fn computed(metadata: &Metadata, name: &[u8]) -> Computed {
    let of_dir = |value: fn(&DirSums) -> String| metadata.dir.as_ref().map(value);
    let limit = |value: i64| (value > 0).then(|| value.to_string());
    let value = match name {
        b"ceph.dir.entries" => of_dir(|dir| (dir.files + dir.subdirs).to_string()),
        b"ceph.dir.files" => of_dir(|dir| dir.files.to_string()),
        b"ceph.dir.subdirs" => of_dir(|dir| dir.subdirs.to_string()),
        b"ceph.dir.rentries" => of_dir(|dir| (dir.rfiles + dir.rsubdirs).to_string()),
        b"ceph.dir.rfiles" => of_dir(|dir| dir.rfiles.to_string()),
        b"ceph.dir.rsubdirs" => of_dir(|dir| dir.rsubdirs.to_string()),
        b"ceph.dir.rsnaps" => of_dir(|dir| dir.rsnaps.to_string()),
        b"ceph.dir.rbytes" => of_dir(|dir| dir.rbytes.to_string()),
        b"ceph.dir.rctime" => of_dir(|dir| time(dir.rctime)),
        b"ceph.quota.max_bytes" => limit(metadata.quota.max_bytes),
        b"ceph.quota.max_files" => limit(metadata.quota.max_files),
        _ => return layout_part(metadata, name),
    };
    value.map_or(Computed::Absent, |value| Computed::Value(value.into()))
}

/// A number of the layout. The server knows none of them by these names, and the name of a pool is not in a layout.
fn layout_part(metadata: &Metadata, name: &[u8]) -> Computed {
    let (part, kind) = match (name.strip_prefix(b"ceph.dir.layout."), name.strip_prefix(b"ceph.file.layout."))
    {
        (Some(part), _) => (part, Kind::Dir),
        (_, Some(part)) => (part, Kind::File),
        (None, None) => return Computed::Unknown,
    };
    let layout = &metadata.layout;
    let value = match part {
        b"stripe_unit" => layout.stripe_unit,
        b"stripe_count" => layout.stripe_count,
        b"object_size" => layout.object_size,
        _ => return Computed::Unknown,
    };
    // All numbers are zero for a directory that has no layout of its own.
    if metadata.kind == kind && layout.stripe_unit > 0 {
        Computed::Value(value.to_string().into())
    } else {
        Computed::Absent
    }
}

/// Seconds and nanoseconds with a dot between them.
fn time(time: WallTime) -> String {
    format!("{}.{:09}", time.secs, time.nanos)
}
