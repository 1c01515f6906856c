//! What has to pass before a change lands.

use anyhow::Result;

use crate::{dist, docs, layers, run, setup, suites, tidy};

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
    dist::build(&dist::Arguments::usual())?;
    suites::run(&suites::Arguments::of("all"))
}

/// The oldest toolchain that builds us; the same as `rust-version` in the workspace's manifest.
const MSRV: &str = "+1.90";

/// Checks all crates with the oldest toolchain, but for what needs `protoc`: the etcd clients, and the features of
/// that name of the node and the command.
pub(crate) fn msrv() -> Result<()> {
    let all = [
        "--workspace",
        "--exclude",
        "cuttlebone-mounttable-etcd",
        "--exclude",
        "cuttlebone-tokens-etcd",
        "--exclude",
        "cuttlebone-node",
        "--exclude",
        "cuttlebone-cli",
    ];
    check_msrv(&[&all[..], &["--all-features"]].concat())?;
    check_msrv(&["--package", "cuttlebone-node", "--package", "cuttlebone-cli"])
}

fn check_msrv(what: &[&str]) -> Result<()> {
    // Through rustup's own `cargo`, since the one that runs us is of one toolchain.
    let arguments = [&[MSRV, "check", "--locked"], what].concat();
    run::step(run::command("cargo", arguments).env_remove("RUSTUP_TOOLCHAIN"))
}
