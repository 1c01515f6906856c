use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use super::cap::{Cap, Lease};
use super::lru::{Lru, Place};
use super::{Limits, Lock, LockKind};
use crate::message::DirStat;
use crate::{CapBits, Frag, FragTree, Ino, InodeStat, Rank};

/// What a client remembers of the tree: inodes with their capabilities, names with their leases.
///
/// Nothing in it is a promise: without a usable capability or lease an entry is a hint, good for choosing a rank.
/// Bounded: each inode is either *held* (some capability), *bare* (none, kept for its place in the tree) or *pinned*
/// (watched, open or locked by the user), and each of the three has a limit of its own.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Boxed, since a tree moves its values about.
    inodes: BTreeMap<Ino, Box<Inode>>,
    held: Lru<Ino>,
    bare: Lru<Ino>,
    names: Lru<(Ino, Bytes)>,
    pinned: usize,
}

/// What is remembered of one inode.
#[derive(Debug)]
pub(super) struct Inode {
    /// The attributes that were told last, without what has a length: that would keep whole frames alive.
    pub(super) stat: InodeStat,
    /// Whether `stat` is as new as the capabilities say.
    pub(super) trusted: bool,
    pub(super) caps: Vec<Cap>,
    /// The rank that gave a capability as the authority for the inode.
    pub(super) auth: Option<Rank>,
    /// The snapshot realm that it is in.
    pub(super) realm: Ino,
    /// Where it lives: directory and name of its primary link.
    pub(super) link: Option<(Ino, Bytes)>,
    /// Of a directory: which ranks serve which fragment.
    pub(super) fragments: BTreeMap<Frag, Fragment>,
    /// Of a directory: what is known of its names.
    pub(super) names: BTreeMap<Bytes, Dentry>,
    /// Of a directory: how often [`CapBits::FILE_SHARED`] was regained. Names learnt before are not covered by it.
    pub(super) shared: u32,
    pub(super) pins: Pins,
    place: Standby,
}

/// Why an inode is kept whatever its last use.
#[derive(Debug, Default)]
pub(super) struct Pins {
    pub(super) watched: bool,
    /// How often it is open.
    pub(super) open: u32,
    pub(super) locks: Vec<Lock>,
}

impl Pins {
    pub(super) fn is_empty(&self) -> bool {
        !self.watched && self.open == 0 && self.locks.is_empty()
    }

    /// A lock was taken or given up. What an owner held before is replaced, as the server does it.
    pub(super) fn locked(&mut self, lock: &Lock) {
        self.locks.retain(|held| held.rule != lock.rule || held.owner != lock.owner);
        if lock.kind != LockKind::Unlock {
            self.locks.push(*lock);
        }
    }
}

/// Which list an inode is in.
#[derive(Clone, Copy, Debug)]
enum Standby {
    Held(Place),
    Bare(Place),
    Pinned,
    /// In none yet.
    Nowhere,
}

/// Who serves a fragment of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    /// None if it is as with the directory itself.
    pub(super) auth: Option<Rank>,
    pub(super) replicas: Vec<Rank>,
}

/// What is known of one name.
#[derive(Debug)]
pub(super) struct Dentry {
    /// None if the name is known to be free.
    pub(super) target: Option<Ino>,
    pub(super) lease: Option<Lease>,
    /// The directory's count of shared capabilities when this was learnt.
    pub(super) shared: u32,
    place: Place,
}

impl Inode {
    fn new() -> Self {
        Self {
            stat: InodeStat::default(),
            trusted: true,
            caps: Vec::new(),
            auth: None,
            realm: Ino::NONE,
            link: None,
            fragments: BTreeMap::new(),
            names: BTreeMap::new(),
            shared: 0,
            pins: Pins::default(),
            place: Standby::Nowhere,
        }
    }

    pub(super) fn cap(&self, rank: Rank) -> Option<&Cap> {
        self.caps.iter().find(|cap| cap.rank == rank)
    }

