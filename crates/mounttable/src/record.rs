use alloc::sync::Arc;

use crate::tree::Acl;
use crate::{Name, Principal};

/// One step of what has to survive a restart: permissions, and deletions.
///
/// A plan of [`Table`](crate::Table) consists of them, and so does a [`Journal`](crate::Journal). Servers are in
/// neither: they come back by being refreshed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(pub(crate) Step);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This name is there, made by this principal, with these permissions.
    Node { name: Name, creator: Option<Principal>, acl: Option<Arc<Acl>> },
    /// This name and what was below it are gone.
    Delete { name: Name },
}
