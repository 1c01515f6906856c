use core::time::Duration;

use crate::Budget;

/// Most requests that may be in flight, whatever a configuration says.
///
/// A monitor answers them one after another under its one lock; beyond this many nothing is gained on any link.
pub const WINDOW_MAX: u32 = 64;

/// How a requester pulls.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record of knobs, built with `..Default::default()`")]
pub struct RequesterConfig {
    /// How fast to ask.
    pub pace: PaceConfig,
    /// How long a provider may be silent while an answer is due.
    ///
    /// Source: `ceph/ceph:src/common/options`, `mon_sync_timeout`, 60 s in 16.2.15.
    pub idle_timeout: Duration,
    /// Largest chunk that is accepted, in bytes.
    ///
    /// A value above a provider's own limit travels alone, so this bounds the largest value too. Real requesters
    /// took chunks of 64 MiB from us.
    pub chunk_bytes_max: usize,
    /// Most bytes of all chunks of one copy. The largest stores that users report have 700 GB.
    pub copy_bytes_max: u64,
    /// Most chunks in a row that hold nothing. Real providers send none but the last.
    pub empty_chunks_max: u32,
}

impl Default for RequesterConfig {
    fn default() -> Self {
        Self {
            pace: PaceConfig::default(),
            idle_timeout: Duration::from_secs(60),
            chunk_bytes_max: 64 * 1024 * 1024,
            copy_bytes_max: 4 * 1024 * 1024 * 1024 * 1024,
            empty_chunks_max: 16,
        }
    }
}

/// How fast a requester asks, and when it slows down.
///
/// At any time, requests in flight and chunks that the store has not made durable are together at most the window.
/// The window starts at `window_start` and grows by one after each full window of quick answers, up to
/// `window_max`, and up to where more would only queue at the provider: the requests that fit on the way, which is the
/// shortest round trip over the time between two answers, and two more. Requests that queue cost a monitor dear: with
/// 16 in flight on one machine, one of 16.2.15 took more than 1.5 times as long for a store of small keys as with 3 (measured). An answer is *slow* if it took longer than `slow_after`, counted from when the provider could
/// begin with it: when it was asked for, or when the answer before it came, whichever is later. A slow answer
/// halves the window, once for the requests then in flight. If the window is down to one and answers stay slow,
/// each request waits as long as the last answer took, so that a struggling provider works for us half the time at
/// most.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record of knobs, built with `..Default::default()`")]
pub struct PaceConfig {
    /// Requests in flight at the start.
    pub window_start: u32,
    /// Most requests in flight; at least 1, at most [`WINDOW_MAX`].
    ///
    /// At a round trip of 20 ms, 16 in flight move 566 MB/s where one moves 41 MB/s (measured against 16.2.15).
    pub window_max: u32,
    /// Most bytes in flight, reckoned with the largest chunk of late; one request is always allowed.
    pub in_flight_bytes_max: usize,
    /// Most bytes a second over the whole copy; `None` for as many as come.
    pub bytes_per_second: Option<u64>,
    /// How long an answer may take before the provider counts as struggling. One usually takes 1 to 5 ms.
    pub slow_after: Duration,
}

impl Default for PaceConfig {
    fn default() -> Self {
        Self {
            window_start: 8,
            window_max: 16,
            in_flight_bytes_max: 32 * 1024 * 1024,
            bytes_per_second: None,
            slow_after: Duration::from_millis(250),
        }
    }
}

/// How a provider serves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record of knobs, built with `..Default::default()`")]
pub struct ProviderConfig {
    /// How much one chunk holds.
    ///
    /// Source: `ceph/ceph:src/common/options`, `mon_sync_max_payload_size` and `mon_sync_max_payload_keys`, 1 MiB
    /// and 2000 in 16.2.15. Its requester takes chunks of 64 MiB as well.
    pub budget: Budget,
    /// How long a cookie may lie idle.
    ///
    /// Source: `ceph/ceph:src/mon/Monitor.cc`, `Monitor::SyncProvider::reset_timeout`: twice `mon_sync_timeout`.
    pub idle_timeout: Duration,
    /// How long after a question `no_cookie` may still be its answer; later it stays unanswered.
    ///
    /// A monitor waits for 60 s (`mon_sync_timeout`). After that it may have joined a quorum, and a `no_cookie` from
    /// anybody makes it leave.
    pub no_cookie_within: Duration,
    /// Most cookies at a time. Each pins a snapshot. Above it, peers are refused.
    pub cookies_max: usize,
    /// Most cookies of one peer. Above it, the one of its own that lay idle longest makes room: a monitor has one,
    /// and abandons it without a word when it starts over.
    pub cookies_per_peer_max: usize,
    /// Most questions that wait for one cookie. Above it, questions are dropped.
    pub waiting_max: usize,
    /// Most bytes of chunks read ahead, over all cookies. Each cookie reads one ahead while this allows.
    pub read_ahead_bytes_max: usize,
}

impl Default for ProviderConfig {
    fn default() -> Self {
        Self {
            budget: Budget { bytes: 1024 * 1024, keys: 2000 },
            idle_timeout: Duration::from_secs(120),
            no_cookie_within: Duration::from_secs(30),
            cookies_max: 16,
            cookies_per_peer_max: 4,
            waiting_max: 64,
            read_ahead_bytes_max: 32 * 1024 * 1024,
        }
    }
}
