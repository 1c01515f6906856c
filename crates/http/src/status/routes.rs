use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::{Stage, Watch, metrics, page};

/// What only those may see who have the bearer token.
pub(crate) fn router(watch: Watch) -> Router {
    Router::new()
        .route("/", get(html))
        .route("/style.css", get(async || asset("text/css; charset=utf-8", page::STYLE)))
        .route("/live.js", get(async || asset("text/javascript; charset=utf-8", page::SCRIPT)))
        .route("/v1/status", get(json))
        .route("/metrics", get(prometheus))
        .with_state(watch)
}

/// What a load balancer may see.
pub(crate) fn readiness(watch: Watch) -> Router {
    Router::new().route("/readyz", get(ready)).with_state(watch)
}

const FRESH: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// What the page may do: load its own style and script and fetch itself, and nothing else; and nobody may frame it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

async fn html(State(watch): State<Watch>) -> impl IntoResponse {
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    let policy = HeaderValue::from_static(POLICY);
    (
        [
            FRESH,
            (header::CONTENT_TYPE, kind),
            (header::CONTENT_SECURITY_POLICY, policy),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ],
        page::html(&watch.snapshot()),
    )
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([FRESH, (header::CONTENT_TYPE, HeaderValue::from_static(kind))], text)
}

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
