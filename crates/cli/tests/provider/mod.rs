//! A provider in this process whose every answer a test may change: the truth by default, lies on demand.
//!
//! It accepts links as a monitor does and speaks MMonSync by hand, so that it can say what no [`Reply`] of ours can.
//!
//! [`Reply`]: cuttlebone_monsync::v2::Reply

#![allow(dead_code, unreachable_pub, reason = "each test binary uses another part")]

use core::net::{Ipv4Addr, SocketAddr};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use anyhow::{Context, Result};
use bytes::Bytes;
use cuttlebone_driver::{Connection, DriverLimits, Listener};
use cuttlebone_link::{AcceptConfig, Event};
use cuttlebone_mon::{Body, EncodedMonMap, GetMap, Map, MonInfo, MonMap};
use cuttlebone_monsync::v2::{Cookie, Message, Op};
use cuttlebone_monsync::{MESSAGE_TYPE, StoreKey, Version};
use cuttlebone_testkit::{Proxy, ProxyConfig};
use cuttlebone_wire::{
    Encode, EntityAddr, EntityInst, Features, Message as Carried, Op as StoreOp, Transaction, Uuid,
};
use tokio::sync::oneshot;

/// What the provider does in answer to one message.
pub enum Act {
    /// Says this, whatever it is.
    Say(Message),
    /// Sends this, which may be no message at all.
    Send(Carried),
    /// Hangs up.
    HangUp,
}

/// Makes of the true answer what is done instead. The number counts answers on this connection; 0 is that to the
/// request for a monitor map, for which there is no true [`Message`].
pub type Lie = dyn Fn(usize, Option<Message>) -> Vec<Act> + Send + Sync;

/// A provider, until it is dropped.
pub struct Provider {
    addr: EntityAddr,
    plan: Arc<Mutex<Plan>>,
    proxy: Option<Proxy>,
    _until: oneshot::Sender<()>,
}

#[derive(Clone)]
struct Plan {
    fsid: Uuid,
    store: Arc<Store>,
    lie: Arc<Lie>,
}

/// A small store of a monitor, at some version.
pub struct Store {
    keys: BTreeMap<(String, String), Bytes>,
    version: u64,
}

/// Most keys of one chunk.
const CHUNK_KEYS: usize = 20;
/// Bytes of each value that is not a counter.
const VALUE_BYTES: usize = 2_000;
/// Keys that no version touches.
const STILL_KEYS: usize = 400;
/// The cluster.
pub const FSID: Uuid = Uuid([7; 16]);
/// The one cookie.
const COOKIE: Cookie = Cookie(77);

impl Store {
    /// What the monitor holds after `version` commits.
    pub fn at(version: u64) -> Self {
        let mut keys = BTreeMap::new();
        let mut put = |op: StoreOp| {
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            keys.insert((text(&op.prefix), text(&op.key)), op.value);
        };
        for n in 0..STILL_KEYS {
            put(StoreOp::put(
                "mon_config_key",
                format!("still/{n:04}"),
                vec![u8::try_from(n % 256).unwrap_or(0); VALUE_BYTES],
            ));
        }
        for version in 1..=version {
            change(version).into_iter().for_each(&mut put);
            put(StoreOp::put("paxos", version.to_string(), transaction(change(version))));
        }
        put(StoreOp::put("monmap", "1", monmap(FSID, &EntityAddr::BLANK).to_bytes(Features::PACIFIC)));
        for prefix in ["monmap", "paxos"] {
            put(StoreOp::put(prefix, "first_committed", counter(1)));
        }
        put(StoreOp::put("monmap", "last_committed", counter(1)));
        put(StoreOp::put("paxos", "last_committed", counter(version)));
        Self { keys, version }
    }

    fn full(&self) -> Vec<Message> {
        let puts = self
            .keys
            .iter()
            .map(|((prefix, key), value)| StoreOp::put(prefix.clone(), key.clone(), value.clone()));
        let puts: Vec<_> = puts.collect();
        puts.chunks(CHUNK_KEYS).map(|chunk| self.chunk(chunk.to_vec())).collect()
    }

    fn recent(&self, after: u64) -> Vec<Message> {
        let put = |version: u64| StoreOp::put("paxos", version.to_string(), transaction(change(version)));
        let versions: Vec<_> = (after + 1..=self.version).map(put).collect();
        vec![self.chunk(versions)]
    }

    fn chunk(&self, ops: Vec<StoreOp>) -> Message {
        Message {
            chunk: transaction(ops),
            cookie: COOKIE,
            last_committed: Version(self.version),
            ..message(Op::Chunk)
        }
    }
}

/// What one commit does.
fn change(version: u64) -> Vec<StoreOp> {
    let value = version.to_le_bytes().repeat(VALUE_BYTES / 8);
    vec![
        StoreOp::put("osdmap", version.to_string(), value),
        StoreOp::put("osdmap", "first_committed", counter(1)),
        StoreOp::put("osdmap", "last_committed", counter(version)),
    ]
}

