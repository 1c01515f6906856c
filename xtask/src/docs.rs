//! The documentation of all crates.

use anyhow::Result;

use crate::run;

/// Builds it with warnings denied: a missing sentence or a broken link fails.
pub(crate) fn build() -> Result<()> {
    let mut command = run::cargo(["doc", "--workspace", "--no-deps", "--all-features", "--quiet"]);
    run::step(command.env("RUSTDOCFLAGS", "-D warnings"))
}
