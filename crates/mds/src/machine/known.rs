use cuttlebone_machine::Instant;

use super::{Client, Entry};
use crate::{CapBits, Ino, InodeStat};

/// What is known of a name without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth answer")]
pub enum KnownName {
    /// It stands for this inode.
    Taken(Ino),
    /// There is no such name.
    Free,
    /// Ask.
    Unknown,
}

impl Client {
    /// What is known of a name, by a lease or by the directory's capability. Asks for a longer lease by itself, so poll
    /// afterwards.
    pub fn known_name(&mut self, now: Instant, entry: &Entry) -> KnownName {
        let name = entry.name.as_bytes();
        let Some(dir) = self.cache.get(entry.dir) else { return KnownName::Unknown };
        let Some(dentry) = dir.names.get(name) else { return KnownName::Unknown };
        let leased = dentry.lease.is_some_and(|lease| {
            self.sessions.get(&lease.rank).is_some_and(|session| {
                session.generations == lease.given && session.is_alive(now) && now < lease.until
            })
        });
        let covered = dentry.shared == dir.shared && self.caps(now, entry.dir).contains(CapBits::FILE_SHARED);
        let target = dentry.target;
        if !leased && !covered {
            return KnownName::Unknown;
        }
        if leased {
            self.renew_lease(now, entry.dir, name);
        }
        self.cache.touch(entry.dir);
        match target {
            None => KnownName::Free,
            // Without a capability nobody would tell us that the inode is gone.
            Some(ino) if self.caps(now, ino).contains(CapBits::PIN) => {
                self.cache.touch(ino);
                KnownName::Taken(ino)
            }
            Some(_) => KnownName::Unknown,
        }
    }

    /// The attributes of an inode, if the shared capabilities `want` are held and so nobody has changed them.
    ///
    /// What has a length is not remembered: extended attributes, the target of a symbolic link.
    pub fn known_attributes(&mut self, now: Instant, ino: Ino, want: CapBits) -> Option<&InodeStat> {
        if !self.caps(now, ino).contains(want) {
            return None;
        }
        self.cache.touch(ino);
        self.cache.get(ino).filter(|inode| inode.trusted).map(|inode| &inode.stat)
    }
}
