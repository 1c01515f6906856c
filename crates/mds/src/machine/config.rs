use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;

/// Who a client says it is, and how it behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "knobs, set with `..Config::default()`")]
pub struct Config {
    /// What an administrator sees in the list of sessions: `hostname`, `entity_id`, `mount_point` and the like.
    ///
    /// The key `root` is not decoration: a server refuses the session if its value does not start with `/` or lies
    /// outside of what the capabilities of the user allow. The key `timeout` makes a server keep the session for
    /// reclaim, which this crate cannot do, so it and `uuid` are left out.
    pub metadata: BTreeMap<String, String>,
    /// How much of everything.
    pub limits: Limits,
    /// How long to wait.
    pub timing: Timing,
}

impl Default for Config {
    fn default() -> Self {
        let metadata = BTreeMap::from([
            ("entity_id".into(), "admin".into()),
            ("root".into(), "/".into()),
            ("client".into(), concat!("cuttlebone ", env!("CARGO_PKG_VERSION")).into()),
        ]);
        Self { metadata, limits: Limits::default(), timing: Timing::default() }
    }
}

/// The most of everything that a client keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "knobs, set with `..Limits::default()`")]
pub struct Limits {
    /// Requests that are not finished, unsafe ones included; beyond it they are refused.
    pub requests_max: usize,
    /// Bytes of names, values and groups in those requests.
    pub request_bytes_max: usize,
    /// Requests in flight to one rank, at least and at most; in between the server's latency decides.
    pub in_flight_min: usize,
    /// See `in_flight_min`.
    pub in_flight_max: usize,
    /// Answers later than this make the window of requests in flight shrink.
    pub latency_target: Duration,
    /// Capabilities held over all ranks; beyond it the least recently used go back to their servers.
    pub caps_max: usize,
    /// Inodes remembered; those that are watched or open come on top.
    pub inodes_max: usize,
    /// Names remembered.
    pub dentries_max: usize,
    /// Inodes that may be watched or open.
    pub pins_max: usize,
    /// Waiters for commits.
    pub syncs_max: usize,
    /// Fragments remembered of one directory.
    pub fragments_max: usize,
    /// Snapshot realms remembered.
    pub realms_max: usize,
    /// Bytes of one message in which we tell a restarted server what we hold; above it there will be several.
    pub reconnect_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_max: 8192,
            request_bytes_max: 64 * 1024 * 1024,
            in_flight_min: 4,
            in_flight_max: 256,
            latency_target: Duration::from_millis(20),
            caps_max: 512,
            inodes_max: 4096,
            dentries_max: 8192,
            pins_max: 1024,
            syncs_max: 1024,
            fragments_max: 256,
            realms_max: 1024,
            // Well below what a server's messenger takes in at once, `ms_dispatch_throttle_bytes`, 100 MiB.
            reconnect_bytes_max: 16 * 1024 * 1024,
        }
    }
}

/// How long a client waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "knobs, set with `..Timing::default()`")]
pub struct Timing {
    /// Capabilities to give back are collected for so long, unless a batch is full before.
    pub release_delay: Duration,
    /// After a server asked for capabilities back, the budget stays lowered for so long.
    pub recall_decay: Duration,
    /// Between a link that ended and the next one to the same rank.
    pub redial_pause: Duration,
    /// Closing takes at most so long; then sessions are left to the servers' own time-outs.
    pub close_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            release_delay: Duration::from_millis(100),
            recall_decay: Duration::from_secs(60),
            redial_pause: Duration::from_millis(500),
            close_max: Duration::from_secs(10),
        }
    }
}
