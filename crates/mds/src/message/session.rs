use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

use cuttlebone_wire::{
    Body, Decode, DecodeError, DecodeErrorKind, Encode, FeatureSet, Features, Message, MessageType, Reader,
    WallTime, Writer,
};

use crate::{MetricSpec, pairs};

/// Opens, keeps up and closes a session; both sides send it.
///
/// A server aborts on an operation that it does not expect from a client, which is why clients build theirs with
/// [`SessionRequest`].
///
/// Source: `ceph/ceph:src/messages/MClientSession.h`; versions 1 and 5 seen in 16.2.15, 1 and 2 in corpus objects of
/// 11.2.0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClientSession {
    /// What it is.
    pub op: SessionOp,
    /// What it counts depends on the operation: pushes, renewals or nothing.
    pub seq: u64,
    /// A time that nobody reads.
    pub stamp: WallTime,
    /// How many capabilities the client is to keep at most, when it is asked to give some back.
    pub max_caps: u32,
    /// The same for leases, which nobody asks for.
    pub max_leases: u32,
    /// What the client says of itself, or the server's reason; from version 2 on.
    pub metadata: BTreeMap<String, String>,
    /// The sender's features; from version 3 on.
    pub features: FeatureSet,
    /// The sender's metrics; from version 4 on.
    pub metric_spec: MetricSpec,
    /// [`ClientSession::BLOCKLISTED`] or nothing; from version 5 on.
    pub flags: u32,
}

/// What a message of a session is.
///
/// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_SESSION_*`; all seen in 16.2.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SessionOp {
    /// The client wants a session.
    RequestOpen,
    /// There is one now.
    Open,
    /// The client is done; `seq` says how many pushes it has seen.
    RequestClose,
    /// There is none any more.
    Close,
    /// The client is still there; `seq` counts its renewals.
    RequestRenewCaps,
    /// The server has seen the renewal `seq`.
    RenewCaps,
    /// What the client holds is suspended, since it did not renew in time.
    Stale,
    /// The client is to keep `max_caps` capabilities at most.
    RecallState,
    /// The client is to answer behind everything that it sent before.
    FlushMsg,
    /// It does.
    FlushMsgAck,
    /// The filesystem is read-only from now on.
    ForceReadOnly,
    /// There will be no session, for the reason in `metadata` and `flags`.
    Reject,
    /// The journal is to be written out now.
    RequestFlushMdLog,
}

/// Numbers and names, in the order of the numbers.
const OPS: [(SessionOp, &str); 13] = [
    (SessionOp::RequestOpen, "request_open"),
    (SessionOp::Open, "open"),
    (SessionOp::RequestClose, "request_close"),
    (SessionOp::Close, "close"),
    (SessionOp::RequestRenewCaps, "request_renewcaps"),
    (SessionOp::RenewCaps, "renewcaps"),
    (SessionOp::Stale, "stale"),
    (SessionOp::RecallState, "recall_state"),
    (SessionOp::FlushMsg, "flushmsg"),
    (SessionOp::FlushMsgAck, "flushmsg_ack"),
    (SessionOp::ForceReadOnly, "force_ro"),
    (SessionOp::Reject, "reject"),
    (SessionOp::RequestFlushMdLog, "request_flush_mdlog"),
];

impl fmt::Display for SessionOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = OPS.iter().find(|(op, _)| op == self).map(|(_, name)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for SessionOp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Decode for SessionOp {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let value = r.u32("session op")?;
        let known = usize::try_from(value).ok().and_then(|index| OPS.get(index));
        let unknown = || r.error("session op", DecodeErrorKind::Unknown { value: value.into() });
        known.map(|(op, _)| *op).ok_or_else(unknown)
    }
}

impl Encode for SessionOp {
    fn encode(&self, w: &mut Writer) {
        w.count(OPS.iter().position(|(op, _)| op == self).unwrap_or_default());
    }
}

impl ClientSession {
    /// In the flags of a refusal: the cluster has shut this client out.
    ///
    /// Source: `ceph/ceph:src/messages/MClientSession.h`, `SESSION_BLOCKLISTED`; seen in 16.2.15.
    pub const BLOCKLISTED: u32 = 1;

