use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cuttlebone_driver::{Clock, Inbox, NotSent, Outbox, dial};
use cuttlebone_link::{DialConfig, Event as LinkEvent, Identity, Policy};
use cuttlebone_machine::{Instant, Machine};
use cuttlebone_mds::{
    Answer, Call, Caller, CapBits, Change, Client, Entry, Event, Ino, Input, KnownName, LinkId, LinkNews,
    MdsMap, NotTaken, Output, Rank, SyncId, Tid,
};
use cuttlebone_wire::{EntityAddr, EntityAddrs, EntityType, Message, WallTime};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Sleep, sleep_until};

use crate::fair::{Fair, LaneId};
use crate::holds::{Closing, Hold, Holds};
use crate::monitors::Heard;
use crate::{FsConfig, Notice};

/// What a metadata server made of a call, and what keeps the file open if it has opened one.
pub(crate) type Outcome = Result<(Box<Answer>, Option<Hold>), cuttlebone_mds::Error>;

/// What a handle asks the engine for. Whoever stops waiting drops the other end.
#[derive(Debug)]
pub(crate) enum Order {
    /// One call.
    Call { lane: LaneId, call: Call, answer: oneshot::Sender<Outcome> },
    /// What a name stands for, if that is known without asking and is no symbolic link.
    Known { entry: Entry, answer: oneshot::Sender<Option<Known>> },
    /// Tells when all that was done so far is committed: to an inode, or anywhere.
    Sync { what: Option<Ino>, answer: oneshot::Sender<Result<(), cuttlebone_mds::Error>> },
    /// Tells of changes, until the receiver is dropped.
    Watch { inos: Vec<Ino>, changes: mpsc::Sender<(Ino, Change)>, answer: oneshot::Sender<bool> },
    /// Closes every session.
    Unmount { answer: oneshot::Sender<bool> },
}

/// What a name is known to stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) ino: Ino,
    pub(crate) is_dir: bool,
}

/// Orders that are taken in before the machine is given a chance to send.
const BATCH_MAX: usize = 64;

/// Everything that one mount has: the machine, its links, and who waits for what.
///
/// One task. It never waits for one peer or one caller: what a link does not take now is kept beside it, answers go
/// where somebody still waits for them, and revokes are answered while all callers sleep.
pub(crate) struct Engine {
    config: Arc<FsConfig>,
    nonce: u32,
    global_id: u64,
    client: Client,
    clock: Clock,
    links: BTreeMap<LinkId, Link>,
    heard: mpsc::Receiver<Heard>,
    orders: mpsc::Receiver<Order>,
    queue: Fair<(Call, oneshot::Sender<Outcome>)>,
    calls: HashMap<Tid, Asked>,
    holds: Holds,
    closings: mpsc::UnboundedReceiver<Closing>,
    syncs: BTreeMap<SyncId, oneshot::Sender<Result<(), cuttlebone_mds::Error>>>,
    watches: Vec<Watch>,
    notices: broadcast::Sender<Notice>,
    unmounting: Option<oneshot::Sender<bool>>,
    closed: Option<bool>,
    /// Links that the machine wants and messenger v2 cannot reach.
    undialled: Vec<LinkId>,
}

/// A link, and what it has not taken yet.
///
/// What waits is bounded by what the machine has in flight, and by one answer for each message from a server that does
/// not read but writes; a driver stops reading from such a server.
#[derive(Debug)]
struct Link {
    rank: Rank,
    outbox: Outbox,
    inbox: Inbox,
    waiting: VecDeque<Message>,
}

/// Who waits for the answer to a call.
#[derive(Debug)]
struct Asked {
    /// Whether the call opens a file.
    opens: bool,
    answer: oneshot::Sender<Outcome>,
}

#[derive(Debug)]
struct Watch {
    inos: Vec<Ino>,
    changes: mpsc::Sender<(Ino, Change)>,
}

/// What happened, of all that the engine waits for.
enum Happened {
    Link(LinkId, Option<LinkEvent>),
    Heard(Option<Heard>),
    Order(Option<Order>),
    Closing(Option<Closing>),
    Room,
    Deadline,
}

