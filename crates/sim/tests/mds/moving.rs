//! How a rank hands a directory over to another.

use core::time::Duration;
use std::collections::BTreeSet;

use cuttlebone_mds::{CapId, CapOp, CapPeer, ClientCaps, ClientSession, Ino, MdsState, Rank, SessionOp};

use crate::caps::Cap;
use crate::cluster::Cluster;
use crate::daemon::Daemon;

/// How long a directory that is about to move is held back for those who do not answer.
const MOVE_MAX: Duration = Duration::from_secs(20);

impl Daemon {
    /// Begins to hand a directory over: asks everybody who holds something there to send what is on its way.
    pub(crate) fn begin_moving(&mut self, dir: Ino) {
        if self.moving.is_some() || self.state != MdsState::ACTIVE || !self.dirs.contains_key(&dir) {
            return;
        }
        let clients: BTreeSet<u64> = self.holders(dir).into_iter().map(|(_, client)| client).collect();
        for client in &clients {
            self.send(*client, &ClientSession::new(SessionOp::FlushMsg, 0), 0);
        }
        self.moving = Some((dir, clients, self.now + MOVE_MAX));
        let leases = self.leases.keys().filter(|(of, ..)| *of == dir).cloned().collect::<Vec<_>>();
        for (_, name, client) in leases {
            self.revoke_lease(dir, &name, client);
        }
        self.flush_within(Duration::from_millis(20));
    }

    fn holders(&self, dir: Ino) -> Vec<(Ino, u64)> {
        let within = |ino: &Ino| *ino == dir || self.dirs[&dir].modes.contains_key(ino);
        self.caps.keys().filter(|(ino, _)| within(ino)).copied().collect()
    }

    pub(crate) fn go_on_moving(&mut self, cluster: &mut Cluster) {
        let Some((dir, missing, _)) = &self.moving else { return };
        let dir = *dir;
        let revoking = |key: &(Ino, u64)| self.caps[key].issued() != self.caps[key].pending;
        let busy = self.journal.iter().any(|logged| logged.dir == dir)
            || self.leases.keys().any(|(of, ..)| *of == dir)
            || self.holders(dir).iter().any(revoking);
        let to = Rank(1 - self.rank.0);
        let Some(mut other) = cluster.daemons.remove(&to) else { return };
        if missing.is_empty() && !busy && other.state == MdsState::ACTIVE {
            self.moving = None;
            self.hand_over(cluster, &mut other, dir);
        }
        cluster.daemons.insert(to, other);
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
