#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod changes;
mod client;
mod clock;
mod config;
mod face;
#[cfg(feature = "__fuzz")]
pub mod fuzz;
mod guard;
mod keeping;
mod life;
mod list;
pub mod message;
pub mod mounts;
mod peer;
mod problem;
pub mod reload;
mod routes;
mod server;
mod session;
pub mod status;
mod stream;
mod traffic;
pub mod update;

pub use client::{Client, ClientError, Connection, Lines};
pub use clock::TokioClock;
pub use config::{
    BODY_BYTES_MAX, Bearer, Config, HEAD_BYTES_MAX, HEAD_TIMEOUT, HEADERS_MAX, Network, STALL_TIMEOUT,
};
pub use face::Face;
pub use life::{Ending, Life};
pub use server::{Address, ServeError, Server};
