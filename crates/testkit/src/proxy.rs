use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::Result;

use crate::deadline::{now, pause};

/// A TCP port in front of another one, and a bad network between the two.
///
/// Bytes keep their order, and are changed only by [`flip`](Proxy::flip). Each direction is a queue of pieces with the moment at which they
/// are due, so a delay costs latency and no throughput.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    target: SocketAddr,
    shared: Arc<Shared>,
}

/// What the network between the two ports does.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "written out by tests")]
pub struct ProxyConfig {
    /// How long a byte takes in each direction.
    pub delay: Duration,
    /// Cut each connection after so many bytes from the server.
    pub cut_after_bytes: Option<u64>,
}

/// Which bit a network flips.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "written out by tests")]
pub enum Flip {
    /// The lowest of the byte at this offset of what the server sends on the next connection.
    Once(u64),
    /// The same of every connection from the next on.
    Always(u64),
}

#[derive(Debug)]
struct Shared {
    config: ProxyConfig,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stalled: bool,
    refusing: bool,
    closed: bool,
    connections: Vec<(TcpStream, TcpStream)>,
    accepted: usize,
    flip: Option<Flip>,
}

/// One direction of one connection.
#[derive(Debug, Default)]
struct Queue {
    pieces: Mutex<Pieces>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Pieces {
    due: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    ended: bool,
}

/// Bytes read at once.
const PIECE_BYTES: usize = 128 * 1024;
/// Bytes on the way in one direction: what 3 GB/s have in flight at 20 ms.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

impl Proxy {
    /// Listens on a free port of loopback and passes on to `target`.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub fn start(target: SocketAddr, config: ProxyConfig) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared { config, state: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.lock().closed {
                    return;
                }
                if let Ok(client) = stream {
                    // A server that cannot be reached looks like one that hangs up.
                    let _ = Shared::connect(&accepting, client, target);
                }
            }
        });
        Ok(Self { addr, target, shared })
    }

    /// Where to connect instead of to the target.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it passes everything on to.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// Breaks every connection now; new ones are welcome.
    pub fn cut(&self) {
        self.shared.lock().cut();
    }

    /// With `true`, nothing gets through in either direction until `false`; connections stay open.
    pub fn stall(&self, stalled: bool) {
        self.shared.lock().stalled = stalled;
        self.shared.changed.notify_all();
    }

    /// With `true`, hangs up on everybody who connects.
    pub fn refuse(&self, refusing: bool) {
        self.shared.lock().refusing = refusing;
    }

    /// Damages what the server sends.
    pub fn flip(&self, flip: Option<Flip>) {
        self.shared.lock().flip = flip;
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> usize {
        self.shared.lock().accepted
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.stalled = false;
        state.cut();
        drop(state);
        self.shared.changed.notify_all();
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.addr);
    }
}

impl State {
    /// Counts a connection, and answers which of its bytes is to be damaged.
    fn arrived(&mut self) -> Option<u64> {
        self.accepted += 1;
        match self.flip {
            Some(Flip::Once(at)) => {
                self.flip = None;
                Some(at)
            }
            Some(Flip::Always(at)) => Some(at),
            None => None,
        }
    }

    fn cut(&mut self) {
        for (client, server) in self.connections.drain(..) {
            // Either may be gone already.
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(shared: &Arc<Self>, client: TcpStream, target: SocketAddr) -> Result<()> {
        let flip = shared.lock().arrived();
        if shared.lock().refusing {
            return Ok(());
        }
        let server = TcpStream::connect(target)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        shared.lock().connections.push((client.try_clone()?, server.try_clone()?));
        let cut = shared.config.cut_after_bytes;
        Self::pump(shared, client.try_clone()?, server.try_clone()?, None, None);
        Self::pump(shared, server, client, cut, flip);
        Ok(())
    }

    /// One direction: a thread that reads, a thread that writes when a piece is due.
    fn pump(
        shared: &Arc<Self>,
        mut source: TcpStream,
        mut target: TcpStream,
        cut_after_bytes: Option<u64>,
        flip_at: Option<u64>,
    ) {
        let queue = Arc::new(Queue::default());
        let (reading, delay) = (Arc::clone(&queue), shared.config.delay);
        thread::spawn(move || {
            let mut piece = vec![0; PIECE_BYTES];
            let mut left = cut_after_bytes.unwrap_or(u64::MAX);
            let mut until_flip = flip_at;
            while left > 0
                && let Ok(n @ 1..) = source.read(&mut piece)
            {
                let n = n.min(usize::try_from(left).unwrap_or(usize::MAX));
                left -= u64::try_from(n).unwrap_or(left);
                let mut piece = piece[..n].to_vec();
                until_flip = until_flip.and_then(|at| flip(&mut piece, at));
                reading.push(now() + delay, piece);
            }
            reading.end(now() + delay);
        });
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            while let Some((due, piece)) = queue.pop() {
                pause(due.saturating_duration_since(now()));
                shared.wait_while_stalled();
                if target.write_all(&piece).is_err() {
                    break;
                }
            }
            // The reading side may still want to push; it must not wait for room for ever.
            queue.abandon();
            let how = if cut_after_bytes.is_some() { Shutdown::Both } else { Shutdown::Write };
            let _ = target.shutdown(how);
        });
    }

    fn wait_while_stalled(&self) {
        let state = self.lock();
        drop(self.changed.wait_while(state, |state| state.stalled));
    }
}

/// Flips a bit of the byte at `at` if that lies in `piece`; else answers how far behind it it lies.
fn flip(piece: &mut [u8], at: u64) -> Option<u64> {
    let behind = at.checked_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
    if behind.is_none()
        && let Some(byte) = usize::try_from(at).ok().and_then(|at| piece.get_mut(at))
    {
        *byte ^= 1;
    }
    behind
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, due: Instant, piece: Vec<u8>) {
        let pieces = self.lock();
        let full = |pieces: &mut Pieces| pieces.bytes >= QUEUE_BYTES_MAX && !pieces.ended;
        let mut pieces = self.changed.wait_while(pieces, full).unwrap_or_else(PoisonError::into_inner);
        pieces.bytes += piece.len();
        pieces.due.push_back((due, piece));
        self.changed.notify_all();
    }

    /// The end travels behind the data, with the same delay.
    fn end(&self, due: Instant) {
        self.lock().due.push_back((due, Vec::new()));
        self.changed.notify_all();
    }

    /// The next piece; `None` at the end.
    fn pop(&self) -> Option<(Instant, Vec<u8>)> {
        let pieces = self.lock();
        let empty = |pieces: &mut Pieces| pieces.due.is_empty() && !pieces.ended;
        let mut pieces = self.changed.wait_while(pieces, empty).unwrap_or_else(PoisonError::into_inner);
        let (due, piece) = pieces.due.pop_front()?;
        pieces.bytes -= piece.len();
        self.changed.notify_all();
        drop(pieces);
        if piece.is_empty() {
            pause(due.saturating_duration_since(now()));
            return None;
        }
        Some((due, piece))
    }

    fn abandon(&self) {
        let mut pieces = self.lock();
        pieces.ended = true;
        pieces.bytes = 0;
        pieces.due.clear();
        self.changed.notify_all();
    }
}
