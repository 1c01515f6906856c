use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::mem;

use cuttlebone_machine::{Entropy, Instant, Machine, Timer};
use cuttlebone_wire::EntityInst;

use super::LeaderConfig;
use super::message::{Flags, Message, Op};

/// Gives requesters permission, picks their providers, and holds off trimming until they are done.
///
/// Every monitor has one: it forwards what it is asked while another one leads.
///
/// ```text
///           start: granted              finish, abort, silence          30 s
/// (nobody) ─────────────────▶ holding ───────────────────────▶ cooling ──────▶ (nobody)
///     ▲                         │ ▲ heartbeat: answered           │ start: try again
///     └── not the leader any ───┘ └┘                              └┘
///         more: abort to all
/// ```
pub struct Leader<E> {
    config: LeaderConfig,
    me: EntityInst,
    entropy: E,
    standing: Standing,
    trim_due: Trim,
    /// Who is synchronising, and when we stop believing it.
    requesters: BTreeMap<Key, (EntityInst, Timer)>,
    /// Runs from the end of the last synchronisation until trimming is allowed again.
    cooling: Timer,
    outputs: VecDeque<LeaderOutput>,
}

/// What orders entities: name, then address.
type Key = (cuttlebone_wire::EntityNum, cuttlebone_wire::EntityAddr);

pub(crate) fn key(inst: &EntityInst) -> Key {
    (inst.name, inst.addr.clone())
}

/// Where this monitor stands among the others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "every match has to choose")]
pub enum Standing {
    /// There is no quorum, and whoever is asked acts as leader.
    NoQuorum,
    /// It leads this quorum, which it is part of.
    Leader {
        /// All members.
        quorum: Vec<EntityInst>,
    },
    /// Another one leads.
    Peon {
        /// That one.
        leader: EntityInst,
    },
    /// It is a requester itself.
    Synchronizing {
        /// Who gave it permission, once somebody has.
        leader: Option<EntityInst>,
    },
}

/// Whether old versions may be, or are about to be, trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "yes and no, by name")]
pub enum Trim {
    /// As an input: there is enough to trim. As an output: trim as you like.
    Now,
    /// As an input: there is not. As an output: hold off, as long as the log does not grow without bounds.
    Later,
}

/// What a leader is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to know all it can say")]
pub enum LeaderInput {
    /// A monitor sent this.
    Message {
        /// Who.
        from: EntityInst,
        /// What.
        message: Message,
    },
    /// An election ended, or a synchronisation of our own began or ended.
    Standing(Standing),
    /// Whether the log is due to be trimmed; nobody is let in then.
    TrimDue(Trim),
}

/// What a leader wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to carry out every one of them")]
#[expect(clippy::large_enum_variant, reason = "few exist at a time, and messages are most of them")]
pub enum LeaderOutput {
    /// Send this.
    Send {
        /// To whom.
        to: EntityInst,
        /// What.
        message: Message,
    },
    /// Hold off trimming, or do not any more.
    Trim(Trim),
    /// A member of our own quorum asks to be synchronised, so our idea of the quorum is wrong: probe anew.
    Bootstrap,
}

impl<E: Entropy> Leader<E> {
    /// A leader that nobody has asked anything. `me` is how others know this monitor.
    pub fn new(config: LeaderConfig, me: EntityInst, entropy: E) -> Self {
        Self {
            config,
            me,
            entropy,
            standing: Standing::NoQuorum,
            trim_due: Trim::Later,
            requesters: BTreeMap::new(),
            cooling: Timer::STOPPED,
            outputs: VecDeque::new(),
        }
    }

    /// How many are synchronising under our eyes.
    pub fn requesters(&self) -> usize {
        self.requesters.len()
    }

    fn start(&mut self, now: Instant, from: EntityInst, message: Message) {
        // Our own question, come back to us.
        if message.reply_to() == Some(&self.me) {
            return;
        }
        match &self.standing {
            Standing::Peon { leader } | Standing::Synchronizing { leader: Some(leader) } => {
                self.forward(leader.clone(), &from, message);
            }
            // Nobody to forward to; the requester asks again.
            Standing::Synchronizing { leader: None } => {}
            Standing::NoQuorum => {
                let requester = message.reply_to().cloned().unwrap_or(from);
                if self.admit(now, &requester) {
                    // Without a provider in it, the requester takes the one who answers.
                    self.send(requester, Message::new(Op::StartReply));
                }
            }
            Standing::Leader { quorum } => {
                let quorum = quorum.clone();
                self.grant(now, &quorum, from, &message);
            }
        }
    }

    /// Passes a question on. It keeps its first origin.
    fn forward(&mut self, leader: EntityInst, from: &EntityInst, message: Message) {
        let origin = message.reply_to().cloned().unwrap_or_else(|| from.clone());
        // Two monitors that believe in each other would otherwise play it back and forth for ever.
        if origin != leader && *from != leader {
            self.send(leader, message.with_reply_to(origin));
        }
    }

