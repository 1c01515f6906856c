use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cuttlebone_tokens::{Registration, Token};
use futures::StreamExt;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::message::{Event, LeaseTerms, Renewed, millis};
use crate::peer::{End, Peer};
use crate::problem::Refusal;

/// Lines that wait to be written to one client; a client that does not read loses none that matters to it, since the
/// session then waits with it and the lease goes on.
const LINES_MAX: usize = 8;

/// Every open session, by its id, and tokens also by their number.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    sessions: BTreeMap<u128, Handle>,
    tokens: BTreeMap<(String, u64), u128>,
    /// Requests that may still become sessions.
    coming: usize,
}

#[derive(Clone)]
struct Handle(mpsc::Sender<Command>);

enum Command {
    Renew(oneshot::Sender<Renewed>),
    Release,
}

/// What a session holds; it comes back when this is dropped.
pub(crate) enum Guard {
    Registration(Registration),
    /// A token; and the registration the service made for it, which goes after it.
    Token(Token, #[expect(dead_code, reason = "held for its drop")] Option<Registration>),
}

impl Guard {
    /// Ends when the client has to stop.
    async fn fenced(&self) {
        match self {
            Self::Registration(registration) => registration.fenced().await,
            Self::Token(token, _) => token.fenced().await,
        }
    }
}

/// A place among the sessions, taken before anything is asked of the registry.
pub(crate) struct Place(Sessions);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.table().coming -= 1;
    }
}

impl Sessions {
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are, those included that are being opened.
    pub(crate) fn open(&self) -> u64 {
        self.table().coming as u64
    }

    pub(crate) fn reserve(&self, most: usize) -> Result<Place, Refusal> {
        let mut table = self.table();
        if table.coming >= most {
            return Err(Refusal::too_many_sessions());
        }
        table.coming += 1;
        Ok(Place(self.clone()))
    }

    pub(crate) async fn renew(&self, session: &str) -> Option<Renewed> {
        let id = u128::from_str_radix(session, 16).ok()?;
        let handle = self.table().sessions.get(&id).cloned()?;
        let (answer, answered) = oneshot::channel();
        handle.0.send(Command::Renew(answer)).await.ok()?;
        answered.await.ok()
    }

    pub(crate) async fn release(&self, name: &str, seq: u64) -> bool {
        let handle = {
            let table = self.table();
            let id = table.tokens.get(&(name.to_owned(), seq));
            id.and_then(|id| table.sessions.get(id).cloned())
        };
        match handle {
            Some(handle) => handle.0.send(Command::Release).await.is_ok(),
            None => false,
        }
    }

    fn enter(&self, token: Option<(String, u64)>) -> (Entry, mpsc::Receiver<Command>) {
        let (sender, commands) = mpsc::channel(LINES_MAX);
        let id = random_id();
        let mut table = self.table();
        table.sessions.insert(id, Handle(sender));
        if let Some(token) = &token {
            table.tokens.insert(token.clone(), id);
        }
        drop(table);
        (Entry { sessions: self.clone(), id, token }, commands)
    }
}

/// One row of the table; leaves it when dropped.
struct Entry {
    sessions: Sessions,
    id: u128,
    token: Option<(String, u64)>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut table = self.sessions.table();
        table.sessions.remove(&self.id);
        if let Some(token) = &self.token {
            table.tokens.remove(token);
        }
    }
}

/// Session ids are capabilities, so nobody may guess one.
fn random_id() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has randomness, or nothing here is safe");
    u128::from_ne_bytes(bytes)
}

/// The lines of one answer.
pub(crate) struct Lines(mpsc::Sender<Event>);

impl Lines {
    /// An answer that streams, and where its lines go in.
    pub(crate) fn response() -> (Self, Response) {
        let (sender, receiver) = mpsc::channel(LINES_MAX);
        let lines = futures::stream::unfold(receiver, |mut receiver: mpsc::Receiver<Event>| async move {
            receiver.recv().await.map(|event| (event, receiver))
        });
        let body = Body::from_stream(
            lines.map(|event| Ok::<_, core::convert::Infallible>(Bytes::from(line(&event)))),
        );
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        let fresh = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        (Self(sender), ([kind, fresh], body).into_response())
    }

    /// `false` if nobody reads any more.
    pub(crate) async fn say(&self, event: Event) -> bool {
        self.0.send(event).await.is_ok()
    }

    /// Ends when nobody reads any more.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// A line of a stream.
pub(crate) fn line(row: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(row).expect("rows are plain records, which are always JSON");
    line.push(b'\n');
    line
}

/// A session that has got what it asked for.
pub(crate) struct Session {
    pub(crate) guard: Guard,
    pub(crate) lines: Lines,
    pub(crate) peer: Peer,
    pub(crate) terms: LeaseTerms,
    pub(crate) place: Place,
}

impl Session {
    /// Holds the guard until the client's life ends, however it does.
    pub(crate) async fn run(self, config: Arc<Config>) {
        let Self { guard, lines, peer, terms, place } = self;
        let number = match &guard {
            Guard::Token(held, _) => Some((held.name().to_owned(), held.seq().0)),
            Guard::Registration(_) => None,
        };
        let (entry, mut commands) = place.0.enter(number);
        let lease = config.lease;
        let (mut until, mut lost, mut fenced) = (Instant::now() + lease, false, false);
        if !lines.say(opening(&guard, entry.id, millis(lease))).await && peer.end() == End::Closed {
            return;
        }
        let mut beat = Instant::now() + lease / 3;
        let farewell = loop {
            tokio::select! {
                biased;
                () = guard.fenced(), if !fenced => {
                    fenced = true;
                    // Whoever cannot be told by a full stream is told by its next renewal.
                    let _ = lines.0.try_send(Event::Fenced);
                }
                command = commands.recv() => match command {
                    Some(Command::Renew(answer)) => {
                        until = Instant::now() + lease;
                        let _ = answer.send(Renewed { lease_ms: millis(lease), fenced });
                    }
                    Some(Command::Release) | None => break Event::Released,
                },
                () = lines.closed(), if !lost => {
                    if peer.end() == End::Closed {
                        return; // the guard goes, and with it what it held
                    }
                    // The peer may be alive and at work: only the end of the lease says that it is not.
                    lost = true;
                    if terms == LeaseTerms::Response {
                        until = Instant::now() + lease;
                    }
                }
                () = sleep_until(until), if lost || terms == LeaseTerms::Renewed => break Event::Expired,
                () = sleep_until(beat), if !lost => {
                    beat = Instant::now() + lease / 3;
                    let _ = lines.0.try_send(Event::Alive);
                }
            }
        };
        drop(guard);
        drop(entry);
        let _ = lines.0.try_send(farewell);
    }
}

fn opening(guard: &Guard, id: u128, lease_ms: u64) -> Event {
    let session = format!("{id:032x}");
    match guard {
        Guard::Registration(registration) => {
            Event::Registered { epoch: registration.epoch().0, session, lease_ms }
        }
        Guard::Token(token, _) => Event::Granted {
            epoch: token.epoch().0,
            seq: token.seq().0,
            fence: token.fence().to_string(),
            session,
            lease_ms,
        },
    }
}
