use core::time::Duration;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cuttlebone_bucket::engine::LogEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Mode, Now};
use cuttlebone_checkpoint::Item;
use cuttlebone_http::message::{Event, LeaseTerms, RegisterRequest, TakeoverName, TokenRequest};
use cuttlebone_http::status::Stage;
use cuttlebone_http::update::{NAME, Step};
use cuttlebone_http::{Client, ClientError, TokioClock};
use cuttlebone_mounttable::{Limits, Principal, SharedTable, Table};
use cuttlebone_node::{Face, Follow, Handle, MonSync, Node, NodeBucket, Publish, Replicas};
use cuttlebone_tokens::Registry;
use cuttlebone_wire::EntityAddrs;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The vbucket that the store goes to.
const VBUCKET: u16 = 0;
/// What the origin is announced as.
const ANNOUNCED: &str = "demo/store";

/// A node in this process.
pub(super) struct Running {
    dir: PathBuf,
    bucket: NodeBucket,
    handle: Handle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), cuttlebone_node::Error>>,
}

/// The table in which the origin is announced.
pub(super) struct Announced {
    table: SharedTable,
    who: Principal,
}

impl Announced {
    pub(super) fn new() -> Self {
        let (who, clock) = (Principal::new("demo"), cuttlebone_driver::Clock::start());
        let table = SharedTable::new(Table::new(Limits::private(), who.clone()), move || clock.now());
        Self { table, who }
    }

    /// Where the name leads.
    pub(super) fn resolve(&self) -> Option<String> {
        let found = self.table.resolve(&self.who, &ANNOUNCED.parse().ok()?).ok()?;
        found.servers.first().map(|server| server.server.to_string())
    }
}

fn open(dir: &Path) -> Result<NodeBucket> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let disk = LogEngine::open(dir)?;
    Ok(Bucket::open(disk, BucketLimits::default(), Now::default(), u64::from_ne_bytes(seed))?)
}

/// The origin: follows the provider, serves replicas, is announced, and can be driven over HTTP.
pub(super) fn origin(dir: &Path, provider: &EntityAddrs, announced: &Announced) -> Result<Running> {
    let registry = Registry::new(cuttlebone_tokens::Config::default(), TokioClock::new());
    let publish = Publish::to(announced.table.namespace(announced.who.clone())).name(ANNOUNCED.parse()?);
    let builder = Node::builder()
        .name("origin")
        .listen(([127, 0, 0, 1], 0).into())
        .source(MonSync::from(vec![provider.clone()]).every(Duration::from_millis(100)))
        .sink(Replicas::new())
        .tokens(registry)
        .publish(publish)
        .status(Face::listening("127.0.0.1:0".parse()?));
    Running::start(dir, builder)
}

/// A replica of the node that listens at `origin`.
pub(super) fn replica(dir: &Path, origin: &Running) -> Result<Running> {
    let listening = origin.handle.listening().context("the origin does not listen yet")?;
    let at = listening.msgr2().and_then(cuttlebone_wire::EntityAddr::socket_addr).context("no address")?;
    let registry = Registry::new(cuttlebone_tokens::Config::default(), TokioClock::new());
    let builder = Node::builder().name("replica").source(Follow::node(at)).tokens(registry);
    Running::start(dir, builder.status(Face::listening("127.0.0.1:0".parse()?)))
}

impl Running {
    fn start(dir: &Path, builder: cuttlebone_node::Builder) -> Result<Self> {
        let bucket = open(dir)?;
        let node = builder.bucket(bucket.clone()).build()?;
        let (handle, (stop, stopped)) = (node.handle(), oneshot::channel());
        let task = tokio::spawn(node.run(async move { drop(stopped.await) }));
        Ok(Self { dir: dir.into(), bucket, handle, stop, task })
    }

    pub(super) async fn serves(&self) -> Result<()> {
        until("the node serves", || {
            self.handle.status().node.stage == Stage::Serving && self.handle.http().is_some()
        })
        .await
    }

    pub(super) fn page(&self) -> String {
        self.handle.http().unwrap_or_default()
    }

    pub(super) fn client(&self) -> Result<Client> {
        Ok(Client::new(self.page().parse()?, None))
    }

    pub(super) async fn list(&self) -> Result<String> {
        Ok(self.client()?.list_crc(VBUCKET).await?)
    }

    /// Sets `count` keys of the demonstration itself.
    pub(super) fn write(&self, value: &str, count: u32) -> Result<()> {
        for n in 0..count {
            let item = Item::set(format!("demo\0window/{n}").as_bytes(), value.as_bytes())?;
            self.bucket.set(VBUCKET, Now::default(), item, Mode::Set)?;
        }
        Ok(())
    }

    /// Ends it without a word, as a kill does, and lets another one take over its directory.
    pub(super) async fn kill(self) -> Result<PathBuf> {
        let Self { dir, bucket, handle, stop, task } = self;
        task.abort();
        let _ = task.await;
        drop((bucket, handle, stop));
        until("the disk is let go", || LogEngine::open(&dir).is_ok()).await?;
        Ok(dir)
    }

    /// Ends it step by step.
    pub(super) async fn end(self) -> Result<()> {
        drop(self.stop);
        Ok(self.task.await??)
    }
}

pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        ensure!(Instant::now() < deadline, "{what}: not within {} s", PATIENCE.as_secs());
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Waits until both nodes list the same, and gives the list.
pub(super) async fn equal(origin: &Running, replica: &Running) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (here, there) = (origin.list().await?, replica.list().await?);
        if here == there {
            return Ok(here);
        }
        ensure!(Instant::now() < deadline, "the nodes do not become equal");
        sleep(LOOK_EVERY).await;
    }
}

/// An agent that takes its turn and dies: its fence is all that is left of it.
pub(super) async fn agent(client: &Client) -> Result<String> {
    let (lease, limit) = (LeaseTerms::Response, Some(1));
    let request = RegisterRequest { name: NAME.into(), takeover: TakeoverName::Wait, limit, lease };
    let mut owner = client.register(&request).await?;
    let Event::Registered { epoch, .. } = owner.held(|_| {}).await? else { anyhow::bail!("no registration") };
    let request = TokenRequest { epoch: Some(epoch), slots: 1, wait: true, ..TokenRequest::default() };
    let mut token = client.token(NAME, &request).await?;
    let Event::Granted { fence, .. } = token.held(|_| {}).await? else { anyhow::bail!("no token") };
    Ok(fence)
}

/// Whether what an older incarnation asks for is refused.
pub(super) async fn is_refused(client: &Client, fence: &str) -> Result<bool> {
    match client.update(Step::Revert, fence).await {
        Err(ClientError::Refused(_, problem)) => Ok(problem.error == "fenced"),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(false),
    }
}
