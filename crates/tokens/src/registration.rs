use alloc::sync::Arc;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};

use crate::cell::Cell;
use crate::name::{Watch, Watched};
use crate::registry::Membership;
use crate::{Acquire, AcquireError, Class, Epoch, OwnerId, Token, set_waker};

/// A name is registered, and this incarnation has it. Dropping the last registration of an owner is the owner going
/// down: nothing more is granted, and what is out may finish.
pub struct Registration {
    worker: Worker,
    owner: OwnerId,
    _member: Membership,
}

impl Registration {
    pub(crate) fn new(cell: Arc<Cell>, member: Membership, owner: OwnerId, epoch: Epoch) -> Self {
        Self { worker: Worker { cell, epoch }, owner, _member: member }
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.worker.name()
    }

    /// The incarnation.
    pub const fn epoch(&self) -> Epoch {
        self.worker.epoch
    }

    /// The owner.
    pub const fn owner(&self) -> OwnerId {
        self.owner
    }

    /// What those who do the work get: they may take tokens for this incarnation, and nothing else.
    pub fn worker(&self) -> Worker {
        self.worker.clone()
    }

    /// A light token of one slot, when one is free.
    pub fn acquire(&self) -> Acquire {
        self.worker.acquire()
    }

    /// Whether this is the incarnation that has the name.
    pub fn is_current(&self) -> bool {
        self.worker.is_current()
    }

    /// Ends when this is no longer the incarnation that has the name.
    pub fn fenced(&self) -> Watching {
        Watching::new(&self.worker.cell, self.worker.epoch, Watch::Superseded)
    }

    /// Changes how many slots the name has. A smaller number takes nothing back: nothing is granted until enough has
    /// come back, and waiters that ask for more than there will ever be fail.
    pub fn resize(&self, tokens: u32) {
        let epoch = self.epoch();
        self.worker.cell.with(|name, cx| {
            if name.current() == Some(epoch) {
                name.resize(cx, tokens);
            }
        });
    }

    /// Ends the incarnation now, for all registrations of its owner, and returns a future that ends when the last
    /// token is back.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future undoes nothing; the drain goes on.
    pub fn unregister(self) -> Watching {
        let Worker { cell, epoch } = &self.worker;
        cell.with(|name, cx| name.unregister(cx, *epoch));
        Watching::new(cell, *epoch, Watch::Drained)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Worker { cell, epoch } = &self.worker;
        cell.with(|name, cx| name.leave(cx, *epoch));
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Worker { cell, epoch } = &self.worker;
        f.debug_struct("Registration")
            .field("name", &cell.name)
            .field("epoch", epoch)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// May take tokens for one incarnation of one name. Once the incarnation is over it is told so, and nothing else.
#[derive(Clone)]
pub struct Worker {
    cell: Arc<Cell>,
    epoch: Epoch,
}

impl Worker {
    pub(crate) const fn new(cell: Arc<Cell>, epoch: Epoch) -> Self {
        Self { cell, epoch }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.cell.name
    }

    /// The incarnation.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A light token of one slot, when one is free.
    pub fn acquire(&self) -> Acquire {
        self.acquire_as(Class::Light, 1)
    }

    /// A token of `class` that takes `slots` slots, when they are free.
    pub fn acquire_as(&self, class: Class, slots: u32) -> Acquire {
        Acquire::new(Arc::clone(&self.cell), self.epoch, class, slots)
    }

    /// A light token of one slot, if one is free now.
    ///
    /// # Errors
    ///
    /// [`AcquireError::WouldBlock`], and all that waiting has.
    pub fn try_acquire(&self) -> Result<Token, AcquireError> {
        self.try_acquire_as(Class::Light, 1)
    }

    /// A token of `class` that takes `slots` slots, if they are free now.
    ///
    /// # Errors
    ///
    /// [`AcquireError::WouldBlock`], and all that waiting has.
    pub fn try_acquire_as(&self, class: Class, slots: u32) -> Result<Token, AcquireError> {
        Token::take(Arc::clone(&self.cell), self.epoch, class, slots)
    }

    /// Whether the incarnation has the name.
    pub fn is_current(&self) -> bool {
        self.cell.with(|name, _| name.current() == Some(self.epoch))
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cell, epoch } = self;
        f.debug_struct("Worker").field("name", &cell.name).field("epoch", epoch).finish_non_exhaustive()
    }
}

/// Ends when something has become true of an incarnation, and at once if it has already.
///
/// # Cancel safety
///
/// Dropping it forgets the wish to hear of it.
#[must_use = "futures do nothing unless polled"]
pub struct Watching {
    cell: Arc<Cell>,
    epoch: Epoch,
    what: Watch,
    key: Option<Watched>,
}

impl Watching {
    pub(crate) fn new(cell: &Arc<Cell>, epoch: Epoch, what: Watch) -> Self {
        Self { cell: Arc::clone(cell), epoch, what, key: None }
    }
}

impl Future for Watching {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { cell, epoch, what, key } = &mut *self;
        let mut replaced = None;
        cell.with(|name, _| {
            if name.is(*what, *epoch) {
                return Poll::Ready(());
            }
            match key {
                Some(key) => name.rewatch(*key, |waker| replaced = set_waker(waker, cx)),
                None => *key = Some(name.watch(*what, *epoch, cx.waker().clone())),
            }
            Poll::Pending
        })
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.cell.with(|name, _| name.unwatch(key));
        }
    }
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching")
            .field("epoch", &self.epoch)
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}
