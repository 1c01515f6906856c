use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;

use cuttlebone_checkpoint::{
    Batch, CheckpointId, CheckpointKind, CursorId, Droppable, Element, FetchLimit, Item, Marker, Registered,
    Resume, Seqno, SnapshotRange, UpdateState,
};
use futures_core::Stream;

use crate::bucket::{Bucket, VbucketId};
use crate::engine::{Engine, RowAt, Snapshot};
use crate::history::{Decision, History, Position};
use crate::sync::{Arc, Cell};
use crate::vbucket::Vbucket;
use crate::{Error, record};

/// Rows that a backfill reads at a time, and bytes of them, after which it reads no more.
const BACKFILL_SLICE: usize = 256;
const BACKFILL_BYTES: usize = 1024 * 1024;

/// What a producer tells a consumer, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a consumer has to apply every one of them")]
pub enum Event {
    /// What the consumer has is not of this history, or it has nothing: it forgets everything, and goes on from nothing.
    Rollback,
    /// The producer's history; the consumer's from now on.
    History(History),
    /// A checkpoint begins, or goes on: with all of `range` the consumer is consistent.
    Snapshot {
        /// Which one.
        checkpoint: CheckpointId,
        /// Its seqnos.
        range: SnapshotRange,
        /// Where it is from.
        kind: CheckpointKind,
    },
    /// A mutation.
    Item(Item),
    /// The state of the producer's vbucket changed; the number of a [`VbucketState`](crate::VbucketState).
    State(Arc<[u8]>),
    /// The checkpoint ends.
    End(CheckpointId),
    /// Hot reload was started; this checkpoint is the barrier.
    UpdateStart(CheckpointId),
    /// Hot reload with this barrier was completed.
    UpdateComplete(CheckpointId),
    /// Hot reload with this barrier was reverted.
    UpdateRevert {
        /// The barrier.
        barrier: CheckpointId,
        /// The first seqno of the window.
        first: Seqno,
        /// The last one.
        last: Seqno,
    },
}

/// Everything that happens in a vbucket from some point on; never ends by itself.
///
/// Fails with [`Error::StreamOver`] when its place in memory was given up to make room, or the vbucket was cleared or
/// removed: ask for a new stream from where the consumer is.
///
/// # Cancel safety
///
/// An event is lost only if it was returned. What was returned and not applied is sent again by a new stream.
#[derive(Debug)]
pub struct ReplicationStream<E: Engine> {
    vbucket: Arc<Cell>,
    generation: u32,
    cursor: CursorId,
    /// The checkpoint of which the last snapshot was.
    checkpoint: CheckpointId,
    /// The checkpoint that the consumer had open when it came: what it lacks of earlier ones goes under this.
    floor: CheckpointId,
    /// The window of hot reload in which the consumer is when it has applied everything so far. The end of another one is
    /// not sent: what it was about came from the disk.
    window: Option<CheckpointId>,
    ready: VecDeque<Event>,
    backfill: Option<Backfill<E::Snapshot>>,
    sent: Seqno,
    events: u64,
    acknowledged: u64,
    unacknowledged_max: u64,
    waker: Option<Waker>,
}

/// Rows that are no longer in memory, as they were when the stream began.
#[derive(Debug)]
struct Backfill<S> {
    snapshot: S,
    rows: std::vec::IntoIter<(Seqno, RowAt)>,
}

