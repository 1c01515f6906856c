use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;

use bytes::{Bytes, BytesMut};
use cuttlebone_auth::{Accepted, Answer, MethodId, Server};
use cuttlebone_machine::Instant;
use cuttlebone_msgr::{
    AuthFrame, AuthMethod, Control, FrameDecoder, Handshake, HandshakeEvent, Limits, Mode, Opening,
    OpeningReply, Signatures,
};
use cuttlebone_wire::{EntityAddr, EntityType};

use crate::Error;

/// A connection that was accepted and does not belong to a session yet: from the banner to the opening.
///
/// It is no machine of its own but the first part of one: its bytes, its deadline and its answers are passed by
/// plain calls until an [`Acceptor`](crate::Acceptor) decides where the connection goes.
#[derive(Debug)]
pub struct Incoming {
    state: State,
    announced: EntityType,
    auth: Option<Server>,
    accepted: Option<Accepted>,
    /// For a peer that has no global id.
    spare_global_id: u64,
    deadline: Instant,
    openings: u8,
    limits: Limits,
    outbound: VecDeque<Bytes>,
}

#[derive(Debug)]
enum State {
    Shaking(Box<Handshake>),
    Opening(FrameDecoder),
    Failed,
}

/// A peer that is authenticated and wants a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrival {
    /// What the peer is.
    pub peer_type: EntityType,
    /// Whom it authenticated as.
    pub accepted: Accepted,
    /// The session that it wants.
    pub opening: Opening,
}

impl Incoming {
    pub(crate) fn new(peer: EntityAddr, spare_global_id: u64, limits: Limits, deadline: Instant) -> Self {
        let handshake = Handshake::accepting(cuttlebone_msgr::Identity::Monitor, peer, limits);
        let mut incoming = Self {
            state: State::Shaking(Box::new(handshake)),
            announced: EntityType::default(),
            auth: None,
            accepted: None,
            spare_global_id,
            deadline,
            openings: 0,
            limits,
            outbound: VecDeque::new(),
        };
        incoming.flush();
        incoming
    }

    /// When the connection has to be closed if it has no session by then.
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Bytes to send, in order; to be drained after every call.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outbound.pop_front()
    }

    /// How many bytes from the front of the buffer it needs to make progress.
    pub fn wanted(&self) -> usize {
        match &self.state {
            State::Shaking(handshake) => handshake.wanted(),
            State::Opening(decoder) => decoder.wanted(),
            State::Failed => 0,
        }
    }

    /// Takes what it can from the front of `inbound`. An arrival goes to
    /// [`Acceptor::decide`](crate::Acceptor::decide).
    ///
    /// # Errors
    ///
    /// Whatever the peer did wrong; the connection has to be closed.
    pub fn handle_bytes(&mut self, inbound: &mut BytesMut) -> Result<Option<Arrival>, Error> {
        let result = self.advance(inbound);
        self.flush();
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    fn advance(&mut self, inbound: &mut BytesMut) -> Result<Option<Arrival>, Error> {
        loop {
            match &mut self.state {
                State::Shaking(handshake) => {
                    let Some(event) = handshake.handle_bytes(inbound)? else { return Ok(None) };
                    self.on_event(event)?;
                }
                State::Opening(decoder) => {
                    let Some(frame) = decoder.decode(inbound)? else { return Ok(None) };
                    return match (Control::read(&frame)?, &self.accepted) {
                        (Control::Opening(opening), Some(accepted)) => Ok(Some(Arrival {
                            peer_type: self.announced,
                            accepted: accepted.clone(),
                            opening,
                        })),
                        _ => Err(Error::Messenger(cuttlebone_msgr::Error::Unexpected {
                            stage: "waiting for the opening of a session",
                            got: frame.tag.name(),
                        })),
                    };
                }
                State::Failed => return Ok(None),
            }
        }
    }

    fn on_event(&mut self, event: HandshakeEvent) -> Result<(), Error> {
        match event {
            HandshakeEvent::Hello(hello) => {
                self.announced = hello.entity_type;
                self.auth = Some(Server::none(hello.entity_type, self.spare_global_id));
                Ok(())
            }
            HandshakeEvent::Auth(frame) => self.on_auth(frame),
            HandshakeEvent::Signed => {
                self.flush();
                if let State::Shaking(handshake) = core::mem::replace(&mut self.state, State::Failed) {
                    self.state = State::Opening(handshake.into_decoder());
                }
                Ok(())
            }
        }
    }

    fn on_auth(&mut self, frame: AuthFrame) -> Result<(), Error> {
        let (Some(auth), State::Shaking(handshake)) = (&mut self.auth, &mut self.state) else {
            return Err(Error::Misuse("authentication before HELLO"));
        };
        let answer = match frame {
            AuthFrame::Request { method, modes, payload } if modes.contains(&Mode::CRC) => {
                auth.on_request(MethodId(method.0), &payload)
            }
            AuthFrame::Request { method, .. } => Answer::BadMethod {
                method: MethodId(method.0),
                refusal: cuttlebone_auth::Refusal::UNSUPPORTED,
                allowed: auth.allowed(),
            },
            AuthFrame::RequestMore(answer) => auth.on_more(&answer),
            AuthFrame::BadMethod { .. } | AuthFrame::ReplyMore(_) | AuthFrame::Done { .. } => {
                return Err(Error::Misuse("a handshake let a server's frame through to a server"));
            }
        };
        match answer {
            Answer::More(question) => handshake.send_auth(&AuthFrame::ReplyMore(question))?,
            Answer::BadMethod { method, refusal, allowed } => handshake.send_auth(&AuthFrame::BadMethod {
                method: AuthMethod(method.0),
                result: refusal.0,
                allowed: allowed.iter().map(|method| AuthMethod(method.0)).collect(),
                modes: vec![Mode::CRC],
            })?,
            Answer::Done { payload, accepted } => {
                let global_id = accepted.global_id;
                handshake.send_auth(&AuthFrame::Done { global_id, mode: Mode::CRC, payload })?;
                let ours = accepted.key.signature(handshake.received());
                let theirs = accepted.key.signature(handshake.sent());
                handshake.sign(Signatures { ours, theirs })?;
                self.accepted = Some(accepted);
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        if let State::Shaking(handshake) = &mut self.state {
            while let Some(bytes) = handshake.poll_transmit() {
                self.outbound.push_back(bytes);
            }
        }
    }

    /// Answers the opening; the peer may then try another one.
    ///
    /// # Errors
    ///
    /// [`cuttlebone_msgr::Error::Unsettled`] if it has tried too often.
    pub(crate) fn reply(&mut self, reply: &OpeningReply) -> Result<(), Error> {
        if self.openings >= self.limits.opening_retries_max {
            return Err(cuttlebone_msgr::Error::Unsettled(self.openings).into());
        }
        self.openings = self.openings.saturating_add(1);
        self.outbound.push_back(reply.to_bytes());
        Ok(())
    }

    /// The decoder, for the session that takes the connection.
    pub(crate) fn into_decoder(self) -> Option<FrameDecoder> {
        match self.state {
            State::Opening(decoder) => Some(decoder),
            State::Shaking(_) | State::Failed => None,
        }
    }
}
