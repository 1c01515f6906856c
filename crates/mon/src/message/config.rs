use alloc::collections::BTreeMap;

use bytes::Bytes;
use cuttlebone_wire::{DecodeError, Message, MessageType, Priority, Reader, Writer};

use super::Body;

/// The central configuration as it applies to whoever receives it.
///
/// Source: `ceph/ceph:src/messages/MConfig.h`; seen in 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the message has one field")]
pub struct Config {
    /// Values by option; not necessarily UTF-8.
    pub options: BTreeMap<Bytes, Bytes>,
}

/// Most options that we accept; 16.2 knows about two thousand.
const OPTIONS_MAX: usize = 16 * 1024;
/// Longest name or value that we accept, in bytes.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

impl Body for Config {
    const KIND: MessageType = MessageType(62);
    const NAME: &'static str = "MConfig";
    const VERSION: u16 = 1;
    const COMPAT: u16 = 1;
    const PRIORITY: Priority = Priority::HIGH;

    fn decode_front(r: &mut Reader<'_>, _version: u16, _message: &Message) -> Result<Self, DecodeError> {
        let count = r.count("config", OPTIONS_MAX, 8)?;
        let mut options = BTreeMap::new();
        for _ in 0..count {
            let name = r.blob("option", TEXT_BYTES_MAX)?;
            options.insert(name, r.blob("option value", TEXT_BYTES_MAX)?);
        }
        Ok(Self { options })
    }

    fn encode_front(&self, w: &mut Writer, _version: u16) {
        w.list(&self.options, |w, (name, value)| {
            w.blob(name);
            w.blob(value);
        });
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Config {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = |bytes: &Bytes| alloc::string::String::from_utf8_lossy(bytes).into_owned();
        serializer.collect_map(self.options.iter().map(|(name, value)| (text(name), text(value))))
    }
}
