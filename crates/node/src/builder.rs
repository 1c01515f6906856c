use core::cell::RefCell;
use core::convert::Infallible;
use core::net::SocketAddr;
use core::time::Duration;
use std::path::PathBuf;

use cuttlebone_store::Point;
use cuttlebone_wire::EntityAddrs;

use crate::{Backup, BackupConfig, BackupEvent, Error, Provide, ProvideConfig, ProvideEvent};

/// What a node consists of. Parts come in any order; [`build`](Self::build) finds every conflict, and nothing is
/// opened, bound or dialled before [`Node::run`].
#[derive(Clone, Debug, Default)]
pub struct Builder {
    copy: Option<PathBuf>,
    sources: Vec<MonSync>,
    sinks: Vec<Provider>,
}

/// Where a node's copy comes from: the monitors of a live cluster, followed for ever.
#[derive(Clone, Debug)]
pub struct MonSync {
    config: BackupConfig,
    every: Duration,
}

/// To whom a node gives its copy: fresh monitors that synchronise from it.
#[derive(Clone, Debug)]
pub struct Provider {
    config: ProvideConfig,
}

/// A node that is put together, and not running yet.
///
/// ```no_run
/// # async fn example() -> Result<(), cuttlebone_node::Error> {
/// use cuttlebone_node::{MonSync, Node, Provider};
///
/// let monitors = vec!["v2:10.0.0.1:3300/0".parse::<cuttlebone_wire::EntityAddr>().unwrap().into()];
/// let node = Node::builder()
///     .copy("/var/lib/cuttlebone/mon")
///     .source(MonSync::from(monitors))
///     .sink(Provider::listening(([10, 0, 0, 9], 3300).into()))
///     .build()?;
/// node.run(core::future::pending(), &mut |event| println!("{event:?}")).await
/// # }
/// ```
#[derive(Debug)]
pub struct Node {
    source: Option<MonSync>,
    sink: Option<Provider>,
}

/// What a node reports while it runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum NodeEvent<'a> {
    /// From its source.
    Source(BackupEvent<'a>),
    /// From its sink.
    Sink(ProvideEvent<'a>),
    /// The sink listens.
    Listening {
        /// The addresses under which monitors dial it.
        addrs: &'a EntityAddrs,
        /// The point that it serves until a newer one is made.
        point: &'a Point,
    },
}

/// How often a source looks for something new, unless it is told otherwise.
const EVERY: Duration = Duration::from_millis(500);

impl From<Vec<EntityAddrs>> for MonSync {
    /// The monitors of one cluster, any of which may be pulled from.
    fn from(monitors: Vec<EntityAddrs>) -> Self {
        Self { config: BackupConfig::new(monitors, PathBuf::new()), every: EVERY }
    }
}

impl MonSync {
    /// How to pull in detail; the directory in it is the node's.
    #[must_use]
    pub fn with_config(self, config: BackupConfig) -> Self {
        Self { config, ..self }
    }

    /// How often to look for something new. Default 500 ms.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }
}

impl Provider {
    /// Listens on `addr`, under which monitors dial us.
    pub fn listening(addr: SocketAddr) -> Self {
        Self { config: ProvideConfig::new(PathBuf::new(), addr) }
    }

    /// How to serve in detail; the directory in it is the node's.
    #[must_use]
    pub fn with_config(self, config: ProvideConfig) -> Self {
        Self { config }
    }
}

impl Builder {
    /// The directory of the node's copy.
    #[must_use]
    pub fn copy(mut self, dir: impl Into<PathBuf>) -> Self {
        self.copy = Some(dir.into());
        self
    }

    /// Where the copy comes from. Without a source, it is served as it is.
    #[must_use]
    pub fn source(mut self, source: MonSync) -> Self {
        self.sources.push(source);
        self
    }

    /// Who is given the copy. Without a sink, it is only kept current.
    #[must_use]
    pub fn sink(mut self, sink: Provider) -> Self {
        self.sinks.push(sink);
        self
    }

    /// Puts the node together.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] names the first conflict.
    pub fn build(mut self) -> Result<Node, Error> {
        let Some(copy) = self.copy else {
            return Err(Error::Config("a node needs a directory for its copy"));
        };
        if self.sources.len() > 1 {
            return Err(Error::Config("a copy has one source; it would be torn between two"));
        }
        if self.sinks.len() > 1 {
            return Err(Error::Config("a node has one provider; give it several addresses instead"));
        }
        let source = self.sources.pop().map(|mut source| {
            source.config.store.clone_from(&copy);
            source
        });
        let sink = self.sinks.pop().map(|mut sink| {
            sink.config.store = copy;
            sink
        });
        match (&source, &sink) {
            (None, None) => {
                Err(Error::Config("a node without a source and without a sink has nothing to do"))
            }
            (Some(source), _) if source.config.monitors.is_empty() => {
                Err(Error::Config("a source needs a monitor to pull from"))
            }
            _ => Ok(Node { source, sink }),
        }
    }
}

impl Node {
    /// Begins to put a node together.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Runs until `shutdown` is over: pulls what there is, then serves it and keeps it current.
    ///
    /// # Errors
    ///
    /// What ends a [`Backup`] or a [`Provide`] for good. Points that were made are intact.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it stops at once and loses no point.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        report: &mut dyn FnMut(NodeEvent<'_>),
    ) -> Result<(), Error> {
        let report = RefCell::new(report);
        let mut backup = None;
        let work = async {
            let (first_point, has_point) = tokio::sync::oneshot::channel();
            let pulling = pull(self.source, &mut backup, first_point, &report);
            let serving = serve(self.sink, has_point, &report);
            tokio::try_join!(pulling, serving)
        };
        let ended = tokio::select! {
            ended = work => ended.map(|_: (Infallible, Infallible)| ()),
            () = shutdown => Ok(()),
        };
        if let Some(backup) = backup {
            backup.close().await;
        }
        ended
    }
}

