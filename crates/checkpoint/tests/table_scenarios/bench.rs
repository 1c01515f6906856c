//! One log with what the scenarios do to it, and a recount after each step.

use std::time::Duration;

use cuttlebone_checkpoint::{
    Batch, ChangeLog, CheckpointId, CursorId, Droppable, Durability, Effect, Element, FetchLimit, Flush,
    Item, Limits, Marker, Resume, Role, Seqno, Start,
};
use cuttlebone_machine::Instant;

/// Scenarios of the ancestor begin at this seqno.
pub(crate) const BASE: u64 = 1000;

pub(crate) struct Bench {
    pub(crate) log: ChangeLog,
    pub(crate) now: Instant,
}

/// Limits under which nothing closes by itself.
pub(crate) fn wide() -> Limits {
    Limits { items_max: 1_000_000, age_max: Duration::from_secs(3600), ..Limits::default() }
}

impl Bench {
    pub(crate) fn new(limits: Limits) -> Self {
        Self::with(limits, Durability::Persisted, Role::Active)
    }

    pub(crate) fn with(limits: Limits, durability: Durability, role: Role) -> Self {
        let start = Start { checkpoint: CheckpointId(1), seqno: Seqno(BASE), role };
        let log = ChangeLog::new(Instant::ZERO, start, durability, limits, 1).unwrap();
        Self { log, now: Instant::ZERO }
    }

    pub(crate) fn set(&mut self, key: &str) -> Effect {
        let effect = self.log.queue(self.now, Item::set(key.as_bytes(), b"value").unwrap()).unwrap().effect;
        self.check();
        effect
    }

    pub(crate) fn set_all(&mut self, keys: &[&str]) {
        keys.iter().for_each(|key| {
            self.set(key);
        });
    }

    pub(crate) fn close(&mut self) {
        self.log.close_checkpoint(self.now).unwrap();
        self.check();
    }

    pub(crate) fn cursor(&mut self, name: &str, from: Resume) -> CursorId {
        let cursor = self.log.register(name, Droppable::Yes, from).unwrap().cursor;
        self.check();
        cursor
    }

    pub(crate) fn fetch(&mut self, cursor: CursorId) -> Batch {
        self.fetch_some(cursor, FetchLimit::ALL)
    }

    pub(crate) fn fetch_some(&mut self, cursor: CursorId, limit: FetchLimit) -> Batch {
        let batch = self.log.fetch(cursor, limit).unwrap();
        self.check();
        batch
    }

    /// What is left to read for a cursor.
    pub(crate) fn remaining(&self, cursor: CursorId) -> u64 {
        self.log.cursor(cursor).unwrap().remaining
    }

    pub(crate) fn persistence(&self) -> CursorId {
        self.log.cursors().next().unwrap().id
    }

    pub(crate) fn take(&mut self) -> Option<Flush> {
        let flush = self.log.take(FetchLimit::ALL).unwrap();
        self.check();
        flush
    }

    pub(crate) fn commit(&mut self, flush: &Flush) {
        drop(self.log.commit(flush).unwrap());
        self.check();
    }

    /// Persists everything that may be persisted, and tells what it was.
    pub(crate) fn drain(&mut self) -> String {
        let mut all = String::new();
        while let Some(flush) = self.take() {
            all.push_str(&shown(flush.batch()));
            all.push(' ');
            self.commit(&flush);
        }
        all.trim_end().into()
    }

    pub(crate) fn checkpoints(&self) -> usize {
        self.log.status().checkpoints
    }

    pub(crate) fn check(&self) {
        self.log.recount().unwrap();
    }
}

/// A batch as one line: `cs` and `ce` for start and end, `st` for a state, `us`, `uc`, `ur` for the marks of hot
/// reload, key and seqno for a mutation.
pub(crate) fn shown(batch: &Batch) -> String {
    let words = batch.iter().map(|element| match element {
        Element::Item(item) => format!("{}@{}", String::from_utf8_lossy(item.key()), item.seqno()),
        Element::Marker(_, Marker::Start(_)) => "cs".into(),
        Element::Marker(_, Marker::End(_)) => "ce".into(),
        Element::Marker(_, Marker::State(_)) => "st".into(),
        Element::Marker(_, Marker::UpdateStart(_)) => "us".into(),
        Element::Marker(_, Marker::UpdateComplete(_)) => "uc".into(),
        Element::Marker(_, Marker::UpdateRevert { .. }) => "ur".into(),
        Element::Marker(_, other) => format!("{other:?}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The ranges of a batch.
pub(crate) fn ranges(batch: &Batch) -> Vec<(u64, u64)> {
    batch.ranges().iter().map(|range| (range.start.0, range.end.0)).collect()
}
