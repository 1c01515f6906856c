use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use cuttlebone_driver::Listener;
use cuttlebone_http::status::Status;
use cuttlebone_tokens::{Advance, Epoch, NameState, Registry};
use cuttlebone_wire::{EntityAddr, EntityAddrs};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::timeout;

use crate::Error;
use crate::builder::{Builder, Deadlines};
use crate::door::{self, GUESTS_MAX};
use crate::ground::{Ground, Shared};
use crate::part::{Guests, Phase, Running, Service, Sink, Source};
use crate::provide::driver_limits;

/// A node that is put together, and not running yet.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use cuttlebone_node::{MonSync, Node, Provider};
///
/// let monitors = vec!["v2:10.0.0.1:3300/0".parse::<cuttlebone_wire::EntityAddr>()?.into()];
/// let node = Node::builder()
///     .copy("/var/lib/cuttlebone/mon")
///     .source(MonSync::from(monitors))
///     .listen(([10, 0, 0, 9], 3300).into())
///     .sink(Provider::new())
///     .build()?;
/// node.run(core::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
pub struct Node {
    shared: Arc<Shared>,
    parts: Parts,
    door: Option<Door>,
}

/// What a node does.
pub(crate) struct Parts {
    pub(crate) sources: Vec<Box<dyn Source>>,
    pub(crate) sinks: Vec<Box<dyn Sink>>,
    pub(crate) services: Vec<Box<dyn Service>>,
}

/// Where peers open links.
pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    pub(crate) advertise: Option<EntityAddrs>,
}

/// A look at a node, from before it runs until after it has ended. Clones are of the same node.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// Everything that the status page shows of the node's own parts.
    pub fn status(&self) -> Status {
        self.0.status()
    }

    /// The addresses under which peers dial it, once it listens.
    pub fn listening(&self) -> Option<EntityAddrs> {
        self.0.addresses().0
    }

    /// Sets how long each step of the end may take, also while the node runs.
    pub fn set_deadlines(&self, deadlines: Deadlines) {
        self.0.set_deadlines(deadlines);
    }

    /// Where its HTTP face is, once it is served.
    pub fn http(&self) -> Option<String> {
        self.0.addresses().1
    }
}

impl Node {
    /// Begins to put a node together.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) const fn new(shared: Arc<Shared>, parts: Parts, door: Option<Door>) -> Self {
        Self { shared, parts, door }
    }

    /// To look at it while it runs.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Runs until `shutdown` is over, and then ends step by step: withdraws its names, gives no more tokens and waits for
    /// those that are out, ends its sources, flushes, and ends the rest; each within its [`Deadlines`].
    ///
    /// # Errors
    ///
    /// If an address cannot be bound, or a part fails: the node then ends step by step, too. [`Error::StoppedLate`] if what
    /// is in memory did not get to the disk in time.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it stops at once. What was acknowledged as durable is on the disk.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let Self { shared, parts, door } = self;
        let door = match door {
            Some(door) => Some(door.open(&shared).await?),
            None => None,
        };
        shared.start_runner()?;
        let mut work = Work { tasks: JoinSet::new(), running: HashMap::new(), failed: None };
        work.start(&shared, parts, door);
        tracing::info!(node = %shared.name, "running");
        tokio::select! {
            () = shutdown => {}
            () = work.first_failure() => {}
        }
        let flushed = work.end(&shared).await;
        tracing::info!(node = %shared.name, "stopped");
        match work.failed {
            Some(error) => Err(error),
            None => flushed,
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// A listener that is bound.
struct Opened {
    listener: Listener,
    addrs: EntityAddrs,
}

impl Door {
    async fn open(self, shared: &Shared) -> Result<Opened, Error> {
        let Self { addr, advertise } = self;
        let failed = |source| Error::Listen { addr, source };
        let listener = Listener::bind(addr).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let addrs = advertise.unwrap_or_else(|| EntityAddr::v2(bound).into());
        shared.listening(&addrs);
        tracing::info!(%addrs, "listening");
        Ok(Opened { listener, addrs })
    }
}

/// The parts at work.
struct Work {
    tasks: JoinSet<Result<(), Error>>,
    running: HashMap<Id, (String, Phase)>,
    /// The first part that failed, which is why the node ends.
    failed: Option<Error>,
}

impl Work {
    fn start(&mut self, shared: &Arc<Shared>, parts: Parts, door: Option<Opened>) {
        let ground = |name: &str, ends| Ground::new(Arc::clone(shared), name, ends);
        // Services first: who looks at the node sees it catch up.
        for service in parts.services {
            let (name, ends) = (service.name().to_owned(), service.stops());
            self.spawn(name.clone(), ends, service.run(ground(&name, ends)));
        }
        for source in &parts.sources {
            ground(source.name(), Phase::Sources).expect_ready();
        }
        for source in parts.sources {
            let name = source.name().to_owned();
            self.spawn(name.clone(), Phase::Sources, source.run(ground(&name, Phase::Sources)));
        }
        let mut hosts = Vec::new();
        for sink in parts.sinks {
            let (name, callers) = (sink.name().to_owned(), sink.callers());
            let (guests, inbox) = mpsc::channel(GUESTS_MAX);
            hosts.push((callers, guests));
            let running = sink.run(ground(&name, Phase::Services), Guests(inbox));
            self.spawn(name, Phase::Services, running);
        }
        if let Some(Opened { listener, addrs }) = door {
            let over = ground("listener", Phase::Services);
            let node = Arc::clone(shared);
            let is_open = move || !node.is_ending();
            let work = async move {
                tokio::select! {
                    () = door::receive(listener, addrs, driver_limits(), hosts, is_open) => Err(Error::Config("the listener has failed")),
                    () = over.stopping() => Ok(()),
                }
            };
            self.spawn("listener".into(), Phase::Services, Box::pin(work));
        }
    }

    fn spawn(&mut self, name: String, ends: Phase, running: Running) {
        let id = self.tasks.spawn(running).id();
        self.running.insert(id, (name, ends));
    }

    /// Ends when a part has failed. Parts that end well are none the less missed.
    async fn first_failure(&mut self) {
        loop {
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.ended(ended),
                None => return core::future::pending().await,
            }
            if self.failed.is_some() {
                return;
            }
        }
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), Error>), tokio::task::JoinError>) {
        let (id, how) = match ended {
            Ok((id, how)) => (id, how),
            Err(error) if error.is_cancelled() => (error.id(), Ok(())),
            Err(error) => {
                (error.id(), Err(Error::Config("a part broke off; its thread's output says where")))
            }
        };
        let Some((part, _)) = self.running.remove(&id) else { return };
        if let Err(error) = how {
            tracing::error!(part, error = crate::error::chain(&error), "failed");
            self.failed.get_or_insert(Error::Part { part, source: Box::new(error) });
        }
    }

    /// One phase after another. What does not end in time is dropped; only the flush is worth an error.
    async fn end(&mut self, shared: &Shared) -> Result<(), Error> {
        let deadlines = shared.deadlines();
        let mut flushed = Ok(());
        for phase in [Phase::Names, Phase::Tokens, Phase::Sources, Phase::Flush, Phase::Services] {
            shared.phase.send_replace(phase);
            let within = deadlines.of(phase);
            if phase == Phase::Tokens && timeout(within, drain(shared)).await.is_err() {
                tracing::warn!("tokens are still out, or a step of hot reload is still running");
                drop(give_no_more(shared));
            }
            if phase == Phase::Flush {
                flushed = flush(shared, within).await;
            }
            if timeout(within, self.parts_of(phase)).await.is_err() {
                self.drop_late(phase);
            }
        }
        self.tasks.shutdown().await;
        flushed
    }

    /// Ends when no part is left that ends in this phase.
    async fn parts_of(&mut self, phase: Phase) {
        while self.running.values().any(|(_, ends)| *ends == phase) {
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.ended(ended),
                None => return,
            }
        }
    }

    fn drop_late(&mut self, phase: Phase) {
        let late = self.running.values().filter(|(_, ends)| *ends == phase);
        let late: Vec<_> = late.map(|(name, _)| name.as_str()).collect();
        tracing::warn!(parts = late.join(", "), step = phase.name(), "not in time");
        // They are dropped with everything else at the end: nothing later waits for them.
        self.running.retain(|_, (_, ends)| *ends != phase);
    }
}

