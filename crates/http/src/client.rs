use core::marker::PhantomData;
use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::Bearer;
use crate::life::Life;
use crate::message::{
    Event, LeaseTerms, Listing, Problem, ReclaimRequest, RegisterRequest, Renewed, TokenRequest,
};
use crate::server::Address;
use crate::status::Status;
use crate::stream::Stream;

/// The longest answer that is read whole, in bytes: a page of names, each with its holders.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most names that a listing is made of, whatever the service says.
const NAMES_MAX: usize = 1_000_000;
/// The longest line of a stream, in bytes: a change with the longest key and value in base64.
const LINE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection, or it broke before the answer came.
    #[error("cannot reach {0}")]
    Unreachable(Address, #[source] io::Error),
    /// Nothing came in time.
    #[error("no answer from {0} in time")]
    TimedOut(Address),
    /// The service understood and said no.
    #[error("{} ({})", .1.detail, .1.hint)]
    Refused(StatusCode, Problem),
    /// The answer is not what this protocol says.
    #[error("the answer makes no sense: {0}")]
    Malformed(&'static str),
}

/// Calls a token service. Every call opens a connection; [`Connection`] keeps one.
///
/// # Cancel safety
///
/// Dropping a call's future closes its connection. What it asked for may have been done; a registration or a token that
/// was being opened is given back, since nobody is left to hold it.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) address: Address,
    bearer: Option<Bearer>,
    pub(crate) timeout: Duration,
}

impl Client {
    /// A client of the service at `address`.
    pub const fn new(address: Address, bearer: Option<Bearer>) -> Self {
        Self { address, bearer, timeout: Duration::from_secs(10) }
    }

    /// How long to wait for a connection and for the head of an answer.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Registers; the stream is the owner's life.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn register(&self, request: &RegisterRequest) -> Result<Life, ClientError> {
        self.open("/v1/registrations", request, request.lease).await
    }

    /// Takes a token; the stream is the holder's life.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn token(&self, name: &str, request: &TokenRequest) -> Result<Life, ClientError> {
        self.open(&format!("/v1/registrations/{}/tokens", segment(name)), request, request.lease).await
    }

    /// Re-claims a token after the service restarted.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn reclaim(&self, name: &str, request: &ReclaimRequest) -> Result<Life, ClientError> {
        self.open(&format!("/v1/registrations/{}/reclaims", segment(name)), request, LeaseTerms::Renewed)
            .await
    }

    /// Every name in use, asked for page by page.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn list(&self) -> Result<Listing, ClientError> {
        let mut connection = self.connect().await?;
        let mut listing: Listing = connection.read(Method::GET, "/v1/registrations").await?;
        while listing.more && listing.registrations.len() < NAMES_MAX {
            let Some(last) = listing.registrations.last() else { break };
            let path = format!("/v1/registrations?after={}", segment(&last.name));
            let next: Listing = connection.read(Method::GET, &path).await?;
            listing.registrations.extend(next.registrations);
            listing.more = next.more;
        }
        Ok(listing)
    }

    /// What the node shows of itself.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.connect().await?.read(Method::GET, "/v1/status").await
    }

    /// Ends the current incarnation of `name`. With `force` also forgets its tokens: right only if the resource refuses
    /// them, or their holders are known to be dead.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn revoke(&self, name: &str, force: bool) -> Result<(), ClientError> {
        let path = format!("/v1/registrations/{}?force={force}", segment(name));
        self.connect().await?.call(Method::DELETE, &path).await.map(drop)
    }

    /// Gives a token back early, on whichever connection it was granted.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn release(&self, name: &str, seq: u64) -> Result<(), ClientError> {
        self.connect().await?.release(name, seq).await
    }

    /// Keeps a session alive for another lease.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn renew(&self, session: &str) -> Result<Renewed, ClientError> {
        self.connect().await?.renew(session).await
    }

    /// A connection that is kept, for callers that call often.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn connect(&self) -> Result<Connection, ClientError> {
        let dialled = async {
            Ok::<_, io::Error>(match &self.address {
                Address::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Stream::Tcp(stream)
                }
                Address::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
            })
        };
        let stream = self.in_time(dialled).await?.map_err(|error| self.unreachable(error))?;
        let socket = stream.duplicate().map_err(|error| self.unreachable(error))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(error))?;
        let task = tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { client: self.clone(), sender, task, socket })
    }

    async fn open<B: Serialize>(&self, path: &str, body: &B, terms: LeaseTerms) -> Result<Life, ClientError> {
        let mut connection = self.connect().await?;
        let lines = connection.open(path, body).await?;
        Ok(Life::new(self.clone(), connection, lines, terms))
    }

    pub(crate) async fn in_time<F: Future>(&self, future: F) -> Result<F::Output, ClientError> {
        timeout(self.timeout, future).await.map_err(|_| ClientError::TimedOut(self.address.clone()))
    }

    pub(crate) fn unreachable(
        &self,
        error: impl Into<Box<dyn core::error::Error + Send + Sync>>,
    ) -> ClientError {
        ClientError::Unreachable(self.address.clone(), io::Error::other(error))
    }
}

