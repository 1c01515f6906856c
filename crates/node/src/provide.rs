use core::net::SocketAddr;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use cuttlebone_driver::{Clock, DriverLimits, Listener, OsEntropy};
use cuttlebone_link::{Event, Ready};
use cuttlebone_machine::Machine;
use cuttlebone_mon::Request;
use cuttlebone_monsync::MESSAGE_TYPE;
use cuttlebone_monsync::v2::{Dropped, PeerId, Provider, ProviderConfig, ProviderInput, ProviderOutput};
use cuttlebone_store::Point;
use cuttlebone_wire::{EntityAddr, EntityAddrs, EntityType, Features, Message, Uuid};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use crate::Error;
use crate::bound::Bound;
use crate::clock::until;
use crate::door::{self, GUESTS_MAX};
use crate::part::{Callers, Guest, Guests};
use crate::reading::{Described, Reading, Told, Turn};

/// What to serve, and where.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "knobs, set with `..ProvideConfig::new(…)`")]
pub struct ProvideConfig {
    /// The directory of the copy. Another process may keep it current meanwhile.
    pub store: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The addresses under which peers dial us, where they differ from `listen`.
    ///
    /// A monitor drops what comes from an address that it did not dial.
    pub advertise: Option<EntityAddrs>,
    /// What we are called among monitors. Default `cuttlebone`.
    pub name: String,
    /// How much a chunk holds, and how many copies may be in progress.
    pub provider: ProviderConfig,
}

impl ProvideConfig {
    /// Serves the latest point of `store` on `listen`.
    pub fn new(store: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            store: store.into(),
            listen,
            advertise: None,
            name: "cuttlebone".into(),
            provider: ProviderConfig::default(),
        }
    }
}

/// A provider: fresh monitors synchronise from it as they would from one of their own.
#[derive(Debug)]
pub struct Provide {
    listener: Listener,
    addrs: EntityAddrs,
    reading: Reading,
    described: Described,
    provider: ProviderConfig,
}

/// What a provider reports while it serves.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProvideEvent<'a> {
    /// A peer has opened a session.
    Connected {
        /// What it is.
        kind: EntityType,
        /// Where it comes from.
        addrs: &'a EntityAddrs,
    },
    /// A copy has been sent to its end, or was given up.
    Finished {
        /// Copies still in progress.
        copies: usize,
        /// Chunks sent since the start, of all copies.
        chunks: u64,
        /// Bytes of chunks sent since the start, of all copies.
        bytes: u64,
    },
    /// A peer's session is over.
    Gone {
        /// Where it came from.
        addrs: &'a EntityAddrs,
    },
    /// Something a peer sent has no meaning and was dropped.
    Dropped(&'a Dropped),
    /// The copy could not be read; the peer that asked was refused.
    Unreadable(&'a cuttlebone_store::Error),
}

/// Answers that wait for one peer. A peer that asks this much without reading is disconnected.
const REPLIES_MAX: usize = 64;
/// Questions of one peer that may be on their way to an answer, or their answers on their way out. While there are so
/// many, nothing more is read from it, so a peer that asks and never reads costs us so many chunks and no more.
const QUESTIONS_MAX: usize = 4;
/// Events of all peers that wait to be looked at.
const EVENTS_MAX: usize = 256;

impl Provide {
    /// Opens the copy, reads what peers will be told, and binds the address.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] without a readable point, [`Error::NoMonMap`] if the copy cannot seed a monitor,
    /// [`Error::Listen`], and [`Error::Config`] if it is not known under which address peers dial us.
    pub async fn bind(config: ProvideConfig) -> Result<Self, Error> {
        let (reading, described) = Reading::open(config.store, config.name)?;
        let addr = config.listen;
        let listener = Listener::bind(addr).await.map_err(|source| Error::Listen { addr, source })?;
        let bound = listener.local_addr().map_err(|source| Error::Listen { addr, source })?;
        let addrs = match config.advertise {
            Some(addrs) => addrs,
            None if bound.ip().is_unspecified() => {
                return Err(Error::Config(
                    "monitors have to be told under which address they dial us, which 0.0.0.0 does not say",
                ));
            }
            None => EntityAddr::v2(bound).into(),
        };
        Ok(Self { listener, addrs, reading, described, provider: config.provider })
    }

    /// The addresses under which peers dial us.
    pub fn addrs(&self) -> &EntityAddrs {
        &self.addrs
    }

    /// The cluster whose copy is served.
    pub fn fsid(&self) -> Uuid {
        self.described.responder.fsid
    }

    /// The point that is served until a newer one is made.
    pub fn point(&self) -> &Point {
        &self.described.point
    }

    /// Serves until `shutdown` is over.
    ///
    /// # Errors
    ///
    /// If the listener fails, or the copy cannot be read any more.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        report: &mut impl FnMut(ProvideEvent<'_>),
    ) -> Result<(), Error> {
        let Self { listener, addrs, reading, provider, .. } = self;
        let serving = Serving::new(reading, provider, report);
        let (guests_tx, guests) = mpsc::channel(GUESTS_MAX);
        let hosts = vec![(Callers::Others, guests_tx)];
        tokio::select! {
            () = door::receive(listener, addrs, driver_limits(), hosts, || true) => Err(Error::Config("the listener has failed")),
            result = serving.run(Guests(guests)) => result,
            () = shutdown => Ok(()),
        }
    }
}

