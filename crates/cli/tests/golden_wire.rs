//! Every object of our types that a real release has written: it decodes, and comes back as the same bytes.

use bytes::Bytes;
use cuttlebone_cli::wire::{TYPES, Type};
use cuttlebone_testkit::{Object, corpus};

fn kind(name: &str) -> &'static Type {
    TYPES.iter().find(|kind| kind.name == name).unwrap_or_else(|| panic!("{name} is not in the table"))
}

fn comes_back(kind: &Type, object: &Object) {
    let place = format!("{}/{}/{}", object.release, object.kind, object.name);
    let bytes = Bytes::from(object.bytes.clone());
    let decoded = kind.decode(&bytes, None).unwrap_or_else(|error| panic!("{place}: {error}"));
    assert!(decoded.encoded == bytes, "{place}: {:?} became {:?}", &bytes[..], &decoded.encoded[..]);
}

/// No prefix is taken for the whole, and none does harm.
fn is_refused_when_cut(kind: &Type, object: &Object) {
    for len in 0..object.bytes.len() {
        let cut = Bytes::copy_from_slice(&object.bytes[..len]);
        assert!(kind.decode(&cut, None).is_err(), "{}/{} cut to {len} bytes", object.kind, object.name);
    }
}

/// A flipped bit may still mean something, but what was understood can be written and read again.
fn survives_flipped_bits(kind: &Type, object: &Object) {
    for bit in 0..object.bytes.len() * 8 {
        let mut bytes = object.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(decoded) = kind.decode(&bytes.into(), None) {
            let again = kind.decode(&decoded.encoded, None);
            let again = again.unwrap_or_else(|error| panic!("{} bit {bit}: {error}", object.name));
            assert!(again.encoded == decoded.encoded, "{} bit {bit}", object.name);
        }
    }
}

fn check(name: &str) {
    let objects = corpus(name).unwrap_or_else(|error| panic!("{error:#}"));
    for object in &objects {
        comes_back(kind(name), object);
        is_refused_when_cut(kind(name), object);
    }
    for object in objects.iter().take(3) {
        survives_flipped_bits(kind(name), object);
    }
}

macro_rules! golden {
    ($($test:ident: $name:literal;)*) => {$(
        #[test]
        fn $test() {
            check($name);
        }
    )*};
}

golden! {
    cap_reconnect: "cap_reconnect_t";
    client_metadata: "client_metadata_t";
    dirfrag: "dirfrag_t";
    entity_addr: "entity_addr_t";
    entity_addrvec: "entity_addrvec_t";
    entity_inst: "entity_inst_t";
    entity_name: "EntityName";
    entity_num: "entity_name_t";
    feature_bitset: "feature_bitset_t";
    file_layout: "file_layout_t";
    frag: "frag_t";
    fragtree: "fragtree_t";
    fsmap: "FSMap";
    inode_backtrace: "inode_backtrace_t";
    mauth: "MAuth";
    mauth_reply: "MAuthReply";
    mclient_caps: "MClientCaps";
    mclient_reply: "MClientReply";
    mclient_request: "MClientRequest";
    mclient_request_release: "MClientRequest::Release";
    mclient_session: "MClientSession";
    mds_info: "MDSMap::mds_info_t";
    mdsmap: "MDSMap";
    metric_spec: "metric_spec_t";
    mmon_command: "MMonCommand";
    mmon_command_ack: "MMonCommandAck";
    mmon_get_version: "MMonGetVersion";
    mmon_get_version_reply: "MMonGetVersionReply";
    mmon_map: "MMonMap";
    mmon_probe: "MMonProbe";
    mmon_subscribe: "MMonSubscribe";
    mmon_sync: "MMonSync";
    monmap: "MonMap";
    quota_info: "quota_info_t";
    snap_realm_info: "SnapRealmInfo";
    store_op: "MonitorDBStore::Op";
    store_transaction: "MonitorDBStore::Transaction";
}
