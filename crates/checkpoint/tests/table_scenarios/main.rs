//! The acceptance scenarios of the ancestor's own tests, by their number in docs/protocols/checkpoint.md.

#![expect(
    clippy::unwrap_used,
    clippy::std_instead_of_core,
    clippy::needless_for_each,
    reason = "a failure in a test is a panic"
)]

mod bench;
mod cursors;
mod memory;
mod persistence;
mod queueing;
mod replicas;
mod updates;
