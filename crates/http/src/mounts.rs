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

use cuttlebone_mounttable::SharedTable;

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

    /// Takes out servers when they expire, so that watchers hear of it; never ends.
    pub(crate) async fn collect(&self) {
        self.table.collect(|at| tokio::time::sleep(at.since(self.table.now()))).await;
    }
}
