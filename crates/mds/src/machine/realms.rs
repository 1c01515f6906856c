use alloc::collections::BTreeMap;

use cuttlebone_wire::{Body, Message};

use super::{Client, Limits};
use crate::message::{ClientQuota, ClientSnap, SnapOp};
use crate::{Ino, Rank, SnapRealm};

/// The snapshot realms that are known: as much as a reconnect has to tell.
#[derive(Debug, Default)]
pub(super) struct Realms {
    known: BTreeMap<Ino, Realm>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Realm {
    pub(super) seq: u64,
    pub(super) parent: Ino,
}

impl Realms {
    fn learn(&mut self, realm: &SnapRealm, limits: &Limits) {
        let known = self.known.get(&realm.ino);
        if known.is_some_and(|known| known.seq > realm.seq) {
            return;
        }
        if known.is_none() && self.known.len() >= limits.realms_max {
            // The root is the parent of all others and stays.
            let victim = self.known.keys().find(|ino| **ino != Ino::ROOT).copied();
            if let Some(victim) = victim {
                self.known.remove(&victim);
            }
        }
        self.known.insert(realm.ino, Realm { seq: realm.seq, parent: realm.parent });
    }

    pub(super) fn get(&self, ino: Ino) -> Option<Realm> {
        self.known.get(&ino).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

impl Client {
    pub(super) fn learn_realms(&mut self, chain: &[SnapRealm]) {
        for realm in chain {
            self.realms.learn(realm, &self.config.limits);
        }
    }

    /// Snapshots were made or removed, or a realm was divided.
    pub(super) fn on_snap(&mut self, rank: Rank, message: &Message) {
        let snap = match ClientSnap::decode(message) {
            Ok((snap, _)) => snap,
            Err(error) => return self.malformed(rank, error),
        };
        self.learn_realms(&snap.realms);
        if snap.op == SnapOp::Split {
            for ino in &snap.split_inos {
                if let Some(inode) = self.cache.get_mut(*ino) {
                    inode.realm = snap.split;
                }
            }
        }
    }

    /// How much of a quota is used, as the directory's statistics tell.
    pub(super) fn on_quota(&mut self, rank: Rank, message: &Message) {
        let quota = match ClientQuota::decode(message) {
            Ok((quota, _)) => quota,
            Err(error) => return self.malformed(rank, error),
        };
        if let Some(inode) = self.cache.get_mut(quota.ino) {
            inode.stat.rctime = quota.rctime;
            inode.stat.rbytes = quota.rbytes;
            inode.stat.rfiles = quota.rfiles;
            inode.stat.rsubdirs = quota.rsubdirs;
            inode.stat.quota = quota.quota;
        }
    }
}
