use core::fmt;
use std::io;
use std::process::ExitCode;

use cuttlebone_wire::DecodeError;

use crate::{conf, mon_host};

/// How a command ended, as its exit status tells; scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a list in the documentation that scripts rely on")]
pub enum Exit {
    /// Everything was done.
    Done,
    /// A failure without a more exact status.
    Failure,
    /// The command line or a configuration file makes no sense.
    Usage,
    /// Some of many failed.
    Partial,
    /// What was asked for does not exist.
    NotFound,
    /// Authentication failed, or something is not permitted.
    Refused,
    /// Nobody could be reached, or nobody answered in time.
    Unreachable,
    /// Input is corrupt, or verification found a difference.
    Corrupt,
    /// Interrupted by the user.
    Interrupted,
    /// A command that was run for the user ended with this status, and so do we.
    Command(u8),
}

/// The statuses with their meanings, as help and manual print them.
pub(crate) const STATUSES: &[(Exit, &str)] = &[
    (Exit::Done, "done"),
    (Exit::Failure, "failure without a more exact status"),
    (Exit::Usage, "wrong usage, or a configuration file that cannot be read"),
    (Exit::Partial, "partial: some of many failed"),
    (Exit::NotFound, "not found"),
    (Exit::Refused, "authentication or permission"),
    (Exit::Unreachable, "cannot connect, or nobody answered in time"),
    (Exit::Corrupt, "corrupt input, or verification found a difference"),
    (Exit::Interrupted, "interrupted"),
];

impl Exit {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::NotFound => 4,
            Self::Refused => 5,
            Self::Unreachable => 6,
            Self::Corrupt => 7,
            Self::Interrupted => 130,
            Self::Command(status) => status,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that says itself which exit status it deserves.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    exit: Exit,
    message: String,
}

impl Failed {
    /// A failure that ends the command with `exit`.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }
}

impl Exit {
    /// The status for `error`: what a [`Failed`] in it says, else that of the outermost cause that has one.
    pub fn of(error: &anyhow::Error) -> Self {
        // A context can only be found through the error as a whole, not in its chain of causes.
        let said = error.downcast_ref::<Failed>().map(|failed| failed.exit);
        said.or_else(|| Self::of_causes(error.as_ref())).unwrap_or(Self::Failure)
    }

