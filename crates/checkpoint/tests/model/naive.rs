use std::collections::BTreeMap;

use cuttlebone_checkpoint::{Effect, FetchLimit, Resume, Stop};

/// An element, as the model knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Start,
    End,
    State,
    Update,
    Key(String, u64),
}

/// An element and the moment at which it was appended: a cursor is nothing but such a moment.
#[derive(Clone, Debug)]
struct Entry {
    moment: u64,
    seqno: u64,
    thing: Thing,
}

#[derive(Clone, Debug)]
pub(crate) struct Sheet {
    id: u64,
    age: u64,
    closed: bool,
    floor: u64,
    entries: Vec<Entry>,
}

impl Sheet {
    fn mutations(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.thing, Thing::Key(..))).count()
    }
}

/// The change log as a list of lists. A cursor has read every entry from before its moment.
pub(crate) struct Model {
    pub(crate) checkpoints: Vec<Sheet>,
    pub(crate) last: u64,
    pub(crate) persisted: u64,
    items_max: usize,
    moment: u64,
    cursors: BTreeMap<usize, u64>,
    persistence: u64,
    backup: Option<(u64, u64)>,
    /// Barrier id, its moment, first seqno.
    window: Option<(u64, u64, u64)>,
}

const CLOSE_AFTER_SECONDS: u64 = 5;

impl Model {
    pub(crate) fn new(seqno: u64, items_max: usize) -> Self {
        let mut model = Self {
            checkpoints: Vec::new(),
            last: seqno,
            persisted: seqno,
            items_max,
            moment: 0,
            cursors: BTreeMap::new(),
            persistence: 0,
            backup: None,
            window: None,
        };
        model.open(1);
        model
    }

    fn open(&mut self, id: u64) {
        self.checkpoints.push(Sheet { id, age: 0, closed: false, floor: self.last, entries: Vec::new() });
        self.mark(Thing::Start);
    }

    pub(crate) fn mark(&mut self, thing: Thing) {
        let seqno = self.last + 1;
        self.push(seqno, thing);
    }

    fn push(&mut self, seqno: u64, thing: Thing) {
        let moment = self.moment;
        self.moment += 1;
        self.checkpoints.last_mut().unwrap().entries.push(Entry { moment, seqno, thing });
    }

    fn sheet(&mut self) -> &mut Sheet {
        self.checkpoints.last_mut().unwrap()
    }

    pub(crate) fn write(&mut self, key: &str) -> (u64, Effect) {
        self.tick_count();
        let persistence = self.persistence;
        self.last += 1;
        let seqno = self.last;
        let sheet = self.sheet();
        let old =
            sheet.entries.iter().position(|entry| matches!(&entry.thing, Thing::Key(at, _) if at == key));
        let effect = match old {
            None => Effect::New,
            Some(old) if sheet.entries.remove(old).moment < persistence => Effect::PersistAgain,
            Some(_) => Effect::Existing,
        };
        self.push(seqno, Thing::Key(key.into(), seqno));
        (seqno, effect)
    }

    fn tick_count(&mut self) {
        let max = self.items_max;
        if self.sheet().mutations() >= max {
            self.roll();
        }
        self.tick();
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.checkpoints.iter_mut().for_each(|sheet| sheet.age += seconds);
    }

    pub(crate) fn tick(&mut self) {
        let max = self.items_max;
        let sheet = self.sheet();
        if sheet.mutations() > 0 && (sheet.age >= CLOSE_AFTER_SECONDS || sheet.mutations() >= max) {
            self.roll();
        }
    }

    pub(crate) fn close(&mut self) {
        if self.sheet().mutations() > 0 {
            self.roll();
        }
    }

    fn readers(&mut self) -> impl Iterator<Item = &mut u64> {
        let backup = self.backup.as_mut().map(|(at, _)| at);
        self.cursors.values_mut().chain([&mut self.persistence]).chain(backup)
    }

