use std::collections::{BTreeMap, BTreeSet};

use core::time::Duration;

use cuttlebone_machine::{Entropy, Instant, SplitMix};
use cuttlebone_mounttable::{Lease, Upkeep};

use crate::Config;
use crate::slot::{Action, Class, Slot};

/// An entry, by the number it got when it was made; numbers are not used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntryId(pub(crate) u64);

/// A call that was asked of the driver, by a number that is not used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(crate) u64);

/// What is known about one table as a whole, and what it is being asked.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) upkeep: Upkeep,
    pub(crate) batch_max: usize,
    pub(crate) calls: BTreeMap<CallId, Call>,
    /// Calls that are not slow yet; their numbers are in the order in which they were sent.
    young: BTreeSet<CallId>,
    healthy_in_flight: usize,
    slow_in_flight: usize,
    timers: BTreeSet<(Instant, EntryId)>,
    healthy: BTreeSet<(Instant, EntryId)>,
    suspects: BTreeSet<(Instant, EntryId)>,
    /// Failures in a row to reach the table.
    pub(crate) unreached: u32,
    /// While it is down, when the next suspect may be tried.
    pub(crate) probe_due: Option<Instant>,
    /// Slots confirmed before this are being confirmed anew, since the table has forgotten some.
    pub(crate) swept_at: Instant,
    /// When the lease has to be kept, and until when it is good.
    pub(crate) keep_due: Option<Instant>,
    pub(crate) keep_failures: u32,
    pub(crate) lease_until: Option<Instant>,
    /// The last lease that was heard of, and whether it is gone.
    pub(crate) lease: Lease,
    pub(crate) lease_gone: bool,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) what: What,
    pub(crate) entries: Vec<EntryId>,
    pub(crate) sent: Instant,
    class: Class,
    slow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Act(Action),
    Keep,
    Release,
}

impl Lane {
    pub(crate) fn new(upkeep: Upkeep, batch_max: usize) -> Self {
        Self {
            upkeep,
            batch_max: batch_max.max(1),
            calls: BTreeMap::new(),
            young: BTreeSet::new(),
            healthy_in_flight: 0,
            slow_in_flight: 0,
            timers: BTreeSet::new(),
            healthy: BTreeSet::new(),
            suspects: BTreeSet::new(),
            unreached: 0,
            probe_due: None,
            swept_at: Instant::ZERO,
            keep_due: None,
            keep_failures: 0,
            lease_until: None,
            lease: Lease::NONE,
            lease_gone: false,
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.probe_due.is_some()
    }

    /// Files the slot's timer anew after it has changed.
    pub(crate) fn retime(&mut self, id: EntryId, slot: &mut Slot) {
        let next = slot.next_look();
        if slot.timer != next {
            if let Some(old) = slot.timer {
                self.timers.remove(&(old, id));
            }
            if let Some(next) = next {
                self.timers.insert((next, id));
            }
            slot.timer = next;
        }
    }

    /// The next slot whose timer has run out.
    pub(crate) fn due(&mut self, now: Instant) -> Option<EntryId> {
        let &(at, id) = self.timers.first()?;
        (at <= now).then_some(id)
    }

    pub(crate) fn enqueue(&mut self, id: EntryId, slot: &mut Slot, slack: Duration) {
        self.dequeue(id, slot);
        let key = (slot.class(), slot.urgency(slack));
        self.queue(key.0).insert((key.1, id));
        slot.queued = Some(key);
    }

    pub(crate) fn dequeue(&mut self, id: EntryId, slot: &mut Slot) {
        if let Some((class, key)) = slot.queued.take() {
            self.queue(class).remove(&(key, id));
        }
    }

    fn queue(&mut self, class: Class) -> &mut BTreeSet<(Instant, EntryId)> {
        match class {
            Class::Healthy => &mut self.healthy,
            Class::Suspect => &mut self.suspects,
        }
    }

    /// Forgets where a slot was filed, before it is dropped.
    pub(crate) fn remove(&mut self, id: EntryId, slot: &mut Slot) {
        self.dequeue(id, slot);
        if let Some(at) = slot.timer.take() {
            self.timers.remove(&(at, id));
        }
    }

    /// The class from which a call may be sent now, the healthy one first.
    pub(crate) fn may_send(&self, now: Instant, config: &Config) -> Option<Class> {
        let down = self.is_down();
        // While the table is down, one call of each class is enough to find out when it is not.
        let healthy_max = if down { 1 } else { config.calls_max };
        if !self.healthy.is_empty() && self.healthy_in_flight < healthy_max {
            return Some(Class::Healthy);
        }
        let probe = self.probe_due.is_none_or(|due| due <= now);
        let suspects_max = if down { 1 } else { config.slow_calls_max };
        let in_flight = if down { self.suspect_calls() } else { self.slow_in_flight };
        (!self.suspects.is_empty() && probe && in_flight < suspects_max).then_some(Class::Suspect)
    }

    fn suspect_calls(&self) -> usize {
        self.calls.values().filter(|call| call.class == Class::Suspect).count()
    }

    /// The most urgent slot of a class, without taking it out.
    pub(crate) fn first(&self, class: Class) -> Option<EntryId> {
        let queue = if class == Class::Healthy { &self.healthy } else { &self.suspects };
        queue.first().map(|(_, id)| *id)
    }

    pub(crate) fn sent(&mut self, id: CallId, what: What, entries: Vec<EntryId>, class: Class, now: Instant) {
        let slow = class == Class::Suspect;
        *self.in_flight_of(slow) += 1;
        if !slow {
            self.young.insert(id);
        }
        self.calls.insert(id, Call { what, entries, sent: now, class, slow });
    }

    fn in_flight_of(&mut self, slow: bool) -> &mut usize {
        if slow { &mut self.slow_in_flight } else { &mut self.healthy_in_flight }
    }

    /// A call that has ended, one way or the other.
    pub(crate) fn ended(&mut self, id: CallId) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        self.young.remove(&id);
        *self.in_flight_of(call.slow) -= 1;
        Some(call)
    }

