use axum::http::StatusCode;
use cuttlebone_mounttable::{Error, JournalError, SharedError};

use crate::mounts::message::Refused;
use crate::problem::Refusal;

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (status, word, hint) = match &error {
            Error::Covered { .. } => {
                (StatusCode::CONFLICT, "covered", "ask the servers that are mounted above")
            }
            Error::Denied { .. } => {
                (StatusCode::FORBIDDEN, "denied", "GET /v1/permissions/{name} says who may")
            }
            Error::Fenced { .. } => {
                (StatusCode::CONFLICT, "fenced", "stop: another incarnation has taken this one's place")
            }
            Error::Full { .. } => {
                (StatusCode::INSUFFICIENT_STORAGE, "full", "the service was started with this limit")
            }
            Error::KindDiffers { .. } => {
                (StatusCode::CONFLICT, "kind_differs", "unmount the servers of the other kind first")
            }
            Error::Name(_) => {
                (StatusCode::BAD_REQUEST, "bad_name", "names are elements with slashes between them")
            }
            Error::NotEmpty { .. } => {
                (StatusCode::CONFLICT, "not_empty", "delete the whole subtree if you mean it")
            }
            Error::NoSuchName => {
                (StatusCode::NOT_FOUND, "no_such_name", "GET /v1/mounts?glob=... lists what there is")
            }
            Error::Root => (StatusCode::BAD_REQUEST, "root", "say which name below the root"),
            Error::Quota { .. } => {
                (StatusCode::FORBIDDEN, "quota", "unmount names that are not needed any more")
            }
            Error::Version { .. } => {
                (StatusCode::PRECONDITION_FAILED, "version", "read them again, then set them")
            }
            _ => (StatusCode::CONFLICT, "refused", "see the detail"),
        };
        // A name's own fault is behind the sentence that there is one.
        let detail = match &error {
            Error::Name(name) => name.to_string(),
            other => other.to_string(),
        };
        Self::new(status, word, &detail, hint)
    }
}

impl From<SharedError> for Refusal {
    fn from(error: SharedError) -> Self {
        match error {
            SharedError::Table(error) => error.into(),
            SharedError::Journal(JournalError::TooLarge) => {
                Self::bad_request(&"the change is too large to be written down in one piece")
            }
            other => {
                let hint = "nothing has changed; look at the disk of the service";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "journal", &other, hint)
            }
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let newer = if let Error::Fenced { newer } = &error { Some(newer.0) } else { None };
        Self { problem: Refusal::from(error).1, newer }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { problem: refusal.1, newer: None }
    }
}
