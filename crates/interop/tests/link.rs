//! The link against real monitors and the real command, in both roles.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{Read, Write};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use cuttlebone_driver::{Connection, DriverLimits, Listener, Peers, dial, nonce};
use cuttlebone_link::{AcceptConfig, DialConfig, Error, Event, Policy, Ready, Start, Timing};
use cuttlebone_testkit::{Cluster, Fill, Proxy, ProxyConfig};
use cuttlebone_wire::{
    Decode, Encode, EntityAddr, EntityInst, EntityName, EntityType, Features, Message, MessageType, Priority,
    Reader, Transaction, Writer,
};
use {cuttlebone_auth as auth, cuttlebone_msgr as msgr};

/// A monitor map, and the request for one.
const MON_MAP: MessageType = MessageType(4);
const MON_GET_MAP: MessageType = MessageType(5);
/// Subscriptions.
const MON_SUBSCRIBE: MessageType = MessageType(15);
/// What a monitor that looks for others sends.
const MON_PROBE: MessageType = MessageType(67);
/// Store synchronisation.
const MON_SYNC: MessageType = MessageType(69);

/// No step of these tests takes a real monitor longer.
const STEP_MAX: Duration = Duration::from_secs(20);

fn get_map() -> Message {
    Message { kind: MON_GET_MAP, ..Message::default() }
}

/// MMonSync as the reference describes it, written by hand: the link must work below any codec.
fn sync(op: u32, cookie: u64) -> Message {
    let mut w = Writer::new(Features::PACIFIC);
    w.u32(op);
    w.u64(cookie);
    w.u64(0);
    w.blob(b"");
    w.blob(b"");
    w.blob(b"");
    EntityInst::default().encode(&mut w);
    Message {
        kind: MON_SYNC,
        version: 2,
        compat_version: 2,
        priority: Priority::HIGH,
        front: w.into_bytes(),
        ..Message::default()
    }
}

fn spawn(config: DialConfig, at: SocketAddr) -> Connection {
    let (connection, driver) = dial(config, at, DriverLimits::default());
    tokio::spawn(driver);
    connection
}

/// Just after its first election a monitor hangs up during authentication (seen in 16.2.15); a link that is patient
/// tries until it does not.
async fn wait_until_served(addr: EntityAddr, at: SocketAddr) -> Result<()> {
    ready(&mut spawn(DialConfig::client("admin", addr, nonce()), at)).await.map(|_| ())
}

async fn next(connection: &mut Connection) -> Result<Event> {
    let event = tokio::time::timeout(STEP_MAX, connection.recv()).await.context("nothing came")?;
    event.context("the link has ended")
}

async fn ready(connection: &mut Connection) -> Result<Ready> {
    match next(connection).await? {
        Event::Ready(ready) => Ok(*ready),
        other => bail!("expected Ready, got {other:?}"),
    }
}

async fn message(connection: &mut Connection) -> Result<Message> {
    match next(connection).await? {
        Event::Message(message) => Ok(message),
        other => bail!("expected a message, got {other:?}"),
    }
}

fn target(cluster: &Cluster) -> Result<(EntityAddr, SocketAddr)> {
    let addr = cluster.mon("a").addr();
    let at = addr.socket_addr().context("a monitor has an address")?;
    Ok((addr, at))
}

#[tokio::test]
async fn a_client_gets_the_monitor_map_and_claims_its_global_id_again() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let (addr, at) = target(&cluster)?;
    let mut config = DialConfig::client("admin", addr.clone(), nonce());
    let mut connection = spawn(config.clone(), at);
    let first = ready(&mut connection).await?;
    assert_eq!((first.policy, first.start), (Policy::Lossy, Start::Fresh));
    assert!(first.peer_addrs.0.contains(&addr) && first.global_id > 0);
    assert!(first.features.contains(Features::SERVER_PACIFIC));
    connection.send(get_map()).await?;
    let map = message(&mut connection).await?;
    assert_eq!(map.kind, MON_MAP);
    assert!(map.front.len() > 100);
    connection.close().await?;

    config.identity = cuttlebone_link::Identity::Client { id: "admin".into(), global_id: first.global_id };
    config.nonce = nonce();
    let mut connection = spawn(config, at);
    assert_eq!(ready(&mut connection).await?.global_id, first.global_id);
    Ok(())
}

