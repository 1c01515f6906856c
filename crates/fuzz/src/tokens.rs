use core::cell::Cell;
use core::time::Duration;

use cuttlebone_machine::Instant;
use cuttlebone_tokens::name::{Acquired, Candidate, Cx, Grant, Name, Registering, Source, Waiter};
use cuttlebone_tokens::{
    Class, DrainPolicy, Epoch, Fence, Limits, NameState, OwnerId, Rules, Seq, Takeover, parse_epoch_record,
};

/// Every 24 bytes are a fence; text that was understood is written the same, in lower case.
pub(crate) fn fence(data: &[u8]) {
    match Fence::from_bytes(data) {
        Ok(fence) => {
            assert_eq!(fence.to_bytes(), data);
            assert_eq!(fence.to_string().parse(), Ok(fence));
        }
        Err(_) => assert_ne!(data.len(), Fence::BYTES),
    }
    if let Ok(text) = core::str::from_utf8(data)
        && let Ok(fence) = text.parse::<Fence>()
    {
        assert_eq!(fence.to_string(), text.to_ascii_lowercase());
    }
}

/// A record of the epoch file never gives out epoch 0.
pub(crate) fn epochs(data: &[u8]) {
    if let Ok(next) = parse_epoch_record(data) {
        assert_ne!(next, 0);
    }
}

#[derive(Default)]
struct Counting {
    now: Cell<Instant>,
    epoch: Cell<u64>,
    seq: Cell<u64>,
}

impl Source for Counting {
    fn now(&self) -> Instant {
        self.now.get()
    }

    fn epoch(&self) -> Epoch {
        self.epoch.set(self.epoch.get() + 1);
        Epoch(self.epoch.get())
    }

    fn seq(&self) -> Seq {
        self.seq.set(self.seq.get() + 1);
        Seq(self.seq.get())
    }
}

/// One name and the keys its callers hold.
struct World {
    name: Name<()>,
    source: Counting,
    candidates: Vec<Candidate>,
    waiters: Vec<Waiter>,
    grants: Vec<Grant>,
    ended: Vec<Grant>,
    fenced: Vec<Epoch>,
}

/// A list of operations on one name, two bytes each; after each of them everything fits together.
pub(crate) fn name(data: &[u8]) {
    let Some(([policy, quiet], operations)) = data.split_first_chunk() else { return };
    let drain_policy =
        [DrainPolicy::KeepWaiting, DrainPolicy::Fence, DrainPolicy::Fail][usize::from(policy % 3)];
    let rules =
        Rules { drain_policy, drain_max: Duration::from_nanos(40), watchdog_period: Duration::from_nanos(7) };
    let limits = Limits { tokens: 3, grants_max: 6, waiters_max: 5, registrants_max: 4 };
    let mut world = World {
        name: Name::new(limits, rules, Instant::from_nanos(u64::from(quiet % 32))),
        source: Counting::default(),
        candidates: Vec::new(),
        waiters: Vec::new(),
        grants: Vec::new(),
        ended: Vec::new(),
        fenced: Vec::new(),
    };
    world.source.epoch.set(10); // what was given out before the restart
    for operation in operations.chunks_exact(2) {
        world.step(operation[0], operation[1]);
        world.check();
    }
    world.finish();
}

