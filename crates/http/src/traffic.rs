use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

/// How many connections came, were turned away, and are gone; and how many each client has.
#[derive(Debug)]
pub(crate) struct Traffic {
    accepted: AtomicU64,
    turned_away: AtomicU64,
    ended: AtomicU64,
    per_client_max: u32,
    /// As large as there are connections, at most.
    clients: Mutex<BTreeMap<IpAddr, u32>>,
}

impl Traffic {
    pub(crate) fn new(per_client_max: u32) -> Self {
        let (accepted, turned_away, ended) = Default::default();
        Self { accepted, turned_away, ended, per_client_max, clients: Mutex::default() }
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(crate) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    pub(crate) fn open(&self) -> u64 {
        self.accepted().saturating_sub(self.ended.load(Ordering::Relaxed))
    }

    fn clients(&self) -> MutexGuard<'_, BTreeMap<IpAddr, u32>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the connections; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    traffic: Arc<Traffic>,
    client: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// `None` if `client` has as many as it may have. Without a client nobody is counted.
    pub(crate) fn take(
        permit: OwnedSemaphorePermit,
        traffic: &Arc<Traffic>,
        client: Option<IpAddr>,
    ) -> Option<Self> {
        let client = client.map(network);
        if let Some(client) = client {
            let mut clients = traffic.clients();
            let count = clients.entry(client).or_default();
            if *count >= traffic.per_client_max {
                traffic.turned_away.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            *count += 1;
        }
        traffic.accepted.fetch_add(1, Ordering::Relaxed);
        Some(Self { traffic: Arc::clone(traffic), client, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.traffic.ended.fetch_add(1, Ordering::Relaxed);
        let Some(client) = self.client else { return };
        let mut clients = self.traffic.clients();
        if let Some(count) = clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&client);
            }
        }
    }
}

/// One client has one IPv4 address, but as many IPv6 addresses as it likes in one network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}
