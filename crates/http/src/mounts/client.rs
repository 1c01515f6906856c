use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use cuttlebone_mounttable::{
    Directory, Failure, Found, Kept, Lagged, Mount, Mounted, Name, Namespace, Pattern, Permissions, Resolved,
    Subtree, Upkeep, Version, Watched, Withdrawal,
};
use futures::stream::{self, Stream, StreamExt};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::BATCH_ENTRIES_MAX;
use super::message::{
    Batch, BatchAnswer, FoundRow, Outcome, PermissionsRequest, PermissionsRow, Refused, ResolvedRow,
    WatchLine,
};
use super::streams::ALIVE_EVERY;
use crate::client::{Client, ClientError, Connection, escaped, whole};

/// Connections that are kept for the next call.
const IDLE_MAX: usize = 32;
/// The longest line of a stream, in bytes: a name with all the servers that it may have.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a watch may be silent, signs of life included.
const SILENCE_MAX: Duration = Duration::from_secs(3 * ALIVE_EVERY.as_secs());

/// A mount table behind HTTP. Clones share its connections.
///
/// It is a [`Namespace`] for a publisher, and a [`Directory`] for a resolver. Entries live by being refreshed.
#[derive(Clone, Debug)]
pub struct MountClient {
    client: Client,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl MountClient {
    /// The table of the service that `client` calls. Nothing is sent before it is used.
    pub fn new(client: Client) -> Self {
        Self { client, idle: Arc::default() }
    }

    /// One step of a resolution.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; an unknown name is `no_such_name`, with status 404.
    ///
    /// # Cancel safety
    ///
    /// Changes nothing, so it may be dropped at any point. This holds for every question.
    pub async fn resolve_step(&self, name: &Name) -> Result<Resolved, ClientError> {
        let row: ResolvedRow = self.ask(Method::GET, &path(MOUNTS, name)).await?;
        row.read().ok_or(ClientError::Malformed("a resolution without servers, or with names that are none"))
    }

    /// Mounts and takes away up to [`BATCH_ENTRIES_MAX`] entries in one request.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; what was refused for one entry is in its outcome.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, or fails, any part may have been done.
    pub async fn batch(&self, batch: &Batch) -> Result<BatchAnswer, ClientError> {
        let answer: BatchAnswer = read(&self.call(Method::POST, MOUNTS, json(batch)?).await?)?;
        if (answer.mounted.len(), answer.unmounted.len()) != (batch.mount.len(), batch.unmount.len()) {
            return Err(ClientError::Malformed("not one outcome for each entry"));
        }
        Ok(answer)
    }

    /// Takes all servers from a name.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn unmount_all(&self, name: &Name) -> Result<(), ClientError> {
        self.call(Method::DELETE, &path(MOUNTS, name), Bytes::new()).await.map(drop)
    }

