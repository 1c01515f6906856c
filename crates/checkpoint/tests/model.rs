//! Random commands against a naive model, step by step, with a recount after each.
//!
//! `CUTTLEBONE_SEEDS=<n>` runs more sequences than the default, `CUTTLEBONE_SEED=<seed>` replays one.

#![expect(clippy::unwrap_used, clippy::std_instead_of_core, reason = "a failure in a test is a panic")]

#[path = "model/naive.rs"]
mod naive;

use std::time::Duration;

use cuttlebone_checkpoint::{
    Batch, ChangeLog, CursorId, Droppable, Durability, Element, Error, FetchLimit, Flush, Item, Limits,
    Marker, Resume, Seqno, Start, Stop, UpdateState,
};
use cuttlebone_machine::{Entropy, Instant, SplitMix};
use naive::{Model, Thing};

/// Sequences in the suite, and commands in each.
const SEQUENCES: u64 = 10_000;
const COMMANDS: u64 = 60;
/// Few keys, so that overwrites are common.
const KEYS: u64 = 12;

#[test]
fn random_commands_agree_with_a_naive_model_step_by_step() {
    if let Some(seed) = number("CUTTLEBONE_SEED") {
        return sequence(seed, 2_000);
    }
    for seed in 0..number("CUTTLEBONE_SEEDS").unwrap_or(SEQUENCES) {
        // One in a hundred is long enough for holes to be closed several times.
        sequence(seed, if seed % 100 == 0 { 2_000 } else { COMMANDS });
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The log under test beside the model.
struct Pair {
    chance: SplitMix,
    now: Instant,
    log: ChangeLog,
    model: Model,
    cursors: Vec<(CursorId, usize)>,
    flush: Option<Flush>,
    /// A batch that is held on to, so that chunks are shared while the log changes.
    held: Vec<(Batch, Vec<Thing>)>,
}

fn sequence(seed: u64, commands: u64) {
    let mut chance = SplitMix::new(seed);
    let limits = Limits {
        items_max: 10 + usize::try_from(chance.below(40)).unwrap(),
        age_max: Duration::from_secs(5),
        ..Limits::default()
    };
    let start = Start { seqno: Seqno(1000), ..Start::default() };
    let log = ChangeLog::new(Instant::ZERO, start, Durability::Persisted, limits, seed).unwrap();
    let model = Model::new(1000, limits.items_max);
    let mut pair =
        Pair { chance, now: Instant::ZERO, log, model, cursors: Vec::new(), flush: None, held: Vec::new() };
    for step in 0..commands {
        let done = pair.step();
        let context = || format!("CUTTLEBONE_SEED={seed}, step {step}, after {done}");
        pair.log.recount().unwrap_or_else(|fault| panic!("{fault}; {}", context()));
        pair.compare(&context);
    }
}

impl Pair {
    fn step(&mut self) -> &'static str {
        match self.chance.below(100) {
            0..45 => self.write(),
            45..60 => self.fetch(),
            60..66 => self.take(),
            66..74 => self.end_flush(),
            74..79 => self.register(),
            79..81 => self.unregister(),
            81..84 => self.close(),
            84..86 => self.mark_state(),
            86..89 => self.pass_time(),
            89..91 => self.expel(),
            91..92 => self.reset(),
            92..94 => self.start_update(),
            94..96 => self.complete_update(),
            96..99 => self.revert_update(),
            _ => self.relieve(),
        }
    }

    fn write(&mut self) -> &'static str {
        let key = format!("key{}", self.chance.below(KEYS));
        let value = vec![b'v'; usize::try_from(self.chance.below(300)).unwrap()];
        let item = if self.chance.below(5) == 0 {
            Item::delete(key.as_bytes())
        } else {
            Item::set(key.as_bytes(), &value)
        };
        let queued = self.log.queue(self.now, item.unwrap()).unwrap();
        let (seqno, effect) = self.model.write(&key);
        assert_eq!((queued.seqno.0, queued.effect), (seqno, effect), "queueing {key}");
        "a write"
    }

    fn fetch(&mut self) -> &'static str {
        if self.cursors.is_empty() {
            return "nothing";
        }
        let at = usize::try_from(self.chance.below(self.cursors.len() as u64)).unwrap();
        let limit = self.limit();
        let (id, name) = self.cursors[at];
        let batch = self.log.fetch(id, limit).unwrap();
        let expected = self.model.fetch(name, limit);
        assert_eq!(things(&batch), expected, "cursor {name} with {limit:?}");
        assert_eq!(batch.len(), expected.len() as u64);
        assert_eq!(batch.mutations(), batch.items().count() as u64);
        assert_eq!(batch.has_more(), self.model.remaining(name) > 0);
        if self.chance.below(3) == 0 {
            self.held.push((batch, expected));
        }
        if self.held.len() > 3 {
            let (batch, then) = self.held.remove(0);
            assert_eq!(things(&batch), then, "a batch changed while it was held");
        }
        "a fetch"
    }

    fn limit(&mut self) -> FetchLimit {
        match self.chance.below(3) {
            0 => FetchLimit::ALL,
            1 => FetchLimit::exactly(1 + self.chance.below(7)),
            _ => FetchLimit {
                elements: 1 + self.chance.below(20),
                bytes: usize::MAX,
                stop: Stop::AfterCheckpoint,
            },
        }
    }

    fn take(&mut self) -> &'static str {
        let limit = self.limit();
        if self.flush.is_some() {
            assert!(matches!(self.log.take(limit), Err(Error::Misuse(_))));
            return "a refused take";
        }
        self.flush = self.log.take(limit).unwrap();
        let expected = self.model.take(limit);
        assert_eq!(self.flush.as_ref().map(|flush| things(flush.batch())).unwrap_or_default(), expected);
        "a take"
    }

    fn end_flush(&mut self) -> &'static str {
        let Some(flush) = self.flush.take() else { return "nothing" };
        let good = self.chance.below(3) > 0;
        let answer = if good { self.log.commit(&flush) } else { self.log.abort(&flush) };
        let _ = answer.unwrap();
        self.model.end_flush(good);
        if good { "a commit" } else { "an abort" }
    }

    fn register(&mut self) -> &'static str {
        let name = usize::try_from(self.chance.below(4)).unwrap();
        let behind = self.chance.below(30);
        let after = self.model.last.saturating_sub(behind).max(1000);
        let from = match self.chance.below(3) {
            0 => Resume::Oldest,
            1 => Resume::Now,
            _ => Resume::After(Seqno(after)),
        };
        let registered = self.log.register(&format!("cursor{name}"), Droppable::Yes, from).unwrap();
        let (next, backfill) = self.model.register(name, from);
        assert_eq!((registered.next.0, registered.backfill), (next, backfill), "{from:?}");
        self.cursors.retain(|(_, other)| *other != name);
        self.cursors.push((registered.cursor, name));
        "a registration"
    }

    fn unregister(&mut self) -> &'static str {
        let Some((id, name)) = self.cursors.pop() else { return "nothing" };
        let _ = self.log.unregister(id).unwrap();
        assert_eq!(self.log.fetch(id, FetchLimit::ALL).unwrap_err(), Error::CursorGone);
        self.model.unregister(name);
        "a removal"
    }

    fn close(&mut self) -> &'static str {
        self.log.close_checkpoint(self.now).unwrap();
        self.model.close();
        "a close"
    }

    fn mark_state(&mut self) -> &'static str {
        self.log.queue_state(b"active".as_slice().into());
        self.model.mark(Thing::State);
        "a state"
    }

    fn pass_time(&mut self) -> &'static str {
        let passed = Duration::from_secs(self.chance.below(4));
        self.now = self.now + passed;
        self.model.pass(passed.as_secs());
        self.log.tick(self.now);
        self.model.tick();
        "some time"
    }

    fn expel(&mut self) -> &'static str {
        assert_eq!(self.log.expel(), self.model.expel(), "expelled");
        "an expel"
    }

    fn relieve(&mut self) -> &'static str {
        let relief = self.log.relieve(self.now, 0);
        let dropped: Vec<_> = relief.dropped.iter().map(|name| name[6..].parse().unwrap()).collect();
        assert_eq!((relief.expelled, &dropped), (self.model.relieve(&dropped), &dropped));
        self.cursors.retain(|(_, name)| !dropped.contains(name));
        "a relief"
    }

    fn reset(&mut self) -> &'static str {
        let start = Start {
            checkpoint: cuttlebone_checkpoint::CheckpointId(1),
            seqno: Seqno(1000),
            ..Start::default()
        };
        let _ = self.log.reset(self.now, start);
        self.model.reset();
        if let Some(flush) = self.flush.take() {
            assert_eq!(self.log.commit(&flush).unwrap_err(), Error::FlushVoid);
        }
        "a reset"
    }

    fn start_update(&mut self) -> &'static str {
        let answer = self.log.start_update(self.now).map(|id| id.0);
        assert_eq!(answer.ok(), self.model.start_update());
        "a start"
    }

    fn complete_update(&mut self) -> &'static str {
        assert_eq!(self.log.complete_update(self.now).is_ok(), self.model.complete_update());
        "a completion"
    }

    fn revert_update(&mut self) -> &'static str {
        let expected = self.model.revert_update();
        match self.log.begin_revert(self.now) {
            Ok(window) => {
                let keys: Vec<_> = window.items().map(|item| item.seqno().0).collect();
                assert_eq!(Some(keys), expected, "the window");
                assert!(matches!(self.log.update_state(), UpdateState::Reverting { .. }));
                let _ = self.log.finish_revert().unwrap();
            }
            Err(error) => assert!(expected.is_none(), "{error}"),
        }
        "a revert"
    }

    fn compare(&self, context: &dyn Fn() -> String) {
        let status = self.log.status();
        assert_eq!(status.checkpoints, self.model.checkpoints.len(), "checkpoints; {}", context());
        assert_eq!(status.elements, self.model.elements(), "elements; {}", context());
        assert_eq!(status.open.0, self.model.open_id(), "open id; {}", context());
        assert_eq!(status.unpersisted, self.model.unpersisted(), "unpersisted; {}", context());
        assert_eq!(status.persisted.0, self.model.persisted, "persisted; {}", context());
        for (id, name) in &self.cursors {
            let remaining = self.log.cursor(*id).map(|cursor| cursor.remaining);
            assert_eq!(remaining, Some(self.model.remaining(*name)), "cursor {name}; {}", context());
        }
    }
}

fn things(batch: &Batch) -> Vec<Thing> {
    batch
        .iter()
        .map(|element| match element {
            Element::Item(item) => {
                Thing::Key(String::from_utf8(item.key().to_vec()).unwrap(), item.seqno().0)
            }
            Element::Marker(_, Marker::Start(_)) => Thing::Start,
            Element::Marker(_, Marker::End(_)) => Thing::End,
            Element::Marker(_, Marker::State(_)) => Thing::State,
            Element::Marker(..) => Thing::Update,
        })
        .collect()
}
