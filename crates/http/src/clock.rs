use cuttlebone_machine::Instant;
use cuttlebone_tokens::{Clock, Sleep};
use tokio::time;

/// Time as tokio counts it, from the moment this was made.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock(time::Instant);

impl TokioClock {
    /// A clock at zero.
    #[expect(clippy::new_without_default, reason = "it reads the time, which a default should not")]
    pub fn new() -> Self {
        Self(time::Instant::now())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Instant {
        Instant::ZERO + self.0.elapsed()
    }

    fn until(&self, at: Instant) -> Sleep {
        // Beyond what the runtime can count, "never" is as good.
        let at = self.0.checked_add(at.since(Instant::ZERO));
        Box::pin(async move {
            match at {
                Some(at) => time::sleep_until(at).await,
                None => core::future::pending().await,
            }
        })
    }
}
