use alloc::vec::Vec;

use bytes::Bytes;
use cuttlebone_wire::{Decode, DecodeError, Encode, Reader, Writer};

use super::trace::{DirStat, LeaseStat};
use crate::limits::{LIST_MAX, NAME_BYTES_MAX};
use crate::{Ino, InodeStat, ReplyForm};

/// Some entries of a directory, in the order of their hashes and then of their names.
///
/// Source: `ceph/ceph:src/mds/Server.cc`, `handle_client_readdir`; seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "three parts for ever")]
pub struct DirPage {
    /// The fragment that they are in; another one than was asked for if the directory was divided anew.
    pub frag: DirStat,
    /// How the page relates to its fragment.
    pub flags: PageFlags,
    /// The entries.
    pub entries: Vec<DirEntry>,
}

/// One entry with everything that a lookup of it would tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "three parts for ever")]
pub struct DirEntry {
    /// Its name; for [`Op::LSSNAP`](crate::Op::LSSNAP) that of a snapshot.
    pub name: Bytes,
    /// For how long the name may be trusted.
    pub lease: LeaseStat,
    /// Its inode.
    pub inode: InodeStat,
}

/// How a page relates to its fragment.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_READDIR_*`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "sixteen bits, all of which are kept")]
pub struct PageFlags(pub u16);

impl PageFlags {
    /// It reaches the end of the fragment.
    pub const END: Self = Self(1);
    /// It is the whole fragment.
    pub const COMPLETE: Self = Self(1 << 8);
    /// It is in the order of hashes.
    pub const HASH_ORDER: Self = Self(1 << 9);
    /// Reading may go on behind a hash instead of a name.
    pub const OFFSET_HASH: Self = Self(1 << 10);

    /// Whether all bits of `other` are here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Bytes of the shortest entry.
const ENTRY_BYTES_MIN: usize = 4 + 10 + InodeStat::BYTES_MIN;

impl DirPage {
    pub(super) fn decode(bytes: &Bytes, form: ReplyForm) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let frag = DirStat::decode_as(&mut r, form)?;
        let count = r.u32("entries")?;
        let flags = PageFlags(r.u16("page flags")?);
        // The count stands before the flags, so that it is checked here.
        let fits = r.remaining() / ENTRY_BYTES_MIN;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > fits {
            let needed = count.saturating_mul(ENTRY_BYTES_MIN);
            let kind = cuttlebone_wire::DecodeErrorKind::Short { needed, left: r.remaining() };
            return Err(r.error("entries", kind));
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(DirEntry {
                name: r.blob("dname", NAME_BYTES_MAX)?,
                lease: LeaseStat::decode_as(&mut r, form)?,
                inode: InodeStat::decode_as(&mut r, form)?,
            });
        }
        r.finish("readdir")?;
        Ok(Self { frag, flags, entries })
    }

    /// Writes the page in the form that the session has.
    pub fn encode(&self, w: &mut Writer, form: ReplyForm) {
        self.frag.encode_as(w, form);
        w.count(self.entries.len());
        w.u16(self.flags.0);
        for entry in &self.entries {
            w.blob(&entry.name);
            entry.lease.encode_as(w, form);
            entry.inode.encode_as(w, form);
        }
    }
}

/// What a request created.
///
/// Source: `ceph/ceph:src/mds/Server.cc`, `set_reply_extra_bl`; both forms seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct Created {
    /// The inode.
    pub ino: Ino,
    /// Numbers for inodes that the client may create by itself; none for clients that did not claim
    /// [`feature::DELEG_INO`](crate::feature::DELEG_INO).
    pub delegated: Option<Vec<DelegatedInos>>,
}

/// A range of inode numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire has these two fields and no version to add a third")]
pub struct DelegatedInos {
    /// The first.
    pub start: Ino,
    /// How many.
    pub len: u64,
}

/// Bytes of the form that has the inode only, which no versioned structure fits into.
const BARE_INO_BYTES: usize = 8;

impl Created {
    pub(super) fn decode(bytes: &Bytes) -> Result<Option<Self>, DecodeError> {
        let mut r = Reader::new(bytes);
        match bytes.len() {
            0 => Ok(None),
            BARE_INO_BYTES => Ok(Some(Self { ino: Ino(r.u64("created ino")?), delegated: None })),
            _ => r.versioned("created", 1, |r, _| {
                let ino = Ino(r.u64("created ino")?);
                let range = |r: &mut Reader<'_>| {
                    Ok(DelegatedInos { start: Ino(r.u64("start")?), len: r.u64("len")? })
                };
                let delegated = r.list("delegated inos", LIST_MAX, 16, range)?;
                Ok(Some(Self { ino, delegated: Some(delegated) }))
            }),
        }
    }
}

impl Encode for Created {
    fn encode(&self, w: &mut Writer) {
        let Some(delegated) = &self.delegated else { return w.u64(self.ino.0) };
        w.versioned(1, 1, |w| {
            w.u64(self.ino.0);
            w.list(delegated, |w, range| {
                w.u64(range.start.0);
                w.u64(range.len);
            });
        });
    }
}

/// A lock on a range of a file.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `struct ceph_filelock`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "41 bytes for ever")]
pub struct FileLock {
    /// The first byte.
    pub start: u64,
    /// How many bytes; 0 for all behind the first.
    pub length: u64,
    /// The global id of the client that has it.
    pub client: u64,
    /// Which owner at that client.
    pub owner: u64,
    /// Which process there.
    pub pid: u64,
    /// 1 shared, 2 exclusive, 4 none.
    pub kind: u8,
}

impl Decode for FileLock {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            start: r.u64("start")?,
            length: r.u64("length")?,
            client: r.u64("client")?,
            owner: r.u64("owner")?,
            pid: r.u64("pid")?,
            kind: r.u8("type")?,
        })
    }
}

impl Encode for FileLock {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.start);
        w.u64(self.length);
        w.u64(self.client);
        w.u64(self.owner);
        w.u64(self.pid);
        w.u8(self.kind);
    }
}
