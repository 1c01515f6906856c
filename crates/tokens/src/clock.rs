use alloc::boxed::Box;
use core::pin::Pin;

use cuttlebone_machine::Instant;

/// A future that ends at some point in time.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What time it is, and how to wait. Time is used for liveness and reports, never for safety.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time.
    fn now(&self) -> Instant;

    /// The same, up to some milliseconds late: read for every token, for the ages in reports and nothing else.
    fn now_coarse(&self) -> Instant {
        self.now()
    }

    /// A future that ends at `at` or soon after, at once if that is in the past.
    fn until(&self, at: Instant) -> Sleep;
}
