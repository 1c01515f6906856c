use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::fmt;

use bytes::{Bytes, BytesMut};
use cuttlebone_machine::{Entropy, Instant, StreamOutput};
use cuttlebone_msgr::{
    ClientIdent, Control, Frame, FrameDecoder, Handshake, HandshakeEvent, Limits, MessageHeader, Policy,
    Progress, Received, Session, Start, Tag, encode_frame,
};
use cuttlebone_wire::{Decode, Encode, Features, Message, Reader};

use crate::dialler::Dialler;
use crate::event::Granted;
use crate::timers::Timers;
use crate::{Adoption, DialConfig, Error, Event, Ready, Timing};

mod machine;

/// One authenticated connection to a peer, or one session over several of them, in either role.
///
/// ```text
/// dialling   Waiting ─▶ Dialling ─▶ Shaking ─▶ Opening ─▶ Open ─▶ Closed
///               ▲           │          │          │        │
///               └───────────┴──────────┴──────────┴────────┘ lost, to be retried
/// accepting                             Standby ◀────────▶ Open ─▶ Closed
/// ```
pub struct Link {
    limits: Limits,
    timing: Timing,
    state: State,
    role: Role,
    session: Session,
    closing: bool,
    timers: Timers,
    /// Keepalives sent; the stamp that the peer echoes means nothing else.
    keepalives: u32,
    outputs: VecDeque<StreamOutput<Event>>,
}

#[derive(Debug)]
enum State {
    /// Dialling: a pause before the next attempt.
    Waiting,
    /// Dialling: asked for a connection.
    Dialling,
    /// Dialling: from the banner to the signatures.
    Shaking(Box<Handshake>),
    /// Dialling: the session is to be opened or resumed.
    Opening(Box<Opening>),
    /// The session is open.
    Open(FrameDecoder),
    /// Accepting: the peer is expected to come back.
    Standby,
    /// Over.
    Closed,
}

impl State {
    const fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting to dial again",
            Self::Dialling => "dialling",
            Self::Shaking(handshake) => handshake.stage().name(),
            Self::Opening(_) => "opening the session",
            Self::Open(_) => "the session is open",
            Self::Standby => "waiting for the peer to come back",
            Self::Closed => "closed",
        }
    }
}

#[derive(Debug)]
struct Opening {
    decoder: FrameDecoder,
    ident: ClientIdent,
}

enum Role {
    Dialling(Box<Dialler>),
    Accepting(Box<Ready>),
}

impl Link {
    /// A link that dials at once. `entropy` gives cookies and pauses.
    pub fn dial(config: DialConfig, mut entropy: Box<dyn Entropy + Send>, now: Instant) -> Self {
        let (limits, timing) = (config.limits, config.timing);
        let session = Session::dialling(config.policy, limits, &mut *entropy);
        let role = Role::Dialling(Box::new(Dialler::new(config, entropy, now)));
        let mut link = Self::new(limits, timing, role, session, State::Waiting);
        link.dial_now(now);
        link
    }

    /// A link over a connection that was accepted, with its session granted.
    pub(crate) fn accepted(
        limits: Limits,
        timing: Timing,
        session: Session,
        adoption: Adoption,
        now: Instant,
    ) -> Self {
        let role = Role::Accepting(adoption.ready.clone());
        let mut link = Self::new(limits, timing, role, session, State::Standby);
        link.adopt(now, adoption);
        link
    }

    fn new(limits: Limits, timing: Timing, role: Role, session: Session, state: State) -> Self {
        Self {
            limits,
            timing,
            state,
            role,
            session,
            closing: false,
            timers: Timers::default(),
            keepalives: 0,
            outputs: VecDeque::new(),
        }
    }

