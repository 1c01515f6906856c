use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use cuttlebone_mounttable::{
    Epoch, Error, Name, Pattern, Principal, Server, ServerError, SharedTable, Subtree, Version, Which,
};
use serde::Deserialize;

use super::message::{
    Batch, BatchAnswer, BatchMount, BatchUnmount, MountRequest, MountedRow, Outcome, PermissionsRequest,
    PermissionsRow, ResolvedRow,
};
use super::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, Mounts, PERMISSIONS_BYTES_MAX, Principals, streams};
use crate::config::Config;
use crate::message::SCHEMA;
use crate::problem::Refusal;

#[derive(Clone)]
struct App {
    table: SharedTable,
    principals: Principals,
    config: Arc<Config>,
}

type Answer = Result<Response, Refusal>;

/// The paths of a mount table.
pub(crate) fn router(mounts: &Mounts, config: &Arc<Config>) -> Router {
    let app = App {
        table: mounts.table.clone(),
        principals: mounts.principals.clone(),
        config: Arc::clone(config),
    };
    let batch = post(batch).layer(DefaultBodyLimit::max(BATCH_BYTES_MAX));
    let root = get(ask).put(mount).delete(unmount).merge(batch);
    let permissions =
        || get(permissions).put(set_permissions).layer(DefaultBodyLimit::max(PERMISSIONS_BYTES_MAX));
    Router::new()
        .route("/v1/mounts", root.clone())
        .route("/v1/mounts/", root)
        .route("/v1/mounts/{*name}", get(ask).put(mount).delete(unmount))
        .route("/v1/permissions", permissions())
        .route("/v1/permissions/", permissions())
        .route("/v1/permissions/{*name}", permissions())
        .with_state(app)
}

/// Who asks, by what the request shows.
struct Asker(Principal);

impl FromRequestParts<App> for Asker {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let shown = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        app.principals.identify(app.config.bearer.as_ref(), shown).map(Self).ok_or_else(Refusal::unauthorized)
    }
}

/// The name in the path; without one, the root.
struct Named(Name);

impl FromRequestParts<App> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let path = Option::<Path<String>>::from_request_parts(parts, app).await;
        let text =
            path.map_err(|error| Refusal::bad_request(&error))?.map_or_else(String::new, |path| path.0);
        Ok(Self(Name::parse(&text).map_err(Error::Name)?))
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    glob: Option<String>,
    watch: Option<String>,
}

async fn ask(
    Asker(who): Asker,
    State(app): State<App>,
    Named(name): Named,
    question: Result<Query<Question>, QueryRejection>,
) -> Answer {
    let Query(question) = question.map_err(|error| Refusal::bad_request(&error))?;
    match (question.glob, question.watch) {
        (None, None) => {
            let resolved = app.table.resolve(&who, &name)?;
            Ok(Json(ResolvedRow::from(&resolved)).into_response())
        }
        (Some(glob), None) => streams::glob(&app.table, who, name, pattern(&glob)?).await,
        (None, Some(watch)) => streams::watch(&app.table, who, name, &pattern(&watch)?),
        (Some(_), Some(_)) => Err(Refusal::bad_request(&"either glob or watch")),
    }
}

fn pattern(text: &str) -> Result<Pattern, Refusal> {
    Pattern::parse(text).map_err(|error| {
        let hint = "elements with *, ?, [a-c] and \\ escapes, and at the end ... or ***";
        Refusal::new(StatusCode::BAD_REQUEST, "bad_pattern", &error, hint)
    })
}

fn bad_server(error: ServerError) -> Refusal {
    let hint = "10.0.0.1:7000 and [::1]:7000/suffix are servers";
    Refusal::new(StatusCode::BAD_REQUEST, "bad_server", &error, hint)
}

async fn mount(
    Asker(who): Asker,
    State(app): State<App>,
    Named(name): Named,
    body: Result<Json<MountRequest>, JsonRejection>,
) -> Answer {
    let Json(asked) = body.map_err(|error| Refusal::bad_request(&error))?;
    let mounted = app.table.mount(&who, &asked.read(name).map_err(bad_server)?)?;
    Ok(Json(MountedRow::from(mounted)).into_response())
}

