use core::fmt;
use core::ops::{Index, IndexMut};
use core::time::Duration;
use std::collections::BTreeMap;

use cuttlebone_machine::{Entropy, Instant, SplitMix};

use crate::Network;
use crate::link::{Due, Keeps, Link, upto};

/// One node of a world: the first is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number")]
pub struct NodeId(pub usize);

/// Something that lives in a world: machines, and whatever drives them.
pub trait Node {
    /// What nodes send to each other.
    type Message;

    /// It begins, or begins again after a crash. Connections to all others are open, or will be reported.
    fn start(&mut self, cx: &mut Context<'_, Self::Message>);

    /// Something happened.
    fn handle(&mut self, cx: &mut Context<'_, Self::Message>, event: Event<Self::Message>);

    /// It dies: everything that is not on a disk is to be forgotten.
    fn crash(&mut self, chance: &mut SplitMix) {
        let _ = chance;
    }

    /// When it wants [`Event::Timeout`].
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// What happens to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a node has to take every one of them")]
pub enum Event<M> {
    /// A message arrives.
    Message {
        /// From whom.
        from: NodeId,
        /// What.
        message: M,
    },
    /// The connection to a peer is lost.
    Disconnected(NodeId),
    /// There is a connection to a peer again, and nothing was lost.
    Resumed(NodeId),
    /// There is a connection to a peer again, and what was on its way is gone.
    Reconnected(NodeId),
    /// The time that was asked for with [`Context::wake_after`] has passed.
    Wake(u64),
    /// The [`Node::deadline`] has come.
    Timeout,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A connection is lost; the network may make it good.
    Cut(NodeId, NodeId),
    /// Two nodes cannot reach each other for a while.
    Partition(NodeId, NodeId, Duration),
    /// A node dies, and starts again after a while.
    Crash(NodeId, Duration),
    /// A node does not run for a while and finds its clock that much later.
    Jump(NodeId, Duration),
}

/// What a node may do while it handles an event.
#[derive(Debug)]
pub struct Context<'a, M> {
    id: NodeId,
    now: Instant,
    chance: &'a mut SplitMix,
    sent: Vec<(NodeId, M)>,
    wakes: Vec<(Duration, u64)>,
    closed: Vec<NodeId>,
}

impl<M> Context<'_, M> {
    /// Which node this is.
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// The node's own clock.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// The world's chance.
    pub const fn chance(&mut self) -> &mut SplitMix {
        self.chance
    }

    /// Sends a message; it is lost if there is no connection.
    pub fn send(&mut self, to: NodeId, message: M) {
        self.sent.push((to, message));
    }

    /// Closes the connection to a peer. Both ends notice, and there is another one after a while.
    pub fn close(&mut self, peer: NodeId) {
        self.closed.push(peer);
    }

    /// Asks for [`Event::Wake`] with `token`, after a while. A crash forgets it.
    pub fn wake_after(&mut self, after: Duration, token: u64) {
        self.wakes.push((after, token));
    }
}

struct Slot<N> {
    node: N,
    life: Life,
    /// Counts crashes, so that what an earlier life asked for does not reach a later one.
    lives: u64,
    /// How far the node's clock is ahead.
    ahead: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    Dead,
}

#[derive(Clone, Copy)]
enum Planned {
    Start(NodeId),
    Wake { node: NodeId, life: u64, token: u64 },
    Fault(Fault),
}

/// Nodes, a network between all of them, and time.
pub struct World<N: Node> {
    now: Instant,
    chance: SplitMix,
    network: Network,
    slots: Vec<Slot<N>>,
    /// Between each pair, the lower number first.
    links: BTreeMap<(usize, usize), Link<N::Message>>,
    planned: BTreeMap<(Instant, u64), Planned>,
    plans: u64,
    steps: u64,
    at_step: BTreeMap<u64, Fault>,
}

impl<N: Node> World<N> {
    /// A world in which every node starts at once and every two are connected.
    pub fn new(seed: u64, network: Network, nodes: Vec<N>) -> Self {
        let count = nodes.len();
        let pairs = (0..count).flat_map(|low| (low + 1..count).map(move |high| (low, high)));
        let mut world = Self {
            now: Instant::ZERO,
            chance: SplitMix::new(seed),
            network,
            links: pairs.map(|pair| (pair, Link::new())).collect(),
            slots: Vec::new(),
            planned: BTreeMap::new(),
            plans: 0,
            steps: 0,
            at_step: BTreeMap::new(),
        };
        for node in nodes {
            let id = NodeId(world.slots.len());
            world.slots.push(Slot { node, life: Life::Dead, lives: 0, ahead: Duration::ZERO });
            world.plan(Duration::ZERO, Planned::Start(id));
        }
        world
    }

