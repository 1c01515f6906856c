use core::time::Duration;

use cuttlebone_driver::{Connection, DriverLimits, dial, nonce};
use cuttlebone_link::{DialConfig, Event, Timing};
use cuttlebone_mon::{Body, GetMap, Map, MonMap};
use cuttlebone_wire::{EntityAddr, EntityAddrs, Features, Message};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Error;

/// What we call ourselves among monitors. With AUTH_NONE nobody checks it; it shows up in their logs.
const NAME: &str = "cuttlebone";

/// An open link to a monitor, as one monitor to another: what a synchronisation needs.
///
/// Dropping it ends the link.
#[derive(Debug)]
pub(crate) struct Monitor {
    pub(crate) connection: Connection,
    pub(crate) features: Features,
    pub(crate) addr: EntityAddr,
    pub(crate) map: MonMap,
    driver: JoinHandle<()>,
}

impl Monitor {
    /// Dials once, authenticates, and asks for the monitor map; all of it within `within`.
    ///
    /// Once it is open, the link comes back by itself if it is away for no longer than that.
    pub(crate) async fn dial(addrs: &EntityAddrs, within: Duration) -> Result<Self, Error> {
        let addr = diallable(addrs)?;
        let mut config = DialConfig::monitor(NAME, addr.clone(), nonce());
        config.timing = Timing { give_up_after: within, ..config.timing };
        let Some(socket) = addr.socket_addr() else { return Err(Error::NotDiallable(addr)) };
        let (mut connection, driver) = dial(config, socket, DriverLimits::default());
        let driver = tokio::spawn(driver);
        let late = |_| Err(Error::NoAnswer { what: "monitor map", after: within });
        let (features, map) = timeout(within, greet(&mut connection)).await.unwrap_or_else(late)?;
        Ok(Self { connection, features, addr, map, driver })
    }

    /// The monitor's name, if its own map has it at the address that was dialled.
    pub(crate) fn name(&self) -> Option<&str> {
        let here = |addrs: &EntityAddrs| addrs.0.contains(&self.addr);
        self.map.mons.iter().find(|(_, info)| here(&info.addrs)).map(|(name, _)| name.as_str())
    }

    /// Who it is, for people: name and address.
    pub(crate) fn title(&self) -> String {
        match self.name() {
            Some(name) => format!("mon.{name} {}", self.addr),
            None => self.addr.to_string(),
        }
    }

    /// Ends the link in good order. How that goes does not matter any more.
    pub(crate) async fn close(self) {
        let _ = self.connection.close().await;
        let _ = self.driver.await;
    }
}

/// The address that can be dialled with messenger v2.
pub(crate) fn diallable(addrs: &EntityAddrs) -> Result<EntityAddr, Error> {
    let addr = addrs.msgr2().filter(|addr| addr.socket_addr().is_some());
    addr.cloned().ok_or_else(|| Error::NotDiallable(addrs.legacy_or_first()))
}

/// Waits for the session and for the answer to the first question.
async fn greet(connection: &mut Connection) -> Result<(Features, MonMap), Error> {
    let mut features = Features::empty();
    loop {
        match next(connection).await? {
            Event::Ready(ready) => {
                features = ready.features;
                // A link that is closed says so in its last event.
                let _ = connection.send(GetMap::default().message(features, 0)).await;
            }
            Event::Message(message) if message.kind == Map::KIND => {
                let (map, _) = Map::decode(&message)?;
                return Ok((features, map.map.decode()));
            }
            // The link would try again by itself; whoever dials may have a better monitor to try.
            Event::Lost(error) => return Err(Error::Link(error)),
            Event::Message(Message { .. }) | Event::Reset | Event::Closed(_) => {}
        }
    }
}

/// The next event that is not the end.
async fn next(connection: &mut Connection) -> Result<Event, Error> {
    match connection.recv().await {
        Some(Event::Closed(Err(error))) => Err(Error::Link(error)),
        Some(Event::Closed(Ok(()))) | None => Err(Error::LinkClosed),
        Some(event) => Ok(event),
    }
}
