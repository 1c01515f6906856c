//! The second dialect: cookies and chunks, spoken by 0.67 and everything since.

mod config;
pub(crate) mod message;
mod pace;
mod provider;
mod requester;
mod scan;

pub(crate) use scan::put;

pub use config::{PaceConfig, ProviderConfig, RequesterConfig, WINDOW_MAX};
pub use message::{Asked, ChunkAsked, Cookie, CookieAsked, Message, Op, Position, Reply, Request};
pub use provider::{Dropped, PeerId, Provider, ProviderInput, ProviderOutput};
pub use requester::{Progress, Requester, RequesterInput, RequesterOutput, Summary};