    /// Lets a fault happen after a while.
    pub fn fault_after(&mut self, after: Duration, fault: Fault) {
        self.plan(after, Planned::Fault(fault));
    }

    /// Lets a fault happen right before the step with this number; steps count from 0.
    pub fn fault_at_step(&mut self, step: u64, fault: Fault) {
        self.at_step.insert(step, fault);
    }

    /// Lets `count` faults of every kind happen at random within `period`; the world is whole again some time
    /// after it. `lasting` is the longest that one of them takes.
    pub fn chaos(&mut self, count: u64, period: Duration, lasting: Duration) {
        for _ in 0..count {
            let nodes = u64::try_from(self.slots.len()).unwrap_or(u64::MAX);
            let mut pick = || NodeId(usize::try_from(self.chance.below(nodes)).unwrap_or(0));
            let (one, other) = (pick(), pick());
            let (after, long) = (upto(&mut self.chance, period), upto(&mut self.chance, lasting));
            let fault = match self.chance.below(6) {
                0 => Fault::Partition(one, other, long),
                1 => Fault::Jump(one, long),
                2 | 3 => Fault::Crash(one, long),
                _ => Fault::Cut(one, other),
            };
            self.fault_after(after, fault);
        }
    }

    /// How many things have happened.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// How long the world has existed.
    pub const fn age(&self) -> Duration {
        self.now.since(Instant::ZERO)
    }

