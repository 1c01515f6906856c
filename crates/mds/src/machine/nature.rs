//! What a call is, for those who send, place and account it.

use bytes::Bytes;

use super::Name;
use super::call::{AttrChanges, Call, Entry, Target};
use super::routing::Ask;
use crate::{Frag, Ino};

/// What decides which rank is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// An inode.
    Inode(Ino),
    /// A name in a directory.
    Name(Ino, Bytes),
    /// A fragment of a directory.
    Fragment(Ino, Frag),
}

impl Call {
    /// Why a server would not take it well.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::SetXattr { name, .. } | Self::RemoveXattr { name, .. } | Self::GetVxattr { name, .. }
                if name.is_empty() || name.len() > XATTR_NAME_BYTES_MAX || name.contains(&0) =>
            {
                Err("the name of an attribute has 1 to 255 bytes, none of them NUL")
            }
            Self::SetXattr { value, .. } if value.len() > XATTR_BYTES_MAX => {
                Err("the value of an attribute has at most 64 KiB")
            }
            Self::Symlink { target, .. }
                if target.is_empty() || target.len() >= PATH_BYTES_MAX || target.contains(&0) =>
            {
                Err("a link points to 1 to 4,095 bytes, none of them NUL")
            }
            Self::GetAttr { target, .. } | Self::ReadDir { dir: target, .. }
                if target.names.len() > PATH_NAMES_MAX =>
            {
                Err("a path has at most 1,024 names")
            }
            Self::SetAttr { changes, .. } if *changes == AttrChanges::default() => Err("nothing to change"),
            _ => Ok(()),
        }
    }

    /// Bytes that it keeps, beyond its own size.
    pub(super) fn bytes(&self) -> usize {
        let of = |name: &Name| name.as_bytes().len();
        let under = |target: &Target| target.names.iter().chain(&target.snapshot).map(of).sum();
        let entries: usize = self.names().into_iter().flatten().map(|entry| of(&entry.name)).sum();
        entries.saturating_add(match self {
            Self::GetAttr { target, .. } => under(target),
            Self::Lookup { entry, .. } => of(&entry.name),
            Self::ReadDir { dir, after, .. } => under(dir).saturating_add(after.as_ref().map_or(0, of)),
            Self::GetVxattr { name, .. } | Self::RemoveXattr { name, .. } => name.len(),
            Self::SetXattr { name, value, .. } => name.len().saturating_add(value.len()),
            Self::Symlink { target, .. } => target.len(),
            Self::ListSnaps { after, .. } => after.as_ref().map_or(0, of),
            Self::MakeSnap { snap } | Self::RemoveSnap { snap } => of(&snap.name),
            Self::RenameSnap { from, to, .. } => of(from).saturating_add(of(to)),
            _ => 0,
        })
    }

    /// Whether it changes something, so that its commit matters.
    pub(super) const fn is_write(&self) -> bool {
        match self {
            Self::GetAttr { .. }
            | Self::Lookup { .. }
            | Self::LookupIno { .. }
            | Self::LookupParent { .. }
            | Self::LookupName { .. }
            | Self::ReadDir { .. }
            | Self::GetVxattr { .. }
            | Self::GetLock { .. }
            | Self::Open { .. }
            | Self::ListSnaps { .. } => false,
            Self::Mkdir { .. }
            | Self::MakeFile { .. }
            | Self::Mknod { .. }
            | Self::Symlink { .. }
            | Self::Link { .. }
            | Self::Unlink { .. }
            | Self::Rmdir { .. }
            | Self::Rename { .. }
            | Self::SetAttr { .. }
            | Self::SetXattr { .. }
            | Self::RemoveXattr { .. }
            | Self::Create { .. }
            | Self::SetLock { .. }
            | Self::MakeSnap { .. }
            | Self::RemoveSnap { .. }
            | Self::RenameSnap { .. } => true,
        }
    }

    /// Whether the answer may take for ever, since somebody else decides when.
    pub(super) const fn may_wait(&self) -> bool {
        matches!(self, Self::SetLock { .. })
    }

    /// Whether it makes an entry, which a quota may forbid.
    pub(super) const fn creates_in(&self) -> Option<Ino> {
        match self {
            Self::Mkdir { entry, .. }
            | Self::MakeFile { entry, .. }
            | Self::Mknod { entry, .. }
            | Self::Symlink { entry, .. }
            | Self::Create { entry, .. } => Some(entry.dir),
            _ => None,
        }
    }

    /// Whether it makes an inode, whose number a replay has to quote.
    pub(super) const fn makes_inode(&self) -> bool {
        self.creates_in().is_some()
    }

    pub(super) fn aim(&self) -> Aim {
        match self {
            Self::ReadDir { dir, frag, .. } if dir.plain().is_some() => Aim::Fragment(dir.base, *frag),
            Self::GetAttr { target, .. } | Self::ReadDir { dir: target, .. } => match target.names.first() {
                Some(name) if target.snapshot.is_none() => Aim::Name(target.base, name.as_bytes().clone()),
                _ => Aim::Inode(target.base),
            },
            Self::Lookup { entry, .. }
            | Self::Mkdir { entry, .. }
            | Self::MakeFile { entry, .. }
            | Self::Mknod { entry, .. }
            | Self::Symlink { entry, .. }
            | Self::Link { entry, .. }
            | Self::Unlink { entry }
            | Self::Rmdir { entry }
            | Self::Rename { to: entry, .. }
            | Self::Create { entry, .. } => Aim::Name(entry.dir, entry.name.as_bytes().clone()),
            Self::LookupIno { ino, .. }
            | Self::LookupParent { ino }
            | Self::LookupName { ino, .. }
            | Self::GetVxattr { ino, .. }
            | Self::SetAttr { ino, .. }
            | Self::SetXattr { ino, .. }
            | Self::RemoveXattr { ino, .. }
            | Self::Open { ino }
            | Self::SetLock { ino, .. }
            | Self::GetLock { ino, .. } => Aim::Inode(*ino),
            Self::ListSnaps { dir, .. } | Self::RenameSnap { dir, .. } => Aim::Inode(*dir),
            Self::MakeSnap { snap } | Self::RemoveSnap { snap } => Aim::Inode(snap.dir),
        }
    }

    /// The inodes that it names by their numbers.
    pub fn inodes(&self) -> impl Iterator<Item = Ino> {
        let aim = match self.aim() {
            Aim::Inode(ino) | Aim::Name(ino, _) | Aim::Fragment(ino, _) => ino,
        };
        let other = match self {
            Self::Rename { from, .. } => Some(from.dir),
            Self::Link { target, .. } => Some(*target),
            Self::LookupName { dir, .. } => Some(*dir),
            _ => None,
        };
        core::iter::once(aim).chain(other)
    }

    pub(super) const fn ask(&self) -> Ask {
        match self {
            Self::ReadDir { .. } | Self::Open { .. } => Ask::Authority,
            other if other.is_write() => Ask::Authority,
            _ => Ask::Any,
        }
    }

    /// The names that change, each with what becomes of what it stood for.
    pub(super) fn names(&self) -> [Option<&Entry>; 2] {
        match self {
            Self::Mkdir { entry, .. }
            | Self::MakeFile { entry, .. }
            | Self::Mknod { entry, .. }
            | Self::Symlink { entry, .. }
            | Self::Link { entry, .. }
            | Self::Unlink { entry }
            | Self::Rmdir { entry }
            | Self::Create { entry, .. } => [Some(entry), None],
            Self::Rename { from, to } => [Some(from), Some(to)],
            _ => [None, None],
        }
    }

    /// The inode whose attributes change.
    pub(super) const fn changes(&self) -> Option<Ino> {
        match self {
            Self::SetAttr { ino, .. }
            | Self::SetXattr { ino, .. }
            | Self::RemoveXattr { ino, .. }
            | Self::Link { target: ino, .. } => Some(*ino),
            _ => None,
        }
    }
}

/// Longest name of an extended attribute, in bytes.
///
/// Source: `torvalds/linux:include/uapi/linux/limits.h`, `XATTR_NAME_MAX`.
const XATTR_NAME_BYTES_MAX: usize = 255;
/// Longest value of an extended attribute, in bytes; what a server allows for all of an inode together.
///
/// Source: `ceph/ceph:src/common/options.cc`, `mds_max_xattr_pairs_size`.
const XATTR_BYTES_MAX: usize = 64 * 1024;
/// Longest path, its end mark included, in bytes.
///
/// Source: `torvalds/linux:include/uapi/linux/limits.h`, `PATH_MAX`.
const PATH_BYTES_MAX: usize = 4096;
/// Most names of a path in one request. A server resolves them one after another without letting others in.
const PATH_NAMES_MAX: usize = 1024;