    /// A message that says nothing beyond what it is.
    pub fn new(op: SessionOp, seq: u64) -> Self {
        Self {
            op,
            seq,
            stamp: WallTime::default(),
            max_caps: 0,
            max_leases: 0,
            metadata: BTreeMap::new(),
            features: FeatureSet::default(),
            metric_spec: MetricSpec::default(),
            flags: 0,
        }
    }

    /// Why the server refused, if it said so.
    pub fn error_string(&self) -> Option<&str> {
        self.metadata.get("error_string").map(String::as_str)
    }

    /// Whether the server refused because the cluster has shut this client out; older servers say it in words only.
    pub fn is_blocklisted(&self) -> bool {
        let in_words = || self.error_string().is_some_and(|text| text.contains("blacklisted"));
        self.flags & Self::BLOCKLISTED != 0 || in_words()
    }

    /// Whether it has parts that only versions above the first have room for.
    fn needs_newest(&self) -> bool {
        !self.metadata.is_empty() || self.features != FeatureSet::default() || self.flags != 0
    }
}

impl Body for ClientSession {
    const KIND: MessageType = MessageType(22);
    const NAME: &'static str = "MClientSession";
    const VERSION: u16 = 5;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, version: u16, _message: &Message) -> Result<Self, DecodeError> {
        let op = SessionOp::decode(r)?;
        let mut session = Self::new(op, r.u64("seq")?);
        session.stamp = WallTime::decode(r)?;
        session.max_caps = r.u32("max_caps")?;
        session.max_leases = r.u32("max_leases")?;
        if version >= 2 {
            session.metadata = pairs::decode(r, "metadata")?;
        }
        if version >= 3 {
            session.features = FeatureSet::decode(r)?;
        }
        if version >= 4 {
            session.metric_spec = MetricSpec::decode(r)?;
        }
        if version >= 5 {
            session.flags = r.u32("flags")?;
        }
        Ok(session)
    }

    fn encode_front(&self, w: &mut Writer, version: u16) {
        self.op.encode(w);
        w.u64(self.seq);
        self.stamp.encode(w);
        w.u32(self.max_caps);
        w.u32(self.max_leases);
        if version >= 2 {
            pairs::encode(&self.metadata, w);
        }
        if version >= 3 {
            self.features.encode(w);
        }
        if version >= 4 {
            self.metric_spec.encode(w);
        }
        if version >= 5 {
            w.u32(self.flags);
        }
    }

    /// A message with nothing for the newer versions is of the first, as servers write it too.
    fn message(&self, features: Features, tid: u64) -> Message {
        let version = if self.needs_newest() { Self::VERSION } else { 1 };
        let head = Message { version, compat_version: Self::COMPAT, tid, ..Message::default() };
        self.message_like(&head, features)
    }
}

/// Everything that a client may say in a session. There is nothing here that could make a server abort.
///
/// Source: `ceph/ceph:src/mds/Server.cc`, `handle_client_session`, whose default branch aborts; all seen in 16.2.15.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionRequest {
    /// Wants a session.
    Open {
        /// What the client says of itself: `hostname`, `entity_id`, `root` and others.
        metadata: BTreeMap<String, String>,
        /// Its [`feature`](crate::feature)s.
        features: FeatureSet,
        /// Its metrics.
        metric_spec: MetricSpec,
    },
    /// Is done, having seen this many pushes.
    Close {
        /// How many.
        pushes: u64,
    },
    /// Is still there.
    RenewCaps {
        /// Counts renewals.
        seq: u64,
    },
    /// Has sent everything that it had to before this.
    FlushMsgAck {
        /// The seq of the question.
        seq: u64,
    },
    /// Waits for changes to be on disk.
    FlushMdLog,
}

impl From<SessionRequest> for ClientSession {
    fn from(request: SessionRequest) -> Self {
        match request {
            SessionRequest::Open { metadata, features, metric_spec } => {
                Self { metadata, features, metric_spec, ..Self::new(SessionOp::RequestOpen, 0) }
            }
            SessionRequest::Close { pushes } => Self::new(SessionOp::RequestClose, pushes),
            SessionRequest::RenewCaps { seq } => Self::new(SessionOp::RequestRenewCaps, seq),
            SessionRequest::FlushMsgAck { seq } => Self::new(SessionOp::FlushMsgAck, seq),
            SessionRequest::FlushMdLog => Self::new(SessionOp::RequestFlushMdLog, 0),
        }
    }
}