    pub(super) fn cap_mut(&mut self, rank: Rank) -> Option<&mut Cap> {
        self.caps.iter_mut().find(|cap| cap.rank == rank)
    }

    /// The hash of a name in this directory.
    pub(super) fn hash(&self, name: &[u8]) -> u32 {
        self.stat.dir_layout.hash.of(name)
    }

    /// What the user's pins want the server to give, in shared bits. What is open has to stay, and that is all: for
    /// whoever writes it, it makes no difference that we have it open.
    ///
    /// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_FILE_MODE_PIN`; seen in 16.2.15.
    pub(super) fn wanted(&self) -> CapBits {
        let mut wanted = CapBits::NONE;
        if self.pins.watched {
            wanted |= CapBits::STAT;
        }
        if self.pins.open > 0 {
            wanted |= CapBits::PIN;
        }
        wanted
    }
}

impl Cache {
    pub(super) fn get(&self, ino: Ino) -> Option<&Inode> {
        self.inodes.get(&ino).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, ino: Ino) -> Option<&mut Inode> {
        self.inodes.get_mut(&ino).map(Box::as_mut)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Ino, &Inode)> {
        self.inodes.iter().map(|(ino, inode)| (*ino, inode.as_ref()))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Ino, &mut Inode)> {
        self.inodes.iter_mut().map(|(ino, inode)| (*ino, inode.as_mut()))
    }

    pub(super) fn len(&self) -> usize {
        self.inodes.len()
    }

    /// How many inodes some capability is held of, pinned ones included.
    pub(super) fn held(&self) -> usize {
        self.held.len().saturating_add(self.pinned)
    }

    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    pub(super) const fn pinned(&self) -> usize {
        self.pinned
    }

    /// The inodes of which a rank gave a capability.
    pub(super) fn holding(&self, rank: Rank) -> Vec<Ino> {
        let holding = self.inodes.iter().filter(|(_, inode)| inode.cap(rank).is_some());
        holding.map(|(ino, _)| *ino).collect()
    }

    /// Takes in attributes. [`settle`](Self::settle) has to follow.
    pub(super) fn fill(&mut self, stat: &InodeStat, limits: &Limits) {
        let lean = lean(stat, limits);
        let inode = self.inodes.entry(stat.ino).or_insert_with(|| Box::new(Inode::new()));
        // Ranks differ in how new their copies are.
        if lean.version == 0 || lean.version >= inode.stat.version {
            inode.stat = lean;
            inode.trusted = true;
        }
    }

