use alloc::vec::Vec;

use bytes::Bytes;
use cuttlebone_wire::{
    Decode, DecodeError, DecodeErrorKind, Encode, EntityAddr, EntityAddrs, EntityType, Features, Reader,
    WallTime,
};

use crate::{Error, Frame, Tag, encode_control};

/// Most methods or modes in a list, which has room for every number anybody ever used.
const CHOICES_MAX: usize = 64;
/// Bytes of a signature.
pub(crate) const SIGNATURE_BYTES: usize = 32;
/// Ident flag: the session does not survive its connection.
const FLAG_LOSSY: u64 = 1;

/// What we say we are.
///
/// There is no third: a metadata server of 16.2.15 that is told "osd" in a HELLO crashes when that connection ends,
/// so our types cannot say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the whole point is that there are only these two")]
pub enum Identity {
    /// A client.
    Client,
    /// A monitor.
    Monitor,
}

impl Identity {
    /// The entity type that goes on the wire.
    pub const fn entity_type(self) -> EntityType {
        match self {
            Self::Client => EntityType::CLIENT,
            Self::Monitor => EntityType::MON,
        }
    }
}

/// How a connection is protected after authentication. Unknown numbers are kept.
///
/// Source: `ceph/ceph:src/include/msgr.h`, `CEPH_CON_MODE_*`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct Mode(pub u32);

impl Mode {
    /// Checksums only.
    pub const CRC: Self = Self(1);
    /// Encrypted and authenticated.
    pub const SECURE: Self = Self(2);
}

/// An authentication method as this crate sees it: a number that it passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a number on the wire, all of whose values are kept")]
pub struct AuthMethod(pub u32);

/// Who somebody is, and the address at which they see us.
///
/// It can be read from a frame but not made: what we send comes from [`Identity`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hello {
    /// What the sender says it is.
    pub entity_type: EntityType,
    /// The receiver's address as the sender sees it.
    pub peer_addr: EntityAddr,
}

impl Hello {
    pub(crate) fn frame(identity: Identity, peer_addr: &EntityAddr) -> Bytes {
        encode_control(Tag::Hello, |w| {
            w.u8(u8::try_from(identity.entity_type().0).unwrap_or(0));
            peer_addr.encode(w);
        })
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { entity_type: EntityType(r.u8("entity type")?.into()), peer_addr: EntityAddr::decode(r)? })
    }
}

/// The frames of authentication. Their payloads belong to whoever authenticates.
///
/// Source: `ceph/ceph:src/msg/async/frames_v2.h`, `Auth*Frame`; seen in 16.2.15.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all there are in messenger v2")]
pub enum AuthFrame {
    /// Client: let us authenticate like this.
    Request {
        /// By this method.
        method: AuthMethod,
        /// Modes that the client accepts, best first.
        modes: Vec<Mode>,
        /// What the method starts with.
        payload: Bytes,
    },
    /// Server: not like that.
    BadMethod {
        /// What was refused.
        method: AuthMethod,
        /// Why, as a negative Linux errno.
        result: i32,
        /// Methods that the server allows.
        allowed: Vec<AuthMethod>,
        /// Modes that the server allows.
        modes: Vec<Mode>,
    },
    /// Server: one more step.
    ReplyMore(Bytes),
    /// Client: here it is.
    RequestMore(Bytes),
    /// Server: you are who you say.
    Done {
        /// The client's global id.
        global_id: u64,
        /// The mode that the server chose.
        mode: Mode,
        /// What the method ends with.
        payload: Bytes,
    },
}

impl AuthFrame {
    /// The bytes to send.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Request { method, modes, payload } => encode_control(Tag::AuthRequest, |w| {
                w.u32(method.0);
                w.list(modes, |w, mode| w.u32(mode.0));
                w.blob(payload);
            }),
            Self::BadMethod { method, result, allowed, modes } => encode_control(Tag::AuthBadMethod, |w| {
                w.u32(method.0);
                w.i32(*result);
                w.list(allowed, |w, method| w.u32(method.0));
                w.list(modes, |w, mode| w.u32(mode.0));
            }),
            Self::ReplyMore(payload) => encode_control(Tag::AuthReplyMore, |w| w.blob(payload)),
            Self::RequestMore(payload) => encode_control(Tag::AuthRequestMore, |w| w.blob(payload)),
            Self::Done { global_id, mode, payload } => encode_control(Tag::AuthDone, |w| {
                w.u64(*global_id);
                w.u32(mode.0);
                w.blob(payload);
            }),
        }
    }
}

