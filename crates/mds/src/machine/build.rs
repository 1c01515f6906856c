use alloc::vec::Vec;

use bytes::Bytes;

use super::call::{AttrChanges, Call, Caller, Entry, Lock, LockKind, LockRule, XattrMode};
use crate::message::{
    ClientRequest, FileLockArgs, FilePath, LayoutArgs, Op, ReadDirArgs, RequestArgs, RequestFlags,
    SetAttrArgs,
};
use crate::{CapBits, Frag, Ino, SnapId};

/// Flags of open as they are on the wire, whatever the host's are.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_O_*`; seen in 16.2.15.
mod open_flags {
    pub(super) const READ_ONLY: u32 = 0;
    pub(super) const CREATE: u32 = 0o100;
    pub(super) const EXCLUSIVE: u32 = 0o200;
}

impl Call {
    /// The request as it is on the wire, but for what depends on the session and the attempt.
    ///
    /// The same call gives the same bytes each time, as a replay has to: names may have moved since, and no path is
    /// looked up anew.
    pub(super) fn build(&self, caller: &Caller) -> ClientRequest {
        let mut request = self.operation();
        request.caller_uid = caller.uid;
        request.caller_gid = caller.gid;
        request.gids.clone_from(&caller.groups);
        request.stamp = caller.stamp;
        request
    }

    fn operation(&self) -> ClientRequest {
        let of = FilePath::of;
        let plain = ClientRequest::new;
        match self {
            Self::GetAttr { target, want } => {
                let path = FilePath::new(target.base, target.path());
                plain(Op::GETATTR, path, RequestArgs::GetAttr { mask: *want })
            }
            Self::Lookup { entry, want } => named(Op::LOOKUP, entry, RequestArgs::GetAttr { mask: *want }),
            Self::LookupIno { ino, want } => plain(Op::LOOKUPINO, of(*ino), lookup_ino(*want)),
            Self::LookupParent { ino } => plain(Op::LOOKUPPARENT, of(*ino), lookup_ino(CapBits::STAT)),
            Self::LookupName { ino, dir } => {
                let path2 = of(*dir);
                ClientRequest { path2, ..plain(Op::LOOKUPNAME, of(*ino), RequestArgs::None) }
            }
            Self::ReadDir { dir, frag, after, entries_max, bytes_max } => {
                let path = FilePath::new(dir.base, dir.path());
                let args = page(*frag, *entries_max, *bytes_max);
                let path2 = after.as_ref().map(|name| FilePath::new(Ino::NONE, name.as_bytes().clone()));
                ClientRequest { path2: path2.unwrap_or_default(), ..plain(Op::READDIR, path, args) }
            }
            Self::GetVxattr { ino, name } => attribute(Op::GETVXATTR, *ino, name, RequestArgs::None),
            Self::Mkdir { entry, mode } => named(Op::MKDIR, entry, RequestArgs::MkDir { mode: *mode }),
            // Opened for reading, as far as the server knows, and given back at once. With MKNOD it believes that we are
            // going to write: it notes in its journal how far, tells us so when the file is made, and writes to its
            // journal again when the file is given back.
            Self::MakeFile { entry, mode } => {
                let flags = open_flags::READ_ONLY | open_flags::CREATE | open_flags::EXCLUSIVE;
                named(Op::CREATE, entry, open(flags, *mode))
            }
            Self::Mknod { entry, mode, rdev } => {
                named(Op::MKNOD, entry, RequestArgs::MkNod { mode: *mode, rdev: *rdev })
            }
            Self::Symlink { entry, target } => {
                let path2 = FilePath::new(Ino::NONE, target.clone());
                ClientRequest { path2, ..named(Op::SYMLINK, entry, RequestArgs::None) }
            }
            Self::Link { entry, target } => {
                ClientRequest { path2: of(*target), ..named(Op::LINK, entry, RequestArgs::None) }
            }
            Self::Unlink { entry } => named(Op::UNLINK, entry, RequestArgs::None),
            Self::Rmdir { entry } => named(Op::RMDIR, entry, RequestArgs::None),
            Self::Rename { from, to } => {
                ClientRequest { path2: path_of(from), ..named(Op::RENAME, to, RequestArgs::None) }
            }
            Self::SetAttr { ino, changes } => {
                plain(Op::SETATTR, of(*ino), RequestArgs::SetAttr(set_attr(changes)))
            }
            Self::SetXattr { ino, name, value, mode } => {
                let flags = match mode {
                    XattrMode::Either => 0,
                    XattrMode::Create => 1,
                    XattrMode::Replace => 2,
                };
                let args = RequestArgs::SetXattr { flags, osdmap_epoch: 0 };
                ClientRequest { data: value.clone(), ..attribute(Op::SETXATTR, *ino, name, args) }
            }
            Self::RemoveXattr { ino, name } => {
                let args = RequestArgs::SetXattr { flags: 0, osdmap_epoch: 0 };
                attribute(Op::RMXATTR, *ino, name, args)
            }
            // Never for writing: the server would note in its journal how far we may write, and have the file measured
            // if we go. And without asking for the name, which it does not expect of a number.
            Self::Open { ino } => plain(Op::OPEN, of(*ino), open(open_flags::READ_ONLY, 0)),
            Self::Create { entry, mode, exclusive } => {
                let exclusive = if *exclusive { open_flags::EXCLUSIVE } else { 0 };
                let flags = open_flags::READ_ONLY | open_flags::CREATE | exclusive;
                named(Op::CREATE, entry, open(flags, *mode))
            }
            Self::SetLock { ino, lock } => plain(Op::SETFILELOCK, of(*ino), lock_args(lock)),
            Self::GetLock { ino, lock } => plain(Op::GETFILELOCK, of(*ino), lock_args(lock)),
            Self::ListSnaps { dir, after } => {
                let path2 = after.as_ref().map(|name| FilePath::new(Ino::NONE, name.as_bytes().clone()));
                let path2 = path2.unwrap_or_default();
                ClientRequest { path2, ..plain(Op::LSSNAP, of(*dir), page(Frag::WHOLE, 0, 0)) }
            }
            Self::MakeSnap { snap } => plain(Op::MKSNAP, path_of(snap), RequestArgs::None),
            Self::RemoveSnap { snap } => plain(Op::RMSNAP, path_of(snap), RequestArgs::None),
            Self::RenameSnap { dir, from, to } => {
                let path2 = FilePath::new(*dir, from.as_bytes().clone());
                let path = FilePath::new(*dir, to.as_bytes().clone());
                ClientRequest { path2, ..plain(Op::RENAMESNAP, path, RequestArgs::None) }
            }
        }
    }
}