    /// That of the first in the chain that has one.
    fn of_causes(error: &(dyn core::error::Error + 'static)) -> Option<Self> {
        core::iter::successors(Some(error), |error| error.source()).find_map(Self::of_cause)
    }

    fn of_cause(cause: &(dyn core::error::Error + 'static)) -> Option<Self> {
        if cause.is::<DecodeError>() {
            return Some(Self::Corrupt);
        }
        if let Some(error) = cause.downcast_ref::<cuttlebone_node::Error>() {
            return Self::of_node(error);
        }
        if let Some(error) = cause.downcast_ref::<cuttlebone_fs::Error>() {
            return Some(Self::of_fs(error));
        }
        if let Some(error) = cause.downcast_ref::<cuttlebone_store::Error>() {
            return Self::of_store(error);
        }
        if let Some(error) = cause.downcast_ref::<cuttlebone_http::ClientError>() {
            return Some(Self::of_service(error));
        }
        if let Some(failure) = cause.downcast_ref::<cuttlebone_mounttable::Failure>() {
            return Some(Self::of_table(failure));
        }
        if let Some(error) = cause.downcast_ref::<cuttlebone_mounttable::JournalError>() {
            return Self::of_journal(error);
        }
        if let Some(error) = cause.downcast_ref::<cuttlebone_tokens::EpochStoreError>() {
            use cuttlebone_tokens::EpochStoreError;
            return Some(if matches!(error, EpochStoreError::Corrupt(_)) {
                Self::Corrupt
            } else {
                Self::Failure
            });
        }
        if matches!(
            cause.downcast_ref::<cuttlebone_http::ServeError>(),
            Some(cuttlebone_http::ServeError::BadAddress(_) | cuttlebone_http::ServeError::TokenRequired(_))
        ) {
            return Some(Self::Usage);
        }
        if cause.is::<conf::ParseError>() || cause.is::<mon_host::ParseError>() {
            return Some(Self::Usage);
        }
        match cause.downcast_ref::<io::Error>()?.kind() {
            io::ErrorKind::NotFound => Some(Self::NotFound),
            io::ErrorKind::PermissionDenied => Some(Self::Refused),
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut => Some(Self::Unreachable),
            _ => None,
        }
    }
}

impl Exit {
    /// `None` where the cause behind it tells more.
    fn of_node(error: &cuttlebone_node::Error) -> Option<Self> {
        use cuttlebone_node::Error;
        match error {
            // The chain shows what is behind it in its box, which is another type.
            Error::Exhausted { source, .. } => Self::of_causes(source.as_ref()),
            Error::Store(_) | Error::Malformed(_) => None,
            Error::Link(cuttlebone_link::Error::Auth(_)) | Error::Command { errno: EACCES | EPERM, .. } => {
                Some(Self::Refused)
            }
            Error::Link(_) | Error::LinkClosed | Error::NoAnswer { .. } => Some(Self::Unreachable),
            Error::Sync(error) if error.is_retryable() => Some(Self::Unreachable),
            Error::Sync(_) | Error::NoMonMap => Some(Self::Corrupt),
            Error::OtherCluster { .. } | Error::NotDiallable(_) | Error::Config(_) => Some(Self::Usage),
            Error::Command { errno: ENOENT, .. } => Some(Self::NotFound),
            _ => Some(Self::Failure),
        }
    }

    fn of_service(error: &cuttlebone_http::ClientError) -> Self {
        use cuttlebone_http::ClientError;
        match error {
            ClientError::Unreachable(..) | ClientError::TimedOut(_) => Self::Unreachable,
            ClientError::Refused(status, _) => match status.as_u16() {
                400 => Self::Usage,
                404 | 410 => Self::NotFound,
                401 | 403 => Self::Refused,
                _ => Self::Failure,
            },
            _ => Self::Corrupt,
        }
    }

    fn of_fs(error: &cuttlebone_fs::Error) -> Self {
        use cuttlebone_fs::{Errno, Error, MdsError};
        match error {
            Error::Failed { source: MdsError::Malformed(_) | MdsError::Unexpected(_), .. }
            | Error::Malformed(_) => Self::Corrupt,
            Error::Failed { source: MdsError::Blocklisted | MdsError::Rejected { .. }, .. }
            | Error::Monitor(cuttlebone_link::Error::Auth(_)) => Self::Refused,
            Error::Monitor(_) | Error::MonitorGone | Error::NotInTime { .. } => Self::Unreachable,
            Error::NoFileSystem(_) => Self::NotFound,
            Error::NotDiallable(_) | Error::Config(_) | Error::Name { .. } => Self::Usage,
            other => match other.errno() {
                Some(Errno::ENOENT | Errno::ENODATA | Errno::ESTALE) => Self::NotFound,
                Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => Self::Refused,
                _ => Self::Failure,
            },
        }
    }

    fn of_table(failure: &cuttlebone_mounttable::Failure) -> Self {
        use cuttlebone_mounttable::{Error, Failure};
        match failure {
            Failure::Unreachable { .. } => Self::Unreachable,
            Failure::Refused(Error::NoSuchName) => Self::NotFound,
            Failure::Forbidden { .. } | Failure::Refused(Error::Denied { .. } | Error::Quota { .. }) => {
                Self::Refused
            }
            Failure::Refused(Error::Name(_) | Error::Root) => Self::Usage,
            _ => Self::Failure,
        }
    }

    /// `None` where the cause behind it tells more.
    fn of_journal(error: &cuttlebone_mounttable::JournalError) -> Option<Self> {
        use cuttlebone_mounttable::JournalError;
        match error {
            JournalError::Disk(_) => None,
            JournalError::Damaged { .. } => Some(Self::Corrupt),
            JournalError::Foreign => Some(Self::Usage),
            _ => Some(Self::Failure),
        }
    }

    /// `None` where the cause behind it tells more.
    fn of_store(error: &cuttlebone_store::Error) -> Option<Self> {
        use cuttlebone_store::Error;
        match error {
            Error::Io { .. } => None,
            Error::NotAStore { .. } | Error::NoSuchPoint(_) => Some(Self::NotFound),
            Error::Corrupt(_) | Error::Provider(_) => Some(Self::Corrupt),
            _ => Some(Self::Failure),
        }
    }
}

/// Errno as Linux numbers it, negative as monitors answer it.
const ENOENT: i32 = -2;
/// The same.
const EPERM: i32 = -1;
/// The same.
const EACCES: i32 = -13;

/// An error and everything behind it, on one line.
pub(crate) fn chain(error: &dyn core::error::Error) -> String {
    let causes = core::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Whether the reader of our output has gone, which is its right: `cuttlebone … | head`.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn what_was_said_counts_before_the_outermost_cause_that_has_a_status() {
        let io = |kind| anyhow::Error::new(io::Error::from(kind));
        assert_eq!(Exit::of(&anyhow!("anything")), Exit::Failure);
        assert_eq!(Exit::of(&io(io::ErrorKind::NotFound).context("monmap.bin")), Exit::NotFound);
        assert_eq!(Exit::of(&io(io::ErrorKind::TimedOut)), Exit::Unreachable);
        let failed: anyhow::Result<()> = Err(io(io::ErrorKind::NotFound));
        let failed = failed.context(Failed::new(Exit::Partial, "3 of 5")).unwrap_err();
        assert_eq!(Exit::of(&failed), Exit::Partial);
        assert_eq!(format!("{failed:#}"), "3 of 5: entity not found");
    }

    #[test]
    fn the_documentation_lists_every_status_with_its_meaning() {
        let page = include_str!("../README.md");
        for (exit, meaning) in STATUSES {
            let row = format!("| {} | {meaning} |", exit.code());
            assert!(page.contains(&row), "crates/cli/README.md has no row {row}");
        }
    }

    #[test]
    fn attempts_that_all_failed_end_as_the_last_one_did() {
        use cuttlebone_node::Error;
        let check = |last: Error, expected| {
            let error = Error::Exhausted { tried: 3, monitors: 1, source: Box::new(last) };
            assert_eq!(Exit::of(&error.into()), expected);
        };
        check(Error::LinkClosed, Exit::Unreachable);
        check(Error::Sync(cuttlebone_monsync::Error::Refused), Exit::Unreachable);
        check(Error::Sync(cuttlebone_monsync::ChunkError::NotAPut.into()), Exit::Corrupt);
        check(Error::Store(cuttlebone_store::ProviderFault::MissingVersion(1).into()), Exit::Corrupt);
        check(Error::Link(cuttlebone_auth::Error::TooManyRounds(3).into()), Exit::Refused);
    }
}
