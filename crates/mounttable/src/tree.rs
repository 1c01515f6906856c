use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use cuttlebone_machine::Instant;
use hashbrown::HashTable;

use crate::name::push;
use crate::{Epoch, Kind, Live, Name, Permissions, Principal, Server, Version};

/// A deadline that never comes, and what a node is filed under that is not filed.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(u32);

pub(crate) const ROOT: NodeId = NodeId(0);

/// The permissions of a node. Shared between nodes that have the same ones by inheritance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acl {
    pub(crate) permissions: Permissions,
    /// What nodes right below get instead of a copy.
    pub(crate) template: Option<Permissions>,
    pub(crate) version: Version,
    /// Somebody set them here, so that the node stays also when it is empty.
    pub(crate) explicit: bool,
}

#[derive(Debug)]
pub(crate) struct Node {
    /// Tells this node from a later one in the same place.
    pub(crate) serial: u64,
    parent: NodeId,
    pub(crate) element: Arc<str>,
    pub(crate) children: BTreeMap<Arc<str>, NodeId>,
    pub(crate) servers: Vec<Entry>,
    pub(crate) kind: Kind,
    pub(crate) acl: Option<Arc<Acl>>,
    pub(crate) creator: Option<Principal>,
    /// Under which deadline the expiry index has this node: never later than the earliest one of its servers.
    filed: Instant,
}

/// One server on a node; the most recently refreshed is in front.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) server: Server,
    /// Since when it has been there without a gap.
    pub(crate) since: Instant,
    pub(crate) deadline: Instant,
    pub(crate) epoch: Epoch,
}

impl Entry {
    pub(crate) fn live(&self, now: Instant) -> Live {
        let left = (self.deadline != NEVER).then(|| self.deadline.since(now));
        Live::new(self.server.clone(), left, self.epoch).with_age(now.since(self.since))
    }
}

impl Node {
    fn hash(&self, seed: u64) -> u64 {
        hash(seed, self.parent, &self.element)
    }

    pub(crate) fn is_explicit(&self) -> bool {
        self.acl.as_ref().is_some_and(|acl| acl.explicit)
    }

    pub(crate) fn live(&self, now: Instant) -> Vec<Live> {
        self.servers.iter().map(|entry| entry.live(now)).collect()
    }
}

/// Nodes in one vector, with the counters and the expiry index that every change of them keeps true.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Option<Node>>,
    free: Vec<NodeId>,
    serial: u64,
    servers: usize,
    made: BTreeMap<Principal, usize>,
    expiry: BTreeSet<(Instant, NodeId)>,
    /// Every node but the root by its parent and element. The ordered children of each node are for globs; finding one
    /// among them would compare a dozen names in a dozen places of memory.
    index: HashTable<NodeId>,
    seed: u64,
}

