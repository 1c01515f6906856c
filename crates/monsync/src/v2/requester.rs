mod state;

use core::fmt;
use core::mem;

use cuttlebone_machine::{Instant, Machine, Timer};

use self::state::{Context, Event, State};
use super::RequesterConfig;
use super::message::{Message, Request};
use crate::{Effect, Error, OpId, SyncKind, Version};

/// Copies a provider's store, or the versions that are new in it, and asks its own store to apply what arrives.
///
/// One machine is one copy over one connection, or over several if none of them loses an answer. It ends with one
/// [`RequesterOutput::Done`] or [`RequesterOutput::Failed`], followed by nothing; a machine that failed leaves the
/// target marked incomplete, and a driver then closes the connection if answers may still be on their way.
///
/// ```text
///                cookie                     last chunk                drained, all applied
/// ExpectCookie ─────────▶ Pulling(scan) ─────────────▶ Ending(copy) ──────────────────────▶ Ended
///      │                    │  ▲ chunk: check, apply,      │ no_cookie: one less to drain     ▲
///      │                    └──┘ ask for more              └─ connection lost: nothing to drain
///      └── refused, silent, lying, connection lost with answers outstanding, store failed ─────┘
/// ```
#[derive(Debug)]
pub struct Requester {
    state: State,
    cx: Context,
}

/// What a requester is told.
#[derive(Clone)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to know all it can say")]
pub enum RequesterInput {
    /// The provider sent this. Questions (see [`is_question`](super::Op::is_question)) belong to a provider instead.
    Message(cuttlebone_wire::Message),
    /// The effect of this number and all before it are durable.
    Applied(OpId),
    /// An effect could not be carried out.
    ApplyFailed,
    /// The connection to the provider is lost.
    Disconnected,
    /// There is a connection to the same provider again, and its messenger lost nothing of the one before.
    Resumed,
    /// There is a connection to the same provider again, and what was on its way is gone.
    Reconnected,
}

/// What a requester wants done.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to carry out every one of them")]
pub enum RequesterOutput {
    /// Send this to the provider.
    Send(Request),
    /// Carry this out, after all earlier effects, and answer with [`RequesterInput::Applied`].
    Apply {
        /// What the answer refers to.
        op: OpId,
        /// What to do.
        effect: Effect,
    },
    /// The provider has granted the copy.
    Started {
        /// The version that the copy starts from.
        start: Version,
    },
    /// A chunk has arrived.
    Progress(Progress),
    /// The copy is complete and durable. Nothing follows.
    Done(Summary),
    /// There will be no complete copy. Nothing follows.
    Failed(Error),
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of transactions that have arrived.
    pub bytes: u64,
    /// Keys in them, versions included.
    pub keys: u64,
    /// Chunks that have arrived.
    pub chunks: u64,
    /// Versions among the keys that were sent because they are newer than the start.
    pub versions: u64,
    /// The highest version that has arrived.
    pub reached: Version,
    /// How many requests may be in flight now.
    pub window: u32,
}

/// What a finished copy consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// What was copied.
    pub kind: SyncKind,
    /// The version that the copy started from.
    pub start: Version,
    /// The version that the target has now.
    pub last_committed: Version,
    /// What arrived.
    pub progress: Progress,
}

impl fmt::Debug for RequesterInput {
    /// Shows the size of a message only: a store holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => write!(f, "Message({} bytes)", message.front.len()),
            Self::Applied(op) => write!(f, "Applied({op})"),
            Self::ApplyFailed => f.write_str("ApplyFailed"),
            Self::Disconnected => f.write_str("Disconnected"),
            Self::Resumed => f.write_str("Resumed"),
            Self::Reconnected => f.write_str("Reconnected"),
        }
    }
}

impl fmt::Debug for RequesterOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(request) => write!(f, "Send({request:?})"),
            Self::Apply { op, effect } => write!(f, "Apply({op}, {effect:?})"),
            Self::Started { start } => write!(f, "Started({start})"),
            Self::Progress(Progress { chunks, keys, reached, .. }) => {
                write!(f, "Progress({chunks} chunks, {keys} keys, reached {reached})")
            }
            Self::Done(summary) => write!(f, "Done({} to {})", summary.start, summary.last_committed),
            Self::Failed(error) => write!(f, "Failed({error})"),
        }
    }
}

impl Requester {
    /// Begins a copy over an open connection.
    pub fn new(now: Instant, config: RequesterConfig, kind: SyncKind) -> Self {
        let mut cx = Context::new(config, kind);
        cx.start(now);
        Self { state: State::ExpectCookie, cx }
    }

    /// What it is doing, in words.
    pub const fn state_name(&self) -> &'static str {
        self.state.name()
    }

    /// How far the copy is.
    pub const fn progress(&self) -> Progress {
        self.cx.progress
    }

    fn step(&mut self, now: Instant, event: Event) {
        // A failed step leaves `Ended` behind, so there is no half-moved state to repair.
        self.state = match mem::replace(&mut self.state, State::Ended).step(now, event, &mut self.cx) {
            Ok(next) => next,
            Err(error) => {
                self.cx.end(RequesterOutput::Failed(error));
                State::Ended
            }
        };
    }
}

impl Machine for Requester {
    type Input = RequesterInput;
    type Output = RequesterOutput;

    fn handle(&mut self, now: Instant, input: RequesterInput) {
        if matches!(self.state, State::Ended) {
            return;
        }
        let event = match input {
            RequesterInput::Message(message) => Event::Received(Message::from_message(&message)),
            RequesterInput::Applied(op) => Event::Applied(op),
            RequesterInput::ApplyFailed => Event::ApplyFailed,
            RequesterInput::Disconnected => Event::Disconnected,
            RequesterInput::Resumed => Event::Resumed,
            RequesterInput::Reconnected => Event::Reconnected,
        };
        self.step(now, event);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.cx.idle.take_expired(now) {
            self.step(now, Event::Silence);
        }
        if self.cx.rest.take_expired(now) {
            self.step(now, Event::Rested);
        }
    }

    fn poll_output(&mut self) -> Option<RequesterOutput> {
        self.cx.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Timer::earliest([self.cx.idle, self.cx.rest])
    }
}
