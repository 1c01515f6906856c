//! The configuration read anew: `POST /v1/reload`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::client::{Client, ClientError};
use crate::message::SCHEMA;
use crate::problem::Refusal;

/// One key whose value has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Change {
    /// The key.
    pub key: String,
    /// What it was; `None` if it was not set.
    pub from: Option<String>,
    /// What it is; `None` if it is not set any more.
    pub to: Option<String>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reloaded {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What is in force now and was not before.
    pub changes: Vec<Change>,
}

/// How reading it anew went. If anything of it was refused, nothing of it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "these are all the cases")]
pub enum Outcome {
    /// This is in force now.
    Applied(Vec<Change>),
    /// These keys cannot change while the node runs.
    NotLive(Vec<Change>),
    /// It cannot be read, or makes no sense: one line for each fault.
    Invalid(Vec<String>),
}

pub(crate) type Reload = Arc<dyn Fn() -> Outcome + Send + Sync>;

impl Client {
    /// Has the node read its configuration anew.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] names what cannot change while it runs, or what is wrong.
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        self.connect().await?.post("/v1/reload", &serde_json::Map::new()).await
    }
}

pub(crate) fn router(reload: Reload) -> Router {
    Router::new().route("/v1/reload", post(answer)).with_state(reload)
}

async fn answer(State(reload): State<Reload>) -> Result<Response, Refusal> {
    // Reads a file.
    let outcome = tokio::task::spawn_blocking(move || reload()).await.map_err(|_| Refusal::internal())?;
    match outcome {
        Outcome::Applied(changes) => Ok(Json(Reloaded { schema: SCHEMA, changes }).into_response()),
        Outcome::NotLive(changes) => {
            let line = |Change { key, from, to }: &Change| {
                let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
                format!("{key} from {} to {}", text(from), text(to))
            };
            let detail = changes.iter().map(line).collect::<Vec<_>>().join("; ");
            let hint = "restart the node for that; nothing has changed";
            Err(Refusal::new(StatusCode::CONFLICT, "not_live", &detail, hint))
        }
        Outcome::Invalid(faults) => {
            let hint = "nothing has changed";
            Err(Refusal::new(StatusCode::BAD_REQUEST, "bad_configuration", &faults.join("; "), hint))
        }
    }
}
