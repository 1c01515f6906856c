use bytes::Bytes;
use cuttlebone_mds::{Call, Errno, Ino};

use crate::handle::refused;
use crate::{Error, FileSystem, Place};

/// Most directories above each other that a path goes through: paths of Linux have at most half as many parts.
pub(crate) const DEPTH_MAX: usize = 4096;
/// How often something is looked for again that was renamed while it was looked for.
const MOVES_MAX: usize = 8;

/// From numbers of inodes back to names.
///
/// [`stat`](FileSystem::stat) and every other operation take a number where they take a place, also one that no server has
/// in memory: it is found on disk.
impl FileSystem {
    /// The directory that an inode is in: that of its first name, if it has several.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says: `ESTALE` if the inode is gone, or has no name any more and is only kept
    /// for those who have it open; `EINVAL` for the root.
    pub async fn parent(&self, ino: Ino) -> Result<Ino, Error> {
        let (op, place) = ("lookup parent", Place::from(ino));
        let answer = self.call(op, &place, Call::LookupParent { ino }).await?;
        answer.target.map(|dir| dir.ino).ok_or_else(|| refused(op, &place, Errno::ENOENT))
    }

    /// The directory that an inode is in, and its name there: those of its first name, if it has several.
    ///
    /// # Errors
    ///
    /// As [`parent`](Self::parent), and `ESTALE` as well if it is renamed again and again.
    pub async fn name_of(&self, ino: Ino) -> Result<(Ino, Bytes), Error> {
        let (op, place) = ("lookup name", Place::from(ino));
        // Asked without a directory, a server would show the ones of its own in which it keeps what was removed.
        for _ in 0..MOVES_MAX {
            let dir = self.parent(ino).await?;
            match self.call(op, &place, Call::LookupName { ino, dir }).await {
                Ok(answer) => {
                    let entry = answer.entry.filter(|entry| entry.dir.ino == dir);
                    let name = entry.map(|entry| (dir, entry.dname));
                    return name.ok_or_else(|| refused(op, &place, Errno::ENOENT));
                }
                // It has moved since.
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Err(refused(op, &place, Errno::ESTALE))
    }

    /// The path of an inode from the root: that of its first name, if it has several.
    ///
    /// It takes two requests for each directory on the way. What is renamed meanwhile may have had this path in parts
    /// only.
    ///
    /// # Errors
    ///
    /// As [`name_of`](Self::name_of).
    pub async fn path_of(&self, ino: Ino) -> Result<Place, Error> {
        let (mut names, mut here) = (Vec::new(), ino);
        while here != Ino::ROOT {
            let (dir, name) = self.name_of(here).await?;
            if names.len() >= DEPTH_MAX {
                return Err(refused("path", &Place::from(ino), Errno::ELOOP));
            }
            names.push(name);
            here = dir;
        }
        Ok(names.iter().rev().fold(Place::root(), |path, name| path.join(name)))
    }
}
