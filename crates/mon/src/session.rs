use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use bytes::Bytes;
use cuttlebone_machine::{Instant, Machine, Timer};
use cuttlebone_wire::{DecodeError, Features, Message};

use crate::config::SessionConfig;
use crate::message::{
    Body, Command, CommandAck, Config, GetMap, GetVersion, GetVersionReply, Map, StatFs, StatFsReply,
    Subscribe, SubscribeAck, Subscription,
};

/// Identifies a request; its answer carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number")]
pub struct Tid(pub u64);

/// A request that is refused because too many are unanswered. Try again after the next answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are waiting for a monitor")]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say")]
pub struct Busy;

/// What a session is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to be able to tell all of it")]
pub enum SessionInput {
    /// A connection is authenticated and ready; the features are those that both sides have.
    Connected(Features),
    /// A message has arrived.
    Message(Message),
    /// The connection is gone, with everything that was on its way.
    Disconnected,
}

/// What a session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to carry out every one of them")]
pub enum SessionOutput {
    /// Send this message.
    Send(Message),
    /// Tell the caller.
    Event(Event),
}

/// What a session tells its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A monitor map, asked for (then with the request's tid) or subscribed to.
    Map(Option<Tid>, Map),
    /// The central configuration as it applies to us.
    Config(Config),
    /// How new a map is.
    Version(Tid, GetVersionReply),
    /// How a command went.
    Command(Tid, CommandAck),
    /// How full the cluster is, or the pool that was asked for.
    StatFs(Tid, StatFsReply),
    /// A request was not answered in time, and will not be sent again.
    TimedOut(Tid),
    /// A message that this crate has no words for, such as a map of another service.
    Other(Message),
    /// The monitor sent something that does not follow the encoding. The connection is of no use any more.
    Malformed(DecodeError),
}

/// The client's side of a session with the monitors, over one connection after another.
///
/// Requests made while there is no connection wait for one. Poll [`poll_output`](Machine::poll_output) after every
/// call that takes `now`.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    online: Option<Features>,
    last_tid: u64,
    requests: BTreeMap<Tid, Unanswered>,
    request_bytes: usize,
    subscriptions: BTreeMap<String, Subscription>,
    /// Whether this connection was asked for the map that tells the fsid, which commands need.
    map_asked: bool,
    /// Only towards monitors without [`Features::MON_STATEFUL_SUB`], which forget subscriptions after a time.
    renewal: Timer,
    outputs: VecDeque<SessionOutput>,
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Unanswered {
    request: Request,
    deadline: Instant,
}

#[derive(Debug)]
enum Request {
    Map,
    Version(String),
    Command { command: Bytes, input: Bytes },
    StatFs { pool: Option<i64> },
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Map | Self::StatFs { .. } => 0,
            Self::Version(what) => what.len(),
            Self::Command { command, input } => command.len().saturating_add(input.len()),
        }
    }

    /// Whether it says for which cluster it is meant, and so cannot be sent before that is known.
    const fn names_cluster(&self) -> bool {
        matches!(self, Self::Command { .. } | Self::StatFs { .. })
    }
}

/// Most maps that one session subscribes to; there are about a dozen.
const SUBSCRIPTIONS_MAX: usize = 64;
/// The map that a session keeps track of itself.
const MONMAP: &str = "monmap";
/// The central configuration, which is subscribed to like a map.
const CONFIG: &str = "config";

impl Session {
    /// A session that has no connection yet.
    pub fn new(config: SessionConfig) -> Self {
        Self {
            config,
            online: None,
            last_tid: 0,
            requests: BTreeMap::new(),
            request_bytes: 0,
            subscriptions: BTreeMap::new(),
            map_asked: false,
            renewal: Timer::STOPPED,
            outputs: VecDeque::new(),
        }
    }

    /// Asks for the monitor map; [`Event::Map`] answers.
    ///
    /// # Errors
    ///
    /// [`Busy`] above the limits.
    pub fn get_map(&mut self, now: Instant) -> Result<Tid, Busy> {
        self.request(now, Request::Map)
    }

    /// Asks how new a map is; [`Event::Version`] answers, or nobody if the monitor does not know the map.
    ///
    /// # Errors
    ///
    /// [`Busy`] above the limits.
    pub fn get_version(&mut self, now: Instant, what: impl Into<String>) -> Result<Tid, Busy> {
        self.request(now, Request::Version(what.into()))
    }

    /// Runs a command, given as JSON; [`Event::Command`] answers.
    ///
    /// Without an fsid in the configuration it waits for a map, which tells it; the map is asked for if need be.
    /// It is sent again after a lost connection, so it may run twice.
    ///
    /// # Errors
    ///
    /// [`Busy`] above the limits.
    pub fn command(
        &mut self,
        now: Instant,
        json: impl Into<Bytes>,
        input: impl Into<Bytes>,
    ) -> Result<Tid, Busy> {
        self.request(now, Request::Command { command: json.into(), input: input.into() })
    }

