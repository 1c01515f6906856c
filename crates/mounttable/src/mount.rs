use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::{Name, Server};

/// How long a mount lives without being refreshed: above zero, or for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(Duration);

impl Ttl {
    /// Until it is unmounted.
    pub const FOREVER: Self = Self(Duration::MAX);

    /// `duration`, unless it is zero: a time to live of zero has been taken for "for ever", and nobody means that.
    pub const fn new(duration: Duration) -> Option<Self> {
        if duration.is_zero() { None } else { Some(Self(duration)) }
    }

    /// The time; [`Duration::MAX`] for ever.
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// In whole seconds for a wire that knows no others: never less than asked for, so never 0 by rounding.
    pub const fn as_whole_seconds(self) -> u64 {
        let seconds = self.0.as_secs();
        if self.0.subsec_nanos() == 0 { seconds } else { seconds.saturating_add(1) }
    }
}

impl fmt::Debug for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::FOREVER { f.write_str("forever") } else { fmt::Debug::fmt(&self.0, f) }
    }
}

/// Which incarnation of a server speaks; a later one has a larger epoch.
///
/// Zero is for those who do not number their incarnations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number with a meaning")]
pub struct Epoch(pub u64);

/// What the servers of a name are; all servers of one name are of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "whoever resolves a name has to know all of them")]
pub enum Kind {
    /// Ends the resolution of a name; may have names of its own below.
    #[default]
    Server,
    /// Ends the resolution of a name, and has nothing below.
    Leaf,
    /// Is another mount table, which resolves the rest.
    Table,
}

/// What happens to the servers that a name has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum Placement {
    /// They stay.
    #[default]
    Beside,
    /// They go, in the same step.
    Replace,
}

/// One server to be mounted on one name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mount {
    /// On which name; never the root.
    pub name: Name,
    /// Which server.
    pub server: Server,
    /// For how long.
    pub ttl: Ttl,
    /// As what.
    pub kind: Kind,
    /// With or instead of the present servers.
    pub placement: Placement,
    /// On behalf of which incarnation.
    pub epoch: Epoch,
}

impl Mount {
    /// A plain server beside the present ones, without an epoch.
    pub fn new(name: Name, server: Server, ttl: Ttl) -> Self {
        Self { name, server, ttl, kind: Kind::Server, placement: Placement::Beside, epoch: Epoch(0) }
    }

    /// As `kind`.
    #[must_use]
    pub fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// Placed so.
    #[must_use]
    pub fn with_placement(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    /// On behalf of this incarnation.
    #[must_use]
    pub fn with_epoch(self, epoch: Epoch) -> Self {
        Self { epoch, ..self }
    }
}

/// What a successful mount found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mounted {
    /// How long the table keeps it, which may differ from what was asked for.
    pub ttl: Ttl,
    /// Whether the table had this server on this name before.
    pub before: Before,
    /// On which lease it is.
    pub lease: Lease,
}

impl Mounted {
    /// An answer of a table, without a lease.
    pub const fn new(ttl: Ttl, before: Before) -> Self {
        Self { ttl, before, lease: Lease::NONE }
    }

    /// On this lease.
    #[must_use]
    pub const fn with_lease(self, lease: Lease) -> Self {
        Self { lease, ..self }
    }
}

/// Counts the leases that one [`Namespace`](crate::Namespace) has begun; a later one has a larger number.
///
/// Whoever sees a number change knows that everything on the earlier lease is gone, also if nobody told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number with a meaning")]
pub struct Lease(pub u64);

impl Lease {
    /// Before the first one, and for tables that have none.
    pub const NONE: Self = Self(0);
}

/// What a table knew of an entry when it was mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third state")]
pub enum Before {
    /// Nothing. For somebody who had mounted it before, the table has forgotten.
    Absent,
    /// It was there; this was a refresh.
    Present,
}

/// Which servers of a name an unmount means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum Which {
    /// All of them, whoever mounted them.
    All,
    /// This one, unless a later incarnation than `epoch` has mounted it.
    One {
        /// The server.
        server: Server,
        /// Who asks.
        epoch: Epoch,
    },
}

/// One server that a name has now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Live {
    /// The server.
    pub server: Server,
    /// How long it has left without a refresh, where the table knows.
    pub left: Option<Duration>,
    /// For how long it has been there without a gap, where the table knows.
    pub age: Option<Duration>,
    /// Which incarnation mounted it.
    pub epoch: Epoch,
}

impl Live {
    /// An entry as a table reports it.
    pub const fn new(server: Server, left: Option<Duration>, epoch: Epoch) -> Self {
        Self { server, left, age: None, epoch }
    }

    /// The same with how long it has been there.
    #[must_use]
    pub fn with_age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }
}

/// Where a name leads: one step of a resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// The name that the servers are mounted on.
    pub mount: Name,
    /// What is left of the name for them.
    pub suffix: Name,
    /// What they are.
    pub kind: Kind,
    /// The servers, most recently refreshed first; never empty.
    pub servers: Vec<Live>,
}

impl Resolved {
    /// An answer of a table.
    pub const fn new(mount: Name, suffix: Name, kind: Kind, servers: Vec<Live>) -> Self {
        Self { mount, suffix, kind, servers }
    }
}

/// One name that a glob found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The name, relative to where the glob began.
    pub name: Name,
    /// Its servers; empty for an inner name, and for one whose servers the asker may not resolve.
    pub servers: Vec<Live>,
    /// What they are; [`Kind::Table`] for an inner name, since this table serves what is below.
    pub kind: Kind,
    /// Whether servers are mounted on it, or names below it.
    pub place: Place,
}

impl Found {
    /// An answer of a table.
    pub const fn new(name: Name, servers: Vec<Live>, kind: Kind, place: Place) -> Self {
        Self { name, servers, kind, place }
    }
}

/// What is at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a node has names below it or servers on it")]
pub enum Place {
    /// Names below it.
    Inner,
    /// Servers, which answer for every name below.
    MountPoint,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_never_zero_and_rounds_up() {
        assert_eq!(Ttl::new(Duration::ZERO), None);
        let seconds = |millis| Ttl::new(Duration::from_millis(millis)).unwrap().as_whole_seconds();
        assert_eq!([seconds(1), seconds(999), seconds(1000), seconds(1001)], [1, 1, 1, 2]);
        assert_eq!(Ttl::FOREVER.as_whole_seconds(), u64::MAX);
    }
}
