use core::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use cuttlebone_tokens::Registry;

use crate::config::{BODY_BYTES_MAX, Config};
use crate::mounts::{self, Mounts};
use crate::problem::Refusal;
use crate::routes;

/// What one listener serves: any of the parts of a node that have an HTTP face.
#[derive(Clone, Debug, Default)]
pub struct Services {
    tokens: Option<Registry>,
    mounts: Option<Mounts>,
}

impl Services {
    /// Nothing but `/healthz`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves a token registry.
    #[must_use]
    pub fn with_tokens(self, registry: Registry) -> Self {
        Self { tokens: Some(registry), ..self }
    }

    /// Serves a mount table.
    #[must_use]
    pub fn with_mounts(self, mounts: Mounts) -> Self {
        Self { mounts: Some(mounts), ..self }
    }

    pub(crate) fn router(&self, config: &Arc<Config>) -> Router {
        let mut router = Router::new().route("/healthz", get(|| async { "ok\n" }));
        if let Some(registry) = &self.tokens {
            router = router.merge(routes::tokens(registry.clone(), config));
        }
        if let Some(mounts) = &self.mounts {
            router = router.merge(mounts::router(mounts, config));
        }
        router
            .method_not_allowed_fallback(|| async { Refusal::method_not_allowed() })
            .fallback(|| async { Refusal::not_found("no such path") })
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
    }

    /// What has to run beside the answers; never ends.
    pub(crate) async fn upkeep(&self) -> Infallible {
        if let Some(mounts) = &self.mounts {
            mounts.collect().await;
        }
        core::future::pending().await
    }
}

impl From<Mounts> for Services {
    fn from(mounts: Mounts) -> Self {
        Self::new().with_mounts(mounts)
    }
}

impl From<Registry> for Services {
    fn from(registry: Registry) -> Self {
        Self::new().with_tokens(registry)
    }
}
