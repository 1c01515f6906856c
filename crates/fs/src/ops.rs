use std::collections::BTreeMap;

use bytes::Bytes;
use cuttlebone_mds::{AttrChanges, Call, CapBits, Entry as NewEntry, Errno, Extra, Ino, XattrMode};

use crate::handle::refused;
use crate::metadata::{Kind, PERMISSION_BITS};
use crate::numbers::DEPTH_MAX;
use crate::snapshots::whole_snapshot;
use crate::vxattr::{Computed, computed};
use crate::{Error, FileSystem, Metadata, Place, ReadDir};

impl FileSystem {
    /// The attributes of what is there, symbolic links not followed at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says.
    pub async fn stat(&self, place: impl Into<Place>) -> Result<Metadata, Error> {
        let (op, place) = ("stat", place.into());
        if let Some(past) = self.past(op, &place).await? {
            return self.stat_past(op, &place, past).await;
        }
        let want = CapBits::STAT;
        let reply = match place.split() {
            None => self.call(op, &place, Call::GetAttr { target: place.base().into(), want }).await?,
            Some((dir, name)) => {
                let entry = self.entry_in(op, &place, &dir, name).await?;
                self.call(op, &place, Call::Lookup { entry, want }).await?
            }
        };
        self.target(op, &place, reply).await
    }

    /// The inode that a name stands for, and what it is. Other attributes may be older than what other clients have made of
    /// them, which is why this waits for nobody.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says.
    pub async fn lookup(&self, place: impl Into<Place>) -> Result<(Ino, Kind), Error> {
        let (op, place) = ("lookup", place.into());
        if let Some(past) = self.past(op, &place).await? {
            let metadata = self.stat_past(op, &place, past).await?;
            return Ok((metadata.ino, metadata.kind));
        }
        let want = CapBits::PIN;
        let answer = match place.split() {
            None => self.call(op, &place, Call::GetAttr { target: place.base().into(), want }).await?,
            Some((dir, name)) => {
                let entry = self.entry_in(op, &place, &dir, name).await?;
                self.call(op, &place, Call::Lookup { entry, want }).await?
            }
        };
        let metadata = self.target(op, &place, answer).await?;
        Ok((metadata.ino, metadata.kind))
    }

    /// What is in a directory, with attributes, page by page as they are asked for.
    pub fn read_dir(&self, place: impl Into<Place>) -> ReadDir {
        ReadDir::new(self.same(), place.into(), self.config().page_entries)
    }

    /// Makes a directory with these permissions.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says; `EEXIST` if there is something.
    pub async fn mkdir(&self, place: impl Into<Place>, mode: u32) -> Result<Metadata, Error> {
        let (op, place) = ("mkdir", place.into());
        let entry = self.entry(op, &place).await?;
        let mode = mode & PERMISSION_BITS;
        let reply = self.call(op, &place, Call::Mkdir { entry, mode }).await?;
        self.target(op, &place, reply).await
    }

    /// Makes an empty file with these permissions. It is not open, so nothing has to be closed.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says; `EEXIST` if there is something.
    pub async fn create(&self, place: impl Into<Place>, mode: u32) -> Result<Metadata, Error> {
        let (op, place) = ("create", place.into());
        let entry = self.entry(op, &place).await?;
        let mode = mode & PERMISSION_BITS;
        let reply = self.call(op, &place, Call::MakeFile { entry, mode }).await?;
        self.target(op, &place, reply).await
    }

