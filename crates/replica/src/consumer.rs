use std::collections::{BTreeMap, VecDeque};

use cuttlebone_bucket::engine::Engine;
use cuttlebone_bucket::{Bucket, Event, Now, Position, VbucketId, VbucketState};
use cuttlebone_checkpoint::Seqno;
use cuttlebone_machine::{Instant, Timer};
use cuttlebone_wire::Message;

use crate::record::body_bytes;
use crate::{Error, Frame, Limits};

/// The replica's side of one link: asks for every vbucket of the producer, and applies what comes.
///
/// Everything that outlasts a link is in the bucket, so each link has a consumer of its own. After
/// [`handle`](Self::handle) and [`handle_timeout`](Self::handle_timeout) poll for messages and for the next time-out.
#[derive(Debug)]
pub struct Consumer<E: Engine> {
    bucket: Bucket<E>,
    limits: Limits,
    greeted: bool,
    next_stream: u64,
    streams: BTreeMap<VbucketId, Receiving>,
    outbox: VecDeque<Frame>,
}

#[derive(Debug)]
struct Receiving {
    stream: u64,
    /// Events that are applied, of this stream.
    applied: u64,
    /// Events that found no room yet.
    waiting: Waiting,
    /// When they, or a stream that was refused, are tried again.
    retry: Timer,
    /// Whether the stream is over, and the retry asks for another one.
    over: bool,
    /// Streams that broke since anything was applied.
    faults: u32,
    /// Whether it once had everything there was, over this link.
    was_current: bool,
    state: Following,
}

/// How far one vbucket follows its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all the cases")]
pub enum Following {
    /// What comes is applied.
    Streaming,
    /// Memory is full or the disk is behind: what came waits.
    Held,
    /// The stream has ended; another one is asked for.
    Resuming,
    /// The vbucket is not a replica here, so nothing of it is asked for: two nodes would both own it.
    Foreign,
}

impl<E: Engine> Consumer<E> {
    /// Follows whoever greets, into `bucket`.
    pub fn new(bucket: Bucket<E>, limits: Limits) -> Self {
        Self {
            bucket,
            limits,
            greeted: false,
            next_stream: 1,
            streams: BTreeMap::new(),
            outbox: VecDeque::new(),
        }
    }

    /// Takes in what the producer says.
    ///
    /// # Errors
    ///
    /// The peer's fault, or what it sends does not fit however often it starts anew: end the link. What was applied
    /// stays applied.
    pub fn handle(&mut self, now: Now, message: &Message) -> Result<(), Error> {
        match Frame::from_message(message)? {
            Frame::Hello { vbuckets } if !self.greeted => {
                let limit = self.limits.vbuckets_max;
                if vbuckets.len() > limit {
                    return Err(Error::TooMuch { what: "vbuckets", limit });
                }
                self.greeted = true;
                for vbucket in vbuckets {
                    self.meet(now, vbucket);
                }
                Ok(())
            }
            Frame::Events { vbucket, stream, events } => {
                let limits = self.limits;
                let Some(receiving) = self.current(vbucket, stream) else { return Ok(()) };
                receiving.waiting.extend(events, &limits)?;
                self.apply(now, vbucket)
            }
            Frame::Current { vbucket, stream } => {
                if let Some(receiving) = self.current(vbucket, stream) {
                    receiving.was_current = true;
                }
                Ok(())
            }
            Frame::Over { vbucket, stream, .. } => {
                let retry_at = now.at + self.limits.resume_after;
                if let Some(receiving) = self.current(vbucket, stream) {
                    receiving.end(retry_at);
                }
                Ok(())
            }
            other => Err(Error::Unexpected { got: other.name() }),
        }
    }

    /// Tries again what is due.
    ///
    /// # Errors
    ///
    /// As [`handle`](Self::handle).
    pub fn handle_timeout(&mut self, now: Now) -> Result<(), Error> {
        let due = |receiving: &Receiving| receiving.retry.deadline().is_some_and(|at| at <= now.at);
        let due: Vec<_> = self.streams.iter().filter(|(_, it)| due(it)).map(|(id, _)| *id).collect();
        for vbucket in due {
            let Some(receiving) = self.streams.get_mut(&vbucket) else { continue };
            receiving.retry.stop();
            if receiving.over {
                self.follow(vbucket, None);
            } else {
                self.apply(now, vbucket)?;
            }
        }
        Ok(())
    }

    /// The next message for the producer.
    pub fn poll_message(&mut self) -> Option<Message> {
        self.outbox.pop_front().map(|frame| frame.to_message())
    }

