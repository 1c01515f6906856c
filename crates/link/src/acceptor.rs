use alloc::boxed::Box;
use core::fmt;
use core::net::SocketAddr;

use cuttlebone_machine::{Entropy, Instant};
use cuttlebone_msgr::{
    ClientIdent, Decision, Limits, Opening, OpeningReply, Policy, Registry, ServerIdent, Session, SessionKey,
    Start,
};
use cuttlebone_wire::{EntityAddr, EntityAddrs, EntityType, Features};

use crate::event::Granted;
use crate::{Adoption, Arrival, Command, Error, Incoming, Link, Ready, Timing};

/// What to accept connections as: a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "knobs, set with `..AcceptConfig::monitor(…)`")]
pub struct AcceptConfig {
    /// Our addresses, exactly as peers dial them, nonce included.
    pub addrs: EntityAddrs,
    /// Our rank, or -1.
    pub gid: i64,
    /// What we can do.
    pub features: Features,
    /// What we insist on.
    pub required: Features,
    /// The first global id to give away.
    pub global_ids_from: u64,
    /// What a peer may make us hold.
    pub limits: Limits,
    /// Most lossless sessions, connected or waiting for their peers.
    pub sessions_max: usize,
    /// How long to wait for what.
    pub timing: Timing,
}

impl AcceptConfig {
    /// A monitor that peers dial at `addrs`.
    pub fn monitor(addrs: impl Into<EntityAddrs>) -> Self {
        Self {
            addrs: addrs.into(),
            gid: -1,
            features: Features::PACIFIC,
            required: Features::ADDR2,
            global_ids_from: 4096,
            limits: Limits::default(),
            sessions_max: 1024,
            timing: Timing::default(),
        }
    }
}

/// What the connections of one listener share: the sessions of its peers, and the numbers that it gives away.
///
/// Plain methods, no waiting: a driver keeps it behind a lock, a world keeps it as it is.
pub struct Acceptor {
    config: AcceptConfig,
    registry: Registry,
    global_ids: u64,
    global_seq: u64,
    entropy: Box<dyn Entropy + Send>,
}

/// Where an accepted connection goes.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to carry out every one of them")]
pub enum Verdict {
    /// It stays as it is: an answer is ready to be sent, and the peer may try again.
    Stay(Box<Incoming>),
    /// Send what is ready, then close it.
    Close(Box<Incoming>),
    /// It starts a session. `replaces` is to be told [`Command::Supersede`].
    Start {
        /// Names the session; to be given to [`Acceptor::ended`] when the link is finished.
        key: SessionKey,
        /// The session.
        link: Box<Link>,
        /// What the peer had before and has forgotten.
        replaces: Option<SessionKey>,
    },
    /// It goes to this session: the socket, the unread bytes, then this command, then [`Acceptor::settled`].
    Hand {
        /// Names the session.
        key: SessionKey,
        /// For its link.
        command: Command,
    },
}

impl Acceptor {
    /// An acceptor without sessions. `entropy` gives cookies.
    pub fn new(config: AcceptConfig, entropy: Box<dyn Entropy + Send>) -> Self {
        let registry = Registry::new(config.sessions_max);
        Self { registry, global_ids: config.global_ids_from, global_seq: 0, entropy, config }
    }

    /// A connection from `peer` was accepted.
    pub fn incoming(&mut self, now: Instant, peer: SocketAddr) -> Incoming {
        let spare = self.global_ids;
        self.global_ids = self.global_ids.saturating_add(1);
        let deadline = now + self.config.timing.ready_within;
        Incoming::new(EntityAddr::v2(peer), spare, self.config.limits, deadline)
    }

    /// The session has taken the connection that it was handed.
    pub fn settled(&mut self, key: SessionKey) {
        self.registry.settled(key);
    }

    /// The session is over.
    pub fn ended(&mut self, key: SessionKey) {
        self.registry.remove(key);
    }

    /// How many lossless sessions there are.
    pub fn sessions(&self) -> usize {
        self.registry.len()
    }

