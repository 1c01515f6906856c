use std::collections::BTreeMap;

use cuttlebone_mounttable::{Dial, Failure};

use super::MountClient;
use crate::client::Client;
use crate::config::Bearer;

/// Opens mount tables that other tables name, by HTTP at their `host:port`.
///
/// A bearer token goes to the addresses that it was given for, and to no other: whoever may mount somewhere can name any
/// address.
#[derive(Clone, Debug, Default)]
pub struct HttpTables {
    bearers: BTreeMap<String, Bearer>,
}

impl HttpTables {
    /// Shows nothing to anybody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows `bearer` to the table at `address`, written as in the mounts that lead there.
    #[must_use]
    pub fn with_bearer(mut self, address: impl Into<String>, bearer: Bearer) -> Self {
        self.bearers.insert(address.into(), bearer);
        self
    }
}

impl Dial for HttpTables {
    type Table = MountClient;

    fn dial(&self, address: &str) -> Result<MountClient, Failure> {
        let there = address.parse().ok().filter(|_| !address.starts_with(['@', '(']));
        let there =
            there.ok_or_else(|| Failure::Foreign { reason: format!("{address} does not speak HTTP") })?;
        Ok(MountClient::new(Client::new(there, self.bearers.get(address).cloned())))
    }
}
