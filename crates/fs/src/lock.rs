use cuttlebone_mds::{Call, Errno, Extra, Lock, LockKind, LockRule};

use crate::{Error, OpenFile};

/// All who have a file open through one mount are one owner. With the highest bit set, a server tells owners by this
/// number and the client alone, and not by the process.
///
/// Source: `ceph/ceph:src/mds/flock.h`, `ceph_filelock_owner_equal`.
const OWNER: u64 = 1 << 63;
/// How a server numbers the kinds of locks.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_LOCK_SHARED`, `CEPH_LOCK_EXCL`.
const SHARED: u8 = 1;
const EXCLUSIVE: u8 = 2;

/// Who holds a lock that is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockHolder {
    /// The number that the monitors gave its client, as [`FileSystem::global_id`](crate::FileSystem::global_id) tells ours.
    pub client: u64,
    /// What the client calls the process. Nobody checks it.
    pub pid: u64,
    /// Which kind.
    pub kind: LockKind,
}

/// Locks. They are advisory: they keep nobody from anything but from taking the same lock. A mount is one owner, however
/// often it has a file open, and every other client is another one; so they do between hosts what `fcntl` does between
/// processes. Locks by the rules of `flock` and those of `fcntl` do not see each other.
///
/// They are on the whole file and never wait: ranges are not safe with every server
/// ([`cuttlebone_mds::Lock`] tells why), and a wait that is cancelled would have to be called off in time. Whoever wants to
/// wait tries again after a pause.
impl OpenFile {
    /// Takes a lock, or another kind of it, or gives it up ([`LockKind::Unlock`]); `false` if somebody else holds one that is
    /// in the way, and then nothing has changed.
    ///
    /// It is held until it is given up, until this file is closed as often as this mount has opened it, or until the session
    /// is lost ([`is_lost`](Self::is_lost)). A restart of the metadata server does not end it.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says; `ESTALE` if the file is lost; `ENOLCK` above
    /// [`Limits::pins_max`](crate::Limits).
    ///
    /// # Cancel safety
    ///
    /// Cancelled, the lock may be taken or not; it is well defined again when the next call has answered.
    pub async fn try_lock(&self, rule: LockRule, kind: LockKind) -> Result<bool, Error> {
        let ino = self.ino();
        match self.call("setlk", Call::SetLock { ino, lock: lock(rule, kind) }).await {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(Errno::EAGAIN) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Somebody else who holds a lock that is in the way of this one; `None` if it could be taken.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the server says; `ESTALE` if the file is lost.
    pub async fn lock_holder(&self, rule: LockRule, kind: LockKind) -> Result<Option<LockHolder>, Error> {
        let ino = self.ino();
        let answer = self.call("getlk", Call::GetLock { ino, lock: lock(rule, kind) }).await?;
        let Extra::Lock(held) = answer.extra else { return Ok(None) };
        let kind = match held.kind {
            SHARED => LockKind::Shared,
            EXCLUSIVE => LockKind::Exclusive,
            _ => return Ok(None),
        };
        Ok(Some(LockHolder { client: held.client, pid: held.pid, kind }))
    }
}

fn lock(rule: LockRule, kind: LockKind) -> Lock {
    Lock { rule, kind, owner: OWNER, pid: std::process::id().into(), wait: false }
}
