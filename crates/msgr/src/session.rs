use alloc::collections::VecDeque;
use core::fmt;

use cuttlebone_machine::Entropy;
use cuttlebone_wire::{EntityAddr, EntityAddrs, Features, Message};

use crate::{ClientIdent, Error, Limits, MessageHeader, Opening, OpeningReply, Reconnect, ServerIdent};

/// What happens to a session when its connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a session does or does not survive")]
pub enum Policy {
    /// It ends, with everything that was under way.
    Lossy,
    /// It goes on over the next connection; every message arrives once and in order.
    Lossless,
}

/// How a session came to be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a session is one or the other")]
pub enum Start {
    /// It is new: the peer knows nothing of what was before.
    Fresh,
    /// It goes on where the lost connection left it.
    Resumed,
}

/// What an answer to an opening leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever opens has to carry out every one of them")]
pub enum Progress {
    /// The session is open.
    Open(Start),
    /// Another session is open in place of the one that there was: the peer has lost that, and all that was under way.
    Forgotten,
    /// Send another [opening](Session::opening) on the same connection.
    Again,
    /// Close, and dial again later.
    Wait,
}

/// What to do with a message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a message is new or not")]
pub enum Received {
    /// Hand it up.
    New,
    /// Drop it: it has been handed up before.
    Old,
}

/// What of a session outlives its connections: cookies, counts and the messages that have not been acknowledged.
///
/// Source: `ceph/ceph:src/msg/async/ProtocolV2.cc`; the counts seen in 16.2.15 in both roles.
#[derive(Clone)]
pub struct Session {
    limits: Limits,
    /// What we ask for when we dial.
    asked: Policy,
    /// What holds; the server decides.
    policy: Policy,
    client_cookie: u64,
    /// 0 until a server has granted the session.
    server_cookie: u64,
    /// On the present connection we were told that the session is not known; the cookie of the one that we ask for in its
    /// place. That may be the word of another process that took the place of our peer, so the session lives until
    /// another one is granted by the peer's own address.
    disowned: Option<u64>,
    /// Attempts to connect, over all sessions that this one replaced.
    global_seq: u64,
    connect_seq: u64,
    opening_retries: u8,
    in_seq: u64,
    out_seq: u64,
    /// The peer has everything of ours up to here.
    acked: u64,
    /// The peer knows that we have everything of theirs up to here.
    acknowledged: u64,
    queued: VecDeque<Message>,
    /// Sent and not acknowledged, with consecutive sequence numbers that end at `out_seq`.
    unacked: VecDeque<Message>,
    /// How many of `unacked`, from the front, have gone out on the present connection.
    replayed: usize,
    held_bytes: usize,
}

impl Session {
    /// A session that is to be opened by us.
    pub fn dialling(policy: Policy, limits: Limits, entropy: &mut dyn Entropy) -> Self {
        let client_cookie = Self::cookie(policy, entropy);
        Self::new(policy, client_cookie, 0, limits)
    }

    /// A session that a client opens with this cookie of its own, and that we grant.
    pub fn accepting(policy: Policy, client_cookie: u64, limits: Limits, entropy: &mut dyn Entropy) -> Self {
        let server_cookie = Self::cookie(policy, entropy);
        Self::new(policy, client_cookie, server_cookie, limits)
    }

    fn cookie(policy: Policy, entropy: &mut dyn Entropy) -> u64 {
        match policy {
            Policy::Lossy => 0,
            Policy::Lossless => entropy.non_zero(),
        }
    }

    const fn new(policy: Policy, client_cookie: u64, server_cookie: u64, limits: Limits) -> Self {
        Self {
            limits,
            asked: policy,
            policy,
            client_cookie,
            server_cookie,
            disowned: None,
            global_seq: 0,
            connect_seq: 0,
            opening_retries: 0,
            in_seq: 0,
            out_seq: 0,
            acked: 0,
            acknowledged: 0,
            queued: VecDeque::new(),
            unacked: VecDeque::new(),
            replayed: 0,
            held_bytes: 0,
        }
    }

    /// What happens when the connection is lost, as the server decided.
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// The server's cookie; 0 for lossy sessions and before one is granted.
    pub const fn server_cookie(&self) -> u64 {
        self.server_cookie
    }

    /// The sequence number of the last message that arrived.
    pub const fn in_seq(&self) -> u64 {
        self.in_seq
    }

    // --- opening, as the dialling side ---

    /// A new connection is about to be opened: counts it.
    pub const fn begin_attempt(&mut self) {
        self.global_seq = self.global_seq.saturating_add(1);
        self.opening_retries = 0;
        self.disowned = None;
        if self.server_cookie != 0 {
            self.connect_seq = self.connect_seq.saturating_add(1);
        }
    }

    /// Whether the present connection is to go on with a session that exists.
    const fn resumes(&self) -> bool {
        self.server_cookie != 0 && self.disowned.is_none()
    }

