use core::convert::Infallible;
use core::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::get;
use cuttlebone_bucket::engine::Engine;
use cuttlebone_bucket::{Bucket, Now};
use cuttlebone_tokens::{FenceGate, Registry};

use crate::config::{BODY_BYTES_MAX, Config};
use crate::guard;
use crate::keeping::Keeping;
use crate::mounts::{self, Mounts};
use crate::problem::Refusal;
use crate::routes;
use crate::session::Sessions;
use crate::status::{self, Status, Watch};
use crate::traffic::Traffic;
use crate::{changes, list, reload, update};

/// What a service answers: the parts of a node that are reached over HTTP. A path that no part has is not found.
///
/// The status page, its JSON and its metrics are always there, and show what is known.
#[derive(Clone, Default)]
pub struct Face {
    registry: Option<Registry>,
    mounts: Option<Mounts>,
    keeping: Option<Keeping>,
    reload: Option<reload::Reload>,
    status: Option<Arc<dyn Fn() -> Status + Send + Sync>>,
}

impl Face {
    /// Nothing but its own status.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registrations and tokens. The status page shows them.
    #[must_use]
    pub fn with_tokens(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// A mount table, which knows its principals by itself.
    #[must_use]
    pub fn with_mounts(mut self, mounts: Mounts) -> Self {
        self.mounts = Some(mounts);
        self
    }

    /// Hot reload and the changes of `bucket`. `gate` refuses the hot reload of incarnations that were superseded; it is of
    /// the name [`update::NAME`](crate::update::NAME). `now` tells the time.
    #[must_use]
    pub fn with_bucket<E: Engine>(
        mut self,
        bucket: Bucket<E>,
        gate: FenceGate,
        now: impl Fn() -> Now + Send + Sync + 'static,
    ) -> Self
    where
        E::Snapshot: Unpin,
    {
        self.keeping = Some(Keeping::new(bucket, gate, now));
        self
    }

    /// What reads the configuration anew. It may wait for the disk.
    #[must_use]
    pub fn with_reload(mut self, reload: impl Fn() -> reload::Outcome + Send + Sync + 'static) -> Self {
        self.reload = Some(Arc::new(reload));
        self
    }

    /// What the rest of the node shows of itself. Called at most once in
    /// [`SNAPSHOT_AGE_MAX`](crate::status::SNAPSHOT_AGE_MAX), however many ask; it must not block.
    #[must_use]
    pub fn with_status(mut self, snapshot: impl Fn() -> Status + Send + Sync + 'static) -> Self {
        self.status = Some(Arc::new(snapshot));
        self
    }

    pub(crate) fn router(self, config: &Arc<Config>, traffic: Arc<Traffic>) -> Router {
        let Self { registry, mounts, keeping, reload, status } = self;
        let sessions = Sessions::default();
        let watch = Watch::new(
            status,
            registry.clone(),
            mounts.clone(),
            keeping.clone(),
            sessions.clone(),
            traffic,
            Arc::clone(config),
        );
        let mut guarded = status::router(watch.clone());
        if let Some(registry) = registry {
            guarded = guarded.merge(routes::router(registry, sessions, Arc::clone(config)));
        }
        if let Some(keeping) = keeping {
            guarded = guarded.merge(update::router(keeping.clone()));
            guarded = guarded.merge(changes::router(keeping.clone())).merge(list::router(keeping));
        }
        if let Some(reload) = reload {
            guarded = guarded.merge(reload::router(reload));
        }
        let mut router = guarded
            .route_layer(middleware::from_fn_with_state(Arc::clone(config), guard::authorize))
            .route("/healthz", get(|| async { "ok\n" }))
            .merge(status::readiness(watch.clone()));
        if let Some(mounts) = &mounts {
            router = router.merge(mounts::router(mounts, config));
        }
        router
            .route_layer(middleware::from_fn_with_state(watch, Watch::forget_changed))
            .fallback(|| async { Refusal::not_found("no such path") })
            .method_not_allowed_fallback(|| async { Refusal::method_not_allowed() })
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(middleware::from_fn_with_state(Arc::clone(config), guard::civil))
    }

    /// What has to run beside the answers; never ends.
    pub(crate) fn upkeep(&self) -> impl Future<Output = Infallible> + use<> {
        let mounts = self.mounts.clone();
        async move {
            if let Some(mounts) = mounts {
                mounts.collect().await;
            }
            core::future::pending().await
        }
    }
}

impl From<Mounts> for Face {
    fn from(mounts: Mounts) -> Self {
        Self::new().with_mounts(mounts)
    }
}

impl From<Registry> for Face {
    fn from(registry: Registry) -> Self {
        Self::new().with_tokens(registry)
    }
}

impl fmt::Debug for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Face").field("registry", &self.registry).finish_non_exhaustive()
    }
}
