//! Monitors of the first dialect: each is a leader and a provider, and some are requesters.

use core::cell::RefCell;
use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use cuttlebone_machine::{Entropy, Instant, Machine, SplitMix};
use cuttlebone_monsync::v1::{
    Leader, LeaderConfig, LeaderInput, LeaderOutput, Message, Op, Provider, ProviderConfig, ProviderInput,
    ProviderOutput, Requester, RequesterConfig, RequesterInput, RequesterOutput, Role, Standing, Trim,
};
use cuttlebone_monsync::{Ask, Budget, Effect, Error, OpId};
use cuttlebone_sim::{Context, Disk, Event, Node, NodeId, Store};
use cuttlebone_wire::{EntityAddr, EntityInst, EntityNum, EntityType, Features};

use crate::model::{Source, Status, Target};

/// What the quorum agrees on by means that are not simulated.
pub(crate) struct Shared {
    truth: Source,
    quorum: usize,
    leader: usize,
    /// Whether the leader has trimmed, which the others then do too.
    trimmed: bool,
    /// Whether anything is still being committed or elected.
    busy: bool,
}

impl Shared {
    pub(crate) fn new(truth: Source, quorum: usize) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { truth, quorum, leader: 0, trimmed: false, busy: false }))
    }
}

/// How many versions are left by trimming.
const KEEP: u64 = 12;

pub(crate) fn inst(id: usize) -> EntityInst {
    let num = i64::try_from(id).unwrap();
    let addr: EntityAddr = format!("v1:10.0.0.{}:6789/0", id + 1).parse().unwrap();
    EntityInst { name: EntityNum::new(EntityType::MON, num), addr }
}

fn node(inst: &EntityInst) -> NodeId {
    NodeId(usize::try_from(inst.name.num).unwrap())
}

pub(crate) struct Mon {
    id: usize,
    shared: Rc<RefCell<Shared>>,
    chance: SplitMix,
    leader: Leader<SplitMix>,
    provider: Provider,
    source: Source,
    asks: VecDeque<Ask>,
    trim: Trim,
    commits: u32,
    elections: u32,
    pull: Option<Pull>,
}

/// What only requesters have.
struct Pull {
    machine: Option<Requester<SplitMix>>,
    disk: Disk<Target>,
    written: Option<OpId>,
    provider: Option<EntityInst>,
    copies: u32,
    last_error: Option<Error>,
}

/// Wakes the store for its next answer, the disk, the next copy, the next moment in the life of the quorum.
const STORE: u64 = 0;
const SYNC: u64 = 1;
const PULL: u64 = 2;
const TICK: u64 = 3;

impl Store for Target {
    type Write = Effect;

    fn apply(&mut self, write: &Effect) {
        Target::apply(self, write);
    }
}

fn provider() -> Provider {
    Provider::new(ProviderConfig { budget: Budget { bytes: 400, keys: 5 }, ..ProviderConfig::default() })
}

fn leader(id: usize, chance: &mut SplitMix) -> Leader<SplitMix> {
    Leader::new(LeaderConfig::default(), inst(id), chance.fork())
}

impl Mon {
    pub(crate) fn member(id: usize, shared: &Rc<RefCell<Shared>>, seed: u64) -> Self {
        let mut chance = SplitMix::new(seed);
        Self {
            id,
            shared: Rc::clone(shared),
            leader: leader(id, &mut chance),
            chance,
            provider: provider(),
            source: shared.borrow().truth.clone(),
            asks: VecDeque::new(),
            trim: Trim::Now,
            commits: 0,
            elections: 0,
            pull: None,
        }
    }

    pub(crate) fn requester(id: usize, shared: &Rc<RefCell<Shared>>, seed: u64, copies: u32) -> Self {
        let pull = Pull {
            machine: None,
            disk: Disk::default(),
            written: None,
            provider: None,
            copies,
            last_error: None,
        };
        Self { pull: Some(pull), ..Self::member(id, shared, seed) }
    }

    /// Lets the quorum commit and elect, driven by this node.
    pub(crate) fn conduct(&mut self, commits: u32, elections: u32) {
        (self.commits, self.elections) = (commits, elections);
        self.shared.borrow_mut().busy = commits > 0 || elections > 0;
    }

    /// Another one leads from now on; everybody learns it at the next tick.
    pub(crate) fn elect(&mut self, leader: usize) {
        self.shared.borrow_mut().leader = leader;
    }

