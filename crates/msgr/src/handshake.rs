use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use cuttlebone_wire::EntityAddr;

use crate::control::SIGNATURE_BYTES;
use crate::{AuthFrame, Banner, Control, Error, Frame, FrameDecoder, Hello, Identity, Limits, Tag};

/// What a [`Handshake`] waits for.
///
/// ```text
///            banner      hello         request, more, bad method …        done          signature
/// Banner ───────▶ Hello ───────▶ Ours ◀──────────────▶ Theirs ───▶ Concluded ───▶ Signature ───▶ Done
///                    └── accepting: ─────────────────────▲
/// ```
///
/// Source: `ceph/ceph:src/msg/async/ProtocolV2.cc`; `doc/dev/msgr2.rst`; order seen in 16.2.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the table of transitions names every one of them")]
pub enum Stage {
    /// The peer's banner.
    Banner,
    /// The peer's HELLO.
    Hello,
    /// Our own next frame of authentication.
    Ours,
    /// The peer's next frame of authentication.
    Theirs,
    /// The signatures to exchange, after AUTH_DONE.
    Concluded,
    /// The peer's signature.
    Signature,
    /// Nothing more.
    Done,
}

impl Stage {
    /// What is going on, for messages to people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Banner => "waiting for the banner",
            Self::Hello => "waiting for HELLO",
            Self::Ours => "preparing our side of authentication",
            Self::Theirs => "waiting for the peer's side of authentication",
            Self::Concluded => "preparing the signature",
            Self::Signature => "waiting for the signature",
            Self::Done => "opening the session",
        }
    }
}

/// What happened in a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever authenticates has to answer every one of them")]
pub enum HandshakeEvent {
    /// The peer said who it is. A dialling side now [sends](Handshake::send_auth) its request.
    Hello(Hello),
    /// A frame of authentication for whoever authenticates.
    Auth(AuthFrame),
    /// The peer's signature is right: the session can be opened.
    Signed,
}

/// The two signatures over a handshake, as the session key gives them; zeros where there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "ours and theirs")]
pub struct Signatures {
    /// Over [`Handshake::received`], to be sent.
    pub ours: [u8; SIGNATURE_BYTES],
    /// Over [`Handshake::sent`], to be expected.
    pub theirs: [u8; SIGNATURE_BYTES],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Dialling,
    Accepting,
}

/// One connection from the banner to the exchanged signatures, in either role.
///
/// It knows nothing of authentication: it hands the payloads up, and takes answers and signatures down.
#[derive(Clone, Debug)]
pub struct Handshake {
    side: Side,
    identity: Identity,
    /// The address that our HELLO tells the peer.
    peer_addr: EntityAddr,
    stage: Stage,
    /// Accepting: the peer has to go on with what it started.
    more: bool,
    decoder: FrameDecoder,
    limits: Limits,
    /// All bytes from the peer until our signature goes out; the signature covers them.
    received: Vec<u8>,
    /// All bytes to the peer until our signature goes out.
    sent: Vec<u8>,
    theirs: [u8; SIGNATURE_BYTES],
    outbound: VecDeque<Bytes>,
}

impl Handshake {
    /// The dialling side; `dialled` is the address it dialled, type and nonce included.
    pub fn dialling(identity: Identity, dialled: EntityAddr, limits: Limits) -> Self {
        Self::new(Side::Dialling, identity, dialled, limits)
    }

    /// The accepting side; `peer` is where the connection comes from.
    pub fn accepting(identity: Identity, peer: EntityAddr, limits: Limits) -> Self {
        Self::new(Side::Accepting, identity, peer, limits)
    }

    fn new(side: Side, identity: Identity, peer_addr: EntityAddr, limits: Limits) -> Self {
        let mut handshake = Self {
            side,
            identity,
            peer_addr,
            stage: Stage::Banner,
            more: false,
            decoder: FrameDecoder::new(limits),
            limits,
            received: Vec::new(),
            sent: Vec::new(),
            theirs: [0; SIGNATURE_BYTES],
            outbound: VecDeque::new(),
        };
        handshake.transmit(Banner::OURS.to_bytes());
        handshake
    }

