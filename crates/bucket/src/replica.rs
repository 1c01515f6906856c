use cuttlebone_checkpoint::{Item, SnapshotRange, UpdateState};

use crate::Error;
use crate::bucket::{Bucket, Now, VbucketId};
use crate::engine::Engine;
use crate::history::{Branch, Position};
use crate::stream::Event;
use crate::table::Entry;
use crate::vbucket::{Vbucket, VbucketState};

impl<E: Engine> Bucket<E> {
    /// Where a replica stands: what it asks its producer's [`stream`](Self::stream) for.
    ///
    /// # Errors
    ///
    /// [`Error::NotMyVbucket`] if there is no such vbucket.
    pub fn position(&self, id: VbucketId) -> Result<Position, Error> {
        self.with(id, |vbucket| {
            let seqno = vbucket.log.last_seqno();
            let branch = vbucket.history.newest().id;
            let SnapshotRange { start, end } = vbucket.snapshot;
            let (start, snapshot_end) = if end > seqno { (start, end) } else { (seqno, seqno) };
            let barrier = match vbucket.log.update_state() {
                UpdateState::On { barrier, .. } => Some(barrier),
                UpdateState::Off | UpdateState::Reverting { .. } => None,
            };
            let (snapshot_start, checkpoint) = (start.min(seqno), vbucket.log.status().open);
            Ok(Position { branch, seqno, snapshot_start, snapshot_end, checkpoint, barrier })
        })
    }

    /// Applies what a producer sent.
    ///
    /// # Errors
    ///
    /// [`Error::Replication`] if it does not fit: start the stream anew. [`Error::Temporary`] if memory is full and
    /// [`Error::NotDrained`] if a revert has to wait for the disk: apply the same event again later.
    pub fn apply(&self, id: VbucketId, now: Now, event: Event) -> Result<(), Error> {
        match event {
            Event::UpdateRevert { barrier, .. } => {
                let undo = self.with(id, |vbucket| {
                    vbucket.must_be_replica()?;
                    let window = vbucket.log.update_state();
                    let known = matches!(window, UpdateState::On { barrier: ours, .. } if ours == barrier);
                    if !known {
                        let error = cuttlebone_checkpoint::Error::UnknownWindow { got: barrier };
                        return Err(Error::Replication(error));
                    }
                    vbucket.begin_revert(now)
                })?;
                self.undo(id, undo, &mut || ())
            }
            Event::Rollback => {
                let (generation, branch) = self.fresh_branch(cuttlebone_checkpoint::Seqno(0));
                self.with(id, |vbucket| {
                    vbucket.must_be_replica()?;
                    vbucket.reset(now, generation, branch, false);
                    Ok(())
                })
            }
            event => self
                .with(id, |vbucket| {
                    vbucket.must_be_replica()?;
                    vbucket.apply(now, event)
                })
                .inspect(|()| self.signal().poke()),
        }
    }
}

impl Vbucket {
    fn must_be_replica(&self) -> Result<(), Error> {
        if self.state == VbucketState::Replica { Ok(()) } else { Err(Error::NotMyVbucket) }
    }

    fn apply(&mut self, now: Now, event: Event) -> Result<(), Error> {
        match event {
            Event::History(history) => {
                self.history = history;
                self.unsaved = true;
            }
            Event::Snapshot { checkpoint, range, kind } => {
                self.log.begin_snapshot(now.at, checkpoint, range, kind)?;
                self.snapshot = range;
            }
            Event::Item(item) => self.receive(now, item)?,
            Event::State(_) => {}
            Event::End(checkpoint) => {
                if self.log.status().open == checkpoint {
                    self.log.end_snapshot(now.at, checkpoint)?;
                }
            }
            Event::UpdateStart(barrier) => {
                self.log.replica_start_update(now.at, barrier)?;
            }
            Event::UpdateComplete(barrier) => {
                self.log.replica_complete_update(barrier)?;
                self.window.clear();
            }
            Event::UpdateRevert { .. } | Event::Rollback => {
                return Err(Error::Misuse("handled with the lock released in between"));
            }
        }
        Ok(())
    }

    /// A producer's mutation wins over anything here, also over a lock.
    fn receive(&mut self, now: Now, item: Item) -> Result<(), Error> {
        self.cas = self.cas.max(item.cas());
        let old = self.table.look(item.key(), Entry::meta);
        self.log.queue_replica(now.at, item)?;
        self.applied(old).map(drop)
    }

    /// A replica becomes something else: its history is its own from here on. What it had of an unfinished snapshot is
    /// not a consistent point, so others have to go back to where that began.
    pub(crate) fn promote(&mut self, branch: u64) {
        let last = self.log.last_seqno();
        let from = if self.snapshot.end > last { self.snapshot.start.previous().min(last) } else { last };
        self.history.begin(Branch { id: branch, from });
    }
}
