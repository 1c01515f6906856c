use cuttlebone_mds::{Call, CapBits, Errno, Extra, Ino, Name, PageFlags, SnapId, Target};

use crate::handle::{name_of, refused};
use crate::{Entry, Error, FileSystem, Metadata, Place};

/// The directory in every directory that its snapshots are in, and that no listing shows. Servers know nothing of it.
///
/// Source: `ceph/ceph:src/common/options.cc`, `client_snapdir`.
const SNAPSHOTS: &[u8] = b".snap";
/// Most snapshots of one directory that are listed.
///
/// Source: `ceph/ceph:src/common/options.cc`, `mds_max_snaps_per_dir`, 100; at most 4096.
const SNAPSHOTS_MAX: usize = 4096;

/// What a path with `.snap` in it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// The snapshots of this directory.
    Snapshots(Ino),
    /// Something that a snapshot has kept.
    Kept(Target),
}

/// Whether a place is in a snapshot, or where snapshots are.
fn is_past(place: &Place) -> bool {
    place.parts().any(|part| part == SNAPSHOTS)
}

/// The directory and the name of the snapshot that a place is the whole of; `None` if it is not.
pub(crate) fn whole_snapshot(place: &Place) -> Option<(Place, &[u8])> {
    let (snapshots, name) = place.split()?;
    let (dir, last) = snapshots.split()?;
    (last == SNAPSHOTS && !is_past(&dir)).then_some((dir, name))
}

impl FileSystem {
    /// Where a place is among the snapshots; `None` if it is not.
    pub(crate) async fn past(&self, op: &'static str, place: &Place) -> Result<Option<Past>, Error> {
        if !is_past(place) {
            return Ok(None);
        }
        let above = place.parts().take_while(|part| *part != SNAPSHOTS);
        let dir = above.fold(Place::from(place.base()), |dir, part| dir.join(part));
        let below = place.parts().skip_while(|part| *part != SNAPSHOTS).skip(1);
        let names = below.map(|part| name_of(op, place, part)).collect::<Result<Vec<_>, _>>()?;
        let dir = self.dir(op, place, &dir).await?;
        let mut names = names.into_iter();
        let snapshot = names.next();
        Ok(Some(match snapshot {
            None => Past::Snapshots(dir),
            Some(snapshot) => Past::Kept(Target::in_snapshot(dir, snapshot, names)),
        }))
    }

    /// The attributes of something among the snapshots. The directory of the snapshots has those of the directory.
    pub(crate) async fn stat_past(
        &self,
        op: &'static str,
        place: &Place,
        past: Past,
    ) -> Result<Metadata, Error> {
        let (target, is_dir) = match past {
            Past::Snapshots(dir) => (dir.into(), true),
            Past::Kept(target) => (target, false),
        };
        let call = Call::GetAttr { target, want: CapBits::STAT };
        let told = self.call(op, place, call).await?.target;
        let mut metadata = Metadata::from(told.ok_or_else(|| refused(op, place, Errno::ENOENT))?);
        if is_dir {
            if !metadata.is_dir() {
                return Err(refused(op, place, Errno::ENOTDIR));
            }
            metadata.snap = SnapId::DIR;
        }
        Ok(metadata)
    }

    /// The snapshots of a directory.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says.
    pub async fn snapshots(&self, place: impl Into<Place>) -> Result<Vec<Entry>, Error> {
        let (op, place) = ("lssnap", place.into());
        let dir = self.dir(op, &place, &place).await?;
        let (mut snapshots, mut after) = (Vec::new(), None);
        loop {
            let answer = self.call(op, &place, Call::ListSnaps { dir, after }).await?;
            let Extra::Page(page) = answer.extra else { return Ok(snapshots) };
            let last = page.entries.last().and_then(|entry| Name::new(entry.name.clone()).ok());
            let listed = page.entries.into_iter();
            snapshots.extend(listed.map(|entry| Entry { name: entry.name, metadata: entry.inode.into() }));
            // A server has a few hundred at most, and says so with the last page; one without an end leads nowhere.
            if page.flags.contains(PageFlags::END) || last.is_none() || snapshots.len() > SNAPSHOTS_MAX {
                return Ok(snapshots);
            }
            after = last;
        }
    }

    /// Makes a snapshot of a directory and everything below.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says.
    pub async fn make_snapshot(&self, dir: impl Into<Place>, name: impl AsRef<[u8]>) -> Result<(), Error> {
        let (op, place) = ("mksnap", dir.into());
        let snap = self.entry_in(op, &place, &place, name.as_ref()).await?;
        self.call(op, &place, Call::MakeSnap { snap }).await.map(drop)
    }

    /// Removes a snapshot of a directory.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says.
    pub async fn remove_snapshot(&self, dir: impl Into<Place>, name: impl AsRef<[u8]>) -> Result<(), Error> {
        let (op, place) = ("rmsnap", dir.into());
        let snap = self.entry_in(op, &place, &place, name.as_ref()).await?;
        self.call(op, &place, Call::RemoveSnap { snap }).await.map(drop)
    }

    /// Gives a snapshot of a directory another name. [`rename`](Self::rename) within its `.snap` does the same.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says: `ENOENT` if there is no such snapshot of this very directory, `EEXIST`
    /// if there is one of the new name, `EINVAL` for a name that begins with `_`, which are those of directories above.
    pub async fn rename_snapshot(
        &self,
        dir: impl Into<Place>,
        from: impl AsRef<[u8]>,
        to: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        let (op, place) = ("renamesnap", dir.into());
        let from = name_of(op, &place, from.as_ref())?;
        let to = self.entry_in(op, &place, &place, to.as_ref()).await?;
        self.call(op, &place, Call::RenameSnap { dir: to.dir, from, to: to.name }).await.map(drop)
    }

    /// Refuses a change among the snapshots, where a server that does not know of them would make it among the living.
    pub(crate) fn only_now(op: &'static str, place: &Place, name: &[u8]) -> Result<(), Error> {
        if name == SNAPSHOTS || is_past(place) {
            return Err(refused(op, place, Errno::EROFS));
        }
        Ok(())
    }
}
