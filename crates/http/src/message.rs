//! What goes over the wire: JSON objects, one per line where the answer is a stream.

use cuttlebone_tokens::{Class, NameState, Takeover, View};
use serde::{Deserialize, Serialize};

/// The version of every object here; a change that old clients cannot read raises it.
pub const SCHEMA: u32 = 1;

/// The body of `POST /v1/registrations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a request is written by its caller")]
pub struct RegisterRequest {
    /// The name.
    pub name: String,
    /// What to do if it is taken.
    #[serde(default)]
    pub takeover: TakeoverName,
    /// How many slots the name shall have; without it, what the service gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Whether the owner promises to renew its lease; see [`LeaseTerms`].
    #[serde(default)]
    pub lease: LeaseTerms,
}

/// The body of `POST /v1/registrations/{name}/tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a request is written by its caller")]
pub struct TokenRequest {
    /// The incarnation the work is for. Without it the service itself registers the name, once for all who leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// How heavy the work is.
    #[serde(default)]
    pub class: ClassName,
    /// How many slots it takes.
    #[serde(default = "one")]
    pub slots: u32,
    /// How many slots the name shall have; only without an epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `false` to be refused rather than to wait.
    #[serde(default = "yes")]
    pub wait: bool,
    /// Whether the holder promises to renew its lease; see [`LeaseTerms`].
    #[serde(default)]
    pub lease: LeaseTerms,
}

/// The body of `POST /v1/registrations/{name}/reclaims`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a request is written by its caller")]
pub struct ReclaimRequest {
    /// The incarnation of the token from before the restart.
    pub epoch: u64,
    /// The token.
    pub seq: u64,
    /// Its class.
    #[serde(default)]
    pub class: ClassName,
    /// Its slots.
    #[serde(default = "one")]
    pub slots: u32,
}

const fn one() -> u32 {
    1
}

const fn yes() -> bool {
    true
}

/// What keeps a session alive besides its open response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "renewed or not")]
pub enum LeaseTerms {
    /// Nothing: the open response alone is the life.
    #[default]
    Response,
    /// The client renews; a client that is silent for a lease is gone, whatever its connection looks like.
    Renewed,
}

/// [`Takeover`] as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "mirrors Takeover")]
pub enum TakeoverName {
    /// Refuse.
    #[default]
    Deny,
    /// Stand in line.
    Wait,
    /// Take it now.
    Preempt,
}

impl From<TakeoverName> for Takeover {
    fn from(name: TakeoverName) -> Self {
        match name {
            TakeoverName::Deny => Self::Deny,
            TakeoverName::Wait => Self::Wait,
            TakeoverName::Preempt => Self::Preempt,
        }
    }
}

/// [`Class`] as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "mirrors Class")]
pub enum ClassName {
    /// May use every slot.
    #[default]
    Light,
    /// Leaves a slot to light work.
    Heavy,
    /// One at a time.
    VeryHeavy,
}

impl From<ClassName> for Class {
    fn from(name: ClassName) -> Self {
        match name {
            ClassName::Light => Self::Light,
            ClassName::Heavy => Self::Heavy,
            ClassName::VeryHeavy => Self::VeryHeavy,
        }
    }
}

impl From<Class> for ClassName {
    fn from(class: Class) -> Self {
        match class {
            Class::Light => Self::Light,
            Class::Heavy => Self::Heavy,
            Class::VeryHeavy => Self::VeryHeavy,
        }
    }
}

/// One line of an answer that stays open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// In line.
    Waiting,
    /// Next: older tokens are still out.
    Draining {
        /// The epoch it will have.
        epoch: u64,
    },
    /// The name is this owner's.
    Registered {
        /// The incarnation.
        epoch: u64,
        /// For renewals.
        session: String,
        /// How long one renewal lasts, in milliseconds from when it was sent.
        lease_ms: u64,
    },
    /// The token is this holder's.
    Granted {
        /// The incarnation.
        epoch: u64,
        /// The token.
        seq: u64,
        /// What to show the resource: 48 hexadecimal digits.
        fence: String,
        /// For renewals.
        session: String,
        /// How long one renewal lasts, in milliseconds from when it was sent.
        lease_ms: u64,
    },
    /// Stop: an incarnation that is newer, or an administrator, is waiting for the end of this one.
    Fenced,
    /// The connection works.
    Alive,
    /// The last line: given back early.
    Released,
    /// The last line: no renewal came for a lease.
    Expired,
    /// The last line: it did not come to anything.
    Failed(Problem),
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// One of a fixed set of words, for programs.
    pub error: String,
    /// A sentence, for people.
    pub detail: String,
    /// What to do about it.
    pub hint: String,
}

/// The answer to `PUT /v1/sessions/{session}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Renewed {
    /// How long it lasts, in milliseconds from when the renewal was sent.
    pub lease_ms: u64,
    /// Whether the session was told to stop; told here too, for a client that has lost its stream.
    pub fenced: bool,
}

/// Names in one answer to `GET /v1/registrations`; `?after=NAME` asks for those after it.
pub const LISTED_MAX: usize = 1_000;

/// The answer to `GET /v1/registrations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Listing {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Names in use, in order.
    pub registrations: Vec<Row>,
    /// Whether there are more names after these.
    #[serde(default)]
    pub more: bool,
}

/// One name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Row {
    /// The name.
    pub name: String,
    /// `free`, `active` or `draining`.
    pub state: String,
    /// The current incarnation, or the one being drained.
    pub epoch: Option<u64>,
    /// The incarnation that follows the drain.
    pub successor: Option<u64>,
    /// Tokens out.
    pub outstanding: usize,
    /// Slots they take.
    pub slots_held: u64,
    /// Slots there are.
    pub limit: u32,
    /// Requests waiting for a token.
    pub waiting: usize,
    /// Registrations waiting in line.
    pub registrants: usize,
    /// Some of the tokens that are out.
    pub holders: Vec<HolderRow>,
}

/// One token that is out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HolderRow {
    /// The token.
    pub seq: u64,
    /// The incarnation it was granted to.
    pub epoch: u64,
    /// Its class.
    pub class: ClassName,
    /// The slots it takes.
    pub slots: u32,
    /// How long it has been out, in milliseconds.
    pub age_ms: u64,
}

impl Row {
    pub(crate) fn new(name: &str, view: &View) -> Self {
        let state = match view.state {
            NameState::Free => "free",
            NameState::Active => "active",
            NameState::Draining => "draining",
        };
        let holder = |holder: &cuttlebone_tokens::Holder| HolderRow {
            seq: holder.seq.0,
            epoch: holder.epoch.0,
            class: holder.class.into(),
            slots: holder.slots,
            age_ms: millis(holder.age),
        };
        Self {
            name: name.into(),
            state: state.into(),
            epoch: view.epoch.map(|epoch| epoch.0),
            successor: view.successor.map(|epoch| epoch.0),
            outstanding: view.outstanding,
            slots_held: view.slots_held,
            limit: view.slots_max,
            waiting: view.waiting,
            registrants: view.registrants,
            holders: view.holders.iter().map(holder).collect(),
        }
    }
}

pub(crate) fn millis(duration: core::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
