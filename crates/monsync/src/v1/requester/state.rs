use alloc::collections::VecDeque;
use alloc::vec::Vec;

use cuttlebone_machine::{Entropy, Instant, Timer};
use cuttlebone_wire::EntityInst;

use super::RequesterOutput;
use crate::store::OpIds;
use crate::v1::RequesterConfig;
use crate::v1::message::{Flags, Message, Op};
use crate::v1::phase::Phases;
use crate::{Effect, Error, OpId, SyncKind, Version};

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one exists at a time")]
pub(super) enum State {
    /// Permission has been asked for.
    Starting { backoffs: u32 },
    /// We have been told to try again.
    Waiting { backoffs: u32 },
    /// Chunks come, are checked and applied.
    Pulling(Pull),
    /// Everything has come; the leader is being told, and the store finishes its work.
    Finishing(Finish),
    /// It is over, and has been said.
    Ended,
}

#[derive(Debug)]
pub(super) struct Pull {
    leader: EntityInst,
    provider: EntityInst,
    /// Providers that fell silent. One is not asked twice: what it still sends could not be told apart.
    tried: Vec<EntityInst>,
    phases: Phases,
    chunk: Chunk,
}

/// Where the one chunk is that may be on its way.
#[derive(Debug, PartialEq, Eq)]
enum Chunk {
    /// With the provider.
    Asked,
    /// With the store.
    Applying(OpId),
    /// The last one, with the store.
    ApplyingLast(OpId, Version),
}

#[derive(Debug)]
pub(super) struct Finish {
    leader: EntityInst,
    version: Version,
    /// How often the end has been announced; `None` once it has been heard.
    announced: Option<u32>,
}

#[expect(clippy::large_enum_variant, reason = "one exists at a time")]
pub(super) enum Event {
    Received(EntityInst, Message),
    Applied(OpId),
    ApplyFailed,
    /// What we wait for has not come.
    Silence,
    BeatDue,
    BeatLost,
}

impl State {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Starting { .. } => "asking for permission",
            Self::Waiting { .. } => "waiting to ask again",
            Self::Pulling(_) => "pulling chunks",
            Self::Finishing(_) => "finishing the copy",
            Self::Ended => "ended",
        }
    }

    /// Who has to be told if it fails.
    pub(super) fn peers(&self) -> Vec<EntityInst> {
        match self {
            Self::Pulling(pull) if pull.leader == pull.provider => alloc::vec![pull.leader.clone()],
            Self::Pulling(pull) => alloc::vec![pull.provider.clone(), pull.leader.clone()],
            Self::Starting { .. } | Self::Waiting { .. } | Self::Finishing(_) | Self::Ended => Vec::new(),
        }
    }

    pub(super) fn step<E: Entropy>(
        self,
        now: Instant,
        event: Event,
        cx: &mut Context<E>,
    ) -> Result<Self, Error> {
        match (self, event) {
            (Self::Ended, _) => Ok(Self::Ended),
            (_, Event::ApplyFailed) => Err(Error::Store),
            (Self::Starting { backoffs }, event) => Self::starting(backoffs, now, event, cx),
            (Self::Waiting { backoffs }, Event::Silence) => {
                cx.start(now);
                Ok(Self::Starting { backoffs })
            }
            (Self::Waiting { backoffs }, _) => Ok(Self::Waiting { backoffs }),
            (Self::Pulling(pull), event) => pull.step(now, event, cx),
            (Self::Finishing(finish), event) => finish.step(now, event, cx),
        }
    }

    fn starting<E: Entropy>(
        backoffs: u32,
        now: Instant,
        event: Event,
        cx: &mut Context<E>,
    ) -> Result<Self, Error> {
        match event {
            // Whoever answers is the leader; we may have asked somebody else.
            Event::Received(from, message) if message.op == Op::StartReply => {
                if message.flags.contains(Flags::RETRY) {
                    if backoffs >= cx.config.backoffs_max {
                        return Err(Error::Refused);
                    }
                    cx.wait.set(now + cx.config.backoff);
                    return Ok(Self::Waiting { backoffs: backoffs.saturating_add(1) });
                }
                let provider = message.reply_to().cloned().unwrap_or_else(|| from.clone());
                Ok(Pull::begin(now, from, provider, cx))
            }
            Event::Received(from, message) if message.op == Op::Abort && from == cx.entry => {
                Err(Error::Aborted)
            }
            Event::Silence => {
                Err(Error::TimedOut { after: cx.config.start_timeout, waiting_for: "permission" })
            }
            // Strays of an earlier copy.
            Event::Received(..)
            | Event::Applied(_)
            | Event::ApplyFailed
            | Event::BeatDue
            | Event::BeatLost => Ok(Self::Starting { backoffs }),
        }
    }
}

