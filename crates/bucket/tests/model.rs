//! Random operations, flushes, faults, hot reload, kills, against a map for every seqno; and a replica that has to end
//! equal.
//!
//! `CUTTLEBONE_SEEDS=<n>` runs more sequences than the default, `CUTTLEBONE_SEED=<seed>` replays one.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

#[path = "table/world.rs"]
mod world;

use core::ops::RangeInclusive;
use core::time::Duration;
use std::collections::BTreeMap;

use cuttlebone_bucket::engine::Fault;
use cuttlebone_bucket::{Error, Goal, Mode, Persisted};
use cuttlebone_checkpoint::{Item, Seqno};
use cuttlebone_machine::{Entropy, SplitMix};
use futures::FutureExt;
use world::{V, World, now};

const SEQUENCES: u64 = 10_000;
const COMMANDS: u64 = 50;
const KEYS: u64 = 8;

type Map = BTreeMap<String, (String, u32)>;

/// What has to be true: the keys as of every seqno that a kill may fall back to.
struct Truth {
    states: BTreeMap<u64, Map>,
    now: Map,
    /// The map at the start of the window, and the last seqno before it.
    window: Option<(Map, u64)>,
    last: u64,
    /// What the last good flush acknowledged.
    durable: u64,
    /// Who waits for which seqno to become durable.
    waiting: Vec<(u64, Persisted)>,
    /// Seqnos that were taken back.
    undone: Vec<RangeInclusive<u64>>,
}

#[test]
fn random_operations_agree_with_a_map_and_survive_kills() {
    if let Some(seed) = number("CUTTLEBONE_SEED") {
        return sequence(seed);
    }
    for seed in 0..number("CUTTLEBONE_SEEDS").unwrap_or(SEQUENCES) {
        sequence(seed);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Names the seed of a sequence that panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("CUTTLEBONE_SEED={}", self.0);
        }
    }
}

fn sequence(seed: u64) {
    let _named = Named(seed);
    let mut chance = SplitMix::new(seed);
    let mut world = World::new();
    let mut replica = world.replica();
    let states = BTreeMap::from([(0, Map::new())]);
    let (waiting, undone) = (Vec::new(), Vec::new());
    let mut truth = Truth { states, now: Map::new(), window: None, last: 0, durable: 0, waiting, undone };
    for step in 0..COMMANDS {
        let context = format!("CUTTLEBONE_SEED={seed}, step {step}");
        match chance.below(100) {
            0..40 => truth.set(&mut chance, &world),
            40..50 => truth.delete(&mut chance, &world),
            50..54 => look(&mut chance, &world, &truth, &context),
            54..57 => hold(&mut chance, &world, &mut truth),
            57..66 => truth.flush(&mut chance, &world),
            66..70 => evict(&mut chance, &world),
            70..75 => replica.follow(&world),
            75..77 => replica.reconnect(&world),
            77..79 => replica = restarted(&replica, &world),
            79..83 => truth.start(&world),
            83..86 => truth.complete(&world),
            86..91 => truth.revert(&mut chance, &world),
            91..94 => {
                world = truth.kill(&world, &context);
                replica.disconnect();
                replica.reconnect(&world);
            }
            94..96 => truth.expire(&mut chance, &world),
            96..98 => truth.append(&mut chance, &world),
            98 => truth.wait(&mut chance, &world),
            _ => truth.compare(&world, &context),
        }
        truth.settle(&world, &context);
        world.bucket.recount().unwrap_or_else(|fault| panic!("{fault}; {context}"));
    }
    let context = format!("CUTTLEBONE_SEED={seed}, end");
    truth.compare(&world, &context);
    replica.follow(&world);
    truth.compare(&replica, &context);
    // And what is on the disk is a state that was.
    truth.kill(&world, &context);
}

fn key(chance: &mut SplitMix) -> String {
    format!("key{}", chance.below(KEYS))
}

fn restarted(replica: &World, producer: &World) -> World {
    let mut again = replica.after_a_kill();
    if again.bucket.vbuckets().is_empty() {
        again.bucket.create(V, now(0), cuttlebone_bucket::VbucketState::Replica).unwrap();
    }
    again.reconnect(producer);
    again
}

fn evict(chance: &mut SplitMix, world: &World) {
    let answer = world.bucket.evict(V, now(0), key(chance).as_bytes());
    assert!(matches!(answer, Ok(()) | Err(Error::Dirty | Error::Exists | Error::NotFound)), "{answer:?}");
}

