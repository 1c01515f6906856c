use core::time::Duration;

use bytes::Bytes;
use cuttlebone_driver::{Clock, Connection, DriverLimits, dial, nonce};
use cuttlebone_link::{DialConfig, Event as LinkEvent, Timing};
use cuttlebone_machine::Machine;
use cuttlebone_mon::{
    CommandAck, Event, GetVersionReply, MonMap, Session, SessionConfig, SessionInput, SessionOutput,
};
use cuttlebone_wire::{EntityAddr, EntityAddrs, Features};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Error;
use crate::clock::until;
use crate::hunt::hunt;
use crate::monitor::diallable;

/// A client's session with one monitor: what `ceph` has when it asks something.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    session: Session,
    clock: Clock,
    addr: EntityAddr,
    features: Features,
    within: Duration,
    driver: JoinHandle<()>,
}

/// Whom to ask, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record that callers build")]
pub struct ClientConfig {
    /// The monitors; the first that answers is asked.
    pub monitors: Vec<EntityAddrs>,
    /// Whom to authenticate as: `admin` stands for `client.admin`.
    pub id: String,
    /// How long it may take until one of them answers, and each answer of that one.
    pub timeout: Duration,
}

impl Client {
    /// Opens a session with the first monitor that lets us, in their order; a dead one delays by two seconds at most.
    ///
    /// # Errors
    ///
    /// What the last attempt with one of them ended with, after trying again and again for all of the timeout.
    pub async fn connect(config: &ClientConfig) -> Result<Self, Error> {
        if config.monitors.is_empty() {
            return Err(Error::Config("a client needs a monitor to ask"));
        }
        let dial = async |addrs: EntityAddrs| Self::dial(&addrs, &config.id, config.timeout).await;
        let hunted = hunt(&config.monitors, config.timeout, dial).await;
        match hunted.found {
            Some((_, client)) => Ok(client),
            None => Err(hunted
                .failures
                .into_iter()
                .next_back()
                .map_or(Error::NoAnswer { what: "session", after: config.timeout }, |(_, error)| error)),
        }
    }

    async fn dial(addrs: &EntityAddrs, id: &str, within: Duration) -> Result<Self, Error> {
        let addr = diallable(addrs)?;
        let Some(socket) = addr.socket_addr() else { return Err(Error::NotDiallable(addr)) };
        let mut config = DialConfig::client(id, addr.clone(), nonce());
        config.timing = Timing { give_up_after: within, ..config.timing };
        let (connection, driver) = dial(config, socket, DriverLimits::default());
        let mut client = Self {
            connection,
            session: Session::new(SessionConfig::default()),
            clock: Clock::start(),
            addr,
            features: Features::empty(),
            within,
            driver: tokio::spawn(driver),
        };
        let late = |_| Err(Error::NoAnswer { what: "session", after: within });
        timeout(within, client.ready()).await.unwrap_or_else(late)?;
        Ok(client)
    }

    async fn ready(&mut self) -> Result<(), Error> {
        while self.features == Features::empty() {
            match self.connection.recv().await {
                // The link would try again by itself; whoever dials may have a better monitor to try.
                Some(LinkEvent::Lost(error)) => return Err(Error::Link(error)),
                event => self.on_link(event)?,
            }
        }
        Ok(())
    }

    /// The monitor that answers.
    pub fn addr(&self) -> &EntityAddr {
        &self.addr
    }

    /// The features that the monitor and we both have.
    pub fn features(&self) -> Features {
        self.features
    }

    /// The monitor map.
    ///
    /// # Errors
    ///
    /// If the link is lost or nothing comes in time.
    pub async fn map(&mut self) -> Result<MonMap, Error> {
        let tid = self.session.get_map(self.clock.now()).map_err(|_| TOO_MANY)?;
        self.answer("monitor map", |event| match event {
            Event::Map(Some(of), map) if of == tid => Some(map.map.decode()),
            _ => None,
        })
        .await
    }

    /// How new a map is: `osdmap`, `mdsmap`, `fsmap`, `monmap`. Others are never answered.
    ///
    /// # Errors
    ///
    /// If the link is lost or nothing comes in time.
    pub async fn version(&mut self, what: &str) -> Result<GetVersionReply, Error> {
        let tid = self.session.get_version(self.clock.now(), what).map_err(|_| TOO_MANY)?;
        self.answer("version", |event| match event {
            Event::Version(of, reply) if of == tid => Some(reply),
            _ => None,
        })
        .await
    }

    /// Runs a command given as JSON, as in `{"prefix": "quorum_status"}`.
    ///
    /// # Errors
    ///
    /// [`Error::Command`] if the monitor refuses it; if the link is lost or nothing comes in time, it may have run.
    pub async fn command(
        &mut self,
        json: impl Into<Bytes>,
        input: impl Into<Bytes>,
    ) -> Result<CommandAck, Error> {
        let tid = self.session.command(self.clock.now(), json, input).map_err(|_| TOO_MANY)?;
        let ack = self.answer("answer to the command", |event| match event {
            Event::Command(of, ack) if of == tid => Some(ack),
            _ => None,
        });
        let ack = ack.await?;
        if ack.result < 0 {
            return Err(Error::Command { errno: ack.result, status: ack.status_text().into_owned() });
        }
        Ok(ack)
    }

    /// Ends the session in good order.
    pub async fn close(self) {
        // How the link ends does not matter any more.
        let _ = self.connection.close().await;
        let _ = self.driver.await;
    }

    /// Drives the session until `pick` takes an event.
    async fn answer<T>(
        &mut self,
        what: &'static str,
        mut pick: impl FnMut(Event) -> Option<T>,
    ) -> Result<T, Error> {
        loop {
            while let Some(output) = self.session.poll_output() {
                match output {
                    // A link that is closed says so in its last event.
                    SessionOutput::Send(message) => drop(self.connection.send(message).await),
                    SessionOutput::Event(Event::TimedOut(_)) => {
                        return Err(Error::NoAnswer { what, after: self.within });
                    }
                    SessionOutput::Event(Event::Malformed(error)) => return Err(Error::Malformed(error)),
                    SessionOutput::Event(event) => {
                        if let Some(answer) = pick(event) {
                            return Ok(answer);
                        }
                    }
                }
            }
            let wake = self.session.poll_timeout();
            tokio::select! {
                event = self.connection.recv() => self.on_link(event)?,
                () = until(&self.clock, wake) => self.session.handle_timeout(self.clock.now()),
            }
        }
    }

    fn on_link(&mut self, event: Option<LinkEvent>) -> Result<(), Error> {
        let input = match event {
            Some(LinkEvent::Ready(ready)) => {
                self.features = ready.features;
                SessionInput::Connected(ready.features)
            }
            Some(LinkEvent::Message(message)) => SessionInput::Message(message),
            Some(LinkEvent::Lost(_) | LinkEvent::Reset) => SessionInput::Disconnected,
            Some(LinkEvent::Closed(Err(error))) => return Err(Error::Link(error)),
            Some(LinkEvent::Closed(Ok(()))) | None => return Err(Error::LinkClosed),
        };
        self.session.handle(self.clock.now(), input);
        Ok(())
    }
}

/// One question at a time is far below any limit of a session.
const TOO_MANY: Error = Error::Config("too many questions at once");