    /// Runs until `done`, or until `limit` has passed or nothing is left to happen; says whether it was `done`.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) {
            if self.next().is_none_or(|next| next > end) {
                return false;
            }
            self.step();
        }
        true
    }

    /// Lets the next thing happen. Does nothing in a world where nothing is left to happen.
    pub fn step(&mut self) {
        if let Some(fault) = self.at_step.remove(&self.steps) {
            self.strike(fault);
        }
        let Some(next) = self.next() else { return };
        self.now = self.now.max(next);
        self.steps = self.steps.saturating_add(1);
        if let Some(entry) = self.planned.first_entry()
            && entry.key().0 <= self.now
        {
            let planned = entry.remove();
            self.happen(planned);
        } else if !self.links_step() {
            self.timeout();
        }
    }

    fn happen(&mut self, planned: Planned) {
        match planned {
            Planned::Fault(fault) => self.strike(fault),
            Planned::Start(id) => {
                if let Some(slot) = self.slots.get_mut(id.0).filter(|slot| slot.life == Life::Dead) {
                    slot.life = Life::Running;
                    self.run(id, Node::start);
                }
            }
            Planned::Wake { node, life, token } => {
                if self.slots.get(node.0).is_some_and(|slot| slot.lives == life) {
                    self.tell(node, Event::Wake(token));
                }
            }
        }
    }

    /// Whether something happened on a link.
    fn links_step(&mut self) -> bool {
        let due = self.links.iter_mut().find_map(|(pair, link)| Some((*pair, link.take(self.now)?)));
        let Some(((low, high), due)) = due else { return false };
        let (ends, peers) = ([NodeId(low), NodeId(high)], [NodeId(high), NodeId(low)]);
        match due {
            Due::Message(end, message) => self.tell(ends[end], Event::Message { from: peers[end], message }),
            Due::Noticed(end) => self.tell(ends[end], Event::Disconnected(peers[end])),
            Due::Again(keeps) => {
                for (node, peer) in ends.into_iter().zip(peers) {
                    self.tell(
                        node,
                        match keeps {
                            Keeps::Everything => Event::Resumed(peer),
                            Keeps::Nothing => Event::Reconnected(peer),
                        },
                    );
                }
            }
        }
        true
    }

    fn timeout(&mut self) {
        let due = |slot: &Slot<N>| slot.deadline().is_some_and(|deadline| deadline <= self.now);
        if let Some(index) = self.slots.iter().position(due) {
            let before = self.slots[index].deadline();
            self.tell(NodeId(index), Event::Timeout);
            let stuck = self.slots[index].deadline() == before;
            assert!(!stuck, "node {index} does not move its deadline");
        }
    }

    fn next(&self) -> Option<Instant> {
        let planned = self.planned.keys().next().map(|(at, _)| *at);
        let links = self.links.values().filter_map(Link::next);
        let nodes = self.slots.iter().filter_map(Slot::deadline);
        planned.into_iter().chain(links).chain(nodes).min()
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Cut(one, other) => {
                let keeps = if self.chance.below(1000) < self.network.resume_permille {
                    Keeps::Everything
                } else {
                    Keeps::Nothing
                };
                self.cut(one, other, keeps);
            }
            Fault::Partition(one, other, lasting) => {
                let until = self.now + lasting;
                if let Some(link) = self.links.get_mut(&pair(one, other)) {
                    link.block(until);
                }
                self.cut(one, other, Keeps::Nothing);
            }
            Fault::Crash(id, lasting) => self.crash(id, lasting),
            Fault::Jump(id, by) => {
                if let Some(slot) = self.slots.get_mut(id.0) {
                    slot.ahead = slot.ahead.saturating_add(by);
                }
            }
        }
    }

    fn cut(&mut self, one: NodeId, other: NodeId, keeps: Keeps) {
        if let Some(link) = self.links.get_mut(&pair(one, other)) {
            link.cut(self.now, keeps, &self.network, &mut self.chance);
        }
    }

    fn crash(&mut self, id: NodeId, lasting: Duration) {
        let Some(slot) = self.slots.get_mut(id.0).filter(|slot| slot.life == Life::Running) else { return };
        slot.life = Life::Dead;
        slot.lives = slot.lives.saturating_add(1);
        slot.node.crash(&mut self.chance);
        let until = self.now + lasting;
        for other in (0..self.slots.len()).map(NodeId) {
            if let Some(link) = self.links.get_mut(&pair(id, other)) {
                link.block(until);
            }
            self.cut(id, other, Keeps::Nothing);
        }
        self.plan(lasting, Planned::Start(id));
    }

    fn tell(&mut self, id: NodeId, event: Event<N::Message>) {
        if self.slots.get(id.0).is_some_and(|slot| slot.life == Life::Running) {
            self.run(id, |node, cx| node.handle(cx, event));
        }
    }

    fn run(&mut self, id: NodeId, act: impl FnOnce(&mut N, &mut Context<'_, N::Message>)) {
        let Some(slot) = self.slots.get_mut(id.0) else { return };
        let now = self.now + slot.ahead;
        let mut cx = Context {
            id,
            now,
            chance: &mut self.chance,
            sent: Vec::new(),
            wakes: Vec::new(),
            closed: Vec::new(),
        };
        act(&mut slot.node, &mut cx);
        let Context { sent, wakes, closed, .. } = cx;
        let life = slot.lives;
        for (to, message) in sent {
            if let Some(link) = self.links.get_mut(&pair(id, to)) {
                link.send(self.now, usize::from(to > id), message, &self.network, &mut self.chance);
            }
        }
        for peer in closed {
            self.cut(id, peer, Keeps::Nothing);
        }
        for (after, token) in wakes {
            self.plan(after, Planned::Wake { node: id, life, token });
        }
    }

    fn plan(&mut self, after: Duration, planned: Planned) {
        self.plans = self.plans.saturating_add(1);
        self.planned.insert((self.now + after, self.plans), planned);
    }
}

impl<N: Node> Slot<N> {
    /// The deadline in the world's time.
    fn deadline(&self) -> Option<Instant> {
        let deadline = self.node.deadline().filter(|_| self.life == Life::Running)?;
        Some(Instant::ZERO + deadline.since(Instant::ZERO + self.ahead))
    }
}

fn pair(one: NodeId, other: NodeId) -> (usize, usize) {
    (one.0.min(other.0), one.0.max(other.0))
}

impl<N: Node> Index<NodeId> for World<N> {
    type Output = N;

    fn index(&self, id: NodeId) -> &N {
        &self.slots[id.0].node
    }
}

impl<N: Node> IndexMut<NodeId> for World<N> {
    fn index_mut(&mut self, id: NodeId) -> &mut N {
        &mut self.slots[id.0].node
    }
}

impl<N: Node + fmt::Debug> fmt::Display for World<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "after {:?} and {} steps", self.age(), self.steps)?;
        for (index, slot) in self.slots.iter().enumerate() {
            let life = if slot.life == Life::Running { "runs" } else { "dead" };
            writeln!(f, "  node {index} {life}: {:?}", slot.node)?;
        }
        Ok(())
    }
}

impl<N: Node> fmt::Debug for World<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now", &self.now).field("steps", &self.steps).finish_non_exhaustive()
    }
}
