/// How much a writer may hold in memory, and when it tidies up. Every field has a default that suits a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Entries that a pull keeps in memory before it writes them as a run. Default 32,768.
    pub overlay_entries_max: usize,
    /// Bytes of keys that a pull keeps in memory before it writes them as a run. Default 4 MiB.
    pub overlay_key_bytes_max: usize,
    /// Changes that a recent pull may write inline instead of as a run. Default 4,096.
    pub inline_entries_max: usize,
    /// Inline changes that gather before they are written as a run. Default 16,384.
    pub tail_entries_max: usize,
    /// Points that gather in the log before they are written into a run. Default 512.
    pub tail_points_max: usize,
    /// Runs of one generation before they are merged; between 2 and 2,048. Default 8.
    pub runs_max: usize,
    /// Generations kept; a full pull beyond it drops the oldest. Between 1 and 1,024. Default 8.
    pub generations_max: usize,
    /// Points of one generation before [`Writer::maintain`](crate::Writer::maintain) starts another. Default 32,768.
    pub generation_points_max: u64,
    /// Log of one generation, in multiples of its live bytes, before `maintain` starts another. Default 4.
    pub generation_growth_max: u64,
    /// Log of one generation, in bytes, below which its growth is of no interest. Default 1 GiB.
    pub generation_bytes_min: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            overlay_entries_max: 32 * 1024,
            overlay_key_bytes_max: 4 * 1024 * 1024,
            inline_entries_max: 4 * 1024,
            tail_entries_max: 16 * 1024,
            tail_points_max: 512,
            runs_max: 8,
            generations_max: 8,
            generation_points_max: 32 * 1024,
            generation_growth_max: 4,
            generation_bytes_min: 1024 * 1024 * 1024,
        }
    }
}

/// Block of the file system and of O_DIRECT, in bytes; every file but the manifest is a multiple of it.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Staging buffer of a file that is written sequentially, in bytes. One mebibyte is where O_DIRECT stops gaining.
pub(crate) const STAGING_BYTES: usize = 1024 * 1024;
/// Longest payload of a log record, in bytes: a value of 4 GiB cannot be framed, one of 1 GiB cannot be meant.
pub(crate) const RECORD_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Bytes of a run's block before it is closed; one entry may go beyond.
pub(crate) const RUN_BLOCK_BYTES: usize = 32 * 1024;
/// Longest `prefix NUL key` in bytes: both halves at the limit of a decoded transaction.
pub(crate) const KEY_BYTES_MAX: usize = 128 * 1024 + 1;
/// Prefixes in one copy. A monitor has some thirty; each costs memory in every summary.
pub(crate) const PREFIXES_MAX: usize = 1024;
/// Bytes of the text that says where a pull came from.
pub(crate) const PROVIDER_BYTES_MAX: usize = 1024;
/// Generations that a manifest may name.
pub(crate) const GENERATIONS_MAX: usize = 1024;
/// Runs that a generation may name.
pub(crate) const RUNS_MAX: usize = 4096;
/// Bytes of a manifest.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Runs that a single pull may write before it merges its own, so that a hostile order costs no open files.
pub(crate) const PULL_RUNS_MAX: usize = 32;
/// Times that a reader starts again because a file was dropped between the manifest and its opening.
pub(crate) const OPEN_ATTEMPTS_MAX: u32 = 64;
/// Bytes of one transaction of an export or of a rebase; a larger value travels alone.
pub(crate) const EXPORT_BYTES_MAX: usize = 1024 * 1024;
/// Problems that one verification lists; the rest is counted.
pub(crate) const PROBLEMS_MAX: usize = 100;
/// Missing versions that one window names; the rest is counted.
pub(crate) const MISSING_MAX: usize = 16;
