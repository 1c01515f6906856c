use core::pin::Pin;
use core::sync::atomic::{AtomicU8, Ordering};
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::stream::Stream;
use crate::traffic::Place;

/// How a connection ended, as far as this end can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed it: its process did, or the system did because the process is gone.
    Closed,
    /// It broke, or nobody knows yet: the peer may live and work on.
    Unknown,
}

/// What a session knows of its connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    closed: Arc<AtomicU8>,
    /// No network lies between, so every end is the peer's own.
    local: bool,
}

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const BROKEN: u8 = 2;

impl Peer {
    pub(crate) fn new(local: bool) -> Self {
        Self { closed: Arc::new(AtomicU8::new(OPEN)), local }
    }

    pub(crate) fn end(&self) -> End {
        let closed = self.closed.load(Ordering::Acquire) == CLOSED;
        if closed || self.local { End::Closed } else { End::Unknown }
    }

    /// The first end counts: writing to what the peer closed breaks, too.
    fn ended(&self, how: u8) {
        let _later_ends_change_nothing =
            self.closed.compare_exchange(OPEN, how, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// A connection that remembers how it ended, holds its place among the connections, and breaks off when its peer reads
/// nothing for too long.
pub(crate) struct Watched {
    stream: Stream,
    peer: Peer,
    _place: Place,
    stall_timeout: Duration,
    /// When the peer has read nothing for too long; there while it has something to read.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub(crate) fn new(stream: Stream, peer: Peer, place: Place, stall_timeout: Duration) -> Self {
        Self { stream, peer, _place: place, stall_timeout, stalled: None }
    }

    /// What became of writing: it breaks if it has been waiting for too long.
    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let result = match result {
            Poll::Pending => {
                let timeout = self.stall_timeout;
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
                stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            ready @ Poll::Ready(_) => {
                self.stalled = None;
                ready
            }
        };
        if let Poll::Ready(Err(_)) = &result {
            self.peer.ended(BROKEN);
        }
        result
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = (buf.filled().len(), buf.remaining());
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        match &result {
            Poll::Ready(Ok(())) if before.1 > 0 && buf.filled().len() == before.0 => self.peer.ended(CLOSED),
            Poll::Ready(Err(_)) => self.peer.ended(BROKEN),
            _ => {}
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
