use core::future::poll_fn;
use core::ops::ControlFlow;
use core::pin::Pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Poll;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Extension, Json, Router};
use cuttlebone_tokens::{
    Acquire, AcquireError, Class, Epoch, HOLDERS_REPORTED_MAX, OwnerId, Register, RegisterError,
    Registration, Registry, Seq, Takeover, Token,
};
use serde::Deserialize;

use crate::config::Config;
use crate::message::{
    Event, LISTED_MAX, LeaseTerms, Listing, ReclaimRequest, RegisterRequest, Row, SCHEMA, TokenRequest,
};
use crate::peer::Peer;
use crate::problem::Refusal;
use crate::session::{Guard, Lines, Place, Session, Sessions};

/// Who registers a name for all who ask for a token without an epoch.
const SERVICE: OwnerId = OwnerId(0);

#[derive(Clone)]
struct App {
    registry: Registry,
    config: Arc<Config>,
    sessions: Sessions,
    owners: Arc<AtomicU64>,
}

type Answer = Result<Response, Refusal>;

pub(crate) fn router(registry: Registry, sessions: Sessions, config: Arc<Config>) -> Router {
    let app = App { registry, config, sessions, owners: Arc::new(AtomicU64::new(SERVICE.0 + 1)) };
    Router::new()
        .route("/v1/registrations", get(list).post(register))
        .route("/v1/registrations/{name}", delete(fence))
        .route("/v1/registrations/{name}/tokens", post(token))
        .route("/v1/registrations/{name}/tokens/{seq}", delete(release))
        .route("/v1/registrations/{name}/reclaims", post(reclaim))
        .route("/v1/sessions/{session}", put(renew))
        .with_state(app)
}

#[derive(Deserialize)]
struct ListQuery {
    /// Only names after this one.
    #[serde(default)]
    after: String,
}

async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Json<Listing> {
    let mut listing = Listing { schema: SCHEMA, registrations: Vec::new(), more: false };
    app.registry.visit(&query.after, HOLDERS_REPORTED_MAX, |name, view| {
        if listing.registrations.len() == LISTED_MAX {
            listing.more = true;
            return ControlFlow::Break(());
        }
        listing.registrations.push(Row::new(name, &view));
        ControlFlow::Continue(())
    });
    Json(listing)
}

#[derive(Deserialize)]
struct FenceQuery {
    /// Also forgets the tokens that are out.
    #[serde(default)]
    force: bool,
}