/// How a client asks for a new session.
///
/// Source: `ceph/ceph:src/msg/async/frames_v2.h`, `ClientIdentFrame`; seen in 16.2.15.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the fields of the frame")]
pub struct ClientIdent {
    /// The client's addresses, which with their nonce identify it.
    pub addrs: EntityAddrs,
    /// Whom it wants to reach.
    pub target: EntityAddr,
    /// Its number: global id, rank, or -1.
    pub gid: i64,
    /// Its count of connection attempts.
    pub global_seq: u64,
    /// Features it has.
    pub supported: Features,
    /// Features it insists on.
    pub required: Features,
    /// Whether the session ends with its connection.
    pub lossy: bool,
    /// Identifies the session on the client's side; 0 if lossy.
    pub cookie: u64,
}

/// How a server grants a new session.
///
/// Source: `ceph/ceph:src/msg/async/frames_v2.h`, `ServerIdentFrame`; seen in 16.2.15.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the fields of the frame")]
pub struct ServerIdent {
    /// The server's addresses, among them the one that was dialled.
    pub addrs: EntityAddrs,
    /// Its number.
    pub gid: i64,
    /// Its count of connections.
    pub global_seq: u64,
    /// Features it has.
    pub supported: Features,
    /// Features it insists on.
    pub required: Features,
    /// Whether the session ends with its connection; the server has the last word.
    pub lossy: bool,
    /// Identifies the session on the server's side; 0 if lossy.
    pub cookie: u64,
}

/// How a client asks to go on with a session whose connection was lost.
///
/// Source: `ceph/ceph:src/msg/async/frames_v2.h`, `ReconnectFrame`; seen in 16.2.15.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the fields of the frame")]
pub struct Reconnect {
    /// The client's addresses, which must not have changed.
    pub addrs: EntityAddrs,
    /// The client's cookie of the session.
    pub client_cookie: u64,
    /// The server's cookie of the session.
    pub server_cookie: u64,
    /// The client's count of connection attempts.
    pub global_seq: u64,
    /// How often this session was reconnected.
    pub connect_seq: u64,
    /// Everything up to this sequence number has reached the client.
    pub msg_seq: u64,
}

/// What a client opens a session with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a client has these two ways")]
pub enum Opening {
    /// A new one.
    New(ClientIdent),
    /// An earlier one.
    Resumed(Reconnect),
}

impl Opening {
    /// The bytes to send.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::New(ident) => encode_control(Tag::ClientIdent, |w| {
                ident.addrs.encode(w);
                ident.target.encode(w);
                w.i64(ident.gid);
                w.u64(ident.global_seq);
                w.u64(ident.supported.0);
                w.u64(ident.required.0);
                w.u64(if ident.lossy { FLAG_LOSSY } else { 0 });
                w.u64(ident.cookie);
            }),
            Self::Resumed(reconnect) => encode_control(Tag::SessionReconnect, |w| {
                reconnect.addrs.encode(w);
                w.u64(reconnect.client_cookie);
                w.u64(reconnect.server_cookie);
                w.u64(reconnect.global_seq);
                w.u64(reconnect.connect_seq);
                w.u64(reconnect.msg_seq);
            }),
        }
    }

    /// The addresses by which the client is known.
    pub const fn addrs(&self) -> &EntityAddrs {
        match self {
            Self::New(ident) => &ident.addrs,
            Self::Resumed(reconnect) => &reconnect.addrs,
        }
    }
}

