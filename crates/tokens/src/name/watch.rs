use super::{Cx, EventKind, Name, Phase};
use crate::Epoch;

/// What somebody waits to hear about an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the three ends an incarnation has")]
pub enum Watch {
    /// It is no longer the current one.
    Superseded,
    /// Its holders were told to stop.
    Fenced,
    /// It is no longer the current one, and none of its tokens is out.
    Drained,
}

/// A place among the watchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched(u32);

#[derive(Clone, Debug)]
pub(super) struct Watcher<W> {
    epoch: Epoch,
    what: Watch,
    waker: Option<W>,
}

impl<W> Name<W> {
    /// Whether `what` has come true for `epoch`; once it has, it stays so.
    pub fn is(&self, what: Watch, epoch: Epoch) -> bool {
        self.closed
            || match what {
                Watch::Superseded => self.current() != Some(epoch),
                Watch::Fenced => self.fenced >= epoch,
                Watch::Drained => match self.phase {
                    Phase::Free => true,
                    Phase::Active { epoch: current, .. } => current != epoch,
                    Phase::Draining(_) => false,
                },
            }
    }

    /// Wakes `waker` when `what` comes true; it has not yet.
    ///
    /// There are as many watchers as futures their callers keep, so the limit is theirs.
    pub fn watch(&mut self, what: Watch, epoch: Epoch, waker: W) -> Watched {
        Watched(self.watchers.insert(Watcher { epoch, what, waker: Some(waker) }))
    }

    /// Changes whom to wake.
    pub fn rewatch(&mut self, Watched(key): Watched, update: impl FnOnce(&mut Option<W>)) {
        if let Some(watcher) = self.watchers.get_mut(key) {
            update(&mut watcher.waker);
        }
    }

    /// Watches no longer.
    pub fn unwatch(&mut self, Watched(key): Watched) {
        self.watchers.remove(key);
    }

    /// Tells the holders of `epoch` and older to stop.
    pub(super) fn raise_fence(&mut self, cx: &mut Cx<'_, W>, epoch: Epoch) {
        if epoch > self.fenced {
            self.fenced = epoch;
            cx.tell(|| EventKind::Fenced { epoch });
        }
    }

    /// After every change of phase or fence.
    pub(super) fn wake_watchers(&mut self, cx: &mut Cx<'_, W>) {
        if self.watchers.is_empty() {
            return;
        }
        let mut watchers = core::mem::take(&mut self.watchers);
        for (_, watcher) in watchers.iter_mut() {
            if self.is(watcher.what, watcher.epoch) {
                cx.wake.add(watcher.waker.take());
            }
        }
        self.watchers = watchers;
    }
}