impl Pull {
    fn begin<E: Entropy>(
        now: Instant,
        leader: EntityInst,
        provider: EntityInst,
        cx: &mut Context<E>,
    ) -> State {
        cx.beat(now, &leader);
        cx.begin();
        let mut pull =
            Self { leader, provider, tried: Vec::new(), phases: Phases::default(), chunk: Chunk::Asked };
        pull.ask(now, Message::new(Op::StartChunks), cx);
        State::Pulling(pull)
    }

    fn ask<E: Entropy>(&mut self, now: Instant, message: Message, cx: &mut Context<E>) {
        cx.outputs.push_back(RequesterOutput::Provider(self.provider.clone()));
        cx.send(&self.provider, message);
        cx.wait.set(now + cx.config.idle_timeout);
        self.chunk = Chunk::Asked;
    }

    fn step<E: Entropy>(mut self, now: Instant, event: Event, cx: &mut Context<E>) -> Result<State, Error> {
        match event {
            Event::Received(from, message) => match message.op {
                Op::Chunk if from == self.provider => self.received(&message, cx)?,
                Op::HeartbeatReply if from == self.leader => cx.beat_answered(now),
                Op::Abort if from == self.leader => return Err(Error::Aborted),
                // Strays: of an earlier provider, of an earlier leader, or late.
                _ => {}
            },
            Event::Applied(op) => {
                cx.applied(op)?;
                return self.applied(now, op, cx);
            }
            Event::Silence => self.next_provider(now, cx)?,
            Event::BeatDue => cx.beat(now, &self.leader),
            Event::BeatLost => {
                let after = cx.config.heartbeat_timeout;
                return Err(Error::TimedOut { after, waiting_for: "heartbeat of the leader" });
            }
            Event::ApplyFailed => return Err(Error::Store),
        }
        Ok(State::Pulling(self))
    }

    fn received<E: Entropy>(&mut self, message: &Message, cx: &mut Context<E>) -> Result<(), Error> {
        if self.chunk != Chunk::Asked {
            return Err(Error::Unexpected { state: "applying a chunk", got: "another chunk" });
        }
        let last = message.flags.contains(Flags::LAST);
        if last && message.version == Version(0) {
            return Err(Error::Unexpected { state: "pulling chunks", got: "a last chunk of no version" });
        }
        let checked = self.phases.chunk(message, &cx.config)?;
        // The provider's turn is over; our own disk has no deadline.
        cx.wait.stop();
        let op = cx.apply(Effect::Chunk { raw: checked.raw, transaction: checked.transaction });
        self.chunk = if last { Chunk::ApplyingLast(op, message.version) } else { Chunk::Applying(op) };
        Ok(())
    }

    /// Answers a chunk once it is durable. History answered before it had even been applied.
    fn applied<E: Entropy>(mut self, now: Instant, op: OpId, cx: &mut Context<E>) -> Result<State, Error> {
        match self.chunk {
            Chunk::Applying(chunk) if chunk <= op => {
                self.chunk = Chunk::Asked;
                cx.send(&self.provider, Message::new(Op::ChunkReply));
                cx.wait.set(now + cx.config.idle_timeout);
            }
            Chunk::ApplyingLast(chunk, version) if chunk <= op => {
                let alone = self.tried.is_empty();
                let fit = self.phases.finish(version);
                let (first, last) =
                    fit.map_err(|error| if alone { Error::Chunk(error) } else { Error::Mixed(error) })?;
                cx.send(&self.provider, Message::new(Op::ChunkReply).with_flags(Flags::LAST));
                cx.apply(Effect::Replay { first, last });
                cx.apply(Effect::Commit { last_committed: version });
                cx.beat = Beat::Stopped;
                let mut finish = Finish { leader: self.leader, version, announced: Some(0) };
                finish.announce(now, cx);
                return Ok(State::Finishing(finish));
            }
            Chunk::Asked | Chunk::Applying(_) | Chunk::ApplyingLast(..) => {}
        }
        Ok(State::Pulling(self))
    }

    fn next_provider<E: Entropy>(&mut self, now: Instant, cx: &mut Context<E>) -> Result<(), Error> {
        let silent = self.provider.clone();
        cx.send(&silent, Message::new(Op::Abort));
        self.tried.push(silent);
        let left: Vec<_> = cx.others.iter().filter(|inst| !self.tried.contains(inst)).cloned().collect();
        let tried = u32::try_from(self.tried.len()).unwrap_or(u32::MAX);
        let index = cx.entropy.below(u64::try_from(left.len()).unwrap_or(u64::MAX));
        let next = usize::try_from(index).ok().and_then(|index| left.get(index));
        let Some(next) = next.filter(|_| tried <= cx.config.providers_max) else {
            return Err(Error::NoProvider { tried });
        };
        self.provider = next.clone();
        let mut message = Message::new(Op::StartChunks);
        match self.phases.resume() {
            Some(last_key) => message.last_key = last_key,
            None => cx.begin(),
        }
        self.ask(now, message, cx);
        Ok(())
    }
}

