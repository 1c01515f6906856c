//! How a rank hands a directory over to another.
//!
//! Source: `ceph/ceph:src/mds/Migrator.cc`, `export_frozen`, `export_go_synced`, `finish_export_inode_caps`.

use core::time::Duration;
use std::collections::BTreeSet;

use cuttlebone_machine::Instant;
use cuttlebone_mds::{
    CapId, CapOp, CapPeer, CapRelease, ClientCaps, ClientSession, Ino, MdsState, Rank, SessionOp,
};

use crate::caps::Cap;
use crate::cluster::Cluster;
use crate::daemon::{Daemon, Standing};

/// How long a directory that is about to move is held back for those who do not answer.
const MOVE_MAX: Duration = Duration::from_secs(20);

/// A directory that is about to move.
#[derive(Debug)]
pub(crate) struct Moving {
    pub(crate) dir: Ino,
    pub(crate) until: Instant,
    /// Once it is frozen: who has yet to say that they have taken in everything that was given of it.
    frozen: Option<BTreeSet<u64>>,
    /// What clients said of its capabilities meanwhile: heard only if it stays after all.
    deferred: Vec<(u64, Deferred)>,
}

/// Something that a client says of a capability.
#[derive(Debug)]
pub(crate) enum Deferred {
    Update(Box<ClientCaps>),
    Release(CapRelease),
}

impl Deferred {
    fn ino(&self) -> Ino {
        match self {
            Self::Update(update) => update.ino,
            Self::Release(release) => release.ino,
        }
    }
}

impl Moving {
    /// A client has taken in everything that was sent to it, or is gone.
    pub(crate) fn flushed(&mut self, client: u64) {
        if let Some(missing) = &mut self.frozen {
            missing.remove(&client);
        }
    }
}

impl Daemon {
    /// Begins to hand a directory over: nothing new is done there, and what is under way comes to its end.
    pub(crate) fn begin_moving(&mut self, dir: Ino) {
        if self.moving.is_some() || self.state != MdsState::ACTIVE || !self.dirs.contains_key(&dir) {
            return;
        }
        let until = self.now + MOVE_MAX;
        self.moving = Some(Moving { dir, until, frozen: None, deferred: Vec::new() });
        let leases = self.leases.keys().filter(|(of, ..)| *of == dir).cloned().collect::<Vec<_>>();
        for (_, name, client) in leases {
            self.revoke_lease(dir, &name, client);
        }
        self.flush_within(Duration::from_millis(20));
    }

    /// Whether an inode is about to move and nothing is given of it any more.
    ///
    /// Source: `ceph/ceph:src/mds/CInode.cc`, `encode_inodestat`; `src/mds/Locker.cc`, `should_defer_client_cap_frozen`.
    pub(crate) fn is_frozen(&self, ino: Ino) -> bool {
        let frozen = self.moving.as_ref().filter(|moving| moving.frozen.is_some());
        frozen.is_some_and(|moving| moving.dir == ino || self.dirs[&moving.dir].modes.contains_key(&ino))
    }

    /// Keeps what a client says of a frozen inode for later, and answers what is to be heard now.
    pub(crate) fn defer(&mut self, client: u64, said: Deferred) -> Option<Deferred> {
        if !self.is_frozen(said.ino()) {
            return Some(said);
        }
        self.moving.as_mut().expect("it is frozen").deferred.push((client, said));
        None
    }

    /// The directory stays where it is.
    pub(crate) fn stop_moving(&mut self) {
        for (client, said) in self.moving.take().map(|moving| moving.deferred).unwrap_or_default() {
            match said {
                Deferred::Update(update) => self.on_caps(client, *update),
                Deferred::Release(release) => self.on_release(client, release),
            }
        }
    }

    fn holders(&self, dir: Ino) -> Vec<(Ino, u64)> {
        let within = |ino: &Ino| *ino == dir || self.dirs[&dir].modes.contains_key(ino);
        self.caps.keys().filter(|(ino, _)| within(ino)).copied().collect()
    }

    /// Freezes the directory once nothing is under way in it; then asks everybody who holds something there whether they
    /// have taken in what they were given; then hands it over.
    pub(crate) fn go_on_moving(&mut self, cluster: &mut Cluster) {
        let Some(Moving { dir, frozen, .. }) = &self.moving else { return };
        let (dir, is_frozen) = (*dir, frozen.is_some());
        if !is_frozen && !self.is_busy(dir) {
            self.freeze(dir);
        }
        let all_flushed = |moving: &Moving| moving.frozen.as_ref().is_some_and(BTreeSet::is_empty);
        let to = Rank(1 - self.rank.0);
        let Some(mut other) = cluster.daemons.remove(&to) else { return };
        if self.moving.as_ref().is_some_and(all_flushed) && other.state == MdsState::ACTIVE {
            self.moving = None;
            self.hand_over(cluster, &mut other, dir);
        }
        cluster.daemons.insert(to, other);
    }

    fn is_busy(&self, dir: Ino) -> bool {
        let revoking = |key: &(Ino, u64)| self.caps[key].issued() != self.caps[key].pending;
        self.journal.iter().any(|logged| logged.dir == dir)
            || self.leases.keys().any(|(of, ..)| *of == dir)
            || self.holders(dir).iter().any(revoking)
    }

    fn freeze(&mut self, dir: Ino) {
        let holders: BTreeSet<u64> = self.holders(dir).into_iter().map(|(_, client)| client).collect();
        // Whoever is stale uses nothing that was on its way to them, and is not waited for.
        let waits = |client: &u64| self.sessions.get(client).is_some_and(|s| s.standing == Standing::Open);
        let missing: BTreeSet<u64> = holders.into_iter().filter(waits).collect();
        for client in &missing {
            self.send(*client, &ClientSession::new(SessionOp::FlushMsg, 0), 0);
        }
        if let Some(moving) = &mut self.moving {
            moving.frozen = Some(missing);
        }
    }

    fn hand_over(&mut self, cluster: &mut Cluster, other: &mut Self, dir: Ino) {
        for (ino, client) in self.holders(dir) {
            let old = self.caps.remove(&(ino, client)).unwrap();
            if cluster.blocklist.contains(&client) || !self.sessions.contains_key(&client) {
                continue;
            }
            other.now = self.now.max(other.now);
            other.open_by_force(cluster, client);
            other.last_cap += 1;
            let new = Cap::new(CapId(other.last_cap), old.pending, 1, old.mseq + 1);
            let mut export = ClientCaps::new(CapOp::Export, ino);
            export.cap_id = old.id;
            export.mseq = old.mseq;
            export.peer = CapPeer { cap_id: new.id, seq: 1, mseq: new.mseq, rank: other.rank, flags: 0 };
            self.push(client, &export);
            other.caps.insert((ino, client), new);
            let mut import = other.about_cap(CapOp::Import, ino, client);
            import.peer = CapPeer { cap_id: old.id, seq: old.seq, mseq: old.mseq, rank: self.rank, flags: 0 };
            other.push(client, &import);
        }
        let moved = self.dirs.remove(&dir).unwrap();
        other.dirs.insert(dir, moved);
        cluster.dirs.get_mut(&dir).unwrap().0 = other.rank;
        cluster.moves += 1;
    }
}
