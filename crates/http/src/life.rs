use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;

use tokio::time::{Instant, sleep_until};

use crate::client::{Client, ClientError, Connection, Lines};
use crate::message::{Event, LeaseTerms, Renewed};

/// The part of a lease that the client uses: it has to have stopped before the service gives the slot away,
/// whatever its clock, its scheduler and the network did to its last renewal.
const USABLE: f64 = 0.8;
/// How many renewals fit into a lease.
const RENEWALS: u32 = 3;

/// An open answer: as long as it lives, what it stands for is held. Dropping it closes the connection.
#[derive(Debug)]
pub struct Life {
    client: Client,
    /// Dropping it is the end of this life.
    connection: Connection,
    lines: Option<Lines>,
    terms: LeaseTerms,
    lease: Option<Lease>,
    /// The line that says so, until it has been returned.
    granted: Option<Event>,
    fenced: bool,
}

#[derive(Debug)]
struct Lease {
    session: String,
    length: Duration,
    /// When the last renewal that succeeded was *sent*: the service counts from later.
    since: Instant,
    renewal: Option<Connection>,
}

/// Why a life is over, or should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The service says: stop. The slot is still held, so that whoever comes next waits for the end of this.
    Fenced,
    /// It was given back early, by this client or by another call.
    Released,
    /// The service cannot be heard and the lease ends: stop now, somebody else may begin when it has ended.
    Lost,
}

impl Life {
    pub(crate) const fn new(client: Client, connection: Connection, lines: Lines, terms: LeaseTerms) -> Self {
        Self { client, connection, lines: Some(lines), terms, lease: None, granted: None, fenced: false }
    }

    /// Waits until it is granted or registered, and tells `watch` of every line before that.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if it came to nothing, [`Unreachable`](ClientError::Unreachable) and the like if the
    /// connection is lost: nothing is held then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no line; dropping the life gives up.
    pub async fn held(&mut self, mut watch: impl FnMut(&Event)) -> Result<Event, ClientError> {
        while self.granted.is_none() {
            let lines = self.lines.as_mut().ok_or(ClientError::Malformed("the stream has ended before"))?;
            let event = lines.next().await?.ok_or(ClientError::Malformed("the stream ended too early"))?;
            match &event {
                Event::Registered { session, lease_ms, .. } | Event::Granted { session, lease_ms, .. } => {
                    let (session, length) = (session.clone(), Duration::from_millis(*lease_ms));
                    self.lease = Some(Lease { session, length, since: Instant::now(), renewal: None });
                    self.granted = Some(event);
                }
                Event::Failed(problem) => {
                    return Err(ClientError::Refused(hyper::StatusCode::CONFLICT, problem.clone()));
                }
                other => watch(other),
            }
        }
        if self.terms == LeaseTerms::Renewed {
            // The line may have been on its way for long, so only a renewal says since when it counts.
            self.renew().await?;
        }
        self.granted.take().ok_or(ClientError::Malformed("it was held already"))
    }

    /// Keeps it alive until there is a reason to stop. After [`Ending::Fenced`] it may be called again to hold on while
    /// the work ends.
    ///
    /// # Errors
    ///
    /// [`ClientError::Malformed`] if the service talks nonsense.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing but one renewal that may have been under way.
    pub async fn ending(&mut self) -> Result<Ending, ClientError> {
        loop {
            let Some(lease) = &self.lease else { return Ok(Ending::Released) };
            let renew_at = lease.since + lease.length / RENEWALS;
            let lost_at = lease.since + lease.length.mul_f64(USABLE);
            let renews = self.terms == LeaseTerms::Renewed;
            let lines = &mut self.lines;
            let next = async {
                match lines {
                    Some(lines) => lines.next().await,
                    None => core::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = sleep_until(lost_at), if renews => return Ok(Ending::Lost),
                event = next => match event? {
                    Some(Event::Fenced) => {
                        if self.fence() {
                            return Ok(Ending::Fenced);
                        }
                    }
                    Some(Event::Released) => return Ok(Ending::Released),
                    Some(Event::Expired) => return Ok(Ending::Lost),
                    Some(_) => {}
                    None if renews => self.lines = None, // the connection is lost, the lease is not
                    None => return Ok(Ending::Lost),
                },
                () = sleep_until(renew_at), if renews => {
                    let answer = tokio::select! {
                        () = sleep_until(lost_at) => return Ok(Ending::Lost),
                        answer = self.renew() => answer,
                    };
                    match answer {
                        Ok(Renewed { fenced: true, .. }) if self.fence() => return Ok(Ending::Fenced),
                        Ok(_) => {}
                        Err(ClientError::Refused(..)) => return Ok(Ending::Lost),
                        // Not reached: it is tried again until the lease is over, with a pause.
                        Err(_) => self.pause(lost_at).await,
                    }
                }
            }
        }
    }

    /// The socket once more. A child process that inherits it keeps this life going when its parent is killed.
    ///
    /// # Errors
    ///
    /// If there are too many open files.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        self.connection.socket()
    }

    /// Stops renewing and closes the connection, as dropping it does.
    pub fn close(self) {}

    fn fence(&mut self) -> bool {
        !core::mem::replace(&mut self.fenced, true)
    }

    async fn pause(&self, lost_at: Instant) {
        let length = self.lease.as_ref().map_or(Duration::ZERO, |lease| lease.length);
        let again = Instant::now() + (length / 50).max(Duration::from_millis(10));
        sleep_until(again.min(lost_at)).await;
    }

    async fn renew(&mut self) -> Result<Renewed, ClientError> {
        let lease = self.lease.as_mut().ok_or(ClientError::Malformed("nothing to renew"))?;
        let sent = Instant::now();
        // Taken out, so that a call that fails or is dropped half-way leaves no connection in an unknown state.
        let mut connection = match lease.renewal.take() {
            Some(connection) => connection,
            None => self.client.connect().await?,
        };
        let renewed = connection.renew(&lease.session).await?;
        (lease.since, lease.length) = (sent, Duration::from_millis(renewed.lease_ms));
        lease.renewal = Some(connection);
        Ok(renewed)
    }
}