    /// Closes the last sheet. Whoever has read all of it does not get its end.
    fn roll(&mut self) {
        let before = self.moment;
        let unread = |sheet: &Sheet, at: u64| sheet.entries.iter().any(|entry| entry.moment >= at);
        let last = self.checkpoints.last().unwrap().clone();
        self.mark(Thing::End);
        self.sheet().closed = true;
        let after = self.moment;
        for reader in self.readers() {
            if *reader <= before && !unread(&last, *reader) {
                *reader = after;
            }
        }
        let id = last.id + 1;
        self.open(id);
        self.release();
    }

    fn release(&mut self) {
        while self.checkpoints[0].closed {
            let end = self.checkpoints[0].entries.last().unwrap().moment;
            if self.readers().any(|reader| *reader <= end) {
                return;
            }
            self.checkpoints.remove(0);
        }
    }

    pub(crate) fn fetch(&mut self, name: usize, limit: FetchLimit) -> Vec<Thing> {
        let (read, at) = self.read(self.cursors[&name], u64::MAX, limit);
        self.cursors.insert(name, at);
        self.release();
        read
    }

    fn read(&self, from: u64, wall: u64, limit: FetchLimit) -> (Vec<Thing>, u64) {
        let (mut read, mut at) = (Vec::new(), from);
        for sheet in &self.checkpoints {
            if read.len() as u64 >= limit.elements {
                break;
            }
            for entry in sheet.entries.iter().filter(|entry| entry.moment >= from && entry.moment < wall) {
                if limit.stop == Stop::Anywhere && read.len() as u64 >= limit.elements {
                    return (read, at);
                }
                read.push(entry.thing.clone());
                at = entry.moment + 1;
            }
        }
        (read, at)
    }

    pub(crate) fn take(&mut self, limit: FetchLimit) -> Vec<Thing> {
        let wall = self.window.map_or(u64::MAX, |(_, wall, _)| wall);
        let (read, at) = self.read(self.persistence, wall, limit);
        if !read.is_empty() {
            // What was not read begins at the next entry; everything below its seqno is read.
            let mut rest =
                self.checkpoints.iter().flat_map(|sheet| &sheet.entries).filter(|entry| entry.moment >= at);
            let through = rest.next().map_or(self.last, |entry| entry.seqno - 1);
            self.backup = Some((self.persistence, through));
            self.persistence = at;
        }
        self.release();
        read
    }

    pub(crate) fn end_flush(&mut self, good: bool) {
        let (at, through) = self.backup.take().unwrap();
        if good {
            self.persisted = self.persisted.max(through);
        } else {
            self.persistence = at;
        }
        self.release();
    }

    pub(crate) fn register(&mut self, name: usize, from: Resume) -> (u64, bool) {
        let mut backfill = false;
        let at = match from {
            Resume::Oldest => self.checkpoints[0].entries[0].moment,
            Resume::Now => self.moment,
            Resume::After(seqno) => {
                backfill = seqno.0 < self.checkpoints[0].floor;
                self.after(seqno.0)
            }
            Resume::AfterCheckpoint(_) => unreachable!("the model does not register by checkpoint"),
        };
        let next =
            self.checkpoints.iter().flat_map(|sheet| &sheet.entries).find_map(|entry| match entry.thing {
                Thing::Key(_, seqno) if entry.moment >= at => Some(seqno),
                _ => None,
            });
        self.cursors.insert(name, at);
        self.release();
        (next.unwrap_or(self.last + 1), backfill)
    }

    fn after(&self, seqno: u64) -> u64 {
        for sheet in &self.checkpoints {
            let content = |entry: &&Entry| !matches!(entry.thing, Thing::Start | Thing::End);
            if !sheet.closed || sheet.entries.iter().filter(content).any(|entry| entry.seqno > seqno) {
                return sheet
                    .entries
                    .iter()
                    .find(|entry| entry.seqno > seqno)
                    .map_or(self.moment, |e| e.moment);
            }
        }
        self.moment
    }

    pub(crate) fn unregister(&mut self, name: usize) {
        self.cursors.remove(&name);
        self.release();
    }