    /// When [`handle_timeout`](Self::handle_timeout) has to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.streams.values().filter_map(|receiving| receiving.retry.deadline()).min()
    }

    /// Whether the peer has said that it is a producer.
    pub const fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Whether everything that the producer had when it greeted is here: a node may say that it serves.
    pub fn was_current(&self) -> bool {
        let counts = |receiving: &&Receiving| receiving.state != Following::Foreign;
        self.greeted && self.streams.values().filter(counts).all(|receiving| receiving.was_current)
    }

    /// How each vbucket of the producer is doing.
    pub fn following(&self) -> impl Iterator<Item = (VbucketId, Following)> {
        self.streams.iter().map(|(vbucket, receiving)| (*vbucket, receiving.state))
    }

    /// A vbucket that the producer serves: made here as a replica if it is new.
    fn meet(&mut self, now: Now, vbucket: VbucketId) {
        // If two links made it at the same time, it is there now; its state is looked at next.
        let _ = self.bucket.create(vbucket, now, VbucketState::Replica);
        let state = if self.is_replica(vbucket) { Following::Resuming } else { Following::Foreign };
        self.streams.insert(vbucket, Receiving::new(state));
        if state == Following::Resuming {
            self.follow(vbucket, None);
        }
    }

    fn is_replica(&self, vbucket: VbucketId) -> bool {
        self.bucket.status(vbucket).is_ok_and(|status| status.state == VbucketState::Replica)
    }

    fn current(&mut self, vbucket: VbucketId, stream: u64) -> Option<&mut Receiving> {
        self.streams.get_mut(&vbucket).filter(|known| known.stream == stream && !known.over)
    }

    /// Asks for everything after where the bucket stands, or after `position`.
    fn follow(&mut self, vbucket: VbucketId, position: Option<Position>) {
        let stream = self.next_stream;
        let Some(receiving) = self.streams.get_mut(&vbucket) else { return };
        let Ok(here) = self.bucket.position(vbucket) else {
            receiving.state = Following::Foreign;
            return;
        };
        self.next_stream += 1;
        receiving.begin(stream);
        let position = position.unwrap_or(here);
        self.outbox
            .retain(|frame| !matches!(frame, Frame::Applied { vbucket: other, .. } if *other == vbucket));
        self.outbox.push_back(Frame::Follow { vbucket, stream, position });
    }

    /// Applies what waits, as far as there is room for it, and tells how far that is.
    fn apply(&mut self, now: Now, vbucket: VbucketId) -> Result<(), Error> {
        let Some(receiving) = self.streams.get_mut(&vbucket) else { return Ok(()) };
        let before = receiving.applied;
        let mut outcome = Ok(());
        while let Some(event) = receiving.waiting.pop() {
            // A clone shares the bytes.
            match self.bucket.apply(vbucket, now, event.clone()) {
                Ok(()) => {
                    receiving.applied += 1;
                    if matches!(event, Event::Item(item) if item.seqno() > Seqno(0)) {
                        receiving.faults = 0;
                    }
                }
                Err(error) => {
                    receiving.waiting.put_back(event);
                    outcome = Err(error);
                    break;
                }
            }
        }
        let (stream, events) = (receiving.stream, receiving.applied);
        if events > before {
            // One that was not sent yet says less than this one.
            self.outbox
                .retain(|frame| !matches!(frame, Frame::Applied { vbucket: other, .. } if *other == vbucket));
            self.outbox.push_back(Frame::Applied { vbucket, stream, events });
        }
        match outcome {
            Ok(()) => {
                receiving.state = Following::Streaming;
                Ok(())
            }
            Err(error) if error.is_retryable() => {
                receiving.state = Following::Held;
                receiving.retry.set(now.at + self.limits.retry_after);
                Ok(())
            }
            Err(cuttlebone_bucket::Error::NotMyVbucket) => {
                // Somebody made it ours while we followed.
                receiving.state = Following::Foreign;
                receiving.waiting.clear();
                Ok(())
            }
            Err(error) => self.broken(vbucket, error),
        }
    }

    /// What came does not fit: once from where we are, and then from nothing.
    fn broken(&mut self, vbucket: VbucketId, error: cuttlebone_bucket::Error) -> Result<(), Error> {
        let Some(receiving) = self.streams.get_mut(&vbucket) else { return Ok(()) };
        receiving.faults += 1;
        if receiving.faults >= self.limits.faults_max {
            return Err(Error::Broken { vbucket, times: receiving.faults, source: error });
        }
        let position = (receiving.faults > 1).then(Position::default);
        self.follow(vbucket, position);
        Ok(())
    }
}

/// Events in order, and the bytes of their keys and values.
#[derive(Debug)]
struct Waiting {
    events: VecDeque<Event>,
    bytes: usize,
}

impl Waiting {
    const fn new() -> Self {
        Self { events: VecDeque::new(), bytes: 0 }
    }

    fn extend(&mut self, events: Vec<Event>, limits: &Limits) -> Result<(), Error> {
        let (count, bytes) = (self.events.len() + events.len(), events.iter().map(body_bytes).sum::<usize>());
        let bytes = self.bytes.saturating_add(bytes);
        if count > limits.waiting_events_max {
            return Err(Error::TooMuch {
                what: "events that wait to be applied",
                limit: limits.waiting_events_max,
            });
        }
        if bytes > limits.waiting_bytes_max {
            return Err(Error::TooMuch {
                what: "bytes that wait to be applied",
                limit: limits.waiting_bytes_max,
            });
        }
        self.events.extend(events);
        self.bytes = bytes;
        Ok(())
    }

    fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.bytes -= body_bytes(&event);
        Some(event)
    }

    fn put_back(&mut self, event: Event) {
        self.bytes += body_bytes(&event);
        self.events.push_front(event);
    }

    fn clear(&mut self) {
        *self = Self::new();
    }
}

impl Receiving {
    const fn new(state: Following) -> Self {
        Self {
            stream: 0,
            applied: 0,
            waiting: Waiting::new(),
            retry: Timer::STOPPED,
            over: true,
            faults: 0,
            was_current: false,
            state,
        }
    }

    /// Another stream takes the place of this one.
    fn begin(&mut self, stream: u64) {
        self.stream = stream;
        self.applied = 0;
        self.waiting.clear();
        self.retry.stop();
        self.over = false;
        self.state = Following::Resuming;
    }

    /// The stream is over. What it sent and found no room is sent again by the next one.
    fn end(&mut self, retry_at: Instant) {
        self.over = true;
        self.waiting.clear();
        self.retry.set(retry_at);
        self.state = Following::Resuming;
    }
}
