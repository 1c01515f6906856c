use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};

use cuttlebone_machine::Instant;

use crate::cell::Cell;
use crate::epochs::Promise;
use crate::gate::Advance;
use crate::name::{Candidate, Name, Registering};
use crate::registry::{Membership, Shared, check_name};
use crate::{
    Epoch, EpochStoreError, FenceGate, OwnerId, RegisterError, Registration, Sleep, Takeover, set_waker,
};

type Promising = Pin<Box<dyn Future<Output = Result<Promise, EpochStoreError>> + Send>>;

/// A registration being made; see [`Registry::register`](crate::Registry::register).
///
/// It ends once the registration may be granted tokens: when every token of an older incarnation has ended.
///
/// # Cancel safety
///
/// Dropping it at any point leaves nothing but, at most, an epoch that nobody will have. A preemption that has begun
/// is not undone: the fenced owner stays fenced.
#[must_use = "futures do nothing unless polled"]
pub struct Register {
    shared: Arc<Shared>,
    name: String,
    owner: OwnerId,
    takeover: Takeover,
    tokens: Option<u32>,
    gate: Option<FenceGate>,
    deadline: Option<(Instant, Sleep)>,
    step: Step,
}

enum Step {
    Start,
    Promised(Promising),
    Waiting(Waiting),
    Done,
}

/// In line or next. Dropping it leaves the line.
struct Waiting {
    cell: Arc<Cell>,
    candidate: Option<Candidate>,
    member: Option<Membership>,
    _promise: Promise,
    alarm: Option<(Instant, Sleep)>,
    advance: Option<Advance>,
}

impl Register {
    pub(crate) fn new(shared: &Arc<Shared>, name: &str, owner: OwnerId, takeover: Takeover) -> Self {
        Self {
            shared: Arc::clone(shared),
            name: name.to_string(),
            owner,
            takeover,
            tokens: None,
            gate: None,
            deadline: None,
            step: Step::Start,
        }
    }

    /// The name gets `tokens` slots once it is registered.
    pub fn with_tokens(mut self, tokens: u32) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Closes `gate` to older incarnations as soon as this one is next, and once the operations it had admitted have
    /// ended, ends the tokens of older incarnations: what they could still do is refused. So a holder that is stuck
    /// away from the resource delays nobody.
    pub fn through(mut self, gate: FenceGate) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Gives up at `deadline` with [`RegisterError::TimedOut`].
    pub fn by(mut self, deadline: Instant) -> Self {
        self.deadline = Some((deadline, self.shared.clock.until(deadline)));
        self
    }