    pub(crate) fn expel(&mut self) -> u64 {
        let first = self.checkpoints[0].entries[0].moment;
        let end = self.checkpoints[0].entries.last().unwrap().moment + 1;
        let read =
            self.readers().map(|reader| *reader).filter(|at| *at <= end).min().unwrap_or(end).max(first);
        let oldest = &mut self.checkpoints[0];
        let keys = |entry: &&Entry| matches!(entry.thing, Thing::Key(..)) && entry.moment < read;
        let Some(last) = oldest.entries.iter().rfind(keys).cloned() else { return 0 };
        let gone = oldest.entries.iter().filter(keys).count() as u64;
        let start = oldest.entries[0].clone();
        oldest.entries.retain(|entry| entry.moment > last.moment || entry.moment == start.moment);
        oldest.floor = last.seqno;
        gone
    }

    /// Does what relief does, given whom it dropped; the log says whom, the model says whether it may.
    pub(crate) fn relieve(&mut self, dropped: &[usize]) -> u64 {
        let sheet = self.checkpoints.last().unwrap().clone();
        let newest = sheet.entries.last().unwrap().moment;
        if sheet.mutations() > 0 && self.readers().all(|reader| *reader > newest) {
            self.roll();
        }
        let mut expelled = self.expel();
        let guard = self.backup.map_or(self.persistence, |(at, _)| at);
        for name in dropped {
            let at = self.cursors.remove(name).unwrap();
            let same = |sheet: &&Sheet| sheet.entries.iter().any(|e| e.moment >= at);
            let sheet = self.checkpoints.iter().find(same).unwrap();
            assert!(sheet.entries.last().unwrap().moment < guard, "a cursor was dropped beside persistence");
            self.release();
            expelled += self.expel();
        }
        expelled
    }

    pub(crate) fn reset(&mut self) {
        let names: Vec<_> = self.cursors.keys().copied().collect();
        let (moment, items_max) = (self.moment, self.items_max);
        *self = Self::new(1000, items_max);
        // Moments go on, so that nothing of before counts as read or unread by accident.
        self.moment += moment;
        self.checkpoints[0].entries[0].moment += moment;
        self.persistence = moment;
        self.cursors = names.into_iter().map(|name| (name, moment)).collect();
    }

    pub(crate) fn start_update(&mut self) -> Option<u64> {
        if self.window.is_some() {
            return None;
        }
        self.roll();
        let (id, wall) = (self.open_id(), self.sheet().entries[0].moment);
        self.window = Some((id, wall, self.last + 1));
        self.mark(Thing::Update);
        Some(id)
    }

    pub(crate) fn complete_update(&mut self) -> bool {
        if self.window.take().is_none() {
            return false;
        }
        self.mark(Thing::Update);
        self.roll();
        true
    }

    pub(crate) fn revert_update(&mut self) -> Option<Vec<u64>> {
        let (_, wall, _) = self.window?;
        let content = |entry: &Entry| !matches!(entry.thing, Thing::Start | Thing::End);
        let all = || self.checkpoints.iter().flat_map(|sheet| &sheet.entries);
        let missing =
            all().any(|entry| content(entry) && entry.moment >= self.persistence && entry.moment < wall);
        if self.backup.is_some() || missing {
            return None;
        }
        let inside = all().filter(|entry| entry.moment >= wall && matches!(entry.thing, Thing::Key(..)));
        let seqnos = inside.map(|entry| entry.seqno).collect();
        self.window = None;
        self.mark(Thing::Update);
        self.persistence = self.moment;
        self.persisted = self.last;
        self.roll();
        Some(seqnos)
    }

    pub(crate) fn remaining(&self, name: usize) -> u64 {
        let at = self.cursors[&name];
        self.checkpoints.iter().flat_map(|sheet| &sheet.entries).filter(|entry| entry.moment >= at).count()
            as u64
    }

    pub(crate) fn unpersisted(&self) -> u64 {
        let at = self.backup.map_or(self.persistence, |(at, _)| at);
        let all = self.checkpoints.iter().flat_map(|sheet| &sheet.entries);
        all.filter(|entry| entry.moment >= at && matches!(entry.thing, Thing::Key(..))).count() as u64
    }

    pub(crate) fn elements(&self) -> u64 {
        self.checkpoints.iter().map(|sheet| sheet.entries.len() as u64).sum()
    }

    pub(crate) fn open_id(&self) -> u64 {
        self.checkpoints.last().unwrap().id
    }
}
