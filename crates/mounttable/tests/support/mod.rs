//! A table with a clock that the test moves, and calls that read like the scenarios.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each suite uses a part of it")]

use core::time::Duration;

use cuttlebone_machine::Instant;
use cuttlebone_mounttable::{
    Counters, Error, Found, Glob, Limits, Mount, Mounted, Name, Pattern, Permissions, Principal, Resolved,
    Server, Subtree, Table, Ttl, Which,
};

pub struct Bench {
    pub table: Table,
    pub now: Instant,
    pub who: Principal,
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn server(text: &str) -> Server {
    Server::parse(text).unwrap()
}

pub fn ttl(secs: u64) -> Ttl {
    Ttl::new(Duration::from_secs(secs)).unwrap_or(Ttl::FOREVER)
}

pub fn who(text: &str) -> Principal {
    Principal::new(text)
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Table::new(Limits::private(), who("service")))
    }

    pub fn with(table: Table) -> Self {
        Self { table, now: Instant::ZERO, who: who("service") }
    }

    pub fn configured(config: &[(&str, Permissions)]) -> Self {
        let config = config.iter().map(|(key, permissions)| ((*key).into(), permissions.clone())).collect();
        Self::with(Table::with_permissions(Limits::default(), &who("service"), &config).unwrap())
    }

    /// Everything from now on is asked by `text`.
    pub fn by(&mut self, text: &str) -> &mut Self {
        self.who = who(text);
        self
    }

    pub fn pass(&mut self, secs: u64) {
        self.now = self.now + Duration::from_secs(secs);
    }

    pub fn put(&mut self, mount: &Mount) -> Result<Mounted, Error> {
        let result = self.table.mount(self.now, &self.who, mount);
        self.table.recount().unwrap();
        result
    }

    pub fn mount(&mut self, at: &str, what: &str, secs: u64) -> Result<Mounted, Error> {
        self.put(&Mount::new(name(at), server(what), ttl(secs)))
    }

    pub fn unmount(&mut self, at: &str, what: &str) -> Result<(), Error> {
        let which = if what.is_empty() {
            Which::All
        } else {
            Which::One { server: server(what), epoch: cuttlebone_mounttable::Epoch(0) }
        };
        let result = self.table.unmount(self.now, &self.who, &name(at), &which);
        self.table.recount().unwrap();
        result
    }

    pub fn delete(&mut self, at: &str, subtree: Subtree) -> Result<(), Error> {
        let result = self.table.delete(self.now, &self.who, &name(at), subtree);
        self.table.recount().unwrap();
        result
    }

    pub fn resolve(&mut self, at: &str) -> Result<Resolved, Error> {
        self.table.resolve(self.now, &self.who, &name(at))
    }

    /// The servers of a name, or none.
    pub fn servers(&mut self, at: &str) -> Vec<String> {
        let resolved = self.resolve(at).map(|resolved| resolved.servers).unwrap_or_default();
        resolved.iter().map(|live| live.server.to_string()).collect()
    }

    pub fn found(&mut self, base: &str, pattern: &str) -> Result<Vec<Found>, Error> {
        let mut glob = Glob::new(self.who.clone(), name(base), Pattern::parse(pattern).unwrap());
        let mut all = Vec::new();
        while !glob.is_done() {
            all.extend(self.table.glob(self.now, &mut glob)?);
        }
        Ok(all)
    }

    /// The names that a glob finds, sorted, with spaces between them and `.` for the root.
    pub fn glob(&mut self, base: &str, pattern: &str) -> String {
        let found = self.found(base, pattern).unwrap_or_default();
        let mut names: Vec<String> = found
            .iter()
            .map(|found| if found.name.is_root() { ".".into() } else { found.name.to_string() })
            .collect();
        names.sort();
        names.join(" ")
    }

    pub fn allow(&mut self, at: &str, permissions: &Permissions) -> Result<(), Error> {
        let result = self.table.set_permissions(self.now, &self.who, &name(at), permissions, None);
        self.table.recount().unwrap();
        result
    }

    /// Nodes and servers.
    pub fn count(&mut self) -> (usize, usize) {
        let Counters { nodes, servers, .. } = self.table.counters(self.now);
        (nodes, servers)
    }
}
