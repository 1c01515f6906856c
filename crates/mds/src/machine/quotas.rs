use super::{Call, Client, Errno, Error};
use crate::{Ino, InodeStat};

/// Most directories gone up in search of quotas.
const DEPTH_MAX: usize = 64;

impl Client {
    /// Why a call is refused without asking: a server leaves quotas to its clients.
    ///
    /// Only what is known is looked at: the directories above, as far as they are remembered, with the statistics that
    /// the server told last. So does every other client.
    ///
    /// Source: `torvalds/linux:fs/ceph/quota.c`, `check_quota_exceeded`, and who calls it; `fs/ceph/dir.c`, `ceph_rename`.
    pub(super) fn over_quota(&self, call: &Call) -> Option<Error> {
        let errno = match call {
            Call::Rename { from, to } if from.dir != to.dir => {
                let (from, to) = (self.quota_root(from.dir)?, self.quota_root(to.dir)?);
                (from != to).then_some(Errno::EXDEV)
            }
            Call::SetAttr { ino, changes } => {
                let more =
                    changes.size.map(|size| size.to.saturating_sub(size.from)).filter(|more| *more > 0)?;
                let (dir, _) = self.cache.get(*ino)?.link.as_ref()?;
                let is_full =
                    |stat: &InodeStat| exceeds(stat.rbytes.saturating_add(more), stat.quota.max_bytes);
                self.above(*dir).any(|(_, stat)| is_full(stat)).then_some(Errno::EDQUOT)
            }
            call => {
                let entries = |stat: &InodeStat| stat.rfiles.saturating_add(stat.rsubdirs).saturating_add(1);
                let is_full = |stat: &InodeStat| exceeds(entries(stat), stat.quota.max_files);
                self.above(call.creates_in()?).any(|(_, stat)| is_full(stat)).then_some(Errno::EDQUOT)
            }
        };
        errno.map(Error::Refused)
    }

    /// The directory whose quota a directory is under, the root if there is none; `None` if that is not known.
    fn quota_root(&self, dir: Ino) -> Option<Ino> {
        self.above(dir).find(|(ino, stat)| *ino == Ino::ROOT || stat.quota.is_set()).map(|(ino, _)| ino)
    }

    /// A directory and those above it, as far as they are remembered.
    fn above(&self, dir: Ino) -> impl Iterator<Item = (Ino, &InodeStat)> {
        let mut next = Some(dir);
        let up = core::iter::from_fn(move || {
            let ino = next?;
            let inode = self.cache.get(ino)?;
            next = inode.link.as_ref().map(|(dir, _)| *dir);
            Some((ino, &inode.stat))
        });
        up.take(DEPTH_MAX)
    }
}

/// Whether there would be more than a limit allows; 0 is none.
fn exceeds(used: u64, max: i64) -> bool {
    u64::try_from(max).is_ok_and(|max| max > 0 && used > max)
}
