/// What a peer may make us hold, and what a user may leave in our hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "knobs, set with `..Limits::default()`")]
pub struct Limits {
    /// Longest payload of a control frame, in bytes.
    ///
    /// The longest that a real peer sends are identities with a handful of addresses and CephX tickets, some
    /// hundred bytes each.
    pub control_bytes_max: usize,
    /// Longest message, its header and its three parts together, in bytes.
    ///
    /// Store synchronisation sends about 1 MiB at its defaults, but the size is the provider's choice and operators
    /// do raise it.
    pub message_bytes_max: usize,
    /// Most bytes of either direction between the banner and the signature.
    pub handshake_bytes_max: usize,
    /// Most messages that wait to be sent or, on a lossless session, to be acknowledged.
    pub queue_messages_max: usize,
    /// Most bytes of payload in those messages. One message may exceed it when it is alone.
    pub queue_bytes_max: usize,
    /// Most times that one connection's opening may be answered with "try again".
    pub opening_retries_max: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            control_bytes_max: 64 << 10,
            message_bytes_max: 64 << 20,
            handshake_bytes_max: 256 << 10,
            queue_messages_max: 4096,
            queue_bytes_max: 32 << 20,
            opening_retries_max: 8,
        }
    }
}
