//! A plain tree in memory: what a file system is, without servers, sessions or caches.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::op::errno::{EEXIST, EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENODATA, ENOENT, ENOTDIR, ENOTEMPTY};
use crate::op::{Op, Outcome};

type Id = usize;

#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    nlink: u32,
    /// As they were set, unless something has changed them since.
    atime: Option<u64>,
    mtime: Option<u64>,
    xattrs: BTreeMap<&'static str, String>,
    /// A directory may have none of its own.
    layout: Option<BTreeMap<&'static str, u64>>,
    snapshots: BTreeSet<&'static str>,
}

impl Node {
    fn new(kind: Kind, mode: u32) -> Self {
        Self {
            kind,
            mode,
            owner: (0, 0),
            nlink: 1,
            atime: None,
            mtime: None,
            xattrs: BTreeMap::new(),
            layout: None,
            snapshots: BTreeSet::new(),
        }
    }
}

#[derive(Clone, Debug)]
enum Kind {
    Dir(BTreeMap<String, Id>),
    File { size: u64, untouched: bool },
    Symlink(String),
}

/// The layout of a file system's root.
fn default_layout() -> BTreeMap<&'static str, u64> {
    BTreeMap::from([("stripe_unit", 4 << 20), ("stripe_count", 1), ("object_size", 4 << 20)])
}

/// The tree.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<Id, Node>,
    last: Id,
}

const ROOT: Id = 0;
/// Far above what the paths of a test have, and below any real limit.
const LINKS_MAX: usize = 12;
/// Longest name, in bytes.
const NAME_MAX: usize = 255;

impl Tree {
    pub(crate) fn new() -> Self {
        let root = Node::new(Kind::Dir(BTreeMap::new()), 0o755);
        Self { nodes: BTreeMap::from([(ROOT, root)]), last: ROOT }
    }

