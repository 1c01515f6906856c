//! Hot reload over all active vbuckets of a bucket, at once or not at all.

use core::time::Duration;

use cuttlebone_checkpoint::{CheckpointId, Seqno, UpdateState};

use crate::Error;
use crate::bucket::{Bucket, Now, VbucketId};
use crate::engine::Engine;
use crate::history::Branch;
use crate::persisted::Undone;
use crate::sync::{Arc, Cell, Held};
use crate::table::{Entry, Meta};
use crate::vbucket::{Vbucket, VbucketState};

/// Keys that are restored under one hold of a vbucket's lock.
const REVERT_SLICE: usize = 1024;
/// Flushes before a revert gives up. Each commits at least one checkpoint or fails, so there are fewer, unless flushing is
/// paused and resumed by others all the time.
const DRAINS_MAX: u32 = 1_000_000;

/// The figures of hot reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that only this crate makes")]
pub struct UpdateStats {
    /// Keys that were new in a reverted window: `ep_onlineupdate_revert_add`.
    pub reverted_adds: u64,
    /// Keys that were changed: `ep_onlineupdate_revert_update`.
    pub reverted_updates: u64,
    /// Keys that were deleted: `ep_onlineupdate_revert_delete`.
    pub reverted_deletes: u64,
    /// Reverts that had to be refused because the disk was behind.
    pub revert_failed: u64,
    /// Windows that were completed.
    pub completed: u64,
    /// Windows that were reverted.
    pub reverted: u64,
    /// How long reverts took, one sample for each vbucket: the n-th counts those below 2^n microseconds.
    pub revert_micros: [u64; 32],
}

impl UpdateStats {
    fn sample(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bin = usize::try_from(u64::BITS - micros.leading_zeros()).unwrap_or_default();
        let last = self.revert_micros.len() - 1;
        if let Some(count) = self.revert_micros.get_mut(bin.min(last)) {
            *count += 1;
        }
    }
}

impl<E: Engine> Bucket<E> {
    /// Opens a window on every active and pending vbucket: nothing that comes from now on is persisted until it is
    /// completed. Replicas follow their producers.
    ///
    /// # Errors
    ///
    /// [`Error::UpdateOn`] if one of them has a window; then none was opened.
    pub fn start_update(&self, now: Now) -> Result<(), Error> {
        let _update = self.updating();
        let all = self.all();
        let mut own = own(&all);
        if own.iter().any(|vbucket| vbucket.log.update_state() != UpdateState::Off) {
            return Err(Error::UpdateOn);
        }
        own.iter_mut().try_for_each(|vbucket| vbucket.log.start_update(now.at).map(drop))?;
        Ok(())
    }

    /// Closes the windows and keeps everything.
    ///
    /// # Errors
    ///
    /// [`Error::UpdateOff`] if there is none.
    pub fn complete_update(&self, now: Now) -> Result<(), Error> {
        let _update = self.updating();
        let all = self.all();
        let mut own = own(&all);
        own.retain(|vbucket| vbucket.is_in_window());
        if own.is_empty() {
            return Err(Error::UpdateOff);
        }
        for vbucket in &mut own {
            vbucket.log.complete_update(now.at)?;
            vbucket.window.clear();
        }
        drop(own);
        self.count_update(|stats| stats.completed += 1);
        self.signal().poke();
        Ok(())
    }

    /// Closes the windows and undoes exactly what happened in them: every key is as it was at the start, with its value,
    /// flags, expiry and CAS.
    ///
    /// Flushes first what came before the start. Clients' operations are parked while keys are restored; `between` is
    /// called now and then meanwhile, and returns the time; nothing else can start, complete or revert until this returns.
    ///
    /// # Errors
    ///
    /// [`Error::UpdateOff`] if there is no window. [`Error::NotDrained`], [`Error::Paused`] or [`Error::Engine`] if what
    /// came before could not be flushed: then the windows stay open, and nothing has changed.
    pub fn revert_update(&self, now: Now, mut between: impl FnMut() -> Now) -> Result<(), Error> {
        let all = self.all();
        if !own(&all).iter().any(|vbucket| vbucket.is_in_window()) {
            return Err(Error::UpdateOff);
        }
        let (_update, begun) = loop {
            if let Err(error) = self.drain(&all) {
                self.count_update(|stats| stats.revert_failed += 1);
                return Err(error);
            }
            let update = self.updating();
            // No flush in between: one that is under way would make a vbucket refuse after others have begun.
            let _writer = self.writer();
            let mut own = own(&all);
            own.retain(|vbucket| vbucket.is_in_window());
            if own.is_empty() {
                return Err(Error::UpdateOff);
            }
            if own.iter().all(|vbucket| vbucket.log.is_drained()) {
                let begin = |vbucket: &mut Held<'_>| Ok((vbucket.id, vbucket.begin_revert(now)?));
                break (update, own.iter_mut().map(begin).collect::<Result<Vec<_>, Error>>()?);
            }
        };
        for (id, undo) in begun {
            let start = between().at;
            self.undo(id, undo, &mut || {
                between();
            })?;
            let took = between().at - start;
            self.count_update(|stats| stats.sample(took));
        }
        self.count_update(|stats| stats.reverted += 1);
        Ok(())
    }

