use core::time::Duration;

use cuttlebone_mds::{Errno, NameError};
use cuttlebone_wire::{DecodeError, EntityAddr};

use crate::Place;

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A metadata server refused, or could not be asked.
    #[error("{op} {place}")]
    Failed {
        /// What was to be done.
        op: &'static str,
        /// With what.
        place: Place,
        /// Why not.
        source: cuttlebone_mds::Error,
    },
    /// The last part of a path is no name, or there is none.
    #[error("{op} {place}")]
    Name {
        /// What was to be done.
        op: &'static str,
        /// With what.
        place: Place,
        /// Why not.
        source: NameError,
    },
    /// Following symbolic links does not end.
    #[error("{op} {place}: too many symbolic links")]
    Loop {
        /// What was to be done.
        op: &'static str,
        /// With what.
        place: Place,
    },
    /// No link to a monitor.
    #[error("monitor")]
    Monitor(#[source] cuttlebone_link::Error),
    /// The link to a monitor has ended.
    #[error("the monitor has closed the connection")]
    MonitorGone,
    /// A monitor has no address that messenger v2 could dial.
    #[error("{0} cannot be dialled with messenger v2")]
    NotDiallable(EntityAddr),
    /// A monitor sent what does not follow the encoding.
    #[error("a monitor's message")]
    Malformed(#[source] DecodeError),
    /// The cluster has no file system of this name, or none at all.
    #[error("the cluster has no file system {0:?}")]
    NoFileSystem(String),
    /// Nothing came in time.
    #[error("no {what} within {} s", .after.as_secs())]
    NotInTime {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(&'static str),
    /// The file system is unmounted.
    #[error("the file system is unmounted")]
    Unmounted,
}

impl Error {
    /// What a POSIX call would report; `None` for what no such call has a number for.
    pub const fn errno(&self) -> Option<Errno> {
        match self {
            Self::Failed { source, .. } => Some(source.errno()),
            Self::Name { source: NameError::TooLong { .. }, .. } => Some(Errno::ENAMETOOLONG),
            Self::Name { .. } => Some(Errno::EINVAL),
            Self::Loop { .. } => Some(Errno::ELOOP),
            Self::Unmounted => Some(Errno::ESHUTDOWN),
            Self::NotInTime { .. } => Some(Errno::ETIMEDOUT),
            _ => None,
        }
    }
}
