use core::fmt;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuttlebone_bucket::{FlusherState, Now, Runner, RunnerConfig};
use cuttlebone_driver::Clock;
use cuttlebone_http::status::{
    ConnectionStatus, MountStatus, NodeStatus, PublishedStatus, Rows, SourceStatus, Stage, Status,
};
use cuttlebone_http::update;
use cuttlebone_machine::Instant;
use cuttlebone_tokens::{FenceGate, Registry};
use cuttlebone_wire::EntityAddrs;
use tokio::sync::watch;

use crate::clock::now;
use crate::part::Phase;
use crate::{Deadlines, Error, NodeBucket, report};

/// Links that the status shows at most.
const CONNECTIONS_MAX: usize = 1024;

/// What a node gives to its parts: its bucket, its registry, its time, and the word when it is over.
///
/// Clones are the same node, seen by the same part.
#[derive(Clone)]
pub struct Ground {
    shared: Arc<Shared>,
    part: Arc<str>,
    /// The phase in which this part ends.
    ends: Phase,
}

/// What all parts of a node share.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) bucket: Option<NodeBucket>,
    pub(crate) copy: Option<PathBuf>,
    pub(crate) registry: Option<Registry>,
    /// Who may drive hot reload, where there are both a bucket and a registry.
    pub(crate) gate: Option<FenceGate>,
    pub(crate) clock: Clock,
    pub(crate) phase: watch::Sender<Phase>,
    /// Sources that have not said yet that they are ready.
    pub(crate) waiting: watch::Sender<usize>,
    board: Mutex<Board>,
    runner: Mutex<Option<Runner>>,
}

type Listed<T> = Box<dyn Fn() -> Rows<T> + Send + Sync>;

/// What the parts tell of themselves.
#[derive(Default)]
struct Board {
    sources: BTreeMap<Arc<str>, SourceStatus>,
    ready: BTreeMap<Arc<str>, bool>,
    connections: BTreeMap<u64, (ConnectionStatus, Instant)>,
    next_connection: u64,
    published: Option<Listed<PublishedStatus>>,
    mounts: Option<Listed<MountStatus>>,
    listening: Option<EntityAddrs>,
    served: Option<String>,
    deadlines: Deadlines,
}

