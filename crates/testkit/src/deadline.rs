use core::fmt;
use core::time::Duration;
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};

/// A moment by which something has to have happened.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    after: Duration,
}

/// How long to wait between two looks at something that cannot tell by itself.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

impl Deadline {
    /// The moment `after` from now.
    pub fn after(after: Duration) -> Self {
        Self { at: now() + after, after }
    }

    /// Whether it has passed.
    pub fn has_passed(&self) -> bool {
        now() >= self.at
    }

    /// Looks again and again until `look` answers something.
    ///
    /// # Errors
    ///
    /// That `what` did not happen in time.
    pub fn wait_for<T>(&self, what: impl fmt::Display, mut look: impl FnMut() -> Option<T>) -> Result<T> {
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            if self.has_passed() {
                bail!("{what}: did not happen within {:?}", self.after);
            }
            pause(POLL_INTERVAL);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "daemons live in real time; this is where the test kit reads it"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "between two looks, and inside the delaying proxy; nowhere else"
)]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}
