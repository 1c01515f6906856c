//! What to ask which table next.

use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{Mount, Upkeep, Withdrawal};

use super::{Core, Output, Phase, Work};
use crate::lane::{CallId, EntryId, What};
use crate::slot::{Action, Class, OPEN_END};

impl Core {
    /// Everything that can be done now.
    pub(super) fn work(&mut self, now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        for table in 0..self.lanes.len() {
            self.work_lane(now, table);
        }
        self.conclude(now);
    }

    fn work_lane(&mut self, now: Instant, table: usize) {
        self.run_lease(now, table);
        let Some(lane) = self.lanes.get_mut(table) else { return };
        lane.age(now, &self.config);
        while let Some(id) = self.lanes.get_mut(table).and_then(|lane| lane.due(now)) {
            self.look(now, id, table);
        }
        while let Some(class) = self.lanes.get(table).and_then(|lane| lane.may_send(now, &self.config)) {
            self.send_batch(now, table, class);
        }
    }

    /// A slot's timer has run out: its confirmation, what is left of it at the table, or its wait.
    fn look(&mut self, now: Instant, id: EntryId, table: usize) {
        let slack = self.config.slack;
        let wanted = self.wanted(id, table);
        let parts = self.entries.get_mut(&id).and_then(|entry| entry.slots.get_mut(table));
        let (Some(slot), Some(lane)) = (parts, self.lanes.get_mut(table)) else { return };
        if slot.confirmed.is_some_and(|(_, until)| until <= now) {
            slot.confirmed = None;
            slot.lapsed = true;
        }
        if !slot.in_flight && slot.due.is_some_and(|due| due <= now) {
            if slot.possible_until.is_some_and(|until| until < now) {
                slot.forget();
            }
            if slot.action(wanted).is_some() {
                lane.enqueue(id, slot, slack);
            } else {
                slot.due = None;
            }
        }
        lane.retime(id, slot);
        self.after_change(id);
    }

    /// Sends the most urgent slot of a class, with others that need the same.
    fn send_batch(&mut self, now: Instant, table: usize, class: Class) {
        let Some(batch_max) = self.lanes.get(table).map(|lane| lane.batch_max) else { return };
        // One entry that hangs must not spoil the batch for others: suspects go alone.
        let max = if class == Class::Suspect { 1 } else { batch_max };
        let mut ids = Vec::new();
        let mut action = None;
        let (mut mounts, mut withdrawals) = (Vec::new(), Vec::new());
        while ids.len() < max
            && let Some(id) = self.lanes.get(table).and_then(|lane| lane.first(class))
        {
            let wanted = self.wanted(id, table);
            let Some(entry) = self.entries.get_mut(&id) else { return };
            let (Some(slot), Some(lane)) = (entry.slots.get_mut(table), self.lanes.get_mut(table)) else {
                return;
            };
            let mine = slot.action(wanted);
            // A lease is released as a whole at a stop, and nothing is mounted after one.
            let allowed = match self.phase {
                Phase::Running => mine.is_some(),
                _ => mine == Some(Action::Unmount) && lane.upkeep == Upkeep::Refresh,
            };
            if allowed && action.is_some_and(|action| Some(action) != mine) {
                break;
            }
            lane.dequeue(id, slot);
            slot.due = None;
            lane.retime(id, slot);
            let Some(mine) = mine.filter(|_| allowed) else { continue };
            action = Some(mine);
            slot.in_flight = true;
            ids.push(id);
            match (mine, wanted) {
                (Action::Mount, Some(kind)) => {
                    // From now on it may be there, whatever becomes of the answer.
                    let latest = now + self.config.call_timeout + self.config.ttl().as_duration();
                    let latest = if lane.upkeep == Upkeep::Lease { OPEN_END } else { latest };
                    slot.before = (slot.possible_until, slot.sent_kind);
                    slot.possible_until = slot.possible_until.max(Some(latest));
                    slot.sent_kind = Some(kind);
                    let mount = Mount::new(entry.name.clone(), entry.server.clone(), self.config.ttl());
                    mounts.push(mount.with_kind(kind).with_epoch(self.config.epoch));
                }
                _ => {
                    withdrawals.push(Withdrawal::new(
                        entry.name.clone(),
                        entry.server.clone(),
                        self.config.epoch,
                    ));
                }
            }
        }
        let Some(action) = action else { return };
        let work = if action == Action::Mount { Work::Mount(mounts) } else { Work::Unmount(withdrawals) };
        let changed = ids.clone();
        self.send(now, table, What::Act(action), ids, class, work);
        for id in changed {
            self.after_change(id);
        }
    }

    fn send(
        &mut self,
        now: Instant,
        table: usize,
        what: What,
        entries: Vec<EntryId>,
        class: Class,
        work: Work,
    ) {
        let Some(lane) = self.lanes.get_mut(table) else { return };
        self.next_id += 1;
        let id = CallId(self.next_id);
        lane.sent(id, what, entries, class, now);
        self.calls += 1;
        self.outputs.push_back(Output::Call(id, table, work));
    }

    /// Keeps a lease in time, releases it at a stop, and notices its end.
    fn run_lease(&mut self, now: Instant, table: usize) {
        let Some(lane) = self.lanes.get_mut(table) else { return };
        if lane.lease_until.is_some_and(|until| until <= now) {
            lane.lease_until = None;
            self.lapse_all(now, table, false);
        }
        let Some(lane) = self.lanes.get_mut(table) else { return };
        let stopping = self.phase != Phase::Running;
        if lane.keep_due.is_none_or(|due| due > now) || lane.lease_waits(stopping) {
            return;
        }
        lane.keep_due = None;
        let (what, work) = match self.phase {
            Phase::Running => (What::Keep, Work::Keep),
            _ => (What::Release, Work::Release),
        };
        self.send(now, table, what, Vec::new(), Class::Suspect, work);
    }

    /// Nothing at a table is confirmed any more; if the lease is `gone`, all is mounted anew.
    pub(super) fn lapse_all(&mut self, now: Instant, table: usize, gone: bool) {
        for id in self.entries.keys().copied().collect::<Vec<_>>() {
            let parts = self.entries.get_mut(&id).and_then(|entry| entry.slots.get_mut(table));
            let (Some(slot), Some(lane)) = (parts, self.lanes.get_mut(table)) else { continue };
            slot.lapsed |= slot.confirmed.take().is_some();
            // An answer that overtook this news may have been about the next lease, so nothing is taken for gone: what
            // is not wanted is unmounted all the same.
            if gone && !slot.in_flight {
                slot.failures = 0;
                slot.due = Some(now);
                lane.dequeue(id, slot);
            }
            lane.retime(id, slot);
            self.after_change(id);
        }
    }
}
