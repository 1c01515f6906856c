use core::net::SocketAddr;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use cuttlebone_link::{AcceptConfig, Acceptor, Arrival, Command, Incoming, Link, SessionKey, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::connection::{DriverEnds, channels};
use crate::{Clock, Connection, DriverLimits, Handed, OsEntropy, Sockets, run};

/// Most connections and commands that wait for a session's machine; the registry hands over one at a time.
const HANDED_MAX: usize = 4;
/// Bytes read at once during a handshake.
const READ_BYTES: usize = 4096;

/// A bound socket, before it is known what it accepts connections as.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
}

/// The peers that opened sessions with a listener. Dropping it stops accepting; open sessions go on.
#[derive(Debug)]
pub struct Peers {
    peers: mpsc::Receiver<Connection>,
}

impl Peers {
    /// The next peer's connection, whose first event is `Ready`; `None` when the listener has failed.
    ///
    /// A peer that comes back to its lossless session gets no new connection.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept(&mut self) -> Option<Connection> {
        self.peers.recv().await
    }
}

impl Listener {
    /// Binds an address; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(addr).await? })
    }

    /// The address that is bound.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts peers. The future drives all of their links and has to be spawned or awaited; it ends when [`Peers`]
    /// was dropped and the last link is closed. Dropping it closes everything at once.
    pub fn serve(
        self,
        config: AcceptConfig,
        limits: DriverLimits,
    ) -> (Peers, impl Future<Output = ()> + Send + 'static) {
        let (peers_tx, peers) = mpsc::channel(limits.peers_max.max(1));
        let clock = Clock::start();
        let shared = Shared {
            clock,
            limits,
            peers: peers_tx,
            state: Arc::new(Mutex::new(State {
                acceptor: Acceptor::new(config, Box::new(OsEntropy)),
                sessions: HashMap::new(),
            })),
        };
        (Peers { peers }, shared.accept_loop(self.socket))
    }
}

#[derive(Clone)]
struct Shared {
    clock: Clock,
    limits: DriverLimits,
    peers: mpsc::Sender<Connection>,
    state: Arc<Mutex<State>>,
}

struct State {
    acceptor: Acceptor,
    sessions: HashMap<SessionKey, mpsc::Sender<Handed<Command>>>,
}

/// A connection before it has a session: its socket, and what was read and not consumed.
struct Socket {
    stream: TcpStream,
    unread: BytesMut,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    async fn accept_loop(self, socket: TcpListener) {
        let mut tasks = JoinSet::new();
        loop {
            let room = tasks.len() < self.limits.connections_max;
            tokio::select! {
                accepted = socket.accept(), if room => match accepted {
                    Ok((stream, peer)) => {
                        tasks.spawn(self.clone().serve_one(stream, peer));
                    }
                    // Out of descriptors, or the peer is gone already: the next one may do better, and the pause
                    // keeps a lasting failure from spinning.
                    Err(_) => tokio::time::sleep(core::time::Duration::from_millis(50)).await,
                },
                Some(_) = tasks.join_next() => {}
                () = self.peers.closed() => break,
            }
        }
        drop(socket);
        while tasks.join_next().await.is_some() {}
    }

