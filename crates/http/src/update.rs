//! Hot reload over HTTP: `POST /v1/update/start`, `/complete`, `/revert`.
//!
//! Whoever drives it registers the name [`NAME`], takes its token, and shows the token's fence with each call. The gate
//! lets one incarnation in at a time: what an older one asks for after a newer one has is refused for good.

use core::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use cuttlebone_bucket::Error;
use cuttlebone_tokens::{Admission, AdmitError, Fence};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::client::{Client, ClientError};
use crate::keeping::Keeping;
use crate::message::SCHEMA;
use crate::problem::Refusal;

/// The name under which hot reload is driven: registered by whoever drives it, and that of the gate.
pub const NAME: &str = "update";

/// How long a newer incarnation waits for the last operation of an older one.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// How long a client waits for the answer.
const ANSWER_MAX: Duration = Duration::from_secs(600);

/// The body of all three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a request is written by its caller")]
pub struct UpdateRequest {
    /// The fence of a token of [`NAME`].
    pub fence: String,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Updated {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `start`, `complete` or `revert`.
    pub done: String,
    /// Keys that a revert restored.
    pub restored_keys: u64,
}

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "these are all the steps")]
pub enum Step {
    /// From now on nothing is persisted.
    Start,
    /// Everything since the start is kept.
    Complete,
    /// Everything since the start is undone.
    Revert,
}

impl Step {
    /// Its word in paths.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Complete => "complete",
            Self::Revert => "revert",
        }
    }
}

impl Client {
    /// Takes one step of hot reload; `fence` is that of a token of [`NAME`].
    ///
    /// Waits as long as the disk takes to write what came before the window, however long that is.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the step to be carried out or not.
    pub async fn update(&self, step: Step, fence: &str) -> Result<Updated, ClientError> {
        let patient = self.clone().with_timeout(ANSWER_MAX);
        let body = UpdateRequest { fence: fence.into() };
        patient.connect().await?.post(&format!("/v1/update/{}", step.word()), &body).await
    }
}

pub(crate) fn router(keeping: Keeping) -> Router {
    Router::new().route("/v1/update/{step}", post(update)).with_state(keeping)
}

async fn update(
    State(keeping): State<Keeping>,
    step: Result<Path<Step>, axum::extract::rejection::PathRejection>,
    body: Result<Json<UpdateRequest>, JsonRejection>,
) -> Result<Json<Updated>, Refusal> {
    let Path(step) = step.map_err(|_| Refusal::not_found("no such step of hot reload"))?;
    let Json(asked) = body.map_err(|error| Refusal::bad_request(&error))?;
    let fence: Fence = asked.fence.parse().map_err(|error| Refusal::bad_request(&error))?;
    let admission = admit(&keeping, &fence).await?;
    // The admission goes with the work, which goes on when the client has gone: it counts as running until it has ended.
    let work = move || {
        let outcome = carry_out(&keeping, step);
        // Still admitted: the log has the steps in the order in which they took effect.
        let (epoch, done) = (admission.epoch().0, outcome.is_ok());
        if done {
            keeping.set_begun_by((step == Step::Start).then_some(admission.epoch()));
        }
        tracing::info!(step = step.word(), epoch, done, "hot reload");
        drop(admission);
        outcome
    };
    let restored_keys = tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::internal())??;
    Ok(Json(Updated { schema: SCHEMA, done: step.word().into(), restored_keys }))
}

/// Waits until no older operation is running.
async fn admit(keeping: &Keeping, fence: &Fence) -> Result<Admission, Refusal> {
    loop {
        match keeping.gate.admit(fence) {
            Err(AdmitError::Draining) => {
                let drained = timeout(DRAIN_MAX, keeping.gate.advance(fence.epoch())).await;
                drained.map_err(|_| Refusal::from(AdmitError::Draining))?;
            }
            decided => return Ok(decided?),
        }
    }
}

fn carry_out(keeping: &Keeping, step: Step) -> Result<u64, Refusal> {
    let bucket = &keeping.bucket;
    let restored = || {
        let stats = bucket.update_stats();
        stats.reverted_adds + stats.reverted_updates + stats.reverted_deletes
    };
    let before = restored();
    match step {
        Step::Start => bucket.start_update()?,
        Step::Complete => bucket.complete_update()?,
        Step::Revert => bucket.revert_update()?,
    }
    Ok(restored() - before)
}

impl From<AdmitError> for Refusal {
    fn from(error: AdmitError) -> Self {
        let (status, word, hint) = match &error {
            AdmitError::Stale => (StatusCode::CONFLICT, "fenced", "stop: this incarnation is over"),
            AdmitError::OtherName => {
                (StatusCode::BAD_REQUEST, "other_name", "hot reload takes the tokens of the name `update`")
            }
            _ => (StatusCode::SERVICE_UNAVAILABLE, "draining", "try again"),
        };
        Self::new(status, word, &error, hint)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (status, word, hint) = match &error {
            Error::UpdateOn => (StatusCode::CONFLICT, "update_on", "complete or revert it first"),
            Error::UpdateOff => (StatusCode::CONFLICT, "update_off", "start it first"),
            Error::NotMyVbucket => {
                (StatusCode::NOT_FOUND, "no_such_vbucket", "GET /v1/status lists what there is")
            }
            Error::NotDrained | Error::Paused | Error::Engine(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "not_drained", "nothing has changed; try again")
            }
            _ => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "try again later"),
        };
        Self::new(status, word, &error, hint)
    }
}
