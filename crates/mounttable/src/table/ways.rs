//! How a table finds and makes nodes, and who may.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Table;
use crate::change::Event;
use crate::tree::{Acl, NodeId, ROOT};
use crate::{Error, Name, Principal, Tag};

impl Table {
    pub(super) fn report(&mut self, id: NodeId, name: &Name, gone: Vec<crate::Server>, event: Event) {
        if !gone.is_empty() {
            self.changes.step();
        }
        for server in gone {
            self.changes.push(name.clone(), server, event, self.tree.acl(id));
        }
    }

    /// Whether `who` has one of `tags` at a node; no tags ask for admin.
    pub(crate) fn allowed(&self, id: NodeId, who: &Principal, tags: &[Tag]) -> bool {
        self.tree.get(id).and_then(|node| node.acl.as_ref()).is_none_or(|acl| self.acl_allows(acl, who, tags))
    }

    /// Super users manage every name, but put nothing on or below one that they have not given themselves.
    pub(super) fn acl_allows(&self, acl: &Acl, who: &Principal, tags: &[Tag]) -> bool {
        let manages = !matches!(tags, [Tag::Mount | Tag::Create]);
        acl.permissions.allows(who, tags) || manages && self.super_users.allows(who, &[])
    }

    pub(super) fn check(&self, id: NodeId, who: &Principal, tags: &[Tag], name: &Name) -> Result<(), Error> {
        if self.allowed(id, who, tags) {
            return Ok(());
        }
        Err(Error::Denied {
            who: who.clone(),
            tag: tags.first().copied().unwrap_or(Tag::Admin),
            name: name.clone(),
        })
    }

    /// The deepest node on the way to `name` that `who` may pass to, and what is missing; no servers on the way.
    pub(super) fn reach<'a>(&self, who: &Principal, name: &'a Name) -> Result<(NodeId, Vec<&'a str>), Error> {
        let mut elements = name.elements();
        let mut at = ROOT;
        while let Some(element) = elements.next() {
            let Some(node) = self.tree.get(at) else { break };
            if !node.servers.is_empty() {
                return Err(Error::Covered { mount: self.tree.name(at) });
            }
            self.check(at, who, Tag::TRAVERSE, name)?;
            let Some(next) = self.tree.child(at, element) else {
                return Ok((at, core::iter::once(element).chain(elements).collect()));
            };
            at = next;
        }
        Ok((at, Vec::new()))
    }

    /// Makes the missing nodes below `at`, or none of them.
    pub(super) fn make(
        &mut self,
        at: NodeId,
        missing: &[&str],
        who: &Principal,
        name: &Name,
        last: &[Tag],
    ) -> Result<NodeId, Error> {
        let chain = self.plan(at, missing, who, name, last)?;
        let mut id = at;
        for (element, acl) in missing.iter().zip(chain) {
            id = self.tree.insert(id, Arc::from(*element), acl, Some(who.clone()));
        }
        Ok(id)
    }

    /// The permissions that the missing nodes below `at` will have, if `who` may make them and use the last one.
    pub(super) fn plan(
        &mut self,
        at: NodeId,
        missing: &[&str],
        who: &Principal,
        name: &Name,
        last: &[Tag],
    ) -> Result<Vec<Option<Arc<Acl>>>, Error> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        if !self.tree.get(at).is_some_and(|node| node.servers.is_empty()) {
            return Err(Error::Covered { mount: self.tree.name(at) });
        }
        self.check(at, who, &[Tag::Create], name)?;
        if self.tree.len() + missing.len() > self.limits.nodes_max {
            return Err(Error::Full { limit: "nodes", max: self.limits.nodes_max });
        }
        if let Some(max) = self.limits.nodes_per_principal_max
            && self.tree.made_by(who) + missing.len() > max
        {
            return Err(Error::Quota { who: who.clone(), max });
        }
        let mut acl = self.tree.get(at).and_then(|node| node.acl.clone());
        let mut chain = Vec::with_capacity(missing.len());
        for (index, element) in missing.iter().enumerate() {
            acl = acl.map(|parent| self.derive(&parent, element, who));
            let needed = if index + 1 == missing.len() { last } else { &[Tag::Create] };
            if let Some(acl) = &acl
                && !self.acl_allows(acl, who, needed)
            {
                let tag = needed.first().copied().unwrap_or(Tag::Admin);
                return Err(Error::Denied { who: who.clone(), tag, name: name.clone() });
            }
            chain.push(acl.clone());
        }
        Ok(chain)
    }

    /// The permissions of a new node: its parent's and its creator as admin, or its parent's template.
    pub(super) fn derive(&mut self, parent: &Arc<Acl>, element: &str, creator: &Principal) -> Arc<Acl> {
        if let Some(template) = &parent.template {
            return Arc::new(Acl { permissions: template.for_element(element), ..Acl::default() });
        }
        if let Some((last, who, derived)) = &self.derived
            && Arc::ptr_eq(last, parent)
            && who == creator
        {
            return Arc::clone(derived);
        }
        let permissions = parent.permissions.clone().allow(Tag::Admin, creator.as_str());
        let derived = Arc::new(Acl { permissions, ..Acl::default() });
        self.derived = Some((Arc::clone(parent), creator.clone(), Arc::clone(&derived)));
        derived
    }

    /// A node of the configuration: what is missing on its path has exactly its parent's permissions.
    pub(super) fn make_inheriting(&mut self, name: &Name, service: &Principal) -> NodeId {
        let (mut at, missing) = self.tree.deepest(name);
        for element in missing {
            let acl =
                self.tree.get(at).and_then(|node| node.acl.as_deref()).map(|parent| {
                    Arc::new(Acl { permissions: parent.permissions.clone(), ..Acl::default() })
                });
            at = self.tree.insert(at, Arc::from(element), acl, Some(service.clone()));
        }
        at
    }

    /// Whether `who` may hear of a change: by rights to its name as it was then, and to everything on the path that
    /// exists.
    #[cfg(feature = "std")]
    pub(crate) fn may_hear(&self, who: &Principal, kept: &crate::change::Kept) -> bool {
        if !kept.acl.as_ref().is_none_or(|acl| self.acl_allows(acl, who, Tag::TRAVERSE)) {
            return false;
        }
        let name = &kept.change.name;
        let mut at = Some(ROOT);
        for element in name.elements() {
            let Some(id) = at else { break };
            if !self.allowed(id, who, Tag::TRAVERSE) {
                return false;
            }
            at = self.tree.child(id, element);
        }
        at.is_none_or(|id| self.allowed(id, who, Tag::TRAVERSE))
    }
}
