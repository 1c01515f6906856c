//! Numbers at their ends, limits, and what is easily forgotten.

#![expect(clippy::unwrap_used, reason = "a failure in a test is a panic")]

#[path = "table/world.rs"]
mod world;

use cuttlebone_bucket::engine::{Fault, LogEngine, MemoryEngine};
use cuttlebone_bucket::{Branch, Bucket, BucketLimits, Error, Event, History, Mode, Position, VbucketState};
use cuttlebone_checkpoint::{CheckpointId, CheckpointKind, Item, Limits, Seqno, SnapshotRange};
use world::{V, World, now};

fn item(key: &str, value: &str) -> Item {
    Item::set(key.as_bytes(), value.as_bytes()).unwrap()
}

#[test]
fn a_forgotten_deletion_is_noted_on_the_disk_before_its_row_goes() {
    let limits = BucketLimits { tombstones_max: 1, log: Limits::default(), ..BucketLimits::default() };
    let disk = MemoryEngine::default();
    let bucket = Bucket::open(disk.clone(), limits, now(0), 1).unwrap();
    for id in [V, V + 1] {
        bucket.create(id, now(0), VbucketState::Active).unwrap();
    }
    for key in ["a", "b"] {
        bucket.set(V, now(0), item(key, "v"), Mode::Set).unwrap();
    }
    let branch = bucket.status(V).unwrap().history.newest().id;
    for key in ["a", "b"] {
        bucket.delete(V, now(0), key.as_bytes(), None).unwrap();
    }
    // The deletion of "a" is forgotten, and nothing happens in its vbucket from now on.
    bucket.flush_all().unwrap();
    let rows = disk.len();
    let large = "x".repeat(1 << 20);
    for _ in 0..40 {
        bucket.set(V + 1, now(0), item("other", &large), Mode::Set).unwrap();
        bucket.flush_all().unwrap();
    }
    assert!(disk.len() < rows + 20, "the front has gone");
    let again = Bucket::open(disk, limits, now(0), 2).unwrap();
    let mut stream = again.stream(V, "late", world::position(branch, 2)).unwrap();
    assert_eq!(stream.try_next().unwrap(), Some(Event::Rollback), "it would keep \"a\" for ever");
    let mut stream = again.stream(V, "in time", world::position(branch, 3)).unwrap();
    assert!(matches!(stream.try_next().unwrap(), Some(Event::History(_))));
}

#[test]
fn stamps_of_a_producer_may_be_the_greatest_there_are() {
    let replica = World::open(MemoryEngine::default(), 1);
    replica.bucket.create(V, now(0), VbucketState::Replica).unwrap();
    let range = SnapshotRange { start: Seqno(1), end: Seqno(1) };
    let checkpoint = CheckpointId(1);
    for event in [
        Event::Snapshot { checkpoint, range, kind: CheckpointKind::Memory },
        Event::Item(item("a", "v").with_seqno(Seqno(1)).with_cas(u64::MAX).with_revision(u64::MAX)),
    ] {
        replica.bucket.apply(V, now(0), event).unwrap();
    }
    replica.bucket.set_state(V, now(0), VbucketState::Active).unwrap();
    let stored = replica.bucket.set(V, now(0), item("a", "w"), Mode::Cas(u64::MAX)).unwrap();
    assert_eq!(stored.cas, 1, "0 and the greatest have a meaning of their own");
    replica.bucket.flush_all().unwrap();
    let again = replica.after_a_kill();
    assert!(again.try_set("a", "x").unwrap().cas > stored.cas);
}

#[test]
fn numbers_that_nobody_counts_to_are_refused() {
    let replica = World::open(MemoryEngine::default(), 1);
    replica.bucket.create(V, now(0), VbucketState::Replica).unwrap();
    let snapshot = |checkpoint, end| Event::Snapshot {
        checkpoint: CheckpointId(checkpoint),
        range: SnapshotRange { start: Seqno(1), end: Seqno(end) },
        kind: CheckpointKind::Memory,
    };
    for event in [snapshot(u64::MAX, 1), snapshot(1, u64::MAX), Event::UpdateStart(CheckpointId(u64::MAX))] {
        let refused = replica.bucket.apply(V, now(0), event.clone());
        assert!(matches!(refused, Err(Error::Replication(_))), "{event:?}: {refused:?}");
    }
    replica.bucket.apply(V, now(0), snapshot(u64::MAX / 2, u64::MAX / 2)).unwrap();
    let last = item("a", "v").with_seqno(Seqno(u64::MAX / 2));
    replica.bucket.apply(V, now(0), Event::Item(last)).unwrap();
    replica.bucket.set_state(V, now(0), VbucketState::Active).unwrap();
    replica.set("b", "v");
    replica.bucket.flush_all().unwrap();
    replica.check();
}

