//! A bucket from one node to another: [`Replicas`] serves those who follow, [`Follow`] follows.

use core::future::poll_fn;
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use cuttlebone_driver::{Connection, DriverLimits, dial, nonce};
use cuttlebone_http::status::{ConnectionStatus, Direction, SourceState};
use cuttlebone_link::{DialConfig, Event, Timing};
use cuttlebone_replica::{Consumer, KIND, Limits, Producer};
use cuttlebone_wire::{EntityAddr, Message};
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::bound::{BACKFILL, Bound, Permit};
use crate::builder::missing;
use crate::clock::until;
use crate::error::chain;
use crate::part::{Callers, Guest, Guests, Plan, Running, Sink, Source};
use crate::{BuildError, Error, Ground, NodeBucket, NodeDisk};

/// What the ids of nodes begin with when they follow another one. A node greets nobody else, and a node that follows
/// says nothing before it is greeted: so no stock daemon ever sees a message of ours that it does not know.
const PREFIX: &str = "cuttlebone.";
/// Replicas that are served at once: each has a thread.
const REPLICAS_MAX: usize = 16;
/// For how many of them the disk is read at once, unless it is told otherwise.
const BACKFILLS_MAX: u32 = 2;
/// How long one of them may keep its turn without taking anything, unless it is told otherwise.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// How long a node that was dialled may take to greet.
const GREET_WITHIN: Duration = Duration::from_secs(10);
/// How long to wait before the next attempt, at first and at most.
const RETRY: core::ops::RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(5);

/// Serves the node's bucket to nodes that [`Follow`] it.
///
/// A replica that needs what is no longer in memory holds a token of the name `backfill` while the disk is read for it. One
/// that hangs meanwhile gives its turn to the next, and gets in line again when it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Replicas {
    limits: Limits,
    backfills_max: u32,
    stuck_after: Duration,
}

impl Default for Replicas {
    fn default() -> Self {
        Self { limits: Limits::default(), backfills_max: BACKFILLS_MAX, stuck_after: STUCK_AFTER }
    }
}

impl Replicas {
    /// With the usual limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// How much may be on its way to each replica.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// For how many replicas the disk may be read at once. Default 2.
    #[must_use]
    pub fn backfills_max(self, backfills_max: u32) -> Self {
        Self { backfills_max, ..self }
    }

    /// How long a replica for which the disk is read may leave everything unapplied that was sent to it, before another one
    /// has its turn. Default 10 s.
    #[must_use]
    pub fn stuck_after(self, stuck_after: Duration) -> Self {
        Self { stuck_after, ..self }
    }
}

impl Sink for Replicas {
    fn name(&self) -> &'static str {
        "replicas"
    }

    fn callers(&self) -> Callers {
        Callers::Named(PREFIX.into())
    }

    fn check(&self, plan: &Plan) -> Result<(), BuildError> {
        if plan.bucket { Ok(()) } else { Err(missing(self.name(), "a bucket to serve")) }
    }

    fn run(self: Box<Self>, ground: Ground, mut guests: Guests) -> Running {
        Box::pin(async move {
            let Some(bucket) = ground.bucket().cloned() else { return Ok(()) };
            let places = Arc::new(Semaphore::new(REPLICAS_MAX));
            let backfills = Arc::new(Bound::new(&ground, BACKFILL, self.backfills_max));
            loop {
                let guest = tokio::select! {
                    guest = guests.next() => guest,
                    () = ground.stopping() => return Ok(()),
                };
                let Some(guest) = guest else { return Ok(()) };
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    tracing::warn!(part = ground.part(), limit = REPLICAS_MAX, "too many replicas");
                    continue;
                };
                let (ground, bucket, knobs) = (ground.clone(), bucket.clone(), *self);
                let backfills = Arc::clone(&backfills);
                // On a thread that may wait: what is no longer in memory is read from the disk.
                let runtime = Handle::current();
                tokio::task::spawn_blocking(move || {
                    runtime.block_on(serve(guest, bucket, knobs, &backfills, &ground));
                    drop(place);
                });
            }
        })
    }
}