    /// What to open the session with: `ident` as it would be for a new one, with cookie and counts filled in here.
    pub fn opening(&self, ident: &ClientIdent) -> Opening {
        if self.resumes() {
            return Opening::Resumed(Reconnect {
                addrs: ident.addrs.clone(),
                client_cookie: self.client_cookie,
                server_cookie: self.server_cookie,
                global_seq: self.global_seq,
                connect_seq: self.connect_seq,
                msg_seq: self.in_seq,
            });
        }
        Opening::New(ClientIdent {
            global_seq: self.global_seq,
            lossy: self.asked == Policy::Lossy,
            cookie: self.disowned.unwrap_or(self.client_cookie),
            ..ident.clone()
        })
    }

    /// Takes the server's answer to `ident` or to a reconnect.
    ///
    /// # Errors
    ///
    /// [`Error::MissingFeatures`] and [`Error::NotItsAddress`] if the two cannot work together, and what only a
    /// peer that breaks the protocol causes.
    pub fn on_reply(
        &mut self,
        reply: &OpeningReply,
        ident: &ClientIdent,
        entropy: &mut dyn Entropy,
    ) -> Result<Progress, Error> {
        let resuming = self.resumes();
        match reply {
            OpeningReply::Granted(server) if !resuming => self.on_granted(server, ident),
            OpeningReply::MissingFeatures(features) if !resuming => Err(Error::MissingFeatures(*features)),
            OpeningReply::Resumed(msg_seq) if resuming => {
                self.resume(*msg_seq)?;
                Ok(Progress::Open(Start::Resumed))
            }
            OpeningReply::Reset { full: true } if resuming => {
                self.disowned = Some(Self::cookie(self.asked, entropy));
                Ok(Progress::Again)
            }
            OpeningReply::Reset { full: false } if resuming => {
                self.restart();
                self.server_cookie = 0;
                self.connect_seq = 0;
                self.count_retry()
            }
            OpeningReply::Retry(connect_seq) if resuming => {
                self.connect_seq = connect_seq.saturating_add(1);
                self.count_retry()
            }
            OpeningReply::RetryGlobal(global_seq) if resuming => {
                self.global_seq = self.global_seq.max(*global_seq).saturating_add(1);
                self.count_retry()
            }
            OpeningReply::Wait => Ok(Progress::Wait),
            OpeningReply::Granted(_)
            | OpeningReply::MissingFeatures(_)
            | OpeningReply::Resumed(_)
            | OpeningReply::Reset { .. }
            | OpeningReply::Retry(_)
            | OpeningReply::RetryGlobal(_) => Err(Error::Unexpected {
                stage: if resuming { "resuming a session" } else { "opening a session" },
                got: "the answer to something else",
            }),
        }
    }

    fn on_granted(&mut self, server: &ServerIdent, ident: &ClientIdent) -> Result<Progress, Error> {
        if !server.addrs.0.contains(&ident.target) {
            return Err(Error::NotItsAddress(ident.target.clone()));
        }
        // A server does not check what the client requires (seen in 16.2.15), so the client has to.
        let missing = ident.supported.missing(server.required) | server.supported.missing(ident.required);
        if !missing.is_empty() {
            return Err(Error::MissingFeatures(missing));
        }
        let forgotten = self.disowned.take();
        if let Some(client_cookie) = forgotten {
            self.forget();
            self.client_cookie = client_cookie;
        }
        self.policy = if server.lossy { Policy::Lossy } else { self.asked };
        self.server_cookie = if self.policy == Policy::Lossy { 0 } else { server.cookie };
        self.restart();
        Ok(if forgotten.is_some() { Progress::Forgotten } else { Progress::Open(Start::Fresh) })
    }

    const fn count_retry(&mut self) -> Result<Progress, Error> {
        if self.opening_retries >= self.limits.opening_retries_max {
            return Err(Error::Unsettled(self.opening_retries));
        }
        self.opening_retries = self.opening_retries.saturating_add(1);
        Ok(Progress::Again)
    }

    // --- opening, as the accepting side ---

    /// Grants the session: `ident` with the cookie and the policy filled in. What was queued goes out as new.
    pub fn grant(&mut self, ident: ServerIdent) -> OpeningReply {
        self.restart();
        OpeningReply::Granted(ServerIdent {
            lossy: self.policy == Policy::Lossy,
            cookie: self.server_cookie,
            ..ident
        })
    }

    /// Goes on after a reconnect of the client, which has everything up to `msg_seq`.
    ///
    /// # Errors
    ///
    /// [`Error::AckedUnsent`] or [`Error::Gap`] if the peer's count cannot be.
    pub fn accept_reconnect(&mut self, msg_seq: u64) -> Result<OpeningReply, Error> {
        self.resume(msg_seq)?;
        Ok(OpeningReply::Resumed(self.in_seq))
    }

    // --- what both share ---

    /// Both directions count from 1 again; what is queued or unacknowledged goes out as new messages.
    fn restart(&mut self) {
        while let Some(message) = self.unacked.pop_back() {
            self.queued.push_front(message);
        }
        self.in_seq = 0;
        self.out_seq = 0;
        self.acked = 0;
        self.acknowledged = 0;
        self.replayed = 0;
    }