    pub(crate) fn done(&self) -> bool {
        self.pull.as_ref().is_some_and(|pull| pull.copies == 0)
    }

    pub(crate) fn last_error(&self) -> Option<&Error> {
        self.pull.as_ref()?.last_error.as_ref()
    }

    fn standing(&self) -> Standing {
        let shared = self.shared.borrow();
        if shared.leader == self.id {
            Standing::Leader { quorum: (0..shared.quorum).map(inst).collect() }
        } else {
            Standing::Peon { leader: inst(shared.leader) }
        }
    }

    /// The life of a member of the quorum: it follows the others, elects, and trims if it leads and may.
    fn tick(&mut self, cx: &mut Context<'_, cuttlebone_wire::Message>) {
        {
            let shared = &mut *self.shared.borrow_mut();
            if self.commits > 0 {
                self.commits -= 1;
                shared.busy = self.commits > 0;
                if cx.chance().below(5) == 0 {
                    self.source.propose(cx.chance());
                }
                shared.truth.commit(cx.chance());
            }
            if self.elections > 0 && cx.chance().below(10) == 0 {
                self.elections -= 1;
                shared.leader = usize::try_from(cx.chance().below(shared.quorum as u64)).unwrap();
            }
            // A peon may lag behind.
            if cx.chance().below(3) > 0 {
                for _ in 0..3 {
                    self.source.follow(&shared.truth);
                }
            }
            if shared.leader == self.id {
                shared.trimmed = self.trim == Trim::Now;
            }
            if shared.trimmed && cx.chance().below(4) == 0 {
                self.source.trim(KEEP);
            }
        }
        let standing = self.standing();
        self.leader.handle(cx.now(), LeaderInput::Standing(standing));
        let busy = self.shared.borrow().busy;
        let after = Duration::from_millis(if busy { 10 + cx.chance().below(60) } else { 5000 });
        cx.wake_after(after, TICK);
    }

    fn begin(&mut self, cx: &mut Context<'_, cuttlebone_wire::Message>) {
        let Some(pull) = &mut self.pull else { return };
        let quorum = self.shared.borrow().quorum;
        // Now and then it asks the other requester, which has to pass it on.
        let mut entry = usize::try_from(self.chance.below(quorum as u64 + 1)).unwrap();
        if entry == quorum {
            entry = if self.id == quorum { self.id + 1 } else { quorum };
        }
        let others = (0..quorum).map(inst).collect();
        let chance = self.chance.fork();
        let config = RequesterConfig::default();
        pull.machine = Some(Requester::new(cx.now(), config, inst(entry), others, chance));
        self.leader.handle(cx.now(), LeaderInput::Standing(Standing::Synchronizing { leader: None }));
    }

    fn received(&mut self, now: Instant, from: NodeId, message: &cuttlebone_wire::Message) {
        let message = Message::from_message(message).unwrap();
        let from = inst(from.0);
        let role = message.op.role();
        if message.op == Op::StartReply && message.reply_to().is_some() {
            let leader = Some(from.clone());
            self.leader.handle(now, LeaderInput::Standing(Standing::Synchronizing { leader }));
        }
        if role.is_none_or(|role| role == Role::Leader) {
            let (from, message) = (from.clone(), message.clone());
            self.leader.handle(now, LeaderInput::Message { from, message });
        }
        if role.is_none_or(|role| role == Role::Provider) {
            let (from, message) = (from.clone(), message.clone());
            self.provider.handle(now, ProviderInput::Message { from, message });
        }
        if role.is_none_or(|role| role == Role::Requester) {
            self.tell(now, RequesterInput::Message { from, message });
        }
    }

    fn tell(&mut self, now: Instant, input: RequesterInput) {
        if let Some(machine) = self.pull.as_mut().and_then(|pull| pull.machine.as_mut()) {
            machine.handle(now, input);
        }
    }

