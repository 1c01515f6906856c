//! A world on virtual time: tables that answer late, hang, lose replies and forget, and a core that talks to them.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each suite uses a part of it")]

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use cuttlebone_machine::{Entropy, Instant, Machine, SplitMix};
use cuttlebone_mounttable::{
    Before, Error, Failure, Kept, Kind, Lease, Mount, Mounted, Name, Server, Ttl, Upkeep, Withdrawal,
};
use cuttlebone_publisher::{
    Actual, CallId, Config, Core, Desired, EntryStatus, Input, Output, Report, Settled, Ticket, Work,
};

pub type Key = (Name, Server);

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn server(text: &str) -> Server {
    text.parse().unwrap()
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How a table behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Up,
    /// Swallows every request.
    Hangs,
    /// Does what it is asked and loses the answer.
    LosesReplies,
    /// Answers at once that it cannot be reached.
    Refuses,
    /// Gets requests long after they were given up.
    Late,
}

#[derive(Debug)]
pub struct SimTable {
    pub mood: Mood,
    pub upkeep: Upkeep,
    pub batch_max: usize,
    /// One way.
    pub delay: core::ops::Range<u64>,
    /// Requests for these are swallowed, with whatever is in the same batch.
    pub hanging: BTreeSet<Name>,
    /// When a name hung last.
    pub hung: BTreeMap<Name, Instant>,
    /// Names that are refused.
    pub refused: BTreeSet<Name>,
    pub entries: BTreeMap<Key, Held>,
    /// No entry lapses before this.
    pub earliest: Instant,
    /// The last moment at which something was wrong with it.
    pub last_trouble: Instant,
    pub calls: u64,
    pub mounts: u64,
    pub keeps: u64,
    /// Calls that were neither answered nor abandoned.
    pub in_flight: BTreeSet<CallId>,
    pub in_flight_peak: usize,
    /// Entries that were there, wanted, and lapsed although nothing had been wrong for a whole time to live.
    pub lapses: Vec<(Instant, Key)>,
    /// When an entry came and went: for gaps.
    pub history: Vec<(Instant, Key, bool)>,
    pub lease: Option<(u64, Instant)>,
    pub client_lease: Option<u64>,
    pub leases: u64,
}

#[derive(Clone, Debug)]
pub struct Held {
    pub since: Instant,
    pub until: Instant,
    pub kind: Kind,
}

impl Default for SimTable {
    fn default() -> Self {
        Self {
            mood: Mood::Up,
            upkeep: Upkeep::Refresh,
            batch_max: 1,
            delay: 0..2,
            hanging: BTreeSet::new(),
            hung: BTreeMap::new(),
            refused: BTreeSet::new(),
            entries: BTreeMap::new(),
            earliest: Instant::ZERO,
            last_trouble: Instant::ZERO,
            calls: 0,
            mounts: 0,
            keeps: 0,
            in_flight: BTreeSet::new(),
            in_flight_peak: 0,
            lapses: Vec::new(),
            history: Vec::new(),
            lease: None,
            client_lease: None,
            leases: 0,
        }
    }
}

/// How much longer than a call may take a late request is on its way.
pub const LATEST_MS: u64 = 50_000;

pub const LEASE: Duration = Duration::from_secs(15);

impl SimTable {
    pub fn leased() -> Self {
        Self { upkeep: Upkeep::Lease, batch_max: 128, ..Self::default() }
    }

    fn hangs_on(&self, work: &Work) -> bool {
        match work {
            Work::Mount(batch) => batch.iter().any(|mount| self.hanging.contains(&mount.name)),
            Work::Unmount(batch) => batch.iter().any(|gone| self.hanging.contains(&gone.name)),
            _ => false,
        }
    }

    /// Forgets everything, as a table that restarts does.
    pub fn restart_empty(&mut self, now: Instant) {
        self.last_trouble = now;
        for key in core::mem::take(&mut self.entries).into_keys() {
            self.history.push((now, key, false));
        }
        self.lease = None;
    }

