use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::{Class, Epoch, Seq};

/// Why a registration was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A living owner has the name. Says nothing about its epoch, and never will.
    #[error("the name is taken")]
    NameTaken,
    /// A later takeover, a forced fence or the owner's own death overtook this registration.
    #[error("fenced")]
    Fenced,
    /// The older tokens did not end in time.
    #[error("{} older tokens did not end within {:?}", .0.outstanding, .0.waited)]
    DrainTimeout(DrainReport),
    /// A limit with a name is reached.
    #[error("at capacity: {0}")]
    AtCapacity(Capacity),
    /// The name is empty, too long, or has a control character in it.
    #[error("not a name: {0}")]
    BadName(&'static str),
    /// The deadline the caller gave has passed.
    #[error("timed out")]
    TimedOut,
    /// No epoch could be had.
    #[error("no epoch to be had")]
    Epochs(#[source] EpochStoreError),
    /// The registry is closed.
    #[error("the registry is closed")]
    Closed,
}

/// Why a token was not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// Nobody has registered the name.
    #[error("the name is not registered")]
    NotRegistered,
    /// The request belongs to an incarnation that is no longer the current one. Never says which one is.
    #[error("fenced")]
    Fenced,
    /// Only from the calls that do not wait: no slot is free, or others wait already.
    #[error("no token is free")]
    WouldBlock,
    /// More slots than the limit or the class will ever allow, or none at all.
    #[error("{asked} slots can never be had, at most {most}")]
    TooMany {
        /// What was asked for.
        asked: u32,
        /// What the limit and the class allow when nothing else is held.
        most: u32,
    },
    /// A limit with a name is reached.
    #[error("at capacity: {0}")]
    AtCapacity(Capacity),
    /// The deadline the caller gave has passed.
    #[error("timed out")]
    TimedOut,
    /// A re-claim came after the recovery window, or for a token that was never granted.
    #[error("nothing to re-claim")]
    NothingToReclaim,
    /// The registry is closed.
    #[error("the registry is closed")]
    Closed,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capacity {
    /// `Config::names_max`.
    Names,
    /// [`Limits::grants_max`](crate::Limits::grants_max).
    Grants,
    /// [`Limits::waiters_max`](crate::Limits::waiters_max).
    Waiters,
    /// [`Limits::registrants_max`](crate::Limits::registrants_max).
    Registrants,
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Names => "names",
            Self::Grants => "grants",
            Self::Waiters => "waiters",
            Self::Registrants => "registrants",
        })
    }
}

/// Why an [`EpochStore`](crate::EpochStore) gave no epochs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EpochStoreError {
    /// The store could not be read or written.
    #[error("epoch store: {0}")]
    Unavailable(alloc::string::String),
    /// What is stored is not what was written; starting over could give an epoch out twice.
    #[error("the epoch record is damaged: {0}")]
    Corrupt(&'static str),
    /// Another process has the store open.
    #[error("the epoch store is in use by another process")]
    Locked,
    /// All 2^64 epochs are used up: 584 000 years at one per microsecond.
    #[error("epochs are used up")]
    Exhausted,
}

/// Who still holds tokens of older epochs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// How many tokens are out.
    pub outstanding: usize,
    /// How long the drain has lasted.
    pub waited: Duration,
    /// Some of them: at most [`HOLDERS_REPORTED_MAX`](crate::HOLDERS_REPORTED_MAX).
    pub holders: Vec<Holder>,
}

/// One token that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The token.
    pub seq: Seq,
    /// The incarnation it was granted to.
    pub epoch: Epoch,
    /// Its class.
    pub class: Class,
    /// The slots it takes.
    pub slots: u32,
    /// How long it has been out.
    pub age: Duration,
}