impl<E: Engine> Bucket<E> {
    /// A stream of everything after `position`, for a consumer called `name`. The same name again ends the older one.
    ///
    /// Reads the list of rows under the flusher's lock if the position is no longer in memory.
    ///
    /// # Errors
    ///
    /// [`Error::NotMyVbucket`], [`Error::Engine`], and [`Error::Replication`] for a bad name or too many cursors.
    pub fn stream(
        &self,
        id: VbucketId,
        name: &str,
        position: Position,
    ) -> Result<ReplicationStream<E>, Error> {
        let vbucket = self.one(id)?;
        // No flush in between: list, snapshot and cursor are of one moment.
        let writer = self.writer();
        let mut guard = vbucket.lock();
        let state = &mut *guard;
        let mut ready = VecDeque::new();
        let mut sent = position.seqno;
        let (last, purged) = (state.log.last_seqno(), state.purged);
        let decision = state.history.decide(position, last, purged);
        // One with nothing has nothing to lose, but may have the ids of a former life of the vbucket.
        let rolled_back = decision != Decision::Accept || position.seqno == Seqno(0);
        if rolled_back {
            ready.push_back(Event::Rollback);
            sent = Seqno(0);
        }
        let history_at = ready.len();
        // A window that ended while the consumer was away: its end may be out of memory. What was reverted is not there any
        // more, so the rest can be kept.
        let here = |barrier: &CheckpointId| matches!(state.log.update_state(), UpdateState::On { barrier: at, .. } if at == *barrier);
        let window = position.barrier.filter(|barrier| !rolled_back && here(barrier));
        if let Some(barrier) = position.barrier
            && window.is_none()
            && !rolled_back
        {
            ready.push_back(Event::UpdateComplete(barrier));
        }
        let mut registered = state.log.register(name, Droppable::Yes, Resume::After(sent))?;
        // Memory may still hold a window that was reverted: whoever has a part of it and is cut off must not claim the
        // branch that the revert began. It is told of that branch at the mark.
        let undone_ahead = state.reverted.is_some_and(|(_, _, last)| sent < last) && !registered.backfill;
        let history = if undone_ahead { state.history.known_at(sent) } else { state.history.clone() };
        ready.insert(history_at, Event::History(history));
        let mut backfill = None;
        if registered.backfill {
            let persisted = state.log.status().persisted;
            registered = state.log.register(name, Droppable::Yes, Resume::After(persisted))?;
            let mut rows: Vec<(Seqno, RowAt)> = Vec::new();
            state.table.for_each(|entry| {
                rows.extend(entry.disk.filter(|disk| disk.seqno > sent).map(|disk| (disk.seqno, disk.row())));
            });
            rows.sort_unstable();
            // It ends with the last row: what is above that up to the persisted seqno was reverted, and never comes.
            if let Some((end, _)) = rows.last() {
                let floor = if rolled_back { CheckpointId(0) } else { position.checkpoint };
                ready.push_back(Event::Snapshot {
                    checkpoint: state.backfill_checkpoint(&registered).max(floor),
                    range: SnapshotRange { start: sent.next(), end: *end },
                    kind: CheckpointKind::Memory,
                });
            }
            let snapshot = self.engine().snapshot().inspect_err(|_| {
                // The cursor has no stream that would remove it.
                drop(state.log.unregister(registered.cursor));
            })?;
            backfill = Some(Backfill { snapshot, rows: rows.into_iter() });
        }
        let checkpoint =
            state.log.cursor(registered.cursor).map_or(CheckpointId(0), |cursor| cursor.checkpoint);
        let generation = state.generation;
        drop((guard, writer));
        Ok(ReplicationStream {
            vbucket,
            generation,
            cursor: registered.cursor,
            checkpoint,
            floor: if rolled_back { CheckpointId(0) } else { position.checkpoint },
            window,
            ready,
            backfill,
            sent,
            events: 0,
            acknowledged: 0,
            unacknowledged_max: self.limits().unacknowledged_max,
            waker: None,
        })
    }
}

impl Vbucket {
    /// Under which checkpoint a backfill goes: the one in which the cursor goes on, or the one before if the cursor
    /// stands at the very start of it, which may be the barrier of hot reload and has to be empty then.
    fn backfill_checkpoint(&self, registered: &Registered) -> CheckpointId {
        let checkpoint =
            self.log.cursor(registered.cursor).map_or(CheckpointId(0), |cursor| cursor.checkpoint);
        if registered.at_start { CheckpointId(checkpoint.0.saturating_sub(1)) } else { checkpoint }
    }
}

