use alloc::collections::BTreeMap;
use alloc::string::String;

use cuttlebone_wire::{
    Decode, DecodeError, DecodeErrorKind, Encode, Features, Message, MessageType, Priority, Reader, Uuid,
    Writer,
};

use super::Body;

/// Asks to be sent maps as they change.
///
/// Entries are merged into those that the monitor has from earlier messages of the session.
///
/// Source: `ceph/ceph:src/messages/MMonSubscribe.h`; version 3 seen in 16.2.15, 2 in 11.2.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct Subscribe {
    /// What is wanted, by the map's name: `monmap`, `config`, `osdmap`.
    pub what: BTreeMap<String, Subscription>,
    /// The name of the host that asks; from version 3 on.
    pub host: String,
}

/// From where on a map is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "the wire has these two fields and no version to add a third")]
pub struct Subscription {
    /// The first version that is wanted; 0 for the latest, whatever it is.
    pub start: u64,
    /// [`Subscription::ONE_TIME`] or nothing.
    pub flags: u8,
}

/// Most maps that we accept in one message.
const WHAT_MAX: usize = 4096;
/// Longest name of a map or host that we accept, in bytes.
const NAME_BYTES_MAX: usize = 4096;

impl Subscription {
    /// Ends after the first delivery.
    ///
    /// Source: `ceph/ceph:src/include/ceph_fs.h`, `CEPH_SUBSCRIBE_ONETIME`.
    pub const ONE_TIME: u8 = 1;

    /// Whether it ends after the first delivery.
    pub const fn is_one_time(self) -> bool {
        self.flags & Self::ONE_TIME != 0
    }
}

impl Body for Subscribe {
    const KIND: MessageType = MessageType(15);
    const NAME: &'static str = "MMonSubscribe";
    const VERSION: u16 = 3;
    const COMPAT: u16 = 1;

    fn decode_front(r: &mut Reader<'_>, version: u16, _message: &Message) -> Result<Self, DecodeError> {
        let mut what = BTreeMap::new();
        let count = r.count("what", WHAT_MAX, 13)?;
        for _ in 0..count {
            let name = r.text("map name", NAME_BYTES_MAX)?;
            let subscription = if version < 2 { decode_old(r)? } else { decode_new(r)? };
            what.insert(name, subscription);
        }
        if version < 2 {
            r.without(Features::SUBSCRIBE2);
        }
        let host = if version >= 3 { r.text("hostname", NAME_BYTES_MAX)? } else { String::new() };
        Ok(Self { what, host })
    }

    fn encode_front(&self, w: &mut Writer, version: u16) {
        w.list(&self.what, |w, (name, subscription)| {
            w.text(name);
            if version < 2 {
                w.u64(0);
                // "Nothing" and "version 0" are one here.
                w.u64(subscription.start.saturating_sub(1));
                w.bool(subscription.is_one_time());
            } else {
                w.u64(subscription.start);
                w.u8(subscription.flags);
            }
        });
        if version >= 3 {
            w.text(&self.host);
        }
    }

    fn version_for(features: Features) -> (u16, u16) {
        let version = if features.contains(Features::SUBSCRIBE2) { Self::VERSION } else { 0 };
        (version, Self::COMPAT)
    }
}

fn decode_new(r: &mut Reader<'_>) -> Result<Subscription, DecodeError> {
    Ok(Subscription { start: r.u64("start")?, flags: r.u8("flags")? })
}

fn decode_old(r: &mut Reader<'_>) -> Result<Subscription, DecodeError> {
    r.skip(8, "unused")?;
    let start = match r.u64("have")? {
        0 => 0,
        have => have
            .checked_add(1)
            .ok_or_else(|| r.error("have", DecodeErrorKind::Invalid("has no successor")))?,
    };
    let flags = if r.bool("onetime")? { Subscription::ONE_TIME } else { 0 };
    Ok(Subscription { start, flags })
}

/// Says until when subscriptions hold; sent only to peers without [`Features::MON_STATEFUL_SUB`].
///
/// Source: `ceph/ceph:src/messages/MMonSubscribeAck.h`; seen in 16.2.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built in full")]
pub struct SubscribeAck {
    /// Seconds after which subscriptions end; they are renewed at half of that.
    pub interval_secs: u32,
    /// The cluster's identity.
    pub fsid: Uuid,
}

impl Body for SubscribeAck {
    const KIND: MessageType = MessageType(16);
    const NAME: &'static str = "MMonSubscribeAck";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: Priority = Priority::HIGH;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        Ok(Self { interval_secs: r.u32("interval")?, fsid: Uuid::decode(r)? })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        w.u32(self.interval_secs);
        self.fsid.encode(w);
    }
}
