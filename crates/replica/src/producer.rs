use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::{BTreeMap, VecDeque};

use cuttlebone_bucket::engine::Engine;
use cuttlebone_bucket::{Bucket, Position, ReplicationStream, VbucketId, VbucketState};
use cuttlebone_wire::Message;
use futures_core::Stream;

use crate::record::body_bytes;
use crate::{Error, Frame, Limits};

/// What one connected replica is served with.
///
/// Greets, then streams what is asked for, one vbucket after another in turn, each within its window. Dropping it ends
/// the streams; the replica goes on from where it is with the next one.
///
/// [`handle`](Self::handle) and [`poll_message`](Self::poll_message) may wait for the disk when a replica needs what is
/// no longer in memory, so they belong on a thread that may wait.
pub struct Producer<E: Engine> {
    bucket: Bucket<E>,
    /// What the streams' cursors are called: the same replica again ends its older streams.
    cursor: String,
    limits: Limits,
    streams: BTreeMap<VbucketId, Sending<E>>,
    /// Frames to send before anything from the streams. At most one for each vbucket, and the greeting.
    outbox: VecDeque<Frame>,
    /// The vbucket that was served last; the next one goes first.
    last: VbucketId,
}

struct Sending<E: Engine> {
    stream: u64,
    events: ReplicationStream<E>,
    /// Whether the replica was told that it has everything there was.
    told_current: bool,
    /// Bytes that are on their way, and up to which event each message went.
    bytes: usize,
    messages: VecDeque<(u64, usize)>,
}

impl<E: Engine> fmt::Debug for Producer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let windows: Vec<_> = self.streams.iter().map(|(id, sending)| (id, sending.bytes)).collect();
        f.debug_struct("Producer")
            .field("cursor", &self.cursor)
            .field("windows", &windows)
            .finish_non_exhaustive()
    }
}

impl<E: Engine> Producer<E>
where
    E::Snapshot: Unpin,
{
    /// Serves the replica called `replica` from `bucket`.
    pub fn new(bucket: Bucket<E>, replica: &str, limits: Limits) -> Self {
        let serves = |id: &VbucketId| {
            bucket
                .status(*id)
                .is_ok_and(|status| matches!(status.state, VbucketState::Active | VbucketState::Replica))
        };
        let vbuckets = bucket.vbuckets().into_iter().filter(serves).collect();
        let outbox = VecDeque::from([Frame::Hello { vbuckets }]);
        let cursor = format!("replica:{replica}");
        Self { bucket, cursor, limits, streams: BTreeMap::new(), outbox, last: 0 }
    }

    /// Takes in what the replica says. Poll for messages afterwards.
    ///
    /// # Errors
    ///
    /// The peer's fault: end the link.
    pub fn handle(&mut self, message: &Message) -> Result<(), Error> {
        match Frame::from_message(message)? {
            Frame::Follow { vbucket, stream, position } => self.begin(vbucket, stream, position),
            Frame::Applied { vbucket, stream, events } => {
                if let Some(sending) = self.streams.get_mut(&vbucket).filter(|known| known.stream == stream) {
                    sending.applied(events);
                }
            }
            other @ (Frame::Hello { .. }
            | Frame::Events { .. }
            | Frame::Current { .. }
            | Frame::Over { .. }) => {
                return Err(Error::Unexpected { got: other.name() });
            }
        }
        Ok(())
    }

    /// The next message for the replica; wakes when there is one.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Message> {
        if let Some(frame) = self.outbox.pop_front() {
            return Poll::Ready(frame.to_message());
        }
        let after = self.streams.range(self.last.saturating_add(1)..).map(|(id, _)| *id);
        let turns: Vec<_> = after.chain(self.streams.range(..=self.last).map(|(id, _)| *id)).collect();
        for vbucket in turns {
            let Some(sending) = self.streams.get_mut(&vbucket) else { continue };
            let stream = sending.stream;
            let frame = match sending.poll_events(cx, &self.limits) {
                Poll::Pending if sending.is_current() => Frame::Current { vbucket, stream },
                Poll::Pending => continue,
                Poll::Ready(Ok(events)) => Frame::Events { vbucket, stream, events },
                Poll::Ready(Err(error)) => {
                    self.streams.remove(&vbucket);
                    over(vbucket, stream, &error)
                }
            };
            self.last = vbucket;
            return Poll::Ready(frame.to_message());
        }
        Poll::Pending
    }

    /// Whether something that comes next is read from the disk, since it is no longer in memory.
    pub fn is_backfill(&self) -> bool {
        self.streams.values().any(|sending| sending.events.is_backfill())
    }

    /// Vbuckets with a stream, and how many bytes of each are sent and not yet applied.
    pub fn windows(&self) -> impl Iterator<Item = (VbucketId, usize)> {
        self.streams.iter().map(|(vbucket, sending)| (*vbucket, sending.bytes))
    }

    fn begin(&mut self, vbucket: VbucketId, stream: u64, position: Position) {
        // The place of the old one first, since the new one may need it.
        self.streams.remove(&vbucket);
        self.outbox.retain(|frame| !matches!(frame, Frame::Over { vbucket: other, .. } if *other == vbucket));
        match self.bucket.stream(vbucket, &self.cursor, position) {
            Ok(events) => {
                let sending =
                    Sending { stream, events, told_current: false, bytes: 0, messages: VecDeque::new() };
                self.streams.insert(vbucket, sending);
            }
            Err(error) => self.outbox.push_back(over(vbucket, stream, &error)),
        }
    }
}

fn over(vbucket: VbucketId, stream: u64, error: &cuttlebone_bucket::Error) -> Frame {
    Frame::Over { vbucket, stream, why: error.to_string() }
}

impl<E: Engine> Sending<E>
where
    E::Snapshot: Unpin,
{
    /// As many events as there are now and fit into a message; at least one. After an error nothing of the message
    /// counts: the stream is over, and the replica asks for what it lacks.
    fn poll_events(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
    ) -> Poll<Result<Vec<cuttlebone_bucket::Event>, cuttlebone_bucket::Error>> {
        if self.bytes >= limits.window_bytes {
            return Poll::Pending;
        }
        let (mut events, mut bytes) = (Vec::new(), 0);
        while events.len() < limits.events_max && bytes < limits.message_bytes {
            match Pin::new(&mut self.events).poll_next(cx) {
                Poll::Ready(Some(Ok(event))) => {
                    bytes += body_bytes(&event);
                    events.push(event);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if events.is_empty() {
            return Poll::Pending;
        }
        self.bytes += bytes;
        self.messages.push_back((self.events.events(), bytes));
        Poll::Ready(Ok(events))
    }

    /// Whether the replica has everything there was, and was not told so yet.
    fn is_current(&mut self) -> bool {
        self.messages.is_empty() && !core::mem::replace(&mut self.told_current, true)
    }

    fn applied(&mut self, events: u64) {
        self.events.acknowledge(events);
        while let Some((through, bytes)) = self.messages.front().copied()
            && through <= events
        {
            self.bytes -= bytes;
            self.messages.pop_front();
        }
    }
}
