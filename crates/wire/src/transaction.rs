use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::{Decode, DecodeError, DecodeErrorKind, Encode, Reader, Writer};

/// What an operation of a store transaction does.
///
/// A monitor aborts on a number that it does not know, so there is no variant for one.
///
/// Source: `ceph/ceph:src/mon/MonitorDBStore.h`, `MonitorDBStore::Transaction::OP_*`; all seen in 16.2.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "UPPERCASE"))]
#[expect(clippy::exhaustive_enums, reason = "a fifth kind would have to be refused by every match")]
pub enum OpKind {
    /// Sets `key` to `value`.
    Put,
    /// Removes `key`.
    Erase,
    /// Suggests compaction of a prefix, or of `key..end_key` in it. Changes no key.
    Compact,
    /// Removes every key from `key` up to and without `end_key`. Newer than Hammer.
    EraseRange,
}

impl OpKind {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::Put => 1,
            Self::Erase => 2,
            Self::Compact => 3,
            Self::EraseRange => 4,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Put),
            2 => Some(Self::Erase),
            3 => Some(Self::Compact),
            4 => Some(Self::EraseRange),
            _ => None,
        }
    }
}

/// One operation on a monitor's store. All fields are always there, empty where they mean nothing.
///
/// Source: `ceph/ceph:src/mon/MonitorDBStore.h`, `MonitorDBStore::Op`; version 1 has no `end_key`.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record, built with the constructors or in full")]
pub struct Op {
    /// What it does.
    pub kind: OpKind,
    /// First half of the key: the service. Holds no NUL byte in real stores.
    pub prefix: Bytes,
    /// Second half of the key; may be empty and may hold any byte.
    pub key: Bytes,
    /// The value of a put.
    pub value: Bytes,
    /// Where a range ends.
    pub end_key: Bytes,
}

impl fmt::Debug for Op {
    /// Shows the size of the value only: a store holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, prefix, key, value, end_key } = self;
        let (prefix, key, end) = (prefix.escape_ascii(), key.escape_ascii(), end_key.escape_ascii());
        write!(f, "{kind:?}({prefix}:{key}..{end}, {} bytes)", value.len())
    }
}

/// Longest prefix or key that we accept, in bytes. RocksDB itself allows more; no service comes near.
const KEY_BYTES_MAX: usize = 64 * 1024;
/// Version of an operation that has `end_key`.
const OP_VERSION: u8 = 2;
/// Bytes of the smallest operation: version 1, every field empty.
const OP_BYTES_MIN: usize = 6 + 1 + 4 + 4 + 4;

impl Op {
    /// Sets a key.
    pub fn put(prefix: impl Into<Bytes>, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        let end_key = Bytes::new();
        Self { kind: OpKind::Put, prefix: prefix.into(), key: key.into(), value: value.into(), end_key }
    }

    /// Removes a key.
    pub fn erase(prefix: impl Into<Bytes>, key: impl Into<Bytes>) -> Self {
        Self { kind: OpKind::Erase, ..Self::put(prefix, key, Bytes::new()) }
    }

    /// Removes a range of keys.
    pub fn erase_range(prefix: impl Into<Bytes>, key: impl Into<Bytes>, end_key: impl Into<Bytes>) -> Self {
        Self { kind: OpKind::EraseRange, end_key: end_key.into(), ..Self::put(prefix, key, Bytes::new()) }
    }

    /// Reads the fields; `value_bytes_max` is the transaction's own length, so the bytes left are the real limit.
    fn decode_fields(r: &mut Reader<'_>, version: u8) -> Result<Self, DecodeError> {
        let number = r.u8("op type")?;
        let Some(kind) = OpKind::from_number(number) else {
            return Err(r.error("op type", DecodeErrorKind::Unknown { value: number.into() }));
        };
        Ok(Self {
            kind,
            prefix: r.blob("prefix", KEY_BYTES_MAX)?,
            key: r.blob("key", KEY_BYTES_MAX)?,
            value: r.blob("value", usize::MAX)?,
            end_key: if version >= 2 { r.blob("end key", KEY_BYTES_MAX)? } else { Bytes::new() },
        })
    }

    fn encode_at(&self, w: &mut Writer, version: u8) {
        w.versioned(version, 1, |w| {
            w.u8(self.kind.number());
            w.blob(&self.prefix);
            w.blob(&self.key);
            w.blob(&self.value);
            if version >= 2 {
                w.blob(&self.end_key);
            }
        });
    }
}

impl Decode for Op {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("MonitorDBStore::Op", OP_VERSION, Self::decode_fields)
    }
}

impl Encode for Op {
    fn encode(&self, w: &mut Writer) {
        self.encode_at(w, OP_VERSION);
    }
}

/// A batch of operations that a monitor applies to its store as one.
///
/// Values share the memory of the frame they were decoded from. A version 1 batch has no counters; an operation
/// may be of version 1 in either. Both versions are kept, so that encoding gives the bytes back.
///
/// Source: `ceph/ceph:src/mon/MonitorDBStore.h`, `MonitorDBStore::Transaction`; v1 from Cuttlefish to Firefly, v2
/// since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// What to do, in order.
    pub ops: Vec<Op>,
    version: u8,
    op_version: u8,
    counters: (u64, u64),
}

/// Version of a transaction that has counters.
const TRANSACTION_VERSION: u8 = 2;
/// What 16.2 counts for a transaction without operations: its encoded length.
const TRANSACTION_OVERHEAD_BYTES: u64 = 26;
/// What 16.2 counts for an operation besides its strings: its encoded overhead.
const OP_OVERHEAD_BYTES: u64 = 23;

