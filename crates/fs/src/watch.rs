use bytes::Bytes;
use cuttlebone_mds::{CapBits, Ino};
use tokio::sync::mpsc;

use crate::{FileSystem, Place};

/// A change that somebody else made, as far as a server tells.
///
/// Servers tell nobody what has changed. They take back what they had granted on it before they let another client
/// change it: so a change is heard of just before it is made, and a second one is heard of only after we have looked
/// again, which [`Changes`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Entries of a directory come or go, or a file's contents change.
    Entries,
    /// This name of a directory comes, goes, or stands for something else.
    Name(Bytes),
    /// Attributes change.
    Attributes,
    /// Touch with the server was lost, or the watcher was too slow: anything may have changed.
    Unknown,
}

/// Changes of what is watched, until it is dropped.
#[derive(Debug)]
pub struct Changes {
    fs: FileSystem,
    watched: Vec<(Ino, Place)>,
    receiver: mpsc::Receiver<(Ino, cuttlebone_mds::Change)>,
}

impl Changes {
    pub(crate) const fn new(
        fs: FileSystem,
        watched: Vec<(Ino, Place)>,
        receiver: mpsc::Receiver<(Ino, cuttlebone_mds::Change)>,
    ) -> Self {
        Self { fs, watched, receiver }
    }

    /// The next change; `None` when the file system is unmounted.
    ///
    /// It is answered after we have looked at the place again, so that what is asked from then on is the new state,
    /// or another change follows.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a change that was not answered is lost only together with this look.
    pub async fn next(&mut self) -> Option<(Place, Change)> {
        loop {
            let (ino, change) = self.receiver.recv().await?;
            let place =
                self.watched.iter().find(|(watched, _)| *watched == ino).map(|(_, place)| place.clone());
            let Some(place) = place else { continue };
            // Only what is granted anew can be taken back again. If it fails the place is gone, which is a change too.
            let _ = self.fs.stat(ino).await;
            let change = match change {
                cuttlebone_mds::Change::Revoked(caps) if caps.intersects(CapBits::FILE) => Change::Entries,
                cuttlebone_mds::Change::Name(name) => Change::Name(name.as_bytes().clone()),
                cuttlebone_mds::Change::Revoked(_) | cuttlebone_mds::Change::Attributes => Change::Attributes,
                _ => Change::Unknown,
            };
            return Some((place, change));
        }
    }
}
