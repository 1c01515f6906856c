//! What is done to a tree by either client, and which answers there are to see.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The error numbers that the model answers.
pub(crate) mod errno {
    pub(crate) const ENOENT: i32 = 2;
    pub(crate) const EACCES: i32 = 13;
    pub(crate) const EEXIST: i32 = 17;
    pub(crate) const ENOTDIR: i32 = 20;
    pub(crate) const EISDIR: i32 = 21;
    pub(crate) const EINVAL: i32 = 22;
    pub(crate) const ENAMETOOLONG: i32 = 36;
    pub(crate) const ENOTEMPTY: i32 = 39;
    pub(crate) const ELOOP: i32 = 40;
    pub(crate) const ENODATA: i32 = 61;
}
use errno::{EEXIST, EINVAL, EISDIR, ENAMETOOLONG, ENODATA, ENOENT, ENOTDIR, ENOTEMPTY};

/// Something that is done to a tree.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Mkdir(String),
    Create(String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String),
    Link(String, String),
    Symlink(String, String),
    Chmod(String, u32),
    Chown(String, u32, u32),
    /// Access and modification, in seconds.
    Times(String, u64, u64),
    Truncate(String, u64),
    /// With the flags of the system call: 1 for one that has to be new, 2 for one that has to be there.
    SetXattr(String, &'static str, String, u32),
    RemoveXattr(String, &'static str),
    GetXattr(String, &'static str),
    ListXattrs(String),
    /// How the contents of a file are spread, or those of new files in a directory.
    SetLayout(String, &'static str, u64),
    GetLayout(String, &'static str),
    /// A count that Ceph tells as an attribute of a directory.
    Count(String, &'static str),
    MakeSnapshot(String, &'static str),
    RemoveSnapshot(String, &'static str),
    RenameSnapshot(String, &'static str, &'static str),
    Snapshots(String),
    Stat(String),
    ReadDir(String),
    ReadLink(String),
}

/// What it answers: what two clients can be compared by, or an error number.
pub(crate) type Outcome = Result<Value, i32>;

impl Op {
    pub(crate) const fn changes(&self) -> bool {
        !matches!(
            self,
            Self::GetXattr(..)
                | Self::ListXattrs(_)
                | Self::GetLayout(..)
                | Self::Count(..)
                | Self::Snapshots(_)
                | Self::Stat(_)
                | Self::ReadDir(_)
                | Self::ReadLink(_)
        )
    }

    /// Whether Ceph's library may answer before it has told the server.
    pub(crate) const fn is_kept_back(&self) -> bool {
        matches!(
            self,
            Self::Chmod(..)
                | Self::Chown(..)
                | Self::Times(..)
                | Self::Truncate(..)
                | Self::SetXattr(..)
                | Self::RemoveXattr(..)
        )
    }

    /// The operation of the protocol that it comes to.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Mkdir(_) => "mkdir",
            Self::Create(_) => "mknod",
            Self::Unlink(_) => "unlink",
            Self::Rmdir(_) => "rmdir",
            Self::Rename(..) => "rename",
            Self::Link(..) => "link",
            Self::Symlink(..) => "symlink",
            Self::Chmod(..) => "setattr mode",
            Self::Chown(..) => "setattr owner",
            Self::Times(..) => "setattr times",
            Self::Truncate(..) => "setattr size",
            Self::SetXattr(..) => "setxattr",
            Self::RemoveXattr(..) => "rmxattr",
            Self::GetXattr(..) => "getxattr",
            Self::ListXattrs(..) => "listxattr",
            Self::SetLayout(..) => "setxattr layout",
            Self::GetLayout(..) => "getxattr layout",
            Self::Count(..) => "getxattr count",
            Self::MakeSnapshot(..) => "mksnap",
            Self::RemoveSnapshot(..) => "rmsnap",
            Self::RenameSnapshot(..) => "renamesnap",
            Self::Snapshots(_) => "lssnap",
            Self::Stat(_) => "lookup",
            Self::ReadDir(_) => "readdir",
            Self::ReadLink(_) => "readlink",
        }
    }
}

/// Every operation with the answers that there are to see of it; 0 is success, which each has to have with both
/// clients, but for `rmsnap`, which is left to us.
///
/// The operations of the protocol that are not in here, and where they are shown: `getattr`, `getvxattr`, links that go
/// round, and what is only compared when it has settled (recursive sums, quotas, pins, `statfs`) in `operations`;
/// `lookupino`, `lookupparent` and `lookupname` in `numbers`; `open` and `create` in `open`; `setfilelock` and
/// `getfilelock` in `locks`.
pub(crate) const EXPECTED: &[(&str, &[i32])] = &[
    ("mkdir", &[0, ENOENT, EEXIST, ENOTDIR, ENAMETOOLONG]),
    ("mknod", &[0, ENOENT, EEXIST, ENOTDIR, ENAMETOOLONG]),
    ("unlink", &[0, ENOENT, EISDIR, ENOTDIR]),
    ("rmdir", &[0, ENOENT, ENOTDIR, ENOTEMPTY]),
    ("rename", &[0, ENOENT, EISDIR, EINVAL, ENOTDIR, ENOTEMPTY]),
    ("link", &[0, ENOENT, EEXIST, ENOTDIR]),
    ("symlink", &[0, ENOENT, EEXIST, ENOTDIR]),
    ("setattr mode", &[0, ENOENT, ENOTDIR]),
    ("setattr owner", &[0, ENOENT]),
    ("setattr times", &[0, ENOENT]),
    ("setattr size", &[0, ENOENT]),
    ("setxattr", &[0, ENOENT, EEXIST, ENODATA]),
    ("rmxattr", &[0, ENOENT, ENODATA]),
    ("getxattr", &[0, ENOENT, ENODATA]),
    ("listxattr", &[0, ENOENT]),
    ("setxattr layout", &[0, ENOENT]),
    ("getxattr layout", &[0, ENOENT, ENODATA]),
    ("getxattr count", &[0, ENOENT]),
    ("mksnap", &[0, ENOENT, EEXIST]),
    ("rmsnap", &[0, ENOENT]),
    ("renamesnap", &[0, ENOENT, EEXIST]),
    ("lssnap", &[0, ENOENT]),
    ("lookup", &[0, ENOENT, ENOTDIR, ENAMETOOLONG]),
    ("readdir", &[0, ENOENT, ENOTDIR]),
    ("readlink", &[0, ENOENT, EINVAL]),
];

/// What a run has seen.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    seen: BTreeMap<(&'static str, i32), u64>,
    /// Operations that succeeded, and whether it was ours.
    succeeded: BTreeSet<(&'static str, bool)>,
}

impl Coverage {
    pub(crate) fn note(&mut self, op: &Op, outcome: &Outcome, ours: bool) {
        let errno = outcome.as_ref().err().copied().unwrap_or(0);
        *self.seen.entry((op.name(), errno)).or_default() += 1;
        if errno == 0 {
            self.succeeded.insert((op.name(), ours));
        }
    }

    /// What should have been seen and was not.
    pub(crate) fn missing(&self) -> Vec<String> {
        let answers =
            EXPECTED.iter().flat_map(|(op, answers)| answers.iter().map(move |errno| (*op, *errno)));
        let answers = answers.filter(|answer| !self.seen.contains_key(answer));
        let by_whom = EXPECTED.iter().flat_map(|(op, _)| [(*op, true), (*op, false)]);
        let by_whom =
            by_whom.filter(|by_whom| *by_whom != ("rmsnap", false) && !self.succeeded.contains(by_whom));
        let answers = answers.map(|(op, errno)| format!("{op} with error {errno}"));
        let by_whom = by_whom.map(|(op, ours)| format!("{op} by {}", if ours { "us" } else { "them" }));
        answers.chain(by_whom).collect()
    }
}
