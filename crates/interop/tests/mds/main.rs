//! A file system's client against real metadata servers, beside Ceph's own client on the same tree.
//!
//! Every test ends with both clients unmounted and `ceph health detail` clean.

mod caps;
mod clients;
mod cluster;
mod durable;
mod failover;
mod late;
mod locks;
mod model;
mod numbers;
mod op;
mod open;
mod operations;
mod random;
mod sessions;
mod snapshots;
mod trust;
mod world;