    fn expire(&mut self, now: Instant, ttl: Duration) {
        if self.lease.is_some_and(|(_, until)| until < now) {
            self.restart_empty(now);
        }
        let gone: Vec<Key> =
            self.entries.iter().filter(|(_, held)| held.until < now).map(|(key, _)| key.clone()).collect();
        self.earliest = self
            .entries
            .values()
            .map(|held| held.until)
            .filter(|until| *until >= now)
            .min()
            .unwrap_or(Instant::from_nanos(u64::MAX));
        for key in gone {
            self.entries.remove(&key);
            self.history.push((now, key.clone(), false));
            if now.since(self.last_trouble) > ttl + secs(1)
                && !self.hanging.contains(&key.0)
                && self.hung.get(&key.0).is_none_or(|hung| now.since(*hung) > ttl + secs(1))
                && !self.refused.contains(&key.0)
            {
                self.lapses.push((now, key));
            }
        }
    }

    fn perform(&mut self, now: Instant, id: CallId, work: Work, sent: Instant) -> Input {
        match work {
            Work::Mount(batch) => {
                if self.upkeep == Upkeep::Lease {
                    if self.client_lease.is_none() {
                        self.leases += 1;
                        self.lease = Some((self.leases, now + LEASE));
                        self.client_lease = Some(self.leases);
                    } else if self.lease.map(|(id, _)| id) != self.client_lease {
                        let lease = Lease(self.client_lease.take().unwrap_or(0));
                        let lost = Failure::LeaseLost { lease };
                        return Input::Mounted(id, batch.iter().map(|_| Err(lost.clone())).collect());
                    }
                }
                Input::Mounted(id, batch.into_iter().map(|mount| self.mount(now, mount)).collect())
            }
            Work::Unmount(batch) => {
                let answers = batch.iter().map(|_| Ok(())).collect();
                for gone in batch {
                    self.unmount(now, gone, sent);
                }
                Input::Unmounted(id, answers)
            }
            Work::Keep => {
                self.keeps += 1;
                let answer = match &mut self.lease {
                    Some((held, until)) if Some(*held) == self.client_lease => {
                        *until = now + LEASE;
                        Kept::For { left: LEASE, lease: Lease(*held) }
                    }
                    _ => {
                        self.client_lease = None;
                        Kept::Lost { lease: Lease(self.leases) }
                    }
                };
                Input::Kept(id, Ok(answer))
            }
            Work::Release => {
                self.client_lease = None;
                self.restart_empty(now);
                Input::Released(id, Ok(()))
            }
        }
    }

    fn mount(&mut self, now: Instant, mount: Mount) -> Result<Mounted, Failure> {
        self.mounts += 1;
        if self.refused.contains(&mount.name) {
            return Err(Failure::Refused(Error::NoSuchName));
        }
        // The least server there is.
        let first = (mount.name.clone(), server("(!)@0:1"));
        let others = self.entries.range(first..).next().filter(|((name, _), _)| *name == mount.name);
        if let Some((_, held)) = others
            && held.kind != mount.kind
        {
            let (name, mounted, asked) = (mount.name, held.kind, mount.kind);
            return Err(Failure::Refused(Error::KindDiffers { name, mounted, asked }));
        }
        let lease = self.upkeep == Upkeep::Lease;
        let ttl = if lease { Ttl::new(LEASE).unwrap() } else { mount.ttl };
        let until = if lease { Instant::from_nanos(u64::MAX) } else { now + ttl.as_duration() };
        let key = (mount.name, mount.server);
        self.earliest = self.earliest.min(until);
        let before = self.entries.insert(key.clone(), Held { since: now, until, kind: mount.kind });
        if before.is_none() {
            self.history.push((now, key, true));
        }
        let before = if before.is_some() { Before::Present } else { Before::Absent };
        let number = Lease(self.client_lease.filter(|_| lease).unwrap_or(0));
        Ok(Mounted::new(ttl, before).with_lease(number))
    }

    fn unmount(&mut self, now: Instant, gone: Withdrawal, sent: Instant) {
        let key = (gone.name, gone.server);
        // As on etcd: a withdrawal leaves what was mounted after it was sent.
        if self.upkeep == Upkeep::Lease && self.entries.get(&key).is_some_and(|held| held.since > sent) {
            return;
        }
        if self.entries.remove(&key).is_some() {
            self.history.push((now, key, false));
        }
    }
}

