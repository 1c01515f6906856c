//! A named replication cursor as lines of JSON: `GET /v1/changes?cursor=NAME&since=SEQNO`.
//!
//! Lines come as long as the client reads. A client remembers the last `seqno` of a snapshot that it has whole and the
//! last `history`, and asks again from there with `since` and `branch`; it is told `rollback` if what it has is not of
//! this history any more.

use core::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use cuttlebone_bucket::{Error, Event, Position, VbucketId};
use cuttlebone_checkpoint::{CURSOR_NAME_BYTES_MAX, Item, Op, Seqno};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use crate::client::{Client, ClientError, Connection, Lines, segment};
use crate::keeping::Keeping;
use crate::problem::Refusal;

/// How many clients may follow changes at once: each has a thread, since what is no longer in memory is read from disk.
pub const STREAMS_MAX: usize = 32;
/// Bytes of lines after which they are handed on; a line may exceed it alone.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for a client that is slow; then its cursor waits, and is dropped when memory runs short.
const PIECES_MAX: usize = 4;
/// With nothing to tell for so long, a line says that the connection works.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// The query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a request is written by its caller")]
pub struct ChangesQuery {
    /// What the cursor is called; the same name again ends the older stream.
    pub cursor: String,
    /// Everything up to this is known; 0 for nothing.
    #[serde(default)]
    pub since: u64,
    /// The newest branch of the last `history`. Without it the client is taken at its word that `since` is of this history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<u64>,
    /// Which vbucket.
    #[serde(default)]
    pub vbucket: VbucketId,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Change {
    /// What the client has is not of this history: it forgets everything.
    Rollback,
    /// The history from here on: to be shown as `branch` in the next request.
    History {
        /// The newest branch, as text, since not every reader of JSON keeps 64 bits.
        branch: String,
        /// Up to which seqno it is the same as the one before.
        from: u64,
    },
    /// With all mutations up to `end` the client is consistent.
    Snapshot {
        /// The checkpoint.
        checkpoint: u64,
        /// The first seqno.
        start: u64,
        /// The last seqno.
        end: u64,
    },
    /// A key has a value.
    Set(Mutation),
    /// A key has none.
    Delete(Mutation),
    /// The state of the vbucket changed.
    State,
    /// The checkpoint has ended.
    End {
        /// Which one.
        checkpoint: u64,
    },
    /// Hot reload was started.
    UpdateStart {
        /// The barrier.
        checkpoint: u64,
    },
    /// Hot reload was completed: the window stays.
    UpdateComplete {
        /// The barrier.
        checkpoint: u64,
    },
    /// Hot reload was reverted: every mutation from `first` to `last` is undone.
    UpdateRevert {
        /// The barrier.
        checkpoint: u64,
        /// The first seqno of the window.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// The connection works.
    Alive,
    /// The last line: the cursor's place was given up to make room, or the node stops. Ask again from where you are.
    Over {
        /// For people.
        why: String,
    },
}

/// One mutation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Mutation {
    /// Its place in the order of the vbucket.
    pub seqno: u64,
    /// The key, in base64.
    pub key: String,
    /// The value, in base64; empty for a deletion.
    pub value: String,
    /// The client's flags.
    pub flags: u32,
    /// Seconds since 1970 after which it counts as gone; 0 for never.
    pub expiry: u32,
    /// The compare-and-swap stamp.
    pub cas: u64,
}

impl Client {
    /// Follows the changes of a vbucket. The connection belongs to the stream.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn changes(&self, query: &ChangesQuery) -> Result<(Connection, Lines<Change>), ClientError> {
        let ChangesQuery { cursor, since, branch, vbucket } = query;
        let branch = branch.map_or_else(String::new, |branch| format!("&branch={branch}"));
        let cursor = segment(cursor);
        let mut connection = self.connect().await?;
        let path = format!("/v1/changes?cursor={cursor}&since={since}&vbucket={vbucket}{branch}");
        let lines = connection.follow(&path).await?;
        Ok((connection, lines))
    }
}

pub(crate) fn router(keeping: Keeping) -> Router {
    Router::new().route("/v1/changes", get(changes)).with_state(keeping)
}

