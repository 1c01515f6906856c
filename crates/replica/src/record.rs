//! Frames in the form that version 1 of the format has them.

use bytes::{BufMut, Bytes, BytesMut};
use cuttlebone_bucket::{Branch, Event, History, Position};
use cuttlebone_checkpoint::{CheckpointId, CheckpointKind, Item, Op, Seqno, SnapshotRange};
use serde::{Deserialize, Serialize};

use crate::Frame;

/// Bytes of one record, without keys and values.
const RECORD_BYTES_MAX: usize = 4 << 20;

pub(crate) fn encode(stored: &Stored) -> Vec<u8> {
    bincode::serde::encode_to_vec(stored, encoding()).expect("numbers, lists and texts within the limit")
}

pub(crate) fn decode(bytes: &[u8]) -> Option<Stored> {
    let (stored, used) = bincode::serde::decode_from_slice(bytes, encoding()).ok()?;
    (used == bytes.len()).then_some(stored)
}

fn encoding() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<RECORD_BYTES_MAX>()
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Stored {
    Hello { vbuckets: Vec<u16> },
    Follow { vbucket: u16, stream: u64, position: StoredPosition },
    Events { vbucket: u16, stream: u64, events: Vec<StoredEvent> },
    Current { vbucket: u16, stream: u64 },
    Applied { vbucket: u16, stream: u64, events: u64 },
    Over { vbucket: u16, stream: u64, why: String },
}

#[derive(Serialize, Deserialize)]
pub(crate) struct StoredPosition {
    branch: u64,
    seqno: u64,
    snapshot: (u64, u64),
    checkpoint: u64,
    barrier: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum StoredEvent {
    Rollback,
    History(Vec<(u64, u64)>),
    Snapshot { checkpoint: u64, range: (u64, u64), on_disk: bool },
    Item(StoredItem),
    State(Vec<u8>),
    End(u64),
    UpdateStart(u64),
    UpdateComplete(u64),
    UpdateRevert { barrier: u64, first: u64, last: u64 },
}

/// An item without its key and value, which lie in this order among the bodies.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredItem {
    deletes: bool,
    key_bytes: u32,
    value_bytes: u32,
    flags: u32,
    expiry: u32,
    seqno: u64,
    cas: u64,
    revision: u64,
}

impl Stored {
    pub(crate) fn new(frame: &Frame, bodies: &mut BytesMut) -> Self {
        match frame {
            Frame::Hello { vbuckets } => Self::Hello { vbuckets: vbuckets.clone() },
            Frame::Follow { vbucket, stream, position } => {
                Self::Follow { vbucket: *vbucket, stream: *stream, position: StoredPosition::new(position) }
            }
            Frame::Events { vbucket, stream, events } => {
                bodies.reserve(events.iter().map(body_bytes).sum());
                let events = events.iter().map(|event| StoredEvent::new(event, bodies)).collect();
                Self::Events { vbucket: *vbucket, stream: *stream, events }
            }
            Frame::Current { vbucket, stream } => Self::Current { vbucket: *vbucket, stream: *stream },
            Frame::Applied { vbucket, stream, events } => {
                Self::Applied { vbucket: *vbucket, stream: *stream, events: *events }
            }
            Frame::Over { vbucket, stream, why } => {
                Self::Over { vbucket: *vbucket, stream: *stream, why: why.clone() }
            }
        }
    }

    /// The frame again; its keys and values are taken from the front of `bodies`.
    pub(crate) fn restore(self, bodies: &mut Bytes) -> Option<Frame> {
        Some(match self {
            Self::Hello { vbuckets } => Frame::Hello { vbuckets },
            Self::Follow { vbucket, stream, position } => {
                Frame::Follow { vbucket, stream, position: position.restore() }
            }
            Self::Events { vbucket, stream, events } => {
                let events = events.into_iter().map(|event| event.restore(bodies)).collect::<Option<_>>()?;
                Frame::Events { vbucket, stream, events }
            }
            Self::Current { vbucket, stream } => Frame::Current { vbucket, stream },
            Self::Applied { vbucket, stream, events } => Frame::Applied { vbucket, stream, events },
            Self::Over { vbucket, stream, why } => Frame::Over { vbucket, stream, why },
        })
    }
}

/// Bytes of keys and values in an event.
pub(crate) fn body_bytes(event: &Event) -> usize {
    if let Event::Item(item) = event { item.key().len() + item.value().len() } else { 0 }
}

