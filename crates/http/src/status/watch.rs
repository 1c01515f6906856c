use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use cuttlebone_tokens::{HOLDERS_REPORTED_MAX, NameState, Registry};
use tokio::time::Instant;

use super::{ListenerStatus, ROWS_MAX, Status, TokensStatus, UpdateStage};
use crate::config::Config;
use crate::keeping::Keeping;
use crate::message::{Row, millis};
use crate::mounts::Mounts;
use crate::session::Sessions;
use crate::traffic::Traffic;
use crate::update;

/// How long one snapshot answers everybody who asks, so that looking at a node is never work for it. What is changed over
/// the same listener is seen at once.
pub const SNAPSHOT_AGE_MAX: Duration = Duration::from_millis(200);

type Snapshot = dyn Fn() -> Status + Send + Sync;

/// Takes snapshots: the node's part from the node, the rest from what the face serves itself.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Inner>);

struct Inner {
    node: Option<Arc<Snapshot>>,
    registry: Option<Registry>,
    mounts: Option<Mounts>,
    keeping: Option<Keeping>,
    sessions: Sessions,
    traffic: Arc<Traffic>,
    config: Arc<Config>,
    opened: Instant,
    latest: Mutex<Option<(Instant, Arc<Status>)>>,
}

impl Watch {
    pub(crate) fn new(
        node: Option<Arc<Snapshot>>,
        registry: Option<Registry>,
        mounts: Option<Mounts>,
        keeping: Option<Keeping>,
        sessions: Sessions,
        traffic: Arc<Traffic>,
        config: Arc<Config>,
    ) -> Self {
        Self(Arc::new(Inner {
            node,
            registry,
            mounts,
            keeping,
            sessions,
            traffic,
            config,
            opened: Instant::now(),
            latest: Mutex::default(),
        }))
    }

    pub(crate) fn snapshot(&self) -> Arc<Status> {
        // Held while the snapshot is taken, so that a crowd takes one.
        let mut latest = self.0.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((taken, status)) = &*latest
            && now - *taken < SNAPSHOT_AGE_MAX
        {
            return Arc::clone(status);
        }
        let status = Arc::new(self.0.take(now));
        *latest = Some((now, Arc::clone(&status)));
        status
    }

    /// Whoever has changed something sees it at once.
    pub(crate) async fn forget_changed(State(watch): State<Self>, request: Request, next: Next) -> Response {
        let changes = !request.method().is_safe();
        let response = next.run(request).await;
        if changes {
            *watch.0.latest.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        response
    }
}

impl Inner {
    fn take(&self, now: Instant) -> Status {
        let mut status = match &self.node {
            Some(node) => node(),
            None => Status::default(),
        };
        if self.node.is_none() {
            status.node.uptime_ms = millis(now - self.opened);
        }
        if let Some(registry) = &self.registry {
            status.tokens = tokens(registry);
        }
        if let Some(mounts) = &self.mounts {
            status.mounts = mounts.rows(&self.config);
        }
        if let Some(keeping) = &self.keeping
            && status.update.stage != UpdateStage::Off
        {
            status.update.owner = keeping.begun_by().map(|epoch| format!("{} {epoch}", update::NAME));
        }
        status.listener = ListenerStatus {
            connections: self.traffic.open(),
            connections_max: self.config.connections_max as u64,
            accepted_total: self.traffic.accepted(),
            turned_away_total: self.traffic.turned_away(),
            sessions: self.sessions.open(),
            sessions_max: self.config.sessions_max as u64,
        };
        status
    }
}

fn tokens(registry: &Registry) -> TokensStatus {
    let mut tokens = TokensStatus { fenced_total: registry.fenced_total(), ..TokensStatus::default() };
    registry.visit("", HOLDERS_REPORTED_MAX, |name, view| {
        tokens.held += view.outstanding as u64;
        tokens.slots_held += view.slots_held;
        tokens.waiting += view.waiting as u64;
        tokens.draining += u64::from(view.state == NameState::Draining);
        tokens.names.total += 1;
        if tokens.names.rows.len() < ROWS_MAX {
            tokens.names.rows.push(Row::new(name, &view));
        }
        core::ops::ControlFlow::Continue(())
    });
    tokens
}
