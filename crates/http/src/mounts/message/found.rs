//! What resolutions, globs and watches answer.

use core::time::Duration;

use cuttlebone_mounttable::{
    Change, Epoch, Event, Found, Lagged, Live, Name, Place, Resolved, Revision, Server, Watched,
};
use serde::{Deserialize, Serialize};

use super::KindName;
use crate::message::{SCHEMA, millis};

/// One server that a name has now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerRow {
    /// The server.
    pub server: String,
    /// How long it has left without a refresh; `null` for ever, or if that is not known.
    pub left_ms: Option<u64>,
    /// Which incarnation mounted it.
    pub epoch: u64,
}

impl From<&Live> for ServerRow {
    fn from(live: &Live) -> Self {
        Self { server: live.server.to_string(), left_ms: live.left.map(millis), epoch: live.epoch.0 }
    }
}

impl ServerRow {
    fn read(&self) -> Option<Live> {
        let left = self.left_ms.map(Duration::from_millis);
        Some(Live::new(Server::parse(&self.server).ok()?, left, Epoch(self.epoch)))
    }
}

fn servers(rows: &[ServerRow]) -> Option<Vec<Live>> {
    rows.iter().map(ServerRow::read).collect()
}

/// The answer to `GET /v1/mounts/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ResolvedRow {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The name that the servers are mounted on.
    pub mount: String,
    /// What is left of the name for them.
    pub suffix: String,
    /// What they are.
    pub kind: KindName,
    /// The servers, most recently refreshed first.
    pub servers: Vec<ServerRow>,
}

impl From<&Resolved> for ResolvedRow {
    fn from(resolved: &Resolved) -> Self {
        Self {
            schema: SCHEMA,
            mount: resolved.mount.to_string(),
            suffix: resolved.suffix.to_string(),
            kind: resolved.kind.into(),
            servers: resolved.servers.iter().map(Into::into).collect(),
        }
    }
}

impl ResolvedRow {
    /// As a table in this process would answer; `None` for names or servers that are none.
    pub(crate) fn read(&self) -> Option<Resolved> {
        let (mount, suffix) = (Name::parse(&self.mount).ok()?, Name::parse(&self.suffix).ok()?);
        let servers = servers(&self.servers)?;
        (!servers.is_empty()).then(|| Resolved::new(mount, suffix, self.kind.into(), servers))
    }
}

/// One line of the answer to `GET /v1/mounts/{name}?glob=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoundRow {
    /// The name, relative to where the glob began.
    pub name: String,
    /// Whether servers are mounted on it, or names below it.
    pub place: PlaceName,
    /// What the servers are.
    pub kind: KindName,
    /// The servers; empty for an inner name, and for one whose servers the asker may not resolve.
    pub servers: Vec<ServerRow>,
}

/// [`Place`] as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "mirrors Place")]
pub enum PlaceName {
    /// Names below it.
    Inner,
    /// Servers.
    MountPoint,
}

impl From<&Found> for FoundRow {
    fn from(found: &Found) -> Self {
        Self {
            name: found.name.to_string(),
            place: match found.place {
                Place::Inner => PlaceName::Inner,
                Place::MountPoint => PlaceName::MountPoint,
            },
            kind: found.kind.into(),
            servers: found.servers.iter().map(Into::into).collect(),
        }
    }
}

impl FoundRow {
    /// As a table in this process would find it.
    pub(crate) fn read(&self) -> Option<Found> {
        let place = match self.place {
            PlaceName::Inner => Place::Inner,
            PlaceName::MountPoint => Place::MountPoint,
        };
        Some(Found::new(Name::parse(&self.name).ok()?, servers(&self.servers)?, self.kind.into(), place))
    }
}

/// One line of the answer to `GET /v1/mounts/{name}?watch=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum WatchLine {
    /// It was mounted when the watch began.
    Present(FoundRow),
    /// That was everything as of this revision; changes follow.
    Listed {
        /// Of the table.
        revision: u64,
    },
    /// It was mounted, or mounted again by another incarnation.
    Mounted {
        /// What and when.
        #[serde(flatten)]
        change: ChangeRow,
        /// As what.
        kind: KindName,
        /// By which incarnation.
        epoch: u64,
    },
    /// Somebody took it away.
    Unmounted(ChangeRow),
    /// Nobody refreshed it in time.
    Expired(ChangeRow),
    /// The connection works, and nothing has happened.
    Alive,
    /// The last line: the watcher was too slow, and what it missed is no longer known. It has to watch anew.
    Lagged {
        /// The oldest revision that is still known.
        oldest: u64,
        /// The newest.
        newest: u64,
    },
}

/// What came or went, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChangeRow {
    /// The step that it was part of.
    pub revision: u64,
    /// The name, relative to where the watch began.
    pub name: String,
    /// The server.
    pub server: String,
}

impl WatchLine {
    pub(crate) fn of_change(change: &Change, name: &Name) -> Self {
        let row = ChangeRow {
            revision: change.revision.0,
            name: name.to_string(),
            server: change.server.to_string(),
        };
        match change.event {
            Event::Mounted { kind, epoch } => {
                Self::Mounted { change: row, kind: kind.into(), epoch: epoch.0 }
            }
            Event::Unmounted => Self::Unmounted(row),
            Event::Expired => Self::Expired(row),
        }
    }

    /// As a table in this process would tell it; `Ok(None)` for a sign of life.
    pub(crate) fn read(self) -> Option<Result<Option<Watched>, Lagged>> {
        let change = |row: &ChangeRow, event| {
            let (name, server) = (Name::parse(&row.name).ok()?, Server::parse(&row.server).ok()?);
            Some(Watched::Change(Change::new(Revision(row.revision), name, server, event)))
        };
        Some(Ok(Some(match self {
            Self::Present(row) => Watched::Present(row.read()?),
            Self::Listed { revision } => Watched::Listed(Revision(revision)),
            Self::Mounted { change: row, kind, epoch } => {
                change(&row, Event::Mounted { kind: kind.into(), epoch: Epoch(epoch) })?
            }
            Self::Unmounted(row) => change(&row, Event::Unmounted)?,
            Self::Expired(row) => change(&row, Event::Expired)?,
            Self::Alive => return Some(Ok(None)),
            Self::Lagged { oldest, newest } => {
                return Some(Err(Lagged::new(Revision(oldest), Revision(newest))));
            }
        })))
    }
}
