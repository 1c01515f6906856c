#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod bucket;
mod document;
pub mod engine;
mod error;
mod fetcher;
mod flusher;
#[cfg(feature = "__fuzz")]
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod keys;
mod limits;
mod modify;
mod operations;
mod persisted;
mod record;
mod replica;
mod runner;
mod stream;
mod sync;
mod table;
mod update;
mod vbucket;
mod warmup;

pub use bucket::{Bucket, LogStatus, Now, VbucketId, VbucketStatus};
pub use error::{Error, OpenError};
pub use flusher::Flushed;
pub use history::{Branch, Decision, History, Position};
pub use limits::BucketLimits;
pub use modify::Count;
pub use operations::{Found, Mode, Stored};
pub use persisted::{Goal, Persisted};
pub use runner::{FlusherState, Runner, RunnerConfig, RunnerStatus, Stopped};
pub use stream::{Event, ReplicationStream};
pub use update::UpdateStats;
pub use vbucket::VbucketState;
