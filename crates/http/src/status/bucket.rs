use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Rows;

/// How many checkpoints of a vbucket a snapshot keeps: the newest.
const CHECKPOINTS_MAX: usize = 64;

/// What a node keeps in one bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct BucketStatus {
    /// What its operator calls it; a label of metrics.
    pub name: String,
    /// Keys with a value.
    pub items: u64,
    /// Those of them whose value is on the disk only.
    pub evicted: u64,
    /// Bytes of values in memory.
    pub resident_bytes: u64,
    /// Bytes that the change logs take.
    pub log_bytes: u64,
    /// Mutations that replaced a queued one of the same key, since the node started.
    pub dedup_total: u64,
    /// Mutations that are not on the disk yet.
    pub unpersisted: u64,
    /// The seqnos on the disk, added up over the vbuckets.
    pub persisted_seqno: u64,
    /// Each cursor by its name, added up over the vbuckets.
    pub cursors: Vec<CursorTotal>,
    /// Why the disk refuses what it is given, while it does.
    pub disk_error: Option<String>,
    /// Each vbucket.
    pub vbuckets: Rows<VbucketStatus>,
}

/// A cursor over all vbuckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CursorTotal {
    /// Its name; a label of metrics.
    pub name: String,
    /// Mutations that it has not read.
    pub lag_items: u64,
}

/// One vbucket: what lies in its log, and who has read how far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..VbucketStatus::default()`")]
pub struct VbucketStatus {
    /// Which.
    pub id: u16,
    /// Who serves it.
    pub state: VbucketState,
    /// Keys with a value.
    pub items: u64,
    /// Those of them whose value is on the disk only.
    pub evicted: u64,
    /// Bytes of values in memory.
    pub resident_bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// The last seqno that was given.
    pub last_seqno: u64,
    /// Everything up to this is on the disk, or was reverted.
    pub persisted_seqno: u64,
    /// Mutations that are not on the disk yet.
    pub unpersisted: u64,
    /// Mutations that replaced a queued one of the same key, since the node started.
    pub dedup_total: u64,
    /// Whether hot reload is on: nothing from the barrier on is persisted.
    pub in_window: bool,
    /// Operations that wait.
    pub parked: u64,
    /// Checkpoints in memory, the oldest first; the open one is the last.
    pub checkpoints: Vec<CheckpointStatus>,
    /// Who reads.
    pub cursors: Vec<CursorStatus>,
}

/// Who serves a vbucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "the states a vbucket has")]
pub enum VbucketState {
    /// Clients are served.
    Active,
    /// A producer is followed.
    Replica,
    /// Clients wait.
    Pending,
    /// Nobody is served.
    #[default]
    Dead,
}

/// One checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..CheckpointStatus::default()`")]
pub struct CheckpointStatus {
    /// Which.
    pub id: u64,
    /// The first seqno in it.
    pub first_seqno: u64,
    /// The last seqno in it; of the open one, so far.
    pub last_seqno: u64,
    /// Mutations in it.
    pub items: u64,
    /// Whether it still grows.
    pub open: bool,
}

/// A cursor in one vbucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..CursorStatus::default()`")]
pub struct CursorStatus {
    /// Its name.
    pub name: String,
    /// The checkpoint that it stands in.
    pub checkpoint: u64,
    /// Everything up to this has been read.
    pub seqno: u64,
    /// Mutations that are left to read.
    pub lag_items: u64,
}

impl BucketStatus {
    /// A bucket with these vbuckets; what is a sum over them is summed up, those included that are not kept as rows.
    pub fn new(name: impl Into<String>, vbuckets: impl IntoIterator<Item = VbucketStatus>) -> Self {
        let mut bucket = Self { name: name.into(), ..Self::default() };
        let mut cursors = BTreeMap::<String, u64>::new();
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        let rows = vbuckets.into_iter().map(|mut vbucket| {
            add(&mut bucket.items, vbucket.items);
            add(&mut bucket.evicted, vbucket.evicted);
            add(&mut bucket.resident_bytes, vbucket.resident_bytes);
            add(&mut bucket.log_bytes, vbucket.log_bytes);
            add(&mut bucket.unpersisted, vbucket.unpersisted);
            add(&mut bucket.persisted_seqno, vbucket.persisted_seqno);
            add(&mut bucket.dedup_total, vbucket.dedup_total);
            for cursor in &vbucket.cursors {
                // Whoever follows over HTTP chooses a name, and names are labels: of all of them one number is told.
                let name = if cursor.name.starts_with("changes:") { "changes" } else { &cursor.name };
                add(cursors.entry(name.into()).or_default(), cursor.lag_items);
            }
            let surplus = vbucket.checkpoints.len().saturating_sub(CHECKPOINTS_MAX);
            vbucket.checkpoints.drain(..surplus);
            vbucket
        });
        let rows = rows.collect();
        bucket.vbuckets = rows;
        bucket.cursors =
            cursors.into_iter().map(|(name, lag_items)| CursorTotal { name, lag_items }).collect();
        bucket
    }
}

/// Hot reload over all buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..UpdateStatus::default()`")]
pub struct UpdateStatus {
    /// Where it is.
    pub stage: UpdateStage,
    /// How long it has been there.
    pub since_ms: Option<u64>,
    /// Who began it, as far as is known.
    pub owner: Option<String>,
    /// Mutations in the window: those that a revert would undo.
    pub held_items: u64,
    /// Windows that were completed since the node started.
    pub completed_total: u64,
    /// Windows that were reverted since the node started.
    pub reverted_total: u64,
    /// Keys that reverts restored since the node started.
    pub reverted_keys_total: u64,
    /// Reverts that were refused because the disk was behind.
    pub revert_failed_total: u64,
}

/// Where hot reload is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "the states of the diagram in docs/protocols/checkpoint.md")]
pub enum UpdateStage {
    /// Mutations are persisted as they come.
    #[default]
    Off,
    /// Nothing from the barrier on is persisted.
    On,
    /// The window is being undone.
    Reverting,
}