/// One replica, until its link is closed or the node stops.
async fn serve(guest: Guest, bucket: NodeBucket, knobs: Replicas, backfills: &Bound, ground: &Ground) {
    let Guest { ready, connection } = guest;
    let replica =
        ready.peer_name.map_or_else(String::new, |name| name.id[PREFIX.len().min(name.id.len())..].into());
    let address = ready.peer_addrs.to_string();
    tracing::info!(part = ground.part(), replica, address, "a replica has come");
    let _shown = ground.connection(ConnectionStatus {
        peer: replica.clone(),
        address,
        direction: Direction::Accepted,
        purpose: "replication".into(),
        age_ms: 0,
    });
    let mut producer = Producer::new(bucket, &replica, knobs.limits);
    let (outbox, mut inbox) = connection.split();
    let mut next: Option<Message> = None;
    let mut turn = BackfillTurn::default();
    let mut moved = Instant::now();
    let why = loop {
        turn.is_needed(producer.is_backfill(), backfills);
        let is_waited_for = next.is_some() || producer.windows().any(|(_, bytes)| bytes > 0);
        tokio::select! {
            message = poll_fn(|cx| producer.poll_message(cx)), if next.is_none() && turn.has_come() => {
                next = Some(message);
            }
            over = turn.changed() => match over {
                Ok(()) => moved = Instant::now(),
                Err(why) => break Some(why),
            },
            () = sleep_until(moved + knobs.stuck_after), if turn.is_held() && is_waited_for => {
                tracing::warn!(part = ground.part(), replica, "a replica takes nothing; its turn goes to the next");
                turn = BackfillTurn::Lapsed;
            }
            // A clone shares the bytes; dropped half-way, nothing of it is sent, and it is tried again.
            sent = outbox.send(next.clone().unwrap_or_default()), if next.is_some() => match sent {
                Ok(()) => {
                    next = None;
                    moved = Instant::now();
                    turn.goes_on();
                }
                Err(_) => break None,
            },
            event = inbox.recv() => match event {
                Some(Event::Message(message)) if message.kind == KIND => {
                    moved = Instant::now();
                    turn.goes_on();
                    if let Err(error) = producer.handle(&message) {
                        break Some(chain(&error));
                    }
                }
                Some(Event::Message(_) | Event::Ready(_) | Event::Lost(_) | Event::Reset) => {}
                Some(Event::Closed(how)) => break how.err().map(|error| chain(&error)),
                None => break None,
            },
            () = ground.stopping() => break None,
        }
    };
    tracing::info!(part = ground.part(), replica, why = why.as_deref(), "a replica has gone");
}

/// A replica's right to have the disk read for it: waited for while it needs one, given back when it does not.
#[derive(Default)]
enum BackfillTurn<'a> {
    #[default]
    NotNeeded,
    Waiting(BoxFuture<'a, Result<Permit, Error>>),
    /// With what ends when it is taken back.
    Held(#[expect(dead_code, reason = "held until it is dropped")] Permit, BoxFuture<'static, ()>),
    /// Given back since the replica hangs. What was sent to it is still to be taken, so it is heard of when it goes on.
    Lapsed,
}

impl<'a> BackfillTurn<'a> {
    fn is_needed(&mut self, is_needed: bool, backfills: &'a Bound) {
        match self {
            Self::NotNeeded if is_needed => *self = Self::Waiting(Box::pin(backfills.permit())),
            Self::Waiting(_) | Self::Held(..) | Self::Lapsed if !is_needed => *self = Self::NotNeeded,
            _ => {}
        }
    }

    const fn has_come(&self) -> bool {
        !matches!(self, Self::Waiting(_) | Self::Lapsed)
    }

    const fn is_held(&self) -> bool {
        matches!(self, Self::Held(..))
    }

    /// The replica has moved: if it had lost its turn, it stands in line again.
    fn goes_on(&mut self) {
        if matches!(self, Self::Lapsed) {
            *self = Self::NotNeeded;
        }
    }

    /// Ends when it has come, or with the reason why the replica has to go. Cancel safe.
    async fn changed(&mut self) -> Result<(), String> {
        match self {
            Self::NotNeeded | Self::Lapsed => core::future::pending().await,
            Self::Waiting(permit) => {
                let permit = permit.await.map_err(|error| chain(&error))?;
                let fenced = permit.fenced();
                *self = Self::Held(permit, Box::pin(fenced));
                Ok(())
            }
            Self::Held(_, fenced) => {
                fenced.await;
                Err("its turn to have the disk read was taken back".into())
            }
        }
    }
}

/// Follows another node's bucket: every vbucket that it serves becomes a replica here.
#[derive(Clone, Debug)]
pub struct Follow {
    origin: SocketAddr,
    limits: Limits,
}

impl Follow {
    /// The node that listens there.
    pub fn node(origin: SocketAddr) -> Self {
        Self { origin, limits: Limits::default() }
    }

    /// How much may wait here.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }
}

impl Source for Follow {
    fn name(&self) -> &'static str {
        "follow"
    }

    fn check(&self, plan: &Plan) -> Result<(), BuildError> {
        if plan.bucket { Ok(()) } else { Err(missing(self.name(), "a bucket to follow into")) }
    }

    fn run(self: Box<Self>, ground: Ground) -> Running {
        Box::pin(async move {
            tokio::select! {
                () = self.follow(&ground) => {}
                () = ground.stopping() => {}
            }
            ground.source(|source| source.state = SourceState::Ended);
            Ok(())
        })
    }
}