#[tokio::test]
async fn a_monitor_gets_a_cookie_and_a_store_of_several_hundred_megabytes() -> Result<()> {
    let fill = Fill { keys: 5000, value_bytes: 64 << 10, seed: 1 };
    let cluster = Cluster::builder().fill(fill).start()?;
    let (addr, at) = target(&cluster)?;
    let mut connection = spawn(DialConfig::monitor("puller", addr, nonce()), at);
    let ready = ready(&mut connection).await?;
    assert_eq!((ready.policy, ready.start, ready.peer_gid), (Policy::Lossless, Start::Fresh, 0));
    let mut pull = Pull::default();
    pull.run(&mut connection, |_| {}).await?;
    assert_eq!((pull.filled, pull.resumed), (5000, 0));
    connection.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_whose_connection_is_cut_again_and_again_loses_and_doubles_nothing() -> Result<()> {
    let cluster = Cluster::builder().fill(Fill { keys: 2000, value_bytes: 64 << 10, seed: 2 }).start()?;
    let (addr, at) = target(&cluster)?;
    // The monitor's own address stays in the ident; only the socket leads through the proxy.
    let proxy = Proxy::start(at, ProxyConfig::default())?;
    let mut connection = spawn(DialConfig::monitor("puller", addr, nonce()), proxy.addr());
    ready(&mut connection).await?;
    let mut pull = Pull::default();
    pull.run(&mut connection, |chunks| {
        if chunks % 20 == 10 {
            proxy.cut();
        }
    })
    .await?;
    assert_eq!(pull.filled, 2000, "every key once");
    assert!(pull.resumed >= 3, "resumed {} times over {} chunks", pull.resumed, pull.chunks);
    assert_eq!(proxy.accepted(), pull.resumed + 1);
    connection.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_was_restarted_says_that_it_has_lost_the_session() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let (addr, at) = target(&cluster)?;
    let mut connection = spawn(DialConfig::monitor("puller", addr, nonce()), at);
    ready(&mut connection).await?;
    connection.send(sync(1, 0)).await?;
    message(&mut connection).await?;
    cluster.mon("a").restart()?;
    assert!(matches!(next(&mut connection).await?, Event::Lost(_)));
    assert_eq!(next(&mut connection).await?, Event::Reset);
    assert_eq!(ready(&mut connection).await?.start, Start::Fresh);
    cluster.wait_for_quorum()?;
    connection.send(sync(1, 0)).await?;
    assert_eq!(op_and_cookie(&message(&mut connection).await?.front)?.0, 3);
    connection.close().await?;
    Ok(())
}

#[tokio::test]
async fn what_a_real_monitor_refuses_is_told_apart() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let (addr, at) = target(&cluster)?;
    let once = Timing { give_up_after: Duration::ZERO, ..Timing::default() };
    let base = DialConfig { timing: once, ..DialConfig::client("admin", addr.clone(), nonce()) };
    wait_until_served(addr.clone(), at).await?;

    let wrong_type = DialConfig { peer: EntityType::MDS, ..base.clone() };
    assert_eq!(
        refused(wrong_type, at).await?,
        Error::Messenger(msgr::Error::PeerType { expected: EntityType::MDS, found: EntityType::MON })
    );
    let few = DialConfig { features: Features::ADDR2, ..base.clone() };
    let error = refused(few, at).await?;
    let Error::Messenger(msgr::Error::MissingFeatures(missing)) = error else {
        bail!("features should be missing, got {error:?}");
    };
    assert!(!missing.is_empty() && !missing.contains(Features::ADDR2));
    // A monitor closes without a word if it is called by an address that is not its own.
    let misdirected = DialConfig { target: EntityAddr { nonce: 1, ..addr }, ..base.clone() };
    assert_eq!(refused(misdirected, at).await?, Error::Disconnected { during: "opening the session" });
    let nobody = SocketAddr::from(([127, 0, 0, 1], cuttlebone_testkit::free_port()?));
    assert_eq!(refused(base, nobody).await?, Error::Disconnected { during: "dialling" });
    Ok(())
}

/// Offered first, to be refused by a monitor that has AUTH_NONE only.
#[derive(Debug)]
struct NotWanted;

