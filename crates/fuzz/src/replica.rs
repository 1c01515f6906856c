//! Frames between two nodes, and a replica that is told anything.

use core::time::Duration;

use cuttlebone_bucket::engine::MemoryEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Event, History, Now};
use cuttlebone_checkpoint::{CheckpointId, CheckpointKind, Item, Seqno, SnapshotRange};
use cuttlebone_replica::{Consumer, Frame, Limits};

/// Any record behind a good head, and any bodies: refused, or a frame that comes back.
pub(crate) fn frame(data: &[u8]) {
    let Some((len, rest)) = data.split_first() else { return };
    let (record, bodies) = rest.split_at(usize::from(*len).min(rest.len()));
    let mut message = Frame::Hello { vbuckets: Vec::new() }.to_message();
    let mut front = message.front[..5].to_vec();
    front.extend(crc32c::crc32c_append(crc32c::crc32c(record), bodies).to_le_bytes());
    front.extend(record);
    (message.front, message.data) = (front.into(), bodies.to_vec().into());
    if let Ok(frame) = Frame::from_message(&message) {
        assert_eq!(Frame::from_message(&frame.to_message()), Ok(frame));
    }
}

/// Small numbers are themselves, the greatest stand for those at which counting ends.
fn number(byte: u8) -> u64 {
    match byte {
        252 => u64::MAX / 2,
        253 => u64::MAX / 2 + 1,
        254 => u64::MAX - 1,
        255 => u64::MAX,
        small => u64::from(small),
    }
}

/// A producer that sends any events in any order: the replica may end the link, and stays in order itself.
pub(crate) fn consumer(data: &[u8]) {
    let mut now = Now::default();
    let Ok(bucket) = Bucket::open(MemoryEngine::default(), BucketLimits::default(), now, 1) else { return };
    let mut consumer = Consumer::new(bucket.clone(), Limits::default());
    let hello = Frame::Hello { vbuckets: vec![0, 1] };
    if consumer.handle(now, &hello.to_message()).is_err() {
        return;
    }
    let mut stream = 1;
    for step in data.chunks_exact(4) {
        let [kind, a, b, c] = *step else { return };
        let (vbucket, [a, b, c]) = (u16::from(kind >> 7), [a, b, c].map(number));
        let event = match kind % 16 {
            0 => Event::Rollback,
            1 => match History::from_branches(vec![cuttlebone_bucket::Branch { id: a, from: Seqno(b) }]) {
                Some(history) => Event::History(history),
                None => continue,
            },
            2 | 3 => Event::Snapshot {
                checkpoint: CheckpointId(a),
                range: SnapshotRange { start: Seqno(b), end: Seqno(c) },
                kind: if kind % 2 == 0 { CheckpointKind::Memory } else { CheckpointKind::Disk },
            },
            4 => Event::State([b'x'].as_slice().into()),
            5 => Event::End(CheckpointId(a)),
            6 => Event::UpdateStart(CheckpointId(a)),
            7 => Event::UpdateComplete(CheckpointId(a)),
            8 => Event::UpdateRevert { barrier: CheckpointId(a), first: Seqno(b), last: Seqno(c) },
            9 => {
                drop(bucket.flush());
                continue;
            }
            10 => {
                now.at = now.at + Duration::from_millis(a);
                drop(consumer.handle_timeout(now));
                continue;
            }
            _ => match Item::set(&[step[2] % 8], &[step[3]]) {
                Ok(item) => Event::Item(item.with_seqno(Seqno(a)).with_cas(number(step[2])).with_revision(c)),
                Err(_) => continue,
            },
        };
        let frame = Frame::Events { vbucket, stream, events: vec![event] };
        if consumer.handle(now, &frame.to_message()).is_err() {
            break;
        }
        while let Some(message) = consumer.poll_message() {
            if let Ok(Frame::Follow { stream: newer, .. }) = Frame::from_message(&message) {
                stream = newer;
            }
        }
    }
    if let Err(fault) = bucket.recount() {
        panic!("{fault}");
    }
}
