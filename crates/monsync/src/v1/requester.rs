mod state;

use alloc::vec::Vec;
use core::fmt;
use core::mem;

use cuttlebone_machine::{Entropy, Instant, Machine, Timer};
use cuttlebone_wire::EntityInst;

use self::state::{Beat, Context, Event, State};
use super::RequesterConfig;
use super::message::{Message, Op};
use crate::{Effect, Error, OpId, Version};

/// Copies the store of a quorum's member, with the leader's permission.
///
/// One machine is one copy. It ends with one [`RequesterOutput::Done`] or [`RequesterOutput::Failed`], followed by
/// nothing; a machine that failed leaves the target marked incomplete. This dialect has no name for a copy, so a
/// driver closes the connection to the provider of a failed one before it begins another.
///
/// ```text
///           start_reply                last chunk, durable             applied, and finish_reply
/// Starting ─────────────▶ Pulling ───────────────────────▶ Finishing ───────────────────────────▶ Ended
///  │  ▲ 30 s               │  ▲ chunk: check, apply, reply   │  ▲ silence: say it again, three times
///  ▼  │                    │  └ provider silent: the next    └──┘
/// Waiting (try again)      └── leader silent or aborts, nobody left, lies, store failed ────────▶ Ended
/// ```
pub struct Requester<E> {
    state: State,
    cx: Context<E>,
}

/// What a requester is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to know all it can say")]
#[expect(clippy::large_enum_variant, reason = "few exist at a time, and messages are most of them")]
pub enum RequesterInput {
    /// A monitor sent this.
    Message {
        /// Who.
        from: EntityInst,
        /// What.
        message: Message,
    },
    /// The effect of this number and all before it are durable.
    Applied(OpId),
    /// An effect could not be carried out.
    ApplyFailed,
}

/// What a requester wants done.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to carry out every one of them")]
pub enum RequesterOutput {
    /// Send this.
    Send {
        /// To whom.
        to: EntityInst,
        /// What.
        message: Message,
    },
    /// Carry this out, after all earlier effects, and answer with [`RequesterInput::Applied`].
    Apply {
        /// What the answer refers to.
        op: OpId,
        /// What to do.
        effect: Effect,
    },
    /// Chunks now come from this one.
    Provider(EntityInst),
    /// The copy is complete and durable, and of this version. Nothing follows.
    Done(Version),
    /// There will be no complete copy. Nothing follows.
    Failed(Error),
}

impl fmt::Debug for RequesterOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { to, message } => write!(f, "Send({} {}, {message:?})", to.name, to.addr),
            Self::Apply { op, effect } => write!(f, "Apply({op}, {effect:?})"),
            Self::Provider(inst) => write!(f, "Provider({} {})", inst.name, inst.addr),
            Self::Done(version) => write!(f, "Done({version})"),
            Self::Failed(error) => write!(f, "Failed({error})"),
        }
    }
}

impl<E: Entropy> Requester<E> {
    /// Asks `entry` for permission. `others` are all other monitors, among them those to turn to when a provider
    /// falls silent.
    pub fn new(
        now: Instant,
        config: RequesterConfig,
        entry: EntityInst,
        others: Vec<EntityInst>,
        entropy: E,
    ) -> Self {
        let mut cx = Context::new(config, entry, others, entropy);
        cx.start(now);
        Self { state: State::Starting { backoffs: 0 }, cx }
    }

    /// What it is doing, in words.
    pub const fn state_name(&self) -> &'static str {
        self.state.name()
    }

    fn step(&mut self, now: Instant, event: Event) {
        // A failed step leaves `Ended` behind, so there is no half-moved state to repair.
        let told = self.state.peers();
        self.state = match mem::replace(&mut self.state, State::Ended).step(now, event, &mut self.cx) {
            Ok(next) => next,
            Err(error) => {
                for to in told {
                    self.cx.send(&to, Message::new(Op::Abort));
                }
                self.cx.end(RequesterOutput::Failed(error));
                State::Ended
            }
        };
    }
}

impl<E: Entropy> Machine for Requester<E> {
    type Input = RequesterInput;
    type Output = RequesterOutput;

    fn handle(&mut self, now: Instant, input: RequesterInput) {
        let event = match input {
            RequesterInput::Message { from, message } => Event::Received(from, message),
            RequesterInput::Applied(op) => Event::Applied(op),
            RequesterInput::ApplyFailed => Event::ApplyFailed,
        };
        self.step(now, event);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.cx.wait.take_expired(now) {
            self.step(now, Event::Silence);
        }
        let event = match &mut self.cx.beat {
            Beat::Due(timer) => timer.take_expired(now).then_some(Event::BeatDue),
            Beat::Sent(timer) => timer.take_expired(now).then_some(Event::BeatLost),
            Beat::Stopped => None,
        };
        if let Some(event) = event {
            self.step(now, event);
        }
    }

    fn poll_output(&mut self) -> Option<RequesterOutput> {
        self.cx.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let (Beat::Due(beat) | Beat::Sent(beat)) = self.cx.beat else { return self.cx.wait.deadline() };
        Timer::earliest([self.cx.wait, beat])
    }
}

impl<E> fmt::Debug for Requester<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requester").field("state", &self.state).finish_non_exhaustive()
    }
}