impl Tree {
    pub(crate) fn new(creator: Principal, seed: u64) -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            free: Vec::new(),
            serial: 0,
            servers: 0,
            made: BTreeMap::new(),
            expiry: BTreeSet::new(),
            index: HashTable::new(),
            seed,
        };
        tree.insert(ROOT, Arc::from(""), None, Some(creator));
        tree
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(index(id)).and_then(Option::as_ref)
    }

    /// The node, unless it has gone and another one has its place.
    pub(crate) fn get_serial(&self, id: NodeId, serial: u64) -> Option<&Node> {
        self.get(id).filter(|node| node.serial == serial)
    }

    pub(crate) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(index(id)).and_then(Option::as_mut)
    }

    pub(crate) fn child(&self, id: NodeId, element: &str) -> Option<NodeId> {
        let same =
            |child: &NodeId| self.get(*child).is_some_and(|n| n.parent == id && *n.element == *element);
        self.index.find(hash(self.seed, id, element), same).copied()
    }

    /// The permissions of a node; `None` where everybody may do everything.
    pub(crate) fn acl(&self, id: NodeId) -> Option<Arc<Acl>> {
        self.get(id).and_then(|node| node.acl.clone())
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    pub(crate) fn servers(&self) -> usize {
        self.servers
    }

    pub(crate) fn made_by(&self, principal: &Principal) -> usize {
        self.made.get(principal).copied().unwrap_or(0)
    }

    /// The name of a node, from the elements above it.
    pub(crate) fn name(&self, mut id: NodeId) -> Name {
        let mut elements = Vec::new();
        while id != ROOT
            && let Some(node) = self.get(id)
        {
            elements.push(&*node.element);
            id = node.parent;
        }
        let mut text = String::new();
        elements.iter().rev().for_each(|element| push(&mut text, element));
        Name::from_clean(&text)
    }

    /// The deepest node on the way to `name`, and the elements that are missing below it.
    pub(crate) fn deepest<'a>(&self, name: &'a Name) -> (NodeId, Vec<&'a str>) {
        let mut elements = name.elements();
        let mut at = ROOT;
        for element in elements.by_ref() {
            let Some(next) = self.child(at, element) else {
                return (at, core::iter::once(element).chain(elements).collect());
            };
            at = next;
        }
        (at, Vec::new())
    }

    pub(crate) fn find(&self, name: &Name) -> Option<NodeId> {
        let (at, missing) = self.deepest(name);
        missing.is_empty().then_some(at)
    }

    pub(crate) fn insert(
        &mut self,
        parent: NodeId,
        element: Arc<str>,
        acl: Option<Arc<Acl>>,
        creator: Option<Principal>,
    ) -> NodeId {
        self.serial += 1;
        let node = Node {
            serial: self.serial,
            parent,
            element: Arc::clone(&element),
            children: BTreeMap::new(),
            servers: Vec::new(),
            kind: Kind::Server,
            acl,
            creator: creator.clone(),
            filed: NEVER,
        };
        let id = if let Some(id) = self.free.pop() {
            if let Some(place) = self.nodes.get_mut(index(id)) {
                *place = Some(node);
            }
            id
        } else {
            self.nodes.push(Some(node));
            // The limit of nodes is far below 2^32, and the table refuses before it is reached.
            NodeId(u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX))
        };
        if let Some(creator) = creator {
            *self.made.entry(creator).or_insert(0) += 1;
        }
        if id != ROOT {
            let (nodes, seed) = (&self.nodes, self.seed);
            let again = |id: &NodeId| {
                nodes.get(index(*id)).and_then(Option::as_ref).map_or(0, |node| node.hash(seed))
            };
            self.index.insert_unique(hash(seed, parent, &element), id, again);
            if let Some(parent) = self.get_mut(parent) {
                parent.children.insert(element, id);
            }
        }
        id
    }

    /// Puts a server in front, or refreshes it there; returns what its epoch was if it was present.
    pub(crate) fn put_server(
        &mut self,
        id: NodeId,
        server: &Server,
        now: Instant,
        deadline: Instant,
        epoch: Epoch,
    ) -> Option<Epoch> {
        let node = self.nodes.get_mut(index(id))?.as_mut()?;
        let before = if let Some(at) = node.servers.iter().position(|entry| entry.server == *server) {
            let entry = node.servers.get_mut(at)?;
            let before = core::mem::replace(&mut entry.epoch, epoch);
            entry.deadline = deadline;
            node.servers.get_mut(..=at)?.rotate_right(1);
            Some(before)
        } else {
            // Most names have one server; a vector that grows by itself starts with four places.
            node.servers.reserve_exact(1);
            node.servers.insert(0, Entry { server: server.clone(), since: now, deadline, epoch });
            self.servers += 1;
            None
        };
        if deadline < node.filed {
            if node.filed != NEVER {
                self.expiry.remove(&(node.filed, id));
            }
            node.filed = deadline;
            self.expiry.insert((deadline, id));
        }
        before
    }

    /// Takes out the servers that `gone` says yes to.
    pub(crate) fn take_servers(&mut self, id: NodeId, mut gone: impl FnMut(&Entry) -> bool) -> Vec<Server> {
        let Some(node) = self.nodes.get_mut(index(id)).and_then(Option::as_mut) else { return Vec::new() };
        let mut taken = Vec::new();
        node.servers.retain(|entry| {
            let goes = gone(entry);
            if goes {
                taken.push(entry.server.clone());
            }
            !goes
        });
        self.servers -= taken.len();
        if node.servers.is_empty() {
            // Gives the memory back, and the place in the index.
            node.servers = Vec::new();
            if node.filed != NEVER {
                self.expiry.remove(&(node.filed, id));
                node.filed = NEVER;
            }
        }
        taken
    }

    /// When the next server may expire; it may turn out to have been refreshed.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.expiry.first().map(|(deadline, _)| *deadline)
    }

    /// The next node with a deadline before `now`, filed anew under its earliest deadline from then on; and the
    /// servers that were taken from it.
    pub(crate) fn expire_one(&mut self, now: Instant) -> Option<(NodeId, Vec<Server>)> {
        let &(deadline, id) = self.expiry.first()?;
        if deadline >= now {
            return None;
        }
        self.expiry.pop_first();
        if let Some(node) = self.get_mut(id) {
            node.filed = NEVER;
        }
        let gone = self.take_servers(id, |entry| entry.deadline < now);
        if let Some(node) = self.nodes.get_mut(index(id)).and_then(Option::as_mut)
            && let Some(next) = node.servers.iter().map(|entry| entry.deadline).min()
            && next != NEVER
        {
            node.filed = next;
            self.expiry.insert((next, id));
        }
        Some((id, gone))
    }

    /// Removes `id` and what has become useless above it.
    pub(crate) fn prune(&mut self, mut id: NodeId) {
        while id != ROOT
            && let Some(node) = self.get(id)
            && node.children.is_empty()
            && node.servers.is_empty()
            && !node.is_explicit()
        {
            let parent = node.parent;
            self.remove_leaf(id);
            id = parent;
        }
    }

    /// Removes what is below `id`, and `id` itself if `and_self`; tells of every server that goes.
    pub(crate) fn remove_below(
        &mut self,
        id: NodeId,
        and_self: bool,
        mut gone: impl FnMut(Name, Server, Option<Arc<Acl>>),
    ) {
        for below in self.below(id).into_iter().skip(usize::from(!and_self)).rev() {
            let name = self.name(below);
            for server in self.take_servers(below, |_| true) {
                gone(name.clone(), server, self.acl(below));
            }
            self.remove_leaf(below);
        }
    }

    /// `id` and every node below it, parents first.
    pub(crate) fn below(&self, id: NodeId) -> Vec<NodeId> {
        let mut all = alloc::vec![id];
        let mut at = 0;
        while let Some(node) = all.get(at).and_then(|id| self.get(*id)) {
            all.extend(node.children.values().copied());
            at += 1;
        }
        all
    }

    fn remove_leaf(&mut self, id: NodeId) {
        self.take_servers(id, |_| true);
        let Some(node) = self.nodes.get_mut(index(id)).and_then(Option::take) else { return };
        if let Ok(place) = self.index.find_entry(node.hash(self.seed), |other| *other == id) {
            place.remove();
        }
        self.free.push(id);
        if let Some(parent) = self.get_mut(node.parent) {
            parent.children.remove(&*node.element);
        }
        if let Some(creator) = node.creator
            && let Some(count) = self.made.get_mut(&creator)
        {
            *count -= 1;
            if *count == 0 {
                self.made.remove(&creator);
            }
        }
    }

    /// Counts everything again and compares: for tests of what the counters promise.
    #[cfg(any(test, feature = "std"))]
    pub(crate) fn recount(&self) -> Result<(), &'static str> {
        let nodes: Vec<(usize, &Node)> =
            self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at, node.as_ref()?))).collect();
        let mut made: BTreeMap<Principal, usize> = BTreeMap::new();
        for creator in nodes.iter().filter_map(|(_, node)| node.creator.clone()) {
            *made.entry(creator).or_insert(0) += 1;
        }
        let servers: usize = nodes.iter().map(|(_, node)| node.servers.len()).sum();
        let filed = nodes.iter().filter(|(_, node)| node.filed != NEVER).count();
        let late = nodes.iter().any(|(_, node)| node.servers.iter().any(|entry| entry.deadline < node.filed));
        let useless = nodes.iter().any(|(at, node)| {
            *at != 0 && node.children.is_empty() && node.servers.is_empty() && !node.is_explicit()
        });
        let both = nodes.iter().any(|(_, node)| !node.children.is_empty() && !node.servers.is_empty());
        match () {
            () if nodes.len() != self.len() => Err("nodes"),
            () if servers != self.servers => Err("servers"),
            () if made != self.made => Err("nodes per principal"),
            () if filed != self.expiry.len() => Err("expiry index"),
            () if self.index.len() + 1 != self.len() => Err("index of names"),
            () if late => Err("a deadline before the one that is filed"),
            () if useless => Err("a useless node"),
            () if both => Err("children beside servers"),
            () => Ok(()),
        }
    }
}

/// Multiplies and folds eight bytes at a time, from a seed; for an index in memory, never for anything that is stored.
fn hash(seed: u64, parent: NodeId, element: &str) -> u64 {
    let fold = |state: u64, word: u64| {
        let wide = u128::from(state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        u64::try_from(wide >> 64).unwrap_or(0) ^ u64::try_from(wide & u128::from(u64::MAX)).unwrap_or(0)
    };
    let (words, rest) = element.as_bytes().as_chunks::<8>();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let length = u64::try_from(element.len()).unwrap_or(u64::MAX);
    let state = fold(seed ^ 0x2545_f491_4f6c_dd1d, u64::from(parent.0) << 32 ^ length);
    let state = words.iter().fold(state, |state, word| fold(state, u64::from_le_bytes(*word)));
    fold(state, u64::from_le_bytes(last))
}

fn index(id: NodeId) -> usize {
    usize::try_from(id.0).unwrap_or(usize::MAX)
}
