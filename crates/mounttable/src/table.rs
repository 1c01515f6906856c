use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use cuttlebone_machine::Instant;

use crate::change::{Change, Event, Lagged, Revision, Ring};
use crate::record::{Record, Step};
use crate::tree::{Acl, NodeId, ROOT, Tree};
use crate::{
    Before, Error, Limits, Mount, Mounted, Name, Permissions, Placement, Principal, Resolved, Tag, Version,
    Which,
};

mod ways;

/// A tree of names with servers that expire.
///
/// Plain methods; `now` must not go backwards. Every method first collects what has expired by then, so that an
/// expired server is never returned, never counted and never influences anything. See the crate's documentation for
/// the rules of names, permissions and kinds.
#[derive(Debug)]
pub struct Table {
    pub(crate) tree: Tree,
    pub(crate) limits: Limits,
    pub(crate) changes: Ring,
    /// Admins of the root in the configuration.
    super_users: Permissions,
    /// Names that the configuration gave permissions to; a deletion of one has to be remembered.
    configured: BTreeSet<Name>,
    /// The last derivation of permissions: nodes made one after another mostly have the same.
    derived: Option<(Arc<Acl>, Principal, Arc<Acl>)>,
}

/// What a delete does with names below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum Subtree {
    /// They make it fail.
    Keep,
    /// They go too.
    Delete,
}

/// What a table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Nodes, the root included.
    pub nodes: usize,
    /// Servers mounted.
    pub servers: usize,
}

impl Table {
    /// An open table: everybody may do everything within the limits. `service` is charged with the root.
    pub fn new(limits: Limits, service: Principal) -> Self {
        Self {
            tree: Tree::new(service, limits.hash_seed),
            changes: Ring::new(limits.changes_max),
            limits,
            super_users: Permissions::none(),
            configured: BTreeSet::new(),
            derived: None,
        }
    }

    /// A table with permissions from a configuration: names to permissions, `""` for the root, `users/%%` for the
    /// template of names right below `users`.
    ///
    /// # Errors
    ///
    /// A key that is no name, or lists beyond their limits.
    pub fn with_permissions(
        limits: Limits,
        service: &Principal,
        config: &BTreeMap<String, Permissions>,
    ) -> Result<Self, Error> {
        let mut table = Self::new(limits, service.clone());
        // Sorted by name, so that every node finds its parent's permissions in place.
        for (key, permissions) in config {
            let permissions = permissions.normalised()?;
            let (key, template) = match key.strip_suffix("%%").map(|key| key.strip_suffix('/').unwrap_or(key))
            {
                Some(key) => (key, true),
                None => (key.as_str(), false),
            };
            let name = Name::parse(key)?;
            if name.is_root() && !template {
                for pattern in permissions.patterns(Tag::Admin) {
                    table.super_users.add(Tag::Admin, pattern);
                }
            }
            let id = table.make_inheriting(&name, service);
            let Some(node) = table.tree.get_mut(id) else { continue };
            let mut acl = node.acl.as_deref().cloned().unwrap_or_default();
            if template {
                acl.template = Some(permissions);
            } else {
                acl.permissions = permissions;
            }
            acl.explicit = true;
            node.acl = Some(Arc::new(acl));
            table.configured.insert(name);
        }
        Ok(table)
    }

    /// Mounts or refreshes a server on a name, making the name if needed and deleting the names below it.
    ///
    /// # Errors
    ///
    /// See [`Error`]; nothing has changed then, and no part of the path was made.
    pub fn mount(&mut self, now: Instant, who: &Principal, mount: &Mount) -> Result<Mounted, Error> {
        self.expire(now);
        if mount.name.is_root() {
            return Err(Error::Root);
        }
        let (at, missing) = self.reach(who, &mount.name)?;
        if missing.is_empty() {
            self.check_mount_on(at, who, mount)?;
        }
        let id = self.make(at, &missing, who, &mount.name, &[Tag::Mount])?;
        self.changes.step();
        let mut gone = Vec::new();
        self.tree.remove_below(id, false, |name, server, acl| gone.push((name, server, acl)));
        if mount.placement == Placement::Replace {
            let others = self.tree.take_servers(id, |entry| entry.server != mount.server);
            gone.extend(others.into_iter().map(|server| (mount.name.clone(), server, self.tree.acl(id))));
        }
        for (name, server, acl) in gone {
            self.changes.push(name, server, Event::Unmounted, acl);
        }
        let deadline = now + mount.ttl.as_duration();
        let before = self.tree.put_server(id, &mount.server, now, deadline, mount.epoch);
        let kind = self.tree.get_mut(id).map(|node| core::mem::replace(&mut node.kind, mount.kind));
        if before != Some(mount.epoch) || kind != Some(mount.kind) {
            let event = Event::Mounted { kind: mount.kind, epoch: mount.epoch };
            self.changes.push(mount.name.clone(), mount.server.clone(), event, self.tree.acl(id));
        }
        let before = if before.is_some() { Before::Present } else { Before::Absent };
        Ok(Mounted::new(mount.ttl, before))
    }