    /// Removes a name that is no directory.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says; `EISDIR` for a directory.
    pub async fn unlink(&self, place: impl Into<Place>) -> Result<(), Error> {
        let (op, place) = ("unlink", place.into());
        let entry = self.entry(op, &place).await?;
        self.call(op, &place, Call::Unlink { entry }).await.map(drop)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says; `ENOTEMPTY` if it is not.
    pub async fn rmdir(&self, place: impl Into<Place>) -> Result<(), Error> {
        let (op, place) = ("rmdir", place.into());
        let entry = self.entry(op, &place).await?;
        self.call(op, &place, Call::Rmdir { entry }).await.map(drop)
    }

    /// Gives something another name, atomically in place of what had that name; or a snapshot, in the `.snap` of its
    /// directory.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says; `ENOTEMPTY` in place of a directory that it is in, which no server is
    /// asked for.
    pub async fn rename(&self, from: impl Into<Place>, to: impl Into<Place>) -> Result<(), Error> {
        let (op, from, to) = ("rename", from.into(), to.into());
        if let (Some((dir, old)), Some((other, new))) = (whole_snapshot(&from), whole_snapshot(&to))
            && dir == other
        {
            return self.rename_snapshot(dir, old, new).await;
        }
        let (old, new) = (self.entry(op, &from).await?, self.entry(op, &to).await?);
        if old.dir != new.dir && self.is_on_the_way(op, &from, &new).await? {
            return Err(refused(op, &from, Errno::ENOTEMPTY));
        }
        self.call(op, &from, Call::Rename { from: old, to: new }).await.map(drop)
    }

    /// Whether an entry is one of the directories on the way from the root to `place`.
    ///
    /// A server of 16.2.15 that is asked to put something in place of a directory above it waits for its own locks for
    /// ever, with both directories locked. Linux never asks (`torvalds/linux:fs/namei.c`, `do_renameat2`), so servers do
    /// not look.
    async fn is_on_the_way(&self, op: &'static str, place: &Place, entry: &NewEntry) -> Result<bool, Error> {
        let Some((dir, _)) = place.split() else { return Ok(false) };
        let mut way = self.way(op, place, &dir).await?;
        // Above an inode that was given by its number, nobody has been yet.
        while let Some(first) = way.first().copied().filter(|first| *first != Ino::ROOT) {
            let above =
                self.call(op, place, Call::LookupParent { ino: first }).await?.target.map(|stat| stat.ino);
            match above {
                Some(above) if !way.contains(&above) && way.len() < DEPTH_MAX => way.insert(0, above),
                _ => break,
            }
        }
        let below = way.iter().position(|ino| *ino == entry.dir).and_then(|at| way.get(at + 1));
        let Some(below) = below else { return Ok(false) };
        let want = CapBits::PIN;
        match self.call(op, place, Call::Lookup { entry: entry.clone(), want }).await {
            Ok(answer) => Ok(answer.target.is_some_and(|stat| stat.is_dir() && stat.ino == *below)),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a file one more name, and answers its attributes.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says.
    pub async fn link(&self, existing: impl Into<Place>, new: impl Into<Place>) -> Result<Metadata, Error> {
        let (op, existing, new) = ("link", existing.into(), new.into());
        let target = self.ino(op, &existing).await?;
        let entry = self.entry(op, &new).await?;
        let reply = self.call(op, &new, Call::Link { entry, target }).await?;
        self.target(op, &new, reply).await
    }

    /// Makes a symbolic link with this text.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says; `EEXIST` if there is something.
    pub async fn symlink(&self, target: impl AsRef<[u8]>, new: impl Into<Place>) -> Result<Metadata, Error> {
        let (op, new) = ("symlink", new.into());
        let entry = self.entry(op, &new).await?;
        let target = Bytes::copy_from_slice(target.as_ref());
        let reply = self.call(op, &new, Call::Symlink { entry, target }).await?;
        self.target(op, &new, reply).await
    }

    /// The text of a symbolic link.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says; `EINVAL` if it is none.
    pub async fn read_link(&self, place: impl Into<Place>) -> Result<Bytes, Error> {
        let place = place.into();
        let metadata = self.stat(&place).await?;
        if metadata.is_symlink() {
            return Ok(metadata.symlink);
        }
        Err(refused("readlink", &place, Errno::EINVAL))
    }

    /// Changes attributes, and answers all of them. Does not follow a symbolic link at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says.
    pub async fn set_attributes(
        &self,
        place: impl Into<Place>,
        changes: AttrChanges,
    ) -> Result<Metadata, Error> {
        let (op, place) = ("setattr", place.into());
        let ino = self.ino(op, &place).await?;
        let reply = self.call(op, &place, Call::SetAttr { ino, changes }).await?;
        self.target(op, &place, reply).await
    }

    /// The extended attributes that are stored with it. Those that Ceph computes are not among them.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says.
    pub async fn list_xattrs(&self, place: impl Into<Place>) -> Result<BTreeMap<Bytes, Bytes>, Error> {
        let place = place.into();
        Ok(self.stat(&place).await?.xattrs.unwrap_or_default())
    }

    /// One extended attribute: one that is stored, one that follows from the attributes, such as `ceph.dir.rbytes`, or
    /// one that only the server can tell, such as `ceph.dir.layout.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says; `ENODATA` if there is none.
    pub async fn get_xattr(&self, place: impl Into<Place>, name: impl AsRef<[u8]>) -> Result<Bytes, Error> {
        let (op, place, name) = ("getxattr", place.into(), name.as_ref());
        let metadata = self.stat(&place).await?;
        if let Some(value) = metadata.xattrs.as_ref().and_then(|xattrs| xattrs.get(name)) {
            return Ok(value.clone());
        }
        match computed(&metadata, name) {
            Computed::Value(value) => return Ok(value),
            // Of what is kept in a snapshot, a server knows no others.
            Computed::Unknown if name.starts_with(b"ceph.") && metadata.snap.is_head() => {}
            Computed::Unknown | Computed::Absent => return Err(refused(op, &place, Errno::ENODATA)),
        }
        let call = Call::GetVxattr { ino: metadata.ino, name: Bytes::copy_from_slice(name) };
        match self.call(op, &place, call).await?.extra {
            Extra::Vxattr(value) => Ok(value),
            _ => Err(refused(op, &place, Errno::ENODATA)),
        }
    }

    /// Sets an extended attribute. Among those of Ceph are quotas (`ceph.quota.max_files`) and pins (`ceph.dir.pin`).
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says.
    pub async fn set_xattr(
        &self,
        place: impl Into<Place>,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        self.set_xattr_as(place, name, value, XattrMode::Either).await
    }

    /// Sets an extended attribute that has to be new, or to be there already.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says; `EEXIST` or `ENODATA` if `mode` is not met.
    pub async fn set_xattr_as(
        &self,
        place: impl Into<Place>,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        mode: XattrMode,
    ) -> Result<(), Error> {
        let (op, place) = ("setxattr", place.into());
        let ino = self.ino(op, &place).await?;
        let name = Bytes::copy_from_slice(name.as_ref());
        let value = Bytes::copy_from_slice(value.as_ref());
        self.call(op, &place, Call::SetXattr { ino, name, value, mode }).await.map(drop)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says; `ENODATA` if there is none.
    pub async fn remove_xattr(&self, place: impl Into<Place>, name: impl AsRef<[u8]>) -> Result<(), Error> {
        let (op, place) = ("removexattr", place.into());
        let ino = self.ino(op, &place).await?;
        let name = Bytes::copy_from_slice(name.as_ref());
        self.call(op, &place, Call::RemoveXattr { ino, name }).await.map(drop)
    }
}