impl Engine {
    pub(crate) fn new(
        config: Arc<FsConfig>,
        nonce: u32,
        global_id: u64,
        client: Client,
        heard: mpsc::Receiver<Heard>,
        orders: mpsc::Receiver<Order>,
        notices: broadcast::Sender<Notice>,
    ) -> Self {
        let (holds, closings) = Holds::new();
        Self {
            config,
            nonce,
            global_id,
            client,
            clock: Clock::start(),
            links: BTreeMap::new(),
            heard,
            orders,
            queue: Fair::new(),
            calls: HashMap::new(),
            holds,
            closings,
            syncs: BTreeMap::new(),
            watches: Vec::new(),
            notices,
            unmounting: None,
            closed: None,
            undialled: Vec::new(),
        }
    }

    /// Runs until the file system is unmounted, or every handle is gone and the sessions are closed.
    pub(crate) async fn run(mut self, map: Box<MdsMap>) {
        self.client.handle(self.clock.now(), Input::Map(map));
        let mut timer = Box::pin(sleep_until(tokio::time::Instant::now()));
        let (mut orders_open, mut heard_open) = (true, true);
        loop {
            self.advance();
            if let Some(clean) = self.closed {
                if let Some(answer) = self.unmounting.take() {
                    // Whoever unmounts may have stopped waiting.
                    let _ = answer.send(clean);
                }
                return;
            }
            let deadline = arm(&mut timer, &self.clock, self.client.poll_timeout());
            let full = self.links.iter().find(|(_, link)| !link.waiting.is_empty());
            let full = full.map(|(id, link)| (*id, link.outbox.clone()));
            // In no fixed order, so that no server and no caller starves the others.
            let happened = tokio::select! {
                (id, event) = next_event(&mut self.links) => Happened::Link(id, event),
                heard = self.heard.recv(), if heard_open => Happened::Heard(heard),
                order = self.orders.recv(), if orders_open => Happened::Order(order),
                closing = self.closings.recv() => Happened::Closing(closing),
                () = room(full.as_ref()) => Happened::Room,
                () = &mut timer, if deadline => Happened::Deadline,
            };
            match happened {
                Happened::Link(id, event) => self.on_link(id, event),
                Happened::Heard(Some(heard)) => self.on_heard(heard),
                Happened::Heard(None) => heard_open = false,
                Happened::Order(Some(order)) => {
                    self.on_order(order);
                    for _ in 1..BATCH_MAX {
                        let Ok(order) = self.orders.try_recv() else { break };
                        self.on_order(order);
                    }
                }
                // Every handle is gone: nobody can ask or unmount any more.
                Happened::Order(None) => {
                    orders_open = false;
                    self.client.close(self.clock.now());
                }
                Happened::Closing(closing) => self.on_closing(closing),
                Happened::Room => {}
                Happened::Deadline => self.client.handle_timeout(self.clock.now()),
            }
        }
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Carries out what the machine wants, gives it what waits, and again until there is nothing of either.
    fn advance(&mut self) {
        loop {
            self.carry_out();
            // As if it had been dialled in vain: the machine tries again, perhaps with another map by then.
            if let Some(link) = self.undialled.pop() {
                self.client.handle(self.clock.now(), Input::Link(link, LinkNews::Closed));
            } else if !self.submit() {
                break;
            }
        }
        for link in self.links.values_mut() {
            link.flush();
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Dial { link, rank, addrs } => self.dial(link, rank, &addrs),
                Output::Drop(link) => drop(self.links.remove(&link)),
                Output::Send(link, message) => {
                    if let Some(link) = self.links.get_mut(&link) {
                        link.waiting.push_back(message);
                    }
                }
                Output::Event(event) => self.on_event(event),
            }
        }
    }

    /// Hands over one operation, if there is room in front of the servers; whether it did.
    fn submit(&mut self) -> bool {
        if self.queue.is_empty() || self.calls.len() >= self.room() {
            return false;
        }
        while let Some((lane, (call, answer))) = self.queue.pop() {
            // Nobody waits any more, and nothing was sent: as if it had never been asked for.
            if answer.is_closed() {
                continue;
            }
            let caller = Caller {
                uid: self.config.uid,
                gid: self.config.gid,
                stamp: wall_time(),
                ..Caller::default()
            };
            match self.client.request(self.now(), call.clone(), caller) {
                Ok(tid) => {
                    let opens = matches!(call, Call::Open { .. } | Call::Create { .. });
                    self.calls.insert(tid, Asked { opens, answer });
                }
                Err(NotTaken::Busy) => {
                    self.queue.push_front(lane, (call, answer));
                    return false;
                }
                Err(NotTaken::Closed) => drop(answer.send(Err(cuttlebone_mds::Error::Closed))),
                Err(NotTaken::Misuse(what)) => {
                    drop(answer.send(Err(cuttlebone_mds::Error::Unexpected(what))));
                }
                Err(_) => drop(answer),
            }
            return true;
        }
        false
    }

