//! Fuzz targets: one entry point for every decoder and every machine.
//!
//! An entry point takes any bytes and panics when a promise is broken: a decoder that panics, an encoding that does
//! not come back, a machine that leaves its states. `cargo xtask fuzz <target> --for 60s` drives one under libFuzzer
//! (nightly); the test suite replays `corpus/<target>/` through the same functions on stable.

mod auth;
mod bucket;
mod cli;
mod http;
mod link;
mod mds;
mod mds_client;
mod mon;
mod monsync;
mod mounttable;
mod msgr;
mod replica;
mod store;
mod tokens;
mod wire;

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a row of the table below, read by two callers in this workspace"
)]
pub struct Target {
    /// What `cargo xtask fuzz` calls it, and the folder of its corpus.
    pub name: &'static str,
    /// Runs one input.
    pub run: fn(&[u8]),
}

/// Every target, in the order of their names.
pub const TARGETS: &[Target] = &[
    Target { name: "auth_payload", run: auth::payload },
    Target { name: "bucket_document", run: bucket::document },
    Target { name: "bucket_row", run: bucket::row },
    Target { name: "bucket_segment", run: bucket::segment },
    Target { name: "cli_conf", run: cli::conf },
    Target { name: "cli_mon_host", run: cli::mon_host },
    Target { name: "cli_reencode", run: cli::reencode },
    Target { name: "http_mounts", run: http::mounts },
    Target { name: "link_client", run: link::client },
    Target { name: "link_server", run: link::server },
    Target { name: "mds_client", run: mds_client::client },
    Target { name: "mds_map", run: mds::map },
    Target { name: "mds_message", run: mds::message },
    Target { name: "mds_reply", run: mds::reply },
    Target { name: "mds_structure", run: mds::structure },
    Target { name: "mon_map", run: mon::map },
    Target { name: "mon_message", run: mon::message },
    Target { name: "mon_session", run: mon::session },
    Target { name: "monsync_message", run: monsync::message },
    Target { name: "monsync_v1_leader", run: monsync::v1_leader },
    Target { name: "monsync_v1_provider", run: monsync::v1_provider },
    Target { name: "monsync_v1_requester", run: monsync::v1_requester },
    Target { name: "monsync_v2_provider", run: monsync::v2_provider },
    Target { name: "monsync_v2_requester", run: monsync::v2_requester },
    Target { name: "mounttable_glob", run: mounttable::glob },
    Target { name: "mounttable_name", run: mounttable::name },
    Target { name: "mounttable_table", run: mounttable::table },
    Target { name: "msgr_control", run: msgr::control },
    Target { name: "msgr_frames", run: msgr::frames },
    Target { name: "replica_consumer", run: replica::consumer },
    Target { name: "replica_frame", run: replica::frame },
    Target { name: "store_block", run: store::block },
    Target { name: "store_directory", run: store::directory },
    Target { name: "tokens_epochs", run: tokens::epochs },
    Target { name: "tokens_fence", run: tokens::fence },
    Target { name: "tokens_name", run: tokens::name },
    Target { name: "wire_addr", run: wire::addr },
    Target { name: "wire_name", run: wire::name },
    Target { name: "wire_transaction", run: wire::transaction },
];

/// The target called `name`.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}
