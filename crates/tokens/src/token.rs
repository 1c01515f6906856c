use alloc::sync::Arc;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};

use cuttlebone_machine::Instant;

use crate::cell::Cell;
use crate::name::{Acquired, Grant, Waiter, Watch};
use crate::{AcquireError, Class, Epoch, Fence, Seq, Sleep, Watching, set_waker};

/// The right to do one piece of work for one incarnation. Dropping it gives it back.
#[must_use = "the token is given back when this is dropped"]
pub struct Token {
    cell: Arc<Cell>,
    grant: Grant,
    forgotten: bool,
}

impl Token {
    pub(crate) const fn new(cell: Arc<Cell>, grant: Grant) -> Self {
        Self { cell, grant, forgotten: false }
    }

    pub(crate) fn take(
        cell: Arc<Cell>,
        epoch: Epoch,
        class: Class,
        slots: u32,
    ) -> Result<Self, AcquireError> {
        match cell.with(|name, cx| name.acquire(cx, epoch, class, slots, None)) {
            Ok(Acquired::Granted(grant)) => Ok(Self::new(cell, grant)),
            Ok(Acquired::Waiting(_)) => Err(AcquireError::WouldBlock),
            Err(error) => Err(through_a_handle(error)),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.cell.name
    }

    /// The incarnation it was granted to.
    pub const fn epoch(&self) -> Epoch {
        self.grant.epoch()
    }

    /// Its number, greater than that of every token this registry granted since it was opened.
    pub const fn seq(&self) -> Seq {
        self.grant.seq()
    }

    /// What to show the resource.
    pub fn fence(&self) -> Fence {
        Fence::new(&self.cell.name, self.epoch(), self.grant.seq())
    }

    /// Whether its incarnation still has the name. If not, the work may finish but should not grow.
    pub fn is_current(&self) -> bool {
        self.cell.with(|name, _| name.current() == Some(self.epoch()))
    }

    /// Ends when the holder is told to stop: its incarnation was preempted or fenced by force. The mere end of the
    /// owner is no reason.
    pub fn fenced(&self) -> Watching {
        Watching::new(&self.cell, self.epoch(), Watch::Fenced)
    }

    /// Gives it back, as dropping it does.
    pub fn release(self) {}

    /// Hands the work to something that cannot give a token back. It stays out until the resource's gate or the drain
    /// policy ends it.
    pub fn forget_until_fenced(mut self) -> Fence {
        self.forgotten = true;
        self.fence()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if !self.forgotten {
            self.cell.with(|name, cx| name.release(cx, self.grant));
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.cell.name)
            .field("epoch", &self.epoch())
            .field("seq", &self.seq())
            .finish_non_exhaustive()
    }
}

/// A token being waited for; ends with the token, first come, first served.
///
/// # Cancel safety
///
/// Dropping it gives up the place in line. A token that was granted meanwhile goes to the next.
#[must_use = "futures do nothing unless polled"]
pub struct Acquire {
    /// `None` once it has ended.
    cell: Option<Arc<Cell>>,
    epoch: Epoch,
    class: Class,
    slots: u32,
    waiter: Option<Waiter>,
    deadline: Option<(Instant, Option<Sleep>)>,
}

impl Acquire {
    pub(crate) const fn new(cell: Arc<Cell>, epoch: Epoch, class: Class, slots: u32) -> Self {
        Self { cell: Some(cell), epoch, class, slots, waiter: None, deadline: None }
    }

    /// Gives up at `deadline` with [`AcquireError::TimedOut`].
    pub fn by(mut self, deadline: Instant) -> Self {
        self.deadline = Some((deadline, None));
        self
    }

    fn poll_grant(&mut self, cell: &Arc<Cell>, cx: &mut Context<'_>) -> Poll<Result<Grant, AcquireError>> {
        if let Some(waiter) = &self.waiter {
            let mut replaced = None;
            let outcome =
                cell.with(|name, _| name.poll_acquire(waiter, |waker| replaced = set_waker(waker, cx)));
            drop(replaced);
            let Some(outcome) = outcome else { return Poll::Pending };
            self.waiter = None;
            return Poll::Ready(outcome);
        }
        let (epoch, class, slots) = (self.epoch, self.class, self.slots);
        let asked = cell.with(|name, context| match name.acquire(context, epoch, class, slots, None) {
            // A waker costs two atomic operations, so only those who wait have one.
            Err(AcquireError::WouldBlock) => {
                name.acquire(context, epoch, class, slots, Some(cx.waker().clone()))
            }
            decided => decided,
        });
        match asked? {
            Acquired::Granted(grant) => Poll::Ready(Ok(grant)),
            Acquired::Waiting(waiter) => {
                self.waiter = Some(waiter);
                Poll::Pending
            }
        }
    }

    fn poll_deadline(&mut self, cell: &Cell, cx: &mut Context<'_>) -> bool {
        let Some((deadline, sleep)) = &mut self.deadline else { return false };
        sleep.get_or_insert_with(|| cell.shared.clock.until(*deadline)).as_mut().poll(cx).is_ready()
    }
}

impl Future for Acquire {
    type Output = Result<Token, AcquireError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(cell) = this.cell.take() else { return Poll::Ready(Err(AcquireError::Closed)) };
        let outcome = match this.poll_grant(&cell, cx) {
            Poll::Ready(Ok(grant)) => Ok(Token::new(cell, grant)),
            Poll::Ready(Err(error)) => Err(through_a_handle(error)),
            Poll::Pending => {
                let late = this.poll_deadline(&cell, cx);
                if late {
                    this.give_up(&cell);
                    return Poll::Ready(Err(AcquireError::TimedOut));
                }
                this.cell = Some(cell);
                return Poll::Pending;
            }
        };
        Poll::Ready(outcome)
    }
}

impl Acquire {
    fn give_up(&mut self, cell: &Arc<Cell>) {
        if let Some(waiter) = self.waiter.take() {
            cell.with(|name, cx| name.cancel_acquire(cx, &waiter));
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            self.give_up(&cell);
        }
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, class, slots, .. } = self;
        f.debug_struct("Acquire")
            .field("epoch", epoch)
            .field("class", class)
            .field("slots", slots)
            .finish_non_exhaustive()
    }
}

/// Whoever has a handle was registered once, so a name that is gone means that the incarnation is over.
fn through_a_handle(error: AcquireError) -> AcquireError {
    if error == AcquireError::NotRegistered { AcquireError::Fenced } else { error }
}
