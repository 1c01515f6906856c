use alloc::collections::VecDeque;

use cuttlebone_machine::{Instant, Timer};

use super::{Progress, RequesterOutput, Summary};
use crate::store::OpIds;
use crate::v2::RequesterConfig;
use crate::v2::message::{Cookie, Message, Op, Request};
use crate::v2::pace::{Leave, Pace};
use crate::v2::scan::{Checked, Scan};
use crate::{Effect, Error, OpId, SyncKind, Version};

#[derive(Debug)]
pub(super) enum State {
    /// The provider has been asked for a cookie.
    ExpectCookie,
    /// Chunks are asked for, checked and applied.
    Pulling(Pull),
    /// The last chunk has come; requests behind it are being refused, and the store finishes its work.
    Ending(Copy),
    /// It is over, and has been said.
    Ended,
}

#[derive(Debug)]
pub(super) struct Pull {
    cookie: Cookie,
    start: Version,
    scan: Scan,
    target: Target,
}

/// Whether the store has been told to begin.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Untouched,
    Begun,
}

#[derive(Debug)]
pub(super) struct Copy {
    cookie: Cookie,
    start: Version,
    last_committed: Version,
}

/// Inputs and timers, with messages decoded.
pub(super) enum Event {
    Received(Result<Message, Error>),
    Applied(OpId),
    ApplyFailed,
    Disconnected,
    Resumed,
    Reconnected,
    /// Nothing came while something was due.
    Silence,
    /// The provider has had its rest.
    Rested,
}

impl State {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::ExpectCookie => "waiting for a cookie",
            Self::Pulling(_) => "pulling chunks",
            Self::Ending(_) => "finishing the copy",
            Self::Ended => "ended",
        }
    }

    pub(super) fn step(self, now: Instant, event: Event, cx: &mut Context) -> Result<Self, Error> {
        match (self, event) {
            (Self::Ended, _) => Ok(Self::Ended),
            (_, Event::ApplyFailed) => Err(Error::Store),
            // The copy is complete by now; whatever else the peer says cannot change it.
            (Self::Ending(copy), event) => copy.step(event, cx),
            (_, Event::Received(Err(error))) => Err(error),
            (Self::ExpectCookie, event) => Self::expect_cookie(now, event, cx),
            (Self::Pulling(pull), event) => pull.step(now, event, cx),
        }
    }

    fn expect_cookie(now: Instant, event: Event, cx: &mut Context) -> Result<Self, Error> {
        match event {
            Event::Received(Ok(message)) if message.op == Op::Cookie => Pull::begin(now, &message, cx),
            Event::Received(Ok(message)) if message.op == Op::NoCookie => Err(Error::Refused),
            Event::Received(Ok(message)) => Err(Self::ExpectCookie.unexpected(message.op.name())),
            Event::Received(Err(error)) => Err(error),
            Event::Silence => Err(cx.timed_out("cookie")),
            Event::Disconnected => {
                cx.link = Link::Down;
                Ok(Self::ExpectCookie)
            }
            Event::Resumed => {
                cx.link = Link::Up;
                Ok(Self::ExpectCookie)
            }
            // A cookie that was granted on the old connection expires by itself. The timer runs on, which bounds
            // how often this can happen.
            Event::Reconnected => {
                cx.link = Link::Up;
                cx.send(Request::GetCookie(cx.kind));
                Ok(Self::ExpectCookie)
            }
            Event::Applied(_) => Err(Error::Misuse("an effect was reported that was not asked for")),
            Event::ApplyFailed | Event::Rested => Ok(Self::ExpectCookie),
        }
    }

    const fn unexpected(&self, got: &'static str) -> Error {
        Error::Unexpected { state: self.name(), got }
    }
}

impl Pull {
    fn begin(now: Instant, message: &Message, cx: &mut Context) -> Result<State, Error> {
        let start = message.last_committed;
        if message.cookie == Cookie(0) {
            return Err(State::ExpectCookie.unexpected("cookie 0"));
        }
        if let SyncKind::Recent { after } = cx.kind
            && start != after
        {
            return Err(State::ExpectCookie.unexpected("a cookie for another start than ours"));
        }
        cx.progress.reached = start;
        cx.outputs.push_back(RequesterOutput::Started { start });
        let scan = Scan::new(cx.kind, start);
        let mut pull = Self { cookie: message.cookie, start, scan, target: Target::Untouched };
        if cx.kind == SyncKind::Full {
            pull.touch(cx);
        }
        pull.ask(now, cx);
        cx.watch(now);
        Ok(State::Pulling(pull))
    }

    /// Tells the store to begin, once. A recent copy that brings nothing leaves the store alone.
    fn touch(&mut self, cx: &mut Context) {
        if self.target == Target::Untouched {
            self.target = Target::Begun;
            cx.apply(Effect::Begin { kind: cx.kind, start: self.start });
        }
    }

