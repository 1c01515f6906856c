use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cuttlebone_tokens::{AcquireError, RegisterError};

use crate::message::Problem;

/// A refusal with its status.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) Problem);

impl Refusal {
    pub(crate) fn new(status: StatusCode, error: &str, detail: &dyn ToString, hint: &str) -> Self {
        Self(status, Problem { error: error.into(), detail: detail.to_string(), hint: hint.into() })
    }

    pub(crate) fn unauthorized() -> Self {
        let hint = "send the bearer token the service was started with";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", &"no valid bearer token", hint)
    }

    pub(crate) fn another_site() -> Self {
        let hint = "pages of other sites may not use this service";
        Self::new(StatusCode::FORBIDDEN, "forbidden", &"asked by a page of another site", hint)
    }

    pub(crate) fn another_host() -> Self {
        let hint = "use an address in numbers or localhost, or start the service with a bearer token";
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            &"the name in the header `host` is not of this machine",
            hint,
        )
    }

    pub(crate) fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", &detail, "GET /v1/registrations lists what there is")
    }

    pub(crate) fn method_not_allowed() -> Self {
        let hint = "the header `allow` has the methods of this path";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &"not a method of this path", hint)
    }

    pub(crate) fn bad_request(detail: &dyn ToString) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad_request",
            detail,
            "the README of cuttlebone-http has every body",
        )
    }

    pub(crate) fn internal() -> Self {
        let hint = "this is a defect of the service; its log says more";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", &"the work broke off", hint)
    }

    pub(crate) fn too_many_sessions() -> Self {
        let hint = "try again later, or raise the limit";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "at_capacity", &"too many open sessions", hint)
    }
}

impl From<RegisterError> for Refusal {
    fn from(error: RegisterError) -> Self {
        let (status, word, hint) = match &error {
            RegisterError::NameTaken => (StatusCode::CONFLICT, "name_taken", "wait for it or preempt it"),
            RegisterError::Fenced => {
                (StatusCode::CONFLICT, "fenced", "another incarnation overtook this one")
            }
            RegisterError::DrainTimeout(_) => {
                (StatusCode::CONFLICT, "drain_timeout", "end the holders, or fence them at the resource")
            }
            RegisterError::BadName(_) => (StatusCode::BAD_REQUEST, "bad_name", "names have 1 to 255 bytes"),
            RegisterError::TimedOut => (StatusCode::REQUEST_TIMEOUT, "timed_out", "try again"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "try again later"),
        };
        Self::new(status, word, &error, hint)
    }
}

impl From<AcquireError> for Refusal {
    fn from(error: AcquireError) -> Self {
        let (status, word, hint) = match &error {
            AcquireError::NotRegistered => {
                (StatusCode::NOT_FOUND, "not_registered", "register the name, or leave the epoch out")
            }
            AcquireError::Fenced => (StatusCode::CONFLICT, "fenced", "stop: this incarnation is over"),
            AcquireError::WouldBlock => (StatusCode::CONFLICT, "would_block", "wait, or try again"),
            AcquireError::TooMany { .. } => (StatusCode::BAD_REQUEST, "too_many", "ask for fewer slots"),
            AcquireError::NothingToReclaim => {
                (StatusCode::GONE, "nothing_to_reclaim", "the work is over; register anew")
            }
            AcquireError::TimedOut => (StatusCode::REQUEST_TIMEOUT, "timed_out", "try again"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "try again later"),
        };
        Self::new(status, word, &error, hint)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.0, axum::Json(self.1)).into_response();
        if self.0 == StatusCode::UNAUTHORIZED {
            // So that a browser asks whoever looks at the status page.
            let challenge = HeaderValue::from_static("Basic realm=\"cuttlebone\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
