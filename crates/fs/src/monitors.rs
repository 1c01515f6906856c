use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use cuttlebone_driver::{Clock, Connection, OsEntropy, dial};
use cuttlebone_link::{Backoff, DialConfig, Event as LinkEvent, Identity, Timing};
use cuttlebone_machine::{Instant, Machine};
use cuttlebone_mds::{FsMapUserMessage, MdsMap, MdsMapMessage};
use cuttlebone_mon::{
    Body, Event, Session, SessionConfig, SessionInput, SessionOutput, StatFsReply, Subscription, Tid,
};
use cuttlebone_wire::{EntityAddrs, Message};
use tokio::sync::{mpsc, oneshot};

use crate::{Error, FsConfig};

/// What one monitor is given before the next one is tried.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);
/// The longest pause after every monitor has been tried in vain: a reconnecting MDS waits 45 s for us, and we hear of
/// it from a monitor.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// The shortest.
const PAUSE_FIRST: Duration = Duration::from_millis(200);

/// The names and numbers of all file systems, among subscriptions.
///
/// Source: `torvalds/linux:net/ceph/mon_client.c`, `ceph_sub_str`; seen in 16.2.15.
const FS_NAMES: &str = "fsmap.user";

/// What the monitors have said.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A session is open; this is our number, and from the first time on always the same.
    Joined(u64),
    /// A new map of the file system's metadata servers.
    Map(Box<MdsMap>),
    /// A monitor could not be used. Others are tried.
    Lost(Error),
    /// What was asked for does not exist. The end.
    NoFileSystem(String),
}

/// A question for the monitors that an operation needs.
#[derive(Debug)]
pub(crate) struct HowFull {
    pub(crate) pool: Option<i64>,
    pub(crate) answer: oneshot::Sender<StatFsReply>,
}

/// Keeps a session with one of the monitors, for as long as somebody listens.
///
/// A metadata server never waits for it, but what the maps tell has to arrive within the reconnect window of an MDS. So
/// nothing in here waits for anything but the monitors themselves.
pub(crate) struct Monitors {
    config: Arc<FsConfig>,
    nonce: u32,
    heard: mpsc::Sender<Heard>,
    questions: mpsc::Receiver<HowFull>,
    session: Session,
    clock: Clock,
    backoff: Backoff,
    /// Which monitor is next.
    next: usize,
    redial_at: Option<Instant>,
    connection: Option<Connection>,
    /// What broke the last connection.
    lost: Option<cuttlebone_link::Error>,
    global_id: u64,
    asked: BTreeMap<Tid, oneshot::Sender<StatFsReply>>,
    /// What the file system's map is called among subscriptions; empty before that is known.
    map_name: String,
}

impl Monitors {
    pub(crate) fn new(
        config: Arc<FsConfig>,
        nonce: u32,
        heard: mpsc::Sender<Heard>,
        questions: mpsc::Receiver<HowFull>,
    ) -> Self {
        let host = config.metadata.get("hostname").cloned().unwrap_or_default();
        let mut session = Session::new(SessionConfig { host, ..SessionConfig::default() });
        // One subscription is far below any limit.
        let _ = session.subscribe(FS_NAMES, Subscription { start: 0, flags: Subscription::ONE_TIME });
        Self {
            config,
            nonce,
            heard,
            questions,
            session,
            clock: Clock::start(),
            backoff: Backoff::new(PAUSE_FIRST, PAUSE_MAX),
            next: 0,
            redial_at: Some(Instant::ZERO),
            connection: None,
            lost: None,
            global_id: 0,
            asked: BTreeMap::new(),
            map_name: String::new(),
        }
    }

    /// Runs until nobody listens any more.
    pub(crate) async fn run(mut self) {
        while self.step().await.is_some() {}
        if let Some(connection) = self.connection {
            // How it ends does not matter any more.
            let _ = connection.close().await;
        }
    }

    /// One thing that happens; `None` at the end.
    async fn step(&mut self) -> Option<()> {
        while let Some(output) = self.session.poll_output() {
            match output {
                SessionOutput::Send(message) => {
                    if let Some(connection) = &self.connection {
                        // A link that is closed says so in its last event.
                        let _ = connection.send(message).await;
                    }
                }
                SessionOutput::Event(event) => self.on_event(event).await?,
            }
        }
        let (wake, redial_at) = (self.session.poll_timeout(), self.redial_at);
        tokio::select! {
            event = next_event(&mut self.connection) => self.on_link(event).await?,
            question = self.questions.recv() => {
                let HowFull { pool, answer } = question?;
                // Refused when too many wait: the asker sees its question dropped.
                if let Ok(tid) = self.session.statfs(self.clock.now(), pool) {
                    self.asked.insert(tid, answer);
                }
            }
            () = until(&self.clock, wake) => self.session.handle_timeout(self.clock.now()),
            () = until(&self.clock, redial_at) => self.dial().await?,
            () = self.heard.closed() => return None,
        }
        Some(())
    }

