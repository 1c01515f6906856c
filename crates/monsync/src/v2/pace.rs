use core::time::Duration;

use cuttlebone_machine::Instant;

use super::{PaceConfig, WINDOW_MAX};

/// Decides when the next chunk may be asked for. The rule is written out at [`PaceConfig`].
#[derive(Debug)]
pub(crate) struct Pace {
    config: PaceConfig,
    window: u32,
    /// Quick answers since the window last changed.
    quick: u32,
    /// Answers to requests that were already in flight when the window was halved say nothing new.
    grace: usize,
    /// What the next chunk is reckoned to weigh: the largest of late.
    expected_bytes: usize,
    last_answer: Instant,
    /// The least time from a request to its answer in this copy: one way, one chunk's work, the other way.
    round_trip_min: Duration,
    /// How far apart answers come, smoothed.
    interval: Duration,
    /// No request before this, for the sake of a struggling provider.
    rest_until: Instant,
    /// When everything that came so far has been paid for at the configured rate.
    paid_until: Instant,
}

/// Whether the next request may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Now,
    At(Instant),
    /// Not before something in flight or in the store's hands is done.
    Later,
}

impl Pace {
    pub(crate) fn new(config: PaceConfig) -> Self {
        let window = config.window_start.clamp(1, config.window_max.clamp(1, WINDOW_MAX));
        // With a rate to keep, one at a time to begin with: a short copy would be over before anything is known.
        let window = if config.bytes_per_second.is_some() { 1 } else { window };
        Self {
            config,
            window,
            quick: 0,
            grace: 0,
            expected_bytes: 0,
            last_answer: Instant::ZERO,
            round_trip_min: Duration::MAX,
            interval: Duration::ZERO,
            rest_until: Instant::ZERO,
            paid_until: Instant::ZERO,
        }
    }

    pub(crate) const fn window(&self) -> u32 {
        self.window
    }

    pub(crate) fn leave(&self, now: Instant, in_flight: usize, in_store: usize) -> Leave {
        let held = in_flight.saturating_add(in_store);
        let window = usize::try_from(self.window).unwrap_or(usize::MAX);
        let bytes = held.saturating_add(1).saturating_mul(self.expected_bytes);
        if held >= window || (held > 0 && bytes > self.config.in_flight_bytes_max) {
            return Leave::Later;
        }
        match self.rest_until.max(self.paid_until) {
            ready if ready <= now => Leave::Now,
            // Waiting is of use only if nothing else wakes us: an answer in flight will.
            _ if in_flight > 0 => Leave::Later,
            ready => Leave::At(ready),
        }
    }

    /// Takes an answer of `bytes` to a request sent at `asked`, `in_flight` others being on their way.
    pub(crate) fn answered(&mut self, now: Instant, asked: Instant, bytes: usize, in_flight: usize) {
        let took = now.since(asked.max(self.last_answer));
        self.last_answer = now;
        self.measure(now.since(asked), took);
        self.expected_bytes = bytes.max(self.expected_bytes / 2);
        if took > self.config.slow_after {
            self.slow(now, took, in_flight);
        } else if self.grace > 0 {
            self.grace = self.grace.saturating_sub(1);
        } else {
            self.quick = self.quick.saturating_add(1);
            if self.quick >= self.window {
                self.quick = 0;
                let max = self.config.window_max.clamp(1, WINDOW_MAX).min(self.useful());
                self.window = if self.window < max { self.window.saturating_add(1) } else { max };
            }
        }
        if let Some(rate) = self.config.bytes_per_second {
            self.paid_until = self.paid_until.max(now) + price(bytes, rate);
        }
    }

    fn measure(&mut self, round_trip: Duration, took: Duration) {
        self.round_trip_min = self.round_trip_min.min(round_trip);
        self.interval = if self.interval.is_zero() { took } else { (self.interval * 7 + took) / 8 };
    }

    /// The window beyond which requests only queue at the provider: those that fit on the way, and two more so that
    /// it never waits for us.
    fn useful(&self) -> u32 {
        let interval = self.interval.as_nanos().max(1);
        let on_the_way = self.round_trip_min.as_nanos().div_ceil(interval);
        u32::try_from(on_the_way).unwrap_or(u32::MAX).saturating_add(2)
    }