fn path_of(entry: &Entry) -> FilePath {
    FilePath::new(entry.dir, entry.name.as_bytes().clone())
}

/// An operation on a name, whose reply is to tell of the directory and the name.
fn named(op: Op, entry: &Entry, args: RequestArgs) -> ClientRequest {
    ClientRequest { flags: RequestFlags::WANT_DENTRY, ..ClientRequest::new(op, path_of(entry), args) }
}

fn attribute(op: Op, ino: Ino, name: &Bytes, args: RequestArgs) -> ClientRequest {
    let path2 = FilePath::new(Ino::NONE, name.clone());
    ClientRequest { path2, ..ClientRequest::new(op, FilePath::of(ino), args) }
}

const fn lookup_ino(mask: CapBits) -> RequestArgs {
    RequestArgs::LookupIno { mask, snap: SnapId(0), parent: Ino::NONE, hash: 0 }
}

const fn page(frag: Frag, max_entries: u32, max_bytes: u32) -> RequestArgs {
    let flags = ReadDirArgs::REPLY_BITFLAGS;
    RequestArgs::ReadDir(ReadDirArgs { frag, max_entries, max_bytes, flags, offset_hash: 0 })
}

fn open(flags: u32, mode: u32) -> RequestArgs {
    let layout = LayoutArgs::default();
    RequestArgs::Open { flags, mode, layout, mask: CapBits::STAT, old_size: 0 }
}