    fn check_mount_on(&self, id: NodeId, who: &Principal, mount: &Mount) -> Result<(), Error> {
        self.check(id, who, &[Tag::Mount], &mount.name)?;
        let Some(node) = self.tree.get(id) else { return Err(Error::NoSuchName) };
        if !node.servers.is_empty() && node.kind != mount.kind {
            let name = mount.name.clone();
            return Err(Error::KindDiffers { name, mounted: node.kind, asked: mount.kind });
        }
        let present = node.servers.iter().find(|entry| entry.server == mount.server);
        if let Some(newer) = present.map(|entry| entry.epoch).filter(|epoch| *epoch > mount.epoch) {
            return Err(Error::Fenced { newer });
        }
        let max = self.limits.servers_per_name_max;
        let kept = if mount.placement == Placement::Replace { 0 } else { node.servers.len() };
        if present.is_none() && kept >= max {
            return Err(Error::Full { limit: "servers of a name", max });
        }
        // Whoever may mount here need not have a say about permissions that were set below.
        let below = self.tree.below(id);
        if below.iter().skip(1).any(|id| self.tree.get(*id).is_some_and(crate::tree::Node::is_explicit)) {
            return Err(Error::NotEmpty { name: mount.name.clone() });
        }
        Ok(())
    }

    /// Takes servers from a name. An unknown name or server is no error: what was wanted is so.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`], or [`Error::Fenced`] where a later incarnation has mounted the server.
    pub fn unmount(
        &mut self,
        now: Instant,
        who: &Principal,
        name: &Name,
        which: &Which,
    ) -> Result<(), Error> {
        self.expire(now);
        let (id, missing) = self.reach(who, name)?;
        if !missing.is_empty() || id == ROOT {
            return Ok(());
        }
        self.check(id, who, &[Tag::Mount], name)?;
        if let Which::One { server, epoch } = which
            && let Some(entry) =
                self.tree.get(id).and_then(|node| node.servers.iter().find(|entry| entry.server == *server))
            && entry.epoch > *epoch
        {
            return Err(Error::Fenced { newer: entry.epoch });
        }
        let gone = self.tree.take_servers(id, |entry| match which {
            Which::All => true,
            Which::One { server, .. } => entry.server == *server,
        });
        self.report(id, name, gone, Event::Unmounted);
        self.tree.prune(id);
        Ok(())
    }

    /// Where a name leads: the servers of the first mount on its path, and what is left of the name.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchName`], [`Error::Root`] for the root, [`Error::Denied`].
    pub fn resolve(&mut self, now: Instant, who: &Principal, name: &Name) -> Result<Resolved, Error> {
        self.expire(now);
        if name.is_root() {
            return Err(Error::Root);
        }
        let mut at = ROOT;
        let mut end = 0;
        for element in name.elements() {
            self.check(at, who, Tag::TRAVERSE, name)?;
            at = self.tree.child(at, element).ok_or(Error::NoSuchName)?;
            end += element.len() + usize::from(end > 0);
            let Some(node) = self.tree.get(at) else { break };
            if !node.servers.is_empty() {
                self.check(at, who, Tag::TRAVERSE, name)?;
                let (mount, suffix) = name.as_str().split_at(end);
                let suffix = Name::from_clean(suffix.strip_prefix('/').unwrap_or(suffix));
                let mount = if suffix.is_root() { name.clone() } else { Name::from_clean(mount) };
                return Ok(Resolved::new(mount, suffix, node.kind, node.live(now)));
            }
        }
        Err(Error::NoSuchName)
    }