/// What a server answers to an [`Opening`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a server has these ways")]
pub enum OpeningReply {
    /// A new session.
    Granted(ServerIdent),
    /// The client lacks these features.
    MissingFeatures(Features),
    /// The earlier session goes on; the server has everything up to this sequence number.
    Resumed(u64),
    /// The server does not know the session. If `full`, it insists that the client forgets it too.
    Reset {
        /// Whether the client has to forget its queue as well.
        full: bool,
    },
    /// Try again with a higher count of reconnects than this.
    Retry(u64),
    /// Try again with a higher count of attempts than this.
    RetryGlobal(u64),
    /// Not now; the server is about to connect itself or to replace the session.
    Wait,
}

impl OpeningReply {
    /// The bytes to send.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Granted(ident) => encode_control(Tag::ServerIdent, |w| {
                ident.addrs.encode(w);
                w.i64(ident.gid);
                w.u64(ident.global_seq);
                w.u64(ident.supported.0);
                w.u64(ident.required.0);
                w.u64(if ident.lossy { FLAG_LOSSY } else { 0 });
                w.u64(ident.cookie);
            }),
            Self::MissingFeatures(features) => {
                encode_control(Tag::IdentMissingFeatures, |w| w.u64(features.0))
            }
            Self::Resumed(seq) => encode_control(Tag::SessionReconnectOk, |w| w.u64(*seq)),
            Self::Reset { full } => encode_control(Tag::SessionReset, |w| w.bool(*full)),
            Self::Retry(seq) => encode_control(Tag::SessionRetry, |w| w.u64(*seq)),
            Self::RetryGlobal(seq) => encode_control(Tag::SessionRetryGlobal, |w| w.u64(*seq)),
            Self::Wait => encode_control(Tag::Wait, |_| {}),
        }
    }
}

/// The payload of a control frame, by its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "one for each kind of frame")]
pub enum Control {
    /// HELLO.
    Hello(Hello),
    /// Any frame of authentication.
    Auth(AuthFrame),
    /// AUTH_SIGNATURE.
    Signature([u8; SIGNATURE_BYTES]),
    /// CLIENT_IDENT or SESSION_RECONNECT.
    Opening(Opening),
    /// Any answer to these.
    Reply(OpeningReply),
    /// KEEPALIVE2: answer with the same stamp.
    Keepalive(WallTime),
    /// KEEPALIVE2_ACK.
    KeepaliveAck(WallTime),
    /// ACK: everything up to this sequence number has arrived.
    Ack(u64),
}

impl Control {
    /// Reads a control frame. Bytes behind what is known are passed over, as real peers do.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`], and [`Error::Unexpected`] for a message, which is no control frame.
    pub fn read(frame: &Frame) -> Result<Self, Error> {
        let r = &mut Reader::new(frame.payload());
        Ok(match frame.tag {
            Tag::Hello => Self::Hello(Hello::read(r)?),
            Tag::AuthRequest
            | Tag::AuthBadMethod
            | Tag::AuthReplyMore
            | Tag::AuthRequestMore
            | Tag::AuthDone => Self::Auth(read_auth(frame.tag, r)?),
            Tag::AuthSignature => Self::Signature(r.array("signature")?),
            Tag::ClientIdent => Self::Opening(Opening::New(read_client_ident(r)?)),
            Tag::SessionReconnect => Self::Opening(Opening::Resumed(read_reconnect(r)?)),
            Tag::ServerIdent => Self::Reply(OpeningReply::Granted(read_server_ident(r)?)),
            Tag::IdentMissingFeatures => {
                Self::Reply(OpeningReply::MissingFeatures(Features(r.u64("features")?)))
            }
            Tag::SessionReconnectOk => Self::Reply(OpeningReply::Resumed(r.u64("msg_seq")?)),
            Tag::SessionReset => Self::Reply(OpeningReply::Reset { full: r.bool("full")? }),
            Tag::SessionRetry => Self::Reply(OpeningReply::Retry(r.u64("connect_seq")?)),
            Tag::SessionRetryGlobal => Self::Reply(OpeningReply::RetryGlobal(r.u64("global_seq")?)),
            Tag::Wait => Self::Reply(OpeningReply::Wait),
            Tag::Keepalive2 => Self::Keepalive(WallTime::decode(r)?),
            Tag::Keepalive2Ack => Self::KeepaliveAck(WallTime::decode(r)?),
            Tag::Ack => Self::Ack(r.u64("seq")?),
            Tag::Message => {
                return Err(Error::Unexpected { stage: "reading a control frame", got: frame.tag.name() });
            }
        })
    }