    /// How many operations may be with the machine. It queues what its windows do not admit, in order of arrival; so it
    /// is given no more than those admit, and who is next is decided as late as possible.
    fn room(&self) -> usize {
        let windows = self.links.values().map(|link| self.client.window(link.rank));
        windows.sum::<usize>().max(self.config.limits.in_flight_min)
    }

    fn dial(&mut self, link: LinkId, rank: Rank, addrs: &EntityAddrs) {
        let target = addrs.msgr2().cloned();
        let at = target.as_ref().and_then(EntityAddr::socket_addr);
        let (Some(target), Some(at)) = (target, at) else {
            self.undialled.push(link);
            return;
        };
        let at: SocketAddr = self.config.detours.get(&at).copied().unwrap_or(at);
        let config = DialConfig {
            identity: Identity::Client { id: self.config.id.clone(), global_id: self.global_id },
            peer: EntityType::MDS,
            policy: Policy::Lossless,
            limits: self.config.link_limits,
            timing: self.config.timing,
            ..DialConfig::client(&self.config.id, target, self.nonce)
        };
        let (connection, driver) = dial(config, at, self.config.driver_limits);
        tokio::spawn(driver);
        let (outbox, inbox) = connection.split();
        self.links.insert(link, Link { rank, outbox, inbox, waiting: VecDeque::new() });
    }

    fn on_link(&mut self, id: LinkId, event: Option<LinkEvent>) {
        let news = match event {
            Some(LinkEvent::Ready(ready)) => LinkNews::Ready(ready.features),
            Some(LinkEvent::Message(message)) => LinkNews::Message(message),
            Some(LinkEvent::Reset) => LinkNews::Reset,
            // The link comes back by itself, with everything that was on its way.
            Some(LinkEvent::Lost(_)) => return,
            Some(LinkEvent::Closed(_)) | None => {
                self.links.remove(&id);
                LinkNews::Closed
            }
        };
        self.client.handle(self.clock.now(), Input::Link(id, news));
    }

    fn on_answer(&mut self, tid: Tid, result: Result<Box<Answer>, cuttlebone_mds::Error>) {
        let Some(Asked { opens, answer: asker }) = self.calls.remove(&tid) else { return };
        let result = result.map(|answer| {
            let opened = answer.target.as_ref().map(|stat| stat.ino).filter(|_| opens);
            let hold = opened.and_then(|ino| self.holds.opened(ino, self.client.times_open(ino)));
            (answer, hold)
        });
        // Whoever asked may have stopped waiting; what was opened is closed then.
        let _ = asker.send(result);
    }

    fn on_closing(&mut self, closing: Option<Closing>) {
        if let Some(ino) = closing.and_then(|closing| self.holds.closed(&closing)) {
            self.client.close_file(self.clock.now(), ino);
        }
    }