    /// Makes room for others where calls have become slow, as far as there is room for slow ones.
    pub(crate) fn age(&mut self, now: Instant, config: &Config) {
        while self.slow_in_flight < config.slow_calls_max
            && let Some(id) = self.young.first()
            && let Some(call) = self.calls.get_mut(id)
            && call.sent + config.slow_after <= now
        {
            call.slow = true;
            self.healthy_in_flight -= 1;
            self.slow_in_flight += 1;
            self.young.pop_first();
        }
    }

    /// The next call that was not answered in time.
    pub(crate) fn overdue(&self, now: Instant, config: &Config) -> Option<CallId> {
        let (id, call) = self.calls.first_key_value()?;
        (call.sent + config.call_timeout <= now).then_some(*id)
    }

    /// Whether keeping or releasing the lease has to wait for the end of a call: of another such, or, for a release,
    /// of a mount, which would begin a new lease if it arrived later.
    pub(crate) fn lease_waits(&self, stopping: bool) -> bool {
        self.calls.values().any(|call| match call.what {
            What::Act(action) => stopping && action == Action::Mount,
            What::Keep | What::Release => true,
        })
    }

    /// When this lane has to be looked at again.
    pub(crate) fn next_look(&self, config: &Config, stopping: bool) -> Option<Instant> {
        let keep = self.keep_due.filter(|_| !self.lease_waits(stopping));
        let slow =
            self.young.first().and_then(|id| self.calls.get(id)).map(|call| call.sent + config.slow_after);
        let slow = slow.filter(|_| self.slow_in_flight < config.slow_calls_max);
        let overdue = self.calls.first_key_value().map(|(_, call)| call.sent + config.call_timeout);
        let probe = self.probe_due.filter(|_| !self.suspects.is_empty() && self.suspect_calls() == 0);
        let timer = self.timers.first().map(|(at, _)| *at);
        [slow, overdue, probe, timer, keep, self.lease_until].into_iter().flatten().min()
    }
}

/// How long to wait after so many failures: doubling from the first delay to the longest, times a half to one.
pub(crate) fn back_off(failures: u32, config: &Config, dice: &mut SplitMix) -> Duration {
    let doubled =
        config.retry_first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    share(doubled.min(config.retry_max), 500..=1000, dice)
}

/// So many thousandths of `whole`, chosen at random.
pub(crate) fn share(
    whole: Duration,
    thousandths: core::ops::RangeInclusive<u64>,
    dice: &mut SplitMix,
) -> Duration {
    let (low, high) = thousandths.into_inner();
    let part = low + dice.below(high - low + 1);
    whole / 1000 * u32::try_from(part).unwrap_or(1000)
}