    /// Deletes a name with its servers and permissions, and the names below it if so meant.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn delete(&self, name: &Name, subtree: Subtree) -> Result<(), ClientError> {
        let word = if subtree == Subtree::Delete { "delete" } else { "keep" };
        let path = format!("{}?subtree={word}", path(MOUNTS, name));
        self.call(Method::DELETE, &path, Bytes::new()).await.map(drop)
    }

    /// The permissions of a name and their version; `None` for an open name.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn permissions(&self, name: &Name) -> Result<Option<(Permissions, Version)>, ClientError> {
        let row: PermissionsRow = self.ask(Method::GET, &path(PERMISSIONS, name)).await?;
        Ok(row.permissions.map(|permissions| (permissions, Version(row.version))))
    }

    /// Sets the permissions of a name, if they have the `expected` version.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; another version is `version`, with status 412.
    pub async fn set_permissions(
        &self,
        name: &Name,
        permissions: &Permissions,
        expected: Option<Version>,
    ) -> Result<(), ClientError> {
        let version = expected.map(|version| version.0);
        let body = json(&PermissionsRequest { permissions: permissions.clone(), version })?;
        self.call(Method::PUT, &path(PERMISSIONS, name), body).await.map(drop)
    }

    /// Everything that matches `pattern` below `base`, by names relative to `base`, as it arrives.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn find(&self, base: &Name, pattern: &Pattern) -> Result<Globbed, ClientError> {
        let patience = self.client.timeout;
        Ok(Globbed(self.lines(base, "glob", pattern, patience).await?))
    }

    /// What is mounted on the names that match below `base`, then every change to them; names are relative to `base`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn watch(&self, base: &Name, pattern: &Pattern) -> Result<Watching, ClientError> {
        Ok(Watching(self.lines(base, "watch", pattern, SILENCE_MAX).await?))
    }

    async fn lines(
        &self,
        base: &Name,
        word: &str,
        pattern: &Pattern,
        patience: Duration,
    ) -> Result<Lines, ClientError> {
        let path = format!("{}?{word}={}", path(MOUNTS, base), escaped(&pattern.to_string(), b"-._~/"));
        let mut connection = self.client.connect().await?;
        let body = connection.send(Method::GET, &path, Bytes::new()).await?.into_body();
        let client = self.client.clone();
        Ok(Lines { body, buffer: BytesMut::new(), scanned: 0, patience, client, _connection: connection })
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        read(&self.call(method, path, Bytes::new()).await?)
    }

    /// One call over a connection that is kept, or a new one.
    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let kept = self.idle().pop();
        if let Some(connection) = kept {
            match self.exchange(connection, method.clone(), path, body.clone()).await {
                // The service may have closed it meanwhile. Every call here can be repeated.
                Err(ClientError::Unreachable(..)) => {}
                answered => return answered,
            }
        }
        let connection = self.client.connect().await?;
        self.exchange(connection, method, path, body).await
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let answer = match connection.send(method, path, body).await {
            Ok(response) => self.client.in_time(whole(response.into_body())).await?,
            Err(error) => Err(error),
        };
        // A refusal was read to its end, too; after any other failure nobody knows what would come next.
        if matches!(answer, Ok(_) | Err(ClientError::Refused(..))) {
            let mut idle = self.idle();
            if idle.len() < IDLE_MAX {
                idle.push(connection);
            }
        }
        answer
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One outcome of a batch for each of `entries`, or the failure of the whole for each.
    async fn outcomes(&self, batch: Batch) -> Result<(Vec<Outcome>, Vec<Outcome>), Failure> {
        let answer = self.batch(&batch).await.map_err(|error| failure(&error))?;
        Ok((answer.mounted, answer.unmounted))
    }
}

const MOUNTS: &str = "/v1/mounts";
const PERMISSIONS: &str = "/v1/permissions";

fn path(prefix: &str, name: &Name) -> String {
    if name.is_root() { prefix.into() } else { format!("{prefix}/{}", escaped(name.as_str(), b"-._~/")) }
}

fn json(body: &impl Serialize) -> Result<Bytes, ClientError> {
    Ok(serde_json::to_vec(body).map_err(|_| ClientError::Malformed("a request that is no JSON"))?.into())
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(bytes).map_err(|_| ClientError::Malformed("a body of another shape"))
}

/// What a failed call means for a publisher.
fn failure(error: &ClientError) -> Failure {
    match error {
        // Whether something behind the service had done its work before it failed is not known.
        ClientError::Refused(status, _) if *status == StatusCode::BAD_GATEWAY => unreachable(error),
        ClientError::Refused(_, problem) => Refused::from(problem.clone()).into(),
        _ => unreachable(error),
    }
}

fn unreachable(error: &ClientError) -> Failure {
    let causes = core::iter::successors(Some(error as &dyn core::error::Error), |error| error.source());
    Failure::Unreachable { reason: causes.map(ToString::to_string).collect::<Vec<_>>().join(": ") }
}

impl Namespace for MountClient {
    fn upkeep(&self) -> Upkeep {
        Upkeep::Refresh
    }

    fn batch_max(&self) -> usize {
        BATCH_ENTRIES_MAX
    }

    async fn mount(&self, batch: Vec<Mount>) -> Vec<Result<Mounted, Failure>> {
        let mut answers = Vec::with_capacity(batch.len());
        for part in batch.chunks(BATCH_ENTRIES_MAX) {
            let asked = Batch { mount: part.iter().map(Into::into).collect(), unmount: Vec::new() };
            match self.outcomes(asked).await {
                Ok((mounted, _)) => answers.extend(mounted.into_iter().map(|outcome| match outcome {
                    Outcome::Mounted(row) => Ok(row.into()),
                    Outcome::Refused(refused) => Err(refused.into()),
                    Outcome::Unmounted => Err(nonsense()),
                })),
                Err(failure) => answers.extend(part.iter().map(|_| Err(failure.clone()))),
            }
        }
        answers
    }