impl Transaction {
    /// A batch in the form that current releases write.
    pub fn new(ops: Vec<Op>) -> Self {
        let mut bytes = TRANSACTION_OVERHEAD_BYTES;
        let mut keys = 0_u64;
        // A suggestion to compact is not counted at all; observed in the corpus object of 16.2.0.
        for op in ops.iter().filter(|op| op.kind != OpKind::Compact) {
            for part in [&op.prefix, &op.key, &op.value, &op.end_key] {
                bytes = bytes.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
            }
            bytes = bytes.saturating_add(OP_OVERHEAD_BYTES);
            keys = keys.saturating_add(1);
        }
        Self { ops, version: TRANSACTION_VERSION, op_version: OP_VERSION, counters: (bytes, keys) }
    }

    /// The same operations in the oldest form, which every release reads; `end_key` is lost.
    #[must_use]
    pub fn into_oldest(self) -> Self {
        let op_version = if self.ops.is_empty() { OP_VERSION } else { 1 };
        Self { version: 1, op_version, counters: (0, 0), ..self }
    }

    /// Bytes and keys as the writer counted them; receivers ignore both.
    pub const fn counters(&self) -> (u64, u64) {
        self.counters
    }
}

impl Default for Transaction {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Decode for Transaction {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.versioned("MonitorDBStore::Transaction", TRANSACTION_VERSION, |r, version| {
            let version = version.min(TRANSACTION_VERSION);
            // The newest version among the operations, so that no end key is lost; a writer uses one for all.
            let mut op_version = 1;
            let ops = r.list("ops", usize::MAX, OP_BYTES_MIN, |r| {
                op_version = r.peek_u8().unwrap_or(1).clamp(op_version, OP_VERSION);
                Op::decode(r)
            })?;
            let op_version = if ops.is_empty() { OP_VERSION } else { op_version };
            let counters = if version >= 2 { (r.u64("bytes")?, r.u64("keys")?) } else { (0, 0) };
            Ok(Self { ops, version, op_version, counters })
        })
    }
}

impl Encode for Transaction {
    fn encode(&self, w: &mut Writer) {
        w.versioned(self.version, 1, |w| {
            w.list(&self.ops, |w, op| op.encode_at(w, self.op_version));
            if self.version >= 2 {
                w.u64(self.counters.0);
                w.u64(self.counters.1);
            }
        });
    }
}

#[cfg(feature = "serde")]
mod json {
    use super::{Op, Transaction};
    use alloc::string::String;
    use serde::ser::{Serialize, SerializeStruct, Serializer};

    impl Serialize for Op {
        /// Values are shown by length alone: a monitor's store holds keys and secrets.
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut object = serializer.serialize_struct("Op", 5)?;
            object.serialize_field("type", &self.kind)?;
            object.serialize_field("prefix", &String::from_utf8_lossy(&self.prefix))?;
            object.serialize_field("key", &String::from_utf8_lossy(&self.key))?;
            object.serialize_field("value_bytes", &self.value.len())?;
            object.serialize_field("end_key", &String::from_utf8_lossy(&self.end_key))?;
            object.end()
        }
    }

    impl Serialize for Transaction {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut object = serializer.serialize_struct("Transaction", 3)?;
            object.serialize_field("ops", &self.ops)?;
            object.serialize_field("bytes", &self.counters.0)?;
            object.serialize_field("keys", &self.counters.1)?;
            object.end()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Features;

    #[test]
    fn an_empty_transaction_takes_the_bytes_of_16_2() {
        let bytes = Transaction::default().to_bytes(Features::PACIFIC);
        assert_eq!(&bytes[..], b"\x02\x01\x14\0\0\0\0\0\0\0\x1a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn counters_are_those_of_the_16_2_corpus() {
        let compact =
            |prefix, key, end_key| Op { kind: OpKind::Compact, ..Op::erase_range(prefix, key, end_key) };
        let tx = Transaction::new(alloc::vec![
            Op::put("prefix", "key", "value"),
            Op::erase("prefix2", "key2"),
            Op::erase_range("prefix3", "key3", "key4"),
            compact("prefix3", "", ""),
            compact("prefix4", "from", "to"),
        ]);
        assert_eq!(tx.counters(), (135, 3));
    }

    #[test]
    fn all_four_mixtures_of_versions_come_back_unchanged() {
        for (version, op_version) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            let tx = Transaction {
                version,
                op_version,
                counters: if version == 2 { (7, 1) } else { (0, 0) },
                ..Transaction::new(alloc::vec![Op::put("paxos", "1", "x")])
            };
            let bytes = tx.to_bytes(Features::PACIFIC);
            let decoded = Transaction::decode(&mut Reader::new(&bytes)).unwrap();
            assert_eq!(decoded, tx);
            assert_eq!(decoded.to_bytes(Features::PACIFIC), bytes);
        }
    }

    #[test]
    fn values_are_not_shown() {
        let shown = alloc::format!("{:?}", Op::put("auth", "1", "a secret"));
        assert_eq!(shown, "Put(auth:1.., 8 bytes)");
    }

    #[test]
    fn an_unknown_operation_is_an_error_that_names_it() {
        let mut bytes = Op::put("p", "k", "v").to_bytes(Features::PACIFIC).to_vec();
        bytes[6] = 9;
        let error = Op::decode(&mut Reader::new(&Bytes::from(bytes))).unwrap_err();
        assert_eq!((error.field, error.kind), ("op type", DecodeErrorKind::Unknown { value: 9 }));
    }
}
