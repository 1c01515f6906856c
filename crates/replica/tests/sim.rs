//! A producer and replicas over a link that is cut at any message, with kills of both sides, failing disks, hot reload
//! and replicas that are away: in the end every replica equals its producer.
//!
//! `CUTTLEBONE_SEEDS=<n>` runs more worlds than the default, `CUTTLEBONE_SEED=<seed>` replays one.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use cuttlebone_bucket::engine::{Fault, MemoryEngine};
use cuttlebone_bucket::{Bucket, BucketLimits, Error, Mode, Now, VbucketState};
use cuttlebone_checkpoint::Item;
use cuttlebone_machine::{Entropy, Instant, SplitMix};
use cuttlebone_replica::{Consumer, Limits, Producer};
use cuttlebone_wire::Message;

const WORLDS: u64 = 600;
const STEPS: u64 = 150;
const KEYS: u64 = 12;
const VBUCKETS: [u16; 2] = [0, 7];

#[test]
fn replicas_end_equal_to_their_producer_whatever_happens_on_the_way() {
    if let Some(seed) = number("CUTTLEBONE_SEED") {
        return World::new(seed).run(seed);
    }
    for seed in 0..number("CUTTLEBONE_SEEDS").unwrap_or(WORLDS) {
        World::new(seed).run(seed);
    }
}

