use std::collections::{BTreeMap, VecDeque};

/// One handle's place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneId(pub(crate) u64);

/// Operations that wait for room in front of a server: those of each handle in order, the handles in turn.
///
/// A handle with thousands of operations delays another's single one by one operation, not by thousands.
#[derive(Debug)]
pub(crate) struct Fair<T> {
    lanes: BTreeMap<LaneId, VecDeque<T>>,
    len: usize,
    /// Whose turn it was last.
    last: LaneId,
}

impl<T> Fair<T> {
    pub(crate) const fn new() -> Self {
        Self { lanes: BTreeMap::new(), len: 0, last: LaneId(0) }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push(&mut self, lane: LaneId, item: T) {
        self.lanes.entry(lane).or_default().push_back(item);
        self.len += 1;
    }

    /// Puts back what was popped last: it is first again, and it is its handle's turn.
    pub(crate) fn push_front(&mut self, lane: LaneId, item: T) {
        self.lanes.entry(lane).or_default().push_front(item);
        self.len += 1;
        self.last = LaneId(lane.0.saturating_sub(1));
    }

    pub(crate) fn pop(&mut self) -> Option<(LaneId, T)> {
        let behind = self.lanes.range(LaneId(self.last.0.saturating_add(1))..).next();
        let lane = *behind.or_else(|| self.lanes.iter().next())?.0;
        let queue = self.lanes.get_mut(&lane)?;
        let item = queue.pop_front()?;
        // No empty queue stays, so that there is one for each handle that waits and no more.
        if queue.is_empty() {
            self.lanes.remove(&lane);
        }
        self.len -= 1;
        self.last = lane;
        Some((lane, item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop_all(fair: &mut Fair<u32>) -> Vec<u32> {
        core::iter::from_fn(|| fair.pop().map(|(_, item)| item)).collect()
    }

    #[test]
    fn a_handle_with_much_to_do_does_not_delay_another() {
        let mut fair = Fair::new();
        for item in 0..4 {
            fair.push(LaneId(1), item);
        }
        fair.push(LaneId(2), 100);
        fair.push(LaneId(7), 700);
        fair.push(LaneId(7), 701);
        assert_eq!(pop_all(&mut fair), [0, 100, 700, 1, 701, 2, 3]);
        assert!(fair.is_empty());
    }

    #[test]
    fn what_is_put_back_comes_first_again() {
        let mut fair = Fair::new();
        for (lane, item) in [(1, 10), (1, 11), (2, 20)] {
            fair.push(LaneId(lane), item);
        }
        let (lane, item) = fair.pop().unwrap();
        fair.push_front(lane, item);
        assert_eq!(pop_all(&mut fair), [10, 20, 11]);
    }
}