/// What a `DELETE` means: a server, or without one all of them; with `subtree` the name itself.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Removal {
    server: Option<String>,
    #[serde(default)]
    epoch: u64,
    /// Also what was set for the name: whether names below it make this fail, or go too.
    subtree: Option<SubtreeWord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum SubtreeWord {
    Keep,
    Delete,
}

async fn unmount(
    Asker(who): Asker,
    State(app): State<App>,
    Named(name): Named,
    removal: Result<Query<Removal>, QueryRejection>,
) -> Answer {
    let Query(removal) = removal.map_err(|error| Refusal::bad_request(&error))?;
    match (removal.server, removal.subtree) {
        (Some(server), None) => {
            let server = Server::parse(&server).map_err(bad_server)?;
            app.table.unmount(&who, &name, &Which::One { server, epoch: Epoch(removal.epoch) })?;
        }
        (None, None) => app.table.unmount(&who, &name, &Which::All)?,
        (None, Some(SubtreeWord::Keep)) => app.table.delete(&who, &name, Subtree::Keep)?,
        (None, Some(SubtreeWord::Delete)) => app.table.delete(&who, &name, Subtree::Delete)?,
        (Some(_), Some(_)) => return Err(Refusal::bad_request(&"a name is deleted with all its servers")),
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn batch(
    Asker(who): Asker,
    State(app): State<App>,
    body: Result<Json<Batch>, JsonRejection>,
) -> Answer {
    let Json(batch) = body.map_err(|error| Refusal::bad_request(&error))?;
    if batch.mount.len() + batch.unmount.len() > BATCH_ENTRIES_MAX {
        return Err(Refusal::bad_request(&format_args!("more than {BATCH_ENTRIES_MAX} entries")));
    }
    let mounted = batch.mount.into_iter().map(|entry| mount_one(&app.table, &who, entry)).collect();
    let unmounted = batch.unmount.iter().map(|entry| unmount_one(&app.table, &who, entry)).collect();
    Ok(Json(BatchAnswer { schema: SCHEMA, mounted, unmounted }).into_response())
}

fn mount_one(table: &SharedTable, who: &Principal, entry: BatchMount) -> Outcome {
    let done = || {
        let (name, asked) = entry.split();
        let mount = asked.read(Name::parse(&name).map_err(Error::Name)?).map_err(bad_server)?;
        Ok(table.mount(who, &mount)?)
    };
    match done() {
        Ok(mounted) => Outcome::Mounted(mounted.into()),
        Err(refused) => Outcome::Refused(refused),
    }
}

fn unmount_one(table: &SharedTable, who: &Principal, entry: &BatchUnmount) -> Outcome {
    let done = || {
        let name = Name::parse(&entry.name).map_err(Error::Name)?;
        let server = Server::parse(&entry.server).map_err(bad_server)?;
        Ok(table.unmount(who, &name, &Which::One { server, epoch: Epoch(entry.epoch) })?)
    };
    match done() {
        Ok(()) => Outcome::Unmounted,
        Err(refused) => Outcome::Refused(refused),
    }
}

async fn permissions(Asker(who): Asker, State(app): State<App>, Named(name): Named) -> Answer {
    let (permissions, version) = app.table.permissions(&who, &name)?.unzip();
    let version = version.unwrap_or_default().0;
    Ok(Json(PermissionsRow { schema: SCHEMA, permissions, version }).into_response())
}

async fn set_permissions(
    Asker(who): Asker,
    State(app): State<App>,
    Named(name): Named,
    body: Result<Json<PermissionsRequest>, JsonRejection>,
) -> Answer {
    let Json(asked) = body.map_err(|error| Refusal::bad_request(&error))?;
    let expected = asked.version.map(Version);
    app.table.set_permissions(&who, &name, &asked.permissions, expected)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