    /// Decides where a connection goes whose peer has arrived.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the opening; the connection has to be closed without a word.
    pub fn decide(
        &mut self,
        now: Instant,
        mut incoming: Box<Incoming>,
        arrival: Arrival,
    ) -> Result<Verdict, Error> {
        if let Opening::New(ident) = &arrival.opening
            && let Some(refusal) = self.check(ident)?
        {
            incoming.reply(&refusal)?;
            return Ok(Verdict::Close(incoming));
        }
        // Monitors keep their sessions among themselves; to everybody else a monitor promises nothing.
        let policy = if arrival.peer_type == EntityType::MON { Policy::Lossless } else { Policy::Lossy };
        match self.registry.decide(&arrival.opening, policy) {
            Decision::Reply(reply) => {
                incoming.reply(&reply)?;
                Ok(Verdict::Stay(incoming))
            }
            Decision::ReplyAndClose(reply) => {
                incoming.reply(&reply)?;
                Ok(Verdict::Close(incoming))
            }
            Decision::Close => Ok(Verdict::Close(incoming)),
            Decision::Fresh { key, replaces } => {
                let cookie = match &arrival.opening {
                    Opening::New(ident) => ident.cookie,
                    Opening::Resumed(reconnect) => reconnect.client_cookie,
                };
                let limits = self.config.limits;
                let session = Session::accepting(policy, cookie, limits, &mut *self.entropy);
                let adoption = self.adoption(*incoming, arrival, policy)?;
                let link = Link::accepted(limits, self.config.timing, session, adoption, now);
                Ok(Verdict::Start { key, link: Box::new(link), replaces })
            }
            Decision::Regrant(key) | Decision::Resume(key) => {
                let adoption = self.adoption(*incoming, arrival, policy)?;
                Ok(Verdict::Hand { key, command: Command::Adopt(Box::new(adoption)) })
            }
        }
    }

    /// What real monitors check before they look for a session.
    fn check(&self, ident: &ClientIdent) -> Result<Option<OpeningReply>, Error> {
        if ident.addrs.0.first().is_none_or(EntityAddr::is_blank) {
            let none = ident.addrs.0.first().cloned().unwrap_or_default();
            return Err(cuttlebone_msgr::Error::NotItsAddress(none).into());
        }
        if !self.config.addrs.0.contains(&ident.target) {
            return Err(cuttlebone_msgr::Error::NotItsAddress(ident.target.clone()).into());
        }
        let missing = ident.supported.missing(self.config.required);
        Ok((!missing.is_empty()).then_some(OpeningReply::MissingFeatures(missing)))
    }

    fn adoption(&mut self, incoming: Incoming, arrival: Arrival, policy: Policy) -> Result<Adoption, Error> {
        let Some(decoder) = incoming.into_decoder() else {
            return Err(Error::Misuse("a connection arrived that had not finished its handshake"));
        };
        let accepted = arrival.accepted;
        let (granted, gid, features) = match &arrival.opening {
            Opening::New(ident) => {
                self.global_seq = self.global_seq.saturating_add(1);
                let server = ServerIdent {
                    addrs: self.config.addrs.clone(),
                    gid: self.config.gid,
                    global_seq: self.global_seq,
                    supported: self.config.features,
                    required: self.config.required,
                    lossy: policy == Policy::Lossy,
                    cookie: 0,
                };
                (Granted::New(server), ident.gid, ident.supported & self.config.features)
            }
            Opening::Resumed(reconnect) => {
                (Granted::Resumed { msg_seq: reconnect.msg_seq }, -1, self.config.features)
            }
        };
        let ready = Box::new(Ready {
            peer_type: arrival.peer_type,
            peer_name: Some(accepted.name),
            peer_addrs: arrival.opening.addrs().clone(),
            peer_gid: gid,
            features,
            global_id: accepted.global_id,
            policy,
            start: Start::Fresh,
        });
        Ok(Adoption { decoder, granted, ready })
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("registry", &self.registry).finish_non_exhaustive()
    }
}
