//! What a user was told, and what follows from it about the names that it alone uses.

use std::collections::BTreeMap;

use bytes::Bytes;
use cuttlebone_machine::{Entropy, SplitMix};
use cuttlebone_mds::{Errno, Error, Ino, Tid};

use crate::user::shared_name;

/// A call under way.
#[derive(Clone, Debug)]
pub(crate) enum Doing {
    Make { dir: Ino, name: Bytes },
    Remove { dir: Ino, name: Bytes },
    Rename { dir: Ino, from: Bytes, to: Bytes },
    Mode { dir: Ino, name: Bytes, ino: Ino },
    Look,
}

impl Doing {
    fn names(&self) -> Vec<(Ino, Bytes)> {
        match self {
            Self::Make { dir, name } | Self::Remove { dir, name } | Self::Mode { dir, name, .. } => {
                vec![(*dir, name.clone())]
            }
            Self::Rename { dir, from, to } => vec![(*dir, from.clone()), (*dir, to.clone())],
            Self::Look => Vec::new(),
        }
    }

    pub(crate) fn concerns(&self, dir: Ino, name: &Bytes) -> bool {
        self.names().iter().any(|(of, at)| *of == dir && at == name)
    }

    pub(crate) fn changes(&self, of: Ino) -> bool {
        matches!(self, Self::Mode { ino, .. } if *ino == of)
    }
}

/// What a name is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Absent,
    /// There, with this inode if it was told.
    There(Option<Ino>),
    /// A change may have been made or not.
    Doubtful,
}

