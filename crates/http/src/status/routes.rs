use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::{Stage, Watch, metrics};

/// What only those may see who have the bearer token.
pub(crate) fn router(watch: Watch) -> Router {
    Router::new().route("/v1/status", get(json)).route("/metrics", get(prometheus)).with_state(watch)
}

/// What a load balancer may see.
pub(crate) fn readiness(watch: Watch) -> Router {
    Router::new().route("/readyz", get(ready)).with_state(watch)
}

const FRESH: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

async fn json(State(watch): State<Watch>) -> Response {
    ([FRESH], Json(&*watch.snapshot())).into_response()
}

async fn prometheus(State(watch): State<Watch>) -> impl IntoResponse {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([FRESH, (header::CONTENT_TYPE, kind)], metrics::text(&watch.snapshot()))
}

async fn ready(State(watch): State<Watch>) -> Response {
    let stage = watch.snapshot().node.stage;
    let (status, word) = match stage {
        Stage::Serving => (StatusCode::OK, "ready\n"),
        Stage::WarmingUp => (StatusCode::SERVICE_UNAVAILABLE, "warming up\n"),
        Stage::CatchingUp => (StatusCode::SERVICE_UNAVAILABLE, "catching up\n"),
        Stage::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    };
    (status, [FRESH], word).into_response()
}