    /// Marks an inode as used now.
    pub(super) fn touch(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.place = match inode.place {
                Standby::Held(place) => Standby::Held(self.held.touch(place)),
                Standby::Bare(place) => Standby::Bare(self.bare.touch(place)),
                Standby::Pinned | Standby::Nowhere => inode.place,
            };
        }
    }

    /// Puts an inode into the list where it belongs, as used now: after its capabilities or pins have changed.
    pub(super) fn settle(&mut self, ino: Ino) {
        let Some(inode) = self.inodes.get_mut(&ino) else { return };
        let pinned = !inode.pins.is_empty();
        let held = !inode.caps.is_empty();
        match inode.place {
            Standby::Pinned if pinned => return,
            Standby::Held(place) if held && !pinned => {
                inode.place = Standby::Held(self.held.touch(place));
                return;
            }
            Standby::Bare(place) if !held && !pinned => {
                inode.place = Standby::Bare(self.bare.touch(place));
                return;
            }
            Standby::Nowhere => {}
            Standby::Pinned => self.pinned = self.pinned.saturating_sub(1),
            Standby::Held(place) => drop(self.held.remove(place)),
            Standby::Bare(place) => drop(self.bare.remove(place)),
        }
        inode.place = if pinned {
            self.pinned = self.pinned.saturating_add(1);
            Standby::Pinned
        } else if held {
            Standby::Held(self.held.insert(ino))
        } else {
            Standby::Bare(self.bare.insert(ino))
        };
    }

    /// Forgets an inode and its names.
    pub(super) fn remove(&mut self, ino: Ino) -> Option<Box<Inode>> {
        let inode = self.inodes.remove(&ino)?;
        match inode.place {
            Standby::Held(place) => drop(self.held.remove(place)),
            Standby::Bare(place) => drop(self.bare.remove(place)),
            Standby::Pinned => self.pinned = self.pinned.saturating_sub(1),
            Standby::Nowhere => {}
        }
        for dentry in inode.names.values() {
            self.names.remove(dentry.place);
        }
        Some(inode)
    }

    /// The held inode that was not used for longest, if there are more than `max`.
    pub(super) fn surplus_held(&self, max: usize) -> Option<Ino> {
        (self.held.len() > max).then(|| self.held.oldest().copied()).flatten()
    }

    /// Forgets what is above the limits and of no use to a server.
    pub(super) fn trim(&mut self, limits: &Limits) {
        while self.bare.len() > limits.inodes_max
            && let Some(ino) = self.bare.oldest().copied()
        {
            self.remove(ino);
        }
        while self.names.len() > limits.dentries_max
            && let Some((dir, name)) = self.names.oldest().cloned()
        {
            self.forget_name(dir, &name);
        }
    }

    /// Learns what a name stands for. The directory has to be known, and the bytes must not be part of a frame, which
    /// they would keep alive.
    pub(super) fn learn_name(&mut self, dir: Ino, name: &Bytes, target: Option<Ino>, lease: Option<Lease>) {
        let Some(inode) = self.inodes.get_mut(&dir) else { return };
        let shared = inode.shared;
        if let Some(known) = inode.names.get_mut(name) {
            let place = self.names.touch(known.place);
            *known = Dentry { target, lease, shared, place };
        } else {
            let place = self.names.insert((dir, name.clone()));
            inode.names.insert(name.clone(), Dentry { target, lease, shared, place });
        }
    }

    /// Forgets a name, and answers what was known of it.
    pub(super) fn forget_name(&mut self, dir: Ino, name: &[u8]) -> Option<Dentry> {
        let known = self.inodes.get_mut(&dir)?.names.remove(name)?;
        self.names.remove(known.place);
        Some(known)
    }

    /// Learns who serves a fragment.
    pub(super) fn learn_fragment(&mut self, dir: Ino, stat: &DirStat, limits: &Limits) {
        let Some(inode) = self.inodes.get_mut(&dir) else { return };
        let auth = (stat.auth.0 >= 0).then_some(stat.auth);
        let replicas = stat.dist.iter().copied().filter(|rank| rank.0 >= 0).take(REPLICAS_MAX).collect();
        // What it overlaps describes a directory that was divided in another way.
        inode
            .fragments
            .retain(|frag, _| *frag == stat.frag || !(frag.covers(stat.frag) || stat.frag.covers(*frag)));
        if inode.fragments.len() >= limits.fragments_max && !inode.fragments.contains_key(&stat.frag) {
            inode.fragments.pop_first();
        }
        inode.fragments.insert(stat.frag, Fragment { auth, replicas });
    }
}

/// Most ranks remembered as replicas of one fragment; a file system has at most 256 ranks.
const REPLICAS_MAX: usize = 16;

/// The attributes without what has a length.
fn lean(stat: &InodeStat, limits: &Limits) -> InodeStat {
    let fragtree = if stat.fragtree.splits().len() > limits.fragments_max {
        FragTree::new()
    } else {
        stat.fragtree.clone()
    };
    let mut lean = stat.clone();
    lean.fragtree = fragtree;
    lean.symlink = Bytes::new();
    lean.xattrs = Bytes::new();
    lean.inline_data = Bytes::new();
    lean.pool_ns = Bytes::new();
    lean.snap_metadata = BTreeMap::new();
    lean
}