    async fn serve_one(self, stream: TcpStream, peer: SocketAddr) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let incoming = self.state().acceptor.incoming(self.clock.now(), peer);
        let deadline = self.clock.at(incoming.deadline());
        let socket = Socket { stream, unread: BytesMut::with_capacity(READ_BYTES) };
        // A peer that fails its handshake is its own problem: there is nobody to tell but the peer, who sees the
        // connection close.
        let settled = timeout_at(deadline, self.settle(Box::new(incoming), socket)).await;
        let Ok(Some(Started { key, link, handed, socket, ends })) = settled else { return };
        let state = Arc::clone(&self.state);
        let sockets = Sockets::Accepted {
            first: (socket.stream, socket.unread),
            handed,
            settled: Box::new(move || lock(&state).acceptor.settled(key)),
        };
        let _ended = Ended { key, shared: self.clone() };
        let DriverEnds { commands, events, close } = ends;
        run(*link, sockets, self.limits, commands, events, close, self.clock).await;
    }

    /// From the banner to a session; `None` if the connection went elsewhere or nowhere.
    async fn settle(&self, mut incoming: Box<Incoming>, mut socket: Socket) -> Option<Started> {
        loop {
            socket.flush(&mut incoming).await?;
            let arrival = incoming.handle_bytes(&mut socket.unread);
            socket.flush(&mut incoming).await?;
            let Some(arrival) = arrival.ok()? else {
                socket.unread.reserve(READ_BYTES);
                if socket.stream.read_buf(&mut socket.unread).await.ok()? == 0 {
                    return None;
                }
                continue;
            };
            // The user's slot comes first, so that no session begins that nobody would see.
            let slot = self.peers.clone().reserve_owned().await.ok()?;
            match self.decide(incoming, arrival, socket)? {
                Next::Stay(same, itself) => (incoming, socket) = (same, itself),
                Next::Close(mut last, mut socket) => {
                    socket.flush(&mut last).await?;
                    return None;
                }
                Next::Run(started, connection) => {
                    slot.send(connection);
                    return Some(started);
                }
                Next::Elsewhere => return None,
            }
        }
    }

    /// Decides, and notes where the session is found, in one step that nobody can come between.
    fn decide(&self, incoming: Box<Incoming>, arrival: Arrival, socket: Socket) -> Option<Next> {
        let mut state = self.state();
        let State { acceptor, sessions } = &mut *state;
        Some(match acceptor.decide(self.clock.now(), incoming, arrival).ok()? {
            Verdict::Stay(incoming) => Next::Stay(incoming, socket),
            Verdict::Close(incoming) => Next::Close(incoming, socket),
            Verdict::Start { key, link, replaces } => {
                if let Some(old) = replaces.and_then(|old| sessions.remove(&old)) {
                    // If its queue is full it is being handed a connection that is void by now; it will find out.
                    let _ = old.try_send(Handed { socket: None, command: Command::Supersede });
                }
                let (sender, handed) = mpsc::channel(HANDED_MAX);
                sessions.insert(key, sender);
                let (connection, ends) = channels(self.limits);
                Next::Run(Started { key, link, handed, socket, ends }, connection)
            }
            Verdict::Hand { key, command } => {
                let handed = Handed { socket: Some((socket.stream, socket.unread)), command };
                let taken = sessions.get(&key).is_some_and(|session| session.try_send(handed).is_ok());
                if !taken {
                    // It ended between two of its breaths; the peer comes back and finds nothing.
                    sessions.remove(&key);
                    acceptor.ended(key);
                }
                Next::Elsewhere
            }
        })
    }
}

/// Where an arrival leads.
enum Next {
    Stay(Box<Incoming>, Socket),
    Close(Box<Incoming>, Socket),
    Run(Started, Connection),
    Elsewhere,
}

/// A session that is about to run.
struct Started {
    key: SessionKey,
    link: Box<Link>,
    handed: mpsc::Receiver<Handed<Command>>,
    socket: Socket,
    ends: DriverEnds,
}

/// Takes a session off the books when its driver ends, however it ends.
struct Ended {
    key: SessionKey,
    shared: Shared,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.sessions.remove(&self.key);
        state.acceptor.ended(self.key);
    }
}

impl Socket {
    /// Writes what is ready; `None` if the connection is gone.
    async fn flush(&mut self, incoming: &mut Incoming) -> Option<()> {
        while let Some(bytes) = incoming.poll_transmit() {
            self.stream.write_all(&bytes).await.ok()?;
        }
        Some(())
    }
}

/// The lock is held for single calls of plain methods and never across an await; a panic in one of them leaves
/// nothing half done that a later call would trip over.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
