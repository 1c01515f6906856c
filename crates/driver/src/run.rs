use core::fmt;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use cuttlebone_machine::{StreamMachine, StreamOutput};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Sleep, sleep_until};

use crate::buffer::Inbound;
use crate::{Clock, DriverLimits};

/// Most parts in one vectored write.
const PARTS_MAX: usize = 32;
/// A finished machine's last bytes are written for at most so long, and a user who closes waits at most so long for
/// room for the commands given before.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// What an accepted session's machine is handed: a command, and the connection that goes with it.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a connection and a command, built by whoever hands them over")]
pub struct Handed<C> {
    /// The connection that replaces the one before, with what was already read from it.
    pub socket: Option<(TcpStream, BytesMut)>,
    /// For the machine.
    pub command: C,
}

/// Is called when a machine has taken a connection that it was handed.
pub type Settled = Box<dyn FnMut() + Send>;

/// Where a machine's connections come from.
#[expect(clippy::exhaustive_enums, reason = "connections are made or accepted")]
pub enum Sockets<C> {
    /// They are opened to this address when the machine asks.
    Dialled(SocketAddr),
    /// They are accepted elsewhere and handed over; the first is here.
    Accepted {
        /// The first, with what was already read from it.
        first: (TcpStream, BytesMut),
        /// Those after it.
        handed: mpsc::Receiver<Handed<C>>,
        /// Whom to tell that one was taken.
        settled: Settled,
    },
}

impl<C> fmt::Debug for Sockets<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dialled(addr) => write!(f, "Dialled({addr})"),
            Self::Accepted { .. } => f.write_str("Accepted"),
        }
    }
}

/// The ends of a machine's channels that its driver holds.
#[derive(Debug)]
pub(crate) struct Ends<M: StreamMachine> {
    pub(crate) commands: mpsc::Receiver<M::Command>,
    pub(crate) events: mpsc::Sender<M::Event>,
    /// Resolves when the user wants the end, or is gone.
    pub(crate) close: oneshot::Receiver<()>,
}

type Dialling = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// What a session that was accepted needs to change its connection.
struct Handover<C> {
    handed: Option<mpsc::Receiver<Handed<C>>>,
    settled: Option<Settled>,
}

struct Runner<M: StreamMachine> {
    machine: M,
    clock: Clock,
    limits: DriverLimits,
    dial_to: Option<SocketAddr>,
    dialling: Option<Dialling>,
    socket: Option<TcpStream>,
    inbound: Inbound,
    outbound: VecDeque<Bytes>,
    outbound_bytes: usize,
    ready: VecDeque<M::Event>,
    finished: bool,
}

/// What happened, of all that a [`run`] waits for.
enum Happened<C> {
    Dialled(io::Result<TcpStream>),
    Io,
    Command(Option<C>),
    Handed(Option<Handed<C>>),
    EventSent,
    UserGone,
    Close,
    Deadline,
}

/// Runs a machine until it is finished and its last event is delivered.
///
/// * While the user does not take events, nothing is read from the peer, and no timer of the machine runs out.
/// * While the peer does not read, no command is taken from the user.
/// * When the user is gone the machine is told to close, and its events are dropped.
///
/// # Cancel safety
///
/// Not cancel safe in the sense of being resumed: dropping the future closes the connection at once, and what was
/// read or queued is lost. That is a safe way to stop it, just not a graceful one.
pub async fn run<M>(
    machine: M,
    sockets: Sockets<M::Command>,
    limits: DriverLimits,
    commands: mpsc::Receiver<M::Command>,
    events: mpsc::Sender<M::Event>,
    close: oneshot::Receiver<()>,
    clock: Clock,
) where
    M: StreamMachine + Send,
    M::Command: Send,
    M::Event: Send,
{
    let ends = Ends { commands, events, close };
    let mut runner = Runner {
        machine,
        clock,
        limits,
        dial_to: None,
        dialling: None,
        socket: None,
        inbound: Inbound::new(limits.pool_bytes_max),
        outbound: VecDeque::new(),
        outbound_bytes: 0,
        ready: VecDeque::new(),
        finished: false,
    };
    let handover = runner.begin(sockets);
    runner.go(ends, handover).await;
}

