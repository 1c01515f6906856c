//! Messages of crates that have no JSON form of their own.

use cuttlebone_auth::{MAuth, MAuthReply};
use cuttlebone_mon::Body;
use cuttlebone_monsync::{AnyMessage, StoreKey, v1, v2};
use cuttlebone_wire::{
    Decode, DecodeError, Encode, Features, Message, MessageType, Priority, Reader, Writer,
};
use serde::ser::{Serialize, Serializer};
use serde_json::{Value, json};

/// Store synchronisation in either dialect.
pub(super) struct Sync(AnyMessage);

impl Body for Sync {
    const KIND: MessageType = cuttlebone_monsync::MESSAGE_TYPE;
    const NAME: &'static str = "MMonSync";
    const VERSION: u16 = 2;
    const COMPAT: u16 = 2;
    const PRIORITY: Priority = Priority::HIGH;

    fn decode_front(r: &mut Reader<'_>, version: u16, _message: &Message) -> Result<Self, DecodeError> {
        Ok(Self(match version {
            0 | 1 => AnyMessage::V1(v1::Message::decode(r)?),
            _ => AnyMessage::V2(v2::Message::decode(r)?),
        }))
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        w.raw(&self.0.front(w.features()));
    }

    /// The dialect decides about the version, whatever the features are.
    fn message_like(&self, head: &Message, features: Features) -> Message {
        let version = match self.0 {
            AnyMessage::V1(_) => 1,
            AnyMessage::V2(_) => 2,
        };
        let front = self.0.front(features);
        Message { kind: Self::KIND, version, compat_version: version, front, ..head.clone() }
    }
}

impl Serialize for Sync {
    /// Chunks are shown by their length: a store holds secrets.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            AnyMessage::V1(message) => json!({
                "dialect": 1,
                "op": message.op.name(),
                "flags": message.flags.0,
                "version": message.version.0,
                "chunk_bytes": message.chunk.len(),
                "last_key": key(&message.last_key),
                "crc": message.crc,
                "reply_to": message.reply_to,
            }),
            AnyMessage::V2(message) => json!({
                "dialect": 2,
                "op": message.op.name(),
                "cookie": message.cookie.0,
                "last_committed": message.last_committed.0,
                "last_key": key(&message.last_key),
                "chunk_bytes": message.chunk.len(),
                "reply_to": message.reply_to,
            }),
        }
        .serialize(serializer)
    }
}

fn key(key: &StoreKey) -> Value {
    json!({"prefix": String::from_utf8_lossy(&key.prefix), "key": String::from_utf8_lossy(&key.key)})
}

/// A step of authentication.
pub(super) struct Auth(MAuth);

impl Body for Auth {
    const KIND: MessageType = MAuth::KIND;
    const NAME: &'static str = "MAuth";
    const VERSION: u16 = MAuth::VERSION;
    const COMPAT: u16 = MAuth::VERSION;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        MAuth::decode(&r.bytes(r.remaining(), "front")?).map(Self)
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        self.0.encode(w);
    }
}

impl Serialize for Auth {
    /// The payload is shown by its length: it may hold proofs and tickets.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({
            "paxos": {
                "version": self.0.version,
                "session_mon": self.0.deprecated_mon,
                "session_mon_tid": self.0.deprecated_mon_tid,
            },
            "protocol": self.0.protocol.0,
            "auth_payload_bytes": self.0.payload.len(),
            "monmap_epoch": self.0.monmap_epoch,
        })
        .serialize(serializer)
    }
}

/// The answer to a step of authentication.
pub(super) struct AuthReply(MAuthReply);

impl Body for AuthReply {
    const KIND: MessageType = MAuthReply::KIND;
    const NAME: &'static str = "MAuthReply";
    const VERSION: u16 = MAuthReply::VERSION;
    const COMPAT: u16 = MAuthReply::VERSION;
    const PRIORITY: Priority = Priority::HIGH;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        MAuthReply::decode(&r.bytes(r.remaining(), "front")?).map(Self)
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        self.0.encode(w);
    }
}

impl Serialize for AuthReply {
    /// The payload is shown by its length: it may hold tickets.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({
            "protocol": self.0.protocol.0,
            "result": self.0.result,
            "global_id": self.0.global_id,
            "payload_bytes": self.0.payload.len(),
            "result_msg": self.0.text,
        })
        .serialize(serializer)
    }
}
