//! Sessions with real monitors, and the real command and a fresh monitor as who dials us.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use cuttlebone_driver::{Clock, Connection, DriverLimits, Listener, Peers, dial, nonce};
use cuttlebone_link::{AcceptConfig, DialConfig};
use cuttlebone_machine::Machine;
use cuttlebone_mon::{
    Command, CommandAck, EncodedMonMap, MonInfo, MonMap, PaxosWindow, Request, Responder, ResponderConfig,
    ResponderOutput, Session, SessionConfig, SessionInput, SessionOutput, Subscription,
};
use cuttlebone_testkit::{Cluster, Proxy, ProxyConfig};
use cuttlebone_wire::{EntityAddr, Features};
use {cuttlebone_link as link, cuttlebone_mon as mon};

/// No step of these tests takes a real monitor longer.
const STEP_MAX: Duration = Duration::from_secs(20);

/// A session and the link that it uses; a lossy link ends with its connection, and another one is dialled.
struct Talk {
    session: Session,
    target: EntityAddr,
    at: SocketAddr,
    connection: Connection,
    clock: Clock,
}

fn connect(target: &EntityAddr, at: SocketAddr) -> Connection {
    let config = DialConfig::client("admin", target.clone(), nonce());
    let (connection, driver) = dial(config, at, DriverLimits::default());
    tokio::spawn(driver);
    connection
}

impl Talk {
    fn start(cluster: &Cluster, config: SessionConfig, through: Option<SocketAddr>) -> Result<Self> {
        let target = cluster.mon("a").addr();
        let at = through.or(target.socket_addr()).context("a monitor has an address")?;
        let connection = connect(&target, at);
        Ok(Self { session: Session::new(config), target, at, connection, clock: Clock::start() })
    }

    /// The session's next event.
    async fn next(&mut self) -> Result<mon::Event> {
        loop {
            while let Some(output) = self.session.poll_output() {
                match output {
                    // What a closed link does not take is sent again over the next one.
                    SessionOutput::Send(message) => drop(self.connection.send(message).await),
                    SessionOutput::Event(event) => return Ok(event),
                }
            }
            let deadline = self.session.poll_timeout();
            tokio::select! {
                event = self.connection.recv() => match event {
                    Some(link::Event::Ready(ready)) => self.tell(SessionInput::Connected(ready.features)),
                    Some(link::Event::Message(message)) => self.tell(SessionInput::Message(message)),
                    Some(link::Event::Lost(_) | link::Event::Reset) => self.tell(SessionInput::Disconnected),
                    Some(link::Event::Closed(_)) | None => {
                        self.tell(SessionInput::Disconnected);
                        self.connection = connect(&self.target, self.at);
                    }
                },
                () = tokio::time::sleep_until(self.clock.at(deadline.unwrap_or_default())), if deadline.is_some() => {
                    self.session.handle_timeout(self.clock.now());
                }
                () = tokio::time::sleep(STEP_MAX) => bail!("nothing came"),
            }
        }
    }

    fn tell(&mut self, input: SessionInput) {
        self.session.handle(self.clock.now(), input);
    }

