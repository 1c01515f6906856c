use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cuttlebone_fs::{Kind, Metadata, Place};
use cuttlebone_wire::WallTime;
use serde_json::{Map, Value};

use crate::text::stamp;

/// A place and what is there, as `--json` prints it.
pub(super) fn object(place: &Place, metadata: &Metadata) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.into(), value));
    put("path", place.to_string().into());
    // A path is bytes; where text cannot hold them they are there as well.
    if core::str::from_utf8(place.path()).is_err() {
        put("path_base64", STANDARD.encode(place.path()).into());
    }
    put("ino", metadata.ino.0.into());
    put("type", kind(metadata.kind).into());
    put("mode", format!("{:04o}", metadata.mode).into());
    put("uid", metadata.uid.into());
    put("gid", metadata.gid.into());
    put("nlink", metadata.nlink.into());
    put("size", metadata.size.into());
    put("mtime", precise(metadata.mtime).into());
    put("ctime", precise(metadata.ctime).into());
    if metadata.is_symlink() {
        put("target", text(&metadata.symlink).into());
    }
    if let Some(dir) = &metadata.dir {
        put("files", dir.files.into());
        put("subdirs", dir.subdirs.into());
        put("rbytes", dir.rbytes.into());
        put("rfiles", dir.rfiles.into());
        put("rsubdirs", dir.rsubdirs.into());
        put("rctime", precise(dir.rctime).into());
    }
    object
}

/// The name of a type, as scripts see it.
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Dir => "dir",
        Kind::File => "file",
        Kind::Symlink => "symlink",
        Kind::Block => "block",
        Kind::Char => "char",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        _ => "other",
    }
}

/// Type and permissions as `ls -l` has them.
pub(super) fn mode(metadata: &Metadata) -> String {
    let kind = match metadata.kind {
        Kind::Dir => 'd',
        Kind::File => '-',
        Kind::Symlink => 'l',
        Kind::Block => 'b',
        Kind::Char => 'c',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        _ => '?',
    };
    // Each group of three, and the special bit that shows in its last letter.
    let groups = [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')];
    let mut shown = String::from(kind);
    for (shift, special, letter) in groups {
        let bits = metadata.mode >> shift;
        shown.push(if bits & 4 != 0 { 'r' } else { '-' });
        shown.push(if bits & 2 != 0 { 'w' } else { '-' });
        shown.push(match (bits & 1 != 0, metadata.mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    shown
}

/// Bytes as people can read them.
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// A stamp to the nanosecond, which scripts compare.
pub(super) fn precise(time: WallTime) -> String {
    let nanos = i32::try_from(time.nanos).unwrap_or_default();
    jiff::Timestamp::new(time.secs.into(), nanos).map_or_else(|_| stamp(time), |time| time.to_string())
}
