use core::time::Duration;

use cuttlebone_machine::Instant;
use cuttlebone_tokens::{Clock, Sleep};
use rustix::time::{ClockId, clock_gettime};
use tokio::time;

/// Time as tokio counts it, from the moment this was made.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: time::Instant,
    /// The system's coarse clock at that moment; it ticks every few milliseconds and costs a fifth to read.
    coarse_start: Duration,
}

impl TokioClock {
    /// A clock at zero.
    #[expect(clippy::new_without_default, reason = "it reads the time, which a default should not")]
    pub fn new() -> Self {
        Self { start: time::Instant::now(), coarse_start: coarse() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    fn now_coarse(&self) -> Instant {
        Instant::ZERO + coarse().saturating_sub(self.coarse_start)
    }

    fn until(&self, at: Instant) -> Sleep {
        // Beyond what the runtime can count, "never" is as good.
        let at = self.start.checked_add(at.since(Instant::ZERO));
        Box::pin(async move {
            match at {
                Some(at) => time::sleep_until(at).await,
                None => core::future::pending().await,
            }
        })
    }
}

fn coarse() -> Duration {
    Duration::try_from(clock_gettime(ClockId::MonotonicCoarse)).unwrap_or_default()
}
