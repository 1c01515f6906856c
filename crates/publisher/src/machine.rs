mod answers;
mod drive;
mod exchange;
mod schedule;

use std::collections::{BTreeMap, VecDeque};

use cuttlebone_machine::{Instant, SplitMix};
use cuttlebone_mounttable::{Kind, Name, Server, Upkeep};

pub use exchange::{Input, Output, Work};

use crate::config::TABLES_MAX;
use crate::lane::{EntryId, Lane};
use crate::slot::Slot;
use crate::{Config, ConfigError, Counters, Desired, EntryStatus, Refused, Report, Settled, Ticket};

/// The publisher as a pure protocol: wanted state and answers in, calls and deadlines out.
///
/// The methods that change what is wanted answer at once; like every input they are followed by draining
/// [`Machine::poll_output`](cuttlebone_machine::Machine::poll_output). [`Output::Closed`] is the last output, and nothing is sent after it.
#[derive(Debug)]
pub struct Core {
    config: Config,
    lanes: Vec<Lane>,
    names: BTreeMap<Name, (Kind, Ticket)>,
    servers: BTreeMap<Server, Ticket>,
    entries: BTreeMap<EntryId, Entry>,
    ids: BTreeMap<(Name, Server), EntryId>,
    open: BTreeMap<Ticket, Open>,
    next_id: u64,
    dice: SplitMix,
    outputs: VecDeque<Output>,
    phase: Phase,
    calls: u64,
    failed_calls: u64,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    server: Server,
    desired: Option<Kind>,
    /// Who waits for the desired state to be reached.
    ticket: Option<Ticket>,
    /// The entry that takes this one's place, and is mounted before this one goes.
    successor: Option<EntryId>,
    /// The entries whose successor this one is.
    predecessors: Vec<EntryId>,
    slots: Vec<Slot>,
}

/// The changes of one call that have not been made everywhere yet.
#[derive(Debug)]
struct Open {
    left: usize,
    outcome: Settled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Stopping { deadline: Instant },
    Closed,
}

impl Core {
    /// A publisher to tables with these ways of upkeep and largest batches; `seed` decides its jitter.
    ///
    /// # Errors
    ///
    /// Numbers that do not fit together, no table, or too many.
    pub fn new(config: Config, tables: &[(Upkeep, usize)], seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        if tables.is_empty() || tables.len() > TABLES_MAX {
            return Err(ConfigError("a publisher has between 1 and 16 tables"));
        }
        Ok(Self {
            config,
            lanes: tables.iter().map(|(upkeep, batch_max)| Lane::new(*upkeep, *batch_max)).collect(),
            names: BTreeMap::new(),
            servers: BTreeMap::new(),
            entries: BTreeMap::new(),
            ids: BTreeMap::new(),
            open: BTreeMap::new(),
            next_id: 0,
            dice: SplitMix::new(seed),
            outputs: VecDeque::new(),
            phase: Phase::Running,
            calls: 0,
            failed_calls: 0,
        })
    }