    fn on_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Map(map) => self.client.handle(self.clock.now(), Input::Map(map)),
            Heard::Joined(_) => {}
            Heard::Lost(error) => self.tell(Notice::Monitor(error)),
            Heard::NoFileSystem(name) => self.tell(Notice::Monitor(crate::Error::NoFileSystem(name))),
        }
    }

    fn on_order(&mut self, order: Order) {
        let now = self.now();
        match order {
            Order::Call { lane, call, answer } => self.queue.push(lane, (call, answer)),
            Order::Known { entry, answer } => {
                // Whoever asked may have stopped waiting.
                let _ = answer.send(self.known(&entry));
            }
            Order::Sync { what, answer } => {
                let waiting = match what {
                    Some(ino) => self.client.fsync(ino),
                    None => self.client.sync(),
                };
                // Refused when too many wait: the asker sees its question dropped.
                if let Ok(id) = waiting {
                    self.syncs.insert(id, answer);
                }
            }
            Order::Watch { inos, changes, answer } => {
                let watched = inos.iter().all(|ino| self.client.watch(now, *ino).is_ok());
                if answer.send(watched).is_ok() && watched {
                    self.watches.push(Watch { inos, changes });
                } else {
                    self.unwatch(&inos);
                }
            }
            Order::Unmount { answer } => {
                self.unmounting = Some(answer);
                self.client.close(now);
            }
        }
    }

    /// What a name stands for, if it is known and no symbolic link: where those lead has to be asked for.
    fn known(&mut self, entry: &Entry) -> Option<Known> {
        let now = self.now();
        let KnownName::Taken(ino) = self.client.known_name(now, entry) else { return None };
        let stat = self.client.known_attributes(now, ino, CapBits::PIN)?;
        (!stat.is_symlink()).then_some(Known { ino, is_dir: stat.is_dir() })
    }

    fn unwatch(&mut self, inos: &[Ino]) {
        for ino in inos.iter().filter(|ino| !self.watches.iter().any(|watch| watch.inos.contains(ino))) {
            self.client.unwatch(self.clock.now(), *ino);
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Answer { tid, result, .. } => self.on_answer(tid, result),
            Event::FileLost(ino) => self.holds.lost(ino),
            Event::Uncommitted(_, error) => self.tell(Notice::Uncommitted(error)),
            Event::Synced(id, result) => {
                if let Some(answer) = self.syncs.remove(&id) {
                    let _ = answer.send(result);
                }
            }
            Event::Session(rank, news) => self.tell(Notice::Session(rank, news)),
            Event::Changed { ino, change } => self.on_change(ino, &change),
            Event::Nonsense(rank, nonsense) => self.tell(Notice::Nonsense(rank, nonsense)),
            Event::Closed { clean } => self.closed = Some(clean),
            // A commit interests those who wait for it, who are told by `Synced`.
            _ => {}
        }
    }

    /// Tells those who watch an inode. One who does not keep up loses changes, and the last place tells it so.
    fn on_change(&mut self, ino: Ino, change: &Change) {
        let mut gone = Vec::new();
        for (at, watch) in self.watches.iter().enumerate() {
            if watch.changes.is_closed() {
                gone.push(at);
            } else if watch.inos.contains(&ino) {
                let change = if watch.changes.capacity() == 1 { Change::Unknown } else { change.clone() };
                let _ = watch.changes.try_send((ino, change));
            }
        }
        for at in gone.into_iter().rev() {
            let watch = self.watches.swap_remove(at);
            self.unwatch(&watch.inos);
        }
    }

    fn tell(&self, notice: Notice) {
        // Nobody has to listen.
        let _ = self.notices.send(notice);
    }
}

impl Link {
    /// Hands over as much as is taken at once.
    fn flush(&mut self) {
        while let Some(message) = self.waiting.pop_front() {
            match self.outbox.try_send(message) {
                Ok(()) => {}
                Err(NotSent::Full(message)) => {
                    self.waiting.push_front(message);
                    break;
                }
                // Its last event says so.
                Err(NotSent::Closed) => self.waiting.clear(),
            }
        }
    }
}

/// The next event of any link; never if there is none.
async fn next_event(links: &mut BTreeMap<LinkId, Link>) -> (LinkId, Option<LinkEvent>) {
    core::future::poll_fn(|cx: &mut Context<'_>| {
        for (id, link) in links.iter_mut() {
            if let Poll::Ready(event) = link.inbox.poll_recv(cx) {
                return Poll::Ready((*id, event));
            }
        }
        Poll::Pending
    })
    .await
}

async fn room(full: Option<&(LinkId, Outbox)>) {
    match full {
        Some((_, outbox)) => outbox.room().await,
        None => core::future::pending().await,
    }
}

/// Sets the timer to the machine's next deadline; whether there is one.
fn arm(timer: &mut Pin<Box<Sleep>>, clock: &Clock, wake: Option<Instant>) -> bool {
    let Some(at) = wake.map(|wake| clock.at(wake)) else { return false };
    if timer.deadline() != at || timer.is_elapsed() {
        timer.as_mut().reset(at);
    }
    true
}

/// The wall clock, from which new entries take their times. Deadlines never come from here.
#[expect(clippy::disallowed_methods, reason = "the one place where a mount reads the wall clock")]
fn wall_time() -> WallTime {
    // A clock before 1970 or after 2106 gives the nearest stamp there is.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime { secs: u32::try_from(since.as_secs()).unwrap_or(u32::MAX), nanos: since.subsec_nanos() }
}