fn counter(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

/// Encoded operations.
pub fn transaction(ops: Vec<StoreOp>) -> Bytes {
    Transaction::new(ops).to_bytes(Features::PACIFIC)
}

/// A message with nothing else in it.
pub fn message(op: Op) -> Message {
    Message {
        op,
        cookie: Cookie(0),
        last_committed: Version(0),
        last_key: StoreKey::default(),
        chunk: Bytes::new(),
        reply_to: EntityInst::default(),
    }
}

/// What carries a body of MMonSync.
pub fn carried(front: Bytes) -> Carried {
    Carried { kind: MESSAGE_TYPE, version: 2, compat_version: 2, front, ..Carried::default() }
}

/// The truth.
fn honest(_answer: usize, truth: Option<Message>) -> Vec<Act> {
    truth.map(Act::Say).into_iter().collect()
}

impl Provider {
    /// An honest provider of a store at `version`.
    pub fn start(version: u64) -> Result<Self> {
        Self::start_with(version, |_| Ok(None))
    }

    /// The same, reached through a network that can be made bad.
    pub fn start_behind_a_proxy(version: u64) -> Result<Self> {
        Self::start_with(version, |bound| Proxy::start(bound, ProxyConfig::default()).map(Some))
    }

    fn start_with(
        version: u64,
        network: impl FnOnce(SocketAddr) -> Result<Option<Proxy>> + Send + 'static,
    ) -> Result<Self> {
        let plan = Plan { fsid: FSID, store: Arc::new(Store::at(version)), lie: Arc::new(honest) };
        let plan = Arc::new(Mutex::new(plan));
        let (started, bound) = mpsc::sync_channel(1);
        let (until, over) = oneshot::channel();
        let serving = Arc::clone(&plan);
        thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
                let bound = listener.local_addr()?;
                let proxy = network(bound)?;
                let addr = EntityAddr::v2(proxy.as_ref().map_or(bound, Proxy::addr));
                started.send((addr.clone(), proxy))?;
                tokio::select! {
                    served = serve(listener, addr, serving) => served,
                    // By a value or by dropping the sender.
                    _ = over => Ok(()),
                }
            })
        });
        let (addr, proxy) = bound.recv().context("the provider did not start")?;
        Ok(Self { addr, plan, proxy, _until: until })
    }

    /// Where it is dialled.
    pub fn addr(&self) -> String {
        self.addr.to_string()
    }

    /// What it is reached through.
    pub fn proxy(&self) -> Result<&Proxy> {
        self.proxy.as_ref().context("it is reached directly")
    }

    /// From now on the store is at `version`, and only the truth is told.
    pub fn tell_the_truth(&self, version: u64) {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.store = Arc::new(Store::at(version));
        plan.lie = Arc::new(honest);
    }

    /// From now on it lies.
    pub fn lie(&self, lie: impl Fn(usize, Option<Message>) -> Vec<Act> + Send + Sync + 'static) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).lie = Arc::new(lie);
    }

    /// From now on it is a monitor of another cluster.
    pub fn join_cluster(&self, fsid: Uuid) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).fsid = fsid;
    }
}

async fn serve(listener: Listener, addr: EntityAddr, plan: Arc<Mutex<Plan>>) -> Result<()> {
    let mut config = AcceptConfig::monitor(addr.clone());
    // A liar does not care how large its messages are.
    config.limits.message_bytes_max = 256 << 20;
    config.limits.queue_bytes_max = 512 << 20;
    let (mut peers, driver) = listener.serve(config, DriverLimits::default());
    tokio::spawn(driver);
    while let Some(connection) = peers.accept().await {
        let plan = plan.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokio::spawn(converse(connection, plan, addr.clone()));
    }
    Ok(())
}

/// One session, to its end.
async fn converse(mut connection: Connection, plan: Plan, addr: EntityAddr) -> Result<()> {
    let mut answers = 0;
    let mut chunks = Vec::new().into_iter();
    while let Some(event) = connection.recv().await {
        let Event::Message(asked) = event else { continue };
        let acts = if asked.kind == GetMap::KIND {
            let acts = (plan.lie)(answers, None);
            if acts.is_empty() {
                connection.send(map(plan.fsid, &addr)?).await?;
            }
            acts
        } else if asked.kind == MESSAGE_TYPE {
            let truth = truth(&plan.store, &Message::from_message(&asked)?, &mut chunks);
            (plan.lie)(answers, Some(truth))
        } else {
            continue;
        };
        answers += 1;
        for act in acts {
            match act {
                Act::Say(message) => connection.send(carried(message.to_bytes(Features::PACIFIC))).await?,
                Act::Send(carried) => connection.send(carried).await?,
                Act::HangUp => return Ok(()),
            }
        }
    }
    Ok(())
}

fn map(fsid: Uuid, addr: &EntityAddr) -> Result<Carried> {
    Ok(Map { map: EncodedMonMap::try_from(&monmap(fsid, addr))? }.message(Features::PACIFIC, 0))
}

/// A cluster of one.
fn monmap(fsid: Uuid, addr: &EntityAddr) -> MonMap {
    let mut map = MonMap::default();
    map.fsid = fsid;
    map.epoch = 1;
    map.mons.insert("liar".into(), MonInfo::new("liar", addr.clone().into()));
    map.ranks.push("liar".into());
    map
}

fn truth(store: &Store, asked: &Message, chunks: &mut std::vec::IntoIter<Message>) -> Message {
    match asked.op {
        Op::GetCookieFull => {
            *chunks = store.full().into_iter();
            Message { cookie: COOKIE, last_committed: Version(store.version), ..message(Op::Cookie) }
        }
        Op::GetCookieRecent => {
            *chunks = store.recent(asked.last_committed.0).into_iter();
            Message { cookie: COOKIE, last_committed: asked.last_committed, ..message(Op::Cookie) }
        }
        _ => match chunks.next() {
            Some(chunk) if chunks.len() == 0 => Message { op: Op::LastChunk, ..chunk },
            Some(chunk) => chunk,
            None => Message { cookie: COOKIE, ..message(Op::NoCookie) },
        },
    }
}