    async fn run(&mut self, json: &str) -> Result<CommandAck> {
        let tid = self.session.command(self.clock.now(), json.to_owned(), "")?;
        loop {
            match self.next().await? {
                mon::Event::Command(answered, ack) if answered == tid => return Ok(ack),
                mon::Event::Map(..) | mon::Event::Config(_) => {}
                other => bail!("unexpected {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_monitor_answers_maps_versions_and_commands_and_some_questions_never() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let config = SessionConfig { request_timeout: Duration::from_secs(2), ..SessionConfig::default() };
    let mut talk = Talk::start(&cluster, config, None)?;
    let now = talk.clock.now();
    talk.session.subscribe("config", Subscription::default())?;
    let asked = talk.session.get_map(now)?;
    let mut map = None;
    let mut configured = false;
    while map.is_none() || !configured {
        match talk.next().await? {
            mon::Event::Map(tid, found) => {
                assert_eq!(tid, Some(asked));
                map = Some(found.map.decode());
            }
            mon::Event::Config(_) => configured = true,
            other => bail!("unexpected {other:?}"),
        }
    }
    let map = map.context("a map")?;
    assert_eq!(map.fsid, cluster.fsid());
    assert_eq!(map.addrs_of_rank(0), Some(cluster.mon("a").addrs()));
    assert_eq!(map.min_mon_release, 16);

    let status = talk.run(r#"{"prefix": "mon dump", "format": "json"}"#).await?;
    assert_eq!(status.result, 0);
    let dump: serde_json::Value = serde_json::from_slice(&status.output)?;
    assert_eq!(dump["epoch"], map.epoch);
    let unknown = talk.run(r#"{"prefix": "no such command"}"#).await?;
    assert_eq!((unknown.result, unknown.status_text().as_ref()), (-22, "command not known"));

    let known = talk.session.get_version(talk.clock.now(), "monmap")?;
    let unheard_of = talk.session.get_version(talk.clock.now(), "unheard-of")?;
    let mon::Event::Version(tid, reply) = talk.next().await? else { bail!("expected a version") };
    assert_eq!((tid, reply.version), (known, map.epoch.into()));
    assert_eq!(talk.next().await?, mon::Event::TimedOut(unheard_of));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_survive_a_connection_that_is_cut_again_and_again() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let target = cluster.mon("a").addr().socket_addr().context("an address")?;
    let proxy = Proxy::start(target, ProxyConfig::default())?;
    let mut talk = Talk::start(&cluster, SessionConfig::default(), Some(proxy.addr()))?;
    talk.session.get_map(talk.clock.now())?;
    talk.next().await?;
    for i in 0..20 {
        if i % 4 == 3 {
            proxy.cut();
        }
        let set = format!(r#"{{"prefix": "config-key set", "key": "cut/{i}", "val": "{i}"}}"#);
        assert_eq!(talk.run(&set).await?.result, 0);
    }
    assert!(proxy.accepted() > 3, "{} connections", proxy.accepted());
    let keys = talk.run(r#"{"prefix": "config-key ls", "format": "json"}"#).await?;
    assert_eq!(serde_json::from_slice::<Vec<String>>(&keys.output)?.len(), 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_deliver_what_changes() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let mut talk = Talk::start(&cluster, SessionConfig::default(), None)?;
    talk.session.subscribe("config", Subscription::default())?;
    let mon::Event::Config(before) = talk.next().await? else { bail!("expected the configuration") };
    let option = bytes::Bytes::from_static(b"debug_ms");
    assert!(!before.options.contains_key(&option));
    let set = r#"{"prefix": "config set", "who": "client", "name": "debug_ms", "value": "3"}"#;
    talk.session.command(talk.clock.now(), set, "")?;
    // The change and the answer to who made it come in any order.
    let (mut answered, mut changed) = (false, false);
    while !(answered && changed) {
        match talk.next().await? {
            mon::Event::Command(_, ack) => {
                assert_eq!(ack.result, 0, "{}", ack.status_text());
                answered = true;
            }
            mon::Event::Config(after) => {
                changed = after.options.get(&option).is_some_and(|value| value.starts_with(b"3"));
            }
            // Asked for by the session, which has to know whose command it is.
            mon::Event::Map(..) => {}
            other => bail!("unexpected {other:?}"),
        }
    }
    Ok(())
}

/// A provider without a store: it answers, and hands commands to `run`.
struct Answering {
    config: ResponderConfig,
    at: SocketAddr,
    peers: Peers,
}

impl Answering {
    async fn start(cluster: &Cluster, window: PaxosWindow) -> Result<Self> {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let at = listener.local_addr()?;
        let (peers, driver) =
            listener.serve(AcceptConfig::monitor(EntityAddr::v2(at)), DriverLimits::default());
        tokio::spawn(driver);
        let mut map = MonMap::default();
        map.fsid = cluster.fsid();
        map.epoch = 1;
        map.min_mon_release = 16;
        map.persistent_features = 0xff;
        map.election_strategy = 1;
        map.mons.insert("us".into(), MonInfo::new("us", EntityAddr::v2(at).into()));
        map.ranks.push("us".into());
        let config = ResponderConfig {
            fsid: cluster.fsid(),
            name: "us".into(),
            map: EncodedMonMap::try_from(&map)?,
            window,
            config: BTreeMap::new(),
            versions: BTreeMap::new(),
        };
        Ok(Self { config, at, peers })
    }

    /// Answers every peer, for ever; commands are run on `cluster`.
    async fn serve(mut self, cluster: &Cluster) -> Result<()> {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                connection = self.peers.accept() => {
                    let connection = connection.context("the listener has ended")?;
                    let talk = Talk::start(cluster, SessionConfig { fsid: cluster.fsid(), ..SessionConfig::default() }, None)?;
                    connections.spawn(answer(Responder::new(self.config.clone()), connection, talk));
                }
                Some(ended) = connections.join_next() => ended??,
            }
        }
    }
}

/// One connection to its end.
async fn answer(mut responder: Responder, mut connection: Connection, mut talk: Talk) -> Result<()> {
    let mut features = Features::empty();
    let clock = Clock::start();
    while let Some(event) = connection.recv().await {
        match event {
            link::Event::Ready(ready) => features = ready.features,
            link::Event::Message(message) => responder.handle(clock.now(), Request { features, message }),
            link::Event::Lost(_) | link::Event::Reset => {}
            link::Event::Closed(_) => return Ok(()),
        }
        while let Some(output) = responder.poll_output() {
            let message = match output {
                ResponderOutput::Send(message) => message,
                ResponderOutput::Run(Command { command, .. }, pending) => {
                    let json = String::from_utf8_lossy(command.first().context("a command")?).into_owned();
                    Responder::ack(pending, &talk.run(&json).await?)
                }
            };
            // A command line that has its answer hangs up at once.
            let _ = connection.send(message).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_command_runs_its_commands_through_us() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    cluster.config_key_set("through/us", "a value")?;
    let answering = Answering::start(&cluster, PaxosWindow { first: 2, last: 3 }).await?;
    let conf = cluster.conf().display().to_string();
    let mut command = tokio::process::Command::new("ceph");
    command.args(["-c", &conf, "-m", &format!("v2:{}", answering.at), "config-key", "get", "through/us"]);
    command.kill_on_drop(true);
    tokio::select! {
        ended = answering.serve(&cluster) => bail!("serving ended: {ended:?}"),
        output = tokio::time::timeout(STEP_MAX, command.output()) => {
            let output = output.context("the command hangs")??;
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "a value", "{output:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_monitor_takes_our_answer_and_wants_to_synchronise() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    // Its paxos window would be replayed if its first version were 1; the reply shows 2.
    let answering = Answering::start(&cluster, PaxosWindow { first: 1, last: 700 }).await?;
    let fresh = cluster.fresh_mon("x", &[("us", &EntityAddr::v2(answering.at).into())])?;
    fresh.start()?;
    let watched = std::sync::Arc::clone(&fresh);
    let log = tokio::task::spawn_blocking(move || watched.wait_for_log(0, "sync_start", STEP_MAX));
    tokio::select! {
        ended = answering.serve(&cluster) => bail!("serving ended: {ended:?}"),
        line = log => assert!(line??.contains("full"), "the whole store, not the history"),
    }
    assert_eq!(fresh.status()?["state"], "synchronizing");
    Ok(())
}
