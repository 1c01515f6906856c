#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]

extern crate alloc;

mod banner;
mod control;
mod error;
mod frame;
mod handshake;
mod header;
mod limits;
mod registry;
mod session;

pub use banner::{BANNER_BYTES, Banner};
pub use control::{
    AuthFrame, AuthMethod, ClientIdent, Control, Hello, Identity, Mode, Opening, OpeningReply, Reconnect,
    ServerIdent,
};
pub use error::{Error, Part};
pub use frame::{Frame, FrameDecoder, Preamble, Tag, encode_control, encode_frame};
pub use handshake::{Handshake, HandshakeEvent, Signatures, Stage};
pub use header::MessageHeader;
pub use limits::Limits;
pub use registry::{Decision, Entry, Registry, SessionKey};
pub use session::{Policy, Progress, Received, Session, Start};
