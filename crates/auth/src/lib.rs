#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

extern crate alloc;

mod claim;
mod client;
mod error;
mod message;
mod method;
mod none;
mod server;

pub use claim::{Claim, Form, Hello};
pub use client::{Client, Request};
pub use error::{Error, Refusal};
pub use message::{MAuth, MAuthReply};
pub use method::{AcceptStep, ClientMethod, MethodId, ServerMethod, SessionKey};
pub use none::{NoneClient, NoneServer};
pub use server::{Accepted, Answer, Server};
