//! A producer that says more than a replica can hold loses its link, and costs it no more than its limits.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

use cuttlebone_bucket::engine::MemoryEngine;
use cuttlebone_bucket::{Bucket, BucketLimits, Event, Now, Position};
use cuttlebone_checkpoint::{CheckpointId, CheckpointKind, Item, Limits as LogLimits, Seqno, SnapshotRange};
use cuttlebone_replica::{Consumer, Error, Following, Frame, Limits};

/// A replica whose log holds 64 KiB, and which asked for vbucket 0.
fn replica(limits: Limits) -> (Bucket<MemoryEngine>, Consumer<MemoryEngine>) {
    let log = LogLimits { memory_max: 64 << 10, checkpoint_bytes_max: 4 << 10, ..LogLimits::default() };
    let bucket_limits = BucketLimits { log, ..BucketLimits::default() };
    let bucket = Bucket::open(MemoryEngine::default(), bucket_limits, Now::default(), 1).unwrap();
    let mut consumer = Consumer::new(bucket.clone(), limits);
    consumer.handle(Now::default(), &Frame::Hello { vbuckets: vec![0] }.to_message()).unwrap();
    let asked = Frame::from_message(&consumer.poll_message().unwrap()).unwrap();
    assert_eq!(asked, Frame::Follow { vbucket: 0, stream: 1, position: position(&bucket) });
    (bucket, consumer)
}

fn position(bucket: &Bucket<MemoryEngine>) -> Position {
    bucket.position(0).unwrap()
}

/// One message with 8 KiB of values, the first with the snapshot that they are in.
fn values(first: u64) -> Frame {
    let mut events = Vec::new();
    if first == 1 {
        let range = SnapshotRange { start: Seqno(1), end: Seqno(10_000) };
        events.push(Event::Snapshot { checkpoint: CheckpointId(1), range, kind: CheckpointKind::Memory });
    }
    for seqno in first..first + 8 {
        let item = Item::set(&seqno.to_be_bytes(), &[7; 1024]).unwrap();
        events.push(Event::Item(item.with_seqno(Seqno(seqno))));
    }
    Frame::Events { vbucket: 0, stream: 1, events }
}

/// Sends until the replica has had enough; how many messages it took, and why it ended.
fn flood(consumer: &mut Consumer<MemoryEngine>) -> (u64, Error) {
    for message in 0..1000 {
        if let Err(error) = consumer.handle(Now::default(), &values(1 + message * 8).to_message()) {
            return (message, error);
        }
    }
    panic!("a thousand messages were taken");
}

#[test]
fn more_vbuckets_than_the_limit_are_refused_before_any_is_made() {
    let bucket = Bucket::open(MemoryEngine::default(), BucketLimits::default(), Now::default(), 1).unwrap();
    let mut consumer = Consumer::new(bucket.clone(), Limits { vbuckets_max: 3, ..Limits::default() });
    let hello = Frame::Hello { vbuckets: vec![0, 1, 2, 3] }.to_message();
    let refused = consumer.handle(Now::default(), &hello);
    assert!(matches!(refused, Err(Error::TooMuch { what: "vbuckets", limit: 3 })), "{refused:?}");
    assert!(bucket.vbuckets().is_empty());
}

#[test]
fn what_waits_for_room_is_limited_in_bytes() {
    let (_, mut consumer) = replica(Limits { waiting_bytes_max: 100 << 10, ..Limits::default() });
    let (messages, error) = flood(&mut consumer);
    assert!(matches!(error, Error::TooMuch { limit: 102_400, .. }), "{error}");
    // The log took less than its 64 KiB, and twelve messages of 8 KiB fit into what may wait.
    assert!((13..22).contains(&messages), "{messages}");
    assert!(consumer.following().all(|(_, following)| following == Following::Held));
}

#[test]
fn what_waits_for_room_is_limited_in_number() {
    let (_, mut consumer) = replica(Limits { waiting_events_max: 40, ..Limits::default() });
    let (_, error) = flood(&mut consumer);
    assert!(matches!(error, Error::TooMuch { limit: 40, .. }), "{error}");
}
