use core::time::Duration;

use cuttlebone_mounttable::{Epoch, Ttl};

/// How a publisher works, and what it may grow to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Every entry is refreshed within each period.
    pub period: Duration,
    /// How much longer than a period an entry lives without a refresh. Has to cover a call that hangs and its retry.
    pub slack: Duration,
    /// After how long a call counts as not answered.
    pub call_timeout: Duration,
    /// The first delay before a retry; it doubles with each failure.
    pub retry_first: Duration,
    /// The longest delay before a retry.
    pub retry_max: Duration,
    /// Calls in flight at one table that are neither slow nor for a suspect.
    pub calls_max: usize,
    /// Calls in flight at one table that are slow or for an entry whose last attempt failed.
    pub slow_calls_max: usize,
    /// When a call is slow.
    pub slow_after: Duration,
    /// Failures in a row to reach a table after which it is down.
    pub down_after: u32,
    /// Which incarnation of this process publishes; a later one has a larger epoch.
    pub epoch: Epoch,
    /// Names.
    pub names_max: usize,
    /// Servers.
    pub servers_max: usize,
    /// Pairs of a name and a server, wanted or still to be withdrawn.
    pub entries_max: usize,
    /// Watchers of the status.
    pub watchers_max: usize,
}

/// Tables that one publisher serves.
pub const TABLES_MAX: usize = 16;

impl Default for Config {
    fn default() -> Self {
        Self {
            // Source of both: vanadium-archive/go.ref:runtimes/google/ipc/consts.go and lib/publisher/publisher.go.
            period: Duration::from_secs(60),
            slack: Duration::from_secs(20),
            call_timeout: Duration::from_secs(10),
            retry_first: Duration::from_millis(100),
            retry_max: Duration::from_secs(10),
            calls_max: 32,
            slow_calls_max: 224,
            slow_after: Duration::from_secs(1),
            down_after: 8,
            epoch: Epoch(0),
            names_max: 100_000,
            servers_max: 1000,
            entries_max: 1_000_000,
            watchers_max: 64,
        }
    }
}

impl Config {
    /// What every mount asks for: a period and the slack.
    pub fn ttl(&self) -> Ttl {
        Ttl::new(self.period.saturating_add(self.slack)).unwrap_or(Ttl::FOREVER)
    }

    /// Whether the numbers fit together.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), ConfigError> {
        let hang_and_retry = self.call_timeout.saturating_add(self.retry_max);
        // A refresh is due after 90 % of a period at the latest, so a tenth of the period is slack too.
        let slack = self.slack.saturating_add(self.period / 10);
        match () {
            () if self.period.is_zero() || self.call_timeout.is_zero() || self.retry_first.is_zero() => {
                Err(ConfigError("a time is zero"))
            }
            () if self.retry_first > self.retry_max => {
                Err(ConfigError("the first retry is later than the last"))
            }
            () if hang_and_retry > slack => Err(ConfigError(
                "a call that hangs and its retry do not fit into the slack and a tenth of the period",
            )),
            () if self.calls_max == 0 || self.slow_calls_max == 0 || self.down_after == 0 => {
                Err(ConfigError("a limit of calls is zero"))
            }
            () => Ok(()),
        }
    }
}

/// Numbers of a [`Config`] that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) &'static str);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_and_a_slack_that_a_hanging_call_eats_does_not() {
        assert_eq!(Config::default().check(), Ok(()));
        assert_eq!(Config::default().ttl().as_duration(), Duration::from_secs(80));
        assert!(Config { slack: Duration::from_secs(5), ..Config::default() }.check().is_err());
        assert!(Config { period: Duration::ZERO, ..Config::default() }.check().is_err());
    }
}
