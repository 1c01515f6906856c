use cuttlebone_machine::{Instant, Timer};

/// Every deadline of a link.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// Nobody gets longer than this to set a session up.
    pub(crate) ready: Timer,
    /// The pause between two attempts.
    pub(crate) retry: Timer,
    /// The next keepalive.
    pub(crate) keepalive: Timer,
    /// The peer has been silent for too long.
    pub(crate) silence: Timer,
    /// A lossy accepted connection without messages.
    pub(crate) idle: Timer,
    /// An accepted session whose peer stays away.
    pub(crate) standby: Timer,
    /// A closed link whose peer does not acknowledge.
    pub(crate) linger: Timer,
}

impl Timers {
    pub(crate) fn earliest(&self) -> Option<Instant> {
        Timer::earliest([
            self.ready,
            self.retry,
            self.keepalive,
            self.silence,
            self.idle,
            self.standby,
            self.linger,
        ])
    }

    /// The connection is gone, and with it everything that was timed on it.
    pub(crate) fn disconnected(&mut self) {
        for timer in [&mut self.ready, &mut self.keepalive, &mut self.silence, &mut self.idle] {
            timer.stop();
        }
    }
}
