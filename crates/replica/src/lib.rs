#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod consumer;
mod error;
mod frame;
mod limits;
mod producer;
mod record;

pub use consumer::{Consumer, Following};
pub use error::{Error, Malformed};
pub use frame::{Frame, KIND};
pub use limits::Limits;
pub use producer::Producer;