impl World {
    fn step(&mut self, operation: u8, argument: u8) {
        let owner = OwnerId(u64::from(argument % 3));
        let class = Class::ALL[usize::from(argument / 4 % 3)];
        let pick = |len: usize| usize::from(argument) % len.max(1);
        let cx = &mut Cx::new(&self.source, true);
        match operation % 15 {
            0 => {
                let takeover =
                    [Takeover::Deny, Takeover::Wait, Takeover::Preempt][usize::from(argument / 4 % 3)];
                if let Ok(Registering::Waiting(candidate)) = self.name.register(cx, owner, takeover, ()) {
                    self.candidates.push(candidate);
                }
            }
            1 if !self.candidates.is_empty() => {
                let candidate = self.candidates.swap_remove(pick(self.candidates.len()));
                self.name.cancel_register(cx, &candidate);
            }
            2 if !self.candidates.is_empty() => {
                let place = pick(self.candidates.len());
                if self.name.poll_register(&self.candidates[place], |_| ()).is_some() {
                    self.candidates.swap_remove(place);
                }
            }
            3 => self.name.leave(cx, Epoch(u64::from(argument))),
            4 => {
                if let Some(epoch) = self.name.current() {
                    self.name.leave(cx, epoch);
                }
            }
            5 => self.name.owner_down(cx, owner),
            6 | 7 => {
                let epoch = self.name.current().unwrap_or(Epoch(u64::from(argument)));
                match self.name.acquire(
                    cx,
                    epoch,
                    class,
                    u32::from(argument / 64),
                    (operation % 15 == 6).then_some(()),
                ) {
                    Ok(Acquired::Granted(grant)) => self.grants.push(grant),
                    Ok(Acquired::Waiting(waiter)) => self.waiters.push(waiter),
                    Err(_) => {}
                }
            }
            8 if !self.waiters.is_empty() => {
                let place = pick(self.waiters.len());
                if let Some(outcome) = self.name.poll_acquire(&self.waiters[place], |_| ()) {
                    self.waiters.swap_remove(place);
                    self.grants.extend(outcome.ok());
                }
            }
            9 if !self.waiters.is_empty() => {
                let waiter = self.waiters.swap_remove(pick(self.waiters.len()));
                self.name.cancel_acquire(cx, &waiter);
            }
            10 if !self.grants.is_empty() => {
                let grant = self.grants.swap_remove(pick(self.grants.len()));
                self.name.release(cx, grant);
                self.ended.push(grant);
            }
            11 => {
                if let Some(successor) = self.name.view(self.source.now(), 0).successor {
                    self.name.revoke_older(cx, successor);
                }
            }
            12 => {
                self.source.now.set(self.source.now() + Duration::from_nanos(u64::from(argument % 16)));
                self.name.handle_timeout(&mut Cx::new(&self.source, true));
            }
            13 => self.name.resize(cx, u32::from(argument % 6)),
            14 => {
                let (epoch, seq) = (Epoch(u64::from(argument % 8)), Seq(u64::from(argument)));
                self.grants.extend(self.name.reclaim(cx, epoch, seq, class, u32::from(argument % 4)).ok());
                if argument > 250 {
                    self.name.fence(cx);
                    self.fenced.extend(self.name.view(self.source.now(), 0).epoch);
                }
            }
            _ => {}
        }
    }

    fn check(&mut self) {
        let view = self.name.view(self.source.now(), usize::MAX);
        assert_eq!(view.outstanding, view.holders.len());
        assert_eq!(view.slots_held, view.holders.iter().map(|holder| u64::from(holder.slots)).sum::<u64>());
        match view.state {
            NameState::Free => assert_eq!((view.outstanding, view.waiting, view.registrants), (0, 0, 0)),
            NameState::Active => assert!(view.holders.iter().all(|holder| Some(holder.epoch) == view.epoch)),
            NameState::Draining => {
                assert_eq!(view.waiting, 0);
                assert!(view.holders.iter().all(|holder| Some(holder.epoch) <= view.epoch));
                assert!(view.successor.is_none_or(|next| Some(next) > view.epoch));
                assert!(view.successor.is_some() || view.registrants == 0, "somebody waits for nobody");
            }
        }
        for grant in &self.ended {
            assert!(!self.name.release(&mut Cx::new(&self.source, true), *grant));
        }
    }

    /// Everybody goes; nothing is left.
    fn finish(mut self) {
        self.source.now.set(self.source.now() + Duration::from_nanos(64));
        let cx = &mut Cx::new(&self.source, true);
        for candidate in self.candidates {
            self.name.cancel_register(cx, &candidate);
        }
        for waiter in self.waiters {
            self.name.cancel_acquire(cx, &waiter);
        }
        for grant in self.grants {
            self.name.release(cx, grant);
        }
        for owner in 0..3 {
            self.name.owner_down(cx, OwnerId(owner));
        }
        self.name.handle_timeout(cx);
        assert!(self.name.is_idle(), "{:?}", self.name);
    }
}