    /// Asks how full the cluster is, or one pool; [`Event::StatFs`] answers.
    ///
    /// Without an fsid in the configuration it waits for a map, as a command does.
    ///
    /// # Errors
    ///
    /// [`Busy`] above the limits.
    pub fn statfs(&mut self, now: Instant, pool: Option<i64>) -> Result<Tid, Busy> {
        self.request(now, Request::StatFs { pool })
    }

    /// Gives up on a request; its answer, should it still come, is dropped.
    pub fn forget(&mut self, tid: Tid) {
        self.take(tid);
    }

    /// Subscribes to a map, or changes from where on it is wanted.
    ///
    /// # Errors
    ///
    /// [`Busy`] above 64 maps.
    pub fn subscribe(&mut self, what: impl Into<String>, subscription: Subscription) -> Result<(), Busy> {
        let what = what.into();
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX && !self.subscriptions.contains_key(&what) {
            return Err(Busy);
        }
        self.subscriptions.insert(what.clone(), subscription);
        if let Some(features) = self.online {
            self.send_subscriptions(features, |name| name == what);
        }
        Ok(())
    }

    /// Notes that `version` of a map has arrived, so that a new connection asks for what follows. Needed for maps that
    /// arrive as [`Event::Other`].
    pub fn has(&mut self, what: &str, version: u64) {
        if let Some(subscription) = self.subscriptions.get_mut(what) {
            if subscription.is_one_time() {
                self.subscriptions.remove(what);
            } else {
                subscription.start = subscription.start.max(version.saturating_add(1));
            }
        }
    }

    /// How many requests are unanswered.
    pub fn unanswered(&self) -> usize {
        self.requests.len()
    }

    fn request(&mut self, now: Instant, request: Request) -> Result<Tid, Busy> {
        let bytes = self.request_bytes.saturating_add(request.bytes());
        if self.requests.len() >= self.config.requests_max || bytes > self.config.request_bytes_max {
            return Err(Busy);
        }
        self.request_bytes = bytes;
        self.last_tid = self.last_tid.wrapping_add(1);
        let tid = Tid(self.last_tid);
        let deadline = now + self.config.request_timeout;
        self.requests.insert(tid, Unanswered { request, deadline });
        if let Some(features) = self.online {
            self.send_request(features, tid);
        }
        Ok(tid)
    }

    fn take(&mut self, tid: Tid) -> Option<Request> {
        let unanswered = self.requests.remove(&tid)?;
        self.request_bytes = self.request_bytes.saturating_sub(unanswered.request.bytes());
        Some(unanswered.request)
    }

    fn send_request(&mut self, features: Features, tid: Tid) {
        let Some(Unanswered { request, .. }) = self.requests.get(&tid) else { return };
        let message = match request {
            request if request.names_cluster() && self.config.fsid.is_nil() => {
                if mem::replace(&mut self.map_asked, true) {
                    return;
                }
                GetMap {}.message(features, 0)
            }
            Request::Map => GetMap {}.message(features, tid.0),
            Request::Version(what) => {
                GetVersion { handle: tid.0, what: what.clone() }.message(features, tid.0)
            }
            Request::Command { command, input } => {
                let (fsid, command, input) = (self.config.fsid, alloc::vec![command.clone()], input.clone());
                Command { fsid, command, input, ..Command::default() }.message(features, tid.0)
            }
            Request::StatFs { pool } => {
                let (fsid, pool) = (self.config.fsid, *pool);
                StatFs { fsid, pool, ..StatFs::default() }.message(features, tid.0)
            }
        };
        self.outputs.push_back(SessionOutput::Send(message));
    }

    fn send_subscriptions(&mut self, features: Features, wanted: impl Fn(&str) -> bool) {
        let chosen = self.subscriptions.iter().filter(|(name, _)| wanted(name));
        let what: BTreeMap<_, _> = chosen.map(|(name, subscription)| (name.clone(), *subscription)).collect();
        if !what.is_empty() {
            let subscribe = Subscribe { what, host: self.config.host.clone() };
            self.outputs.push_back(SessionOutput::Send(subscribe.message(features, 0)));
        }
    }

    fn on_connected(&mut self, features: Features) {
        self.online = Some(features);
        self.map_asked = false;
        self.renewal.stop();
        self.send_subscriptions(features, |_| true);
        self.send_requests(features, |_| true);
    }

    fn send_requests(&mut self, features: Features, wanted: impl Fn(&Request) -> bool) {
        let chosen = self.requests.iter().filter(|(_, unanswered)| wanted(&unanswered.request));
        let tids: Vec<_> = chosen.map(|(tid, _)| *tid).collect();
        for tid in tids {
            self.send_request(features, tid);
        }
    }

