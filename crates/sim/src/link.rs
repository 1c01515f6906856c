use core::time::Duration;
use std::collections::VecDeque;

use cuttlebone_machine::{Entropy, Instant, SplitMix};

/// How the network behaves between faults.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record of knobs, built with `..Default::default()`")]
pub struct Network {
    /// Shortest time a message takes.
    pub delay_min: Duration,
    /// Longest time a message takes.
    pub delay_max: Duration,
    /// Longest time until an end notices that its connection is lost.
    pub notice_max: Duration,
    /// Of a thousand losses, how many are noticed by one end only after `half_open_max` at the most.
    pub half_open_permille: u64,
    /// Longest time a half-open connection stays unnoticed.
    pub half_open_max: Duration,
    /// Longest time from the moment both ends have noticed until there is a connection again.
    pub reconnect_max: Duration,
    /// Of a thousand losses, how many the messenger makes good: nothing is lost, only late.
    pub resume_permille: u64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            delay_min: Duration::from_millis(1),
            delay_max: Duration::from_millis(20),
            notice_max: Duration::from_millis(200),
            half_open_permille: 100,
            half_open_max: Duration::from_secs(90),
            reconnect_max: Duration::from_secs(2),
            resume_permille: 300,
        }
    }
}

impl Network {
    fn delay(&self, chance: &mut SplitMix) -> Duration {
        self.delay_min + upto(chance, self.delay_max.saturating_sub(self.delay_min))
    }
}

/// A random duration up to and including `max`.
pub(crate) fn upto(chance: &mut SplitMix, max: Duration) -> Duration {
    let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(chance.below(nanos.saturating_add(1)))
}

/// The line between two nodes, over one connection after another.
#[derive(Debug)]
pub(crate) struct Link<M> {
    state: State,
    /// Towards the node with the lower and with the higher number.
    ways: [Way<M>; 2],
    blocked_until: Instant,
}

#[derive(Debug)]
struct Way<M> {
    queue: VecDeque<(Instant, M)>,
    /// When the receiving end notices that the connection is lost.
    notice: Option<Instant>,
    last: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// Lost, and noticed or about to be noticed by both ends; up again at a moment.
    Lost {
        again: Instant,
        keeps: Keeps,
    },
}

/// What becomes of messages on the way when a connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    Everything,
    Nothing,
}

/// What happens next on a link.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due<M> {
    /// Arrives at the end with this number.
    Message(usize, M),
    /// Noticed by the end with this number.
    Noticed(usize),
    /// Both ends have a connection again.
    Again(Keeps),
}

impl<M> Link<M> {
    pub(crate) fn new() -> Self {
        let way = || Way { queue: VecDeque::new(), notice: None, last: Instant::ZERO };
        Self { state: State::Up, ways: [way(), way()], blocked_until: Instant::ZERO }
    }

    /// Sends a message towards the end with this number.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        to: usize,
        message: M,
        network: &Network,
        chance: &mut SplitMix,
    ) {
        if let State::Lost { keeps: Keeps::Nothing, .. } = self.state {
            return;
        }
        let at = now + network.delay(chance);
        if let Some(way) = self.ways.get_mut(to) {
            // Within a connection nothing overtakes.
            way.last = way.last.max(at);
            way.queue.push_back((way.last, message));
        }
    }

    /// Loses the connection, if there is one.
    pub(crate) fn cut(&mut self, now: Instant, keeps: Keeps, network: &Network, chance: &mut SplitMix) {
        if let State::Lost { again, .. } = self.state {
            if keeps == Keeps::Nothing {
                self.forget(again, keeps);
            }
            return;
        }
        let mut noticed = now;
        let half_open = chance.below(1000) < network.half_open_permille;
        let late = usize::from(chance.below(2) == 1);
        for (end, way) in self.ways.iter_mut().enumerate() {
            let max = if half_open && end == late { network.half_open_max } else { network.notice_max };
            let notice = now + upto(chance, max);
            way.notice = Some(notice);
            noticed = noticed.max(notice);
        }
        let again = noticed.max(self.blocked_until) + upto(chance, network.reconnect_max);
        self.forget(again, keeps);
    }

    fn forget(&mut self, again: Instant, keeps: Keeps) {
        self.state = State::Lost { again, keeps };
        if keeps == Keeps::Nothing {
            for way in &mut self.ways {
                way.queue.clear();
            }
        }
    }

    /// Keeps the link down until `until`, or later.
    pub(crate) fn block(&mut self, until: Instant) {
        self.blocked_until = self.blocked_until.max(until);
        if let State::Lost { again, .. } = &mut self.state {
            *again = (*again).max(until);
        }
    }

    /// When something happens next.
    pub(crate) fn next(&self) -> Option<Instant> {
        let notices = self.ways.iter().filter_map(|way| way.notice);
        match self.state {
            State::Up => self.ways.iter().filter_map(|way| Some(way.queue.front()?.0)).min(),
            State::Lost { again, .. } => notices.chain([again]).min(),
        }
    }

    /// What happened by `now`, one thing at a time, in order.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Due<M>> {
        match self.state {
            State::Up => {
                let front = |way: &Way<M>| way.queue.front().map(|(at, _)| *at);
                let [low, high] = &self.ways;
                let end = match (front(low), front(high)) {
                    (Some(low), Some(high)) => usize::from(high < low),
                    (Some(_), None) => 0,
                    (None, _) => 1,
                };
                let way = self.ways.get_mut(end)?;
                way.queue.front().filter(|(at, _)| *at <= now)?;
                let (_, message) = way.queue.pop_front()?;
                Some(Due::Message(end, message))
            }
            State::Lost { again, keeps } => {
                for (end, way) in self.ways.iter_mut().enumerate() {
                    if way.notice.is_some_and(|notice| notice <= now) {
                        way.notice = None;
                        return Some(Due::Noticed(end));
                    }
                }
                if again > now {
                    return None;
                }
                self.state = State::Up;
                for way in &mut self.ways {
                    for (at, _) in &mut way.queue {
                        *at = (*at).max(now);
                    }
                    way.last = way.last.max(now);
                }
                Some(Due::Again(keeps))
            }
        }
    }
}