    /// What it waits for.
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Bytes to send, in order; to be drained after every call.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outbound.pop_front()
    }

    /// How many bytes from the front of the buffer it needs to make progress.
    pub fn wanted(&self) -> usize {
        if self.stage == Stage::Banner { crate::BANNER_BYTES } else { self.decoder.wanted() }
    }

    /// Everything that the peer sent, for our signature.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Everything that we sent, for the peer's signature.
    pub fn sent(&self) -> &[u8] {
        &self.sent
    }

    /// Takes what it can from the front of `inbound`, up to one event; to be called again until it answers `None`.
    ///
    /// # Errors
    ///
    /// Whatever the peer did wrong; the connection is then of no use.
    pub fn handle_bytes(&mut self, inbound: &mut BytesMut) -> Result<Option<HandshakeEvent>, Error> {
        loop {
            match self.stage {
                Stage::Banner => {
                    let Some((banner, raw)) = Banner::take(inbound)? else { return Ok(None) };
                    self.record(&raw)?;
                    banner.accept()?;
                    self.transmit(Hello::frame(self.identity, &self.peer_addr));
                    self.stage = Stage::Hello;
                }
                Stage::Ours | Stage::Concluded | Stage::Done => return Ok(None),
                Stage::Hello | Stage::Theirs | Stage::Signature => {
                    let Some(frame) = self.decoder.decode(inbound)? else { return Ok(None) };
                    return self.on_frame(&frame).map(Some);
                }
            }
        }
    }

    fn on_frame(&mut self, frame: &Frame) -> Result<HandshakeEvent, Error> {
        if !self.expects(frame.tag) {
            return Err(Error::Unexpected { stage: self.stage.name(), got: frame.tag.name() });
        }
        match Control::read(frame)? {
            Control::Hello(hello) => {
                self.record(&frame.raw)?;
                self.stage = match self.side {
                    Side::Dialling => Stage::Ours,
                    Side::Accepting => Stage::Theirs,
                };
                Ok(HandshakeEvent::Hello(hello))
            }
            Control::Auth(auth) => {
                self.record(&frame.raw)?;
                let done = matches!(auth, AuthFrame::Done { .. });
                self.stage = if done { Stage::Concluded } else { Stage::Ours };
                Ok(HandshakeEvent::Auth(auth))
            }
            Control::Signature(signature) if same(&signature, &self.theirs) => {
                self.stage = Stage::Done;
                Ok(HandshakeEvent::Signed)
            }
            Control::Signature(_) => Err(Error::Signature),
            _ => Err(Error::Unexpected { stage: self.stage.name(), got: frame.tag.name() }),
        }
    }

    fn expects(&self, tag: Tag) -> bool {
        match (self.stage, self.side) {
            (Stage::Hello, _) => tag == Tag::Hello,
            (Stage::Theirs, Side::Dialling) => {
                matches!(tag, Tag::AuthBadMethod | Tag::AuthReplyMore | Tag::AuthDone)
            }
            (Stage::Theirs, Side::Accepting) if self.more => tag == Tag::AuthRequestMore,
            (Stage::Theirs, Side::Accepting) => tag == Tag::AuthRequest,
            (Stage::Signature, _) => tag == Tag::AuthSignature,
            (Stage::Banner | Stage::Ours | Stage::Concluded | Stage::Done, _) => false,
        }
    }

    /// Sends our next frame of authentication.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] if it is not our turn, or if the frame is not one that this side sends.
    pub fn send_auth(&mut self, frame: &AuthFrame) -> Result<(), Error> {
        let ours = match frame {
            AuthFrame::Request { .. } | AuthFrame::RequestMore(_) => Side::Dialling,
            AuthFrame::BadMethod { .. } | AuthFrame::ReplyMore(_) | AuthFrame::Done { .. } => Side::Accepting,
        };
        if self.stage != Stage::Ours || self.side != ours {
            return Err(Error::Unexpected {
                stage: self.stage.name(),
                got: "our own frame of authentication",
            });
        }
        self.transmit(frame.to_bytes());
        self.more = matches!(frame, AuthFrame::ReplyMore(_));
        let done = matches!(frame, AuthFrame::Done { .. });
        self.stage = if done { Stage::Concluded } else { Stage::Theirs };
        Ok(())
    }

    /// Sends our signature, after AUTH_DONE, and knows from now on what the peer's has to be.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] before AUTH_DONE.
    pub fn sign(&mut self, signatures: Signatures) -> Result<(), Error> {
        if self.stage != Stage::Concluded {
            return Err(Error::Unexpected { stage: self.stage.name(), got: "our own signature" });
        }
        self.theirs = signatures.theirs;
        self.outbound.push_back(Control::signature(signatures.ours));
        self.received = Vec::new();
        self.sent = Vec::new();
        self.stage = Stage::Signature;
        Ok(())
    }

    /// The decoder, for what follows.
    pub fn into_decoder(self) -> FrameDecoder {
        self.decoder
    }

    fn transmit(&mut self, bytes: Bytes) {
        self.sent.extend_from_slice(&bytes);
        self.outbound.push_back(bytes);
    }

    fn record(&mut self, raw: &[u8]) -> Result<(), Error> {
        let (bytes, max) = (self.received.len().saturating_add(raw.len()), self.limits.handshake_bytes_max);
        if bytes > max {
            return Err(Error::TooLarge { bytes, max });
        }
        self.received.extend_from_slice(raw);
        Ok(())
    }
}

/// Compares in a time that does not depend on where the two differ.
fn same(a: &[u8; SIGNATURE_BYTES], b: &[u8; SIGNATURE_BYTES]) -> bool {
    a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

#[cfg(test)]
mod tests;