    /// The epoch it will have, once all that is left is to wait for older tokens to end.
    pub fn draining_for(&self) -> Option<Epoch> {
        let Step::Waiting(waiting) = &self.step else { return None };
        let candidate = waiting.candidate.as_ref()?;
        waiting.cell.with(|name, _| name.epoch_of(candidate))
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Registration, RegisterError>> {
        loop {
            match &mut self.step {
                Step::Start => {
                    check_name(&self.name)?;
                    self.step = Step::Promised(Box::pin(Arc::clone(&self.shared.epochs).promise()));
                }
                Step::Promised(promise) => {
                    let promise =
                        core::task::ready!(promise.as_mut().poll(cx)).map_err(RegisterError::Epochs)?;
                    if let Some(registration) = self.stand_in_line(cx, promise)? {
                        return Poll::Ready(Ok(registration));
                    }
                }
                Step::Waiting(waiting) => {
                    let epoch = core::task::ready!(waiting.poll(self.gate.as_ref(), cx))?;
                    let Some(member) = waiting.member.take() else {
                        return Poll::Ready(Err(RegisterError::Closed));
                    };
                    let cell = Arc::clone(&waiting.cell);
                    return Poll::Ready(Ok(self.finish(cell, member, epoch)));
                }
                Step::Done => return Poll::Ready(Err(RegisterError::Closed)),
            }
        }
    }

    fn stand_in_line(
        &mut self,
        cx: &Context<'_>,
        promise: Promise,
    ) -> Result<Option<Registration>, RegisterError> {
        loop {
            let cell = self.shared.find_or_insert(&self.name)?;
            // Before the name is asked, so that the owner's death cannot slip in between.
            let member = Membership::new(&self.shared, self.owner, &cell.name);
            let (owner, takeover, waker) = (self.owner, self.takeover, cx.waker().clone());
            match cell.enter(|name, cx| name.register(cx, owner, takeover, waker)) {
                None => {} // forgotten between the two locks: look it up again
                Some(Err(error)) => return Err(error),
                Some(Ok(Registering::Active(epoch))) => return Ok(Some(self.finish(cell, member, epoch))),
                Some(Ok(Registering::Waiting(candidate))) => {
                    self.step = Step::Waiting(Waiting {
                        cell,
                        candidate: Some(candidate),
                        member: Some(member),
                        _promise: promise,
                        alarm: None,
                        advance: None,
                    });
                    return Ok(None);
                }
            }
        }
    }

    fn finish(&mut self, cell: Arc<Cell>, member: Membership, epoch: Epoch) -> Registration {
        self.step = Step::Done;
        let registration = Registration::new(cell, member, self.owner, epoch);
        if let Some(tokens) = self.tokens {
            registration.resize(tokens);
        }
        registration
    }
}

impl Waiting {
    fn poll(&mut self, gate: Option<&FenceGate>, cx: &mut Context<'_>) -> Poll<Result<Epoch, RegisterError>> {
        loop {
            let Some(candidate) = &self.candidate else { return Poll::Ready(Err(RegisterError::Closed)) };
            let mut replaced = None;
            let (outcome, next, due) = self.cell.with(|name, _| {
                let outcome = name.poll_register(candidate, |waker| replaced = set_waker(waker, cx));
                (outcome, name.epoch_of(candidate), name.poll_timeout())
            });
            drop(replaced);
            if let Some(outcome) = outcome {
                self.candidate = None;
                return Poll::Ready(outcome);
            }
            let advanced = self.poll_gate(gate, next, cx);
            let told = next.is_some() && self.poll_alarm(due, cx);
            if !advanced && !told {
                return Poll::Pending;
            }
        }
    }

    /// `true` if older tokens were ended because the gate refuses them now.
    fn poll_gate(&mut self, gate: Option<&FenceGate>, next: Option<Epoch>, cx: &mut Context<'_>) -> bool {
        let (Some(gate), Some(epoch)) = (gate, next) else { return false };
        let advance = self.advance.get_or_insert_with(|| gate.advance(epoch));
        Pin::new(advance).poll(cx).is_ready() && self.cell.with(|name, cx| name.revoke_older(cx, epoch)) > 0
    }

    /// `true` if the name was told the time: also without a watchdog a drain must not outlast its patience.
    fn poll_alarm(&mut self, due: Option<Instant>, cx: &mut Context<'_>) -> bool {
        let Some(due) = due else { return false };
        if self.alarm.as_ref().is_none_or(|(at, _)| *at != due) {
            self.alarm = Some((due, self.cell.shared.clock.until(due)));
        }
        let rang = self.alarm.as_mut().is_some_and(|(_, sleep)| sleep.as_mut().poll(cx).is_ready());
        if rang {
            self.alarm = None;
            self.cell.with(Name::handle_timeout);
        }
        rang
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(candidate) = self.candidate.take() {
            self.cell.with(|name, cx| name.cancel_register(cx, &candidate));
        }
    }
}

impl Future for Register {
    type Output = Result<Registration, RegisterError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let outcome = match this.poll_step(cx) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                let Some((_, deadline)) = &mut this.deadline else { return Poll::Pending };
                core::task::ready!(deadline.as_mut().poll(cx));
                Err(RegisterError::TimedOut)
            }
        };
        this.step = Step::Done;
        Poll::Ready(outcome)
    }
}

impl fmt::Debug for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Start => "start",
            Step::Promised(_) => "epoch promised",
            Step::Waiting(_) => "waiting",
            Step::Done => "done",
        };
        f.debug_struct("Register").field("name", &self.name).field("step", &step).finish_non_exhaustive()
    }
}