    /// What is going on, for messages to people.
    pub const fn state_name(&self) -> &'static str {
        self.state.name()
    }

    const fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(StreamOutput::Event(event));
    }

    fn transmit(&mut self, bytes: Bytes) {
        self.outputs.push_back(StreamOutput::Transmit(bytes));
    }

    // --- getting a connection ---

    fn dial_now(&mut self, now: Instant) {
        self.state = State::Dialling;
        self.timers.retry.stop();
        self.timers.ready.set(now + self.timing.ready_within);
        self.outputs.push_back(StreamOutput::Dial);
    }

    /// The connection, or the attempt to get one, has failed.
    fn fail(&mut self, now: Instant, was_open: bool, error: Error) {
        self.state = State::Closed;
        self.timers.disconnected();
        let lossy = was_open && self.session.policy() == Policy::Lossy;
        if lossy || !error.is_retryable() {
            return self.end(Err(error));
        }
        match &mut self.role {
            Role::Accepting(_) => {
                self.state = State::Standby;
                self.timers.standby.set(now + self.timing.standby_max);
                self.outputs.push_back(StreamOutput::Disconnect);
                self.event(Event::Lost(error));
            }
            Role::Dialling(dialler) => {
                if was_open {
                    dialler.give_up_at = now + self.timing.give_up_after;
                } else if now >= dialler.give_up_at {
                    return self.end(Err(error));
                }
                let pause = match error {
                    Error::Busy => dialler.backoff.max(),
                    _ => dialler.backoff.next(&mut *dialler.entropy),
                };
                self.state = State::Waiting;
                self.timers.retry.set((now + pause).min(dialler.give_up_at));
                self.outputs.push_back(StreamOutput::Disconnect);
                if was_open {
                    self.event(Event::Lost(error));
                }
            }
        }
    }

    fn end(&mut self, how: Result<(), Error>) {
        self.state = State::Closed;
        self.timers = Timers::default();
        self.event(Event::Closed(how));
        self.outputs.push_back(StreamOutput::Finished);
    }

    // --- from the banner to the signatures ---

    fn shake(&mut self, mut handshake: Box<Handshake>, inbound: &mut BytesMut) -> Result<bool, Error> {
        let event = handshake.handle_bytes(inbound)?;
        while let Some(bytes) = handshake.poll_transmit() {
            self.transmit(bytes);
        }
        let Role::Dialling(dialler) = &mut self.role else {
            return Err(Error::Misuse("an accepted link shakes no hands"));
        };
        let goes_on = event.is_some();
        match event {
            None => {}
            Some(HandshakeEvent::Hello(hello)) => {
                dialler.on_hello(&hello, &mut handshake)?;
            }
            Some(HandshakeEvent::Auth(frame)) => dialler.on_auth(frame, &mut handshake)?,
            Some(HandshakeEvent::Signed) => {
                self.state = State::Opening(Box::new(Opening {
                    ident: dialler.ident(),
                    decoder: handshake.into_decoder(),
                }));
                self.session.begin_attempt();
                self.send_opening();
                return Ok(true);
            }
        }
        while let Some(bytes) = handshake.poll_transmit() {
            self.transmit(bytes);
        }
        self.state = State::Shaking(handshake);
        Ok(goes_on)
    }

    // --- opening the session ---

    fn send_opening(&mut self) {
        if let State::Opening(opening) = &self.state {
            let bytes = self.session.opening(&opening.ident).to_bytes();
            self.transmit(bytes);
        }
    }

    fn open(
        &mut self,
        now: Instant,
        mut opening: Box<Opening>,
        inbound: &mut BytesMut,
    ) -> Result<bool, Error> {
        let Some(frame) = opening.decoder.decode(inbound)? else {
            self.state = State::Opening(opening);
            return Ok(false);
        };
        let Control::Reply(reply) = Control::read(&frame)? else {
            return Err(unexpected("opening the session", frame.tag));
        };
        let Role::Dialling(dialler) = &mut self.role else {
            return Err(Error::Misuse("an accepted link opens nothing"));
        };
        match self.session.on_reply(&reply, &opening.ident, &mut *dialler.entropy)? {
            Progress::Open(start) => {
                let ready = Box::new(dialler.on_open(&reply, start, self.session.policy()));
                self.on_open(now, opening.decoder, ready);
            }
            Progress::Again => {
                self.state = State::Opening(opening);
                self.send_opening();
            }
            Progress::Forgotten => {
                let ready = Box::new(dialler.on_open(&reply, Start::Fresh, self.session.policy()));
                self.event(Event::Reset);
                self.on_open(now, opening.decoder, ready);
            }
            Progress::Wait => return Err(Error::Busy),
        }
        Ok(true)
    }

    fn adopt(&mut self, now: Instant, adoption: Adoption) {
        let Role::Accepting(ready) = &mut self.role else {
            return self.end(Err(Error::Misuse("a dialling link adopts no connection")));
        };
        let (reply, start) = match adoption.granted {
            Granted::New(ident) => {
                ready.clone_from(&adoption.ready);
                (self.session.grant(ident), Start::Fresh)
            }
            // A reconnect says nothing of features and numbers: those of the grant hold.
            Granted::Resumed { msg_seq } => match self.session.accept_reconnect(msg_seq) {
                Ok(reply) => (reply, Start::Resumed),
                Err(error) => return self.end(Err(error.into())),
            },
        };
        let ready = Box::new(Ready { start, policy: self.session.policy(), ..(**ready).clone() });
        self.transmit(reply.to_bytes());
        self.on_open(now, adoption.decoder, ready);
    }

    fn on_open(&mut self, now: Instant, mut decoder: FrameDecoder, ready: Box<Ready>) {
        decoder.allow_messages();
        self.state = State::Open(decoder);
        self.timers.ready.stop();
        self.timers.standby.stop();
        self.timers.keepalive.set(now + self.timing.keepalive_every);
        self.timers.silence.set(now + self.timing.silence_max);
        self.be_busy(now);
        self.event(Event::Ready(ready));
        self.pump();
    }

    // --- the open session ---

    /// A message went in or out.
    fn be_busy(&mut self, now: Instant) {
        if matches!(self.role, Role::Accepting(_)) && self.session.policy() == Policy::Lossy {
            self.timers.idle.set(now + self.timing.idle_max);
        }
    }

    /// Sends what is queued.
    fn pump(&mut self) {
        if !self.is_open() {
            return;
        }
        while let Some((header, message)) = self.session.pop() {
            let header = header.to_bytes(Features::PACIFIC);
            let Message { front, middle, data, .. } = message;
            let outputs = &mut self.outputs;
            encode_frame(Tag::Message, [header, front, middle, data], |part| {
                outputs.push_back(StreamOutput::Transmit(part));
            });
        }
    }

    /// Takes everything that is complete in `inbound`.
    fn flow(
        &mut self,
        now: Instant,
        mut decoder: FrameDecoder,
        inbound: &mut BytesMut,
    ) -> Result<bool, Error> {
        while let Some(frame) = decoder.decode(inbound)? {
            self.on_frame(now, &frame)?;
        }
        self.state = State::Open(decoder);
        self.pump();
        if let Some(seq) = self.session.due_ack() {
            self.transmit(Control::ack(seq));
        }
        if self.closing && self.session.is_drained() {
            self.end(Ok(()));
        }
        Ok(false)
    }

    fn on_frame(&mut self, now: Instant, frame: &Frame) -> Result<(), Error> {
        if frame.tag == Tag::Message {
            return self.on_message(now, frame);
        }
        match Control::read(frame)? {
            Control::Keepalive(stamp) => self.transmit(Control::keepalive_ack(stamp)),
            Control::KeepaliveAck(_) => {}
            Control::Ack(seq) => {
                self.session.on_ack(seq)?;
                self.proven();
            }
            Control::Hello(_)
            | Control::Auth(_)
            | Control::Signature(_)
            | Control::Opening(_)
            | Control::Reply(_) => return Err(unexpected("the session is open", frame.tag)),
        }
        Ok(())
    }

    fn on_message(&mut self, now: Instant, frame: &Frame) -> Result<(), Error> {
        let [header, front, middle, data] = &frame.segments;
        let header = MessageHeader::decode(&mut Reader::new(header)).map_err(cuttlebone_msgr::Error::from)?;
        self.be_busy(now);
        if self.session.on_message(&header)? == Received::New {
            self.proven();
            self.event(Event::Message(Message {
                kind: header.kind,
                version: header.version,
                compat_version: header.compat_version,
                priority: header.priority,
                tid: header.tid,
                front: front.clone(),
                middle: middle.clone(),
                data: data.clone(),
            }));
        }
        Ok(())
    }

    /// The connection has carried something: the next attempt after a loss is made at once. Not earlier, or a peer
    /// that opens sessions and breaks them would be dialled without any pause.
    fn proven(&mut self) {
        if let Role::Dialling(dialler) = &mut self.role {
            dialler.backoff.reset();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("state", &self.state.name()).finish_non_exhaustive()
    }
}

fn unexpected(stage: &'static str, tag: Tag) -> Error {
    Error::Messenger(cuttlebone_msgr::Error::Unexpected { stage, got: tag.name() })
}
