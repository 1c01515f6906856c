use super::{Call, Client, Errno, Error};

/// Most directories gone up in search of quotas.
const DEPTH_MAX: usize = 64;

impl Client {
    /// Why a call is refused without asking: a server leaves quotas to its clients.
    ///
    /// Only what is known is looked at: the directories above, as far as they are remembered, with the statistics that
    /// the server told last. So does every other client.
    ///
    /// Source: `torvalds/linux:fs/ceph/quota.c`, `ceph_quota_is_max_files_exceeded`.
    pub(super) fn refusal(&self, call: &Call) -> Option<Error> {
        let mut at = call.creates_in()?;
        for _ in 0..DEPTH_MAX {
            let inode = self.cache.get(at)?;
            let stat = &inode.stat;
            if let Ok(max) = u64::try_from(stat.quota.max_files)
                && max > 0
                && stat.rfiles.saturating_add(stat.rsubdirs) >= max
            {
                return Some(Error::Refused(Errno::EDQUOT));
            }
            at = inode.link.as_ref()?.0;
        }
        None
    }
}
