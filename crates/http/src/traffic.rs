use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

/// How many connections came, were turned away, and are gone.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    accepted: AtomicU64,
    turned_away: AtomicU64,
    ended: AtomicU64,
}

impl Traffic {
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(crate) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    pub(crate) fn open(&self) -> u64 {
        self.accepted().saturating_sub(self.ended.load(Ordering::Relaxed))
    }
}

/// A place among the connections; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    traffic: Arc<Traffic>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    pub(crate) fn new(permit: OwnedSemaphorePermit, traffic: Arc<Traffic>) -> Self {
        traffic.accepted.fetch_add(1, Ordering::Relaxed);
        Self { traffic, _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.traffic.ended.fetch_add(1, Ordering::Relaxed);
    }
}
