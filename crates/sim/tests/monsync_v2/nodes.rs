//! Nodes that drive the machines of the second dialect, with a store each.

use core::cell::RefCell;
use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use cuttlebone_machine::{Entropy, Instant, Machine, SplitMix};
use cuttlebone_monsync::v2::{
    PeerId, Provider, ProviderConfig, ProviderInput, ProviderOutput, Requester, RequesterConfig,
    RequesterInput, RequesterOutput,
};
use cuttlebone_monsync::{Ask, Budget, Effect, Error, OpId, SyncKind};
use cuttlebone_sim::{Context, Disk, Event, Node, NodeId, Store};
use cuttlebone_wire::{Features, Message};

use crate::model::{Source, Status, Target};

thread_local! {
    /// The longest history of the world that this thread runs, to which every copy is compared.
    static TRUTH: RefCell<Option<Rc<RefCell<Source>>>> = const { RefCell::new(None) };
}

#[expect(clippy::large_enum_variant, reason = "three of them exist at a time")]
pub(crate) enum MonNode {
    Provides(Provides),
    Pulls(Pulls),
}

impl fmt::Debug for MonNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provides(node) => write!(f, "provides {:?}", node.source.borrow().window),
            Self::Pulls(node) => write!(
                f,
                "pulls, {} copies to go, {}, target {:?}, last error {:?}",
                node.copies,
                node.machine.as_ref().map_or("waits", Requester::state_name),
                node.disk.get().status,
                node.last_error
            ),
        }
    }
}

impl Node for MonNode {
    type Message = Message;

    fn start(&mut self, cx: &mut Context<'_, Message>) {
        match self {
            Self::Provides(node) => node.start(cx),
            Self::Pulls(node) => node.begin(cx),
        }
    }

    fn handle(&mut self, cx: &mut Context<'_, Message>, event: Event<Message>) {
        match self {
            Self::Provides(node) => node.handle(cx, event),
            Self::Pulls(node) => node.handle(cx, event),
        }
    }

    fn crash(&mut self, chance: &mut SplitMix) {
        match self {
            Self::Provides(node) => node.crash(chance),
            Self::Pulls(node) => node.crash(chance),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Provides(node) => node.machine.poll_timeout(),
            Self::Pulls(node) => node.machine.as_ref()?.poll_timeout(),
        }
    }
}

/// Wakes a provider for its store's next answer.
const STORE: u64 = 0;
/// Wakes a provider for its next commit.
const COMMIT: u64 = 1;

pub(crate) struct Provides {
    machine: Provider<SplitMix>,
    source: Rc<RefCell<Source>>,
    asks: VecDeque<Ask>,
    /// A follower takes its versions from the truth.
    follows: bool,
    every: Duration,
    commits: u32,
    keep: u64,
    /// Each connection is another peer to the machine.
    peers: BTreeMap<NodeId, u64>,
    lives: u64,
}

impl Provides {
    pub(crate) fn leader(source: Source, seed: u64) -> Self {
        let node = Self::new(source, seed, false);
        TRUTH.set(Some(Rc::clone(&node.source)));
        node
    }

    pub(crate) fn follower(source: Source, seed: u64) -> Self {
        Self::new(source, seed, true)
    }

    fn new(source: Source, seed: u64, follows: bool) -> Self {
        Self {
            machine: provider(seed),
            source: Rc::new(RefCell::new(source)),
            asks: VecDeque::new(),
            follows,
            every: Duration::ZERO,
            commits: 0,
            keep: u64::MAX,
            peers: BTreeMap::new(),
            lives: seed,
        }
    }

    /// Commits so often, so many times, and keeps so many versions.
    pub(crate) fn keep_busy(&mut self, every: Duration, commits: u32, keep: u64) {
        (self.every, self.commits, self.keep) = (every, commits, keep);
    }

    fn start(&mut self, cx: &mut Context<'_, Message>) {
        if self.commits > 0 {
            cx.wake_after(self.every, COMMIT);
        }
    }

    fn crash(&mut self, _: &mut SplitMix) {
        self.lives += 1000;
        self.machine = provider(self.lives);
        self.source.borrow_mut().forget_snapshots();
        self.asks.clear();
    }

    fn peer(&self, node: NodeId) -> PeerId {
        PeerId(self.peers.get(&node).copied().unwrap_or(0) * 100 + node.0 as u64)
    }

    fn handle(&mut self, cx: &mut Context<'_, Message>, event: Event<Message>) {
        match event {
            Event::Message { from, message } => {
                let from = self.peer(from);
                self.machine.handle(cx.now(), ProviderInput::Message { from, message });
            }
            Event::Disconnected(_) | Event::Resumed(_) => {}
            Event::Reconnected(node) => {
                self.machine.handle(cx.now(), ProviderInput::Gone(self.peer(node)));
                *self.peers.entry(node).or_default() += 1;
            }
            Event::Wake(COMMIT) => self.commit(cx),
            Event::Wake(_) => {
                if let Some(answer) = self.asks.pop_front().and_then(|ask| self.source.borrow_mut().ask(ask))
                {
                    self.machine.handle(cx.now(), ProviderInput::Store(answer));
                }
            }
            Event::Timeout => self.machine.handle_timeout(cx.now()),
        }
        while let Some(output) = self.machine.poll_output() {
            match output {
                ProviderOutput::Send { to, reply } => {
                    // A peer of an earlier connection is not there any more.
                    let node = NodeId(usize::try_from(to.0 % 100).unwrap());
                    if self.peer(node) == to {
                        cx.send(node, reply.into_message(Features::PACIFIC));
                    }
                }
                ProviderOutput::Store(ask) => {
                    self.asks.push_back(ask);
                    let after = Duration::from_micros(cx.chance().below(3000));
                    cx.wake_after(after, STORE);
                }
                ProviderOutput::Dropped { why, .. } => panic!("{why:?}"),
            }
        }
    }

