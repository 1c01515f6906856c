//! Answers that are lines: what a glob finds, and what a watch tells.

use core::convert::Infallible;
use core::pin::Pin;
use core::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cuttlebone_mounttable::{Lagged, Name, Pattern, Principal, SharedTable, Watch, Watched};
use futures::future::ready;
use futures::stream::{self, Stream, StreamExt};
use tokio::time::timeout;

use super::message::{FoundRow, WatchLine};
use crate::problem::Refusal;
use crate::session::line;

/// Lines that are written in one piece, where they come faster than they are sent.
const LINES_AT_ONCE: usize = 64;
/// How long nothing happens before a watcher hears that its connection works.
pub(super) const ALIVE_EVERY: Duration = Duration::from_secs(10);

type Answer = Result<Response, Refusal>;

/// Everything that matches below `base`. Whoever reads slowly holds nobody up: the table is looked at when lines are
/// asked for.
pub(super) async fn glob(table: &SharedTable, who: Principal, base: Name, pattern: Pattern) -> Answer {
    let mut found = table.glob(who, base, pattern).peekable();
    // Only its beginning can be refused, and that is known before anything is found.
    if let Some(Err(error)) = Pin::new(&mut found).next_if(Result::is_err).await {
        return Err(error.into());
    }
    let lines = found.filter_map(|found| ready(found.ok().map(|found| line(&FoundRow::from(&found)))));
    Ok(answer(lines))
}

/// What is mounted on the names that match below `base`, and every change.
pub(super) fn watch(table: &SharedTable, who: Principal, base: Name, pattern: &Pattern) -> Answer {
    let whole = pattern.below(&base).map_err(|error| Refusal::bad_request(&error))?;
    let watch = table.watch(who, whole)?;
    let items = stream::unfold(watch, |mut watch: Watch| async move {
        match timeout(ALIVE_EVERY, watch.next()).await {
            Ok(item) => item.map(|item| (Some(item), watch)),
            Err(_elapsed) => Some((None, watch)),
        }
    });
    Ok(answer(items.map(move |item| line(&told(item, &base)))))
}

/// A line about an item of a watch, or about the lack of one.
fn told(item: Option<Result<Watched, Lagged>>, base: &Name) -> WatchLine {
    let relative = |name: &Name| name.strip_prefix(base).unwrap_or_else(|| name.clone());
    match item {
        Some(Ok(Watched::Present(mut found))) => {
            found.name = relative(&found.name);
            WatchLine::Present(FoundRow::from(&found))
        }
        Some(Ok(Watched::Listed(revision))) => WatchLine::Listed { revision: revision.0 },
        Some(Ok(Watched::Change(change))) => WatchLine::of_change(&change, &relative(&change.name)),
        Some(Err(lagged)) => WatchLine::Lagged { oldest: lagged.oldest.0, newest: lagged.newest.0 },
        None => WatchLine::Alive,
    }
}

/// An answer of lines, those that are ready together in one piece.
fn answer(lines: impl Stream<Item = Vec<u8>> + Send + 'static) -> Response {
    let pieces =
        lines.ready_chunks(LINES_AT_ONCE).map(|lines| Ok::<_, Infallible>(Bytes::from(lines.concat())));
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    let fresh = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    ([kind, fresh], Body::from_stream(pieces)).into_response()
}