impl<E: Engine> ReplicationStream<E> {
    /// The consumer has applied this many events, counted from the beginning of the stream. Without it the stream pauses
    /// at its limit.
    pub fn acknowledge(&mut self, events: u64) {
        self.acknowledged = self.acknowledged.max(events.min(self.events));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether what comes next is read from the disk, since it is no longer in memory.
    pub const fn is_backfill(&self) -> bool {
        self.backfill.is_some()
    }

    /// How many events were returned.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Takes the next event if there is one now; `None` if there is not.
    ///
    /// # Errors
    ///
    /// As the stream.
    pub fn try_next(&mut self) -> Result<Option<Event>, Error> {
        match self.poll_event(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => event.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        if self.events - self.acknowledged >= self.unacknowledged_max {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        loop {
            if let Some(event) = self.ready.pop_front() {
                if let Event::Item(item) = &event {
                    self.sent = item.seqno();
                }
                self.events += 1;
                return Poll::Ready(Ok(event));
            }
            if self.backfill.is_some() {
                self.read_rows()?;
                continue;
            }
            let batch = {
                let mut vbucket = self.vbucket.lock();
                if vbucket.generation != self.generation {
                    return Poll::Ready(Err(Error::StreamOver));
                }
                match vbucket.log.poll_fetch(cx, self.cursor, FetchLimit::default()) {
                    Poll::Ready(batch) => batch?,
                    Poll::Pending => return Poll::Pending,
                }
            };
            self.queue(&batch);
        }
    }

    fn read_rows(&mut self) -> Result<(), Error> {
        let Some(backfill) = &mut self.backfill else { return Ok(()) };
        let mut bytes_read = 0;
        for _ in 0..BACKFILL_SLICE {
            if bytes_read >= BACKFILL_BYTES {
                return Ok(());
            }
            let Some((seqno, row)) = backfill.rows.next() else {
                self.backfill = None;
                return Ok(());
            };
            let bytes = backfill.snapshot.row(row)?.ok_or(Error::Corrupt { address: row.address })?;
            bytes_read += bytes.len();
            let item = record::decode(&bytes).ok_or(Error::Corrupt { address: row.address })?.item;
            if item.seqno() != seqno {
                return Err(Error::Corrupt { address: row.address });
            }
            self.ready.push_back(Event::Item(item));
        }
        Ok(())
    }

    /// Turns what was fetched into events. What a backfill has sent already is left out.
    fn queue(&mut self, batch: &Batch) {
        let mut ranges = batch.ranges().iter().copied();
        let kind = batch.kind();
        // A range is announced with its first event.
        let mut range = None;
        if !matches!(batch.iter().next(), Some(Element::Marker(_, Marker::Start(_)))) {
            range = ranges.next();
        }
        for element in batch.iter() {
            if let Element::Marker(_, Marker::Start(id)) = element {
                self.checkpoint = *id;
                range = ranges.next();
            }
            let is_old = self.checkpoint < self.floor;
            let is_due = match element {
                Element::Item(item) => item.seqno() > self.sent,
                Element::Marker(..) => !is_old,
            };
            if is_due && let Some(range) = range.take() {
                let checkpoint = self.checkpoint.max(self.floor);
                self.ready.push_back(Event::Snapshot { checkpoint, range, kind });
            }
            match element {
                Element::Item(item) if is_due => self.ready.push_back(Event::Item(item.clone())),
                Element::Marker(_, Marker::End(id)) if is_due => self.ready.push_back(Event::End(*id)),
                Element::Marker(_, Marker::State(state)) => {
                    self.ready.push_back(Event::State(Arc::clone(state)));
                }
                Element::Marker(_, Marker::UpdateStart(_)) if is_old => {}
                Element::Marker(_, Marker::UpdateStart(id)) => {
                    self.window = Some(*id);
                    self.ready.push_back(Event::UpdateStart(*id));
                }
                Element::Marker(_, Marker::UpdateComplete(id)) if self.window == Some(*id) => {
                    self.window = None;
                    self.ready.push_back(Event::UpdateComplete(*id));
                }
                Element::Marker(_, Marker::UpdateRevert { barrier, first, last }) => {
                    let (barrier, first, last) = (*barrier, *first, *last);
                    if self.window == Some(barrier) {
                        self.window = None;
                        self.ready.push_back(Event::UpdateRevert { barrier, first, last });
                    }
                    // The producer's history has branched there; after an earlier window, it has branched again ahead.
                    let vbucket = self.vbucket.lock();
                    if vbucket.reverted.is_some_and(|(newest, _, _)| newest == barrier) {
                        self.ready.push_back(Event::History(vbucket.history.clone()));
                    }
                }
                Element::Item(_) | Element::Marker(..) => {}
            }
        }
    }
}

impl<E: Engine> Stream for ReplicationStream<E>
where
    E::Snapshot: Unpin,
{
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(cx).map(Some)
    }
}

/// Frees its place in memory.
impl<E: Engine> Drop for ReplicationStream<E> {
    fn drop(&mut self) {
        let freed = self.vbucket.lock().log.unregister(self.cursor);
        drop(freed);
    }
}