    /// Deletes a name with its servers and permissions, and the names below it if so meant. An unknown name is no
    /// error.
    ///
    /// # Errors
    ///
    /// [`Error::Root`], [`Error::NotEmpty`], or [`Error::Denied`] to those who are admin neither here nor one above.
    pub fn delete(
        &mut self,
        now: Instant,
        who: &Principal,
        name: &Name,
        subtree: Subtree,
    ) -> Result<(), Error> {
        let records = self.plan_delete(now, who, name, subtree)?;
        for record in &records {
            self.apply(record);
        }
        Ok(())
    }

    /// What a delete would do, for those who write it down before they [`apply`](Self::apply) it.
    ///
    /// # Errors
    ///
    /// As [`Table::delete`].
    pub fn plan_delete(
        &mut self,
        now: Instant,
        who: &Principal,
        name: &Name,
        subtree: Subtree,
    ) -> Result<Vec<Record>, Error> {
        self.expire(now);
        if name.is_root() {
            return Err(Error::Root);
        }
        let Some(id) = self.tree.find(name) else { return Ok(Vec::new()) };
        let parent =
            name.as_str().rsplit_once('/').map_or_else(Name::root, |(parent, _)| Name::from_clean(parent));
        let by_parent = self
            .reach(who, &parent)
            .is_ok_and(|(at, missing)| missing.is_empty() && self.check(at, who, &[], &parent).is_ok());
        if !by_parent {
            self.reach(who, name)?;
            self.check(id, who, &[], name)?;
        }
        if subtree == Subtree::Keep && self.tree.get(id).is_some_and(|node| !node.children.is_empty()) {
            return Err(Error::NotEmpty { name: name.clone() });
        }
        Ok(alloc::vec![Record(Step::Delete { name: name.clone() })])
    }

    /// The permissions of a name, their version, and whether they were set there; `None` for an open name.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchName`], [`Error::Denied`] to those who may not pass.
    pub fn permissions(
        &mut self,
        now: Instant,
        who: &Principal,
        name: &Name,
    ) -> Result<Option<(Permissions, Version)>, Error> {
        self.expire(now);
        let (id, missing) = self.reach(who, name)?;
        if !missing.is_empty() {
            return Err(Error::NoSuchName);
        }
        self.check(id, who, &[], name)?;
        Ok(self.tree.get(id).and_then(|n| n.acl.as_ref()).map(|acl| (acl.permissions.clone(), acl.version)))
    }

    /// Sets the permissions of a name, making it if needed. Whoever would lock himself out stays admin.
    ///
    /// # Errors
    ///
    /// [`Error::Version`] when `expected` is not the present version, and what [`Table::mount`] can say.
    pub fn set_permissions(
        &mut self,
        now: Instant,
        who: &Principal,
        name: &Name,
        permissions: &Permissions,
        expected: Option<Version>,
    ) -> Result<(), Error> {
        let records = self.plan_permissions(now, who, name, permissions, expected)?;
        for record in &records {
            self.apply(record);
        }
        Ok(())
    }

    /// What setting permissions would do, for those who write it down before they [`apply`](Self::apply) it.
    ///
    /// # Errors
    ///
    /// As [`Table::set_permissions`].
    pub fn plan_permissions(
        &mut self,
        now: Instant,
        who: &Principal,
        name: &Name,
        permissions: &Permissions,
        expected: Option<Version>,
    ) -> Result<Vec<Record>, Error> {
        self.expire(now);
        let mut permissions = permissions.normalised()?;
        if !permissions.allows(who, &[]) {
            permissions.add(Tag::Admin, who.as_str());
        }
        let (at, missing) = self.reach(who, name)?;
        let present = self.tree.get(at).and_then(|node| node.acl.clone()).filter(|_| missing.is_empty());
        let current = if missing.is_empty() {
            self.check(at, who, &[], name)?;
            present.as_ref().map(|acl| acl.version).unwrap_or_default()
        } else {
            Version(0)
        };
        if expected.is_some_and(|expected| expected != current) {
            return Err(Error::Version { current });
        }
        let mut records = Vec::new();
        let chain = self.plan(at, &missing, who, name, &[])?;
        let mut path = String::from(self.tree.name(at).as_str());
        for (element, acl) in missing.iter().zip(chain) {
            crate::name::push(&mut path, element);
            let name = Name::from_clean(&path);
            records.push(Record(Step::Node { name, creator: Some(who.clone()), acl }));
        }
        let template = present.and_then(|acl| acl.template.clone());
        let creator = match records.pop() {
            Some(_) => Some(who.clone()),
            None => self.tree.get(at).and_then(|node| node.creator.clone()),
        };
        let version = Version(current.0.wrapping_add(1));
        let acl = Some(Arc::new(Acl { permissions, template, version, explicit: true }));
        records.push(Record(Step::Node { name: name.clone(), creator, acl }));
        Ok(records)
    }