enum Event {
    /// At a table, with when it was sent.
    Arrive(usize, CallId, Work, Instant),
    Answer(usize, Input),
}

pub struct World {
    pub core: Core,
    pub config: Config,
    pub now: Instant,
    pub tables: Vec<SimTable>,
    events: BTreeMap<(Instant, u64), Event>,
    next_event: u64,
    dice: SplitMix,
    pub changes: Vec<(Instant, EntryStatus)>,
    pub settled: BTreeMap<Ticket, (Instant, Settled)>,
    pub closed: Option<(Instant, Report)>,
    pub calls: Vec<(Instant, usize, Work)>,
}

impl World {
    pub fn new(tables: Vec<SimTable>) -> Self {
        Self::with(Config::default(), tables, 1)
    }

    pub fn one() -> Self {
        Self::new(vec![SimTable::default()])
    }

    pub fn with(config: Config, tables: Vec<SimTable>, seed: u64) -> Self {
        let ways: Vec<_> = tables.iter().map(|table| (table.upkeep, table.batch_max)).collect();
        Self {
            core: Core::new(config.clone(), &ways, seed).unwrap(),
            config,
            now: Instant::ZERO,
            tables,
            events: BTreeMap::new(),
            next_event: 0,
            dice: SplitMix::new(seed ^ 0xabcd),
            changes: Vec::new(),
            settled: BTreeMap::new(),
            closed: None,
            calls: Vec::new(),
        }
    }

    /// Gives the core something, and takes what it says.
    pub fn tell<R>(&mut self, what: impl FnOnce(&mut Core, Instant) -> R) -> R {
        let result = what(&mut self.core, self.now);
        while let Some(output) = self.core.poll_output() {
            assert!(self.closed.is_none(), "an output after the last one: {output:?}");
            self.take(output);
        }
        result
    }

    pub fn add_name(&mut self, text: &str) -> Ticket {
        self.tell(|core, now| core.add_name(now, &name(text), Kind::Server)).unwrap()
    }

    pub fn add_server(&mut self, text: &str) -> Ticket {
        self.tell(|core, now| core.add_server(now, &server(text))).unwrap()
    }

    pub fn remove_name(&mut self, text: &str) -> Ticket {
        self.tell(|core, now| core.remove_name(now, &name(text))).unwrap()
    }

    pub fn remove_server(&mut self, text: &str) -> Ticket {
        self.tell(|core, now| core.remove_server(now, &server(text))).unwrap()
    }

    pub fn stop(&mut self, within: Duration) {
        self.tell(|core, now| core.stop(now, now + within));
    }

