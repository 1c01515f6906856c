use core::fmt;
use core::time::Duration;

use cuttlebone_driver::Clock;
use cuttlebone_http::status::{PublishedStatus, Rows};
use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{Kind, Name, Namespace, Server};
use cuttlebone_publisher::{Config, EntryStatus, publisher};

use crate::part::{Phase, Running, Service};
use crate::{Error, Ground};

/// How long withdrawing may take; what could not be withdrawn lapses by its time to live.
const WITHDRAW_WITHIN: Duration = Duration::from_secs(4);

/// Announces names for as long as the node serves: from when its sources are ready until it begins to stop.
///
/// Where they are announced is any [`Namespace`]: the node's own table, another one, etcd.
pub struct Publish {
    names: Vec<Name>,
    servers: Vec<Server>,
    config: Config,
    work: Box<dyn FnOnce(Wanted, Ground) -> Running + Send>,
}

/// What is announced, and how.
struct Wanted {
    names: Vec<Name>,
    servers: Vec<Server>,
    config: Config,
}

impl Publish {
    /// Announces in `table`.
    pub fn to(table: impl Namespace) -> Self {
        let work = Box::new(move |wanted, ground| -> Running { Box::pin(announce(table, wanted, ground)) });
        Self { names: Vec::new(), servers: Vec::new(), config: Config::default(), work }
    }

    /// Under this name, and all others that were given.
    #[must_use]
    pub fn name(mut self, name: Name) -> Self {
        self.names.push(name);
        self
    }

    /// At this server, and all others that were given. Without any, where the node accepts links.
    #[must_use]
    pub fn server(mut self, server: Server) -> Self {
        self.servers.push(server);
        self
    }

    /// Period, time-outs, limits.
    #[must_use]
    pub fn with_config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("names", &self.names)
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

impl Service for Publish {
    fn name(&self) -> &'static str {
        "publisher"
    }

    fn stops(&self) -> Phase {
        Phase::Names
    }

    fn check(&self, plan: &crate::Plan) -> Result<(), crate::BuildError> {
        if self.names.is_empty() {
            return Err(crate::builder::missing(Service::name(self), "a name to announce"));
        }
        if self.servers.is_empty() && !plan.listen {
            return Err(crate::builder::missing(
                Service::name(self),
                "a server to announce, or an address to listen on",
            ));
        }
        self.config.check().map_err(|error| crate::BuildError::Refused {
            part: Service::name(self).into(),
            why: error.to_string(),
        })
    }

    fn run(self: Box<Self>, ground: Ground) -> Running {
        let Self { names, servers, config, work } = *self;
        work(Wanted { names, servers, config }, ground)
    }
}

async fn announce(table: impl Namespace, wanted: Wanted, ground: Ground) -> Result<(), Error> {
    let Wanted { names, mut servers, config } = wanted;
    tokio::select! {
        () = ground.all_ready() => {}
        () = ground.stopping() => return Ok(()),
    }
    if servers.is_empty() {
        servers.extend(own_server(&ground));
    }
    let clock = NodeClock(ground.clock());
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| Error::Other(Box::new(error)))?;
    let (publisher, driver) = publisher(config, vec![table], clock, u64::from_ne_bytes(seed))
        .map_err(|error| Error::Other(Box::new(error)))?;
    let refused = |error| Error::Other(Box::new(error));
    for server in &servers {
        drop(publisher.add_server(server).map_err(refused)?);
    }
    for name in &names {
        drop(publisher.add_name(name, Kind::Server).map_err(refused)?);
    }
    let (shown, started) = (publisher.clone(), ground.clock());
    ground.published(move || rows(&shown.status(), started.now()));
    let stop = async {
        ground.stopping().await;
        publisher.stop(clock.0.now() + WITHDRAW_WITHIN);
        publisher.closed().await
    };
    // The driver works until the publisher is closed.
    let (report, ()) = tokio::join!(stop, driver.run());
    if !report.left.is_empty() {
        tracing::warn!(part = ground.part(), left = report.left.len(), "not withdrawn; they lapse");
    }
    Ok(())
}

/// Where peers dial the node.
fn own_server(ground: &Ground) -> Option<Server> {
    let addrs = ground.shared().addresses().0?;
    let socket = addrs.msgr2()?.socket_addr()?;
    Server::parse(&socket.to_string()).ok()
}

fn rows(entries: &[EntryStatus], now: Instant) -> Rows<PublishedStatus> {
    let row = |entry: &EntryStatus| {
        let last = entry.tables.iter().filter_map(|slot| slot.last_success).max();
        let failure = entry.tables.iter().find_map(|slot| slot.last_failure.as_ref());
        PublishedStatus {
            name: entry.name.to_string(),
            server: entry.server.to_string(),
            mounted: entry.is_mounted(),
            age_ms: last.and_then(|last| u64::try_from((now - last).as_millis()).ok()),
            last_error: failure.map(ToString::to_string),
        }
    };
    entries.iter().map(row).collect()
}

/// The node's time for a publisher.
#[derive(Clone, Copy)]
struct NodeClock(Clock);

impl cuttlebone_publisher::Clock for NodeClock {
    fn now(&self) -> Instant {
        self.0.now()
    }

    async fn sleep_until(&self, at: Instant) {
        tokio::time::sleep_until(self.0.at(at)).await;
    }
}