impl Shared {
    pub(crate) fn new(
        name: String,
        bucket: Option<NodeBucket>,
        copy: Option<PathBuf>,
        registry: Option<Registry>,
        sources: usize,
    ) -> Self {
        // Whoever was told to stop before a restart stays outside after it.
        let gate = bucket
            .as_ref()
            .and(registry.as_ref())
            .map(|registry| FenceGate::resume(update::NAME, registry.first_epoch()));
        Self {
            name,
            bucket,
            copy,
            registry,
            gate,
            clock: Clock::start(),
            phase: watch::Sender::new(Phase::Serving),
            waiting: watch::Sender::new(sources),
            board: Mutex::default(),
            runner: Mutex::default(),
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // Plain records: a panic in between leaves nothing that could mislead.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stage(&self) -> Stage {
        match (*self.phase.borrow(), *self.waiting.borrow()) {
            (Phase::Serving, 0) => Stage::Serving,
            (Phase::Serving, _) => Stage::CatchingUp,
            _ => Stage::Stopping,
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        *self.phase.borrow() != Phase::Serving
    }

    pub(crate) fn listening(&self, addrs: &EntityAddrs) {
        self.board().listening = Some(addrs.clone());
    }

    pub(crate) fn serving_http(&self, address: String) {
        self.board().served = Some(address);
    }

    pub(crate) fn set_deadlines(&self, deadlines: Deadlines) {
        self.board().deadlines = deadlines;
    }

    pub(crate) fn deadlines(&self) -> Deadlines {
        self.board().deadlines
    }

    /// Where links are accepted, and where HTTP is served.
    pub(crate) fn addresses(&self) -> (Option<EntityAddrs>, Option<String>) {
        let board = self.board();
        (board.listening.clone(), board.served.clone())
    }

    /// Starts the threads that put the bucket on its disk.
    pub(crate) fn start_runner(&self) -> Result<(), Error> {
        if let Some(bucket) = &self.bucket {
            let clock = self.clock;
            *self.runner() = Some(bucket.run(RunnerConfig::default(), move || now(&clock))?);
        }
        Ok(())
    }

    /// Those threads, until they are stopped.
    pub(crate) fn runner(&self) -> MutexGuard<'_, Option<Runner>> {
        self.runner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the disk does not take what it is given, while it does not.
    fn disk_error(&self) -> Option<String> {
        match self.runner().as_ref()?.status().flusher {
            FlusherState::Retrying { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Everything, at this moment.
    pub(crate) fn status(&self) -> Status {
        let board = self.board();
        let here = self.clock.now();
        let millis = |since: Instant| u64::try_from((here - since).as_millis()).unwrap_or(u64::MAX);
        let late: Vec<_> =
            board.ready.iter().filter(|(_, ready)| !**ready).map(|(name, _)| &**name).collect();
        let detail = match *self.phase.borrow() {
            Phase::Serving if late.is_empty() => String::new(),
            Phase::Serving => format!("waiting for {}", late.join(", ")),
            phase => phase.name().into(),
        };
        let connections = board.connections.values().map(|(status, since)| {
            let age_ms = millis(*since);
            ConnectionStatus { age_ms, ..status.clone() }
        });
        let mut status = Status {
            node: NodeStatus {
                name: self.name.clone(),
                version: env!("CARGO_PKG_VERSION").into(),
                stage: self.stage(),
                detail,
                uptime_ms: millis(Instant::ZERO),
            },
            sources: board.sources.values().cloned().collect(),
            connections: connections.collect(),
            ..Status::default()
        };
        if let Some(published) = &board.published {
            status.published = published();
        }
        if let Some(mounts) = &board.mounts {
            status.mounts = mounts();
        }
        if let Some(bucket) = &self.bucket {
            (status.buckets, status.update) = report::of_bucket(bucket, self.disk_error(), here);
        }
        status
    }
}

impl Ground {
    pub(crate) fn new(shared: Arc<Shared>, part: &str, ends: Phase) -> Self {
        Self { shared, part: part.into(), ends }
    }

    /// What the node is called.
    pub fn node(&self) -> &str {
        &self.shared.name
    }

    /// What this part is called.
    pub fn part(&self) -> &str {
        &self.part
    }

    /// The node's bucket, if it has one.
    pub fn bucket(&self) -> Option<&NodeBucket> {
        self.shared.bucket.as_ref()
    }

    /// The directory of the node's copy, if it has one.
    pub fn copy(&self) -> Option<&Path> {
        self.shared.copy.as_deref()
    }

    /// The node's token registry, if it has one.
    pub fn registry(&self) -> Option<&Registry> {
        self.shared.registry.as_ref()
    }

    /// The time since the node was built.
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// The time, as a bucket wants it.
    pub fn now(&self) -> Now {
        now(&self.shared.clock)
    }

    /// Whether the node has begun to end: who comes now is turned away.
    pub fn is_ending(&self) -> bool {
        self.shared.is_ending()
    }

    /// Ends when this part has to end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn stopping(&self) {
        let mut phase = self.shared.phase.subscribe();
        // Its sender is in `shared`, so it cannot be gone.
        let _ = phase.wait_for(|phase| *phase >= self.ends).await;
    }

    /// This source has brought what there was when it started. Repeated calls change nothing.
    pub fn ready(&self) {
        let was = self.shared.board().ready.insert(Arc::clone(&self.part), true);
        if was == Some(false) {
            self.shared.waiting.send_modify(|waiting| *waiting -= 1);
            tracing::info!(part = %self.part, "ready");
        }
    }

    /// Ends when every source is ready.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn all_ready(&self) {
        let mut waiting = self.shared.waiting.subscribe();
        let _ = waiting.wait_for(|waiting| *waiting == 0).await;
    }

    /// Changes what the status shows of this source.
    pub fn source(&self, change: impl FnOnce(&mut SourceStatus)) {
        let mut board = self.shared.board();
        let row = board.sources.entry(Arc::clone(&self.part)).or_insert_with(|| SourceStatus {
            name: self.part.to_string(),
            kind: self.part.to_string(),
            ..SourceStatus::default()
        });
        change(row);
    }

    /// Shows a link in the status for as long as the answer lives.
    pub fn connection(&self, status: ConnectionStatus) -> Shown {
        let mut board = self.shared.board();
        let id = board.next_connection;
        board.next_connection += 1;
        if board.connections.len() < CONNECTIONS_MAX {
            board.connections.insert(id, (status, self.shared.clock.now()));
        }
        Shown { shared: Arc::clone(&self.shared), id }
    }

    /// Shows in the status what `rows` says is announced.
    pub fn published(&self, rows: impl Fn() -> Rows<PublishedStatus> + Send + Sync + 'static) {
        self.shared.board().published = Some(Box::new(rows));
    }

    /// Shows in the status what `rows` says is mounted in the node's own table.
    pub fn mounts(&self, rows: impl Fn() -> Rows<MountStatus> + Send + Sync + 'static) {
        self.shared.board().mounts = Some(Box::new(rows));
    }

    pub(crate) fn expect_ready(&self) {
        self.shared.board().ready.insert(Arc::clone(&self.part), false);
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ground")
            .field("node", &self.shared.name)
            .field("part", &self.part)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A link that the status shows; dropping this takes it away.
#[derive(Debug)]
#[must_use = "the link is shown as long as this lives"]
pub struct Shown {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.shared.board().connections.remove(&self.id);
    }
}
