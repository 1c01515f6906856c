use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A point in monotonic time: nanoseconds since the driver or world that counts them started.
///
/// Only drivers and worlds make one. It is never put on a wire and never compared across processes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The moment at which counting started.
    pub const ZERO: Self = Self(0);

    /// The instant `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates after 584 years, which stands for "never".
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, rhs: Self) -> Duration {
        self.since(rhs)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_nanos(self.0))
    }
}

/// One deadline that may be set, moved and taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer(Option<Instant>);

impl Timer {
    /// A timer that does not run.
    pub const STOPPED: Self = Self(None);

    /// Runs until `deadline`, whatever it ran for before.
    pub fn set(&mut self, deadline: Instant) {
        self.0 = Some(deadline);
    }

    /// Does not run any more.
    pub fn stop(&mut self) {
        self.0 = None;
    }

    /// When it ends, if it runs.
    pub const fn deadline(&self) -> Option<Instant> {
        self.0
    }

    /// Whether it has ended by `now`; if so it stops, so that the answer is `true` once.
    pub fn take_expired(&mut self, now: Instant) -> bool {
        let expired = self.0.is_some_and(|deadline| deadline <= now);
        if expired {
            self.0 = None;
        }
        expired
    }

    /// The earliest deadline among several timers.
    pub fn earliest(timers: impl IntoIterator<Item = Self>) -> Option<Instant> {
        timers.into_iter().filter_map(|timer| timer.0).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_instead_of_wrapping() {
        assert_eq!(Instant::from_nanos(u64::MAX) + Duration::from_secs(1), Instant::from_nanos(u64::MAX));
        assert_eq!(Instant::ZERO - Instant::from_nanos(5), Duration::ZERO);
    }

    #[test]
    fn an_expired_timer_says_so_once() {
        let mut timer = Timer::default();
        timer.set(Instant::from_nanos(10));
        assert!(!timer.take_expired(Instant::from_nanos(9)));
        assert!(timer.take_expired(Instant::from_nanos(10)));
        assert!(!timer.take_expired(Instant::from_nanos(11)));
    }

    #[test]
    fn the_earliest_of_several_timers_leaves_out_stopped_ones() {
        let mut late = Timer::default();
        late.set(Instant::from_nanos(9));
        let mut soon = Timer::default();
        soon.set(Instant::from_nanos(3));
        assert_eq!(Timer::earliest([Timer::STOPPED, late, soon]), Some(Instant::from_nanos(3)));
        assert_eq!(Timer::earliest([Timer::STOPPED]), None);
    }
}
