use bytes::Bytes;
use cuttlebone_wire::{Decode, DecodeError, DecodeErrorKind, Encode, Op, Reader, Writer};
use serde::ser::{Serialize, SerializeStruct, Serializer};

/// An operation as an object of its own, which only the corpus and tools know.
///
/// Beside what [`Op`] holds it keeps its version, and it may be the blank operation (type 0) that Ceph's own test
/// instances start with. A monitor aborts on that, so [`Op`] has no such kind and this type stays in the tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredOp {
    version: u8,
    content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Blank { fields: Bytes },
    Op(Op),
}

/// The version with an end key.
const VERSION: u8 = 2;
/// The type of an operation that was never filled in.
const BLANK: u8 = 0;
/// A blank operation's fields as version 2 writes them.
const BLANK_FIELDS: &[u8] = &[0; 16];
/// Bytes of the envelope of a structure.
const ENVELOPE_BYTES: usize = 6;

impl StoredOp {
    pub(super) fn renew(self) -> Self {
        Self { version: VERSION, ..self }
    }
}

impl Serialize for StoredOp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.content {
            Content::Blank { .. } => {
                let mut object = serializer.serialize_struct("Op", 1)?;
                object.serialize_field("type", "unknown op")?;
                object.end()
            }
            Content::Op(op) => op.serialize(serializer),
        }
    }
}

impl Decode for StoredOp {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut ahead = r.clone();
        let version = ahead.peek_u8().unwrap_or(VERSION).min(VERSION);
        let fields = ahead.versioned("MonitorDBStore::Op", VERSION, |r, _| {
            if r.u8("op type")? != BLANK {
                return Ok(None);
            }
            let fields = r.bytes(r.remaining(), "blank op")?;
            let blank = BLANK_FIELDS.get(..if version >= 2 { 16 } else { 12 });
            if Some(&fields[..]) == blank {
                Ok(Some(fields))
            } else {
                Err(r.error("op type", DecodeErrorKind::Unknown { value: BLANK.into() }))
            }
        })?;
        let content = match fields {
            Some(fields) => {
                *r = ahead;
                Content::Blank { fields }
            }
            None => Content::Op(Op::decode(r)?),
        };
        Ok(Self { version, content })
    }
}

impl Encode for StoredOp {
    fn encode(&self, w: &mut Writer) {
        w.versioned(self.version, 1, |w| match &self.content {
            Content::Blank { fields } => {
                w.u8(BLANK);
                w.raw(if self.version < VERSION { fields } else { BLANK_FIELDS });
            }
            Content::Op(op) => {
                // The same fields in both versions, but for the end key behind them.
                let newest = op.to_bytes(w.features());
                let end_key_bytes = if self.version < VERSION { 4 + op.end_key.len() } else { 0 };
                w.raw(&newest[ENVELOPE_BYTES..newest.len() - end_key_bytes]);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cuttlebone_wire::Features;

    fn check(bytes: &Bytes, kind: &str) {
        let op = StoredOp::decode(&mut Reader::new(bytes)).unwrap();
        assert_eq!(&op.to_bytes(Features::PACIFIC), bytes);
        assert_eq!(serde_json::to_value(&op).unwrap()["type"], kind);
        let renewed = op.renew().to_bytes(Features::PACIFIC);
        assert_eq!(renewed[0], VERSION);
        assert!(StoredOp::decode(&mut Reader::new(&renewed)).is_ok());
    }

    #[test]
    fn both_versions_and_the_blank_one_come_back() {
        let put = Op::put("p", "k", "v").to_bytes(Features::PACIFIC);
        check(&put, "PUT");
        let mut older = put[..put.len() - 4].to_vec();
        older[0] = 1;
        older[2] -= 4;
        check(&older.into(), "PUT");
        check(&Bytes::from_static(b"\x02\x01\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), "unknown op");
        check(&Bytes::from_static(b"\x01\x01\x0d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), "unknown op");
    }

    #[test]
    fn other_unknown_operations_are_errors() {
        let nine = Bytes::from_static(b"\x02\x01\x11\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        let error = StoredOp::decode(&mut Reader::new(&nine)).unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::Unknown { value: 9 });
        let odd = Bytes::from_static(b"\x02\x01\x11\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert!(StoredOp::decode(&mut Reader::new(&odd)).is_err());
    }
}