    fn commit(&mut self, cx: &mut Context<'_, Message>) {
        let mut source = self.source.borrow_mut();
        if self.follows {
            let truth = TRUTH.with_borrow(Clone::clone).unwrap();
            source.follow(&truth.borrow());
        } else if cx.chance().below(4) == 0 {
            source.propose(cx.chance());
        } else {
            source.commit(cx.chance());
        }
        self.commits -= 1;
        if cx.chance().below(10) == 0 {
            source.trim(self.keep);
        }
        if self.commits > 0 {
            cx.wake_after(self.every, COMMIT);
        }
    }
}

fn provider(seed: u64) -> Provider<SplitMix> {
    let config = ProviderConfig { budget: Budget { bytes: 400, keys: 5 }, ..ProviderConfig::default() };
    Provider::new(config, SplitMix::new(seed))
}

impl Store for Target {
    type Write = Effect;

    fn apply(&mut self, write: &Effect) {
        Target::apply(self, write);
    }
}

/// Wakes a puller for its disk.
const SYNC: u64 = 0;
/// Wakes a puller for its next copy.
const PULL: u64 = 1;

pub(crate) struct Pulls {
    machine: Option<Requester>,
    disk: Disk<Target>,
    providers: Vec<NodeId>,
    /// Which of them is asked.
    turn: usize,
    copies: u32,
    written: Option<OpId>,
    full_next: bool,
    fail_permille: u64,
    last_error: Option<Error>,
}

impl Pulls {
    pub(crate) fn new(providers: Vec<NodeId>, copies: u32) -> Self {
        Self {
            machine: None,
            disk: Disk::default(),
            providers,
            turn: 0,
            copies,
            written: None,
            full_next: false,
            fail_permille: 0,
            last_error: None,
        }
    }

    pub(crate) fn fail_permille(&mut self, permille: u64) {
        self.fail_permille = permille;
    }

    pub(crate) fn done(&self) -> bool {
        self.copies == 0
    }

    pub(crate) fn last_error(&self) -> Option<&Error> {
        self.last_error.as_ref()
    }

    fn provider(&self) -> NodeId {
        self.providers[self.turn % self.providers.len()]
    }

    fn begin(&mut self, cx: &mut Context<'_, Message>) {
        check(self.disk.get());
        let kind = match self.disk.get().status {
            Status::Complete(after) if !self.full_next => SyncKind::Recent { after },
            _ => SyncKind::Full,
        };
        self.machine = Some(Requester::new(cx.now(), RequesterConfig::default(), kind));
        self.drain(cx);
    }

    fn crash(&mut self, chance: &mut SplitMix) {
        self.machine = None;
        self.written = None;
        self.disk.crash(chance);
        check(self.disk.get());
    }

    fn handle(&mut self, cx: &mut Context<'_, Message>, event: Event<Message>) {
        let provider = self.provider();
        let input = match event {
            Event::Wake(PULL) => return self.begin(cx),
            Event::Wake(_) => {
                if cx.chance().below(1000) < self.fail_permille {
                    RequesterInput::ApplyFailed
                } else {
                    self.disk.sync();
                    let Some(op) = self.written.take() else { return };
                    RequesterInput::Applied(op)
                }
            }
            Event::Message { from, message } if from == provider => RequesterInput::Message(message),
            Event::Disconnected(peer) if peer == provider => RequesterInput::Disconnected,
            Event::Resumed(peer) if peer == provider => RequesterInput::Resumed,
            Event::Reconnected(peer) if peer == provider => RequesterInput::Reconnected,
            Event::Timeout => {
                if let Some(machine) = &mut self.machine {
                    machine.handle_timeout(cx.now());
                }
                return self.drain(cx);
            }
            _ => return,
        };
        if let Some(machine) = &mut self.machine {
            machine.handle(cx.now(), input);
        }
        self.drain(cx);
    }

    fn drain(&mut self, cx: &mut Context<'_, Message>) {
        while let Some(output) = self.machine.as_mut().and_then(Machine::poll_output) {
            match output {
                RequesterOutput::Send(request) => {
                    cx.send(self.provider(), request.to_message(Features::PACIFIC));
                }
                RequesterOutput::Apply { op, effect } => {
                    self.disk.write(effect);
                    check(self.disk.get());
                    self.written = Some(op);
                    let after = Duration::from_micros(cx.chance().below(20_000));
                    cx.wake_after(after, SYNC);
                }
                RequesterOutput::Started { .. } | RequesterOutput::Progress(_) => {}
                RequesterOutput::Done(summary) => {
                    assert_eq!(self.disk.durable().status, Status::Complete(summary.last_committed));
                    self.copies -= 1;
                    self.full_next = false;
                    self.over(cx);
                }
                RequesterOutput::Failed(error) => {
                    let honest =
                        error.is_retryable() || matches!(error, Error::FellBehind { .. } | Error::Store);
                    assert!(honest, "an honest provider is accused: {error:?}");
                    self.full_next = matches!(error, Error::FellBehind { .. });
                    // Answers to the failed copy may still be on their way.
                    cx.close(self.provider());
                    self.turn += 1;
                    self.last_error = Some(error);
                    self.over(cx);
                }
            }
        }
    }

    fn over(&mut self, cx: &mut Context<'_, Message>) {
        self.machine = None;
        self.written = None;
        if self.copies > 0 {
            cx.wake_after(Duration::from_secs(1), PULL);
        }
    }
}

fn check(target: &Target) {
    let truth = TRUTH.with_borrow(Clone::clone).unwrap();
    target.check(&truth.borrow());
}
