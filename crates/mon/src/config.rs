use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;

use bytes::Bytes;
use cuttlebone_wire::Uuid;

use crate::message::{EncodedMonMap, PaxosWindow};

/// Knobs of a [`Session`](crate::Session).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a value, built with `..Default::default()`")]
pub struct SessionConfig {
    /// The cluster that commands are meant for; if it is nil, commands wait for a map and take the one there.
    pub fsid: Uuid,
    /// The name of our host, which the monitor shows to its administrator.
    pub host: String,
    /// How long a request may stay unanswered. Some are never answered at all.
    pub request_timeout: Duration,
    /// Most requests that may be unanswered.
    pub requests_max: usize,
    /// Most bytes of requests that may be unanswered.
    pub request_bytes_max: usize,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            fsid: Uuid::NIL,
            host: String::new(),
            request_timeout: Duration::from_secs(30),
            requests_max: 1024,
            request_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// What a [`Responder`](crate::Responder) answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a value, built in full")]
pub struct ResponderConfig {
    /// The cluster.
    pub fsid: Uuid,
    /// Our name in the map of the monitor that asks.
    pub name: String,
    /// The map that we show.
    pub map: EncodedMonMap,
    /// The paxos versions that we hold.
    pub window: PaxosWindow,
    /// The central configuration.
    pub config: BTreeMap<Bytes, Bytes>,
    /// Oldest and newest versions by map; what is missing here is not answered, as a monitor does it.
    pub versions: BTreeMap<String, (u64, u64)>,
}
