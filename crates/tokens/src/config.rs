use core::time::Duration;

/// How long a name may be, in bytes; names travel in paths and headers.
pub const NAME_BYTES_MAX: usize = 255;

/// How many holders a report names; a million of them would be a report nobody reads.
pub const HOLDERS_REPORTED_MAX: usize = 64;

/// What registering does when a living owner has the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the three answers there are to a taken name")]
pub enum Takeover {
    /// Refuse with [`RegisterError::NameTaken`](crate::RegisterError::NameTaken).
    #[default]
    Deny,
    /// Stand in line until the owner is down; first come, first served.
    Wait,
    /// Take over now: the owner is fenced at once, its tokens are drained.
    Preempt,
}

/// What happens when a drain has lasted [`Rules::drain_max`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the three answers there are to a drain that does not end")]
pub enum DrainPolicy {
    /// Go on waiting and reporting. Safe for every resource.
    #[default]
    KeepWaiting,
    /// End the old tokens. Safe only where a [`FenceGate`](crate::FenceGate) at the resource refuses them.
    Fence,
    /// Fail the one who waits, with the list of holders.
    Fail,
}

/// How much of everything one name may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..Limits::default()`")]
pub struct Limits {
    /// Slots that tokens may take together.
    pub tokens: u32,
    /// Tokens outstanding, whatever they weigh.
    pub grants_max: u32,
    /// Requests waiting for a token.
    pub waiters_max: u32,
    /// Registrations waiting for the name.
    pub registrants_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { tokens: 1, grants_max: 1_000_000, waiters_max: 100_000, registrants_max: 64 }
    }
}

/// How one name behaves in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..Rules::default()`")]
pub struct Rules {
    /// How long a drain may last before `drain_policy` applies.
    pub drain_max: Duration,
    /// What happens then.
    pub drain_policy: DrainPolicy,
    /// How long between two reports of one drain.
    pub watchdog_period: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            drain_max: Duration::from_secs(300),
            drain_policy: DrainPolicy::default(),
            watchdog_period: Duration::from_secs(10),
        }
    }
}