async fn fence(State(app): State<App>, Path(name): Path<String>, Query(query): Query<FenceQuery>) -> Answer {
    if !app.registry.fence(&name) {
        return Err(Refusal::not_found("nobody has the name"));
    }
    if query.force {
        app.registry.revoke_older(&name, Epoch(u64::MAX));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn release(State(app): State<App>, Path((name, seq)): Path<(String, u64)>) -> Answer {
    if app.sessions.release(&name, seq).await {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(Refusal::not_found("no such token is out"))
}

async fn renew(State(app): State<App>, Path(session): Path<String>) -> Answer {
    match app.sessions.renew(&session).await {
        Some(renewed) => Ok(Json(renewed).into_response()),
        None => Err(Refusal::not_found("no such session: it has ended")),
    }
}

async fn register(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    body: Result<Json<RegisterRequest>, JsonRejection>,
) -> Answer {
    let Json(asked) = body.map_err(|error| Refusal::bad_request(&error))?;
    let place = app.sessions.reserve(app.config.sessions_max)?;
    let owner = OwnerId(app.owners.fetch_add(1, Ordering::Relaxed));
    let mut registering = app.registry.register(&asked.name, owner, asked.takeover.into());
    if let Some(limit) = asked.limit {
        registering = registering.with_tokens(limit);
    }
    let opening = Opening { app, peer, terms: asked.lease, place };
    match first_poll(&mut registering).await {
        Poll::Ready(Ok(registration)) => Ok(opening.answer(Guard::Registration(registration))),
        Poll::Ready(Err(error)) => Err(error.into()),
        Poll::Pending => Ok(opening.wait(Wanted::Registration(registering))),
    }
}

/// Tells the client when it is next.
async fn until_registered(mut registering: Register, lines: &Lines) -> Result<Registration, RegisterError> {
    loop {
        let known = registering.draining_for();
        if let Some(Epoch(epoch)) = known {
            lines.say(Event::Draining { epoch }).await;
        }
        // Comes back when it is decided, or when it has just become known that it is next.
        let step = poll_fn(|cx| match Pin::new(&mut registering).poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if registering.draining_for() != known => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        if let Some(outcome) = step.await {
            return outcome;
        }
    }
}

async fn token(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    body: Result<Json<TokenRequest>, JsonRejection>,
) -> Answer {
    let Json(asked) = body.map_err(|error| Refusal::bad_request(&error))?;
    if asked.epoch.is_some() && asked.limit.is_some() {
        return Err(Refusal::bad_request(&"the limit of a registered name is its owner's to set"));
    }
    let place = app.sessions.reserve(app.config.sessions_max)?;
    let opening = Opening { app: app.clone(), peer, terms: asked.lease, place };
    if let Some(epoch) = asked.epoch {
        let worker = app.registry.worker(&name, Epoch(epoch))?;
        let acquiring = worker.acquire_as(asked.class.into(), asked.slots);
        return opening.token(acquiring, None, asked.wait).await;
    }
    let mut registering = app.registry.register(&name, SERVICE, Takeover::Deny);
    if let Some(limit) = asked.limit {
        registering = registering.with_tokens(limit);
    }
    match first_poll(&mut registering).await {
        Poll::Ready(registration) => {
            let registration = registration?;
            let acquiring = registration.worker().acquire_as(asked.class.into(), asked.slots);
            opening.token(acquiring, Some(registration), asked.wait).await
        }
        Poll::Pending if !asked.wait => Err(AcquireError::WouldBlock.into()),
        Poll::Pending => Ok(opening.wait(Wanted::Shared(registering, asked.class.into(), asked.slots))),
    }
}

async fn reclaim(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    body: Result<Json<ReclaimRequest>, JsonRejection>,
) -> Answer {
    let Json(asked) = body.map_err(|error| Refusal::bad_request(&error))?;
    let place = app.sessions.reserve(app.config.sessions_max)?;
    let (epoch, seq) = (Epoch(asked.epoch), Seq(asked.seq));
    let token: Token = app.registry.reclaim(&name, epoch, seq, asked.class.into(), asked.slots)?;
    let opening = Opening { app, peer, terms: LeaseTerms::Renewed, place };
    Ok(opening.answer(Guard::Token(token, None)))
}

/// What a session needs besides what it asked for.
struct Opening {
    app: App,
    peer: Peer,
    terms: LeaseTerms,
    place: Place,
}

impl Opening {
    async fn token(self, mut acquiring: Acquire, shared: Option<Registration>, wait: bool) -> Answer {
        match first_poll(&mut acquiring).await {
            Poll::Ready(token) => Ok(self.answer(Guard::Token(token?, shared))),
            Poll::Pending if !wait => Err(AcquireError::WouldBlock.into()),
            Poll::Pending => Ok(self.wait(Wanted::Token(acquiring, shared))),
        }
    }

    /// The answer of a session that has what it asked for.
    fn answer(self, guard: Guard) -> Response {
        let (lines, response) = Lines::response();
        let Self { app, peer, terms, place } = self;
        tokio::spawn(Session { guard, lines, peer, terms, place }.run(app.config));
        response
    }

    /// The answer of a session that waits for what it asked for. A client that goes away holds nothing yet, so it
    /// simply waits no longer.
    fn wait(self, wanted: Wanted) -> Response {
        let (lines, response) = Lines::response();
        let Self { app, peer, terms, place } = self;
        tokio::spawn(async move {
            if !lines.say(Event::Waiting).await {
                return;
            }
            let outcome = tokio::select! {
                outcome = wanted.come(&lines) => outcome,
                () = lines.closed() => return,
            };
            match outcome {
                Ok(guard) => Session { guard, lines, peer, terms, place }.run(app.config).await,
                Err(Refusal(_, problem)) => {
                    lines.say(Event::Failed(problem)).await;
                }
            }
        });
        response
    }
}

/// What a session waits for.
enum Wanted {
    Registration(Register),
    Token(Acquire, Option<Registration>),
    /// A token of a name that the service itself registers.
    Shared(Register, Class, u32),
}

impl Wanted {
    async fn come(self, lines: &Lines) -> Result<Guard, Refusal> {
        Ok(match self {
            Self::Registration(registering) => {
                Guard::Registration(until_registered(registering, lines).await?)
            }
            Self::Token(acquiring, shared) => Guard::Token(acquiring.await?, shared),
            Self::Shared(registering, class, slots) => {
                let registration = registering.await?;
                let token = registration.worker().acquire_as(class, slots).await?;
                Guard::Token(token, Some(registration))
            }
        })
    }
}

/// Polls once: most requests are decided at once, and then the status line says how.
async fn first_poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}