    pub(crate) fn signature(signature: [u8; SIGNATURE_BYTES]) -> Bytes {
        encode_control(Tag::AuthSignature, |w| w.raw(&signature))
    }

    /// A KEEPALIVE2 frame.
    pub fn keepalive(stamp: WallTime) -> Bytes {
        encode_control(Tag::Keepalive2, |w| stamp.encode(w))
    }

    /// The answer to a KEEPALIVE2 frame.
    pub fn keepalive_ack(stamp: WallTime) -> Bytes {
        encode_control(Tag::Keepalive2Ack, |w| stamp.encode(w))
    }

    /// An ACK frame.
    pub fn ack(seq: u64) -> Bytes {
        encode_control(Tag::Ack, |w| w.u64(seq))
    }
}

fn choices<T>(r: &mut Reader<'_>, field: &'static str, of: fn(u32) -> T) -> Result<Vec<T>, DecodeError> {
    r.list(field, CHOICES_MAX, 4, |r| r.u32(field).map(of))
}

fn read_auth(tag: Tag, r: &mut Reader<'_>) -> Result<AuthFrame, DecodeError> {
    // The frame's own limit bounds the payload.
    let payload = |r: &mut Reader<'_>| r.blob("auth payload", usize::MAX);
    Ok(match tag {
        Tag::AuthRequest => AuthFrame::Request {
            method: AuthMethod(r.u32("method")?),
            modes: choices(r, "modes", Mode)?,
            payload: payload(r)?,
        },
        Tag::AuthBadMethod => AuthFrame::BadMethod {
            method: AuthMethod(r.u32("method")?),
            result: r.i32("result")?,
            allowed: choices(r, "methods", AuthMethod)?,
            modes: choices(r, "modes", Mode)?,
        },
        Tag::AuthReplyMore => AuthFrame::ReplyMore(payload(r)?),
        Tag::AuthRequestMore => AuthFrame::RequestMore(payload(r)?),
        Tag::AuthDone => AuthFrame::Done {
            global_id: r.u64("global id")?,
            mode: Mode(r.u32("mode")?),
            payload: payload(r)?,
        },
        _ => return Err(r.error("tag", DecodeErrorKind::Unknown { value: tag.number().into() })),
    })
}

fn read_client_ident(r: &mut Reader<'_>) -> Result<ClientIdent, DecodeError> {
    Ok(ClientIdent {
        addrs: EntityAddrs::decode(r)?,
        target: EntityAddr::decode(r)?,
        gid: r.i64("gid")?,
        global_seq: r.u64("global_seq")?,
        supported: Features(r.u64("supported features")?),
        required: Features(r.u64("required features")?),
        lossy: r.u64("flags")? & FLAG_LOSSY != 0,
        cookie: r.u64("cookie")?,
    })
}

fn read_server_ident(r: &mut Reader<'_>) -> Result<ServerIdent, DecodeError> {
    Ok(ServerIdent {
        addrs: EntityAddrs::decode(r)?,
        gid: r.i64("gid")?,
        global_seq: r.u64("global_seq")?,
        supported: Features(r.u64("supported features")?),
        required: Features(r.u64("required features")?),
        lossy: r.u64("flags")? & FLAG_LOSSY != 0,
        cookie: r.u64("cookie")?,
    })
}

fn read_reconnect(r: &mut Reader<'_>) -> Result<Reconnect, DecodeError> {
    Ok(Reconnect {
        addrs: EntityAddrs::decode(r)?,
        client_cookie: r.u64("client cookie")?,
        server_cookie: r.u64("server cookie")?,
        global_seq: r.u64("global_seq")?,
        connect_seq: r.u64("connect_seq")?,
        msg_seq: r.u64("msg_seq")?,
    })
}