    fn grant(&mut self, now: Instant, quorum: &[EntityInst], from: EntityInst, message: &Message) {
        let requester = message.reply_to().cloned();
        let forwarded = requester.is_some();
        let requester = requester.unwrap_or_else(|| from.clone());
        let known = quorum.contains(&from);
        if known && !forwarded {
            self.send(requester, Message::new(Op::Abort));
            self.outputs.push_back(LeaderOutput::Bootstrap);
            return;
        }
        if !self.admit(now, &requester) {
            return;
        }
        let provider = if known { from } else { self.pick(quorum, &requester) };
        self.send(requester, Message::new(Op::StartReply).with_reply_to(provider));
    }

    /// Takes a requester in, or tells it to try again later.
    ///
    /// One that is known has restarted; history ignored it until its old self had timed out.
    fn admit(&mut self, now: Instant, requester: &EntityInst) -> bool {
        let leads = matches!(self.standing, Standing::Leader { .. });
        let known = self.requesters.contains_key(&key(requester));
        let full = !known && self.requesters.len() >= self.config.requesters_max;
        // While others are at it, trimming is held off already and one more does no harm.
        let trimming = leads && self.requesters.is_empty() && self.trim_due == Trim::Now;
        if full || trimming || self.cooling.deadline().is_some() {
            self.send(requester.clone(), Message::new(Op::StartReply).with_flags(Flags::RETRY));
            return false;
        }
        if self.requesters.is_empty() {
            self.outputs.push_back(LeaderOutput::Trim(Trim::Later));
        }
        let mut expiry = Timer::STOPPED;
        expiry.set(now + self.config.trim_timeout);
        self.requesters.insert(key(requester), (requester.clone(), expiry));
        true
    }

    /// A random member of the quorum other than ourselves, if there is one, and never the requester.
    fn pick(&mut self, quorum: &[EntityInst], requester: &EntityInst) -> EntityInst {
        let others: Vec<_> =
            quorum.iter().filter(|inst| **inst != self.me && *inst != requester).cloned().collect();
        let count = u64::try_from(others.len()).unwrap_or(u64::MAX);
        let index = usize::try_from(self.entropy.below(count)).unwrap_or(0);
        others.get(index).cloned().unwrap_or_else(|| self.me.clone())
    }

    fn heartbeat(&mut self, now: Instant, from: EntityInst) {
        // From a stranger it is dropped: our permission was given by somebody else, or has lapsed.
        if let Some((_, expiry)) = self.requesters.get_mut(&key(&from)) {
            expiry.set(now + self.config.trim_timeout);
            self.send(from, Message::new(Op::HeartbeatReply));
        }
    }

    fn finish(&mut self, now: Instant, from: EntityInst) {
        self.forget(now, &key(&from));
        // A stranger gets an answer too: it is one whose first answer was lost.
        self.send(from, Message::new(Op::FinishReply));
    }

    fn forget(&mut self, now: Instant, requester: &Key) {
        if self.requesters.remove(requester).is_some() && self.requesters.is_empty() {
            self.cooling.set(now + self.config.trim_delay);
        }
    }

    fn stand(&mut self, standing: Standing) {
        let leads = matches!(standing, Standing::Leader { .. } | Standing::NoQuorum);
        self.standing = standing;
        if leads {
            return;
        }
        let requesters = mem::take(&mut self.requesters);
        let held = !requesters.is_empty() || self.cooling.deadline().is_some();
        self.cooling.stop();
        for (requester, _) in requesters.into_values() {
            self.send(requester, Message::new(Op::Abort));
        }
        if held {
            self.outputs.push_back(LeaderOutput::Trim(Trim::Now));
        }
    }

    fn send(&mut self, to: EntityInst, message: Message) {
        self.outputs.push_back(LeaderOutput::Send { to, message });
    }
}

impl<E: Entropy> Machine for Leader<E> {
    type Input = LeaderInput;
    type Output = LeaderOutput;

    fn handle(&mut self, now: Instant, input: LeaderInput) {
        match input {
            LeaderInput::Standing(standing) => self.stand(standing),
            LeaderInput::TrimDue(trim) => self.trim_due = trim,
            LeaderInput::Message { from, message } => match message.op {
                Op::Start => self.start(now, from, message),
                Op::Heartbeat => self.heartbeat(now, from),
                Op::Finish => self.finish(now, from),
                Op::Abort => self.forget(now, &key(&from)),
                // Meant for another role.
                Op::StartReply
                | Op::HeartbeatReply
                | Op::StartChunks
                | Op::Chunk
                | Op::ChunkReply
                | Op::FinishReply => {}
            },
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let expired = |expiry: &Timer| expiry.deadline().is_some_and(|deadline| deadline <= now);
        while let Some(requester) =
            self.requesters.iter().find(|(_, (_, expiry))| expired(expiry)).map(|(key, _)| key.clone())
        {
            self.forget(now, &requester);
        }
        if self.cooling.take_expired(now) {
            self.outputs.push_back(LeaderOutput::Trim(Trim::Now));
        }
    }

    fn poll_output(&mut self) -> Option<LeaderOutput> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Timer::earliest(self.requesters.values().map(|(_, expiry)| *expiry).chain([self.cooling]))
    }
}

impl<E> fmt::Debug for Leader<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader")
            .field("standing", &self.standing)
            .field("requesters", &self.requesters)
            .field("cooling", &self.cooling)
            .finish_non_exhaustive()
    }
}
