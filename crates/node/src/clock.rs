use std::time::{SystemTime, UNIX_EPOCH};

use cuttlebone_bucket::Now;
use cuttlebone_driver::Clock;
use cuttlebone_machine::Instant;
use cuttlebone_wire::WallTime;

/// The wall clock, for the stamps of points. Deadlines never come from here.
#[expect(clippy::disallowed_methods, reason = "the one place where a node reads the wall clock")]
pub(crate) fn wall_time() -> WallTime {
    // A clock before 1970 or after 2106 gives the nearest stamp there is.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime { secs: u32::try_from(since.as_secs()).unwrap_or(u32::MAX), nanos: since.subsec_nanos() }
}

/// Both clocks, as a bucket wants them.
pub(crate) fn now(clock: &Clock) -> Now {
    Now { at: clock.now(), unix: wall_time().secs }
}

/// Waits until a machine has to be woken; for ever if it does not.
pub(crate) async fn until(clock: &Clock, wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(clock.at(at)).await,
        None => core::future::pending().await,
    }
}