impl Deadlines {
    const fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Serving | Phase::Names => self.names,
            Phase::Tokens => self.tokens,
            Phase::Sources => self.sources,
            Phase::Flush => self.flush,
            Phase::Services => self.services,
        }
    }
}

/// Puts everything on the disk that may go there, and ends the threads that do so.
async fn flush(shared: &Shared, within: Duration) -> Result<(), Error> {
    let Some(runner) = shared.runner().take() else { return Ok(()) };
    // A disk that fails is tried again for almost as long as there is.
    let finishing = tokio::task::spawn_blocking(move || runner.stop(within / 10 * 9));
    match timeout(within, finishing).await {
        Ok(Ok(Ok(stopped))) => {
            if stopped.of_window > 0 {
                let mutations = stopped.of_window;
                tracing::warn!(mutations, "hot reload was on: what came since its start is not on the disk");
            }
            Ok(())
        }
        Ok(Ok(Err(error))) => Err(error.into()),
        Ok(Err(_)) => Err(Error::Config("the last flush broke off")),
        Err(_) => Err(Error::StoppedLate { step: Phase::Flush.name(), within }),
    }
}

/// Tells every owner and holder to stop, and ends when no token is out and no step of hot reload is running. From then on
/// no more of either are let in: a window completed after the flush would be said to be kept, and be lost.
async fn drain(shared: &Shared) {
    if let Some(registry) = &shared.registry {
        registry.seal();
        returned(registry).await;
    }
    if let Some(idle) = give_no_more(shared) {
        idle.await;
    }
}

/// Ends when no token is out.
async fn returned(registry: &Registry) {
    let mut events = registry.events();
    loop {
        let names = registry.snapshot(0);
        for (name, view) in &names {
            if view.state == NameState::Active {
                registry.fence(name);
            }
        }
        if names.iter().all(|(_, view)| view.outstanding == 0) || events.next().await.is_none() {
            return;
        }
    }
}

/// Closes registry and gate; what it returns ends when no step of hot reload is running.
fn give_no_more(shared: &Shared) -> Option<Advance> {
    if let Some(registry) = &shared.registry {
        registry.close();
    }
    shared.gate.as_ref().map(|gate| gate.advance(Epoch(u64::MAX)))
}
