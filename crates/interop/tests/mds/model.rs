//! A plain tree in memory: what a file system is, without servers, sessions or caches.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The error numbers that the model answers.
pub(crate) mod errno {
    pub(crate) const ENOENT: i32 = 2;
    pub(crate) const EACCES: i32 = 13;
    pub(crate) const EEXIST: i32 = 17;
    pub(crate) const ENOTDIR: i32 = 20;
    pub(crate) const EISDIR: i32 = 21;
    pub(crate) const EINVAL: i32 = 22;
    pub(crate) const ENOTEMPTY: i32 = 39;
    pub(crate) const ELOOP: i32 = 40;
    pub(crate) const ENODATA: i32 = 61;
}
use errno::{EEXIST, EINVAL, EISDIR, ELOOP, ENODATA, ENOENT, ENOTDIR, ENOTEMPTY};

/// Something that is done to a tree.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Mkdir(String),
    Create(String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String),
    Link(String, String),
    Symlink(String, String),
    Chmod(String, u32),
    Truncate(String, u64),
    SetXattr(String, String),
    RemoveXattr(String),
    Stat(String),
    ReadDir(String),
    ReadLink(String),
    GetXattr(String),
}

/// What it answers: what two clients can be compared by, or an error number.
pub(crate) type Outcome = Result<Value, i32>;

/// The name of the one attribute that is set and removed.
pub(crate) const XATTR: &str = "user.note";

type Id = usize;

#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    mode: u32,
    nlink: u32,
    xattr: Option<String>,
}

#[derive(Clone, Debug)]
enum Kind {
    Dir(BTreeMap<String, Id>),
    File { size: u64 },
    Symlink(String),
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

impl Tree {
    pub(crate) fn new() -> Self {
        let root = Node { kind: Kind::Dir(BTreeMap::new()), mode: 0o755, nlink: 1, xattr: None };
        Self { nodes: BTreeMap::from([(ROOT, root)]), last: ROOT }
    }

    /// Does it, or answers why not.
    pub(crate) fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Mkdir(path) => self.make(path, Kind::Dir(BTreeMap::new()), 0o755),
            Op::Create(path) => self.make(path, Kind::File { size: 0 }, 0o644),
            Op::Symlink(target, path) => self.make(path, Kind::Symlink(target.clone()), 0o777),
            Op::Unlink(path) => self.remove(path, false),
            Op::Rmdir(path) => self.remove(path, true),
            Op::Rename(from, to) => self.rename(from, to),
            Op::Link(from, to) => self.link(from, to),
            Op::Chmod(path, mode) => self.at(path).map(|id| {
                self.node(id).mode = *mode;
                Value::Null
            }),
            Op::Truncate(path, to) => {
                let id = self.at(path)?;
                let Kind::File { size } = &mut self.node(id).kind else { return Err(EISDIR) };
                *size = *to;
                Ok(Value::Null)
            }
            Op::SetXattr(path, value) => self.at(path).map(|id| {
                self.node(id).xattr = Some(value.clone());
                Value::Null
            }),
            Op::RemoveXattr(path) => {
                let id = self.at(path)?;
                self.node(id).xattr.take().map(|_| Value::Null).ok_or(ENODATA)
            }
            Op::GetXattr(path) => {
                let id = self.at(path)?;
                self.node(id).xattr.clone().map(|value| json!(value)).ok_or(ENODATA)
            }
            Op::Stat(path) => self.at(path).map(|id| self.shown(id)),
            Op::ReadLink(path) => {
                let id = self.at(path)?;
                let Kind::Symlink(target) = &self.node(id).kind else { return Err(EINVAL) };
                Ok(json!(target))
            }
            Op::ReadDir(path) => {
                let id = self.resolve(path, true)?;
                let Kind::Dir(entries) = &self.node(id).kind else { return Err(ENOTDIR) };
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
            && let Kind::Dir(entries) = &self.nodes[&over].kind
            && !entries.is_empty()
        {
            faults.push(ENOTEMPTY);
        }
        faults
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

    /// Type and permissions, links, size: what both clients tell of an inode in the same words.
    fn shown(&self, id: Id) -> Value {
        let node = &self.nodes[&id];
        match &node.kind {
            Kind::Dir(_) => json!({"type": "dir", "mode": node.mode}),
            Kind::File { size } => {
                json!({"type": "file", "mode": node.mode, "nlink": node.nlink, "size": size})
            }
            Kind::Symlink(target) => json!({"type": "symlink", "size": target.len()}),
        }
    }

    fn node(&mut self, id: Id) -> &mut Node {
        self.nodes.get_mut(&id).expect("ids are never dangling")
    }

    /// What is at a path; a link at its end is itself.
    fn at(&self, path: &str) -> Result<Id, i32> {
        self.resolve(path, false)
    }

    fn resolve(&self, path: &str, follow_last: bool) -> Result<Id, i32> {
        let mut left: Vec<String> = parts(path).map(String::from).rev().collect();
        let (mut way, mut links) = (vec![ROOT], 0);
        while let Some(part) = left.pop() {
            let here = *way.last().expect("there is always the root");
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
        Ok(*way.last().expect("there is always the root"))
    }

    /// The directory that a path's last name is in.
    fn parent<'a>(&self, path: &'a str) -> Result<(Id, &'a str), i32> {
        let (dir, name) = path.rsplit_once('/').expect("paths are absolute");
        let dir = self.resolve(dir, true)?;
        if !matches!(self.nodes[&dir].kind, Kind::Dir(_)) {
            return Err(ENOTDIR);
        }
        Ok((dir, name))
    }

    fn entries(&mut self, dir: Id) -> &mut BTreeMap<String, Id> {
        match &mut self.node(dir).kind {
            Kind::Dir(entries) => entries,
            _ => unreachable!("the caller has looked"),
        }
    }

    fn make(&mut self, path: &str, kind: Kind, mode: u32) -> Outcome {
        let (dir, name) = self.parent(path)?;
        if self.entries(dir).contains_key(name) {
            return Err(EEXIST);
        }
        self.last += 1;
        let id = self.last;
        self.nodes.insert(id, Node { kind, mode, nlink: 1, xattr: None });
        self.entries(dir).insert(name.into(), id);
        Ok(Value::Null)
    }

    fn remove(&mut self, path: &str, is_rmdir: bool) -> Outcome {
        let (dir, name) = self.parent(path)?;
        let id = *self.entries(dir).get(name).ok_or(ENOENT)?;
        match (&self.node(id).kind, is_rmdir) {
            (Kind::Dir(_), false) => return Err(EISDIR),
            (Kind::Dir(entries), true) if !entries.is_empty() => return Err(ENOTEMPTY),
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
        if self.entries(dir).contains_key(name) {
            return Err(EEXIST);
        }
        self.entries(dir).insert(name.into(), id);
        self.node(id).nlink += 1;
        Ok(Value::Null)
    }

    fn rename(&mut self, from: &str, to: &str) -> Outcome {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let id = *self.entries(from_dir).get(from_name).ok_or(ENOENT)?;
        let over = self.entries(to_dir).get(to_name).copied();
        let is_dir = |tree: &Self, id: Id| matches!(tree.nodes[&id].kind, Kind::Dir(_));
        if is_dir(self, id) && self.is_below(to_dir, id) {
            return Err(EINVAL);
        }
        if over == Some(id) {
            return Ok(Value::Null);
        }
        if let Some(over) = over {
            match (is_dir(self, id), &self.nodes[&over].kind) {
                (true, Kind::Dir(entries)) if !entries.is_empty() => return Err(ENOTEMPTY),
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

fn parts(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}
