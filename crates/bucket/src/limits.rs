use cuttlebone_checkpoint::Limits;

/// How far a bucket may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "built with `..BucketLimits::default()`")]
pub struct BucketLimits {
    /// Of each vbucket's log.
    pub log: Limits,
    /// Bytes of values in memory, for each vbucket. Above it clean values are given up; if none is clean, writers are
    /// told to try again.
    pub resident_bytes_max: usize,
    /// Deletions that are remembered for replicas, for each vbucket. A replica that missed older ones starts anew.
    pub tombstones_max: usize,
    /// Operations that wait, for each vbucket.
    pub parked_max: usize,
    /// Those who wait for something to become durable, for each vbucket.
    pub waiters_max: usize,
    /// Operations that wait for a value from the disk, in all vbuckets.
    pub fetches_max: usize,
    /// Rows in one commit, about: a flush takes whole checkpoints.
    pub flush_rows: u64,
    /// Events that a stream sends before an acknowledgement.
    pub unacknowledged_max: u64,
}

impl Default for BucketLimits {
    fn default() -> Self {
        Self {
            log: Limits::default(),
            resident_bytes_max: 1 << 30,
            tombstones_max: 100_000,
            parked_max: 10_000,
            waiters_max: 10_000,
            fetches_max: 10_000,
            flush_rows: 10_000,
            unacknowledged_max: 100_000,
        }
    }
}