    /// Reverts one vbucket that leaves.
    pub(crate) fn revert_one(&self, id: VbucketId, now: Now) -> Result<(), Error> {
        let one = [self.one(id)?];
        let (_update, undo) = loop {
            self.drain(&one)?;
            let update = self.updating();
            let _writer = self.writer();
            match self.with(id, |vbucket| vbucket.begin_revert(now)) {
                // A flush came in between, and failed.
                Err(Error::NotDrained) => {}
                begun => break (update, begun?),
            }
        };
        self.undo(id, undo, &mut || ())
    }

    /// Flushes until everything from before the barriers is persisted.
    fn drain(&self, all: &[Arc<Cell>]) -> Result<(), Error> {
        for _ in 0..DRAINS_MAX {
            if all.iter().all(|vbucket| vbucket.lock().log.is_drained()) {
                return Ok(());
            }
            self.flush()?;
        }
        Err(Error::NotDrained)
    }

    /// Restores the keys, a slice at a time, and opens the gate.
    pub(crate) fn undo(&self, id: VbucketId, undo: Undo, between: &mut dyn FnMut()) -> Result<(), Error> {
        let mut keys = undo.keys.into_iter();
        loop {
            let slice: Vec<_> = keys.by_ref().take(REVERT_SLICE).collect();
            if slice.is_empty() {
                break;
            }
            self.with(id, |vbucket| {
                self.count_update(|stats| {
                    for (key, before) in slice {
                        vbucket.restore(&key, before, stats);
                    }
                });
                Ok(())
            })?;
            between();
        }
        let branch = Branch { id: self.chance().max(1), from: undo.first.previous() };
        let freed = self.with(id, |vbucket| {
            let freed = vbucket.log.finish_revert()?;
            vbucket.reverted = Some((undo.barrier, undo.first, undo.last));
            if vbucket.state != VbucketState::Replica {
                // Whoever has something of the window is on another branch now.
                vbucket.history.begin(branch);
            }
            vbucket.unsaved = true;
            vbucket.unpark();
            Ok(freed)
        })?;
        drop(freed);
        self.signal().poke();
        Ok(())
    }
}

/// The vbuckets that this node decides about, locked, by number.
fn own(all: &[Arc<Cell>]) -> Vec<Held<'_>> {
    let mut own: Vec<_> = all.iter().map(|vbucket| vbucket.lock()).collect();
    own.retain(|vbucket| matches!(vbucket.state, VbucketState::Active | VbucketState::Pending));
    own
}

/// What is to be restored.
#[derive(Debug)]
pub(crate) struct Undo {
    barrier: CheckpointId,
    first: Seqno,
    last: Seqno,
    keys: Vec<(Box<[u8]>, Option<Meta>)>,
}

impl Vbucket {
    pub(crate) fn begin_revert(&mut self, now: Now) -> Result<Undo, Error> {
        let window = match self.state {
            VbucketState::Replica => match self.log.update_state() {
                UpdateState::On { barrier, .. } => self.log.replica_begin_revert(barrier)?,
                _ => return Err(Error::UpdateOff),
            },
            _ => self.log.begin_revert(now.at)?,
        };
        let keys = self.window.drain().collect();
        let open = self.log.status().open;
        let last = match self.state {
            // A replica goes on in the checkpoint of the mark until its producer says otherwise.
            VbucketState::Replica => open,
            _ => CheckpointId(open.0.saturating_sub(1)),
        };
        let seqnos = (window.first(), window.last());
        self.waiters.undo(Undone { seqnos, checkpoints: (window.barrier(), last) });
        self.tell_persisted();
        Ok(Undo { barrier: window.barrier(), first: window.first(), last: window.last(), keys })
    }

    /// Makes a key what it was before the window. Locks do not count, nor do memory limits, nor time.
    fn restore(&mut self, key: &[u8], before: Option<Meta>, stats: &mut UpdateStats) {
        let now = self.table.look(key, Entry::meta);
        if now == before {
            // It was held only.
            self.table.update(key, |entry| entry.hold = None);
            return;
        }
        let deleted = now.is_none_or(|meta| !meta.live);
        match before.filter(|meta| meta.live) {
            None => stats.reverted_adds += 1,
            Some(_) if deleted => stats.reverted_deletes += 1,
            Some(_) => stats.reverted_updates += 1,
        }
        match before {
            None => drop(self.table.remove(key)),
            // The value is on the disk: a revert waits until it is.
            Some(meta) => {
                self.table.update(key, |entry| {
                    debug_assert_eq!(entry.disk.map(|disk| disk.seqno), Some(meta.seqno), "the disk has it");
                    entry.restore(meta);
                    entry.hold = None;
                });
            }
        }
    }
}