    fn slow(&mut self, now: Instant, took: Duration, in_flight: usize) {
        self.quick = 0;
        if self.window == 1 {
            self.rest_until = now + took;
        } else if self.grace == 0 {
            self.window = (self.window / 2).max(1);
            self.grace = in_flight;
        } else {
            self.grace = self.grace.saturating_sub(1);
        }
    }
}

/// How long `bytes` take at `rate` bytes a second. A rate of 0 counts as 1.
fn price(bytes: usize, rate: u64) -> Duration {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let nanos = u128::from(bytes).saturating_mul(1_000_000_000) / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn pace(config: PaceConfig) -> Pace {
        Pace::new(config)
    }

    #[test]
    fn the_window_grows_while_answers_are_quick_and_stops_at_its_limit() {
        let mut pace = pace(PaceConfig { window_start: 1, window_max: 3, ..PaceConfig::default() });
        for ms in 1..100 {
            pace.answered(at(ms), at(ms - 1), 10, 0);
        }
        assert_eq!(pace.window(), 3);
    }

    #[test]
    fn the_window_stops_where_requests_would_only_queue() {
        let mut pace = pace(PaceConfig { window_start: 4, ..PaceConfig::default() });
        // A provider next door: an answer takes 2 ms of its work, and waits for those before it.
        for i in 1..100 {
            pace.answered(at(2 * i), at(2 * i.saturating_sub(u64::from(pace.window()))), 10, 3);
        }
        assert_eq!(pace.window(), 3);
    }

    #[test]
    fn the_window_grows_to_fill_a_long_way() {
        let mut pace = pace(PaceConfig { window_start: 4, ..PaceConfig::default() });
        // 20 ms there and back, and a window's answers one behind another.
        let mut now = 0;
        for _ in 0..40 {
            let asked = now;
            now += 20;
            for _ in 0..pace.window() {
                pace.answered(at(now), at(asked), 10, 0);
            }
        }
        assert_eq!(pace.window(), PaceConfig::default().window_max);
    }

    #[test]
    fn one_slow_moment_halves_the_window_once_for_all_requests_in_flight() {
        let mut pace = pace(PaceConfig { window_start: 16, ..PaceConfig::default() });
        pace.answered(at(300), at(0), 10, 3);
        for _ in 0..3 {
            pace.answered(at(300), at(0), 10, 0);
        }
        assert_eq!(pace.window(), 8);
    }

    #[test]
    fn a_provider_that_stays_slow_is_given_as_much_rest_as_work() {
        let mut pace = pace(PaceConfig { window_start: 1, ..PaceConfig::default() });
        pace.answered(at(400), at(0), 10, 0);
        assert_eq!(pace.leave(at(400), 0, 0), Leave::At(at(800)));
        assert_eq!(pace.leave(at(800), 0, 0), Leave::Now);
    }

    #[test]
    fn a_queue_at_the_provider_does_not_count_as_slowness() {
        let mut pace = pace(PaceConfig { window_start: 8, window_max: 8, ..PaceConfig::default() });
        for i in 1..=7 {
            pace.answered(at(100 * i), at(0), 10, 8);
        }
        assert_eq!(pace.window(), 8);
    }

    #[test]
    fn bytes_in_flight_are_bounded_but_one_request_is_always_allowed() {
        let config = PaceConfig { window_start: 8, in_flight_bytes_max: 100, ..PaceConfig::default() };
        let mut pace = pace(config);
        pace.answered(at(1), at(0), 60, 0);
        assert_eq!(pace.leave(at(1), 0, 0), Leave::Now);
        assert_eq!(pace.leave(at(1), 1, 0), Leave::Later);
        assert_eq!(pace.leave(at(1), 0, 1), Leave::Later);
    }

    #[test]
    fn a_rate_is_kept_over_time() {
        let mut pace = pace(PaceConfig { bytes_per_second: Some(1000), ..PaceConfig::default() });
        assert_eq!(pace.leave(at(0), 1, 0), Leave::Later);
        pace.answered(at(10), at(0), 500, 0);
        assert_eq!(pace.leave(at(10), 0, 0), Leave::At(at(510)));
    }
}
