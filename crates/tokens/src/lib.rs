#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "std")]
mod cell;
#[cfg(feature = "std")]
mod clock;
mod config;
#[cfg(feature = "std")]
mod control;
#[cfg(feature = "std")]
mod epochs;
mod error;
#[cfg(feature = "std")]
mod events;
mod fence;
#[cfg(feature = "std")]
mod file;
#[cfg(feature = "std")]
mod gate;
mod ids;
pub mod name;
#[cfg(feature = "std")]
mod register;
#[cfg(feature = "std")]
mod registration;
#[cfg(feature = "std")]
mod registry;
mod slab;
#[cfg(feature = "std")]
mod sync;
#[cfg(feature = "std")]
mod token;

#[cfg(feature = "std")]
pub use cell::Watchdog;
#[cfg(feature = "std")]
pub use clock::{Clock, Sleep};
pub use config::{DrainPolicy, HOLDERS_REPORTED_MAX, Limits, NAME_BYTES_MAX, Rules, Takeover};
#[cfg(feature = "std")]
pub use control::Control;
#[cfg(feature = "std")]
pub use epochs::{EpochStore, MemoryEpochs, Reserving};
pub use error::{AcquireError, Capacity, DrainReport, EpochStoreError, Holder, RegisterError};
#[cfg(feature = "std")]
pub use events::{EVENTS_MAX, Events, Heard};
pub use fence::{Fence, FenceError};
#[cfg(feature = "std")]
pub use file::{FileEpochs, parse_epoch_record};
#[cfg(feature = "std")]
pub use gate::{ADMISSIONS_MAX, Admission, AdmitError, Advance, FenceGate};
pub use ids::{Class, Epoch, OwnerId, Seq};
pub use name::{EventKind, NameState, View};
#[cfg(feature = "std")]
pub use register::Register;
#[cfg(feature = "std")]
pub use registration::{Registration, Watching, Worker};
#[cfg(feature = "std")]
pub use registry::{Config, Registry};
#[cfg(feature = "std")]
pub use token::{Acquire, Token};

/// Keeps the waker that is there if it wakes the same task. One that is replaced is returned: dropping it may drop a
/// task and with it a token, so the caller does that when no lock is held.
#[cfg(feature = "std")]
fn set_waker(
    waker: &mut Option<core::task::Waker>,
    cx: &core::task::Context<'_>,
) -> Option<core::task::Waker> {
    if waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        return None;
    }
    waker.replace(cx.waker().clone())
}