fn look(chance: &mut SplitMix, world: &World, truth: &Truth, context: &str) {
    let key = key(chance);
    let found = world.bucket.get(V, now(0), key.as_bytes());
    let found = found
        .ok()
        .map(|found| (String::from_utf8_lossy(found.item.value()).into_owned(), found.item.flags()));
    assert_eq!(found.as_ref(), truth.now.get(&key), "{key}; {context}");
}

/// Holds a key, fails to store without the stamp, and stores with it or lets it go.
fn hold(chance: &mut SplitMix, world: &World, truth: &mut Truth) {
    let key = key(chance);
    match world.bucket.get_and_lock(V, now(0), key.as_bytes(), Duration::from_secs(9)) {
        Err(Error::NotFound) => assert!(!truth.now.contains_key(&key)),
        Err(error) => panic!("{error}"),
        Ok(held) if chance.below(2) == 0 => world.bucket.unlock(V, now(0), key.as_bytes(), held.cas).unwrap(),
        Ok(held) => {
            let item = Item::set(key.as_bytes(), b"held").unwrap();
            assert!(matches!(world.bucket.set(V, now(0), item.clone(), Mode::Set), Err(Error::Locked)));
            let seqno = world.bucket.set(V, now(0), item, Mode::Cas(held.cas)).unwrap().seqno;
            truth.now.insert(key, ("held".into(), 0));
            truth.at(seqno.0);
        }
    }
}

impl Truth {
    /// This is how things are as of `seqno`.
    fn at(&mut self, seqno: u64) {
        assert!(seqno > self.last, "{seqno} after {}", self.last);
        self.last = seqno;
        self.states.insert(seqno, self.now.clone());
    }

    fn set(&mut self, chance: &mut SplitMix, world: &World) {
        let (key, value) = (key(chance), "x".repeat(usize::try_from(chance.below(40)).unwrap()));
        let flags = u32::try_from(chance.below(1000)).unwrap();
        let item = Item::set(key.as_bytes(), value.as_bytes()).unwrap().with_flags(flags);
        let seqno = world.bucket.set(V, now(0), item, Mode::Set).unwrap().seqno;
        self.now.insert(key, (value, flags));
        self.at(seqno.0);
    }

    /// Sometimes the disk fails, with or without having done it.
    fn flush(&mut self, chance: &mut SplitMix, world: &World) {
        if chance.below(4) == 0 {
            let fault = if chance.below(2) == 0 { Fault::Nothing } else { Fault::Done };
            world.disk.fail_after(0, fault);
            let _ = world.bucket.flush();
            world.disk.fail_after(u64::MAX / 2, Fault::Nothing);
        } else {
            world.bucket.flush().unwrap();
            self.durable = world.bucket.status(V).unwrap().log.persisted.0;
        }
    }

    fn delete(&mut self, chance: &mut SplitMix, world: &World) {
        let key = key(chance);
        match world.bucket.delete(V, now(0), key.as_bytes(), None) {
            Ok(stored) => {
                assert!(self.now.remove(&key).is_some());
                self.at(stored.seqno.0);
            }
            Err(error) => {
                assert!(matches!(error, Error::NotFound) && !self.now.contains_key(&key), "{error}");
            }
        }
    }

    /// A longer value, also of one that is on the disk only.
    fn append(&mut self, chance: &mut SplitMix, world: &World) {
        let key = key(chance);
        match world.bucket.append(V, now(0), key.as_bytes(), b"+", None) {
            Ok(stored) => {
                self.now.get_mut(&key).unwrap().0.push('+');
                self.at(stored.seqno.0);
            }
            Err(error) => {
                assert!(matches!(error, Error::NotFound) && !self.now.contains_key(&key), "{error}");
            }
        }
    }

    /// Somebody waits for what was written, or will be.
    fn wait(&mut self, chance: &mut SplitMix, world: &World) {
        let seqno = (self.last + chance.below(8)).saturating_sub(4);
        let future = world.bucket.persisted(V, Goal::Seqno(Seqno(seqno)), None).unwrap();
        self.waiting.push((seqno, future));
    }

