#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

extern crate alloc;

mod addr;
mod body;
mod crc;
mod error;
mod features;
mod message;
mod name;
mod reader;
mod socket;
mod time;
mod transaction;
mod uuid;
mod writer;

pub use addr::{AddrKind, EntityAddr, EntityAddrs, EntityInst, ParseAddrError};
pub use body::Body;
pub use crc::crc32c;
pub use error::{DecodeError, DecodeErrorKind};
pub use features::{FeatureSet, Features};
pub use message::{Message, MessageType, Priority};
pub use name::{EntityName, EntityNum, EntityType, ParseNameError};
pub use reader::{Decode, Reader};
pub use socket::SockAddr;
pub use time::WallTime;
pub use transaction::{Op, OpKind, Transaction};
pub use uuid::{ParseUuidError, Uuid};
pub use writer::{Encode, Writer};
