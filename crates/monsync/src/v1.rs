//! The first dialect: leader, provider and requester, spoken by 0.59 to 0.66.

pub(crate) mod message;

pub use message::{Flags, Message, Op, Role};