    /// Everybody who waits knows exactly what there is to know.
    fn settle(&mut self, world: &World, context: &str) {
        let persisted = world.bucket.status(V).unwrap().log.persisted.0;
        let undone = &self.undone;
        self.waiting.retain_mut(|(seqno, future)| {
            let known = future.now_or_never();
            if undone.iter().any(|undone| undone.contains(seqno)) {
                assert!(matches!(known, Some(Err(Error::Undone))), "{seqno}: {known:?}; {context}");
            } else if *seqno <= persisted {
                assert!(matches!(known, Some(Ok(()))), "{seqno}: {known:?}; {context}");
            } else {
                assert!(known.is_none(), "{seqno}: {known:?}, {persisted} is durable; {context}");
            }
            known.is_none()
        });
        assert_eq!(world.bucket.status(V).unwrap().waiting, self.waiting.len(), "{context}");
    }

    /// A key with a time to live, looked at when that is over.
    fn expire(&mut self, chance: &mut SplitMix, world: &World) {
        let key = key(chance);
        let item = Item::set(key.as_bytes(), b"short").unwrap().with_expiry(100);
        let seqno = world.bucket.set(V, now(0), item, Mode::Set).unwrap().seqno;
        self.now.insert(key.clone(), ("short".into(), 0));
        self.at(seqno.0);
        assert!(matches!(world.bucket.get(V, now(101), key.as_bytes()), Err(Error::NotFound)));
        self.now.remove(&key);
        self.at(seqno.0 + 1);
    }

    fn start(&mut self, world: &World) {
        let started = world.bucket.start_update(now(0)).is_ok();
        assert_eq!(started, self.window.is_none());
        if started {
            self.window = Some((self.now.clone(), self.last));
        }
    }

    fn complete(&mut self, world: &World) {
        assert_eq!(world.bucket.complete_update(now(0)).is_ok(), self.window.take().is_some());
    }

    fn revert(&mut self, chance: &mut SplitMix, world: &World) {
        if chance.below(4) == 0 {
            world.disk.fail_after(0, Fault::Nothing);
        }
        match world.bucket.revert_update(now(0), || now(0)) {
            Ok(()) => {
                let (map, before) = self.window.take().unwrap();
                self.undone.push(before + 1..=self.last);
                // Nobody can fall back into the window any more.
                self.states.range_mut(before + 1..).for_each(|(_, state)| *state = map.clone());
                self.now = map;
            }
            Err(Error::UpdateOff) => assert!(self.window.is_none()),
            Err(error) => assert!(matches!(error, Error::Engine(_)) && self.window.is_some(), "{error}"),
        }
        // A fault that met nobody must not hit the next step.
        world.disk.fail_after(u64::MAX / 2, Fault::Nothing);
    }

    /// Another process opens what is on the disk: it has to be a state that was, and none of an open window.
    fn kill(&mut self, world: &World, context: &str) -> World {
        let again = world.after_a_kill();
        (self.waiting, self.undone) = (Vec::new(), Vec::new());
        let status = again.bucket.status(V);
        // Nothing was ever flushed: not even the vbucket is there.
        let Ok(status) = status else {
            again.bucket.create(V, now(0), cuttlebone_bucket::VbucketState::Active).unwrap();
            *self = Self {
                states: BTreeMap::from([(0, Map::new())]),
                now: Map::new(),
                window: None,
                last: 0,
                durable: 0,
                waiting: Vec::new(),
                undone: Vec::new(),
            };
            return again;
        };
        let seqno = status.log.last_seqno.0;
        assert!(
            seqno >= self.durable,
            "{} was acknowledged as durable, {seqno} is there; {context}",
            self.durable
        );
        if let Some((_, before)) = &self.window {
            assert!(seqno <= *before, "{seqno} is of the window after {before}; {context}");
        }
        self.window = None;
        self.states.split_off(&(seqno + 1));
        self.now = self.states.range(..=seqno).next_back().unwrap().1.clone();
        self.last = seqno;
        self.compare(&again, context);
        again
    }

    fn compare(&self, world: &World, context: &str) {
        for number in 0..KEYS {
            let key = format!("key{number}");
            let found = world.bucket.peek(V, key.as_bytes());
            let found = found
                .ok()
                .map(|found| (String::from_utf8_lossy(found.item.value()).into_owned(), found.item.flags()));
            assert_eq!(found.as_ref(), self.now.get(&key), "{key}; {context}");
        }
        assert_eq!(world.bucket.status(V).unwrap().items, self.now.len(), "{context}");
    }
}