    /// Carries out a step that was planned here, or that a journal brought back. Replays ignore quotas.
    pub fn apply(&mut self, record: &Record) {
        match &record.0 {
            Step::Delete { name } => {
                let Some(id) = self.tree.find(name).filter(|id| *id != ROOT) else { return };
                self.changes.step();
                let changes = &mut self.changes;
                self.tree.remove_below(id, true, |name, server, acl| {
                    changes.push(name, server, Event::Unmounted, acl);
                });
                let above = self.tree.deepest(name).0;
                self.tree.prune(above);
            }
            Step::Node { name, creator, acl } => {
                let (mut at, missing) = self.tree.deepest(name);
                for element in missing {
                    at = self.tree.insert(at, Arc::from(element), None, creator.clone());
                }
                let Some(node) = self.tree.get_mut(at) else { return };
                let template = node.acl.as_ref().and_then(|acl| acl.template.clone());
                node.acl.clone_from(acl);
                if let (Some(acl), Some(template)) = (&mut node.acl, template) {
                    Arc::make_mut(acl).template = Some(template);
                }
            }
        }
    }

    /// Everything that has to survive a restart, such that applying it to a table with the same configuration gives
    /// the same permissions again.
    pub fn records(&self) -> Vec<Record> {
        let set_here = |name: &Name| {
            let acl = self.tree.get(self.tree.find(name)?)?.acl.as_ref()?;
            acl.explicit.then_some(acl.version)
        };
        let names = self.tree.below(ROOT).into_iter().map(|id| self.tree.name(id));
        let set: Vec<Name> = names.filter(|name| set_here(name).is_some_and(|v| v > Version(0))).collect();
        let keep: BTreeSet<Name> = set.iter().flat_map(Name::prefixes).collect();
        let gone = self.configured.iter().filter(|name| set_here(name).is_none());
        let gone = gone.map(|name| Record(Step::Delete { name: name.clone() }));
        // What the configuration says and nobody changed is left out, so that the next configuration can differ.
        let kept = keep.iter().filter(|name| set_here(name) != Some(Version(0))).filter_map(|name| {
            let node = self.tree.get(self.tree.find(name)?)?;
            let (creator, acl) = (node.creator.clone(), node.acl.clone());
            Some(Record(Step::Node { name: name.clone(), creator, acl }))
        });
        gone.chain(kept).collect()
    }

    /// What the table holds.
    pub fn counters(&mut self, now: Instant) -> Counters {
        self.expire(now);
        Counters { nodes: self.tree.len(), servers: self.tree.servers() }
    }

    /// How many nodes `principal` has made.
    pub fn nodes_made_by(&self, principal: &Principal) -> usize {
        self.tree.made_by(principal)
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Revision {
        self.changes.newest()
    }

    /// The changes after a revision, oldest first: up to `max` and then to the end of their step.
    ///
    /// # Errors
    ///
    /// [`Lagged`] when the revision is older than the ring of changes reaches back.
    pub fn changes_since(&self, after: Revision, max: usize) -> Result<Vec<Change>, Lagged> {
        Ok(self.changes.since(after, max)?.into_iter().map(|kept| kept.change).collect())
    }

    /// When [`Table::expire`] next has something to look at.
    pub fn next_expiry(&self) -> Option<Instant> {
        // A server is alive at its deadline, so the collection comes a nanosecond later.
        self.tree.next_expiry().map(|at| at + core::time::Duration::from_nanos(1))
    }

    /// Collects what has expired. Every other method does so first; this one is for timers.
    pub fn expire(&mut self, now: Instant) {
        while let Some((id, gone)) = self.tree.expire_one(now) {
            if !gone.is_empty() {
                let name = self.tree.name(id);
                self.report(id, &name, gone, Event::Expired);
                self.tree.prune(id);
            }
        }
    }

    /// Counts nodes, servers and principals again and compares with the counters.
    ///
    /// # Errors
    ///
    /// What does not agree. This is for tests; it costs as much as the table is large.
    #[doc(hidden)]
    #[cfg(any(test, feature = "std"))]
    pub fn recount(&self) -> Result<(), &'static str> {
        self.tree.recount()
    }
}