    /// Does it, or answers why not.
    pub(crate) fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Mkdir(path) => self.make(path, Kind::Dir(BTreeMap::new()), 0o755),
            Op::Create(path) => self.make(path, Kind::File { size: 0, untouched: true }, 0o644),
            Op::Symlink(target, path) => self.make(path, Kind::Symlink(target.clone()), 0o777),
            Op::Unlink(path) => self.remove(path, false),
            Op::Rmdir(path) => self.remove(path, true),
            Op::Rename(from, to) => self.rename(from, to),
            Op::Link(from, to) => self.link(from, to),
            Op::Chmod(path, mode) => self.change(path, |node| node.mode = *mode),
            Op::Chown(path, uid, gid) => self.change(path, |node| node.owner = (*uid, *gid)),
            Op::Times(path, atime, mtime) => self.change(path, |node| {
                (node.atime, node.mtime) = (Some(*atime), Some(*mtime));
            }),
            Op::Truncate(path, to) => {
                let node = self.node_at(path)?;
                node.mtime = None;
                let Kind::File { size, untouched } = &mut node.kind else { return Err(EISDIR) };
                (*size, *untouched) = (*to, false);
                Ok(Value::Null)
            }
            Op::SetXattr(path, name, value, flags) => {
                let xattrs = &mut self.node_at(path)?.xattrs;
                match (flags, xattrs.contains_key(name)) {
                    (1, true) => return Err(EEXIST),
                    (2, false) => return Err(ENODATA),
                    _ => xattrs.insert(name, value.clone()),
                };
                Ok(Value::Null)
            }
            Op::RemoveXattr(path, name) => {
                self.node_at(path)?.xattrs.remove(name).map(|_| Value::Null).ok_or(ENODATA)
            }
            Op::GetXattr(path, name) => {
                self.node_at(path)?.xattrs.get(name).map(|value| json!(value)).ok_or(ENODATA)
            }
            Op::ListXattrs(path) => Ok(json!(self.node_at(path)?.xattrs.keys().collect::<Vec<_>>())),
            Op::SetLayout(path, field, value) => {
                let way = self.way(path, false)?;
                let mut layout = self.layout_of(&way);
                layout.insert(field, *value);
                self.node(last(&way)).layout = Some(layout);
                Ok(Value::Null)
            }
            Op::GetLayout(path, field) => {
                let layout = self.node_at(path)?.layout.as_ref().ok_or(ENODATA)?;
                Ok(json!(layout[field].to_string()))
            }
            Op::Count(path, name) => {
                let id = self.at(path)?;
                let Kind::Dir(entries) = &self.nodes[&id].kind else { return Err(ENODATA) };
                let is_dir = |id: &&Id| matches!(self.nodes[*id].kind, Kind::Dir(_));
                let dirs = entries.values().filter(is_dir).count();
                let count = match *name {
                    "ceph.dir.entries" => entries.len(),
                    "ceph.dir.subdirs" => dirs,
                    _ => entries.len() - dirs,
                };
                Ok(json!(count.to_string()))
            }
            Op::MakeSnapshot(path, name) => {
                let fresh = self.dir_at(path)?.snapshots.insert(name);
                if fresh { Ok(Value::Null) } else { Err(EEXIST) }
            }
            Op::RenameSnapshot(path, from, to) => {
                let snapshots = &mut self.dir_at(path)?.snapshots;
                if !snapshots.contains(from) {
                    return Err(ENOENT);
                }
                if !snapshots.insert(to) {
                    return Err(EEXIST);
                }
                snapshots.remove(from);
                Ok(Value::Null)
            }
            Op::RemoveSnapshot(path, name) => {
                let found = self.dir_at(path)?.snapshots.remove(name);
                if found { Ok(Value::Null) } else { Err(ENOENT) }
            }
            Op::Snapshots(path) => Ok(json!(self.dir_at(path)?.snapshots)),
            Op::Stat(path) => self.at(path).map(|id| self.shown(id)),
            Op::ReadLink(path) => {
                let id = self.at(path)?;
                let Kind::Symlink(target) = &self.node(id).kind else { return Err(EINVAL) };
                Ok(json!(target))
            }
            Op::ReadDir(path) => {
                let id = self.resolve(path, true)?;
                let Kind::Dir(entries) = &self.nodes[&id].kind else { return Err(ENOTDIR) };
                Ok(json!(entries.keys().collect::<Vec<_>>()))
            }
        }
    }

    /// Why an operation on two paths may fail. If there are several reasons, each of them is a right answer: what is looked
    /// at first is nobody's promise, and a server does it in one order when it knows a directory and in another when it
    /// does not.
    pub(crate) fn faults(&self, op: &Op) -> Vec<i32> {
        let (Op::Rename(from, to) | Op::Link(from, to)) = op else { return Vec::new() };
        let mut faults: Vec<_> = [self.at(from).err(), self.parent(to).err()].into_iter().flatten().collect();
        if let (Op::Rename(..), Ok(over)) = (op, self.at(to))
            && (self.holds_something(over)
                || self.parent(from).is_ok_and(|(dir, _)| self.is_below(dir, over)))
        {
            faults.push(ENOTEMPTY);
        }
        faults
    }

    /// Whether it is a file that never had any contents.
    pub(crate) fn is_untouched(&self, path: &str) -> bool {
        let node = self.at(path).map(|id| &self.nodes[&id]);
        node.is_ok_and(|node| matches!(node.kind, Kind::File { untouched: true, .. }))
    }

    /// Every path with what is there.
    pub(crate) fn everything(&self) -> BTreeMap<String, Value> {
        let (mut all, mut waiting) = (BTreeMap::new(), vec![(String::new(), ROOT)]);
        while let Some((path, id)) = waiting.pop() {
            if let Some(Node { kind: Kind::Dir(entries), .. }) = self.nodes.get(&id) {
                for (name, id) in entries {
                    let path = format!("{path}/{name}");
                    all.insert(path.clone(), self.shown(*id));
                    waiting.push((path, *id));
                }
            }
        }
        all
    }

    /// What both clients tell of an inode in the same words; of times only what is known of them.
    fn shown(&self, id: Id) -> Value {
        let node = &self.nodes[&id];
        let (uid, gid) = node.owner;
        let mut shown = match &node.kind {
            Kind::Dir(_) => json!({"type": "dir", "mode": node.mode, "uid": uid, "gid": gid}),
            Kind::File { size, .. } => json!({
                "type": "file", "mode": node.mode, "uid": uid, "gid": gid, "nlink": node.nlink, "size": size,
            }),
            Kind::Symlink(target) => json!({"type": "symlink", "size": target.len()}),
        };
        for (name, time) in [("atime", node.atime), ("mtime", node.mtime)] {
            if let Some(time) = time {
                shown[name] = json!(time);
            }
        }
        shown
    }

    /// The layout of something, or what new files in it would have.
    fn layout_of(&self, way: &[Id]) -> BTreeMap<&'static str, u64> {
        let own = way.iter().rev().find_map(|id| self.nodes[id].layout.clone());
        own.unwrap_or_else(default_layout)
    }

    fn change(&mut self, path: &str, change: impl FnOnce(&mut Node)) -> Outcome {
        change(self.node_at(path)?);
        Ok(Value::Null)
    }

    fn node_at(&mut self, path: &str) -> Result<&mut Node, i32> {
        let id = self.at(path)?;
        Ok(self.node(id))
    }

    fn dir_at(&mut self, path: &str) -> Result<&mut Node, i32> {
        let id = self.resolve(path, true)?;
        let node = self.node(id);
        if matches!(node.kind, Kind::Dir(_)) { Ok(node) } else { Err(ENOTDIR) }
    }

    fn node(&mut self, id: Id) -> &mut Node {
        self.nodes.get_mut(&id).expect("ids are never dangling")
    }

    /// What is at a path; a link at its end is itself.
    fn at(&self, path: &str) -> Result<Id, i32> {
        self.resolve(path, false)
    }

    fn resolve(&self, path: &str, follow_last: bool) -> Result<Id, i32> {
        self.way(path, follow_last).map(|way| last(&way))
    }

    /// Everything from the root to what is at a path.
    fn way(&self, path: &str, follow_last: bool) -> Result<Vec<Id>, i32> {
        if !follow_last {
            check_last_name(path)?;
        }
        let mut left: Vec<String> = parts(path).map(String::from).rev().collect();
        let (mut way, mut links) = (vec![ROOT], 0);
        while let Some(part) = left.pop() {
            let here = last(&way);
            check_last_name(&part)?;
            let Kind::Dir(entries) = &self.nodes[&here].kind else { return Err(ENOTDIR) };
            if part == ".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let next = *entries.get(&part).ok_or(ENOENT)?;
            match &self.nodes[&next].kind {
                Kind::Symlink(target) if follow_last || !left.is_empty() => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(ELOOP);
                    }
                    if target.starts_with('/') {
                        way = vec![ROOT];
                    }
                    left.extend(parts(target).map(String::from).rev());
                }
                _ => way.push(next),
            }
        }
        Ok(way)
    }

    /// The directory that a path's last name is in.
    fn parent<'a>(&self, path: &'a str) -> Result<(Id, &'a str), i32> {
        check_last_name(path)?;
        let (dir, name) = path.rsplit_once('/').expect("paths are absolute");
        let dir = self.resolve(dir, true)?;
        if !matches!(self.nodes[&dir].kind, Kind::Dir(_)) {
            return Err(ENOTDIR);
        }
        Ok((dir, name))
    }

    fn names(&self, dir: Id) -> &BTreeMap<String, Id> {
        match &self.nodes[&dir].kind {
            Kind::Dir(entries) => entries,
            _ => unreachable!("the caller has looked"),
        }
    }

    /// The same, to be changed.
    fn entries(&mut self, dir: Id) -> &mut BTreeMap<String, Id> {
        let node = self.node(dir);
        node.mtime = None;
        match &mut node.kind {
            Kind::Dir(entries) => entries,
            _ => unreachable!("the caller has looked"),
        }
    }

    fn make(&mut self, path: &str, kind: Kind, mode: u32) -> Outcome {
        let (dir, name) = self.parent(path)?;
        if self.names(dir).contains_key(name) {
            return Err(EEXIST);
        }
        self.last += 1;
        let id = self.last;
        let mut node = Node::new(kind, mode);
        if matches!(node.kind, Kind::File { .. }) {
            let (dir, _) = path.rsplit_once('/').expect("paths are absolute");
            node.layout = Some(self.layout_of(&self.way(dir, true)?));
        }
        self.nodes.insert(id, node);
        self.entries(dir).insert(name.into(), id);
        Ok(Value::Null)
    }

    fn remove(&mut self, path: &str, is_rmdir: bool) -> Outcome {
        let (dir, name) = self.parent(path)?;
        let id = *self.names(dir).get(name).ok_or(ENOENT)?;
        match (&self.nodes[&id].kind, is_rmdir) {
            (Kind::Dir(_), false) => return Err(EISDIR),
            (Kind::Dir(_), true) if self.holds_something(id) => return Err(ENOTEMPTY),
            (Kind::File { .. } | Kind::Symlink(_), true) => return Err(ENOTDIR),
            _ => {}
        }
        self.entries(dir).remove(name);
        self.unlinked(id);
        Ok(Value::Null)
    }

    fn unlinked(&mut self, id: Id) {
        let node = self.node(id);
        node.nlink -= 1;
        if node.nlink == 0 {
            self.nodes.remove(&id);
        }
    }

    fn link(&mut self, from: &str, to: &str) -> Outcome {
        let id = self.at(from)?;
        let (dir, name) = self.parent(to)?;
        if self.names(dir).contains_key(name) {
            return Err(EEXIST);
        }
        self.entries(dir).insert(name.into(), id);
        self.node(id).nlink += 1;
        Ok(Value::Null)
    }

    fn rename(&mut self, from: &str, to: &str) -> Outcome {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let id = *self.names(from_dir).get(from_name).ok_or(ENOENT)?;
        let over = self.names(to_dir).get(to_name).copied();
        let is_dir = |tree: &Self, id: Id| matches!(tree.nodes[&id].kind, Kind::Dir(_));
        if is_dir(self, id) && self.is_below(to_dir, id) {
            return Err(EINVAL);
        }
        if over == Some(id) {
            return Ok(Value::Null);
        }
        if let Some(over) = over {
            match (is_dir(self, id), &self.nodes[&over].kind) {
                (true, Kind::Dir(_)) if self.holds_something(over) => return Err(ENOTEMPTY),
                (true, Kind::File { .. } | Kind::Symlink(_)) => return Err(ENOTDIR),
                (false, Kind::Dir(_)) => return Err(EISDIR),
                _ => {}
            }
            self.unlinked(over);
        }
        self.entries(from_dir).remove(from_name);
        self.entries(to_dir).insert(to_name.into(), id);
        Ok(Value::Null)
    }

    /// Whether it is a directory with names in it, or with snapshots.
    fn holds_something(&self, id: Id) -> bool {
        let node = &self.nodes[&id];
        matches!(&node.kind, Kind::Dir(entries) if !entries.is_empty()) || !node.snapshots.is_empty()
    }

    /// Whether `dir` is `above` or below it.
    fn is_below(&self, dir: Id, above: Id) -> bool {
        let (mut seen, mut waiting) = (false, vec![above]);
        while let Some(id) = waiting.pop() {
            seen |= id == dir;
            if let Kind::Dir(entries) = &self.nodes[&id].kind {
                waiting.extend(entries.values());
            }
        }
        seen
    }
}

/// The name that a path ends with is looked at before the way to it.
fn check_last_name(path: &str) -> Result<(), i32> {
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.len() > NAME_MAX { Err(ENAMETOOLONG) } else { Ok(()) }
}

fn last(way: &[Id]) -> Id {
    *way.last().expect("there is always the root")
}

fn parts(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}