    async fn unmount(&self, batch: Vec<Withdrawal>) -> Vec<Result<(), Failure>> {
        let mut answers = Vec::with_capacity(batch.len());
        for part in batch.chunks(BATCH_ENTRIES_MAX) {
            let asked = Batch { mount: Vec::new(), unmount: part.iter().map(Into::into).collect() };
            match self.outcomes(asked).await {
                Ok((_, unmounted)) => answers.extend(unmounted.into_iter().map(|outcome| match outcome {
                    Outcome::Unmounted => Ok(()),
                    Outcome::Refused(refused) => Err(refused.into()),
                    Outcome::Mounted(_) => Err(nonsense()),
                })),
                Err(failure) => answers.extend(part.iter().map(|_| Err(failure.clone()))),
            }
        }
        answers
    }

    async fn keep(&self) -> Result<Kept, Failure> {
        Err(Failure::Foreign { reason: "there is no lease to keep".into() })
    }

    async fn release(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn resolve(&self, name: Name) -> Result<Resolved, Failure> {
        self.resolve_step(&name).await.map_err(|error| failure(&error))
    }
}

fn nonsense() -> Failure {
    Failure::Unreachable { reason: "the answer to another question".into() }
}

impl Directory for MountClient {
    fn glob(
        &self,
        base: Name,
        pattern: Pattern,
    ) -> impl Stream<Item = Result<Found, Failure>> + Send + 'static {
        let client = self.clone();
        let results = async move {
            match client.find(&base, &pattern).await {
                Ok(found) => found.into_stream().map(|found| found.map_err(|error| failure(&error))).boxed(),
                Err(error) => stream::iter([Err(failure(&error))]).boxed(),
            }
        };
        stream::once(results).flatten()
    }
}

/// What a glob finds, line by line. Dropping it ends the glob.
#[derive(Debug)]
pub struct Globbed(Lines);

impl Globbed {
    /// The next result; `None` after the last one.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; the results are not complete then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Found>, ClientError> {
        let Some(row) = self.0.next::<FoundRow>().await? else { return Ok(None) };
        row.read().map(Some).ok_or(ClientError::Malformed("a name or a server that is none"))
    }

    /// The results as a stream; an error is its last item.
    pub fn into_stream(self) -> impl Stream<Item = Result<Found, ClientError>> + Send + 'static {
        stream::unfold(Some(self), |rest| async move {
            let mut found = rest?;
            match found.next().await {
                Ok(item) => item.map(|item| (Ok(item), Some(found))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

/// What a watch tells, line by line. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watching(Lines);

impl Watching {
    /// The next item. [`Lagged`] is the last one: what was missed is not known any more, and a new watch lists anew.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; [`ClientError::Unreachable`] when the service ends the stream, as it does when it stops.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Result<Watched, Lagged>, ClientError> {
        loop {
            let line = self.0.next::<WatchLine>().await?;
            let Some(line) = line else {
                return Err(self.0.client.unreachable("the service has ended the watch"));
            };
            match line.read().ok_or(ClientError::Malformed("a name or a server that is none"))? {
                Ok(None) => {}
                Ok(Some(item)) => return Ok(Ok(item)),
                Err(lagged) => return Ok(Err(lagged)),
            }
        }
    }
}

/// JSON objects, one a line.
#[derive(Debug)]
struct Lines {
    body: Incoming,
    buffer: BytesMut,
    /// Bytes of the buffer that have no end of a line in them.
    scanned: usize,
    /// How long nothing may come.
    patience: Duration,
    client: Client,
    _connection: Connection,
}

impl Lines {
    /// The next line; `None` when the answer has properly ended.
    async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            let fresh = self.buffer.get(self.scanned..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.scanned + end + 1);
                self.scanned = 0;
                let row = serde_json::from_slice(&line);
                return row.map(Some).map_err(|_| ClientError::Malformed("a line of another shape"));
            }
            self.scanned = self.buffer.len();
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(ClientError::Malformed("a line that never ends"));
            }
            let frame = timeout(self.patience, self.body.frame()).await;
            match frame.map_err(|_| ClientError::TimedOut(self.client.address.clone()))? {
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(self.client.unreachable(error)),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(ClientError::Malformed("a line that breaks off")),
            }
        }
    }
}
