/// What one table may grow to. The defaults are meant for a table that strangers may use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Nodes of the tree, the root and inner ones included.
    pub nodes_max: usize,
    /// Servers mounted on one name.
    pub servers_per_name_max: usize,
    /// Nodes that one principal may have made; `None` where everybody is trusted. Source of the default:
    /// `vanadium/core:mounttablelib/mounttable.go`, defaultMaxNodesPerUser.
    pub nodes_per_principal_max: Option<usize>,
    /// Changes that are kept for watchers, each of about 100 bytes besides its strings.
    pub changes_max: usize,
    /// Watchers of one shared table.
    pub watchers_max: usize,
    /// Names in the list that a watch begins with, which is held in memory until the watcher has taken it.
    pub watch_list_max: usize,
    /// Seeds the hashes of names. A table that strangers mount in has one that they cannot guess, or they could choose
    /// names that collide. With the feature `std` the default is random; without it, it is 0 and the caller's business.
    pub hash_seed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nodes_max: 4_000_000,
            servers_per_name_max: 1024,
            nodes_per_principal_max: Some(1000),
            changes_max: 16_384,
            watchers_max: 1024,
            watch_list_max: 1_000_000,
            hash_seed: random_seed(),
        }
    }
}

impl Limits {
    /// For a table with one user, its own process: no quota.
    pub fn private() -> Self {
        Self { nodes_per_principal_max: None, ..Self::default() }
    }
}

/// The standard library seeds its own maps from the platform's randomness, and this seed from theirs.
#[cfg(feature = "std")]
fn random_seed() -> u64 {
    use core::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(not(feature = "std"))]
fn random_seed() -> u64 {
    0
}
