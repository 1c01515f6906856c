use crate::{Epoch, Kind, Name, NameError, Principal, Tag, Version};

/// Why a table did not do what it was asked.
///
/// Nothing has changed when one of these is returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The path runs into servers at `mount`, which answer for everything below.
    #[error("{mount:?} has servers, which answer for everything below")]
    Covered {
        /// The name that has servers.
        mount: Name,
    },
    /// The asker has none of the rights that this needs.
    #[error("{who} may not {tag} at {name:?}")]
    Denied {
        /// Who asked.
        who: Principal,
        /// What would have sufficed.
        tag: Tag,
        /// Where.
        name: Name,
    },
    /// A later incarnation of the same server is mounted.
    #[error("a later incarnation has taken over, with epoch {}", newer.0)]
    Fenced {
        /// Its epoch.
        newer: Epoch,
    },
    /// A limit of the table is reached.
    #[error("the limit of {max} {limit} is reached")]
    Full {
        /// Of what.
        limit: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// Servers of another kind are mounted there.
    #[error("{name:?} has servers of kind {mounted:?}, not {asked:?}")]
    KindDiffers {
        /// Where.
        name: Name,
        /// What is there.
        mounted: Kind,
        /// What was asked for.
        asked: Kind,
    },
    /// The name is none.
    #[error("not a usable name")]
    Name(#[from] NameError),
    /// There are names below, and the whole subtree was not meant.
    #[error("{name:?} has names below it")]
    NotEmpty {
        /// Where.
        name: Name,
    },
    /// Nothing is mounted on the name or above it.
    #[error("no such name")]
    NoSuchName,
    /// The root cannot be mounted on, unmounted or deleted, and never resolves.
    #[error("not possible at the root of a mount table")]
    Root,
    /// The principal has made as many names as one may.
    #[error("{who} has made {max} names, which is the quota")]
    Quota {
        /// Who.
        who: Principal,
        /// How many are allowed.
        max: usize,
    },
    /// Permissions have changed since the version that the caller saw.
    #[error("the permissions have version {}", current.0)]
    Version {
        /// The version they have now.
        current: Version,
    },
}
