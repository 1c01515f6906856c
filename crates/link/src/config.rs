use alloc::string::String;
use core::time::Duration;

use cuttlebone_auth::{Claim, Client, Form};
use cuttlebone_msgr::{Limits, Policy};
use cuttlebone_wire::{EntityAddr, EntityName, EntityType, Features};

/// Who we are. There is no third kind, and above all no OSD: see `cuttlebone_msgr::Identity`.
///
/// ```compile_fail
/// let osd = cuttlebone_link::Identity::Osd { id: 0 };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the whole point is that there are only these two")]
pub enum Identity {
    /// A client, such as `client.admin`.
    Client {
        /// What follows the dot.
        id: String,
        /// The number that a monitor gave it earlier; 0 for none.
        global_id: u64,
    },
    /// A monitor, such as `mon.a`.
    Monitor {
        /// Its name.
        name: String,
    },
}

impl Identity {
    /// What goes into HELLO.
    pub const fn messenger(&self) -> cuttlebone_msgr::Identity {
        match self {
            Self::Client { .. } => cuttlebone_msgr::Identity::Client,
            Self::Monitor { .. } => cuttlebone_msgr::Identity::Monitor,
        }
    }

    /// What is claimed towards a peer of type `peer`.
    ///
    /// A monitor gives global ids to everybody but other monitors; all other services take the id that it gave.
    pub fn claim(&self, peer: EntityType) -> Claim {
        let (id, global_id) = match self {
            Self::Client { id, global_id } => (id, *global_id),
            Self::Monitor { name } => (name, 0),
        };
        let client = matches!(self, Self::Client { .. });
        let form = if client && peer == EntityType::MON { Form::Monitor } else { Form::Authorizer };
        Claim { form, name: EntityName::new(self.messenger().entity_type(), id.clone()), global_id }
    }
}

/// What to dial, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "knobs, set with `..DialConfig::client(…)`")]
pub struct DialConfig {
    /// Who we are.
    pub identity: Identity,
    /// What the peer has to be.
    pub peer: EntityType,
    /// The peer's own address, type and nonce included, also when it is reached through something else.
    pub target: EntityAddr,
    /// Tells this instance of us apart from all others; a fresh random number for each link.
    pub nonce: u32,
    /// What we ask the session to be. The server has the last word.
    pub policy: Policy,
    /// What we can do.
    pub features: Features,
    /// What a peer may make us hold.
    pub limits: Limits,
    /// How long to wait for what.
    pub timing: Timing,
}

impl DialConfig {
    /// A client of a monitor: the link ends with its connection.
    pub fn client(id: impl Into<String>, target: EntityAddr, nonce: u32) -> Self {
        Self::new(Identity::Client { id: id.into(), global_id: 0 }, target, nonce, Policy::Lossy)
    }

    /// A monitor among monitors: the link survives its connections.
    ///
    /// The address that is announced has port 0, where nobody listens: the peer may want to call back, and must not
    /// reach anybody.
    pub fn monitor(name: impl Into<String>, target: EntityAddr, nonce: u32) -> Self {
        Self::new(Identity::Monitor { name: name.into() }, target, nonce, Policy::Lossless)
    }

    fn new(identity: Identity, target: EntityAddr, nonce: u32, policy: Policy) -> Self {
        Self {
            identity,
            peer: EntityType::MON,
            target,
            nonce,
            policy,
            features: Features::PACIFIC,
            limits: Limits::default(),
            timing: Timing::default(),
        }
    }

    /// The authentication that goes with the identity: AUTH_NONE.
    pub(crate) fn auth(&self) -> Client {
        Client::none(self.identity.claim(self.peer))
    }
}

/// How long a link waits.
///
/// Source of the defaults where Ceph has them: `ceph/ceph:src/common/options.cc`, seen in 16.2.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "knobs, set with `..Timing::default()`")]
pub struct Timing {
    /// From dialling or accepting to the open session (`ms_connection_ready_timeout`).
    pub ready_within: Duration,
    /// Between two keepalives (`mon_client_ping_interval`). A monitor drops clients that send none for 300 s.
    pub keepalive_every: Duration,
    /// Without a byte from the peer, the connection counts as lost (`mon_client_ping_timeout`).
    pub silence_max: Duration,
    /// The shortest pause between two attempts (`ms_initial_backoff`).
    pub retry_first: Duration,
    /// The longest pause between two attempts (`ms_max_backoff`).
    pub retry_max: Duration,
    /// Without an open session for so long, a dialling link gives up; zero makes one attempt.
    pub give_up_after: Duration,
    /// An accepted session whose peer stays away for so long is forgotten.
    pub standby_max: Duration,
    /// An accepted lossy connection without a message for so long is closed (`ms_connection_idle_timeout`).
    pub idle_max: Duration,
    /// A link that is closed waits so long for the peer to acknowledge what was sent.
    pub linger_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ready_within: Duration::from_secs(10),
            keepalive_every: Duration::from_secs(10),
            silence_max: Duration::from_secs(30),
            retry_first: Duration::from_millis(200),
            retry_max: Duration::from_secs(15),
            give_up_after: Duration::from_secs(60),
            standby_max: Duration::from_secs(300),
            idle_max: Duration::from_secs(900),
            linger_max: Duration::from_secs(5),
        }
    }
}
