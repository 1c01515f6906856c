use core::time::Duration;

use crate::Budget;

/// How a requester pulls.
///
/// Source of the defaults: `ceph/ceph:src/common/config_opts.h` of 0.61, `mon_sync_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record of knobs, built with `..Default::default()`")]
pub struct RequesterConfig {
    /// How long permission may take: twice `mon_sync_trim_timeout`.
    pub start_timeout: Duration,
    /// How long to wait when told to try again: `mon_sync_backoff_timeout`.
    pub backoff: Duration,
    /// Most times to try again before giving up. History had no limit.
    pub backoffs_max: u32,
    /// From an answered heartbeat to the next one: `mon_sync_heartbeat_interval`.
    pub heartbeat_interval: Duration,
    /// How long the answer to a heartbeat may take: `mon_sync_heartbeat_timeout`.
    pub heartbeat_timeout: Duration,
    /// How long a chunk, or the answer to the end, may take: `mon_sync_timeout`.
    pub idle_timeout: Duration,
    /// Most providers after the first: `mon_sync_max_retries`.
    pub providers_max: u32,
    /// How often the end is announced before it is taken as heard. History threw the copy away after the first.
    pub finishes_max: u32,
    /// Largest chunk that is accepted, in bytes.
    pub chunk_bytes_max: usize,
    /// Most bytes of all chunks of one copy. Stores of that time had a few gigabytes.
    pub copy_bytes_max: u64,
    /// Most versions in the log. 0.65 let trimming wait for 108,000.
    pub versions_max: usize,
}

impl Default for RequesterConfig {
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_secs(60),
            backoff: Duration::from_secs(30),
            backoffs_max: 20,
            heartbeat_interval: Duration::from_secs(5),
            heartbeat_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            providers_max: 5,
            finishes_max: 3,
            chunk_bytes_max: 64 * 1024 * 1024,
            copy_bytes_max: 1024 * 1024 * 1024 * 1024,
            versions_max: 200_000,
        }
    }
}

/// How a leader looks after requesters.
///
/// Source of the defaults: `ceph/ceph:src/common/config_opts.h` and `ceph/ceph:src/mon/Monitor.cc` of 0.61.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record of knobs, built with `..Default::default()`")]
pub struct LeaderConfig {
    /// How long a requester may be silent before it is forgotten: `mon_sync_trim_timeout`.
    pub trim_timeout: Duration,
    /// From the end of the last synchronisation until trimming is allowed again; hard-coded in 0.61.
    pub trim_delay: Duration,
    /// Most requesters at a time; more are told to try again. A monitor map of that time had at most some tens.
    pub requesters_max: usize,
}

impl Default for LeaderConfig {
    fn default() -> Self {
        Self {
            trim_timeout: Duration::from_secs(30),
            trim_delay: Duration::from_secs(30),
            requesters_max: 64,
        }
    }
}

/// Whether a provider adds checksums: `mon_sync_debug`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "yes and no, by name")]
pub enum Checksums {
    /// To the last chunk of each phase.
    #[default]
    Sent,
    /// Not at all, as 0.61 did unless it was being debugged.
    Omitted,
}

/// How a provider serves.
///
/// Source of the defaults: `ceph/ceph:src/common/config_opts.h` of 0.61, `mon_sync_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record of knobs, built with `..Default::default()`")]
pub struct ProviderConfig {
    /// How much one chunk holds: `mon_sync_max_payload_size`; keys had no limit, which made large chunks of small
    /// keys slow, so we take the one that came later.
    pub budget: Budget,
    /// How long a requester may take to answer a chunk: `mon_sync_timeout`.
    pub idle_timeout: Duration,
    /// Most requesters at a time. Each pins a snapshot. Above it, requesters are dropped and go elsewhere.
    pub requesters_max: usize,
    /// Whether to add checksums.
    pub checksums: Checksums,
}

impl Default for ProviderConfig {
    fn default() -> Self {
        Self {
            budget: Budget { bytes: 1024 * 1024, keys: 2000 },
            idle_timeout: Duration::from_secs(30),
            requesters_max: 16,
            checksums: Checksums::Sent,
        }
    }
}