/// Answers are large, so few of them wait behind the connection as well.
pub(crate) fn driver_limits() -> DriverLimits {
    DriverLimits { commands_max: 2, ..DriverLimits::default() }
}

/// One peer with a session.
#[derive(Debug)]
struct Peer {
    replies: mpsc::Sender<Reply>,
    ready: Box<Ready>,
    /// The turns of its questions to the provider, which answers each once.
    turns: VecDeque<Turn>,
    admission: Admission,
}

/// A monitor's right to synchronise.
#[derive(Debug, Default)]
enum Admission {
    #[default]
    NotAsked,
    /// With what it has said meanwhile: [`QUESTIONS_MAX`] messages at most.
    Waiting(Task, Vec<(Message, Turn)>),
    /// Until no copy of it is in progress.
    Given(#[expect(dead_code, reason = "it watches until it is dropped")] Task),
}

/// A task that ends with this.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer, and the turn that its question took; it is over when the answer is out of our hands.
#[derive(Debug)]
struct Reply {
    message: Message,
    turn: Option<Turn>,
}

/// A provider at work on a copy, for whatever guests it is given.
pub(crate) struct Serving<R> {
    provider: Provider<OsEntropy>,
    reading: Reading,
    clock: Clock,
    peers: BTreeMap<PeerId, Peer>,
    last_peer: u64,
    /// Copies that were in progress when last looked at.
    copies: usize,
    chunks: u64,
    bytes: u64,
    report: R,
    /// Bounds how many synchronise at once.
    bound: Option<Arc<Bound>>,
    admissions: JoinSet<()>,
}

/// What a peer's task tells.
enum Heard {
    Admitted { from: PeerId },
    Fenced { from: PeerId },
    Opened { from: PeerId, ready: Box<Ready>, replies: mpsc::Sender<Reply> },
    Said { from: PeerId, message: Message, turn: Turn },
    Closed { from: PeerId },
}

impl<R: FnMut(ProvideEvent<'_>)> Serving<R> {
    pub(crate) fn new(reading: Reading, provider: ProviderConfig, report: R) -> Self {
        Self {
            provider: Provider::new(provider, OsEntropy::default()),
            reading,
            clock: Clock::start(),
            peers: BTreeMap::new(),
            last_peer: 0,
            copies: 0,
            chunks: 0,
            bytes: 0,
            report,
            bound: None,
            admissions: JoinSet::new(),
        }
    }

    /// Has each monitor that synchronises wait for its turn.
    pub(crate) fn bound_by(self, bound: Bound) -> Self {
        Self { bound: Some(Arc::new(bound)), ..self }
    }

    /// Serves until no more guests can come.
    pub(crate) async fn run(mut self, mut guests: Guests) -> Result<(), Error> {
        let (events_tx, mut events) = mpsc::channel(EVENTS_MAX);
        let mut tasks = JoinSet::new();
        loop {
            self.drain().await;
            self.let_go();
            let wake = self.provider.poll_timeout();
            tokio::select! {
                // Answers first: each question may have several, and the thread that gives them must never find their
                // queue full while we wait for room in the queue of questions. Events last, since peers can make
                // them without end.
                biased;
                told = self.reading.recv() => self.told(told)?,
                () = until(&self.clock, wake) => self.provider.handle_timeout(self.clock.now()),
                Some(_) = tasks.join_next() => {}
                Some(_) = self.admissions.join_next() => {}
                guest = guests.next() => {
                    let Some(guest) = guest else { return Ok(()) };
                    self.last_peer += 1;
                    tasks.spawn(serve_peer(PeerId(self.last_peer), guest, events_tx.clone()));
                }
                // Both ends are here, so there is always a next one.
                Some(heard) = events.recv() => self.heard(heard, &events_tx).await,
            }
        }
    }

    /// Carries out what the provider wants.
    async fn drain(&mut self) {
        while let Some(output) = self.provider.poll_output() {
            match output {
                ProviderOutput::Send { to, reply } => {
                    let features = self.peers.get(&to).map_or(Features::empty(), |peer| peer.ready.features);
                    let message = reply.into_message(features);
                    self.chunks += 1;
                    self.bytes =
                        self.bytes.saturating_add(u64::try_from(message.front.len()).unwrap_or(u64::MAX));
                    let turn = self.turn_of(to);
                    self.send(to, Reply { message, turn });
                }
                ProviderOutput::Store(ask) => self.reading.ask(ask).await,
                ProviderOutput::Dropped { from, why } => {
                    drop(self.turn_of(from));
                    (self.report)(ProvideEvent::Dropped(&why));
                }
            }
        }
        let copies = self.provider.copies();
        if copies < self.copies {
            let Self { chunks, bytes, .. } = *self;
            (self.report)(ProvideEvent::Finished { copies, chunks, bytes });
        }
        self.copies = copies;
    }

    /// The turn of the peer's oldest question to the provider.
    fn turn_of(&mut self, peer: PeerId) -> Option<Turn> {
        self.peers.get_mut(&peer)?.turns.pop_front()
    }

    /// A peer that does not read its answers loses its session instead of holding up everybody else.
    fn send(&mut self, to: PeerId, reply: Reply) {
        let full = self.peers.get(&to).is_some_and(|peer| peer.replies.try_send(reply).is_err());
        if full {
            self.gone(to);
        }
    }

    async fn heard(&mut self, heard: Heard, events: &mpsc::Sender<Heard>) {
        match heard {
            Heard::Admitted { from } => self.admitted(from),
            Heard::Opened { from, ready, replies } => {
                let (kind, addrs) = (ready.peer_type, &ready.peer_addrs);
                (self.report)(ProvideEvent::Connected { kind, addrs });
                let (turns, admission) = (VecDeque::new(), Admission::NotAsked);
                self.peers.insert(from, Peer { replies, ready, turns, admission });
            }
            Heard::Said { from, message, turn } => {
                let Some(peer) = self.peers.get_mut(&from) else { return };
                if message.kind != MESSAGE_TYPE {
                    let request = Request { features: peer.ready.features, message };
                    self.reading.request(from, request, turn).await;
                } else if peer.ready.peer_type == EntityType::MON {
                    // Monitors are served by monitors alone, as monitors do it: a store is nobody else's business.
                    self.monsync(from, message, turn, events);
                }
            }
            Heard::Closed { from } | Heard::Fenced { from } => self.gone(from),
        }
    }

    /// What a monitor that synchronises says, when its turn has come.
    fn monsync(&mut self, from: PeerId, message: Message, turn: Turn, events: &mpsc::Sender<Heard>) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        match (&mut peer.admission, &self.bound) {
            (Admission::Waiting(_, said), _) => said.push((message, turn)),
            (Admission::NotAsked, Some(bound)) => {
                let admit = admit(Arc::clone(bound), from, events.clone());
                peer.admission =
                    Admission::Waiting(Task(self.admissions.spawn(admit)), vec![(message, turn)]);
            }
            (Admission::Given(_), _) | (Admission::NotAsked, None) => {
                peer.turns.push_back(turn);
                self.provider.handle(self.clock.now(), ProviderInput::Message { from, message });
            }
        }
    }

