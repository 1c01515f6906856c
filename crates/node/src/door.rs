use cuttlebone_driver::{Connection, DriverLimits, Listener};
use cuttlebone_link::{AcceptConfig, Event};
use cuttlebone_wire::EntityAddrs;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::part::{Callers, Guest};

/// Guests that wait for their sink.
pub(crate) const GUESTS_MAX: usize = 16;

/// Who serves whom at one listener.
pub(crate) type Hosts = Vec<(Callers, mpsc::Sender<Guest>)>;

/// Accepts links and hands each to the sink that serves such callers, as long as it `is_open`. Ends when the listener
/// fails.
///
/// # Cancel safety
///
/// Dropped, it accepts nothing more; links that sinks have go on as long as they hold them and `driver` is driven.
pub(crate) async fn receive(
    listener: Listener,
    addrs: EntityAddrs,
    limits: DriverLimits,
    hosts: Hosts,
    is_open: impl Fn() -> bool + Clone + Send + 'static,
) {
    let (mut peers, driver) = listener.serve(AcceptConfig::monitor(addrs), limits);
    let mut tasks = JoinSet::new();
    tasks.spawn(driver);
    loop {
        tokio::select! {
            accepted = peers.accept() => match accepted {
                Some(connection) => drop(tasks.spawn(usher(connection, hosts.clone(), is_open.clone()))),
                None => return,
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Waits until it is known who it is. Dropping a connection closes it: nobody here serves such callers, or nobody any more.
async fn usher(mut connection: Connection, hosts: Hosts, is_open: impl Fn() -> bool) {
    let Some(Event::Ready(ready)) = connection.recv().await else { return };
    if !is_open() {
        return;
    }
    let best = hosts.iter().max_by_key(|(callers, _)| callers.fit(&ready));
    if let Some((callers, sink)) = best
        && callers.fit(&ready) > 0
    {
        // A sink that has ended lets its guests go.
        let _ = sink.send(Guest::new(ready, connection)).await;
    }
}
