use core::time::Duration;

/// How much one link may hold, and how long the consumer waits before it tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "knobs, set with `..Limits::default()`")]
pub struct Limits {
    /// Events in one message.
    pub events_max: usize,
    /// Bytes of keys and values after which a message is sent. One event may exceed it when it is alone.
    pub message_bytes: usize,
    /// Bytes of keys and values of one vbucket that are sent and not yet applied; above it the producer waits.
    pub window_bytes: usize,
    /// Events that the consumer keeps while its memory is full or its disk is behind. A producer that sends more than
    /// its window allows is at fault.
    pub waiting_events_max: usize,
    /// Bytes of their keys and values. Has to cover the producer's window, one message and one event beyond it.
    pub waiting_bytes_max: usize,
    /// Vbuckets that a producer may serve. Each costs the replica memory as soon as it is announced.
    pub vbuckets_max: usize,
    /// After what time an event that found no room is tried again.
    pub retry_after: Duration,
    /// After what time another stream is asked for when one has ended.
    pub resume_after: Duration,
    /// Streams of one vbucket that may break in a row, without anything applied in between, before the link is given up.
    pub faults_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            events_max: 1024,
            message_bytes: 256 << 10,
            window_bytes: 8 << 20,
            waiting_events_max: 200_000,
            waiting_bytes_max: 64 << 20,
            vbuckets_max: 1024,
            retry_after: Duration::from_millis(20),
            resume_after: Duration::from_millis(250),
            faults_max: 5,
        }
    }
}
