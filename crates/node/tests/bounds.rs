//! What a node does for others is bounded by tokens of its registry, and nobody new is let in while it ends.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

use core::net::SocketAddr;
use core::time::Duration;
use std::path::Path;

use cuttlebone_bucket::engine::LogEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Mode, Now, RunnerConfig, VbucketState};
use cuttlebone_checkpoint::{Item, Limits};
use cuttlebone_http::TokioClock;
use cuttlebone_http::status::{SourceState, Stage};
use cuttlebone_node::{Follow, Handle, Node, NodeBucket, Replicas};
use cuttlebone_tokens::{Config, OwnerId, RegisterError, Registry, Takeover, View};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const V: u16 = 0;
const NEVER: Duration = Duration::from_secs(3600);
const ITEMS: usize = 3000;
/// With so many bytes each, the items are more than may be on their way to a replica.
const VALUE_BYTES: usize = 8192;
const PATIENCE: Duration = Duration::from_secs(60);

struct Live {
    bucket: NodeBucket,
    handle: Handle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), cuttlebone_node::Error>>,
}

impl Live {
    fn start(
        bucket: NodeBucket,
        add: impl FnOnce(cuttlebone_node::Builder) -> cuttlebone_node::Builder,
    ) -> Self {
        let node = add(Node::builder().bucket(bucket.clone())).build().unwrap();
        let (handle, (stop, stopped)) = (node.handle(), oneshot::channel::<()>());
        let task = tokio::spawn(node.run(async { drop(stopped.await) }));
        Self { bucket, handle, stop, task }
    }

    /// Serves replicas, one backfill at a time.
    async fn origin(bucket: NodeBucket, registry: &Registry, stuck_after: Duration) -> (Self, SocketAddr) {
        let sink = Replicas::new().backfills_max(1).stuck_after(stuck_after);
        let listen = ([127, 0, 0, 1], 0).into();
        let origin = Self::start(bucket, |node| node.listen(listen).sink(sink).tokens(registry.clone()));
        until("it listens", || origin.handle.listening().is_some()).await;
        let address = origin.handle.listening().unwrap().msgr2().unwrap().socket_addr().unwrap();
        (origin, address)
    }

    fn follower(bucket: NodeBucket, name: &str, origin: SocketAddr) -> Self {
        Self::start(bucket, |node| node.name(name).source(Follow::node(origin)))
    }

    fn items(&self) -> usize {
        self.bucket.status(V).map_or(0, |status| status.items)
    }

    fn is_current(&self) -> bool {
        self.handle.status().sources.iter().any(|source| source.state == SourceState::Following)
    }

    async fn end(self) {
        drop(self.stop);
        self.task.await.unwrap().unwrap();
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn open(dir: &Path, limits: BucketLimits) -> NodeBucket {
    Bucket::open(LogEngine::open(dir).unwrap(), limits, Now::default(), 1).unwrap()
}

/// A bucket whose items are on the disk, and not in its log any more.
fn full(dir: &Path) -> NodeBucket {
    let bucket = open(dir, BucketLimits::default());
    bucket.create(V, Now::default(), VbucketState::Active).unwrap();
    for n in 0..ITEMS {
        let item = Item::set(&(n as u64).to_be_bytes(), &[b'v'; VALUE_BYTES]).unwrap();
        bucket.set(V, Now::default(), item, Mode::Set).unwrap();
    }
    let runner = bucket.run(RunnerConfig::default(), Now::default).unwrap();
    runner.stop(PATIENCE).unwrap();
    drop(bucket);
    open(dir, BucketLimits::default())
}

/// A bucket whose disk does not take anything, and which has little memory.
fn stuck(dir: &Path) -> NodeBucket {
    let log = Limits { memory_max: 4 << 20, checkpoint_bytes_max: 1 << 20, ..Limits::default() };
    let bucket = open(dir, BucketLimits { log, ..BucketLimits::default() });
    bucket.pause();
    bucket
}

fn backfill(registry: &Registry) -> Option<View> {
    registry.lookup("backfill", 8)
}

/// The one that was stuck goes on, and nobody needs the disk read any more.
async fn both_come_to_an_end(registry: &Registry, stuck: Live, other: Live, origin: Live) {
    stuck.bucket.resume();
    until("the stuck one has everything", || stuck.items() == ITEMS && stuck.is_current()).await;
    until("nobody holds or waits", || {
        backfill(registry).is_some_and(|view| view.outstanding == 0 && view.waiting == 0)
    })
    .await;
    for live in [stuck, other, origin] {
        live.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_after_the_other_is_served_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let registry = Registry::new(Config::default(), TokioClock::new());
    let (origin, address) = Live::origin(full(&path("origin")), &registry, NEVER).await;
    let first = Live::follower(stuck(&path("stuck")), "first", address);
    until("the first one has a part", || first.items() > 0).await;
    let second = Live::follower(open(&path("second"), BucketLimits::default()), "second", address);
    until("the second one waits", || backfill(&registry).is_some_and(|view| view.waiting == 1)).await;
    let view = backfill(&registry).unwrap();
    assert_eq!((view.outstanding, view.slots_max), (1, 1), "{view:?}");
    assert!(first.items() < ITEMS && !first.is_current());
    assert_eq!(second.items(), 0, "nothing is read for it before its turn");

    // Whoever has the turn loses it when somebody fences the name; then the other one is served.
    assert!(registry.fence("backfill"));
    until("the second one has everything", || second.items() == ITEMS && second.is_current()).await;
    both_come_to_an_end(&registry, first, second, origin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_loses_its_turn_and_goes_on_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let registry = Registry::new(Config::default(), TokioClock::new());
    let soon = Duration::from_millis(300);
    let (origin, address) = Live::origin(full(&path("origin")), &registry, soon).await;
    let first = Live::follower(stuck(&path("stuck")), "first", address);
    until("the first one has a part", || first.items() > 0).await;
    let second = Live::follower(open(&path("second"), BucketLimits::default()), "second", address);
    until("the second one has everything", || second.items() == ITEMS && second.is_current()).await;
    assert!(first.items() < ITEMS && !first.is_current());
    both_come_to_an_end(&registry, first, second, origin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_a_node_waits_for_its_tokens_is_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let registry = Registry::new(Config::default(), TokioClock::new());
    let empty = open(&path("origin"), BucketLimits::default());
    let (origin, address) = Live::origin(empty, &registry, NEVER).await;
    origin.bucket.create(V, Now::default(), VbucketState::Active).unwrap();
    let before = Live::follower(open(&path("before"), BucketLimits::default()), "before", address);
    until("the first replica follows", || before.is_current()).await;

    let agent = registry.register("agent", OwnerId(1), Takeover::Deny).await.unwrap();
    let token = agent.acquire().await.unwrap();
    let Live { stop, task, handle, .. } = origin;
    drop(stop);
    until("it waits for the token", || {
        handle.status().node.stage == Stage::Stopping && handle.status().node.detail == "draining tokens"
    })
    .await;
    let late = Live::follower(open(&path("late"), BucketLimits::default()), "late", address);
    let failures =
        |live: &Live| live.handle.status().sources.first().map_or(0, |source| source.failures_total);
    until("the late one is turned away", || failures(&late) > 1).await;
    assert!(before.is_current() && failures(&before) == 0, "who was there before is served on");
    let new = registry.register("new", OwnerId(2), Takeover::Deny).await;
    assert!(matches!(new, Err(RegisterError::Closed)), "{new:?}");
    drop((token, agent));
    task.await.unwrap().unwrap();
    for live in [before, late] {
        live.end().await;
    }
}
