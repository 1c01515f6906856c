use std::io;

use cuttlebone_wire::DecodeError;

/// Why a copy could not be read or written, sorted by whose fault it is.
///
/// Keys appear in errors, values never.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk said no.
    #[error("{action} {file}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file's name inside the directory.
        file: String,
        /// What the system answered.
        source: io::Error,
    },
    /// The disk or the quota is full. Earlier points are intact.
    #[error("no space left to {action} {file}")]
    NoSpace {
        /// What was tried.
        action: &'static str,
        /// The file's name inside the directory.
        file: String,
    },
    /// Another writer has the directory.
    #[error("another writer holds the copy{}", .pid.map(|pid| format!(", process {pid}")).unwrap_or_default())]
    Locked {
        /// Its process id, if it has written one.
        pid: Option<u32>,
    },
    /// The directory holds no copy.
    #[error("{dir} holds no copy of a store")]
    NotAStore {
        /// The directory.
        dir: String,
    },
    /// The directory holds something else, and a copy has to have one of its own.
    #[error("{dir} holds files that are no copy of a store; give an empty directory")]
    ForeignDirectory {
        /// The directory.
        dir: String,
    },
    /// What is on disk is not what was written.
    #[error("corrupt copy")]
    Corrupt(#[from] Corruption),
    /// The copy was written by a newer release.
    #[error("{file} has format {version}, and this release reads up to {known}")]
    TooNew {
        /// The file's name inside the directory.
        file: String,
        /// Its version.
        version: u32,
        /// The newest version known here.
        known: u32,
    },
    /// No point answers to the selector.
    #[error("no point {0}")]
    NoSuchPoint(crate::Selector),
    /// What the provider sent cannot become a consistent copy.
    #[error("the provider's data cannot be kept")]
    Provider(#[from] ProviderFault),
    /// A fixed limit of this crate was met.
    #[error("more than {max} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The caller broke a rule of this crate.
    #[error("{0}")]
    Misuse(&'static str),
    /// An earlier write failed such that only opening the copy again tells what is on disk.
    #[error("an earlier failure left the writer unsure of the disk; open the copy again")]
    Poisoned,
}

/// Bytes on disk that are not what was written, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}{}: {what}", .at.map(|at| format!(" at byte {at}")).unwrap_or_default(),
    .key.as_ref().map(|key| format!(" (key {key})")).unwrap_or_default())]
#[non_exhaustive]
pub struct Corruption {
    /// The file's name inside the directory.
    pub file: String,
    /// Offset in bytes, where one can be named.
    pub at: Option<u64>,
    /// `prefix:key`, escaped as the stock tool does, where a key is concerned.
    pub key: Option<String>,
    /// What is wrong.
    pub what: &'static str,
}

impl Corruption {
    pub(crate) fn new(file: impl Into<String>, at: impl Into<Option<u64>>, what: &'static str) -> Self {
        Self { file: file.into(), at: at.into(), key: None, what }
    }

    pub(crate) fn of_key(self, key: &[u8]) -> Self {
        Self { key: Some(crate::list::key_text(key)), ..self }
    }
}

/// What is wrong with what a provider sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderFault {
    /// A prefix holds a NUL byte, which no store can keep apart from its key.
    #[error("a prefix holds a NUL byte")]
    NulInPrefix,
    /// A version to be replayed was not delivered.
    #[error("paxos version {0} was not delivered")]
    MissingVersion(u64),
    /// A version to be replayed is not a transaction.
    #[error("paxos version {version} is not a transaction: {error}")]
    Malformed {
        /// The version.
        version: u64,
        /// Where and why decoding failed.
        error: DecodeError,
    },
    /// After replay, the copy's own `paxos:last_committed` is not the version that the pull ended with.
    #[error("the copy says {found:?} is its last version, the provider said {expected}")]
    LastCommitted {
        /// What the provider said.
        expected: u64,
        /// What the copy says.
        found: Option<u64>,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, file: &str, source: io::Error) -> Self {
        let file = file.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { action, file },
            _ => Self::Io { action, file, source },
        }
    }

    /// Whether the copy itself is damaged, as opposed to the way to it.
    pub const fn is_corruption(&self) -> bool {
        matches!(self, Self::Corrupt(_))
    }

    /// Whether the same call can succeed later without anybody repairing anything.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Locked { .. } | Self::NoSpace { .. })
    }
}
