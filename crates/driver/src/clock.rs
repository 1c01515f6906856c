use core::time::Duration;

use cuttlebone_machine::Instant;

/// Tokio's time as machines count it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: tokio::time::Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: tokio::time::Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The moment of tokio's clock at which this one shows `at`.
    pub fn at(&self, at: Instant) -> tokio::time::Instant {
        // A deadline that tokio cannot represent stands for "never"; a day later it is looked at again.
        let ahead = Duration::from_nanos(at.as_nanos());
        self.start.checked_add(ahead).unwrap_or(self.start + Duration::from_secs(86_400))
    }
}
