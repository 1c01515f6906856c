use cuttlebone_mds::{Nonsense, Rank, SessionNews};
use tokio::sync::broadcast;

use crate::Error;

/// What becomes of a mount, apart from the answers to what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// News of the session with a rank.
    Session(Rank, SessionNews),
    /// A change that was done may or may not last: its session was lost before it was committed.
    Uncommitted(cuttlebone_mds::Error),
    /// A monitor is of no use; others are tried.
    Monitor(Error),
    /// A metadata server sent what makes no sense. It was passed over.
    Nonsense(Rank, Nonsense),
    /// So many notices were lost to this listener, who was too slow.
    Missed(u64),
}

/// The notices of a mount, from the moment at which they were asked for.
#[derive(Debug)]
pub struct Notices {
    receiver: broadcast::Receiver<Notice>,
}

impl Notices {
    pub(crate) const fn new(receiver: broadcast::Receiver<Notice>) -> Self {
        Self { receiver }
    }

    /// The next one; `None` when the file system is unmounted.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: none is lost.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.receiver.recv().await {
            Ok(notice) => Some(notice),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Notice::Missed(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// One that is there already.
    pub fn try_next(&mut self) -> Option<Notice> {
        match self.receiver.try_recv() {
            Ok(notice) => Some(notice),
            Err(broadcast::error::TryRecvError::Lagged(count)) => Some(Notice::Missed(count)),
            Err(_) => None,
        }
    }
}