    fn later(&mut self, table: usize) -> Instant {
        let delay = &self.tables[table].delay;
        let extra = self.dice.below((delay.end - delay.start) * 1000);
        self.now + ms(delay.start) + Duration::from_micros(extra)
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.next_event += 1;
        self.events.insert((at, self.next_event), event);
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Call(id, table, work) => {
                self.calls.push((self.now, table, work.clone()));
                let state = &mut self.tables[table];
                state.calls += 1;
                state.in_flight.insert(id);
                state.in_flight_peak = state.in_flight_peak.max(state.in_flight.len());
                let mut at = self.later(table);
                if self.tables[table].mood == Mood::Late {
                    at = at + self.config.call_timeout + ms(self.dice.below(LATEST_MS));
                }
                self.push(at, Event::Arrive(table, id, work, self.now));
            }
            Output::Abandon(id) => {
                let open = self.tables.iter_mut().any(|table| table.in_flight.remove(&id));
                assert!(open, "abandoned without a call");
            }
            Output::Changed(status) => self.changes.push((self.now, status)),
            Output::Settled(ticket, settled) => {
                assert!(self.settled.insert(ticket, (self.now, settled)).is_none(), "settled twice");
            }
            Output::Closed(report) => self.closed = Some((self.now, report)),
        }
    }

    pub fn wanted(&self) -> BTreeSet<Key> {
        let wanted = self.core.status().filter(|status| status.desired != Desired::Unmounted);
        wanted.map(|status| (status.name, status.server)).collect()
    }

    /// Lets the time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let timer = self.core.poll_timeout().map(|at| at.max(self.now));
            let Some(next) = event.into_iter().chain(timer).min().filter(|at| *at <= end) else { break };
            self.now = next;
            let (now, ttl) = (self.now, self.config.ttl().as_duration());
            let lapses =
                |table: &SimTable| table.earliest < now || table.lease.is_some_and(|(_, until)| until < now);
            if self.tables.iter().any(lapses) {
                self.tables.iter_mut().for_each(|table| table.expire(now, ttl));
                if self.tables.iter().any(|table| table.lapses.last().is_some_and(|(at, _)| *at == now)) {
                    let wanted = self.wanted();
                    self.tables.iter_mut().for_each(|table| {
                        table.lapses.retain(|(at, key)| *at != now || wanted.contains(key));
                    });
                }
            }
            if event == Some(next) {
                let (_, event) = self.events.pop_first().unwrap();
                self.happen(event);
            } else {
                self.tell(Machine::handle_timeout);
                let again = self.core.poll_timeout();
                assert!(
                    again != timer || again > Some(now) || self.closed.is_some(),
                    "a timer that does not move"
                );
            }
        }
        self.now = end;
        self.tell(Machine::handle_timeout);
        self.honest();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(table, id, work, sent) => {
                let now = self.now;
                let state = &mut self.tables[table];
                if state.mood != Mood::Up || !state.in_flight.contains(&id) {
                    state.last_trouble = now;
                }
                if state.mood == Mood::Hangs || state.hangs_on(&work) {
                    return;
                }
                if state.mood == Mood::Refuses {
                    let fail = || Failure::Unreachable { reason: "connection refused".into() };
                    let answer = match work {
                        Work::Mount(batch) => Input::Mounted(id, batch.iter().map(|_| Err(fail())).collect()),
                        Work::Unmount(batch) => {
                            Input::Unmounted(id, batch.iter().map(|_| Err(fail())).collect())
                        }
                        Work::Keep => Input::Kept(id, Err(fail())),
                        Work::Release => Input::Released(id, Err(fail())),
                    };
                    let at = self.later(table);
                    self.push(at, Event::Answer(table, answer));
                    return;
                }
                let answer = state.perform(now, id, work, sent);
                if state.mood == Mood::LosesReplies {
                    return;
                }
                let at = self.later(table);
                self.push(at, Event::Answer(table, answer));
            }
            Event::Answer(table, answer) => {
                self.tables[table].in_flight.remove(&answer.id());
                self.tell(|core, now| core.handle(now, answer));
            }
        }
    }

    /// What is shown as mounted is there, unless the table has forgotten it.
    pub fn honest(&self) {
        for status in self.core.status() {
            for (slot, table) in status.tables.iter().zip(&self.tables) {
                let there = table.entries.contains_key(&(status.name.clone(), status.server.clone()));
                let forgot = self.now.since(table.last_trouble) < secs(100);
                assert!(slot.actual != Actual::Mounted || there || forgot, "{status} is not there");
            }
        }
    }

    pub fn at(&self, table: usize) -> BTreeSet<Key> {
        self.tables[table].entries.keys().cloned().collect()
    }

    pub fn actual(&self, at: &str, what: &str) -> Vec<Actual> {
        let found = self.core.status().find(|s| s.name == name(at) && s.server == server(what));
        found.map(|status| status.tables.iter().map(|slot| slot.actual).collect()).unwrap_or_default()
    }

    /// Whether everything wanted is at every table, and nothing else.
    pub fn converged(&self) -> bool {
        let wanted = self.wanted();
        (0..self.tables.len()).all(|table| self.at(table) == wanted)
    }

    pub fn set_hanging(&mut self, table: usize, names: BTreeSet<Name>) {
        let now = self.now;
        let table = &mut self.tables[table];
        for name in core::mem::replace(&mut table.hanging, names) {
            table.hung.insert(name, now);
        }
    }

    pub fn set_mood(&mut self, table: usize, mood: Mood) {
        self.tables[table].mood = mood;
        self.tables[table].last_trouble = self.now;
    }
}