    fn step(self, now: Instant, event: Event, cx: &mut Context) -> Result<State, Error> {
        match event {
            Event::Received(Err(error)) => return Err(error),
            Event::Received(Ok(message)) => return self.received(now, message, cx),
            Event::Applied(op) => cx.applied(op)?,
            Event::Disconnected => {
                cx.link = Link::Down;
                if cx.idle.deadline().is_none() {
                    cx.idle.set(now + cx.config.idle_timeout);
                }
            }
            Event::Resumed => cx.up(),
            // The provider's place in the scan moves with each answer and cannot be moved back, so an answer that
            // is lost is lost for this cookie. If none was on its way, the cookie lives on.
            Event::Reconnected if cx.in_flight.is_empty() => cx.up(),
            Event::Reconnected => return Err(Error::ConnectionLost { outstanding: cx.in_flight.len() }),
            Event::Silence if cx.link == Link::Down => return Err(cx.timed_out("connection")),
            Event::Silence => return Err(cx.timed_out("chunk")),
            Event::Rested | Event::ApplyFailed => {}
        }
        self.ask(now, cx);
        Ok(State::Pulling(self))
    }

    fn received(mut self, now: Instant, message: Message, cx: &mut Context) -> Result<State, Error> {
        if !matches!(message.op, Op::Chunk | Op::LastChunk | Op::NoCookie) {
            return Err(State::Pulling(self).unexpected(message.op.name()));
        }
        if message.cookie != self.cookie {
            return Err(Error::WrongCookie { ours: self.cookie, got: message.cookie });
        }
        if message.op == Op::NoCookie {
            return Err(self.cookie_lost(cx));
        }
        let Some(asked) = cx.in_flight.pop_front() else {
            return Err(State::Pulling(self).unexpected("a chunk that was not asked for"));
        };
        cx.pace.answered(now, asked, message.chunk.len(), cx.in_flight.len());
        let bytes = message.chunk.len();
        let chunk = self.scan.chunk(message.chunk, message.last_committed, &cx.config)?;
        self.keep(chunk, bytes, cx);
        if message.op == Op::LastChunk {
            return self.end(now, cx);
        }
        self.ask(now, cx);
        cx.watch(now);
        Ok(State::Pulling(self))
    }

    /// The first chunk of a recent copy is refused if the versions after ours are gone; later on, and in a full
    /// copy, it may as well be that the cookie expired or that the provider restarted.
    fn cookie_lost(&self, cx: &Context) -> Error {
        match self.scan.kind() {
            SyncKind::Recent { after } if cx.progress.chunks == 0 => Error::FellBehind { after },
            SyncKind::Recent { .. } | SyncKind::Full => Error::CookieLost,
        }
    }

    /// Hands a chunk to the store.
    fn keep(&mut self, chunk: Checked, bytes: usize, cx: &mut Context) {
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let progress = &mut cx.progress;
        progress.bytes = progress.bytes.saturating_add(wide(bytes));
        progress.keys = progress.keys.saturating_add(wide(chunk.transaction.ops.len()));
        progress.chunks = progress.chunks.saturating_add(1);
        progress.versions = progress.versions.saturating_add(chunk.versions);
        progress.reached = self.scan.reached();
        progress.window = cx.pace.window();
        cx.outputs.push_back(RequesterOutput::Progress(cx.progress));
        if !chunk.transaction.ops.is_empty() {
            self.touch(cx);
            cx.apply(Effect::Chunk { raw: chunk.raw, transaction: chunk.transaction });
        }
    }

    /// Asks for as many chunks as the pace allows.
    fn ask(&self, now: Instant, cx: &mut Context) {
        cx.rest.stop();
        while cx.link == Link::Up {
            match cx.pace.leave(now, cx.in_flight.len(), cx.chunks_unapplied()) {
                Leave::Now => {
                    cx.send(Request::GetChunk(self.cookie));
                    cx.in_flight.push_back(now);
                    if cx.idle.deadline().is_none() {
                        cx.watch(now);
                    }
                }
                Leave::At(ready) => {
                    cx.rest.set(ready);
                    break;
                }
                Leave::Later => break,
            }
        }
    }

    /// Everything has arrived: lets the store make a consistent copy of it.
    fn end(mut self, now: Instant, cx: &mut Context) -> Result<State, Error> {
        self.scan.finish()?;
        let last_committed = self.scan.reached();
        if self.target == Target::Begun {
            if let Some((first, last)) = self.scan.replay() {
                cx.apply(Effect::Replay { first, last });
            }
            cx.apply(Effect::Commit { last_committed });
        }
        self.target = Target::Begun;
        cx.rest.stop();
        cx.watch(now);
        Ok(Copy { cookie: self.cookie, start: self.start, last_committed }.settle(cx))
    }
}

