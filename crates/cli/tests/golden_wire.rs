//! Every object of our types that a real release has written: it decodes, and comes back as the same bytes.

use bytes::Bytes;
use cuttlebone_cli::wire::{Recorded, TYPES, Type};
use cuttlebone_mds::{ClientReply, ReplyForm};
use cuttlebone_testkit::{Object, corpus};
use cuttlebone_wire::{Body, Decode, Features, Reader};

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

/// A reply keeps its trace as bytes, since only the session knows its form; here it is that of Kraken.
#[test]
fn traces_of_old_replies_come_back_as_well() {
    let form = ReplyForm::Legacy(Features::all_known());
    let (mut dentries, mut targets, mut realms) = (0, 0, 0);
    for object in corpus("MClientReply").unwrap_or_else(|error| panic!("{error:#}")) {
        let bytes = Bytes::from(object.bytes);
        let recorded = Recorded::decode(&mut Reader::new(&bytes)).unwrap();
        let (reply, _) = ClientReply::decode(&recorded.message).unwrap();
        let trace = reply.trace(form).unwrap_or_else(|error| panic!("{}: {error}", object.name));
        dentries += usize::from(trace.dentry.is_some());
        targets += usize::from(trace.target.is_some());
        let chain = reply.realms().unwrap();
        realms += chain.len();
        let again = reply.clone().with_trace(&trace, form).with_realms(&chain);
        assert!(again == reply, "{}: {trace:?}", object.name);
        for target in trace.target.iter().chain(trace.dentry.iter().map(|dentry| &dentry.dir)) {
            assert!(target.ino.0 > 0 && target.mode > 0, "{target:?}");
        }
    }
    assert!(dentries > 0 && targets > 0 && realms > 0, "{dentries} names, {targets} inodes, {realms} realms");
}
