use core::time::Duration;

/// How many requests may be in flight to one rank: a window that gives way when the server gets slow.
///
/// A server works through requests one after another, so what stands in flight is the queue that everybody else's next
/// request waits behind. The window grows by one for each full windowful of answers that came within the target, and
/// shrinks by a quarter when more than half of a windowful came later. Half, and not the mean, because a single request
/// may wait seconds for another client's capability, which says nothing about the server.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    window: usize,
    min: usize,
    max: usize,
    target: Duration,
    /// Answers since the last change of the window, and how many of them were late.
    seen: usize,
    late: usize,
    /// Whether the window has been full since its last change; one that was not proves nothing about a larger one.
    was_full: bool,
}

impl Pace {
    pub(super) fn new(min: usize, max: usize, target: Duration) -> Self {
        let min = min.max(1);
        let max = max.max(min);
        // A quarter to begin with: enough to fill a server that is near, and little for one that is not.
        let window = (max / 4).clamp(min, max);
        Self { window, min, max, target, seen: 0, late: 0, was_full: false }
    }

    /// Whether one more may go out beside `in_flight`.
    pub(super) const fn admits(&mut self, in_flight: usize) -> bool {
        let admits = in_flight < self.window;
        self.was_full |= !admits;
        admits
    }

    pub(super) const fn window(&self) -> usize {
        self.window
    }

    /// An answer came after so long.
    pub(super) fn on_answer(&mut self, after: Duration) {
        self.seen = self.seen.saturating_add(1);
        self.late = self.late.saturating_add((after > self.target).into());
        if self.seen < self.window {
            return;
        }
        if self.late > self.seen / 2 {
            self.window = self.window.saturating_sub(self.window.div_ceil(4)).max(self.min);
        } else if self.was_full {
            self.window = self.window.saturating_add((self.window / 8).max(1)).min(self.max);
        }
        (self.seen, self.late, self.was_full) = (0, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(10);

    fn answers(pace: &mut Pace, count: usize, after: Duration) {
        for _ in 0..count {
            pace.admits(usize::MAX);
            pace.on_answer(after);
        }
    }

    #[test]
    fn the_window_grows_to_its_limit_while_answers_are_prompt() {
        let mut pace = Pace::new(2, 64, TARGET);
        assert_eq!(pace.window(), 16);
        answers(&mut pace, 10_000, Duration::from_millis(1));
        assert_eq!(pace.window(), 64);
    }

    #[test]
    fn the_window_shrinks_to_its_floor_while_answers_are_late() {
        let mut pace = Pace::new(2, 64, TARGET);
        answers(&mut pace, 1000, Duration::from_millis(11));
        assert_eq!(pace.window(), 2);
    }

    #[test]
    fn a_few_late_answers_change_nothing() {
        let mut pace = Pace::new(2, 64, TARGET);
        answers(&mut pace, 6, Duration::from_secs(5));
        answers(&mut pace, 10, Duration::from_millis(1));
        assert!(pace.window() >= 16);
    }

    #[test]
    fn a_window_that_was_never_full_does_not_grow() {
        let mut pace = Pace::new(2, 64, TARGET);
        for _ in 0..1000 {
            assert!(pace.admits(3));
            pace.on_answer(Duration::from_millis(1));
        }
        assert_eq!(pace.window(), 16);
    }
}
