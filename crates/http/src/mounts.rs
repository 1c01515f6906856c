//! The HTTP face of a mount table, and its typed client.

mod client;
mod dial;
pub mod message;
mod principals;
mod refusal;
mod routes;
mod streams;

pub use client::{Globbed, MountClient, Watching};
pub use dial::HttpTables;
pub use principals::{PRINCIPALS_MAX, Principals, PrincipalsError};

pub(crate) use routes::router;

use cuttlebone_mounttable::{Found, Name, Pattern, SharedTable};
use futures::{FutureExt, StreamExt, stream};

use crate::config::Config;
use crate::message::millis;
use crate::status::{MountStatus, ROWS_MAX, Rows};

/// Entries of one batch.
pub const BATCH_ENTRIES_MAX: usize = 64;
/// Bytes of the body of a batch: as many of the longest names and servers, written with escapes.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Bytes of the body that sets permissions.
pub const PERMISSIONS_BYTES_MAX: usize = 64 * 1024;

/// A mount table as a listener serves it.
#[derive(Clone, Debug)]
pub struct Mounts {
    table: SharedTable,
    principals: Principals,
}

impl Mounts {
    /// Serves `table` to `principals`.
    pub const fn new(table: SharedTable, principals: Principals) -> Self {
        Self { table, principals }
    }

    /// What the status page shows: the first entries, and how many there are. The entries only to the owner, since names
    /// can be hidden from others.
    pub(crate) fn rows(&self, config: &Config) -> Rows<MountStatus> {
        let total = self.table.counters().servers as u64;
        let mut rows = Vec::new();
        if let Some(owner) = self.principals.onlooker(config.bearer.as_ref()) {
            let everything = self.table.glob(owner, Name::root(), Pattern::everything());
            let entries = everything
                .filter_map(async |found| found.ok())
                .flat_map(|found| stream::iter(entries(&found)));
            // The table answers at once, or later if it has much to look through: then this is all there is to show.
            rows = entries.take(ROWS_MAX).collect().now_or_never().unwrap_or_default();
        }
        Rows { total, rows }
    }

    /// Takes out servers when they expire, so that watchers hear of it; never ends.
    pub(crate) async fn collect(&self) {
        self.table.collect(|at| tokio::time::sleep(at.since(self.table.now()))).await;
    }
}

fn entries(found: &Found) -> Vec<MountStatus> {
    let entry = |live: &cuttlebone_mounttable::Live| MountStatus {
        name: found.name.to_string(),
        server: live.server.to_string(),
        age_ms: live.age.map(millis),
        expires_in_ms: live.left.map(millis),
    };
    found.servers.iter().map(entry).collect()
}
