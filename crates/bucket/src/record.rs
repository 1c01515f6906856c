//! A row: one mutation as it lies on the disk.
//!
//! Little-endian: version, operation, vbucket, generation, key length, flags, expiry, seqno, CAS, revision, key, value,
//! CRC-32C of all that. By hand and not through serde, since a flush writes half a million of them a second.

use cuttlebone_checkpoint::{Item, Op, Seqno};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 1 + 2 + 4 + 2 + 4 + 4 + 8 + 8 + 8;
const CRC_BYTES: usize = 4;

/// A mutation and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) vbucket: u16,
    /// Which life of the vbucket: rows of an earlier one are void.
    pub(crate) generation: u32,
    pub(crate) item: Item,
}

/// Appends the row of `item`.
pub(crate) fn encode(bytes: &mut Vec<u8>, vbucket: u16, generation: u32, item: &Item) {
    let start = bytes.len();
    let key_len = u16::try_from(item.key().len()).unwrap_or(u16::MAX);
    bytes.reserve(HEAD_BYTES + item.key().len() + item.value().len() + CRC_BYTES);
    bytes.extend_from_slice(&[VERSION, u8::from(item.op() == Op::Delete)]);
    bytes.extend_from_slice(&vbucket.to_le_bytes());
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&key_len.to_le_bytes());
    bytes.extend_from_slice(&item.flags().to_le_bytes());
    bytes.extend_from_slice(&item.expiry().to_le_bytes());
    bytes.extend_from_slice(&item.seqno().0.to_le_bytes());
    bytes.extend_from_slice(&item.cas().to_le_bytes());
    bytes.extend_from_slice(&item.revision().to_le_bytes());
    bytes.extend_from_slice(item.key());
    bytes.extend_from_slice(item.value());
    let crc = crc32c::crc32c(bytes.get(start..).unwrap_or_default());
    bytes.extend_from_slice(&crc.to_le_bytes());
}

/// Whose row it is, and of which key, without the rest; `None` if it is not what was written.
pub(crate) fn owner(row: &[u8]) -> Option<(u16, u32, &[u8])> {
    let mut rest = checked(row)?;
    let [version, _op] = take(&mut rest)?;
    let vbucket = u16::from_le_bytes(take(&mut rest)?);
    let generation = u32::from_le_bytes(take(&mut rest)?);
    let key_len = usize::from(u16::from_le_bytes(take(&mut rest)?));
    let key = row.get(HEAD_BYTES..HEAD_BYTES + key_len)?;
    (version == VERSION && key.len() + HEAD_BYTES + CRC_BYTES <= row.len())
        .then_some((vbucket, generation, key))
}

fn checked(row: &[u8]) -> Option<&[u8]> {
    let (body, crc) = row.split_last_chunk::<CRC_BYTES>()?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then_some(body)
}

/// The row again; `None` if it is not what was written.
pub(crate) fn decode(row: &[u8]) -> Option<Record> {
    let mut rest = checked(row)?;
    let [version, op] = take(&mut rest)?;
    let vbucket = u16::from_le_bytes(take(&mut rest)?);
    let generation = u32::from_le_bytes(take(&mut rest)?);
    let key_len = usize::from(u16::from_le_bytes(take(&mut rest)?));
    let flags = u32::from_le_bytes(take(&mut rest)?);
    let expiry = u32::from_le_bytes(take(&mut rest)?);
    let seqno = Seqno(u64::from_le_bytes(take(&mut rest)?));
    let cas = u64::from_le_bytes(take(&mut rest)?);
    let revision = u64::from_le_bytes(take(&mut rest)?);
    let op = match (version, op) {
        (VERSION, 0) => Op::Set,
        (VERSION, 1) => Op::Delete,
        _ => return None,
    };
    let (key, value) = rest.split_at_checked(key_len)?;
    let item = Item::new(op, key, value).ok()?;
    let item =
        item.with_flags(flags).with_expiry(expiry).with_seqno(seqno).with_cas(cas).with_revision(revision);
    Some(Record { vbucket, generation, item })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Item, Vec<u8>) {
        let item = Item::set(b"key", b"value").unwrap().with_flags(7).with_expiry(9).with_seqno(Seqno(11));
        let item = item.with_cas(13).with_revision(15);
        let mut row = Vec::new();
        encode(&mut row, 3, 5, &item);
        (item, row)
    }

    #[test]
    fn a_row_comes_back() {
        let (item, row) = sample();
        assert_eq!(owner(&row), Some((3, 5, item.key())));
        assert_eq!(decode(&row), Some(Record { vbucket: 3, generation: 5, item }));
        let (deletion, mut row) = (Item::delete(b"").unwrap(), Vec::new());
        encode(&mut row, 0, 0, &deletion);
        assert_eq!(decode(&row).unwrap().item, deletion);
        assert_eq!(owner(&row), Some((0, 0, &b""[..])));
    }

    #[test]
    fn a_row_of_version_1_keeps_its_layout() {
        let (_, row) = sample();
        let text = row.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let head = "0100030005000000030007000000090000000b000000000000000d000000000000000f00000000000000";
        assert_eq!(text, format!("{head}6b657976616c7565{}", &text[text.len() - 8..]));
    }

    #[test]
    fn no_prefix_and_no_flipped_bit_is_taken_for_a_row() {
        let (_, row) = sample();
        for len in 0..row.len() {
            assert_eq!(decode(&row[..len]), None);
        }
        for bit in 0..row.len() * 8 {
            let mut damaged = row.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged), None, "bit {bit}");
        }
    }
}