#[test]
fn a_file_that_only_looks_like_a_segment_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Bucket::open(LogEngine::open(folder.path()).unwrap(), BucketLimits::default(), now(0), 1);
    let bucket = open().unwrap();
    bucket.create(V, now(0), VbucketState::Active).unwrap();
    bucket.set(V, now(0), item("a", "v"), Mode::Set).unwrap();
    bucket.flush_all().unwrap();
    drop(bucket);
    let strange = ["0.log", "+1.log", "1.log", "00000000000000001.log", "ffffffffffffffff.log", "notes.log"];
    for name in strange {
        std::fs::write(folder.path().join(name), b"CBL1CBL1").unwrap();
    }
    assert_eq!(open().unwrap().get(V, now(0), b"a").unwrap().item.value(), b"v");
    for name in strange {
        assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), b"CBL1CBL1", "{name}");
    }
}

#[test]
fn what_only_the_document_says_is_written_again_after_a_failure() {
    let replica = World::open(MemoryEngine::default(), 1);
    replica.bucket.create(V, now(0), VbucketState::Replica).unwrap();
    replica.bucket.flush_all().unwrap();
    let history = History::new(Branch { id: 77, from: Seqno(0) });
    replica.bucket.apply(V, now(0), Event::History(history.clone())).unwrap();
    replica.disk.fail_after(0, Fault::Nothing);
    assert!(matches!(replica.bucket.flush(), Err(Error::Engine(_))));
    replica.bucket.flush_all().unwrap();
    assert_eq!(replica.after_a_kill().bucket.status(V).unwrap().history, history);
}

#[test]
fn a_replica_that_is_cut_off_in_a_window_that_was_reverted_keeps_nothing_of_it() {
    let world = World::new();
    world.set("k", "v");
    world.bucket.flush_all().unwrap();
    // Somebody slow holds everything in memory.
    let _slow = world.bucket.stream(V, "slow", Position::default()).unwrap();
    world.bucket.start_update(now(0)).unwrap();
    world.set("a", "in the window");
    world.set("b", "in the window");
    world.revert();
    let replica = World::open(MemoryEngine::default(), 9);
    replica.bucket.create(V, now(0), VbucketState::Replica).unwrap();
    let connect = || world.bucket.stream(V, "replica", replica.bucket.position(V).unwrap()).unwrap();
    let mut stream = connect();
    while replica.get("a").is_none() {
        replica.bucket.apply(V, now(0), stream.try_next().unwrap().unwrap()).unwrap();
    }
    drop(stream);
    let mut stream = connect();
    while let Some(event) = stream.try_next().unwrap() {
        while replica.bucket.apply(V, now(0), event.clone()).is_err() {
            replica.bucket.flush_all().unwrap();
        }
    }
    let kept = ["k", "a", "b"].map(|key| replica.get(key));
    assert_eq!(kept, ["k", "a", "b"].map(|key| world.get(key)));
    replica.check();
}

#[test]
fn what_a_process_gave_out_before_its_first_flush_is_never_given_again() {
    let first = World::new();
    first.bucket.flush_all().unwrap();
    // Each is killed with mutations and checkpoints of which others may have heard, and which no row shows.
    let give = |process: &World| {
        let cas = (0..25).map(|key| process.try_set(&key.to_string(), "v").unwrap().cas).max();
        (cas, process.bucket.status(V).unwrap().log.open)
    };
    let (mut process, mut given) = (first, Vec::new());
    for _ in 0..3 {
        let before = process.bucket.status(V).unwrap().log.open;
        given.extend([(None, before), give(&process)]);
        process = process.after_a_kill();
    }
    let stamps: Vec<_> = given.iter().filter_map(|(cas, _)| *cas).collect();
    assert!(stamps.is_sorted_by(|one, two| one < two), "{given:?}");
    assert!(given.is_sorted_by(|one, two| one.1 < two.1), "{given:?}");
}