    fn drain(&mut self, cx: &mut Context<'_, cuttlebone_wire::Message>) {
        let send = |cx: &mut Context<'_, _>, to: &EntityInst, message: &Message| {
            cx.send(node(to), message.to_message(Features::empty()));
        };
        while let Some(output) = self.leader.poll_output() {
            match output {
                LeaderOutput::Send { to, message } => send(cx, &to, &message),
                LeaderOutput::Trim(trim) => self.trim = trim,
                LeaderOutput::Bootstrap => panic!("no member of the quorum asks"),
            }
        }
        while let Some(output) = self.provider.poll_output() {
            match output {
                ProviderOutput::Send { to, message } => send(cx, &to, &message),
                ProviderOutput::Store(ask) => {
                    self.asks.push_back(ask);
                    let after = Duration::from_micros(cx.chance().below(3000));
                    cx.wake_after(after, STORE);
                }
            }
        }
        let Some(pull) = &mut self.pull else { return };
        while let Some(output) = pull.machine.as_mut().and_then(Machine::poll_output) {
            match output {
                RequesterOutput::Send { to, message } => send(cx, &to, &message),
                RequesterOutput::Provider(provider) => pull.provider = Some(provider),
                RequesterOutput::Apply { op, effect } => {
                    pull.disk.write(effect);
                    pull.disk.get().check(&self.shared.borrow().truth);
                    pull.written = Some(op);
                    let after = Duration::from_micros(cx.chance().below(20_000));
                    cx.wake_after(after, SYNC);
                }
                RequesterOutput::Done(version) => {
                    assert_eq!(pull.disk.durable().status, Status::Complete(version));
                    pull.copies -= 1;
                    pull.over(cx);
                }
                RequesterOutput::Failed(error) => {
                    assert!(error.is_retryable(), "an honest provider is accused: {error:?}");
                    if let Some(provider) = &pull.provider {
                        cx.close(node(provider));
                    }
                    pull.last_error = Some(error);
                    pull.over(cx);
                }
            }
        }
    }
}

impl Pull {
    fn over(&mut self, cx: &mut Context<'_, cuttlebone_wire::Message>) {
        self.machine = None;
        self.written = None;
        self.provider = None;
        if self.copies > 0 {
            cx.wake_after(Duration::from_secs(3), PULL);
        }
    }
}

impl Node for Mon {
    type Message = cuttlebone_wire::Message;

    fn start(&mut self, cx: &mut Context<'_, Self::Message>) {
        if self.pull.is_some() {
            self.begin(cx);
        } else {
            self.tick(cx);
        }
        self.drain(cx);
    }

    fn handle(&mut self, cx: &mut Context<'_, Self::Message>, event: Event<Self::Message>) {
        match event {
            Event::Message { from, message } => self.received(cx.now(), from, &message),
            // This dialect has timers only.
            Event::Disconnected(_) | Event::Resumed(_) | Event::Reconnected(_) => {}
            Event::Wake(STORE) => {
                if let Some(answer) = self.asks.pop_front().and_then(|ask| self.source.ask(ask)) {
                    self.provider.handle(cx.now(), ProviderInput::Store(answer));
                }
            }
            Event::Wake(PULL) => self.begin(cx),
            Event::Wake(TICK) => self.tick(cx),
            Event::Wake(_) => {
                if let Some(pull) = &mut self.pull {
                    pull.disk.sync();
                    if let Some(op) = pull.written.take() {
                        self.tell(cx.now(), RequesterInput::Applied(op));
                    }
                }
            }
            Event::Timeout => {
                self.leader.handle_timeout(cx.now());
                self.provider.handle_timeout(cx.now());
                if let Some(machine) = self.pull.as_mut().and_then(|pull| pull.machine.as_mut()) {
                    machine.handle_timeout(cx.now());
                }
            }
        }
        self.drain(cx);
    }

    fn crash(&mut self, chance: &mut SplitMix) {
        self.leader = leader(self.id, &mut self.chance);
        self.provider = provider();
        self.source.forget_snapshots();
        self.asks.clear();
        self.trim = Trim::Now;
        if let Some(pull) = &mut self.pull {
            pull.machine = None;
            pull.written = None;
            pull.provider = None;
            pull.disk.crash(chance);
            pull.disk.get().check(&self.shared.borrow().truth);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let machine = self.pull.as_ref().and_then(|pull| pull.machine.as_ref()?.poll_timeout());
        [self.leader.poll_timeout(), self.provider.poll_timeout(), machine].into_iter().flatten().min()
    }
}

impl fmt::Debug for Mon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "window {:?}, {} providing, {} led",
            self.source.window,
            self.provider.copies(),
            self.leader.requesters()
        )?;
        let Some(pull) = &self.pull else { return Ok(()) };
        let state = pull.machine.as_ref().map_or("waits", Requester::state_name);
        let (copies, status, error) = (pull.copies, pull.disk.get().status, &pull.last_error);
        write!(f, ", {copies} copies to go, {state}, target {status:?}, last error {error:?}")
    }
}