impl<M> Runner<M>
where
    M: StreamMachine + Send,
    M::Command: Send,
    M::Event: Send,
{
    fn begin(&mut self, sockets: Sockets<M::Command>) -> Handover<M::Command> {
        match sockets {
            Sockets::Dialled(addr) => {
                self.dial_to = Some(addr);
                self.drain();
                Handover { handed: None, settled: None }
            }
            Sockets::Accepted { first: (socket, unread), handed, settled } => {
                self.drain();
                self.connect(socket, &unread);
                Handover { handed: Some(handed), settled: Some(settled) }
            }
        }
    }

    async fn go(&mut self, ends: Ends<M>, handover: Handover<M::Command>) {
        let Handover { mut handed, mut settled } = handover;
        let Ends { mut commands, events, mut close } = ends;
        let (mut commands_open, mut close_pending, mut user_gone) = (true, true, false);
        let mut flush_by: Option<tokio::time::Instant> = None;
        let mut timer = Box::pin(sleep_until(tokio::time::Instant::now()));
        loop {
            if self.finished && self.ready.is_empty() && (self.outbound.is_empty() || self.socket.is_none()) {
                return;
            }
            if self.finished && flush_by.is_none() {
                flush_by = Some(tokio::time::Instant::now() + FLUSH_MAX);
            }
            let deadline = self.arm(&mut timer, flush_by);
            let interest = self.interest();
            let room = !self.finished
                && commands_open
                && self.machine.accepts_commands()
                && self.outbound_bytes < self.limits.outbound_bytes_max;
            // In no fixed order, so that a peer that never stops talking starves neither commands nor timers.
            let happened = tokio::select! {
                _ = &mut close, if close_pending => Happened::Close,
                () = events.closed(), if !user_gone => Happened::UserGone,
                slot = events.reserve(), if !self.ready.is_empty() && !user_gone => {
                    if let (Ok(slot), Some(event)) = (slot, self.ready.pop_front()) {
                        slot.send(event);
                    }
                    Happened::EventSent
                }
                handed = next_handed(&mut handed), if !self.finished => Happened::Handed(handed),
                dialled = next_dialled(&mut self.dialling) => Happened::Dialled(dialled),
                () = ready(self.socket.as_ref(), interest) => Happened::Io,
                command = commands.recv(), if room => Happened::Command(command),
                () = &mut timer, if deadline => Happened::Deadline,
            };
            let now = self.clock.now();
            match happened {
                Happened::EventSent => {}
                Happened::Io => self.read_and_write(interest),
                Happened::Dialled(Ok(socket)) => {
                    self.dialling = None;
                    self.socket = Some(socket);
                    self.machine.handle_connected(now);
                }
                Happened::Dialled(Err(_)) => {
                    self.dialling = None;
                    self.machine.handle_disconnected(now);
                }
                Happened::Command(Some(command)) => self.machine.handle_command(now, command),
                // All senders are gone, or the user closed and everything sent before has been taken.
                Happened::Command(None) => {
                    commands_open = false;
                    if !close_pending {
                        self.machine.handle_close(now);
                    }
                }
                Happened::Handed(Some(next)) => self.take_over(next, settled.as_mut()),
                Happened::Handed(None) => handed = None,
                Happened::UserGone => {
                    user_gone = true;
                    self.machine.handle_close(now);
                }
                Happened::Close => {
                    close_pending = false;
                    commands.close();
                    flush_by = Some(tokio::time::Instant::now() + FLUSH_MAX);
                    if !commands_open {
                        self.machine.handle_close(now);
                    }
                }
                Happened::Deadline if flush_by.is_some_and(|by| by <= tokio::time::Instant::now()) => {
                    if self.finished {
                        self.hang_up();
                        flush_by = None;
                    } else {
                        commands_open = false;
                        flush_by = None;
                        self.machine.handle_close(now);
                    }
                }
                Happened::Deadline => {
                    // What has arrived comes first: it may be the sign of life that the deadline is about, and after
                    // a pause for a slow user it usually is.
                    self.read_and_write(interest);
                    self.drain();
                    self.machine.handle_timeout(now);
                }
            }
            self.drain();
            if user_gone {
                self.ready.clear();
            }
        }
    }

    /// Sets the timer to the next deadline; whether there is one.
    ///
    /// While the user does not take events nothing is read, so the machine must not conclude that the peer is
    /// silent: its deadlines wait as well.
    fn arm(&self, timer: &mut Pin<Box<Sleep>>, flush_by: Option<tokio::time::Instant>) -> bool {
        let machine = if self.finished || !self.ready.is_empty() {
            None
        } else {
            self.machine.poll_timeout().map(|at| self.clock.at(at))
        };
        let Some(at) = [machine, flush_by].into_iter().flatten().min() else { return false };
        if timer.deadline() != at || timer.is_elapsed() {
            timer.as_mut().reset(at);
        }
        true
    }

    fn interest(&self) -> Option<Interest> {
        // What a peer can make a machine answer without reading it itself is bounded by this as well.
        let readable = !self.finished
            && self.ready.is_empty()
            && self.outbound_bytes < 2 * self.limits.outbound_bytes_max;
        match (readable, self.outbound.is_empty()) {
            (true, true) => Some(Interest::READABLE),
            (true, false) => Some(Interest::READABLE | Interest::WRITABLE),
            (false, false) => Some(Interest::WRITABLE),
            (false, true) => None,
        }
    }

    /// One attempt in each direction that is wanted, so that neither starves the other.
    fn read_and_write(&mut self, interest: Option<Interest>) {
        let Some(interest) = interest else { return };
        let wrote = if interest.is_writable() { self.write() } else { Ok(()) };
        let read = if interest.is_readable() { self.read() } else { Ok(()) };
        if wrote.and(read).is_err() {
            self.hang_up();
            self.machine.handle_disconnected(self.clock.now());
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        self.inbound.prepare(self.machine.wanted());
        match socket.try_read_buf(&mut self.inbound.bytes) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                self.machine.handle_bytes(self.clock.now(), &mut self.inbound.bytes);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let mut parts = [IoSlice::new(&[]); PARTS_MAX];
        let mut count = 0;
        for (part, bytes) in parts.iter_mut().zip(&self.outbound) {
            *part = IoSlice::new(bytes);
            count += 1;
        }
        let written = match socket.try_write_vectored(&parts[..count]) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        self.outbound_bytes -= written;
        let mut left = written;
        while let Some(front) = self.outbound.front_mut() {
            if front.len() > left {
                front.advance(left);
                break;
            }
            left -= front.len();
            self.outbound.pop_front();
        }
        Ok(())
    }

    /// Carries out what the machine asks for.
    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                StreamOutput::Transmit(bytes) if bytes.is_empty() => {}
                StreamOutput::Transmit(bytes) => {
                    self.outbound_bytes += bytes.len();
                    self.outbound.push_back(bytes);
                }
                StreamOutput::Event(event) => self.ready.push_back(event),
                StreamOutput::Dial => {
                    self.hang_up();
                    if let Some(addr) = self.dial_to {
                        self.dialling = Some(Box::pin(connect(addr)));
                    }
                }
                StreamOutput::Disconnect => {
                    // As much as the socket takes at once; a peer that does not read must not hold us up.
                    let _ = self.write();
                    self.hang_up();
                }
                StreamOutput::Finished => {
                    self.finished = true;
                    self.dialling = None;
                }
            }
        }
    }

    fn hang_up(&mut self) {
        self.socket = None;
        self.dialling = None;
        self.inbound.clear();
        self.outbound.clear();
        self.outbound_bytes = 0;
    }

    fn connect(&mut self, socket: TcpStream, unread: &[u8]) {
        self.socket = Some(socket);
        if !unread.is_empty() {
            self.inbound.bytes.extend_from_slice(unread);
            self.machine.handle_bytes(self.clock.now(), &mut self.inbound.bytes);
            self.drain();
        }
    }

    fn take_over(&mut self, next: Handed<M::Command>, settled: Option<&mut Settled>) {
        let now = self.clock.now();
        match next.socket {
            None => self.machine.handle_command(now, next.command),
            Some((socket, unread)) => {
                self.hang_up();
                self.machine.handle_command(now, next.command);
                self.drain();
                self.connect(socket, &unread);
                if let Some(settled) = settled {
                    settled();
                }
            }
        }
    }
}

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(addr).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Ready for at least one of the directions, or never.
async fn ready(socket: Option<&TcpStream>, interest: Option<Interest>) {
    match (socket, interest) {
        // An error shows again in the read or write that follows.
        (Some(socket), Some(interest)) => drop(socket.ready(interest).await),
        _ => core::future::pending().await,
    }
}

async fn next_dialled(dialling: &mut Option<Dialling>) -> io::Result<TcpStream> {
    match dialling {
        Some(dialling) => dialling.await,
        None => core::future::pending().await,
    }
}

async fn next_handed<C>(handed: &mut Option<mpsc::Receiver<Handed<C>>>) -> Option<Handed<C>> {
    core::future::poll_fn(|cx| match handed {
        Some(handed) => handed.poll_recv(cx),
        None => Poll::Pending,
    })
    .await
}
