/// What a driver holds for one link, and for one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "knobs, set with `..DriverLimits::default()`")]
pub struct DriverLimits {
    /// Most events that wait for the user. With more to come, the driver stops reading from the peer.
    pub events_max: usize,
    /// Most commands that wait for the machine; a user who sends more waits.
    pub commands_max: usize,
    /// Bytes waiting to be written above which no command is taken from the user.
    pub outbound_bytes_max: usize,
    /// Bytes of buffers kept to be read into again.
    pub pool_bytes_max: usize,
    /// Most connections of one listener, in their handshake or with a session. More wait to be accepted.
    pub connections_max: usize,
    /// Most new peers that wait for the user of a listener.
    pub peers_max: usize,
}

impl Default for DriverLimits {
    fn default() -> Self {
        Self {
            events_max: 16,
            commands_max: 16,
            outbound_bytes_max: 4 << 20,
            pool_bytes_max: 16 << 20,
            connections_max: 1024,
            peers_max: 16,
        }
    }
}
