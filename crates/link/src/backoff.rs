use core::time::Duration;

use cuttlebone_machine::Entropy;

/// How long to wait between attempts: decorrelated jitter, so that many who lost one peer do not return together.
///
/// Each pause is drawn between `first` and three times the one before, and is at most `max`. Ceph itself doubles
/// from 0.2 s to 15 s without jitter (`ceph/ceph:src/common/options.cc`, `ms_initial_backoff`, `ms_max_backoff`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    last: Duration,
}

impl Backoff {
    /// Pauses from `first` up to `max`.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, last: first }
    }

    /// Starts over: the next attempt is made at once, and the one after it after a short pause.
    pub const fn reset(&mut self) {
        self.last = Duration::ZERO;
    }

    /// The longest pause.
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// The next pause.
    pub fn next(&mut self, entropy: &mut (impl Entropy + ?Sized)) -> Duration {
        if self.last.is_zero() {
            self.last = self.first;
            return Duration::ZERO;
        }
        let first = u64::try_from(self.first.as_nanos()).unwrap_or(u64::MAX);
        let wide = u64::try_from(self.last.as_nanos()).unwrap_or(u64::MAX).saturating_mul(3);
        let spread = wide.saturating_sub(first).saturating_add(1);
        self.last = Duration::from_nanos(first.saturating_add(entropy.below(spread))).min(self.max);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cuttlebone_machine::SplitMix;

    #[test]
    fn pauses_stay_between_the_first_and_the_longest_and_differ() {
        let (first, max) = (Duration::from_millis(200), Duration::from_secs(15));
        let mut entropy = SplitMix::new(3);
        let mut backoff = Backoff::new(first, max);
        let pauses: alloc::vec::Vec<_> = (0..100).map(|_| backoff.next(&mut entropy)).collect();
        assert!(pauses.iter().all(|pause| (first..=max).contains(pause)));
        assert!(pauses.contains(&max));
        assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]));
        backoff.reset();
        assert_eq!(backoff.next(&mut entropy), Duration::ZERO);
        assert!((first..=first * 3).contains(&backoff.next(&mut entropy)));
    }
}
