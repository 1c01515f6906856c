use core::net::SocketAddr;
use core::task::{Context, Poll};

use cuttlebone_link::{Command, DialConfig, Error, Event, Link};
use cuttlebone_wire::Message;
use tokio::sync::{mpsc, oneshot};

use crate::{Clock, DriverLimits, OsEntropy, Sockets, run};

/// The link is closed: nothing can be sent any more. The last event says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link is closed")]
#[non_exhaustive]
pub struct Closed;

/// Why a message was not taken at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(clippy::exhaustive_enums, reason = "there is room or not, and the link is open or not")]
pub enum NotSent {
    /// There is no room for it now; here it is back.
    #[error("there is no room for the message now")]
    Full(Message),
    /// The link is closed.
    #[error("the link is closed")]
    Closed,
}

/// A link to one peer, from the point of view of who uses it.
///
/// Dropping it closes the link.
#[derive(Debug)]
pub struct Connection {
    outbox: Outbox,
    inbox: Inbox,
}

/// The sending side of a [`Connection`]. It can be cloned; dropping all of them does not close the link.
#[derive(Clone, Debug)]
pub struct Outbox {
    commands: mpsc::Sender<Command>,
}

/// The receiving side of a [`Connection`]. Dropping it closes the link.
#[derive(Debug)]
pub struct Inbox {
    events: mpsc::Receiver<Event>,
    close: Option<oneshot::Sender<()>>,
}

impl Connection {
    /// Sends a message; waits while there is no room for it.
    ///
    /// That it was taken does not mean that it has arrived: on a lossy link it is gone with the connection, on a
    /// lossless one it arrives unless [`Event::Reset`] or [`Event::Closed`] says otherwise.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the link is closed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the message is sent whole or not at all.
    pub async fn send(&self, message: Message) -> Result<(), Closed> {
        self.outbox.send(message).await
    }

    /// The next event; `None` after [`Event::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no event is lost.
    pub async fn recv(&mut self) -> Option<Event> {
        self.inbox.recv().await
    }

    /// Closes the link after everything sent so far, and waits for the end; other events are dropped.
    ///
    /// # Errors
    ///
    /// Why the link did not end as asked.
    ///
    /// # Cancel safety
    ///
    /// Cancelled, it still closes the link, since the connection is dropped.
    pub async fn close(self) -> Result<(), Error> {
        let Self { outbox, mut inbox } = self;
        drop(outbox);
        inbox.close();
        while let Some(event) = inbox.recv().await {
            if let Event::Closed(how) = event {
                return how;
            }
        }
        Ok(())
    }

    /// The two sides, for two tasks.
    pub fn split(self) -> (Outbox, Inbox) {
        (self.outbox, self.inbox)
    }
}

impl Outbox {
    /// Sends a message, as [`Connection::send`].
    ///
    /// # Errors
    ///
    /// [`Closed`] if the link is closed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the message is sent whole or not at all.
    pub async fn send(&self, message: Message) -> Result<(), Closed> {
        self.commands.send(Command::Send(message)).await.map_err(|_| Closed)
    }

    /// Sends a message if there is room for it now.
    ///
    /// For whoever drives several links and must not wait for one of them.
    ///
    /// # Errors
    ///
    /// [`NotSent::Full`] with the message if there is none; [`room`](Self::room) tells when.
    pub fn try_send(&self, message: Message) -> Result<(), NotSent> {
        self.commands.try_send(Command::Send(message)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(Command::Send(message)) => NotSent::Full(message),
            _ => NotSent::Closed,
        })
    }

    /// Waits until there is room for a message, or the link is closed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is sent.
    pub async fn room(&self) {
        // Either way there is nothing more to wait for.
        let _ = self.commands.reserve().await;
    }
}

impl Inbox {
    /// The next event; `None` after [`Event::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no event is lost.
    pub async fn recv(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The same for whoever polls several links at once.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(cx)
    }

    /// Asks for the end, after everything sent so far; [`Event::Closed`] follows.
    pub fn close(&mut self) {
        self.close = None;
    }
}

/// The ends of a link's channels that its driver holds.
pub(crate) struct DriverEnds {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) close: oneshot::Receiver<()>,
}

pub(crate) fn channels(limits: DriverLimits) -> (Connection, DriverEnds) {
    let (command_tx, commands) = mpsc::channel(limits.commands_max.max(1));
    let (events, event_rx) = mpsc::channel(limits.events_max.max(1));
    let (close_tx, close) = oneshot::channel();
    let connection = Connection {
        outbox: Outbox { commands: command_tx },
        inbox: Inbox { events: event_rx, close: Some(close_tx) },
    };
    (connection, DriverEnds { commands, events, close })
}

/// Dials a peer at `at`, which is where its address leads unless something stands between.
///
/// The future drives the link and has to be spawned or awaited; it ends after [`Event::Closed`] was received or the
/// connection was dropped. Must be called within a tokio runtime.
pub fn dial(
    config: DialConfig,
    at: SocketAddr,
    limits: DriverLimits,
) -> (Connection, impl Future<Output = ()> + Send + 'static) {
    let (connection, ends) = channels(limits);
    let clock = Clock::start();
    let link = Link::dial(config, Box::new(OsEntropy), clock.now());
    let driver = run(link, Sockets::Dialled(at), limits, ends.commands, ends.events, ends.close, clock);
    (connection, driver)
}
