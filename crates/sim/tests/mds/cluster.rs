//! What outlives a metadata server, and what everybody is compared with.

use core::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use cuttlebone_mds::{CapBits, ClientRequest, Gid, Ino, MdsInfo, MdsMap, MdsState, Rank, RequestFlags};
use cuttlebone_wire::{EntityAddr, EntityAddrs};

use crate::daemon::Daemon;

/// A directory with its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dir {
    pub(crate) names: BTreeMap<Bytes, Ino>,
    pub(crate) modes: BTreeMap<Ino, u32>,
}

/// One change of a directory.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Make { name: Bytes, ino: Ino, mode: u32 },
    Remove { name: Bytes },
    Rename { from: Bytes, to: Bytes },
    Mode { ino: Ino, mode: u32 },
}

impl Dir {
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Make { name, ino, mode } => {
                assert!(self.modes.insert(*ino, *mode).is_none(), "inode {ino} exists twice");
                assert!(self.names.insert(name.clone(), *ino).is_none(), "{name:?} exists twice");
            }
            Change::Remove { name } => self.remove(name),
            Change::Rename { from, to } => {
                self.remove(to);
                if let Some(ino) = self.names.remove(from) {
                    self.names.insert(to.clone(), ino);
                }
            }
            Change::Mode { ino, mode } => {
                self.modes.insert(*ino, *mode);
            }
        }
    }

    fn remove(&mut self, name: &Bytes) {
        if let Some(ino) = self.names.remove(name) {
            self.modes.remove(&ino);
        }
    }
}

/// The monitor's map, the journals that are on disk, and the servers that run.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) map: MdsMap,
    /// Directories as they would survive everything, and who has authority over them.
    pub(crate) dirs: BTreeMap<Ino, (Rank, Dir)>,
    pub(crate) sessions: BTreeSet<(Rank, u64)>,
    /// What was done, by rank, client and request; with the inode that it made.
    pub(crate) completed: BTreeMap<(Rank, u64, u64), Option<Ino>>,
    pub(crate) blocklist: BTreeSet<u64>,
    pub(crate) daemons: BTreeMap<Rank, Daemon>,
    /// Each request as it was first seen, but for what may differ from attempt to attempt.
    seen: BTreeMap<(u64, u64), ClientRequest>,
    last_ino: u64,
    runs: u32,
    /// How often a directory was handed over.
    pub(crate) moves: u32,
}

pub(crate) type Shared = Rc<RefCell<Cluster>>;

/// The directories that everything happens in.
pub(crate) fn directory(index: u64) -> Ino {
    Ino(0x1000 + index)
}

pub(crate) fn directory_name(index: u64) -> Bytes {
    format!("d{index}").into_bytes().into()
}

impl Cluster {
    pub(crate) fn new(ranks: u32, dirs: u64) -> Self {
        let mut map = MdsMap::default();
        map.epoch = 1;
        map.session_timeout_secs = 60;
        map.ranks = (0..ranks).map(rank).collect();
        map.max_mds = i32::try_from(ranks).unwrap();
        let owner = |index: u64| rank(u32::try_from(index).unwrap() % ranks);
        Self {
            map,
            dirs: (0..dirs).map(|index| (directory(index), (owner(index), Dir::default()))).collect(),
            sessions: BTreeSet::new(),
            completed: BTreeMap::new(),
            blocklist: BTreeSet::new(),
            daemons: BTreeMap::new(),
            seen: BTreeMap::new(),
            last_ino: 1 << 40,
            runs: 0,
            moves: 0,
        }
    }

    /// A new run of a server takes a rank.
    pub(crate) fn start(&mut self, rank: Rank) -> u32 {
        self.runs += 1;
        let gid = Gid(u64::from(self.runs));
        let mut info = MdsInfo::default();
        info.gid = gid;
        info.name = format!("{rank}");
        info.rank = rank;
        info.addrs = addrs(rank, self.runs);
        info.state = MdsState::REPLAY;
        self.map.up.insert(rank, gid);
        self.map.info.insert(gid, info);
        self.map.failed.retain(|failed| *failed != rank);
        self.map.epoch += 1;
        self.runs
    }

    pub(crate) fn stop(&mut self, rank: Rank) {
        self.daemons.remove(&rank);
        if let Some(gid) = self.map.up.remove(&rank) {
            self.map.info.remove(&gid);
            self.map.failed.push(rank);
            self.map.epoch += 1;
        }
    }

    pub(crate) fn set_state(&mut self, rank: Rank, state: MdsState) {
        let Some(info) = self.map.up.get(&rank).and_then(|gid| self.map.info.get_mut(gid)) else { return };
        if info.state != state {
            info.state = state;
            self.map.epoch += 1;
        }
    }

    pub(crate) fn new_ino(&mut self) -> Ino {
        self.last_ino += 1;
        Ino(self.last_ino)
    }

    /// A request is the same each time that it is sent, but for what the attempt is.
    pub(crate) fn check_unchanged(&mut self, client: u64, tid: u64, request: &ClientRequest) {
        let mut plain = request.clone();
        plain.oldest_client_tid = 0;
        plain.mdsmap_epoch = 0;
        plain.flags = RequestFlags(plain.flags.0 & !RequestFlags::REPLAY.0);
        plain.retries = 0;
        plain.forwards = 0;
        plain.ino = Ino::NONE;
        plain.releases.clear();
        let first = self.seen.entry((client, tid)).or_insert_with(|| plain.clone());
        assert_eq!(*first, plain, "request {tid} of client {client} is not what it was");
    }

    /// The directory that an inode is, or is in.
    pub(crate) fn directory_of(&self, ino: Ino) -> Option<(Ino, Rank)> {
        if let Some((rank, _)) = self.dirs.get(&ino) {
            return Some((ino, *rank));
        }
        self.dirs.iter().find_map(|(dir, (rank, durable))| {
            let memory = self.daemons.get(rank).and_then(|daemon| daemon.dirs.get(dir));
            let known = durable.modes.contains_key(&ino) || memory?.modes.contains_key(&ino);
            known.then_some((*dir, *rank))
        })
    }

    /// Whether every other rank serves.
    pub(crate) fn all_at_work_but(&self, rank: Rank) -> bool {
        self.map
            .ranks
            .iter()
            .filter(|other| **other != rank)
            .all(|other| self.daemons.get(other).is_some_and(|daemon| daemon.state == MdsState::ACTIVE))
    }

    /// A directory as it is now, if whoever has authority over it is at work.
    pub(crate) fn now(&self, dir: Ino) -> Option<&Dir> {
        let daemon = self.daemons.get(&self.dirs.get(&dir)?.0)?;
        if daemon.state == MdsState::ACTIVE { daemon.dirs.get(&dir) } else { None }
    }

    /// What some server believes that a client may still use of an inode.
    pub(crate) fn issued(&self, client: u64, ino: Ino) -> CapBits {
        let caps = self.daemons.values().filter_map(|daemon| daemon.caps.get(&(ino, client)));
        caps.fold(CapBits::NONE, |all, cap| all | cap.issued())
    }
}

pub(crate) fn rank(number: u32) -> Rank {
    Rank(i32::try_from(number).unwrap())
}

/// Where a run of a server is: the nonce is the run.
fn addrs(rank: Rank, nonce: u32) -> EntityAddrs {
    let socket = format!("10.0.0.{}:6800", rank.0 + 1).parse().unwrap();
    EntityAddrs::from(EntityAddr { nonce, ..EntityAddr::v2(socket) })
}
