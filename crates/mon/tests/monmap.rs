//! Monitor maps: captured bytes, all five forms, and what every version keeps.

use bytes::Bytes;
use cuttlebone_mon::{EncodedMonMap, MonInfo, MonMap};
use cuttlebone_wire::{AddrKind, Decode, Encode, EntityAddr, EntityAddrs, Features, Reader, SockAddr};

/// What a 16.2.15 monitor sent: version 9, one monitor, both messengers.
const CAPTURED: &str = "0906c3000000\
    a0a0a0a0000040008000000000000001 01000000 19feff6ae0a2ce37 19feff6ae0a2ce37\
    010108000000ff00000000000000 0101080000000000000000000000\
    01000000 0100000061 050158000000 0100000061 0202000000\
    0101011c0000000200000000000000100000000200 0ce47f0000010000000000000000\
    0101011c0000000100000000000000100000000200 1a857f0000010000000000000000\
    0000 0000 00000000 01000000 0100000061 10 00000000 01 00000000 00 00000000 00000000";

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(core::str::from_utf8(pair).expect("ascii"), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}

fn decode(bytes: &Bytes) -> (MonMap, Features) {
    let mut r = Reader::new(bytes);
    let map = MonMap::decode(&mut r).expect("a map");
    r.finish("map").expect("no more");
    (map, r.features_seen())
}

fn without(features: Features) -> Features {
    let mut all = Features::PACIFIC;
    all.remove(features);
    all
}

#[test]
fn a_captured_map_decodes_and_comes_back() {
    let bytes = hex(CAPTURED);
    let (map, features) = decode(&bytes);
    assert_eq!((map.epoch, map.min_mon_release, map.persistent_features), (1, 16, 0xff));
    assert_eq!(map.rank_of("a"), Some(0));
    let addrs = map.addrs_of_rank(0).expect("rank 0").to_string();
    assert_eq!(addrs, "[v2:127.0.0.1:3300/0,v1:127.0.0.1:6789/0]");
    assert_eq!(map.to_bytes(features), bytes);
    assert_eq!(map.to_bytes(Features::PACIFIC), bytes);
}

#[test]
fn older_peers_get_the_forms_that_a_monitor_sends_them() {
    let (map, _) = decode(&hex(CAPTURED));
    let head = "a0a0a0a0000040008000000000000001 01000000 01000000";
    let addr = "0101011c0000000100000000000000100000000200 1a857f0000010000000000000000";
    let tail = "19feff6ae0a2ce37 19feff6ae0a2ce37";
    let second = map.to_bytes(without(Features::MON_ENC));
    assert_eq!(second, hex(&format!("0200 {head} 0100000061 {addr} {tail}")));
    let first = map.to_bytes(without(Features::MON_NAMES));
    assert_eq!(first, hex(&format!("0100 {head} 01 0000000000000000 {addr} {tail}")));
    let fifth = map.to_bytes(without(Features::SERVER_NAUTILUS));
    assert_eq!(&fifth[..2], [5, 3]);
    // Weight and location stand behind version 2 of the entry, as 16.2 writes them.
    assert!(fifth.ends_with(&hex(&format!("0201 30000000 0100000061 {addr} 0000 0000 00000000"))));
}

#[test]
fn every_form_comes_back_as_it_was() {
    let (map, _) = decode(&hex(CAPTURED));
    for features in [
        Features::PACIFIC,
        without(Features::SERVER_NAUTILUS),
        without(Features::MON_ENC),
        without(Features::MON_NAMES),
        Features::empty(),
    ] {
        let bytes = map.to_bytes(features);
        let (again, seen) = decode(&bytes);
        assert_eq!(again.to_bytes(seen), bytes, "{features}");
        assert_eq!(again.mons.len(), 1);
    }
}

/// Versions between those that are written today: each is the newer one without its last fields.
#[test]
fn versions_in_between_come_back_and_can_be_renewed() {
    let newest = hex(CAPTURED);
    let body = &newest[6..];
    for (version, missing) in [(8, 9), (7, 9 + 9), (6, 9 + 9 + 1)] {
        let body = &body[..body.len() - missing];
        let mut bytes = vec![version, 6];
        bytes.extend(u32::try_from(body.len()).expect("short").to_le_bytes());
        bytes.extend(body);
        let bytes = Bytes::from(bytes);
        let (mut map, features) = decode(&bytes);
        assert_eq!(map.to_bytes(features), bytes, "version {version}");
        map.renew();
        assert_eq!(map.to_bytes(features)[0], 9);
        assert_eq!(map.min_mon_release, 16, "said, or inferred from the features");
    }
}

#[test]
fn a_newer_map_is_read_up_to_what_we_know() {
    let mut bytes = hex(CAPTURED).to_vec();
    bytes[0] = 12;
    bytes[2] += 3;
    bytes.extend([1, 2, 3]);
    let (map, features) = decode(&bytes.into());
    assert_eq!(map.to_bytes(features), hex(CAPTURED));
}

#[test]
fn ranks_that_are_not_said_follow_the_addresses_as_c_compares_them() {
    let at = |text: &str| EntityAddrs::from(text.parse::<EntityAddr>().expect("address"));
    let mut map = MonMap::default();
    // The port comes before the IP address in the structure, and in network order.
    for (name, addr) in [("x", "v1:10.0.0.1:6790"), ("y", "v1:10.0.0.2:6789"), ("z", "v1:10.0.0.1:6789")] {
        map.mons.insert(name.into(), MonInfo::new(name, at(addr)));
        map.ranks.push(name.into());
    }
    let bytes = map.to_bytes(without(Features::SERVER_NAUTILUS));
    assert_eq!(decode(&bytes).0.ranks, ["z", "y", "x"]);
}

#[test]
fn an_entry_with_one_odd_address_keeps_it_in_old_forms() {
    let odd = EntityAddr { kind: AddrKind::NONE, nonce: 2, socket: SockAddr::UNSET };
    let mut map = MonMap::default();
    map.mons.insert("e".into(), MonInfo::new("e", odd.into()));
    let fifth = map.to_bytes(without(Features::SERVER_NAUTILUS));
    let (again, features) = decode(&fifth);
    assert_eq!(again.to_bytes(features), fifth);
}

#[test]
fn an_encoded_map_is_a_map_with_monitors() {
    assert!(EncodedMonMap::new(Bytes::new()).is_err());
    assert!(EncodedMonMap::try_from(&MonMap::default()).is_err());
    let map = EncodedMonMap::new(hex(CAPTURED)).expect("a map");
    assert_eq!(map.as_bytes(), &hex(CAPTURED));
    assert_eq!(map.decode().mons.len(), 1);
}