impl Fate {
    pub(crate) fn agrees(self, there: Option<Ino>) -> bool {
        match self {
            Self::Absent => there.is_none(),
            Self::There(None) => there.is_some(),
            Self::There(ino) => there == ino,
            Self::Doubtful => true,
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    fate: Fate,
    /// A call about it is under way.
    busy: bool,
    /// Counts what happened to it.
    version: u64,
}

/// Names of one user, and what was applied and is not committed.
#[derive(Debug)]
pub(crate) struct Book {
    user: u64,
    /// What an instance that is gone asked for may still be done, so that the next one takes other names.
    instance: u64,
    names: BTreeMap<(Ino, Bytes), Entry>,
    applied: BTreeMap<Tid, Vec<(Ino, Bytes, u64)>>,
}

/// Names of its own that a user has in each directory.
const NAMES: u64 = 5;

impl Book {
    pub(crate) fn new(user: u64) -> Self {
        Self { user, instance: 0, names: BTreeMap::new(), applied: BTreeMap::new() }
    }

    fn own_name(&self, index: u64) -> Bytes {
        format!("user{}-{}-{index}", self.user, self.instance).into_bytes().into()
    }

    fn entry(&mut self, dir: Ino, name: &Bytes) -> Option<&mut Entry> {
        let own = name.starts_with(format!("user{}-", self.user).as_bytes());
        let fresh = Entry { fate: Fate::Absent, busy: false, version: 0 };
        own.then(|| self.names.entry((dir, name.clone())).or_insert(fresh))
    }

    /// One of the user's own names that no call is about.
    pub(crate) fn free_name(&mut self, dir: Ino, chance: &mut SplitMix) -> Option<(Bytes, Fate)> {
        let name = self.own_name(chance.below(NAMES));
        let entry = self.entry(dir, &name)?;
        (!entry.busy).then_some((name, entry.fate))
    }

    /// Any name of the directory, also of others.
    pub(crate) fn any_name(&self, _dir: Ino, chance: &mut SplitMix) -> Bytes {
        let index = chance.below(NAMES);
        match chance.below(3) {
            0 => shared_name(index),
            1 => self.own_name(index),
            _ => format!("user{}-0-{index}", 3 - self.user.min(2)).into_bytes().into(),
        }
    }

    pub(crate) fn known_ino(&mut self, dir: Ino, name: &Bytes) -> Option<Ino> {
        match self.entry(dir, name)?.fate {
            Fate::There(ino) => ino,
            Fate::Absent | Fate::Doubtful => None,
        }
    }

    pub(crate) fn begin(&mut self, doing: &Doing) {
        for (dir, name) in doing.names() {
            if let Some(entry) = self.entry(dir, &name) {
                entry.busy = true;
                entry.version += 1;
            }
        }
    }

    pub(crate) fn take_back(&mut self, doing: &Doing) {
        for (dir, name) in doing.names() {
            if let Some(entry) = self.entry(dir, &name) {
                entry.busy = false;
            }
        }
    }

    /// Whether a refusal is no surprise: a name of its own that is known to be there or not is no matter of luck.
    pub(crate) fn may_be_refused(&self, doing: &Doing, errno: Errno) -> bool {
        let fate = |dir: &Ino, name: &Bytes| {
            self.names.get(&(*dir, name.clone())).map_or(Fate::Doubtful, |entry| entry.fate)
        };
        match doing {
            Doing::Make { dir, name } => errno == Errno::EEXIST && fate(dir, name) != Fate::Absent,
            Doing::Remove { dir, name } => {
                errno == Errno::ENOENT && !matches!(fate(dir, name), Fate::There(_))
            }
            Doing::Rename { dir, from, .. } => {
                errno == Errno::ENOENT && !matches!(fate(dir, from), Fate::There(_))
            }
            Doing::Mode { .. } => false,
            Doing::Look => true,
        }
    }

    /// The call has its answer.
    pub(crate) fn end(
        &mut self,
        tid: Tid,
        doing: &Doing,
        result: &Result<Option<Ino>, Error>,
        durable: bool,
    ) {
        self.take_back(doing);
        match result {
            Ok(ino) => self.done(doing, *ino),
            Err(Error::Refused(errno)) => self.refused(doing, *errno),
            Err(_) => return self.doubt(doing),
        }
        if !durable {
            self.applied.insert(tid, self.touched(doing));
        }
    }

    fn done(&mut self, doing: &Doing, ino: Option<Ino>) {
        match doing {
            Doing::Make { dir, name } => self.set(*dir, name, Fate::There(ino)),
            Doing::Remove { dir, name } => self.set(*dir, name, Fate::Absent),
            Doing::Rename { dir, from, to } => {
                let before = self.entry(*dir, from).map(|entry| entry.fate);
                let moved = match before {
                    Some(Fate::There(known)) => known.or(ino),
                    _ => ino,
                };
                self.set(*dir, from, Fate::Absent);
                self.set(*dir, to, Fate::There(moved));
            }
            Doing::Mode { .. } | Doing::Look => {}
        }
    }

    fn refused(&mut self, doing: &Doing, errno: Errno) {
        match (doing, errno) {
            (Doing::Make { dir, name }, Errno::EEXIST)
                if self.entry(*dir, name).is_some_and(|entry| entry.fate == Fate::Doubtful) =>
            {
                self.set(*dir, name, Fate::There(None));
            }
            (Doing::Remove { dir, name }, Errno::ENOENT) => self.set(*dir, name, Fate::Absent),
            (Doing::Rename { dir, from, .. }, Errno::ENOENT) => self.set(*dir, from, Fate::Absent),
            _ => {}
        }
    }

    fn set(&mut self, dir: Ino, name: &Bytes, fate: Fate) {
        if let Some(entry) = self.entry(dir, name) {
            entry.fate = fate;
            entry.version += 1;
        }
    }

    /// The call may have been done or not.
    pub(crate) fn doubt(&mut self, doing: &Doing) {
        if let Doing::Look | Doing::Mode { .. } = doing {
            return self.take_back(doing);
        }
        for (dir, name) in doing.names() {
            self.set(dir, &name, Fate::Doubtful);
        }
        self.take_back(doing);
    }

    /// The names of a call with what is known of them now.
    pub(crate) fn touched(&self, doing: &Doing) -> Vec<(Ino, Bytes, u64)> {
        let known = |(dir, name): (Ino, Bytes)| {
            let version = self.names.get(&(dir, name.clone()))?.version;
            Some((dir, name, version))
        };
        doing.names().into_iter().filter_map(known).collect()
    }

    pub(crate) fn commit(&mut self, tid: Tid) -> Option<Vec<(Ino, Bytes, u64)>> {
        self.applied.remove(&tid)
    }

    pub(crate) fn uncommit(&mut self, tid: Tid) {
        for (dir, name, _) in self.applied.remove(&tid).expect("something was applied") {
            self.set(dir, &name, Fate::Doubtful);
        }
    }

    pub(crate) fn next_instance(&mut self) {
        self.instance += 1;
        let tids: Vec<Tid> = self.applied.keys().copied().collect();
        for tid in tids {
            self.uncommit(tid);
        }
    }

    /// Every name that no call is about, of one directory or of all, to be compared with the disk after a sync.
    pub(crate) fn settled(&self, dir: Option<Ino>) -> Vec<(Ino, Bytes, u64)> {
        let quiet =
            self.names.iter().filter(|((of, _), entry)| !entry.busy && dir.is_none_or(|dir| dir == *of));
        quiet.map(|((dir, name), entry)| (*dir, name.clone(), entry.version)).collect()
    }

    /// What a name is to be, if nothing has happened to it since.
    pub(crate) fn fate(&self, dir: Ino, name: &Bytes, version: u64) -> Option<Fate> {
        let entry = self.names.get(&(dir, name.clone()))?;
        (entry.version == version && !entry.busy).then_some(entry.fate)
    }

    /// Everything that the user was told, for the end.
    pub(crate) fn fates(&self) -> impl Iterator<Item = (Ino, &Bytes, Fate)> {
        self.names.iter().map(|((dir, name), entry)| (*dir, name, entry.fate))
    }
}
