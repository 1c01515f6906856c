//! Peers of `mon serve` that do what no good one does.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses another part")]

use core::net::SocketAddr;
use core::time::Duration;
use std::net::TcpStream;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use cuttlebone_driver::{Connection, DriverLimits, dial, nonce};
use cuttlebone_link::{DialConfig, Event};
use cuttlebone_mon::{Body, GetMap, Map, Subscribe, Subscription};
use cuttlebone_monsync::v2::{Cookie, Message, Op};
use cuttlebone_monsync::{MESSAGE_TYPE, StoreKey, SyncKind, Version, v2::Request};
use cuttlebone_wire::{Encode, EntityAddr, EntityInst, Features, Message as Carried};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// How long an answer may take on a busy machine.
const STEP_MAX: Duration = Duration::from_secs(30);

/// What peers live in.
pub fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

/// A peer with an open session.
pub struct Peer {
    connection: Connection,
}

impl Peer {
    /// A monitor among monitors.
    pub async fn monitor(addr: &EntityAddr) -> Result<Self> {
        Self::dial(DialConfig::monitor("stranger", addr.clone(), nonce()), addr).await
    }

    /// A client.
    pub async fn client(addr: &EntityAddr) -> Result<Self> {
        Self::dial(DialConfig::client("admin", addr.clone(), nonce()), addr).await
    }

    async fn dial(config: DialConfig, addr: &EntityAddr) -> Result<Self> {
        let at = addr.socket_addr().context("no address")?;
        let (mut connection, driver) = dial(config, at, DriverLimits::default());
        tokio::spawn(driver);
        match timeout(STEP_MAX, connection.recv()).await? {
            Some(Event::Ready(_)) => Ok(Self { connection }),
            other => bail!("no session: {other:?}"),
        }
    }

    pub async fn send(&self, message: Carried) -> Result<()> {
        Ok(timeout(STEP_MAX, self.connection.send(message)).await??)
    }

    /// The next message.
    pub async fn recv(&mut self) -> Result<Carried> {
        loop {
            match timeout(STEP_MAX, self.connection.recv()).await?.context("the link is closed")? {
                Event::Message(message) => return Ok(message),
                Event::Ready(_) => {}
                other => bail!("{other:?}"),
            }
        }
    }

    /// What came before the answer to a question that is always answered.
    pub async fn everything_so_far(&mut self) -> Result<Vec<Carried>> {
        self.send(GetMap::default().message(Features::PACIFIC, 0)).await?;
        let mut all = Vec::new();
        loop {
            match self.recv().await? {
                message if message.kind == Map::KIND => return Ok(all),
                message => all.push(message),
            }
        }
    }
}

/// The question that begins a full copy.
pub fn get_cookie() -> Carried {
    Request::GetCookie(SyncKind::Full).to_message(Features::PACIFIC)
}

/// The question for a chunk.
pub fn get_chunk(cookie: Cookie) -> Carried {
    Request::GetChunk(cookie).to_message(Features::PACIFIC)
}

/// Any message of the protocol, in turn or not.
pub fn sync(op: Op, cookie: Cookie) -> Carried {
    let message = Message {
        op,
        cookie,
        last_committed: Version(5),
        last_key: StoreKey::default(),
        chunk: Bytes::new(),
        reply_to: EntityInst::default(),
    };
    sync_body(message.to_bytes(Features::PACIFIC))
}

/// Something that claims to be one.
pub fn sync_body(front: Bytes) -> Carried {
    Carried { kind: MESSAGE_TYPE, version: 2, compat_version: 2, front, ..Carried::default() }
}

/// A question with two answers.
pub fn subscribe() -> Carried {
    let what = ["config", "monmap"].map(|name| (name.into(), Subscription::default()));
    Subscribe { what: what.into(), host: "here".into() }.message(Features::PACIFIC, 0)
}

/// A monitor that begins a copy, asks for `chunks` of it, and reads none.
pub async fn asks_and_never_reads(addr: &EntityAddr, chunks: usize) -> Result<Peer> {
    let mut peer = Peer::monitor(addr).await?;
    peer.send(get_cookie()).await?;
    let answer = Message::from_message(&peer.recv().await?)?;
    for _ in 0..chunks {
        peer.send(get_chunk(answer.cookie)).await?;
    }
    Ok(peer)
}

/// Connections that never say a word.
pub fn silent(at: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    (0..count).map(|_| Ok(TcpStream::connect(at)?)).collect()
}
