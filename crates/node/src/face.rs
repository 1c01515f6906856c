use core::fmt;
use std::sync::Arc;

use cuttlebone_http::mounts::Mounts;
use cuttlebone_http::reload::Outcome;
use cuttlebone_http::{Address, Config, Server};
use cuttlebone_tokens::Registry;

use crate::Ground;
use crate::part::{Running, Service};

/// The node over HTTP: status page, metrics, tokens, hot reload, changes; whatever of it the node has.
#[derive(Clone)]
pub struct Face {
    address: Address,
    config: Config,
    mounts: Option<Mounts>,
    reload: Option<Arc<dyn Fn() -> Outcome + Send + Sync>>,
}

impl Face {
    /// Listens there. An address that other machines can reach needs a bearer token in [`with_config`](Self::with_config).
    pub fn listening(address: Address) -> Self {
        Self { address, config: Config::default(), mounts: None, reload: None }
    }

    /// Limits, lease, bearer token.
    #[must_use]
    pub fn with_config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// A mount table, for whoever has something to announce or to find.
    #[must_use]
    pub fn with_mounts(self, mounts: Mounts) -> Self {
        Self { mounts: Some(mounts), ..self }
    }

    /// What reads the configuration anew when it is asked to.
    #[must_use]
    pub fn with_reload(self, reload: impl Fn() -> Outcome + Send + Sync + 'static) -> Self {
        Self { reload: Some(Arc::new(reload)), ..self }
    }
}

impl fmt::Debug for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Face")
            .field("address", &self.address)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Service for Face {
    fn name(&self) -> &'static str {
        "http"
    }

    fn run(self: Box<Self>, ground: Ground) -> Running {
        Box::pin(async move {
            let server = Server::bind(&self.address, self.config).await?;
            let address = server.address().to_string();
            tracing::info!(part = ground.part(), address, "serving");
            ground.shared().serving_http(address);
            let mut face = cuttlebone_http::Face::new();
            if let Some(registry) = ground.registry() {
                face = face.with_tokens(registry.clone());
            }
            if let (Some(bucket), Some(gate)) = (ground.bucket(), &ground.shared().gate) {
                let clock = ground.clone();
                face = face.with_bucket(bucket.clone(), gate.clone(), move || clock.now());
            }
            if let Some(mounts) = self.mounts {
                face = face.with_mounts(mounts);
            }
            if let Some(reload) = self.reload {
                face = face.with_reload(move || reload());
            }
            let shared = Arc::clone(ground.shared());
            face = face.with_status(move || shared.status());
            let watchdog = ground.registry().map(Registry::watchdog);
            let watched = async {
                if let Some(watchdog) = watchdog {
                    watchdog.await;
                }
                core::future::pending::<()>().await;
            };
            let over = ground.clone();
            tokio::select! {
                () = server.serve(face, async move { over.stopping().await }) => {}
                () = watched => {}
            }
            Ok(())
        })
    }
}
