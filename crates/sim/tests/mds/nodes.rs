//! Who lives in this world: a monitor, metadata servers, and users with a client each.

use core::time::Duration;
use std::rc::Rc;

use cuttlebone_machine::{Entropy, Instant, SplitMix};
use cuttlebone_mds::Rank;
use cuttlebone_sim::{Context, Event, Node, NodeId};

use crate::cluster::{Shared, directory};
use crate::daemon::Daemon;
use crate::line::Packet;
use crate::user::User;

#[expect(clippy::large_enum_variant, reason = "five of them exist at a time")]
pub(crate) enum Member {
    Monitor(Monitor),
    Server(Server),
    User(User),
}

impl core::fmt::Debug for Member {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Monitor(monitor) => write!(f, "monitor, epoch {}", monitor.told),
            Self::Server(server) => match server.cluster.borrow().daemons.get(&server.rank) {
                Some(daemon) => write!(f, "{} {}, {:?}", server.rank, daemon.state, daemon.asked),
                None => write!(f, "{} is down", server.rank),
            },
            Self::User(user) => user.fmt(f),
        }
    }
}

impl Node for Member {
    type Message = Packet;

    fn start(&mut self, cx: &mut Context<'_, Packet>) {
        match self {
            Self::Monitor(_) => {}
            Self::Server(server) => server.start(cx),
            Self::User(_) => User::start(cx),
        }
    }

    fn handle(&mut self, cx: &mut Context<'_, Packet>, event: Event<Packet>) {
        match self {
            Self::Monitor(monitor) => monitor.handle(cx, &event),
            Self::Server(server) => server.handle(cx, event),
            Self::User(user) => user.handle(cx, event),
        }
    }

    fn crash(&mut self, _: &mut SplitMix) {
        match self {
            Self::Monitor(_) => {}
            Self::Server(server) => server.cluster.borrow_mut().stop(server.rank),
            Self::User(user) => user.crash(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Monitor(monitor) => {
                (monitor.cluster.borrow().map.epoch > monitor.told).then_some(Instant::ZERO)
            }
            Self::Server(server) => server.deadline(),
            Self::User(user) => user.deadline(),
        }
    }
}

/// Tells every user each new map.
pub(crate) struct Monitor {
    cluster: Shared,
    users: Vec<NodeId>,
    told: u32,
}

impl Monitor {
    pub(crate) fn new(cluster: &Shared, users: Vec<NodeId>) -> Self {
        Self { cluster: Rc::clone(cluster), users, told: 0 }
    }

    fn handle(&mut self, cx: &mut Context<'_, Packet>, event: &Event<Packet>) {
        let map = self.cluster.borrow().map.clone();
        match event {
            Event::Timeout => {
                self.told = map.epoch;
                for user in &self.users {
                    cx.send(*user, Packet::Map(Box::new(map.clone())));
                }
            }
            // The subscription begins anew.
            Event::Reconnected(user) if self.users.contains(user) => {
                cx.send(*user, Packet::Map(Box::new(map)));
            }
            _ => {}
        }
    }
}

/// Wakes a server to hand a directory over.
const MOVE: u64 = 0;

/// A place where one metadata server after another runs.
pub(crate) struct Server {
    pub(crate) cluster: Shared,
    pub(crate) rank: Rank,
    chance: SplitMix,
    /// How often directories move; never if zero.
    pub(crate) moves_every: Duration,
    pub(crate) forgetful_permille: u64,
    pub(crate) lenient: bool,
}

impl Server {
    pub(crate) fn new(cluster: &Shared, rank: Rank, seed: u64) -> Self {
        let (cluster, chance) = (Rc::clone(cluster), SplitMix::new(seed));
        Self { cluster, rank, chance, moves_every: Duration::ZERO, forgetful_permille: 0, lenient: false }
    }

    fn start(&mut self, cx: &mut Context<'_, Packet>) {
        let mut cluster = self.cluster.borrow_mut();
        let mut daemon = Daemon::new(&mut cluster, self.rank, cx.now(), self.chance.fork());
        daemon.forgetful_permille = self.forgetful_permille;
        daemon.lenient = self.lenient;
        cluster.daemons.insert(self.rank, daemon);
        if !self.moves_every.is_zero() {
            cx.wake_after(self.moves_every, MOVE);
        }
    }

    fn handle(&mut self, cx: &mut Context<'_, Packet>, event: Event<Packet>) {
        let mut cluster = self.cluster.borrow_mut();
        // Taken out, since it works on the rest of the cluster.
        let Some(mut daemon) = cluster.daemons.remove(&self.rank) else { return };
        daemon.now = cx.now();
        match event {
            Event::Message { from, message } => daemon.on_packet(&mut cluster, from, message),
            Event::Timeout => daemon.on_time(&mut cluster, cx.now()),
            Event::Wake(_) => {
                let dirs = u64::try_from(cluster.dirs.len()).unwrap_or(0);
                daemon.begin_moving(directory(self.chance.below(dirs)));
                daemon.work(&mut cluster);
                cx.wake_after(self.moves_every, MOVE);
            }
            Event::Disconnected(_) | Event::Resumed(_) | Event::Reconnected(_) => {}
        }
        for (to, packet) in daemon.out.drain(..) {
            cx.send(to, packet);
        }
        cluster.daemons.insert(self.rank, daemon);
    }

    fn deadline(&self) -> Option<Instant> {
        let cluster = self.cluster.borrow();
        let daemon = cluster.daemons.get(&self.rank)?;
        // What another server made it say goes out at once.
        Some(if daemon.out.is_empty() { daemon.deadline() } else { Instant::ZERO })
    }
}