fn set_attr(changes: &AttrChanges) -> SetAttrArgs {
    let bit = |set: bool, bit| if set { bit } else { 0 };
    let AttrChanges { mode, uid, gid, mtime, atime, btime, size } = *changes;
    let bits = [
        bit(mode.is_some(), SetAttrArgs::MODE),
        bit(uid.is_some(), SetAttrArgs::UID),
        bit(gid.is_some(), SetAttrArgs::GID),
        bit(mtime.is_some(), SetAttrArgs::MTIME),
        bit(atime.is_some(), SetAttrArgs::ATIME),
        bit(btime.is_some(), SetAttrArgs::BTIME),
        bit(size.is_some(), SetAttrArgs::SIZE),
    ];
    SetAttrArgs {
        mode: mode.unwrap_or_default(),
        uid: uid.unwrap_or_default(),
        gid: gid.unwrap_or_default(),
        mtime: mtime.unwrap_or_default(),
        atime: atime.unwrap_or_default(),
        size: size.map_or(0, |size| size.to),
        old_size: size.map_or(0, |size| size.from),
        mask: bits.into_iter().fold(0, |mask, bit| mask | bit),
        btime: btime.unwrap_or_default(),
    }
}

/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_LOCK_*`; seen in 16.2.15.
fn lock_args(lock: &Lock) -> RequestArgs {
    RequestArgs::FileLock(FileLockArgs {
        rule: match lock.rule {
            LockRule::Fcntl => 1,
            LockRule::Flock => 2,
        },
        kind: match lock.kind {
            LockKind::Shared => 1,
            LockKind::Exclusive => 2,
            LockKind::Unlock => 4,
        },
        owner: lock.owner,
        pid: lock.pid,
        start: 0,
        length: 0,
        wait: lock.wait.into(),
    })
}

/// Which bits of a capability a request gives back, since the server would have to take them first.
///
/// Source: `torvalds/linux:fs/ceph/dir.c`, `inode.c`, `xattr.c`, the `r_*_drop` of each request; which exclusive bits of a
/// directory are in the way of changing its names was seen in 16.2.15.
pub(super) fn drops(call: &Call) -> Vec<(Ino, Drop)> {
    let mut drops = Vec::new();
    for entry in call.names().into_iter().flatten() {
        drops.push((entry.dir, Drop::Names));
    }
    match call {
        Call::Link { target, .. } => drops.push((*target, Drop::Bits(links()))),
        Call::ReadDir { dir, .. } => {
            drops.extend(dir.plain().map(|dir| (dir, Drop::Bits(CapBits::FILE_EXCL))));
        }
        Call::SetAttr { ino, changes } => {
            let AttrChanges { mode, uid, gid, mtime, atime, btime, size } = changes;
            let mut bits = CapBits::NONE;
            if mode.is_some() || uid.is_some() || gid.is_some() || btime.is_some() {
                bits |= CapBits::AUTH_SHARED | CapBits::AUTH_EXCL;
            }
            if mtime.is_some() || atime.is_some() || size.is_some() {
                bits |= CapBits::FILE;
            }
            drops.push((*ino, Drop::Bits(bits)));
        }
        Call::SetXattr { ino, .. } | Call::RemoveXattr { ino, .. } => {
            drops.push((*ino, Drop::Bits(CapBits::XATTR_SHARED | CapBits::XATTR_EXCL)));
        }
        _ => {}
    }
    drops
}

/// What is given back of one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drop {
    /// What stands in the way of changing names in a directory: exclusive bits of its attributes, and the shared bit of
    /// its entries.
    ///
    /// Not with the exclusive bit of its entries. It says that the server keeps the directory for us, as it changes it;
    /// given back, the server would first wait until all that we have changed is in its journal.
    Names,
    /// These.
    Bits(CapBits),
}

impl Drop {
    pub(super) const fn bits(self, issued: CapBits) -> CapBits {
        match self {
            Self::Bits(bits) => bits,
            Self::Names if issued.contains(CapBits::FILE_EXCL) => CapBits::EXCL.without(CapBits::FILE_EXCL),
            Self::Names => CapBits(CapBits::EXCL.0 | CapBits::FILE_SHARED.0),
        }
    }
}

/// What stands in the way of changing the number of links.
pub(super) const fn links() -> CapBits {
    CapBits(CapBits::LINK_SHARED.0 | CapBits::EXCL.0)
}