/// One connection that is kept; on HTTP/1.1 it carries one call at a time. Dropping it closes it.
///
/// # Cancel safety
///
/// Dropping a call's future half-way closes the connection, and later calls on it fail: [`ClientError::Unreachable`].
#[derive(Debug)]
pub struct Connection {
    client: Client,
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
    socket: OwnedFd,
}

impl Connection {
    /// The socket once more, for a child process to keep open.
    pub(crate) fn socket(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Takes a token. Until the stream has ended, this connection is in use.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn token(&mut self, name: &str, request: &TokenRequest) -> Result<Lines, ClientError> {
        self.open(&format!("/v1/registrations/{}/tokens", segment(name)), request).await
    }

    /// Gives a token back early.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn release(&mut self, name: &str, seq: u64) -> Result<(), ClientError> {
        self.call(Method::DELETE, &token_path(name, seq)).await.map(drop)
    }

    /// Keeps a session alive for another lease.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn renew(&mut self, session: &str) -> Result<Renewed, ClientError> {
        self.read(Method::PUT, &format!("/v1/sessions/{}", segment(session))).await
    }

    async fn open<B: Serialize>(&mut self, path: &str, body: &B) -> Result<Lines, ClientError> {
        let body =
            serde_json::to_vec(body).map_err(|_| ClientError::Malformed("a request that is no JSON"))?;
        let response = self.send(Method::POST, path, body.into()).await?;
        Ok(Lines::new(response.into_body()))
    }

    /// A call with a body whose answer is read whole.
    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body =
            serde_json::to_vec(body).map_err(|_| ClientError::Malformed("a request that is no JSON"))?;
        let response = self.send(Method::POST, path, body.into()).await?;
        let bytes = self.client.in_time(whole(response.into_body())).await??;
        serde_json::from_slice(&bytes).map_err(|_| ClientError::Malformed("a body of another shape"))
    }

    /// The lines of an answer that stays open. Until it has ended, this connection is in use.
    pub(crate) async fn follow<T>(&mut self, path: &str) -> Result<Lines<T>, ClientError> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        Ok(Lines::new(response.into_body()))
    }

    pub(crate) async fn call(&mut self, method: Method, path: &str) -> Result<Bytes, ClientError> {
        let response = self.send(method, path, Bytes::new()).await?;
        self.client.in_time(whole(response.into_body())).await?
    }

    async fn read<T: DeserializeOwned>(&mut self, method: Method, path: &str) -> Result<T, ClientError> {
        let bytes = self.call(method, path).await?;
        serde_json::from_slice(&bytes).map_err(|_| ClientError::Malformed("a body of another shape"))
    }

    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "cuttlebone");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(bearer) = &self.client.bearer {
            request = request.header(AUTHORIZATION, bearer.header());
        }
        let request =
            request.body(Full::new(body)).map_err(|_| ClientError::Malformed("a request that is none"))?;
        let answered = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let response =
            self.client.in_time(answered).await?.map_err(|error| self.client.unreachable(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.client.in_time(whole(response.into_body())).await??;
        let problem = serde_json::from_slice(&body);
        Err(ClientError::Refused(
            status,
            problem.map_err(|_| ClientError::Malformed("a refusal without a reason"))?,
        ))
    }
}

/// The whole of an answer that is no stream.
pub(crate) async fn whole(body: Incoming) -> Result<Bytes, ClientError> {
    let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    Ok(collected.map_err(|_| ClientError::Malformed("a body that breaks off or never ends"))?.to_bytes())
}

fn token_path(name: &str, seq: u64) -> String {
    format!("/v1/registrations/{}/tokens/{seq}", segment(name))
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    escaped(name, b"-._~")
}

/// `text` for a URL: everything but letters, digits and `plain` is escaped.
pub(crate) fn escaped(text: &str, plain: &[u8]) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            segment.push(char::from(byte));
        } else {
            segment.extend(['%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    segment
}

fn hex(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap_or_default().to_ascii_uppercase()
}

/// The lines of an answer that stays open. Dropping them without the connection leaves the session as it is.
#[derive(Debug)]
pub struct Lines<T = Event> {
    body: Incoming,
    buffer: BytesMut,
    line: PhantomData<fn() -> T>,
}

impl<T> Lines<T> {
    fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new(), line: PhantomData }
    }
}

impl<T: DeserializeOwned> Lines<T> {
    /// The next event; `None` when the stream has ended, properly or not.
    ///
    /// # Errors
    ///
    /// [`ClientError::Malformed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let event = serde_json::from_slice(&line);
                return event.map(Some).map_err(|_| ClientError::Malformed("a line of another shape"));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(ClientError::Malformed("a line that never ends"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().unwrap_or_default()),
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}
