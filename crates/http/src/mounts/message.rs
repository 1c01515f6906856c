//! What goes over the wire: JSON objects, one per line where the answer is a stream.

mod found;

use core::num::NonZeroU64;
use core::time::Duration;

use cuttlebone_mounttable::{
    Before, Epoch, Failure, Kind, Mount, Mounted, Name, Permissions, Placement, Server, ServerError, Ttl,
    Withdrawal,
};
use serde::{Deserialize, Serialize};

pub use found::{ChangeRow, FoundRow, PlaceName, ResolvedRow, ServerRow, WatchLine};

use crate::message::Problem;
#[cfg(doc)]
use crate::message::SCHEMA;

/// How long an entry lives without a refresh: milliseconds above 0, or `"forever"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(clippy::exhaustive_enums, reason = "so long or for ever")]
pub enum Lifetime {
    /// So many milliseconds.
    Millis(NonZeroU64),
    /// Until it is unmounted.
    Word(Forever),
}

/// The word for a life without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "one word")]
pub enum Forever {
    /// Until it is unmounted.
    Forever,
}

impl From<Ttl> for Lifetime {
    /// Rounds up: an entry lives no shorter than was asked for.
    fn from(ttl: Ttl) -> Self {
        let millis = ttl.as_duration().as_nanos().div_ceil(1_000_000);
        let millis = u64::try_from(millis).ok().and_then(NonZeroU64::new).filter(|_| ttl != Ttl::FOREVER);
        millis.map_or(Self::Word(Forever::Forever), Self::Millis)
    }
}

impl From<Lifetime> for Ttl {
    fn from(lifetime: Lifetime) -> Self {
        match lifetime {
            Lifetime::Millis(millis) => {
                Self::new(Duration::from_millis(millis.get())).unwrap_or(Self::FOREVER)
            }
            Lifetime::Word(Forever::Forever) => Self::FOREVER,
        }
    }
}

/// [`Kind`] as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "mirrors Kind")]
pub enum KindName {
    /// A plain server.
    #[default]
    Server,
    /// A server with nothing below it.
    Leaf,
    /// Another mount table.
    Table,
}

impl From<Kind> for KindName {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Server => Self::Server,
            Kind::Leaf => Self::Leaf,
            Kind::Table => Self::Table,
        }
    }
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::Server => Self::Server,
            KindName::Leaf => Self::Leaf,
            KindName::Table => Self::Table,
        }
    }
}

/// The body of `PUT /v1/mounts/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a request is written by its caller")]
pub struct MountRequest {
    /// The server.
    pub server: String,
    /// For how long.
    pub ttl_ms: Lifetime,
    /// As what.
    #[serde(default)]
    pub kind: KindName,
    /// Whether the present servers go.
    #[serde(default)]
    pub replace: bool,
    /// On behalf of which incarnation.
    #[serde(default)]
    pub epoch: u64,
}

impl MountRequest {
    /// What a table is asked.
    pub(crate) fn read(self, name: Name) -> Result<Mount, ServerError> {
        let placement = if self.replace { Placement::Replace } else { Placement::Beside };
        let mount = Mount::new(name, Server::parse(&self.server)?, self.ttl_ms.into());
        Ok(mount.with_kind(self.kind.into()).with_placement(placement).with_epoch(Epoch(self.epoch)))
    }
}

impl From<&Mount> for MountRequest {
    fn from(mount: &Mount) -> Self {
        Self {
            server: mount.server.to_string(),
            ttl_ms: mount.ttl.into(),
            kind: mount.kind.into(),
            replace: mount.placement == Placement::Replace,
            epoch: mount.epoch.0,
        }
    }
}

/// The body of `POST /v1/mounts`: many entries in one request, the mounts first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a request is written by its caller")]
pub struct Batch {
    /// What to mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mount: Vec<BatchMount>,
    /// What to take away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmount: Vec<BatchUnmount>,
}

