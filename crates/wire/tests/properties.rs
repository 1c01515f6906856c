//! Whatever the bytes, a decoder answers; whatever the value, it comes back.

use bytes::Bytes;
use core::net::SocketAddr;
use cuttlebone_wire::{
    AddrKind, Decode, Encode, EntityAddr, EntityAddrs, EntityInst, EntityName, EntityNum, EntityType,
    FeatureSet, Features, Op, Reader, Transaction, Uuid, WallTime,
};
use proptest::prelude::*;

/// Decodes what `value` encodes to, and checks that nothing is left and nothing changed.
fn comes_back<T: Encode + Decode + PartialEq + core::fmt::Debug>(value: &T, features: Features) {
    let bytes = value.to_bytes(features);
    let mut r = Reader::new(&bytes);
    assert_eq!(T::decode(&mut r).as_ref(), Ok(value));
    assert_eq!(r.finish("value"), Ok(()));
}

/// Runs every decoder over the bytes; each has to answer.
fn decode_everything(bytes: &Bytes) {
    fn one<T: Decode>(bytes: &Bytes) {
        let mut r = Reader::new(bytes);
        if T::decode(&mut r).is_ok() {
            assert!(r.position() <= bytes.len());
        }
    }
    one::<EntityAddr>(bytes);
    one::<EntityAddrs>(bytes);
    one::<EntityInst>(bytes);
    one::<EntityName>(bytes);
    one::<EntityNum>(bytes);
    one::<FeatureSet>(bytes);
    one::<Op>(bytes);
    one::<Transaction>(bytes);
    one::<Uuid>(bytes);
    one::<WallTime>(bytes);
}

prop_compose! {
    fn addr()(kind in 0_u32..5, nonce: u32, ip: core::net::IpAddr, port: u16) -> EntityAddr {
        EntityAddr::new(AddrKind(kind), SocketAddr::new(ip, port), nonce)
    }
}

fn op() -> impl Strategy<Value = Op> {
    let part = || proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        (part(), part(), part()).prop_map(|(prefix, key, value)| Op::put(prefix, key, value)),
        (part(), part()).prop_map(|(prefix, key)| Op::erase(prefix, key)),
        (part(), part(), part()).prop_map(|(prefix, from, to)| Op::erase_range(prefix, from, to)),
    ]
}

proptest! {
    #[test]
    fn addresses_come_back(addrs in proptest::collection::vec(addr(), 0..4)) {
        comes_back(&EntityAddrs(addrs), Features::PACIFIC);
    }

    #[test]
    fn names_come_back(kind: u32, id: String, num: i64) {
        comes_back(&EntityName::new(EntityType(kind), id), Features::PACIFIC);
        comes_back(&EntityNum { kind: kind.to_le_bytes()[0], num }, Features::PACIFIC);
    }

    #[test]
    fn transactions_come_back_in_both_versions(ops in proptest::collection::vec(op(), 0..20)) {
        comes_back(&Transaction::new(ops.clone()), Features::PACIFIC);
        let puts = ops.into_iter().map(|op| Op::put(op.prefix, op.key, op.value)).collect();
        comes_back(&Transaction::new(puts).into_oldest(), Features::PACIFIC);
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        decode_everything(&Bytes::from(bytes));
    }

    #[test]
    fn every_prefix_and_every_flipped_bit_gets_an_answer(
        ops in proptest::collection::vec(op(), 1..5),
        at: proptest::sample::Index,
        bit in 0_u8..8,
    ) {
        let mut bytes = Transaction::new(ops).to_bytes(Features::PACIFIC).to_vec();
        let cut = at.index(bytes.len());
        decode_everything(&Bytes::copy_from_slice(&bytes[..cut]));
        bytes[cut] ^= 1 << bit;
        decode_everything(&Bytes::from(bytes));
    }

    #[test]
    fn a_value_shares_the_memory_of_its_frame(value in proptest::collection::vec(any::<u8>(), 1..100)) {
        let bytes = Transaction::new(vec![Op::put("p", "k", value)]).to_bytes(Features::PACIFIC);
        let frame = bytes.as_ptr_range();
        let decoded = Transaction::decode(&mut Reader::new(&bytes)).unwrap();
        prop_assert!(frame.contains(&decoded.ops[0].value.as_ptr()));
    }
}