    fn admitted(&mut self, from: PeerId) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let Admission::Waiting(task, said) = core::mem::take(&mut peer.admission) else { return };
        peer.admission = Admission::Given(task);
        for (message, turn) in said {
            peer.turns.push_back(turn);
            self.provider.handle(self.clock.now(), ProviderInput::Message { from, message });
        }
    }

    /// Lets the next one in for each whose copy is over.
    fn let_go(&mut self) {
        for (id, peer) in &mut self.peers {
            if matches!(peer.admission, Admission::Given(_)) && !self.provider.serves(*id) {
                peer.admission = Admission::NotAsked;
            }
        }
    }

    fn told(&mut self, told: Told) -> Result<(), Error> {
        match told {
            Told::Store { answer, error } => {
                if let Some(error) = &error {
                    (self.report)(ProvideEvent::Unreadable(error));
                }
                if let Some(answer) = answer {
                    self.provider.handle(self.clock.now(), ProviderInput::Store(answer));
                }
                Ok(())
            }
            Told::Message { to, message } => {
                self.send(to, Reply { message, turn: None });
                Ok(())
            }
            Told::Failed(error) => Err(error),
        }
    }

    fn gone(&mut self, peer: PeerId) {
        if let Some(Peer { ready, .. }) = self.peers.remove(&peer) {
            (self.report)(ProvideEvent::Gone { addrs: &ready.peer_addrs });
            self.provider.handle(self.clock.now(), ProviderInput::Gone(peer));
        }
    }
}