impl auth::ClientMethod for NotWanted {
    fn id(&self) -> auth::MethodId {
        auth::MethodId::CEPHX
    }
    fn begin(&mut self, _claim: &auth::Claim) -> Bytes {
        Bytes::new()
    }
    fn more(&mut self, _question: &Bytes) -> Result<Bytes, auth::Error> {
        Err(auth::Error::Unexpected("a question"))
    }
    fn done(&mut self, _payload: &Bytes) -> Result<auth::SessionKey, auth::Error> {
        Err(auth::Error::Unexpected("an end"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_method_is_followed_by_an_allowed_one_on_the_same_connection() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let (addr, at) = target(&cluster)?;
    wait_until_served(addr.clone(), at).await?;
    let claim = auth::Claim {
        form: auth::Form::Monitor,
        name: EntityName::new(EntityType::CLIENT, "admin"),
        global_id: 0,
    };
    let mut client =
        auth::Client::new(claim, vec![Box::new(NotWanted), Box::new(auth::NoneClient::default())]);
    let mut stream = std::net::TcpStream::connect(at)?;
    stream.set_read_timeout(Some(STEP_MAX))?;
    let mut shake = msgr::Handshake::dialling(msgr::Identity::Client, addr, msgr::Limits::default());
    let (mut inbound, mut refusals) = (BytesMut::new(), 0);
    loop {
        while let Some(bytes) = shake.poll_transmit() {
            stream.write_all(&bytes)?;
        }
        let Some(event) = shake.handle_bytes(&mut inbound)? else {
            let mut piece = [0; 4096];
            let n = stream.read(&mut piece)?;
            anyhow::ensure!(n > 0, "the monitor hung up");
            inbound.extend_from_slice(&piece[..n]);
            continue;
        };
        let request = match event {
            msgr::HandshakeEvent::Hello(_) => client.start()?,
            msgr::HandshakeEvent::Auth(msgr::AuthFrame::BadMethod { method, result, allowed, .. }) => {
                refusals += 1;
                let allowed: Vec<_> = allowed.iter().map(|method| auth::MethodId(method.0)).collect();
                client.on_bad_method(auth::MethodId(method.0), result, &allowed)?
            }
            msgr::HandshakeEvent::Auth(msgr::AuthFrame::Done { global_id, payload, .. }) => {
                client.on_done(global_id, &payload)?;
                assert!(client.claim().global_id > 0);
                shake.sign(msgr::Signatures { ours: [0; 32], theirs: [0; 32] })?;
                continue;
            }
            msgr::HandshakeEvent::Signed => break,
            other @ msgr::HandshakeEvent::Auth(_) => bail!("unexpected {other:?}"),
        };
        shake.send_auth(&msgr::AuthFrame::Request {
            method: msgr::AuthMethod(request.method.0),
            modes: vec![msgr::Mode::CRC],
            payload: request.payload,
        })?;
    }
    assert_eq!(refusals, 1);
    Ok(())
}

/// A listener on loopback as a monitor that is known by `announced`, or by the address it is bound to.
async fn listen(announced: Option<SocketAddr>) -> Result<(Peers, SocketAddr)> {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let bound = listener.local_addr()?;
    let config = AcceptConfig::monitor(EntityAddr::v2(announced.unwrap_or(bound)));
    let (peers, driver) = listener.serve(config, DriverLimits::default());
    tokio::spawn(driver);
    Ok((peers, bound))
}

async fn accept(peers: &mut Peers) -> Result<Connection> {
    tokio::time::timeout(STEP_MAX, peers.accept()).await.context("nobody came")?.context("closed")
}

#[tokio::test]
async fn the_real_command_shakes_hands_with_us_and_asks_for_the_map() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    let (mut peers, at) = listen(None).await?;
    let _command = tokio::process::Command::new("ceph")
        .args(["-c", &cluster.conf().display().to_string(), "-m", &format!("v2:{at}"), "-s"])
        .kill_on_drop(true)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let mut connection = accept(&mut peers).await?;
    let ready = ready(&mut connection).await?;
    assert_eq!((ready.peer_type, ready.policy), (EntityType::CLIENT, Policy::Lossy));
    assert_eq!(ready.peer_name, Some(EntityName::new(EntityType::CLIENT, "admin")));
    assert!(ready.global_id > 0 && ready.features == Features::PACIFIC);
    let mut kinds = vec![message(&mut connection).await?.kind];
    kinds.push(message(&mut connection).await?.kind);
    kinds.sort();
    assert_eq!(kinds, [MON_GET_MAP, MON_SUBSCRIBE]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_monitor_dials_us_and_resumes_its_session_after_a_cut() -> Result<()> {
    let cluster = Cluster::builder().start()?;
    // It knows us by the proxy's address, so that its connections can be cut.
    let (mut peers, proxy) = {
        let reserved = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let proxy = Proxy::start(reserved.local_addr()?, ProxyConfig::default())?;
        let config = AcceptConfig::monitor(EntityAddr::v2(proxy.addr()));
        let (peers, driver) = reserved.serve(config, DriverLimits::default());
        tokio::spawn(driver);
        (peers, proxy)
    };
    let fresh = cluster.fresh_mon("x", &[("us", &EntityAddr::v2(proxy.addr()).into())])?;
    fresh.start()?;
    let mut connection = accept(&mut peers).await?;
    let first = ready(&mut connection).await?;
    assert_eq!((first.policy, first.start), (Policy::Lossless, Start::Fresh));
    assert_eq!(first.peer_name, Some(EntityName::new(EntityType::MON, "x")));
    assert_eq!(message(&mut connection).await?.kind, MON_PROBE);
    for _ in 0..3 {
        proxy.cut();
        let mut resumed = false;
        loop {
            match next(&mut connection).await? {
                Event::Lost(_) => {}
                Event::Ready(ready) => {
                    assert_eq!(ready.start, Start::Resumed);
                    assert_eq!(ready.peer_name, first.peer_name);
                    resumed = true;
                }
                // It probes every two seconds. A gap or a double would end the link.
                Event::Message(message) => {
                    assert_eq!(message.kind, MON_PROBE);
                    if resumed {
                        break;
                    }
                }
                other => bail!("unexpected {other:?}"),
            }
        }
    }
    Ok(())
}

/// Why a link ended before it was ready.
async fn refused(config: DialConfig, at: SocketAddr) -> Result<Error> {
    let mut connection = spawn(config, at);
    match next(&mut connection).await? {
        Event::Closed(Err(error)) => Ok(error),
        other => bail!("expected a refusal, got {other:?}"),
    }
}

/// A full synchronisation with a window of four.
#[derive(Debug, Default)]
struct Pull {
    /// Keys of the fill that arrived.
    filled: usize,
    chunks: usize,
    resumed: usize,
}

impl Pull {
    async fn run(&mut self, connection: &mut Connection, mut on_chunk: impl FnMut(usize)) -> Result<()> {
        connection.send(sync(1, 0)).await?;
        let reply = message(connection).await?;
        let (op, cookie) = op_and_cookie(&reply.front)?;
        assert_eq!(op, 3, "a cookie");
        for _ in 0..4 {
            connection.send(sync(4, cookie)).await?;
        }
        loop {
            let chunk = match next(connection).await? {
                Event::Message(message) => message,
                Event::Lost(_) => continue,
                Event::Ready(ready) if ready.start == Start::Resumed => {
                    self.resumed += 1;
                    continue;
                }
                other => bail!("unexpected {other:?}"),
            };
            self.chunks += 1;
            self.filled += fill_keys(&chunk.front)?;
            on_chunk(self.chunks);
            match op_and_cookie(&chunk.front)? {
                (5, got) if got == cookie => connection.send(sync(4, cookie)).await?,
                (6, got) if got == cookie => return Ok(()),
                other => bail!("unexpected op and cookie {other:?}"),
            }
        }
    }
}

fn op_and_cookie(front: &Bytes) -> Result<(u32, u64)> {
    let mut r = Reader::new(front);
    Ok((r.u32("op")?, r.u64("cookie")?))
}

fn fill_keys(front: &Bytes) -> Result<usize> {
    let mut r = Reader::new(front);
    r.skip(20, "op, cookie, version")?;
    r.blob("prefix", 1 << 16)?;
    r.blob("key", 1 << 16)?;
    let chunk = r.blob("transaction", 1 << 26)?;
    let transaction = Transaction::decode(&mut Reader::new(&chunk))?;
    Ok(transaction.ops.iter().filter(|op| op.key.starts_with(b"fill/")).count())
}
