use core::fmt;

use cuttlebone_machine::Instant;

/// The place of a mutation in the order of its partition. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number with a name")]
pub struct Seqno(pub u64);

impl Seqno {
    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one before it.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seqno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a checkpoint, given by the active side. 0 stands for "being backfilled".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number with a name")]
pub struct CheckpointId(pub u64);

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Greatest seqno and checkpoint id that a producer may give. A log that gives a billion a second gets there in three
/// centuries; what it counts on from here by itself is never out of numbers.
pub(crate) const NUMBER_MAX: u64 = u64::MAX / 2;

/// Where a checkpoint's mutations come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a choice between two")]
pub enum CheckpointKind {
    /// From writers, or from a producer's memory.
    Memory,
    /// From a producer's disk: keys are unique by construction, and it is not mixed with anything.
    Disk,
}

/// Who decides where checkpoints begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a choice between two")]
pub enum Role {
    /// This log does, by its limits, and it gives seqnos.
    Active,
    /// A producer does, and it has given the seqnos.
    Replica,
}

/// Whether mutations have to be kept until they are persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a choice between two")]
pub enum Durability {
    /// A persistence cursor holds them until [`ChangeLog::commit`](crate::ChangeLog::commit).
    Persisted,
    /// They are gone when all cursors have read them.
    MemoryOnly,
}

/// Where a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "built in full or from the default")]
pub struct Start {
    /// The id of the first checkpoint.
    pub checkpoint: CheckpointId,
    /// The last seqno that exists already; all of it counts as persisted.
    pub seqno: Seqno,
    /// Who decides about checkpoints.
    pub role: Role,
}

impl Default for Start {
    /// An empty, active partition.
    fn default() -> Self {
        Self { checkpoint: CheckpointId(1), seqno: Seqno(0), role: Role::Active }
    }
}

/// What queueing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Queued {
    /// The seqno of the mutation.
    pub seqno: Seqno,
    /// What it replaced.
    pub effect: Effect,
}

/// What a new mutation replaced in the open checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all the cases")]
pub enum Effect {
    /// Nothing: its key was not there.
    New,
    /// A mutation that persistence had not taken yet: as much is waiting as before.
    Existing,
    /// A mutation that persistence had taken: the key has to be persisted once more.
    PersistAgain,
}

/// The figures of a log, for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that only this crate makes")]
pub struct Status {
    /// The open checkpoint.
    pub open: CheckpointId,
    /// The last closed one: of the list, or the one before it.
    pub last_closed: CheckpointId,
    /// How many checkpoints are in memory.
    pub checkpoints: usize,
    /// Elements in memory, meta-items included.
    pub elements: u64,
    /// Mutations in memory.
    pub mutations: u64,
    /// Elements of the open checkpoint, meta-items included.
    pub open_elements: u64,
    /// The last seqno that was given.
    pub last_seqno: Seqno,
    /// Everything up to this is committed, or was reverted.
    pub persisted: Seqno,
    /// Everything up to the end of this checkpoint is committed, or was reverted.
    pub persisted_checkpoint: CheckpointId,
    /// Mutations that wait for a commit, those in an unfinished flush included.
    pub unpersisted: u64,
    /// Bytes.
    pub memory: usize,
    /// How many cursors there are, persistence and its guard included.
    pub cursors: usize,
    /// Mutations that took the place of an older one of their key, since the log was made.
    pub replaced: u64,
}

/// A checkpoint in memory, for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that only this crate makes")]
pub struct CheckpointStatus {
    /// Which one.
    pub id: CheckpointId,
    /// The first seqno of its snapshot.
    pub first: Seqno,
    /// The last seqno; of the open one, so far.
    pub last: Seqno,
    /// Mutations that are left in it.
    pub mutations: u64,
    /// When it was opened.
    pub created: Instant,
    /// Whether it still grows.
    pub is_open: bool,
}