#[test]
fn the_worlds_reach_what_they_are_made_for() {
    let mut seen = Seen::default();
    for seed in 0..60 {
        let mut world = World::new(seed);
        world.run(seed);
        seen.rollbacks += world.seen.rollbacks;
        seen.reverts += world.seen.reverts;
        seen.cuts += world.seen.cuts;
    }
    assert!(seen.rollbacks > 20 && seen.reverts > 20 && seen.cuts > 100, "{seen:?}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Names the seed of a world that panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("CUTTLEBONE_SEED={}", self.0);
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    rollbacks: u64,
    reverts: u64,
    cuts: u64,
}

struct Node {
    bucket: Bucket<MemoryEngine>,
    disk: MemoryEngine,
}

/// What lies between the origin and one replica.
struct Link {
    producer: Producer<MemoryEngine>,
    consumer: Consumer<MemoryEngine>,
    down: VecDeque<Message>,
    up: VecDeque<Message>,
}

struct World {
    chance: SplitMix,
    now: Now,
    origin: Node,
    replicas: Vec<(Node, Option<Link>)>,
    seen: Seen,
}

fn bucket_limits() -> BucketLimits {
    let log = cuttlebone_checkpoint::Limits { items_max: 10, ..Default::default() };
    BucketLimits { log, flush_rows: 25, unacknowledged_max: 40, ..BucketLimits::default() }
}

fn limits() -> Limits {
    Limits { events_max: 7, message_bytes: 200, window_bytes: 600, ..Limits::default() }
}

impl Node {
    fn open(disk: MemoryEngine, now: Now, seed: u64) -> Self {
        let bucket = Bucket::open(disk.clone(), bucket_limits(), now, seed).unwrap();
        Self { bucket, disk }
    }

    /// What another process finds after a kill.
    fn killed(&self, now: Now, seed: u64) -> Self {
        Self::open(self.disk.detached(), now, seed)
    }

    fn items(&self, vbucket: u16) -> BTreeMap<u64, (usize, u32)> {
        let get = |key: u64| {
            let found = self.bucket.peek(vbucket, key.to_string().as_bytes()).ok()?;
            Some((key, (found.item.value().len(), found.item.flags())))
        };
        (0..KEYS).filter_map(get).collect()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Now { at: Instant::ZERO + Duration::from_secs(1), unix: 1 };
        let mut chance = SplitMix::new(seed);
        let origin = Node::open(MemoryEngine::default(), now, chance.next_u64());
        for vbucket in VBUCKETS {
            origin.bucket.create(vbucket, now, VbucketState::Active).unwrap();
        }
        origin.bucket.flush_all().unwrap();
        let replicas =
            (0..2).map(|_| (Node::open(MemoryEngine::default(), now, chance.next_u64()), None)).collect();
        Self { chance, now, origin, replicas, seen: Seen::default() }
    }

    fn run(&mut self, seed: u64) {
        let _named = Named(seed);
        for _ in 0..STEPS {
            self.step();
        }
        self.heal();
        for vbucket in VBUCKETS {
            let truth = self.origin.items(vbucket);
            for (replica, _) in &self.replicas {
                assert_eq!(replica.items(vbucket), truth, "vbucket {vbucket}");
                replica.bucket.recount().unwrap();
                // And the disks agree with the memories.
                replica.bucket.flush_all().unwrap();
                assert_eq!(replica.killed(self.now, 1).items(vbucket), truth, "vbucket {vbucket} on disk");
            }
        }
    }

    fn step(&mut self) {
        self.now.at = self.now.at + Duration::from_millis(self.chance.below(200));
        let which = usize::try_from(self.chance.below(2)).unwrap();
        match self.chance.below(100) {
            0..30 => self.write(),
            30..70 => self.carry(which),
            70..76 => drop(self.origin.bucket.flush()),
            76..80 => drop(self.replicas[which].0.bucket.flush()),
            80..85 => self.fail_a_flush(which),
            85..88 => {
                self.seen.cuts += 1;
                self.replicas[which].1 = None;
            }
            88..90 => drop(self.origin.bucket.start_update(self.now)),
            90..92 => drop(self.origin.bucket.complete_update(self.now)),
            92..94 => {
                let now = self.now;
                self.seen.reverts += u64::from(self.origin.bucket.revert_update(now, || now).is_ok());
            }
            94..95 => self.kill_origin(),
            95..97 => {
                let seed = self.chance.next_u64();
                let (node, link) = &mut self.replicas[which];
                *link = None;
                *node = node.killed(self.now, seed);
            }
            _ => self.origin.bucket.tick(self.now),
        }
    }

    fn write(&mut self) {
        let vbucket = VBUCKETS[usize::try_from(self.chance.below(2)).unwrap()];
        let key = self.chance.below(KEYS).to_string();
        if self.chance.below(4) == 0 {
            let answer = self.origin.bucket.delete(vbucket, self.now, key.as_bytes(), None);
            assert!(matches!(answer, Ok(_) | Err(Error::NotFound)), "{answer:?}");
        } else {
            let value = vec![b'v'; usize::try_from(self.chance.below(300)).unwrap()];
            let flags = u32::try_from(self.chance.below(1000)).unwrap();
            let item = Item::set(key.as_bytes(), &value).unwrap().with_flags(flags);
            self.origin.bucket.set(vbucket, self.now, item, Mode::Set).unwrap();
        }
    }

    fn fail_a_flush(&mut self, which: usize) {
        let fault = if self.chance.below(2) == 0 { Fault::Nothing } else { Fault::Done };
        let node = if self.chance.below(2) == 0 { &self.origin } else { &self.replicas[which].0 };
        node.disk.fail_after(0, fault);
        drop(node.bucket.flush());
        node.disk.fail_after(u64::MAX / 2, Fault::Nothing);
    }

    fn kill_origin(&mut self) {
        let seed = self.chance.next_u64();
        self.origin = self.origin.killed(self.now, seed);
        for (_, link) in &mut self.replicas {
            *link = None;
        }
    }

    /// Moves a few messages in either direction, over a new link if there is none.
    fn carry(&mut self, which: usize) {
        let steps = self.chance.below(12);
        for _ in 0..steps {
            let direction = self.chance.below(3);
            self.carry_one(which, direction);
        }
    }

    fn carry_one(&mut self, which: usize, direction: u64) {
        let (node, link) = &mut self.replicas[which];
        let link = link.get_or_insert_with(|| Link {
            producer: Producer::new(self.origin.bucket.clone(), &format!("r{which}"), limits()),
            consumer: Consumer::new(node.bucket.clone(), limits()),
            down: VecDeque::new(),
            up: VecDeque::new(),
        });
        match direction {
            0 => {
                let mut cx = Context::from_waker(Waker::noop());
                if let Poll::Ready(message) = link.producer.poll_message(&mut cx) {
                    link.down.push_back(message);
                }
                assert!(
                    link.producer.windows().all(|(_, bytes)| bytes <= 600 + 200 + 302),
                    "the window holds"
                );
            }
            1 => {
                if let Some(message) = link.down.pop_front() {
                    self.seen.rollbacks += u64::from(is_rollback(&message));
                    link.consumer.handle(self.now, &message).unwrap();
                }
                link.consumer.handle_timeout(self.now).unwrap();
                while let Some(message) = link.consumer.poll_message() {
                    link.up.push_back(message);
                }
            }
            _ => {
                if let Some(message) = link.up.pop_front() {
                    link.producer.handle(&message).unwrap();
                }
            }
        }
    }

    /// Everything works from now on: both sides flush, and messages move until there are no more.
    fn heal(&mut self) {
        for _ in 0..400 {
            self.now.at = self.now.at + Duration::from_millis(100);
            for which in 0..2 {
                for direction in [0, 1, 2, 0, 1, 2] {
                    self.carry_one(which, direction);
                }
                self.replicas[which].0.bucket.flush().unwrap();
            }
        }
        for (node, link) in &self.replicas {
            let link = link.as_ref().unwrap();
            assert!(link.down.is_empty() && link.up.is_empty(), "still talking");
            assert!(link.consumer.was_current(), "has everything and was told so");
            for vbucket in VBUCKETS {
                let last = |node: &Node| node.bucket.status(vbucket).unwrap().log.last_seqno;
                assert!(last(node) <= last(&self.origin));
            }
        }
        if self.origin.bucket.complete_update(self.now).is_ok() {
            // Once more, so that the disks of the replicas may have the window, too.
            self.heal();
        }
    }
}

fn is_rollback(message: &Message) -> bool {
    match cuttlebone_replica::Frame::from_message(message).unwrap() {
        cuttlebone_replica::Frame::Events { events, .. } => {
            events.contains(&cuttlebone_bucket::Event::Rollback)
        }
        _ => false,
    }
}
