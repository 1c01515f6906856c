//! What has to pass before a change lands.

use anyhow::Result;

use crate::{docs, layers, run, setup, suites, tidy};

/// Runs every gate in the order in which it is likely to fail.
pub(crate) fn run(fast: bool) -> Result<()> {
    setup::nextest()?;
    tidy::check()?;
    layers::check()?;
    docs::build()?;
    if fast {
        return suites::run(&suites::Arguments::of("unit"));
    }
    setup::deny()?;
    // The advisory database is a git repository that not every machine reaches; the other checks run everywhere.
    run::step(&mut run::cargo(["deny", "--all-features", "check", "bans", "licenses", "sources"]))?;
    run::step(&mut run::cargo(["build", "--release"]))?;
    suites::run(&suites::Arguments::of("all"))
}