impl Finish {
    fn step<E: Entropy>(mut self, now: Instant, event: Event, cx: &mut Context<E>) -> Result<State, Error> {
        match event {
            Event::Received(from, message) if message.op == Op::FinishReply && from == self.leader => {
                self.heard(cx);
            }
            Event::Silence => self.announce(now, cx),
            Event::Applied(op) => cx.applied(op)?,
            // The copy is complete; nothing that anybody says can change it.
            Event::Received(..) | Event::ApplyFailed | Event::BeatDue | Event::BeatLost => {}
        }
        if self.announced.is_some() || !cx.unapplied.is_empty() {
            return Ok(State::Finishing(self));
        }
        cx.end(RequesterOutput::Done(self.version));
        Ok(State::Ended)
    }

    /// Tells the leader, some times; it only wants to know when it may trim again.
    fn announce<E>(&mut self, now: Instant, cx: &mut Context<E>) {
        match self.announced {
            Some(times) if times < cx.config.finishes_max => {
                self.announced = Some(times.saturating_add(1));
                cx.send(&self.leader, Message::new(Op::Finish));
                cx.wait.set(now + cx.config.idle_timeout);
            }
            Some(_) => self.heard(cx),
            None => {}
        }
    }

    fn heard<E>(&mut self, cx: &mut Context<E>) {
        self.announced = None;
        cx.wait.stop();
    }
}

/// The heartbeat towards the leader.
#[derive(Debug)]
pub(super) enum Beat {
    Stopped,
    /// The next one is due then.
    Due(Timer),
    /// One has been sent; the answer is due then.
    Sent(Timer),
}

/// What all states share.
pub(super) struct Context<E> {
    config: RequesterConfig,
    entry: EntityInst,
    others: Vec<EntityInst>,
    entropy: E,
    ops: OpIds,
    /// Effects that are not durable yet: a beginning, one chunk, two at the end.
    unapplied: VecDeque<OpId>,
    /// Permission, the end of a pause, a chunk, or the answer to the end.
    pub(super) wait: Timer,
    pub(super) beat: Beat,
    pub(super) outputs: VecDeque<RequesterOutput>,
}

impl<E> Context<E> {
    pub(super) fn new(
        config: RequesterConfig,
        entry: EntityInst,
        others: Vec<EntityInst>,
        entropy: E,
    ) -> Self {
        Self {
            config,
            entry,
            others,
            entropy,
            ops: OpIds::default(),
            unapplied: VecDeque::new(),
            wait: Timer::STOPPED,
            beat: Beat::Stopped,
            outputs: VecDeque::new(),
        }
    }

    pub(super) fn start(&mut self, now: Instant) {
        let entry = self.entry.clone();
        self.send(&entry, Message::new(Op::Start));
        self.wait.set(now + self.config.start_timeout);
    }

    fn begin(&mut self) {
        self.apply(Effect::Begin { kind: SyncKind::Full, start: Version(0) });
    }

    fn beat(&mut self, now: Instant, leader: &EntityInst) {
        self.send(leader, Message::new(Op::Heartbeat));
        let mut timer = Timer::STOPPED;
        timer.set(now + self.config.heartbeat_timeout);
        self.beat = Beat::Sent(timer);
    }

    fn beat_answered(&mut self, now: Instant) {
        let mut timer = Timer::STOPPED;
        timer.set(now + self.config.heartbeat_interval);
        self.beat = Beat::Due(timer);
    }

    pub(super) fn send(&mut self, to: &EntityInst, message: Message) {
        self.outputs.push_back(RequesterOutput::Send { to: to.clone(), message });
    }

    fn apply(&mut self, effect: Effect) -> OpId {
        let op = self.ops.next();
        self.unapplied.push_back(op);
        self.outputs.push_back(RequesterOutput::Apply { op, effect });
        op
    }

    fn applied(&mut self, op: OpId) -> Result<(), Error> {
        if !self.unapplied.contains(&op) {
            return Err(Error::Misuse("an effect was reported that was not asked for"));
        }
        while self.unapplied.front().is_some_and(|first| *first <= op) {
            self.unapplied.pop_front();
        }
        Ok(())
    }

    /// The one last output.
    pub(super) fn end(&mut self, output: RequesterOutput) {
        self.wait.stop();
        self.beat = Beat::Stopped;
        self.unapplied.clear();
        self.outputs.push_back(output);
    }
}
