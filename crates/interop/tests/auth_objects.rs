//! MAuth and MAuthReply as a real release has written them.

use anyhow::{Context, Result};
use bytes::Bytes;
use cuttlebone_auth::{Hello, MAuth, MAuthReply, MethodId};
use cuttlebone_testkit::corpus;
use cuttlebone_wire::{Decode, Encode, Features, Reader};

/// Bytes of the header and the old footer in front of the three parts.
///
/// Source: `ceph/ceph:src/msg/Message.cc`, `encode_message`.
const ENVELOPE_BYTES: usize = 53 + 13;

fn front(object: &[u8]) -> Result<Bytes> {
    let object = Bytes::copy_from_slice(object);
    let mut r = Reader::new(&object);
    r.skip(ENVELOPE_BYTES, "envelope")?;
    let front = r.blob("front", 1 << 20)?;
    r.blob("middle", 0)?;
    r.blob("data", 0)?;
    r.finish("object")?;
    Ok(front)
}

#[test]
fn every_recorded_mauth_reads_and_writes_back_to_its_bytes() -> Result<()> {
    let mut methods = Vec::new();
    for object in corpus("MAuth")? {
        let front = front(&object.bytes).with_context(|| object.name.clone())?;
        let auth = MAuth::decode(&front).with_context(|| object.name.clone())?;
        assert_eq!(auth.to_bytes(Features::PACIFIC), front, "{}", object.name);
        if auth.protocol == MethodId::UNKNOWN {
            let mut r = Reader::new(&auth.payload);
            let hello = Hello::decode(&mut r)?;
            r.finish("hello")?;
            assert_eq!(hello.to_bytes(Features::PACIFIC), auth.payload);
        }
        methods.push(auth.protocol);
    }
    assert!(methods.contains(&MethodId::UNKNOWN) && methods.contains(&MethodId::CEPHX));
    Ok(())
}

#[test]
fn every_recorded_mauthreply_reads_and_writes_back_to_its_bytes() -> Result<()> {
    for object in corpus("MAuthReply")? {
        let front = front(&object.bytes).with_context(|| object.name.clone())?;
        let reply = MAuthReply::decode(&front).with_context(|| object.name.clone())?;
        assert_eq!(reply.to_bytes(Features::PACIFIC), front, "{}", object.name);
        assert!(reply.global_id > 0 && reply.result == 0);
    }
    Ok(())
}