    async fn dial(&mut self) -> Option<()> {
        self.redial_at = None;
        let count = self.config.monitors.len().max(1);
        let chosen = self.config.monitors.get(self.next % count);
        let address = chosen.and_then(|addrs| addrs.msgr2()).cloned();
        self.next = (self.next + 1) % count;
        let Some((address, at)) = address.and_then(|address| Some((address.clone(), address.socket_addr()?)))
        else {
            let address = chosen.map(EntityAddrs::legacy_or_first).unwrap_or_default();
            return self.lost(Error::NotDiallable(address)).await;
        };
        let config = DialConfig {
            identity: Identity::Client { id: self.config.id.clone(), global_id: self.global_id },
            timing: Timing { give_up_after: ATTEMPT_MAX, ..self.config.timing },
            limits: self.config.link_limits,
            ..DialConfig::client(&self.config.id, address, self.nonce)
        };
        let at = self.config.detours.get(&at).copied().unwrap_or(at);
        let (connection, driver) = dial(config, at, self.config.driver_limits);
        tokio::spawn(driver);
        self.connection = Some(connection);
        Some(())
    }

    async fn on_link(&mut self, event: Option<LinkEvent>) -> Option<()> {
        let now = self.clock.now();
        match event {
            Some(LinkEvent::Ready(ready)) => {
                self.lost = None;
                self.backoff.reset();
                self.global_id = ready.global_id;
                self.session.handle(now, SessionInput::Connected(ready.features));
                self.heard.send(Heard::Joined(ready.global_id)).await.ok()?;
            }
            Some(LinkEvent::Message(message)) => self.session.handle(now, SessionInput::Message(message)),
            Some(LinkEvent::Lost(error)) => {
                self.lost = Some(error);
                self.session.handle(now, SessionInput::Disconnected);
            }
            Some(LinkEvent::Reset) => self.session.handle(now, SessionInput::Disconnected),
            Some(LinkEvent::Closed(how)) => {
                let error = self.lost.take().or(how.err());
                self.lost(error.map_or(Error::MonitorGone, Error::Monitor)).await?;
            }
            None => self.lost(Error::MonitorGone).await?,
        }
        Some(())
    }

    /// The connection is of no use; after a pause, another monitor.
    async fn lost(&mut self, error: Error) -> Option<()> {
        self.connection = None;
        self.session.handle(self.clock.now(), SessionInput::Disconnected);
        // Within one round there is no pause: another monitor may be well.
        let pause =
            if self.next == 0 { self.backoff.next(&mut OsEntropy::default()) } else { Duration::ZERO };
        self.redial_at = Some(self.clock.now() + pause);
        self.heard.send(Heard::Lost(error)).await.ok()
    }

    async fn on_event(&mut self, event: Event) -> Option<()> {
        match event {
            Event::Other(message) if message.kind == MdsMapMessage::KIND => self.on_map(&message).await,
            Event::Other(message) if message.kind == FsMapUserMessage::KIND => self.on_names(&message).await,
            Event::StatFs(tid, reply) => {
                if let Some(answer) = self.asked.remove(&tid) {
                    // Whoever asked may have stopped waiting.
                    let _ = answer.send(reply);
                }
                Some(())
            }
            Event::TimedOut(tid) => {
                self.asked.remove(&tid);
                Some(())
            }
            Event::Malformed(error) => self.lost(Error::Malformed(error)).await,
            _ => Some(()),
        }
    }

    async fn on_map(&mut self, message: &Message) -> Option<()> {
        match MdsMapMessage::decode(message) {
            Ok((map, _)) => {
                self.session.has(&self.map_name, map.epoch.into());
                self.heard.send(Heard::Map(Box::new(map.map))).await.ok()
            }
            Err(error) => self.lost(Error::Malformed(error)).await,
        }
    }

    /// Finds the file system by its name, or the default one, and subscribes to its map.
    async fn on_names(&mut self, message: &Message) -> Option<()> {
        let names = match FsMapUserMessage::decode(message) {
            Ok((names, _)) => names.map,
            Err(error) => return self.lost(Error::Malformed(error)).await,
        };
        self.session.has(FS_NAMES, names.epoch.into());
        if !self.map_name.is_empty() {
            return Some(());
        }
        let wanted = self.config.fs_name.as_deref();
        let found = names.filesystems.iter().find(|fs| match wanted {
            Some(wanted) => fs.name == wanted,
            None => fs.fscid == names.default_fscid,
        });
        let Some(found) = found else {
            let name = wanted.unwrap_or_default().to_owned();
            return self.heard.send(Heard::NoFileSystem(name)).await.ok();
        };
        self.map_name = format!("mdsmap.{}", found.fscid);
        // Two subscriptions are far below any limit.
        let _ = self.session.subscribe(self.map_name.clone(), Subscription::default());
        Some(())
    }
}

/// The next event of a link; never without one.
async fn next_event(connection: &mut Option<Connection>) -> Option<LinkEvent> {
    match connection {
        Some(connection) => connection.recv().await,
        None => core::future::pending().await,
    }
}

/// Waits until a moment; for ever if there is none.
async fn until(clock: &Clock, wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(clock.at(at)).await,
        None => core::future::pending().await,
    }
}