    /// Forgets the session and everything in it.
    fn forget(&mut self) {
        self.restart();
        self.queued.clear();
        self.held_bytes = 0;
        self.server_cookie = 0;
        self.connect_seq = 0;
    }

    /// The peer has everything up to `msg_seq`; the rest goes out again.
    fn resume(&mut self, msg_seq: u64) -> Result<(), Error> {
        if msg_seq < self.acked {
            return Err(Error::Gap { expected: self.acked.saturating_add(1), got: msg_seq });
        }
        self.on_ack(msg_seq)?;
        self.replayed = 0;
        // The reconnect itself told the peer how far we are.
        self.acknowledged = self.in_seq;
        Ok(())
    }

    /// Whether another message fits.
    pub fn has_room(&self) -> bool {
        let held = self.queued.len().saturating_add(self.unacked.len());
        held < self.limits.queue_messages_max && self.held_bytes < self.limits.queue_bytes_max
    }

    /// Whether every message has been sent and, if lossless, acknowledged.
    pub fn is_drained(&self) -> bool {
        self.queued.is_empty() && self.unacked.is_empty()
    }

    /// Puts a message at the end of the queue. The caller sees to it that there [is room](Self::has_room).
    pub fn push(&mut self, message: Message) {
        self.held_bytes = self.held_bytes.saturating_add(message.payload_bytes());
        self.queued.push_back(message);
    }

    /// The next message to go out on the present connection, replays first.
    pub fn pop(&mut self) -> Option<(MessageHeader, Message)> {
        let (message, seq) = if let Some(message) = self.unacked.get(self.replayed) {
            let ahead = u64::try_from(self.unacked.len().saturating_sub(self.replayed)).unwrap_or(u64::MAX);
            self.replayed = self.replayed.saturating_add(1);
            (message.clone(), self.out_seq.saturating_sub(ahead).saturating_add(1))
        } else {
            let message = self.queued.pop_front()?;
            self.out_seq = self.out_seq.saturating_add(1);
            match self.policy {
                Policy::Lossy => {
                    self.held_bytes = self.held_bytes.saturating_sub(message.payload_bytes());
                }
                Policy::Lossless => {
                    self.unacked.push_back(message.clone());
                    self.replayed = self.unacked.len();
                }
            }
            (message, self.out_seq)
        };
        self.acknowledged = self.in_seq;
        Some((MessageHeader::of(&message, seq, self.in_seq), message))
    }

    /// Takes the header of a message that arrived.
    ///
    /// Real peers drop an old message and never read that connection again, and take any higher number. Here an old
    /// one is dropped and the connection lives; a gap, which no sender produces, is an error, since the messages in
    /// it are lost.
    ///
    /// # Errors
    ///
    /// [`Error::Gap`], and [`Error::AckedUnsent`].
    pub fn on_message(&mut self, header: &MessageHeader) -> Result<Received, Error> {
        self.on_ack(header.ack_seq)?;
        let expected = self.in_seq.saturating_add(1);
        if header.seq > expected {
            return Err(Error::Gap { expected, got: header.seq });
        }
        if header.seq < expected {
            return Ok(Received::Old);
        }
        self.in_seq = expected;
        Ok(Received::New)
    }

    /// The peer has everything up to `seq`.
    ///
    /// # Errors
    ///
    /// [`Error::AckedUnsent`] if that is more than was sent. On a lossy session nobody waits for it.
    pub fn on_ack(&mut self, seq: u64) -> Result<(), Error> {
        if self.policy == Policy::Lossy {
            return Ok(());
        }
        if seq > self.out_seq {
            return Err(Error::AckedUnsent { acked: seq, sent: self.out_seq });
        }
        while self.acked < seq {
            self.acked = self.acked.saturating_add(1);
            if let Some(message) = self.unacked.pop_front() {
                self.held_bytes = self.held_bytes.saturating_sub(message.payload_bytes());
                self.replayed = self.replayed.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// What to acknowledge with a frame of its own: something arrived that no message has acknowledged since.
    pub fn due_ack(&mut self) -> Option<u64> {
        let due = self.policy == Policy::Lossless && self.in_seq > self.acknowledged;
        self.acknowledged = self.in_seq;
        due.then_some(self.in_seq)
    }
}

impl fmt::Debug for Session {
    /// Shows counts and no message: what travels between monitors is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("policy", &self.policy)
            .field("global_seq", &self.global_seq)
            .field("connect_seq", &self.connect_seq)
            .field("in_seq", &self.in_seq)
            .field("out_seq", &self.out_seq)
            .field("acked", &self.acked)
            .field("queued", &self.queued.len())
            .field("unacked", &self.unacked.len())
            .finish_non_exhaustive()
    }
}

impl ClientIdent {
    /// An opening for a session between these two; cookie and counts are the session's.
    pub const fn between(addrs: EntityAddrs, target: EntityAddr, gid: i64, supported: Features) -> Self {
        Self {
            addrs,
            target,
            gid,
            global_seq: 0,
            supported,
            required: Features::ADDR2,
            lossy: false,
            cookie: 0,
        }
    }
}

#[cfg(test)]
mod tests;