/// Waits for a monitor's turn, and holds it until it is taken back or this is dropped.
async fn admit(bound: Arc<Bound>, from: PeerId, events: mpsc::Sender<Heard>) {
    // Without a registry that gives any, nobody new is served.
    if let Ok(permit) = bound.permit().await {
        if events.send(Heard::Admitted { from }).await.is_err() {
            return;
        }
        permit.fenced().await;
    }
    // Whoever listened is gone, and so is the peer.
    let _ = events.send(Heard::Fenced { from }).await;
}

/// One peer's connection: what it says goes to the one place where everything is decided, and answers come back.
///
/// It ends with the link, or when the other side lets go of `replies`.
async fn serve_peer(from: PeerId, guest: Guest, events: mpsc::Sender<Heard>) {
    let Guest { ready, mut connection } = guest;
    let (replies, mut outbound) = mpsc::channel(REPLIES_MAX);
    if events.send(Heard::Opened { from, ready, replies }).await.is_err() {
        return;
    }
    let turns = Arc::new(Semaphore::new(QUESTIONS_MAX));
    let mut turn = None;
    loop {
        tokio::select! {
            // Fails only if the semaphore were closed, which nobody does.
            Ok(next) = Arc::clone(&turns).acquire_owned(), if turn.is_none() => turn = Some(next),
            event = connection.recv(), if turn.is_some() => {
                let heard = match event {
                    Some(Event::Message(message)) => {
                        let Some(turn) = turn.take() else { continue };
                        Heard::Said { from, message, turn }
                    }
                    // Ready once more is the same session over another connection.
                    Some(Event::Ready(_) | Event::Lost(_) | Event::Reset) => continue,
                    Some(Event::Closed(_)) | None => Heard::Closed { from },
                };
                let over = matches!(heard, Heard::Closed { .. });
                if events.send(heard).await.is_err() || over {
                    return;
                }
            }
            reply = outbound.recv() => {
                let Some(Reply { message, turn }) = reply else { return };
                if connection.send(message).await.is_err() {
                    // With all turns taken nobody listens to what the connection says, its end included.
                    let _ = events.send(Heard::Closed { from }).await;
                    return;
                }
                drop(turn);
            }
        }
    }
}