impl StoredPosition {
    fn new(position: &Position) -> Self {
        let Position { branch, seqno, snapshot_start, snapshot_end, checkpoint, barrier } = *position;
        let snapshot = (snapshot_start.0, snapshot_end.0);
        let barrier = barrier.map(|barrier| barrier.0);
        Self { branch, seqno: seqno.0, snapshot, checkpoint: checkpoint.0, barrier }
    }

    fn restore(self) -> Position {
        Position {
            branch: self.branch,
            seqno: Seqno(self.seqno),
            snapshot_start: Seqno(self.snapshot.0),
            snapshot_end: Seqno(self.snapshot.1),
            checkpoint: CheckpointId(self.checkpoint),
            barrier: self.barrier.map(CheckpointId),
        }
    }
}

impl StoredEvent {
    fn new(event: &Event, bodies: &mut BytesMut) -> Self {
        match event {
            Event::Rollback => Self::Rollback,
            Event::History(history) => {
                let pair = |branch: &Branch| (branch.id, branch.from.0);
                Self::History(history.branches().iter().map(pair).collect())
            }
            Event::Snapshot { checkpoint, range, kind } => Self::Snapshot {
                checkpoint: checkpoint.0,
                range: (range.start.0, range.end.0),
                on_disk: *kind == CheckpointKind::Disk,
            },
            Event::Item(item) => Self::Item(StoredItem::new(item, bodies)),
            Event::State(state) => Self::State(state.to_vec()),
            Event::End(id) => Self::End(id.0),
            Event::UpdateStart(barrier) => Self::UpdateStart(barrier.0),
            Event::UpdateComplete(barrier) => Self::UpdateComplete(barrier.0),
            Event::UpdateRevert { barrier, first, last } => {
                Self::UpdateRevert { barrier: barrier.0, first: first.0, last: last.0 }
            }
        }
    }

    fn restore(self, bodies: &mut Bytes) -> Option<Event> {
        Some(match self {
            Self::Rollback => Event::Rollback,
            Self::History(branches) => {
                let branch = |(id, from)| Branch { id, from: Seqno(from) };
                Event::History(History::from_branches(branches.into_iter().map(branch).collect())?)
            }
            Self::Snapshot { checkpoint, range, on_disk } => Event::Snapshot {
                checkpoint: CheckpointId(checkpoint),
                range: SnapshotRange { start: Seqno(range.0), end: Seqno(range.1) },
                kind: if on_disk { CheckpointKind::Disk } else { CheckpointKind::Memory },
            },
            Self::Item(item) => Event::Item(item.restore(bodies)?),
            Self::State(state) => Event::State(state.into()),
            Self::End(id) => Event::End(CheckpointId(id)),
            Self::UpdateStart(barrier) => Event::UpdateStart(CheckpointId(barrier)),
            Self::UpdateComplete(barrier) => Event::UpdateComplete(CheckpointId(barrier)),
            Self::UpdateRevert { barrier, first, last } => {
                Event::UpdateRevert { barrier: CheckpointId(barrier), first: Seqno(first), last: Seqno(last) }
            }
        })
    }
}

impl StoredItem {
    fn new(item: &Item, bodies: &mut BytesMut) -> Self {
        bodies.put_slice(item.key());
        bodies.put_slice(item.value());
        // An item's own limits are far below what 32 bits hold.
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Self {
            deletes: item.op() == Op::Delete,
            key_bytes: len(item.key()),
            value_bytes: len(item.value()),
            flags: item.flags(),
            expiry: item.expiry(),
            seqno: item.seqno().0,
            cas: item.cas(),
            revision: item.revision(),
        }
    }

    fn restore(self, bodies: &mut Bytes) -> Option<Item> {
        let key = take(bodies, self.key_bytes)?;
        let value = take(bodies, self.value_bytes)?;
        let op = if self.deletes { Op::Delete } else { Op::Set };
        let item = Item::new(op, &key, &value).ok()?;
        let item = item.with_flags(self.flags).with_expiry(self.expiry).with_seqno(Seqno(self.seqno));
        Some(item.with_cas(self.cas).with_revision(self.revision))
    }
}

fn take(bodies: &mut Bytes, bytes: u32) -> Option<Bytes> {
    let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= bodies.len())?;
    Some(bodies.split_to(bytes))
}