impl Copy {
    fn step(self, event: Event, cx: &mut Context) -> Result<State, Error> {
        match event {
            Event::Applied(op) => cx.applied(op)?,
            // Requests that were queued behind the last chunk are refused one by one.
            Event::Received(Ok(message)) if message.op == Op::NoCookie && message.cookie == self.cookie => {
                cx.in_flight.pop_front();
            }
            Event::Disconnected | Event::Reconnected | Event::Silence => cx.in_flight.clear(),
            Event::Received(_) | Event::Resumed | Event::Rested | Event::ApplyFailed => {}
        }
        Ok(self.settle(cx))
    }

    fn settle(self, cx: &mut Context) -> State {
        if cx.in_flight.is_empty() {
            cx.idle.stop();
        }
        if !cx.in_flight.is_empty() || !cx.unapplied.is_empty() {
            return State::Ending(self);
        }
        let Self { start, last_committed, .. } = self;
        cx.end(RequesterOutput::Done(Summary {
            kind: cx.kind,
            start,
            last_committed,
            progress: cx.progress,
        }));
        State::Ended
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Up,
    Down,
}

/// Whether an effect holds a chunk in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    Chunk,
    Nothing,
}

/// What all states share.
#[derive(Debug)]
pub(super) struct Context {
    config: RequesterConfig,
    kind: SyncKind,
    pace: Pace,
    link: Link,
    /// When the requests that wait for an answer were sent. At most the window.
    in_flight: VecDeque<Instant>,
    /// Effects that are not durable yet: chunks, at most the window with the requests in flight, and three more.
    unapplied: VecDeque<(OpId, Weight)>,
    ops: OpIds,
    /// The provider owes an answer, or the caller a connection. Our own disk has no deadline.
    pub(super) idle: Timer,
    /// The provider has earned a rest, or the rate is used up.
    pub(super) rest: Timer,
    pub(super) progress: Progress,
    pub(super) outputs: VecDeque<RequesterOutput>,
}

impl Context {
    pub(super) fn new(config: RequesterConfig, kind: SyncKind) -> Self {
        Self {
            kind,
            pace: Pace::new(config.pace.clone()),
            config,
            link: Link::Up,
            in_flight: VecDeque::new(),
            unapplied: VecDeque::new(),
            ops: OpIds::default(),
            idle: Timer::STOPPED,
            rest: Timer::STOPPED,
            progress: Progress::default(),
            outputs: VecDeque::new(),
        }
    }

    pub(super) fn start(&mut self, now: Instant) {
        self.send(Request::GetCookie(self.kind));
        self.idle.set(now + self.config.idle_timeout);
    }

    fn send(&mut self, request: Request) {
        self.outputs.push_back(RequesterOutput::Send(request));
    }

    fn apply(&mut self, effect: Effect) {
        let op = self.ops.next();
        let weight = if matches!(effect, Effect::Chunk { .. }) { Weight::Chunk } else { Weight::Nothing };
        self.unapplied.push_back((op, weight));
        self.outputs.push_back(RequesterOutput::Apply { op, effect });
    }

    fn applied(&mut self, op: OpId) -> Result<(), Error> {
        if !self.unapplied.iter().any(|(unapplied, _)| *unapplied == op) {
            return Err(Error::Misuse("an effect was reported that was not asked for"));
        }
        while self.unapplied.front().is_some_and(|(first, _)| *first <= op) {
            self.unapplied.pop_front();
        }
        Ok(())
    }

    fn chunks_unapplied(&self) -> usize {
        self.unapplied.iter().filter(|(_, weight)| *weight == Weight::Chunk).count()
    }

    /// What the provider owes, it owes since before the connection was lost: a link that comes back again and again
    /// and never delivers is as silent as one that stays.
    fn up(&mut self) {
        self.link = Link::Up;
        if self.in_flight.is_empty() {
            self.idle.stop();
        }
    }

    /// The provider has the whole timeout again if it owes an answer, and none if it does not.
    fn watch(&mut self, now: Instant) {
        if self.in_flight.is_empty() && self.link == Link::Up {
            self.idle.stop();
        } else {
            self.idle.set(now + self.config.idle_timeout);
        }
    }

    const fn timed_out(&self, waiting_for: &'static str) -> Error {
        Error::TimedOut { after: self.config.idle_timeout, waiting_for }
    }

    /// The one last output.
    pub(super) fn end(&mut self, output: RequesterOutput) {
        self.idle.stop();
        self.rest.stop();
        self.in_flight.clear();
        self.unapplied.clear();
        self.outputs.push_back(output);
    }
}