    /// Publishes every server under `name` too. The same name with another kind changes the kind.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn add_name(&mut self, now: Instant, name: &Name, kind: Kind) -> Result<Ticket, Refused> {
        self.check_running()?;
        if name.is_root() {
            return Err(Refused::Root);
        }
        match self.names.get(name) {
            Some((present, ticket)) if *present == kind => return Ok(*ticket),
            Some(_) => {}
            None => {
                full("names", self.names.len(), 1, self.config.names_max)?;
                self.check_entries(self.servers.len())?;
            }
        }
        let ticket = self.new_ticket();
        self.names.insert(name.clone(), (kind, ticket));
        for server in self.servers.keys().cloned().collect::<Vec<_>>() {
            self.want(now, name, &server, kind, ticket);
        }
        self.finish(now, ticket);
        Ok(ticket)
    }

    /// Publishes `server` under every name.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn add_server(&mut self, now: Instant, server: &Server) -> Result<Ticket, Refused> {
        self.check_running()?;
        if let Some(ticket) = self.servers.get(server) {
            return Ok(*ticket);
        }
        self.check_server()?;
        let ticket = self.new_ticket();
        self.want_server(now, server, ticket);
        self.finish(now, ticket);
        Ok(ticket)
    }

    fn check_server(&self) -> Result<(), Refused> {
        full("servers", self.servers.len(), 1, self.config.servers_max)?;
        self.check_entries(self.names.len())
    }

    fn want_server(&mut self, now: Instant, server: &Server, ticket: Ticket) {
        self.servers.insert(server.clone(), ticket);
        for (name, (kind, _)) in self.names.clone() {
            self.want(now, &name, server, kind, ticket);
        }
    }

    /// Publishes nothing under `name` any more. An unknown name is no error.
    ///
    /// # Errors
    ///
    /// [`Refused::Stopped`].
    pub fn remove_name(&mut self, now: Instant, name: &Name) -> Result<Ticket, Refused> {
        self.check_running()?;
        let ticket = self.new_ticket();
        if self.names.remove(name).is_some() {
            for server in self.servers.keys().cloned().collect::<Vec<_>>() {
                self.want_not(now, name, &server, ticket, None);
            }
        }
        self.finish(now, ticket);
        Ok(ticket)
    }

    /// Publishes `server` under no name any more. An unknown server is no error.
    ///
    /// # Errors
    ///
    /// [`Refused::Stopped`].
    pub fn remove_server(&mut self, now: Instant, server: &Server) -> Result<Ticket, Refused> {
        self.check_running()?;
        let ticket = self.new_ticket();
        if self.servers.remove(server).is_some() {
            for name in self.names.keys().cloned().collect::<Vec<_>>() {
                self.want_not(now, &name, server, ticket, None);
            }
        }
        self.finish(now, ticket);
        Ok(ticket)
    }

    /// Publishes `new` in the place of `old`: at every table each name has `new` before it loses `old`.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn replace_server(&mut self, now: Instant, old: &Server, new: &Server) -> Result<Ticket, Refused> {
        self.check_running()?;
        if !self.servers.contains_key(new) {
            self.check_server()?;
        }
        let ticket = self.new_ticket();
        if !self.servers.contains_key(new) {
            self.want_server(now, new, ticket);
        }
        if old != new && self.servers.remove(old).is_some() {
            for name in self.names.keys().cloned().collect::<Vec<_>>() {
                let successor = self.ids.get(&(name.clone(), new.clone())).copied();
                self.want_not(now, &name, old, ticket, successor);
            }
        }
        self.finish(now, ticket);
        Ok(ticket)
    }

    /// Withdraws everything, by `deadline`; no mount is sent from now on. A second stop may only shorten the deadline.
    pub fn stop(&mut self, now: Instant, deadline: Instant) {
        match &mut self.phase {
            Phase::Closed => return,
            Phase::Stopping { deadline: earlier } => {
                *earlier = deadline.min(*earlier);
                self.conclude(now);
                return;
            }
            phase @ Phase::Running => *phase = Phase::Stopping { deadline },
        }
        self.names.clear();
        self.servers.clear();
        for (ticket, _) in core::mem::take(&mut self.open) {
            self.outputs.push_back(Output::Settled(ticket, Settled::Stopped));
        }
        for id in self.entries.keys().copied().collect::<Vec<_>>() {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.desired = None;
                entry.ticket = None;
                entry.successor = None;
                entry.predecessors.clear();
            }
            for table in 0..self.lanes.len() {
                self.make_due(now, id, table);
            }
        }
        for (table, lane) in self.lanes.iter_mut().enumerate() {
            lane.keep_due = None;
            let held =
                self.entries.values().any(|e| e.slots.get(table).is_some_and(|s| s.possible_until.is_some()));
            if lane.upkeep == Upkeep::Lease && held {
                lane.keep_due = Some(now);
                lane.keep_failures = 0;
            }
        }
        self.work(now);
    }

    /// Every entry that is wanted, or not yet withdrawn everywhere.
    pub fn status(&self) -> impl Iterator<Item = EntryStatus> + '_ {
        self.entries.values().map(Entry::status)
    }

    /// The names that are published.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.names.keys()
    }

    /// What is done and held.
    pub fn counters(&self) -> Counters {
        let slots =
            || self.entries.values().flat_map(|entry| entry.slots.iter().map(move |slot| (entry, slot)));
        Counters {
            desired: self.entries.values().filter(|entry| entry.desired.is_some()).count(),
            mounted: slots()
                .filter(|(entry, slot)| entry.desired.is_some() && slot.confirmed.is_some())
                .count(),
            failing: slots().filter(|(_, slot)| slot.failures > 0).count(),
            calls: self.calls,
            failed_calls: self.failed_calls,
            in_flight: self.lanes.iter().map(|lane| lane.calls.len()).sum(),
        }
    }

    fn check_running(&self) -> Result<(), Refused> {
        if self.phase == Phase::Running { Ok(()) } else { Err(Refused::Stopped) }
    }

    fn check_entries(&self, more: usize) -> Result<(), Refused> {
        full("entries", self.entries.len(), more, self.config.entries_max)
    }

    fn new_ticket(&mut self) -> Ticket {
        self.next_id += 1;
        let ticket = Ticket(self.next_id);
        // The call itself counts until it has named all its changes.
        self.open.insert(ticket, Open { left: 1, outcome: Settled::Applied });
        ticket
    }

    /// Whether the changes of a call are still being made.
    pub fn is_open(&self, ticket: Ticket) -> bool {
        self.open.contains_key(&ticket)
    }

    fn want(&mut self, now: Instant, name: &Name, server: &Server, kind: Kind, ticket: Ticket) {
        let key = (name.clone(), server.clone());
        let id = *self.ids.entry(key).or_insert_with(|| {
            self.next_id += 1;
            EntryId(self.next_id)
        });
        let lanes = self.lanes.len();
        let entry = self.entries.entry(id).or_insert_with(|| Entry {
            name: name.clone(),
            server: server.clone(),
            desired: None,
            ticket: None,
            successor: None,
            predecessors: Vec::new(),
            slots: (0..lanes).map(|_| Slot::default()).collect(),
        });
        entry.desired = Some(kind);
        if let Some(successor) = entry.successor.take().and_then(|successor| self.entries.get_mut(&successor))
        {
            successor.predecessors.retain(|predecessor| *predecessor != id);
        }
        self.wait(now, id, ticket);
    }

    fn want_not(
        &mut self,
        now: Instant,
        name: &Name,
        server: &Server,
        ticket: Ticket,
        successor: Option<EntryId>,
    ) {
        let Some(id) = self.ids.get(&(name.clone(), server.clone())).copied() else { return };
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.desired = None;
            entry.successor = successor;
        }
        if let Some(successor) = successor.and_then(|successor| self.entries.get_mut(&successor)) {
            successor.predecessors.push(id);
        }
        self.wait(now, id, ticket);
        self.release_predecessors(now, id, None);
    }

    /// What is wanted of an entry has changed: whoever waited for something else is told.
    fn wait(&mut self, now: Instant, id: EntryId, ticket: Ticket) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if let Some(old) = entry.ticket.replace(ticket) {
            self.close_one(old, Settled::Superseded);
        }
        if let Some(open) = self.open.get_mut(&ticket) {
            open.left += 1;
        }
        for table in 0..self.lanes.len() {
            self.make_due(now, id, table);
        }
        self.after_change(id);
    }

    fn close_one(&mut self, ticket: Ticket, outcome: Settled) {
        let Some(open) = self.open.get_mut(&ticket) else { return };
        open.left = open.left.saturating_sub(1);
        if outcome != Settled::Applied {
            open.outcome = outcome;
        }
        if open.left == 0 {
            self.outputs.push_back(Output::Settled(ticket, open.outcome));
            self.open.remove(&ticket);
        }
    }

    /// The end of a call that changed what is wanted.
    fn finish(&mut self, now: Instant, ticket: Ticket) {
        self.close_one(ticket, Settled::Applied);
        self.work(now);
    }

    /// What is wanted of an entry at one table: also for as long as its successor is not mounted there.
    fn wanted(&self, id: EntryId, table: usize) -> Option<Kind> {
        let entry = self.entries.get(&id)?;
        entry.desired.or_else(|| {
            let successor = self.entries.get(&entry.successor?)?;
            let waits = successor.desired.is_some() && successor.slots.get(table)?.confirmed.is_none();
            entry.slots.get(table)?.sent_kind.filter(|_| waits)
        })
    }

    /// The slot has to be looked at now, or as soon as its call has ended.
    fn make_due(&mut self, now: Instant, id: EntryId, table: usize) {
        let parts = self.entries.get_mut(&id).and_then(|entry| entry.slots.get_mut(table));
        if let (Some(slot), Some(lane)) = (parts, self.lanes.get_mut(table)) {
            slot.due = Some(now);
            lane.dequeue(id, slot);
            lane.retime(id, slot);
        }
    }

    /// Entries that waited for this one to be mounted, at one table or at all, may go.
    fn release_predecessors(&mut self, now: Instant, id: EntryId, table: Option<usize>) {
        let Some(entry) = self.entries.get(&id) else { return };
        let predecessors = entry.predecessors.clone();
        let tables = table.map_or(0..self.lanes.len(), |table| table..table + 1);
        for predecessor in predecessors {
            for table in tables.clone() {
                self.make_due(now, predecessor, table);
            }
        }
    }

    /// Tells of what has become visible, settles what has been reached, and drops what is gone.
    fn after_change(&mut self, id: EntryId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let wanted = entry.desired.is_some();
        let mut news = false;
        for slot in &mut entry.slots {
            let actual = slot.actual(wanted);
            news |= slot.shown.replace(actual) != Some(actual);
        }
        let desired = entry.desired;
        if entry.slots.iter().all(|slot| slot.is_settled(desired)) {
            if desired.is_none() {
                self.drop_entry(id);
                return;
            }
            if let Some(ticket) = entry.ticket.take() {
                self.outputs.push_back(Output::Changed(entry.status()));
                self.close_one(ticket, Settled::Applied);
                return;
            }
        }
        if news {
            self.outputs.push_back(Output::Changed(entry.status()));
        }
    }

    fn drop_entry(&mut self, id: EntryId) {
        let Some(mut entry) = self.entries.remove(&id) else { return };
        for (slot, lane) in entry.slots.iter_mut().zip(&mut self.lanes) {
            lane.remove(id, slot);
        }
        if let Some(successor) = entry.successor.and_then(|successor| self.entries.get_mut(&successor)) {
            successor.predecessors.retain(|predecessor| *predecessor != id);
        }
        entry.slots.clear();
        self.ids.remove(&(entry.name.clone(), entry.server.clone()));
        self.outputs.push_back(Output::Changed(entry.status()));
        if let Some(ticket) = entry.ticket {
            self.close_one(ticket, Settled::Applied);
        }
    }

    /// Whether a stop has come to its end.
    fn conclude(&mut self, now: Instant) {
        let Phase::Stopping { deadline } = self.phase else { return };
        let over = deadline <= now;
        if !over && !self.entries.is_empty() {
            return;
        }
        self.phase = Phase::Closed;
        let mut report = Report::default();
        for entry in self.entries.values() {
            let left = entry.slots.iter().enumerate().filter(|(_, slot)| slot.possible_until.is_some());
            report.left.extend(left.map(|(table, _)| (entry.name.clone(), entry.server.clone(), table)));
        }
        for call in self.lanes.iter_mut().flat_map(|lane| core::mem::take(&mut lane.calls).into_keys()) {
            self.outputs.push_back(Output::Abandon(call));
        }
        self.outputs.push_back(Output::Closed(report));
    }
}

impl Entry {
    fn status(&self) -> EntryStatus {
        let wanted = self.desired.is_some();
        EntryStatus {
            name: self.name.clone(),
            server: self.server.clone(),
            desired: self.desired.map_or(Desired::Unmounted, Desired::Mounted),
            tables: self.slots.iter().map(|slot| slot.status(wanted)).collect(),
        }
    }
}

fn full(limit: &'static str, present: usize, more: usize, max: usize) -> Result<(), Refused> {
    if present.saturating_add(more) > max { Err(Refused::Full { limit, max }) } else { Ok(()) }
}
