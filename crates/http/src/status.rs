//! What a node shows of itself: one snapshot, from which the page, the JSON and the metrics are made.
//!
//! Plain numbers and words, so that any part of a node can fill its rows without knowing another. What the face serves
//! itself (tokens, its own connections) it fills in itself.

use serde::{Deserialize, Serialize};

use crate::message::{Row, SCHEMA};

mod bucket;
mod metrics;
mod page;
mod routes;
mod rows;
mod watch;

pub use bucket::{
    BucketStatus, CheckpointStatus, CursorStatus, CursorTotal, UpdateStage, UpdateStatus, VbucketState,
    VbucketStatus,
};
pub use rows::{ROWS_MAX, Rows};
pub use watch::SNAPSHOT_AGE_MAX;

pub(crate) use routes::{readiness, router};
pub(crate) use watch::Watch;

/// A node at one moment: the answer to `GET /v1/status`.
///
/// Ages and durations are in milliseconds and were measured when the snapshot was taken; nothing here is a wall-clock
/// time, but for [`SourceStatus::last_success_unix`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..Status::default()`")]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The node itself.
    pub node: NodeStatus,
    /// Where its data comes from.
    pub sources: Vec<SourceStatus>,
    /// What it keeps.
    pub buckets: Vec<BucketStatus>,
    /// Hot reload.
    pub update: UpdateStatus,
    /// Names, tokens held and waited for.
    pub tokens: TokensStatus,
    /// The node's own mount table.
    pub mounts: Rows<MountStatus>,
    /// What the node announces, and whether it is announced.
    pub published: Rows<PublishedStatus>,
    /// Links to peers.
    pub connections: Rows<ConnectionStatus>,
    /// The HTTP listener that answers this.
    pub listener: ListenerStatus,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            node: NodeStatus::default(),
            sources: Vec::new(),
            buckets: Vec::new(),
            update: UpdateStatus::default(),
            tokens: TokensStatus::default(),
            mounts: Rows::default(),
            published: Rows::default(),
            connections: Rows::default(),
            listener: ListenerStatus::default(),
        }
    }
}

/// The node itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..NodeStatus::default()`")]
pub struct NodeStatus {
    /// What its operator calls it.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// Where it is in its life.
    pub stage: Stage,
    /// What it waits for, or why it stops; empty if there is nothing to say.
    pub detail: String,
    /// How long the process has been running.
    pub uptime_ms: u64,
}

impl Default for NodeStatus {
    /// A node that serves, and has nothing to add to that.
    fn default() -> Self {
        Self {
            name: "cuttlebone".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            stage: Stage::Serving,
            detail: String::new(),
            uptime_ms: 0,
        }
    }
}

/// Where a node is in its life; `GET /readyz` is good in [`Serving`](Self::Serving) only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Reads its store.
    WarmingUp,
    /// Is not as new as its sources were when it started.
    CatchingUp,
    /// Serves.
    #[default]
    Serving,
    /// Takes nothing new and finishes what it has.
    Stopping,
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..SourceStatus::default()`")]
pub struct SourceStatus {
    /// What its operator calls it; a label of metrics, so there are few.
    pub name: String,
    /// Of which kind it is: `monsync`, `replica`, …
    pub kind: String,
    /// With whom it speaks now, if with anybody.
    pub peer: Option<String>,
    /// What it does now.
    pub state: SourceState,
    /// Versions it knows to be behind.
    pub lag_versions: Option<u64>,
    /// How long ago it last was as new as its peer.
    pub lag_ms: Option<u64>,
    /// Items received since the node started.
    pub items_total: u64,
    /// Bytes received since the node started.
    pub bytes_total: u64,
    /// Attempts that failed since the node started.
    pub failures_total: u64,
    /// Why the last attempt failed, until one succeeds.
    pub last_error: Option<String>,
    /// When a copy was last complete, in seconds since 1970.
    pub last_success_unix: Option<u64>,
    /// How long that took.
    pub last_duration_ms: Option<u64>,
    /// How many bytes that copy has.
    pub last_size_bytes: Option<u64>,
}

/// What a source does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SourceState {
    /// Looks for its peer, or waits before it tries again.
    #[default]
    Connecting,
    /// Copies everything.
    Copying,
    /// Has everything and follows what changes.
    Following,
    /// Has ended, as it was told to.
    Ended,
}

/// Names, tokens held and waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..TokensStatus::default()`")]
pub struct TokensStatus {
    /// Tokens that are out, of all names.
    pub held: u64,
    /// Slots they take.
    pub slots_held: u64,
    /// Requests that wait for a token.
    pub waiting: u64,
    /// Names that wait for older tokens to end.
    pub draining: u64,
    /// How often holders were told to stop since the registry was opened.
    pub fenced_total: u64,
    /// Each name.
    pub names: Rows<Row>,
}

/// One entry of the mount table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..MountStatus::default()`")]
pub struct MountStatus {
    /// The name.
    pub name: String,
    /// Who is mounted there.
    pub server: String,
    /// How long ago it was mounted or refreshed, where that is known.
    pub age_ms: Option<u64>,
    /// When it will be gone unless it is refreshed; `None` if it stays.
    pub expires_in_ms: Option<u64>,
}

/// One name that the node announces for one of its servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..PublishedStatus::default()`")]
pub struct PublishedStatus {
    /// The name.
    pub name: String,
    /// The server.
    pub server: String,
    /// Whether it is mounted as far as is known.
    pub mounted: bool,
    /// How long ago the table last said yes.
    pub age_ms: Option<u64>,
    /// Why the last try failed, until one succeeds.
    pub last_error: Option<String>,
}

/// One link to a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..ConnectionStatus::default()`")]
pub struct ConnectionStatus {
    /// Who is at the other end, as far as it said: `mon.a`, `client.4711`.
    pub peer: String,
    /// Its address.
    pub address: String,
    /// Who dialled.
    pub direction: Direction,
    /// What the link is for: `monsync`, `replication`, …
    pub purpose: String,
    /// How long it has been there.
    pub age_ms: u64,
}

/// Who dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "one of the two ends did")]
pub enum Direction {
    /// This node.
    #[default]
    Dialled,
    /// The peer.
    Accepted,
}

/// The HTTP listener, with its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that only this crate makes")]
pub struct ListenerStatus {
    /// Connections that are open.
    pub connections: u64,
    /// How many there may be.
    pub connections_max: u64,
    /// Connections taken since the listener was opened.
    pub accepted_total: u64,
    /// Connections that were turned away because their client had too many.
    pub turned_away_total: u64,
    /// Open answers of owners and holders, and those whose connection is lost and whose lease runs.
    pub sessions: u64,
    /// How many there may be.
    pub sessions_max: u64,
}