type Report<'a, 'b> = RefCell<&'a mut (dyn FnMut(NodeEvent<'_>) + 'b)>;

/// Follows the source for ever, and says when there is a point to be served.
async fn pull(
    source: Option<MonSync>,
    backup: &mut Option<Backup>,
    first_point: tokio::sync::oneshot::Sender<()>,
    report: &Report<'_, '_>,
) -> Result<Infallible, Error> {
    let mut first_point = Some(first_point);
    let mut has_point = || {
        if let Some(first_point) = first_point.take() {
            // A node without a sink does not wait for it.
            let _ = first_point.send(());
        }
    };
    let Some(source) = source else {
        has_point();
        return core::future::pending().await;
    };
    let backup = backup.insert(Backup::open(source.config)?);
    if backup.latest().is_some() {
        has_point();
    }
    let mut tell = |event: BackupEvent<'_>| {
        if matches!(event, BackupEvent::Pulled { .. }) {
            has_point();
        }
        (report.borrow_mut())(NodeEvent::Source(event));
    };
    backup.follow(source.every, &mut tell).await
}

/// Serves for ever, from the first point on.
async fn serve(
    sink: Option<Provider>,
    has_point: tokio::sync::oneshot::Receiver<()>,
    report: &Report<'_, '_>,
) -> Result<Infallible, Error> {
    let Some(sink) = sink else { return core::future::pending().await };
    // Its sender is dropped without a word only when the node ends.
    let _ = has_point.await;
    let provide = Provide::bind(sink.config).await?;
    (report.borrow_mut())(NodeEvent::Listening { addrs: provide.addrs(), point: provide.point() });
    let mut tell = |event: ProvideEvent<'_>| (report.borrow_mut())(NodeEvent::Sink(event));
    provide.run(core::future::pending(), &mut tell).await?;
    core::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monitors() -> Vec<EntityAddrs> {
        vec!["v2:127.0.0.1:1/0".parse::<cuttlebone_wire::EntityAddr>().unwrap().into()]
    }

    fn refused(builder: Builder, why: &str) {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn every_conflict_is_found_before_anything_runs() {
        let source = || MonSync::from(monitors());
        let sink = || Provider::listening(([127, 0, 0, 1], 0).into());
        refused(Node::builder().source(source()), "directory");
        refused(Node::builder().copy("x"), "nothing to do");
        refused(Node::builder().copy("x").source(source()).source(source()), "one source");
        refused(Node::builder().copy("x").sink(sink()).sink(sink()), "one provider");
        refused(Node::builder().copy("x").source(MonSync::from(Vec::new())), "monitor");
        assert!(Node::builder().sink(sink()).source(source()).copy("x").build().is_ok());
    }
}