async fn changes(
    State(keeping): State<Keeping>,
    query: Result<Query<ChangesQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(asked) = query.map_err(|error| Refusal::bad_request(&error))?;
    if asked.cursor.is_empty() || asked.cursor.len() > CURSOR_NAME_BYTES_MAX / 2 {
        return Err(Refusal::bad_request(&"a cursor's name has 1 to 100 bytes"));
    }
    let Ok(place) = keeping.places.clone().try_acquire_owned() else {
        let hint = "try again when another client has gone";
        let detail = format!("{STREAMS_MAX} clients follow changes already");
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "at_capacity", &detail, hint));
    };
    let open = move || {
        let branch = match asked.branch {
            Some(branch) => branch,
            None => keeping.bucket.status(asked.vbucket)?.history.newest().id,
        };
        let seqno = Seqno(asked.since);
        let position =
            Position { branch, seqno, snapshot_start: seqno, snapshot_end: seqno, ..Position::default() };
        keeping.bucket.changes(asked.vbucket, &format!("changes:{}", asked.cursor), position)
    };
    let events = tokio::task::spawn_blocking(open).await.map_err(|_| Refusal::internal())??;
    let (pieces, taken) = mpsc::channel(PIECES_MAX);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(tell(events, pieces, place)));
    let body = futures::stream::unfold(taken, |mut taken: mpsc::Receiver<Bytes>| async move {
        taken.recv().await.map(|piece| (Ok::<_, core::convert::Infallible>(piece), taken))
    });
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    let fresh = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(([kind, fresh], Body::from_stream(body)).into_response())
}

/// Hands lines on until the client has gone or the stream is over. Runs on a thread that may wait for the disk.
async fn tell(
    mut events: BoxStream<'static, Result<Event, Error>>,
    pieces: mpsc::Sender<Bytes>,
    _place: OwnedSemaphorePermit,
) {
    loop {
        let next = tokio::select! {
            next = timeout(ALIVE_EVERY, events.next()) => next,
            () = pieces.closed() => return,
        };
        let mut lines = Vec::new();
        let mut over = match next {
            Err(_) => push(&mut lines, &Change::Alive),
            Ok(event) => take(&mut lines, event),
        };
        // What else there is now goes with it.
        while !over && lines.len() < PIECE_BYTES {
            match futures::poll!(events.next()) {
                core::task::Poll::Ready(event) => over = take(&mut lines, event),
                core::task::Poll::Pending => break,
            }
        }
        if pieces.send(lines.into()).await.is_err() || over {
            return;
        }
    }
}

/// Adds a line; whether it is the last.
fn take(lines: &mut Vec<u8>, event: Option<Result<Event, Error>>) -> bool {
    match event {
        Some(Ok(event)) => push(lines, &Change::from(&event)),
        Some(Err(error)) => {
            push(lines, &Change::Over { why: error.to_string() });
            true
        }
        None => true,
    }
}

fn push(lines: &mut Vec<u8>, change: &Change) -> bool {
    // Text and numbers: there is nothing that JSON could not say.
    let _ = serde_json::to_writer(&mut *lines, change);
    lines.push(b'\n');
    false
}

impl From<&Event> for Change {
    fn from(event: &Event) -> Self {
        match event {
            Event::Rollback => Self::Rollback,
            Event::History(history) => {
                let newest = history.newest();
                Self::History { branch: newest.id.to_string(), from: newest.from.0 }
            }
            Event::Snapshot { checkpoint, range, .. } => {
                Self::Snapshot { checkpoint: checkpoint.0, start: range.start.0, end: range.end.0 }
            }
            Event::Item(item) if item.op() == Op::Delete => Self::Delete(Mutation::of(item)),
            Event::Item(item) => Self::Set(Mutation::of(item)),
            Event::State(_) => Self::State,
            Event::End(id) => Self::End { checkpoint: id.0 },
            Event::UpdateStart(id) => Self::UpdateStart { checkpoint: id.0 },
            Event::UpdateComplete(id) => Self::UpdateComplete { checkpoint: id.0 },
            Event::UpdateRevert { barrier, first, last } => {
                Self::UpdateRevert { checkpoint: barrier.0, first: first.0, last: last.0 }
            }
        }
    }
}

impl Mutation {
    fn of(item: &Item) -> Self {
        Self {
            seqno: item.seqno().0,
            key: BASE64_STANDARD.encode(item.key()),
            value: BASE64_STANDARD.encode(item.value()),
            flags: item.flags(),
            expiry: item.expiry(),
            cas: item.cas(),
        }
    }
}