impl Follow {
    /// One link after another.
    async fn follow(&self, ground: &Ground) {
        let Some(bucket) = ground.bucket() else { return };
        let mut pause = *RETRY.start();
        loop {
            ground.source(|source| {
                source.state = SourceState::Connecting;
                source.peer = Some(self.origin.to_string());
            });
            let mut consumer = Consumer::new(bucket.clone(), self.limits);
            let error = self.follow_once(&mut consumer, ground).await;
            let text = chain(&error);
            tracing::info!(part = ground.part(), origin = %self.origin, error = text, "the link to the origin is lost");
            ground.source(|source| {
                source.failures_total += 1;
                source.last_error = Some(text);
            });
            if consumer.is_greeted() {
                pause = *RETRY.start();
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(*RETRY.end());
        }
    }

    /// One link, until it ends; how it did.
    async fn follow_once(&self, consumer: &mut Consumer<NodeDisk>, ground: &Ground) -> Error {
        let id = format!("{PREFIX}{}", ground.node());
        let mut config = DialConfig::client(id, EntityAddr::v2(self.origin), nonce());
        // The next attempt is ours to make.
        config.timing = Timing { give_up_after: Duration::ZERO, ..config.timing };
        let (connection, driver) = dial(config, self.origin, DriverLimits::default());
        let driver = tokio::spawn(driver);
        let ended = converse(connection, consumer, ground).await;
        driver.abort();
        ended
    }
}

async fn converse(connection: Connection, consumer: &mut Consumer<NodeDisk>, ground: &Ground) -> Error {
    let (outbox, mut inbox) = connection.split();
    let clock = ground.clock();
    let greet_by = Instant::now() + GREET_WITHIN;
    let mut next: Option<Message> = None;
    loop {
        if next.is_none() {
            next = consumer.poll_message();
        }
        let wake = consumer.poll_timeout();
        let handled = tokio::select! {
            sent = outbox.send(next.clone().unwrap_or_default()), if next.is_some() => match sent {
                Ok(()) => {
                    next = None;
                    continue;
                }
                Err(_) => return Error::LinkClosed,
            },
            event = inbox.recv() => match event {
                Some(Event::Message(message)) if message.kind == KIND => {
                    let bytes = message.payload_bytes() as u64;
                    ground.source(|source| source.bytes_total += bytes);
                    consumer.handle(ground.now(), &message)
                }
                Some(Event::Message(_) | Event::Ready(_) | Event::Lost(_) | Event::Reset) => continue,
                Some(Event::Closed(Err(error))) => return Error::Link(error),
                Some(Event::Closed(Ok(()))) | None => return Error::LinkClosed,
            },
            () = until(&clock, wake) => consumer.handle_timeout(ground.now()),
            () = sleep_until(greet_by), if !consumer.is_greeted() => {
                return Error::NoAnswer { what: "greeting of a node", after: GREET_WITHIN };
            }
        };
        if let Err(error) = handled {
            return error.into();
        }
        if consumer.was_current() {
            ground.source(|source| {
                source.state = SourceState::Following;
                source.last_error = None;
            });
            ground.ready();
        } else if consumer.is_greeted() {
            ground.source(|source| source.state = SourceState::Copying);
        }
    }
}
