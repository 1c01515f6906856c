//! Nodes in this process: hot reload across them against a model, with replicas that are away; and an end under load.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cuttlebone_bucket::engine::LogEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Error, Mode, Now, VbucketState};
use cuttlebone_checkpoint::{Item, Limits};
use cuttlebone_http::status::Stage;
use cuttlebone_machine::{Entropy, SplitMix};
use cuttlebone_node::{Follow, Handle, Node, NodeBucket, Replicas};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const KEYS: u64 = 200;
const V: u16 = 0;

type Model = BTreeMap<u64, Vec<u8>>;

/// A node at work.
struct Live {
    bucket: NodeBucket,
    handle: Handle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), cuttlebone_node::Error>>,
}

fn open(dir: &Path, seed: u64) -> NodeBucket {
    let limits =
        BucketLimits { log: Limits { items_max: 20, ..Limits::default() }, ..BucketLimits::default() };
    Bucket::open(LogEngine::open(dir).unwrap(), limits, Now::default(), seed).unwrap()
}

impl Live {
    /// The origin, or a replica of it.
    fn start(dir: &Path, seed: u64, origin: Option<SocketAddr>) -> Self {
        let bucket = open(dir, seed);
        let mut builder = Node::builder().name(format!("n{seed}")).bucket(bucket.clone());
        builder = match origin {
            None => builder.listen(([127, 0, 0, 1], 0).into()).sink(Replicas::new()),
            Some(origin) => builder.source(Follow::node(origin)),
        };
        let node = builder.build().unwrap();
        let (handle, (stop, stopped)) = (node.handle(), oneshot::channel::<()>());
        let task = tokio::spawn(node.run(async { drop(stopped.await) }));
        Self { bucket, handle, stop, task }
    }

    async fn end(self) {
        drop(self.stop);
        self.task.await.unwrap().unwrap();
    }

    /// Dropped in the middle, as by a kill; what is in memory is gone. Returns when the disk is free again.
    async fn kill(self, dir: &Path) {
        self.task.abort();
        let _ = self.task.await;
        drop((self.bucket, self.handle, self.stop));
        until("the disk is free", || LogEngine::open(dir).is_ok()).await;
    }

    async fn address(&self) -> SocketAddr {
        until("it listens", || self.handle.listening().is_some()).await;
        self.handle.listening().unwrap().msgr2().unwrap().socket_addr().unwrap()
    }

    fn items(&self) -> Model {
        items(&self.bucket)
    }
}

fn items(bucket: &NodeBucket) -> Model {
    let get = |key: u64| Some((key, bucket.peek(V, &key.to_be_bytes()).ok()?.item.value().to_vec()));
    (0..KEYS).filter_map(get).collect()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn now() -> Now {
    static START: std::sync::OnceLock<cuttlebone_driver::Clock> = std::sync::OnceLock::new();
    Now { at: START.get_or_init(cuttlebone_driver::Clock::start).now(), unix: 1 }
}

/// Random sets and deletions, in the bucket and in the model.
fn write(live: &Live, model: &mut Model, chance: &mut SplitMix, count: u32) {
    for _ in 0..count {
        let (key, now) = (chance.below(KEYS), now());
        if chance.below(4) == 0 {
            let answer = live.bucket.delete(V, now, &key.to_be_bytes(), None);
            assert_eq!(answer.is_ok(), model.remove(&key).is_some());
        } else {
            let value = vec![b'v'; usize::try_from(chance.below(100)).unwrap()];
            let item = Item::set(&key.to_be_bytes(), &value).unwrap();
            live.bucket.set(V, now, item, Mode::Set).unwrap();
            model.insert(key, value);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_reload_leaves_every_node_as_a_model_says_also_one_that_was_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let origin = Live::start(&path("origin"), 1, None);
    origin.bucket.create(V, Now::default(), VbucketState::Active).unwrap();
    let address = origin.address().await;
    let stays = Live::start(&path("stays"), 2, Some(address));
    let mut leaves = Some(Live::start(&path("leaves"), 3, Some(address)));
    let (mut model, mut chance) = (Model::new(), SplitMix::new(7));
    for round in 0..12_u64 {
        write(&origin, &mut model, &mut chance, 60);
        if round % 3 == 1 {
            // It has seen a part of what came before, perhaps, and nothing of the window.
            leaves.take().unwrap().kill(&path("leaves")).await;
        }
        origin.bucket.start_update(now()).unwrap();
        let mut window = model.clone();
        write(&origin, &mut window, &mut chance, 60);
        assert_eq!(origin.items(), window, "clients see the window");
        if round % 3 == 2 {
            // In the middle of the window.
            leaves.take().unwrap().kill(&path("leaves")).await;
        }
        if chance.below(2) == 0 {
            origin.bucket.complete_update(now()).unwrap();
            model = window;
        } else {
            origin.bucket.revert_update(now(), now).unwrap();
        }
        write(&origin, &mut model, &mut chance, 20);
        let again = leaves.take().unwrap_or_else(|| Live::start(&path("leaves"), 10 + round, Some(address)));
        assert_eq!(origin.items(), model, "round {round}");
        until("the replica that stayed is equal", || stays.items() == model).await;
        until("the replica that was away is equal", || again.items() == model).await;
        leaves = Some(again);
    }
    for (name, live) in [("stays", stays), ("leaves", leaves.unwrap()), ("origin", origin)] {
        until("it serves", || live.handle.status().node.stage == Stage::Serving).await;
        live.end().await;
        until("the disk is free", || LogEngine::open(&path(name)).is_ok()).await;
        assert_eq!(items(&open(&path(name), 99)), model, "the disk of {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_under_load_loses_nothing_that_was_acknowledged_before() {
    let dir = tempfile::tempdir().unwrap();
    let live = Live::start(dir.path(), 1, None);
    live.bucket.create(V, Now::default(), VbucketState::Active).unwrap();
    let (bucket, over) = (live.bucket.clone(), Arc::new(AtomicBool::new(false)));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let (stop_writing, counted) = (Arc::clone(&over), Arc::clone(&acknowledged));
    let writer = std::thread::spawn(move || {
        for n in 1.. {
            if stop_writing.load(Ordering::Acquire) {
                return;
            }
            match bucket.set(V, Now::default(), Item::set(b"count", &u64::to_be_bytes(n)).unwrap(), Mode::Set)
            {
                Ok(_) => counted.store(n, Ordering::Release),
                Err(error) => assert!(matches!(error, Error::Temporary), "{error}"),
            }
        }
    });
    until("a load", || acknowledged.load(Ordering::Acquire) > 10_000).await;
    let before = acknowledged.load(Ordering::Acquire);
    live.end().await;
    over.store(true, Ordering::Release);
    writer.join().unwrap();
    until("the disk is free", || LogEngine::open(dir.path()).is_ok()).await;
    let found = open(dir.path(), 9).peek(V, b"count").unwrap();
    let count = u64::from_be_bytes(found.item.value().try_into().unwrap());
    assert!(count >= before, "{before} was acknowledged before the end, {count} is on the disk");
}
