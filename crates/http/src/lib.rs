#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod client;
mod clock;
mod config;
#[cfg(feature = "__fuzz")]
pub mod fuzz;
mod life;
pub mod message;
pub mod mounts;
mod peer;
mod problem;
mod routes;
mod server;
mod services;
mod session;
mod stream;

pub use client::{Client, ClientError, Connection, Lines};
pub use clock::TokioClock;
pub use config::{BODY_BYTES_MAX, Bearer, Config, HEAD_BYTES_MAX, HEAD_TIMEOUT, HEADERS_MAX, Network};
pub use life::{Ending, Life};
pub use server::{Address, ServeError, Server};
pub use services::Services;
