//! The link against real monitors and the real command, in both roles.

use core::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use cuttlebone_driver::{Connection, DriverLimits, dial, nonce};
use cuttlebone_link::{DialConfig, Event, Policy, Ready, Start};
use cuttlebone_testkit::{Cluster, Fill};
use cuttlebone_wire::{Encode, EntityInst, Features, Message, MessageType, Priority, Writer};

/// A monitor map, and the request for one.
const MON_MAP: MessageType = MessageType(4);
const MON_GET_MAP: MessageType = MessageType(5);
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

fn spawn(config: DialConfig, at: core::net::SocketAddr) -> Connection {
    let (connection, driver) = dial(config, at, DriverLimits::default());
    tokio::spawn(driver);
    connection
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

fn target(cluster: &Cluster) -> Result<(cuttlebone_wire::EntityAddr, core::net::SocketAddr)> {
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
async fn a_monitor_gets_a_cookie_and_the_whole_store() -> Result<()> {
    let fill = Fill { keys: 1000, value_bytes: 64 << 10, seed: 1 };
    let cluster = Cluster::builder().fill(fill).start()?;
    let (addr, at) = target(&cluster)?;
    let mut connection = spawn(DialConfig::monitor("puller", addr, nonce()), at);
    let ready = ready(&mut connection).await?;
    assert_eq!((ready.policy, ready.start, ready.peer_gid), (Policy::Lossless, Start::Fresh, 0));
    let (bytes, chunks) = pull(&mut connection).await?;
    assert!(bytes > 1000 * (64 << 10), "{bytes} bytes in {chunks} chunks");
    connection.close().await?;
    Ok(())
}

/// Pulls everything with a window of four, and gives the bytes and the number of chunks.
async fn pull(connection: &mut Connection) -> Result<(usize, usize)> {
    connection.send(sync(1, 0)).await?;
    let reply = message(connection).await?;
    let (op, cookie) = op_and_cookie(&reply.front)?;
    assert_eq!(op, 3, "a cookie");
    for _ in 0..4 {
        connection.send(sync(4, cookie)).await?;
    }
    let (mut bytes, mut chunks) = (0, 0);
    loop {
        let chunk = message(connection).await?;
        bytes += chunk.front.len();
        chunks += 1;
        match op_and_cookie(&chunk.front)? {
            (5, got) if got == cookie => connection.send(sync(4, cookie)).await?,
            (6, got) if got == cookie => return Ok((bytes, chunks)),
            other => bail!("unexpected op and cookie {other:?}"),
        }
    }
}

fn op_and_cookie(front: &Bytes) -> Result<(u32, u64)> {
    let op = front.first_chunk().map(|op| u32::from_le_bytes(*op)).context("an op")?;
    let cookie = front.get(4..12).and_then(|cookie| cookie.try_into().ok()).map(u64::from_le_bytes);
    Ok((op, cookie.context("a cookie")?))
}
