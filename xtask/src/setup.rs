//! What the suites need and the workspace does not build itself.

use anyhow::{Result, bail};

use crate::run;

/// A program of a Debian package, and the suite that cannot pass without it.
struct Tool {
    program: &'static str,
    package: &'static str,
    suite: &'static str,
}

/// The real peers. Versions are those of Debian 12: Ceph 16.2.15.
const TOOLS: &[Tool] = &[
    Tool { program: "ceph-mon", package: "ceph-mon", suite: "interop" },
    Tool { program: "ceph", package: "ceph-common", suite: "interop" },
    Tool { program: "ceph-conf", package: "ceph-common", suite: "interop" },
    Tool { program: "monmaptool", package: "ceph-base", suite: "interop" },
    Tool { program: "ceph-kvstore-tool", package: "ceph-base", suite: "interop" },
    Tool { program: "ceph-monstore-tool", package: "ceph-mon", suite: "interop" },
    Tool { program: "ceph-mds", package: "ceph-mds", suite: "interop" },
    Tool { program: "ceph-osd", package: "ceph-osd", suite: "interop" },
    Tool { program: "etcd", package: "etcd-server", suite: "interop" },
    Tool { program: "etcdctl", package: "etcd-client", suite: "interop" },
    Tool { program: "chromium", package: "chromium", suite: "interop" },
    // At build time, by the client of etcd alone.
    Tool { program: "protoc", package: "protobuf-compiler", suite: "interop" },
    Tool { program: "setpriv", package: "util-linux", suite: "interop" },
];

/// The packages that are not installed, each with the suite that needs it.
fn missing() -> Vec<&'static Tool> {
    TOOLS.iter().filter(|tool| !on_path(tool.program)).collect()
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin".into(), "/sbin".into()];
    std::env::split_paths(&path).chain(sbin).any(|folder| folder.join(program).is_file())
}

/// Installs everything, or says what to install by hand.
pub(crate) fn install(all: bool) -> Result<()> {
    if let Err(advice) = peers() {
        bail!(advice);
    }
    nextest()?;
    if all {
        deny()?;
        if !on_path("systemd-analyze") && run::is_root() && on_path("apt-get") {
            apt(&["systemd"])?;
        }
        if !run::answers("cargo", &["fuzz", "--version"]) {
            run::step(&mut run::cargo(["install", "cargo-fuzz", "--locked", "--debug"]))?;
        }
    }
    Ok(())
}

/// Installs the real peers where that is possible.
///
/// # Errors
///
/// Text that says what to install, and which suites fail until then.
pub(crate) fn peers() -> Result<(), String> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    if run::is_root() && on_path("apt-get") {
        if let Err(error) = apt(&packages) {
            return Err(format!("{error:#}\n{}", advice(&packages, &missing)));
        }
        return Ok(());
    }
    Err(advice(&packages, &missing))
}

/// Installs what Ceph's own client library needs to be built against, for the benchmark that compares with it. Without it
/// that benchmark has nobody to compare with and says so.
pub(crate) fn rival() {
    if std::path::Path::new("/usr/include/cephfs/libcephfs.h").exists()
        || !run::is_root()
        || !on_path("apt-get")
    {
        return;
    }
    if let Err(error) = apt(&["gcc", "libc6-dev", "libcephfs-dev"]) {
        eprintln!("{error:#}");
    }
}

/// Installs packages of the distribution.
fn apt(packages: &[&str]) -> Result<()> {
    let mut update = run::command("apt-get", ["update", "-qq"]);
    let mut install = run::command("apt-get", ["install", "-y", "-qq", "--no-install-recommends"]);
    install.args(packages).env("DEBIAN_FRONTEND", "noninteractive");
    run::step(&mut update).and_then(|()| run::step(&mut install))
}

fn advice(packages: &[&str], missing: &[&Tool]) -> String {
    let mut suites: Vec<_> = missing.iter().map(|tool| tool.suite).collect();
    suites.sort_unstable();
    suites.dedup();
    let programs: Vec<_> = missing.iter().map(|tool| tool.program).collect();
    format!(
        "not found: {}\ninstall the Debian packages with\n    sudo apt-get install --no-install-recommends {}\nuntil then these suites fail: {}",
        programs.join(" "),
        packages.join(" "),
        suites.join(" ")
    )
}

/// The test runner.
pub(crate) fn nextest() -> Result<()> {
    if run::answers("cargo", &["nextest", "--version"]) {
        return Ok(());
    }
    run::step(&mut run::cargo(["install", "cargo-nextest", "--locked", "--debug"]))
}

/// The checker of licences and sources.
pub(crate) fn deny() -> Result<()> {
    if run::answers("cargo", &["deny", "--version"]) {
        return Ok(());
    }
    run::step(&mut run::cargo(["install", "cargo-deny", "--locked", "--debug", "--version", "0.20.2"]))
}