/// One mount of a [`Batch`]: a name, and the fields of a [`MountRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a request is written by its caller")]
pub struct BatchMount {
    /// On which name.
    pub name: String,
    /// The server.
    pub server: String,
    /// For how long.
    pub ttl_ms: Lifetime,
    /// As what.
    #[serde(default)]
    pub kind: KindName,
    /// Whether the present servers go.
    #[serde(default)]
    pub replace: bool,
    /// On behalf of which incarnation.
    #[serde(default)]
    pub epoch: u64,
}

impl BatchMount {
    pub(crate) fn split(self) -> (String, MountRequest) {
        let Self { name, server, ttl_ms, kind, replace, epoch } = self;
        (name, MountRequest { server, ttl_ms, kind, replace, epoch })
    }
}

impl From<&Mount> for BatchMount {
    fn from(mount: &Mount) -> Self {
        let MountRequest { server, ttl_ms, kind, replace, epoch } = mount.into();
        Self { name: mount.name.to_string(), server, ttl_ms, kind, replace, epoch }
    }
}

/// One withdrawal of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a request is written by its caller")]
pub struct BatchUnmount {
    /// From which name.
    pub name: String,
    /// Which server.
    pub server: String,
    /// On behalf of which incarnation.
    #[serde(default)]
    pub epoch: u64,
}

impl From<&Withdrawal> for BatchUnmount {
    fn from(gone: &Withdrawal) -> Self {
        Self { name: gone.name.to_string(), server: gone.server.to_string(), epoch: gone.epoch.0 }
    }
}

/// The answer to `POST /v1/mounts`: one outcome for each entry, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BatchAnswer {
    /// [`SCHEMA`].
    pub schema: u32,
    /// For what was mounted.
    pub mounted: Vec<Outcome>,
    /// For what was taken away.
    pub unmounted: Vec<Outcome>,
}

/// What became of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It is mounted.
    Mounted(MountedRow),
    /// It is not, or not any more.
    Unmounted,
    /// Nothing has changed.
    Refused(Refused),
}

/// The answer to `PUT /v1/mounts/{name}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MountedRow {
    /// How long it lives without a refresh.
    pub ttl_ms: Lifetime,
    /// Whether the table had it before.
    pub known: bool,
}

impl From<Mounted> for MountedRow {
    fn from(mounted: Mounted) -> Self {
        Self { ttl_ms: mounted.ttl.into(), known: mounted.before == Before::Present }
    }
}

impl From<MountedRow> for Mounted {
    fn from(row: MountedRow) -> Self {
        Self::new(row.ttl_ms.into(), if row.known { Before::Present } else { Before::Absent })
    }
}

/// Why one entry of a batch was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Refused {
    /// As for a request of its own.
    #[serde(flatten)]
    pub problem: Problem,
    /// With `fenced`: the epoch of the incarnation that has taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer: Option<u64>,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem, newer: None }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        use cuttlebone_mounttable::Error;
        match (refused.problem.error.as_str(), refused.newer) {
            ("fenced", Some(newer)) => Self::Refused(Error::Fenced { newer: Epoch(newer) }),
            ("no_such_name", _) => Self::Refused(Error::NoSuchName),
            ("root", _) => Self::Refused(Error::Root),
            ("denied" | "quota" | "unauthorized", _) => Self::Forbidden { reason: refused.problem.detail },
            _ => Self::Foreign { reason: refused.problem.detail },
        }
    }
}

/// The body of `PUT /v1/permissions/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a request is written by its caller")]
pub struct PermissionsRequest {
    /// Patterns of principals for each of `admin`, `create`, `mount`, `read` and `resolve`.
    pub permissions: Permissions,
    /// Set them only if they have this version now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// The answer to `GET /v1/permissions/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PermissionsRow {
    /// [`SCHEMA`].
    pub schema: u32,
    /// As in a request; `null` where everybody may do everything.
    pub permissions: Option<Permissions>,
    /// Their version.
    pub version: u64,
}
