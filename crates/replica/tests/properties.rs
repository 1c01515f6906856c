//! Frames come back as they were, and no other bytes are taken for one.

use cuttlebone_bucket::{Branch, Event, History, Position};
use cuttlebone_checkpoint::{CheckpointId, CheckpointKind, Item, Seqno, SnapshotRange};
use cuttlebone_replica::{Frame, Malformed};
use proptest::prelude::*;

fn event() -> impl Strategy<Value = Event> {
    let id = || any::<u64>().prop_map(CheckpointId);
    let bytes = |max| proptest::collection::vec(any::<u8>(), 0..max);
    let item = (bytes(40), bytes(200), any::<[u32; 2]>(), any::<[u64; 3]>()).prop_map(
        |(key, value, [flags, expiry], [seqno, cas, revision])| {
            let item = Item::set(&key, &value).expect("short enough").with_seqno(Seqno(seqno));
            Event::Item(item.with_flags(flags).with_expiry(expiry).with_cas(cas).with_revision(revision))
        },
    );
    prop_oneof![
        Just(Event::Rollback),
        proptest::collection::vec(any::<(u64, u64)>(), 1..25).prop_map(|branches| {
            let branch = |(id, from)| Branch { id, from: Seqno(from) };
            let branches = branches.into_iter().map(branch).collect();
            Event::History(History::from_branches(branches).expect("neither none nor too many"))
        }),
        (id(), any::<(u64, u64)>(), any::<bool>()).prop_map(|(checkpoint, (start, end), disk)| {
            let range = SnapshotRange { start: Seqno(start), end: Seqno(end) };
            let kind = if disk { CheckpointKind::Disk } else { CheckpointKind::Memory };
            Event::Snapshot { checkpoint, range, kind }
        }),
        item,
        bytes(10).prop_map(|key| Event::Item(Item::delete(&key).expect("short enough"))),
        bytes(20).prop_map(|state| Event::State(state.into())),
        id().prop_map(Event::End),
        id().prop_map(Event::UpdateStart),
        id().prop_map(Event::UpdateComplete),
        (id(), any::<(u64, u64)>()).prop_map(|(barrier, (first, last))| Event::UpdateRevert {
            barrier,
            first: Seqno(first),
            last: Seqno(last),
        }),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    let position = (any::<[u64; 5]>(), any::<Option<u64>>()).prop_map(
        |([branch, seqno, start, end, checkpoint], barrier)| Position {
            branch,
            seqno: Seqno(seqno),
            snapshot_start: Seqno(start),
            snapshot_end: Seqno(end),
            checkpoint: CheckpointId(checkpoint),
            barrier: barrier.map(CheckpointId),
        },
    );
    prop_oneof![
        proptest::collection::vec(any::<u16>(), 0..50).prop_map(|vbuckets| Frame::Hello { vbuckets }),
        (any::<u16>(), any::<u64>(), position).prop_map(|(vbucket, stream, position)| Frame::Follow {
            vbucket,
            stream,
            position
        }),
        (any::<u16>(), any::<u64>(), proptest::collection::vec(event(), 0..20))
            .prop_map(|(vbucket, stream, events)| Frame::Events { vbucket, stream, events }),
        any::<(u16, u64, u64)>().prop_map(|(vbucket, stream, events)| Frame::Applied {
            vbucket,
            stream,
            events
        }),
        (any::<u16>(), any::<u64>(), ".{0,40}").prop_map(|(vbucket, stream, why)| Frame::Over {
            vbucket,
            stream,
            why
        }),
    ]
}

proptest! {
    #[test]
    fn every_frame_comes_back(frame in frame()) {
        prop_assert_eq!(Frame::from_message(&frame.to_message()), Ok(frame));
    }

    #[test]
    fn a_flipped_bit_is_noticed(frame in frame(), at in any::<proptest::sample::Index>(), bit in 0_u32..8) {
        let mut message = frame.to_message();
        let (front, mut data) = (message.front.len(), message.data.to_vec());
        let at = at.index(front + data.len());
        let mut head = message.front.to_vec();
        match at.checked_sub(front) {
            None => head[at] ^= 1_u8 << bit,
            Some(at) => data[at] ^= 1_u8 << bit,
        }
        (message.front, message.data) = (head.into(), data.into());
        prop_assert!(Frame::from_message(&message).is_err());
    }

    #[test]
    fn no_prefix_is_a_frame(frame in frame(), at in any::<proptest::sample::Index>()) {
        let mut message = frame.to_message();
        message.front = message.front.slice(..at.index(message.front.len()));
        prop_assert!(Frame::from_message(&message).is_err());
    }

    #[test]
    fn any_bytes_behind_a_good_head_are_refused_or_read(record in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut message = Frame::Hello { vbuckets: Vec::new() }.to_message();
        let mut front = message.front[..5].to_vec();
        front.extend(crc32c::crc32c(&record).to_le_bytes());
        front.extend(record);
        message.front = front.into();
        let _ = Frame::from_message(&message);
    }
}

#[test]
fn a_frame_of_another_version_is_named() {
    let mut message = Frame::Hello { vbuckets: vec![1] }.to_message();
    let mut front = message.front.to_vec();
    front[4] = 9;
    message.front = front.into();
    assert_eq!(Frame::from_message(&message), Err(Malformed::Version(9)));
}
