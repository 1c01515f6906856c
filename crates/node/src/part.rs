use core::pin::Pin;

use cuttlebone_driver::Connection;
use cuttlebone_link::Ready;
use cuttlebone_wire::EntityType;
use tokio::sync::mpsc;

use crate::{BuildError, Error, Ground};

/// A part at work. A source may end by itself when it has nothing more to bring; the node goes on. An error ends the node.
pub type Running = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Brings data into a node.
///
/// The node serves when every source has said [`Ground::ready`], and not before.
pub trait Source: Send + 'static {
    /// What it is called in logs and in the status; unique in its node.
    fn name(&self) -> &str;

    /// Whether the node has what it needs.
    ///
    /// # Errors
    ///
    /// [`BuildError`] says what is missing, and building fails.
    fn check(&self, _plan: &Plan) -> Result<(), BuildError> {
        Ok(())
    }

    /// Works until [`Ground::stopping`] ends, and then ends in good order.
    fn run(self: Box<Self>, ground: Ground) -> Running;
}

/// Serves peers that open links to a node.
pub trait Sink: Send + 'static {
    /// As [`Source::name`].
    fn name(&self) -> &str;

    /// Whom it serves. No two sinks of a node may want the same.
    fn callers(&self) -> Callers;

    /// As [`Source::check`].
    ///
    /// # Errors
    ///
    /// As [`Source::check`].
    fn check(&self, _plan: &Plan) -> Result<(), BuildError> {
        Ok(())
    }

    /// Serves the guests that come, until [`Ground::stopping`] ends.
    fn run(self: Box<Self>, ground: Ground, guests: Guests) -> Running;
}

/// Works beside sources and sinks: a listener of its own, an announcement, a timer.
pub trait Service: Send + 'static {
    /// As [`Source::name`].
    fn name(&self) -> &str;

    /// When it is stopped: [`Phase::Names`] for what tells others that the node serves, [`Phase::Services`] for the rest.
    fn stops(&self) -> Phase {
        Phase::Services
    }

    /// As [`Source::check`].
    ///
    /// # Errors
    ///
    /// As [`Source::check`].
    fn check(&self, _plan: &Plan) -> Result<(), BuildError> {
        Ok(())
    }

    /// As [`Source::run`].
    fn run(self: Box<Self>, ground: Ground) -> Running;
}

/// What a node will consist of, for parts that need something of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each says of one thing whether it is there")]
#[non_exhaustive]
pub struct Plan {
    /// There is a bucket.
    pub bucket: bool,
    /// There is a directory for a copy.
    pub copy: bool,
    /// There is an address where peers open links.
    pub listen: bool,
    /// There is a token registry.
    pub tokens: bool,
}

/// The steps of a node's end, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the order in docs/node.md")]
pub enum Phase {
    /// Nothing ends yet.
    Serving,
    /// Names are withdrawn, so that nobody new comes.
    Names,
    /// No token is given any more, and those that are out come back.
    Tokens,
    /// Sources end.
    Sources,
    /// What is in memory goes to the disk.
    Flush,
    /// Everything else ends: sinks, the HTTP listener, services.
    Services,
}

impl Phase {
    /// What it is called in logs and errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Names => "withdrawing names",
            Self::Tokens => "draining tokens",
            Self::Sources => "stopping sources",
            Self::Flush => "flushing",
            Self::Services => "stopping services",
        }
    }
}

/// Whom a sink serves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a node has to tell callers apart by what they say of themselves"
)]
pub enum Callers {
    /// Clients whose id begins so: `client.<prefix>…`. The longest prefix counts.
    Named(String),
    /// Everybody else: monitors, and clients of a monitor.
    Others,
}

impl Callers {
    /// How well it fits; 0 for not at all.
    pub(crate) fn fit(&self, ready: &Ready) -> usize {
        match (self, &ready.peer_name) {
            (Self::Others, _) => 1,
            (Self::Named(prefix), Some(name)) if name.kind == EntityType::CLIENT => {
                if name.id.starts_with(prefix.as_str()) { prefix.len() + 2 } else { 0 }
            }
            (Self::Named(_), _) => 0,
        }
    }
}

/// A peer that opened a link.
#[derive(Debug)]
#[non_exhaustive]
pub struct Guest {
    /// Who it is.
    pub ready: Box<Ready>,
    /// What it says next.
    pub connection: Connection,
}

/// The guests of a sink, as they come.
#[derive(Debug)]
pub struct Guests(pub(crate) mpsc::Receiver<Guest>);

impl Guests {
    /// The next one; `None` if the node's listener has failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no guest is lost.
    pub async fn next(&mut self) -> Option<Guest> {
        self.0.recv().await
    }
}

impl Guest {
    pub(crate) const fn new(ready: Box<Ready>, connection: Connection) -> Self {
        Self { ready, connection }
    }
}
