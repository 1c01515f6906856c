//! What we accept from a peer, beyond what fits a frame.

/// Longest name, path, link target or string that we accept, in bytes. Servers of 16.2.15 accept names above the 255
/// bytes of POSIX, and a path may have thousands of them.
pub(crate) const NAME_BYTES_MAX: usize = 64 * 1024;
/// Longest blob that we accept, in bytes; it shares the frame's memory, so that this costs nothing.
pub(crate) const BLOB_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most elements of a list that we accept; each takes bytes of the frame, which bounds them before this does.
pub(crate) const LIST_MAX: usize = 1 << 22;
/// Most pairs of strings that we accept in a map of metadata.
pub(crate) const PAIRS_MAX: usize = 4096;
/// Most ranks, pools, filesystems or servers that we accept in a map.
pub(crate) const MAP_MAX: usize = 16 * 1024;
