use core::fmt::Debug;

use bytes::Bytes;
use cuttlebone_mds::{
    Backtrace, CapReconnect, ClientCapRelease, ClientCaps, ClientLease, ClientMetadata, ClientQuota,
    ClientReclaim, ClientReclaimReply, ClientReconnect, ClientReply, ClientRequest, ClientRequestForward,
    ClientSession, ClientSnap, DirFrag, FileLayout, Frag, FragTree, FsMap, FsMapMessage, FsMapUser,
    FsMapUserMessage, InodeStat, MdsInfo, MdsMap, MdsMapMessage, MetricSpec, Quota, ReplyForm,
    RequestRelease, SnapRealm, SnapRealmNew, SnapRealmReconnect,
};
use cuttlebone_wire::{Body, Decode, Encode, Features, Message, Reader};

/// The first byte chooses the map; it comes back in the form that it had, and can be written in every other one.
pub(crate) fn map(data: &[u8]) {
    let [choice, rest @ ..] = data else { return };
    let bytes = Bytes::copy_from_slice(rest);
    match choice % 4 {
        0 => renewed::<MdsMap>(&bytes, MdsMap::renew),
        1 => renewed::<FsMap>(&bytes, FsMap::renew),
        2 => renewed::<MdsInfo>(&bytes, MdsInfo::renew),
        _ => settled::<FsMapUser>(&bytes),
    }
}

fn renewed<T: Decode + Encode>(bytes: &Bytes, renew: fn(&mut T)) {
    let Some(mut value) = settles::<T>(bytes) else { return };
    renew(&mut value);
    for features in [Features::PACIFIC, Features::empty(), Features::ADDR2] {
        let bytes = value.to_bytes(features);
        T::decode(&mut Reader::new(&bytes)).map(drop).expect("what we wrote must decode");
    }
}

/// What was understood can be written, and is then always written the same way.
fn settles<T: Decode + Encode>(bytes: &Bytes) -> Option<T> {
    let mut r = Reader::new(bytes);
    let value = T::decode(&mut r).ok()?;
    let again = value.to_bytes(r.features_seen());
    let mut r = Reader::new(&again);
    let back = T::decode(&mut r).map_err(|error| error.to_string()).expect("what we wrote must decode");
    assert_eq!(r.remaining(), 0);
    assert_eq!(back.to_bytes(r.features_seen()), again);
    Some(value)
}

fn settled<T: Decode + Encode>(bytes: &Bytes) {
    settles::<T>(bytes);
}

/// The first byte chooses the structure.
pub(crate) fn structure(data: &[u8]) {
    let [choice, rest @ ..] = data else { return };
    let bytes = Bytes::copy_from_slice(rest);
    let check: [fn(&Bytes); 15] = [
        settled::<Backtrace>,
        settled::<CapReconnect>,
        settled::<ClientMetadata>,
        settled::<DirFrag>,
        settled::<FileLayout>,
        settled::<Frag>,
        walk,
        settled::<InodeStat>,
        settled::<MetricSpec>,
        settled::<Quota>,
        settled::<RequestRelease>,
        settled::<SnapRealm>,
        settled::<SnapRealmNew>,
        settled::<SnapRealmReconnect>,
        |bytes| drop(SnapRealm::decode_chain(&mut Reader::new(bytes))),
    ];
    check[usize::from(*choice) % check.len()](&bytes);
}

/// However senseless the divisions are, every hash is in some fragment, and going through them moves on.
fn walk(bytes: &Bytes) {
    let Some(tree) = settles::<FragTree>(bytes) else { return };
    for hash in [0, 1, 0x7f_ffff, 0x80_0000, 0xff_ffff, u32::MAX] {
        assert!(tree.leaf(hash).contains(hash));
    }
    let mut before = None;
    for leaf in tree.leaves().take(64) {
        assert!(before < Some(leaf.value()));
        before = Some(leaf.value());
    }
}

/// The first byte chooses the type, the second the version, the third and fourth how the rest is divided.
pub(crate) fn message(data: &[u8]) {
    let [choice, version, front, middle, rest @ ..] = data else { return };
    let share = |part: u8, of: &[u8]| of.len() * usize::from(part) / 255;
    let (front, rest) = rest.split_at(share(*front, rest));
    let (middle, data) = rest.split_at(share(*middle, rest));
    let message = Message {
        version: u16::from(*version % 16),
        front: Bytes::copy_from_slice(front),
        middle: Bytes::copy_from_slice(middle),
        data: Bytes::copy_from_slice(data),
        ..Message::default()
    };
    let check = [
        body_settles::<ClientCapRelease>,
        body_settles::<ClientCaps>,
        body_settles::<ClientLease>,
        body_settles::<ClientQuota>,
        body_settles::<ClientReclaim>,
        body_settles::<ClientReclaimReply>,
        body_settles::<ClientReconnect>,
        body_settles::<ClientReply>,
        body_settles::<ClientRequest>,
        body_settles::<ClientRequestForward>,
        body_settles::<ClientSession>,
        body_settles::<ClientSnap>,
        body_settles::<FsMapMessage>,
        body_settles::<FsMapUserMessage>,
        body_settles::<MdsMapMessage>,
    ];
    check[usize::from(*choice) % check.len()](message);
}

fn body_settles<B: Body + Debug>(message: Message) {
    let message = Message { kind: B::KIND, ..message };
    if let Ok((body, features)) = B::decode(&message) {
        let again = body.message_like(&message, features);
        let (back, features) = B::decode(&again).expect("what we wrote must decode");
        assert_eq!(back.message_like(&again, features), again);
        drop(body.message(Features::PACIFIC, 1));
    }
}

/// Bits of the first byte choose what a reply has, and in which form; the rest is its trace or its extra part.
pub(crate) fn reply(data: &[u8]) {
    let [choice, rest @ ..] = data else { return };
    let bytes = Bytes::copy_from_slice(rest);
    let features = if choice & 2 == 0 { Features::all_known() } else { Features::empty() };
    let form = if choice & 1 == 0 { ReplyForm::Versioned } else { ReplyForm::Legacy(features) };
    let (is_dentry, is_target) = (choice & 4 != 0, choice & 8 != 0);
    let empty = ClientReply { is_dentry, is_target, ..ClientReply::default() };
    if choice & 16 == 0 {
        let reply = ClientReply { trace: bytes, ..empty };
        if let Ok(trace) = reply.trace(form) {
            let again = reply.with_trace(&trace, form);
            assert_eq!(again.trace(form).as_ref(), Ok(&trace), "what we wrote must decode");
        }
        return;
    }
    let reply = ClientReply { extra: bytes, ..empty };
    if let Ok(page) = reply.dir_page(form) {
        let again = reply.clone().with_dir_page(&page, form);
        assert_eq!(again.dir_page(form).as_ref(), Ok(&page), "what we wrote must decode");
    }
    if let Ok(Some(created)) = reply.created() {
        let again = reply.clone().with_created(&created);
        assert_eq!(again.created(), Ok(Some(created)), "what we wrote must decode");
    }
    drop((reply.vxattr(), reply.file_lock()));
}