    fn on_message(&mut self, now: Instant, message: Message) {
        let event = match message.kind {
            kind if kind == Map::KIND => self.on_map(&message),
            kind if kind == Config::KIND => self.on_config(&message),
            kind if kind == GetVersionReply::KIND => self.on_version(&message),
            kind if kind == CommandAck::KIND => self.on_command_ack(&message),
            kind if kind == StatFsReply::KIND => self.on_statfs(&message),
            kind if kind == SubscribeAck::KIND => self.on_subscribe_ack(now, &message),
            _ => Ok(Some(Event::Other(message))),
        };
        let event = event.unwrap_or_else(|error| Some(Event::Malformed(error)));
        self.outputs.extend(event.map(SessionOutput::Event));
    }

    fn on_map(&mut self, message: &Message) -> Result<Option<Event>, DecodeError> {
        let (map, _) = Map::decode(message)?;
        let decoded = map.map.decode();
        if self.config.fsid.is_nil() {
            self.config.fsid = decoded.fsid;
            if let Some(features) = self.online {
                self.send_requests(features, Request::names_cluster);
            }
        }
        self.has(MONMAP, decoded.epoch.into());
        // The answer to a question and the delivery of a subscription look the same; either answers the question.
        let asked = self.requests.iter().find(|(_, unanswered)| matches!(unanswered.request, Request::Map));
        let tid = asked.map(|(tid, _)| *tid);
        if let Some(tid) = tid {
            self.take(tid);
        }
        Ok(Some(Event::Map(tid, map)))
    }

    fn on_config(&mut self, message: &Message) -> Result<Option<Event>, DecodeError> {
        let (config, _) = Config::decode(message)?;
        // It has no version: a new connection asks for all of it again.
        if self.subscriptions.get(CONFIG).is_some_and(|subscription| subscription.is_one_time()) {
            self.subscriptions.remove(CONFIG);
        }
        Ok(Some(Event::Config(config)))
    }

    fn on_version(&mut self, message: &Message) -> Result<Option<Event>, DecodeError> {
        let (reply, _) = GetVersionReply::decode(message)?;
        let tid = Tid(reply.handle);
        let asked = matches!(self.requests.get(&tid), Some(Unanswered { request: Request::Version(_), .. }));
        Ok(if asked { self.take(tid).map(|_| Event::Version(tid, reply)) } else { None })
    }

    fn on_command_ack(&mut self, message: &Message) -> Result<Option<Event>, DecodeError> {
        let (ack, _) = CommandAck::decode(message)?;
        let tid = Tid(message.tid);
        let asked =
            matches!(self.requests.get(&tid), Some(Unanswered { request: Request::Command { .. }, .. }));
        Ok(if asked { self.take(tid).map(|_| Event::Command(tid, ack)) } else { None })
    }

    fn on_statfs(&mut self, message: &Message) -> Result<Option<Event>, DecodeError> {
        let (reply, _) = StatFsReply::decode(message)?;
        let tid = Tid(message.tid);
        let asked =
            matches!(self.requests.get(&tid), Some(Unanswered { request: Request::StatFs { .. }, .. }));
        Ok(if asked { self.take(tid).map(|_| Event::StatFs(tid, reply)) } else { None })
    }

    fn on_subscribe_ack(&mut self, now: Instant, message: &Message) -> Result<Option<Event>, DecodeError> {
        let (ack, _) = SubscribeAck::decode(message)?;
        // At least a second, so that a monitor which says 0 is not asked without pause.
        let half = Duration::from_secs(u64::from(ack.interval_secs / 2).max(1));
        self.renewal.set(now + half);
        Ok(None)
    }
}

impl Machine for Session {
    type Input = SessionInput;
    type Output = SessionOutput;

    fn handle(&mut self, now: Instant, input: SessionInput) {
        match input {
            SessionInput::Connected(features) => self.on_connected(features),
            SessionInput::Message(message) if self.online.is_some() => self.on_message(now, message),
            // What arrives behind a lost connection belongs to nobody.
            SessionInput::Message(_) => {}
            SessionInput::Disconnected => {
                self.online = None;
                self.renewal.stop();
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let late = self.requests.iter().filter(|(_, unanswered)| unanswered.deadline <= now);
        let late: Vec<_> = late.map(|(tid, _)| *tid).collect();
        for tid in late {
            self.take(tid);
            self.outputs.push_back(SessionOutput::Event(Event::TimedOut(tid)));
        }
        if self.renewal.take_expired(now)
            && let Some(features) = self.online
        {
            self.send_subscriptions(features, |_| true);
        }
    }

    fn poll_output(&mut self) -> Option<SessionOutput> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let request = self.requests.values().map(|unanswered| unanswered.deadline).min();
        [request, self.renewal.deadline()].into_iter().flatten().min()
    }
}
